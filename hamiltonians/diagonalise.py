"""Exact diagonalisation of a compiled Hamiltonian, in its sector."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from hamiltonians.facts import row_tables
from hamiltonians.tables import Block, TermHamiltonian
from vmc.errors import JobError

#: Default limit of the memory that a matrix may take.
MEMORY_LIMIT = 4 * 2**30

#: Up to this dimension all levels are computed.
_DENSE = 512
#: Matrix elements computed at once.
_CHUNK = 2**21
#: Relative residuals of Lanczos vectors: of results, and of the search for copies.
_TIGHT, _LOOSE = 1e-12, 1e-5
#: Levels closer than this times the largest element are one level.
_DEGENERATE = 1e-9


class Levels(NamedTuple):
    """Lowest levels of a Hamiltonian.

    Attributes:
        energies: (n,), ascending.
        vectors: (dim, n), normalised, in the order of ``space.all_states()``.
    """

    energies: np.ndarray
    vectors: np.ndarray

    @property
    def degeneracy(self) -> int:
        """Multiplicity of the ground level (all of its copies are listed)."""
        width = _DEGENERATE * max(1.0, float(np.abs(self.energies).max()))
        return int(np.sum(self.energies - self.energies[0] <= width))


def estimate_bytes(ham: TermHamiltonian) -> int:
    """Upper bound of the memory of the sparse matrix and of its diagonalisation."""
    n_states = ham.space.n_states
    entry = 8 if ham.is_real else 16
    index = 4 if n_states * (ham.moves.n_moves + 1) < 2**31 else 8
    matrix = n_states * (ham.moves.n_moves + 1) * (entry + index)
    listing = n_states * (ham.space.n_sites + 8)
    lanczos = 24 * n_states * entry
    return 2 * matrix + listing + lanczos


def to_sparse(
    ham: TermHamiltonian, *, memory_limit: int = MEMORY_LIMIT
) -> scipy.sparse.csr_matrix:
    """The matrix in the sector, rows and columns as ``space.all_states()``.

    Args:
        ham: the Hamiltonian.
        memory_limit: bytes.

    Returns:
        float64 or complex128 (dim, dim).

    Raises:
        JobError: it would take more than ``memory_limit``.
    """
    needed = estimate_bytes(ham)
    if needed > memory_limit:
        raise JobError(
            f"{ham.space.n_states} states with {ham.moves.n_moves} moves each need "
            f"about {needed / 2**30:.3g} GiB; the limit is "
            f"{memory_limit / 2**30:.3g} GiB. Ask for a smaller sector or raise "
            "memory_limit."
        )
    states = ham.space.all_states()
    strides = _strides(ham)
    codes = _indices(ham, states) @ strides
    step = max(1, _CHUNK // (ham.moves.n_moves + 1))
    counts, columns, values = [np.zeros(1, np.int64)], [], []
    wide = np.int32 if len(states) * (ham.moves.n_moves + 1) < 2**31 else np.int64
    for start in range(0, len(states), step):
        chunk = slice(start, start + step)
        data, target = _rows_of_matrix(ham, states[chunk], codes[chunk], strides)
        kept = data != 0
        counts.append(np.count_nonzero(kept, axis=1))
        values.append(data[kept])
        found = target[kept]
        if len(codes) < math.prod(ham.space.local_dims):
            found = np.searchsorted(codes, found)
        columns.append(found.astype(wide))
    starts = np.cumsum(np.concatenate(counts)).astype(wide)
    shape = (len(states), len(states))
    arrays = (np.concatenate(values), np.concatenate(columns), starts)
    return scipy.sparse.csr_matrix(arrays, shape=shape)


def dense(ham: TermHamiltonian, *, memory_limit: int = MEMORY_LIMIT) -> np.ndarray:
    """The full matrix (dim, dim); see `to_sparse`."""
    _check_full(ham, 1, memory_limit)
    return to_sparse(ham, memory_limit=memory_limit).toarray()


def _check_full(ham: TermHamiltonian, copies: int, memory_limit: int) -> None:
    needed = copies * ham.space.n_states**2 * (8 if ham.is_real else 16)
    if needed > memory_limit:
        raise JobError(
            f"a full matrix of {ham.space.n_states} states needs {needed / 2**30:.3g} "
            f"GiB; the limit is {memory_limit / 2**30:.3g} GiB. Use to_sparse, ask for "
            "fewer levels, or raise memory_limit."
        )


def ground_states(
    ham: TermHamiltonian, k: int = 1, *, memory_limit: int = MEMORY_LIMIT
) -> Levels:
    """The lowest levels, with all copies of degenerate ones.

    Args:
        ham: the Hamiltonian.
        k: levels wanted; a degenerate level is never cut, so that there may be more.
        memory_limit: bytes.

    Returns:
        `Levels`, which unpacks as (energies, vectors).

    Raises:
        JobError: k is not between 1 and the dimension, or memory is short.
    """
    dim = ham.space.n_states
    if not 1 <= k <= dim:
        raise JobError(f"k = {k} levels were asked for; the sector has {dim} states")
    full = dim <= _DENSE or k > dim // 4
    if full:
        _check_full(ham, 3, memory_limit)
    matrix = to_sparse(ham, memory_limit=memory_limit)
    scale = max(1.0, float(abs(matrix).max()) if matrix.nnz else 0.0)
    if full:
        energies, vectors = scipy.linalg.eigh(matrix.toarray())
    else:
        energies, vectors = _lanczos(matrix, k, _DEGENERATE * scale)
    last = energies[k - 1] + _DEGENERATE * scale
    n = int(np.searchsorted(energies, last, side="right"))
    return Levels(energies[:n], vectors[:, :n])


class _Lifted(scipy.sparse.linalg.LinearOperator):
    """A matrix whose known eigenvectors are moved above the middle of the rest."""

    def __init__(
        self,
        matrix: scipy.sparse.csr_matrix,
        energies: np.ndarray,
        vectors: np.ndarray,
    ) -> None:
        dim = len(vectors)
        super().__init__(matrix.dtype, (dim, dim))
        self.matrix, self.vectors = matrix, vectors
        if len(energies):
            rest = matrix.diagonal().real.sum() - energies.sum()
            mean = rest / (dim - len(energies))
            self.lift = 1.2 * mean - 0.2 * energies.min() - energies

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        result = self.matrix @ x
        if self.vectors.shape[1]:
            result = result + self.vectors @ (self.lift * (self.vectors.conj().T @ x))
        return result


def _lanczos(
    matrix: scipy.sparse.csr_matrix, k: int, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """The k lowest levels and every copy of them.

    Lanczos sees one copy of a degenerate level per start vector: the levels found
    are lifted and the rest is searched again, loosely at first, until nothing lies
    at or below the k-th.
    """
    rng = np.random.default_rng(7)
    energies = np.zeros(0)
    vectors = np.zeros((len(matrix.indptr) - 1, 0), matrix.dtype)
    wanted = k
    while True:
        problem = _Lifted(matrix, energies, vectors)
        if len(energies):
            guess, _ = _lowest(problem, 1, _LOOSE, rng)
            error = _LOOSE * abs(float(guess[0]))
            if guess[0] - error > energies[k - 1] + width:
                return energies, vectors
        found, states = _lowest(problem, wanted, _TIGHT, rng)
        if len(energies) and found[0] > energies[k - 1] + width:
            return energies, vectors
        energies = np.concatenate([energies, found])
        order = np.argsort(energies, kind="stable")
        energies = energies[order]
        vectors = np.concatenate([vectors, states], axis=1)[:, order]
        wanted = 1


def _lowest(
    problem: _Lifted, k: int, tolerance: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The k lowest levels of a problem.

    The start must be new every time: an old one has no component along the copies
    that its search did not find.
    """
    options: Any = {"tol": tolerance, "v0": rng.normal(size=problem.shape[0])}
    energies, vectors = scipy.sparse.linalg.eigsh(problem, k=k, which="SA", **options)
    return np.asarray(energies), np.asarray(vectors)


# ---- the matrix, in NumPy --------------------------------------------------


def _strides(ham: TermHamiltonian) -> np.ndarray:
    """Place values of the local indices; site 0 is the slowest."""
    dims = [int(d) for d in ham.space.local_dims]
    return np.array([math.prod(dims[i + 1 :]) for i in range(len(dims))], np.int64)


def _indices(ham: TermHamiltonian, states: np.ndarray) -> np.ndarray:
    """Local indices (d - 1 - sigma) / 2, int64 (n, N)."""
    dims = np.asarray(ham.space.local_dims, np.int64)
    return (dims - 1 - states) // 2


def _rows_of_matrix(
    ham: TermHamiltonian, states: np.ndarray, codes: np.ndarray, strides: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Elements and codes of their columns, (n, K + 1) each; the diagonal is last."""
    index = _indices(ham, states)
    rows = _row_values(ham, states, index)
    n, n_moves = len(states), ham.moves.n_moves
    data = np.zeros((n, n_moves + 1), np.float64 if ham.is_real else np.complex128)
    target = np.empty((n, n_moves + 1), np.int64)
    target[:, -1] = codes
    data[:, -1] = float(np.asarray(ham.offset))
    for block in ham.diagonal_blocks:
        data[:, -1] += _string_sums(block, rows).sum(axis=0)
    start = 0
    for block in ham.blocks:
        stop = start + block.coefs.shape[0]
        data[:, start:stop] = np.asarray(ham.constants)[start:stop]
        data[:, start:stop] += _string_sums(block, rows).T
        start = stop
    dims = np.append(np.asarray(ham.space.local_dims, np.int64), 1)
    padded = np.append(index, np.zeros((n, 1), np.int64), axis=1)
    places = np.append(strides, 0)
    sites, shifts = np.asarray(ham.moves.sites), np.asarray(ham.moves.shift)
    for move in range(n_moves):
        old = padded[:, sites[move]]
        change = (old + shifts[move]) % dims[sites[move]] - old
        target[:, move] = codes + change @ places[sites[move]]
        if ham.masks_sz:
            data[change.sum(axis=1) != 0, move] = 0.0
    return data, target


def _row_values(
    ham: TermHamiltonian, states: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Values of all rows and, last, of the row of ones: (R + 1, n)."""
    if ham.tables is None:
        rows = states.T.astype(np.float64)
    else:
        sites, _ = row_tables(ham)
        local = index[:, np.array(sites, np.int64)].T
        rows = np.take_along_axis(np.asarray(ham.tables.values), local, axis=1)
    return np.concatenate([rows, np.ones((1, len(states)))])


def _string_sums(block: Block, rows: np.ndarray) -> np.ndarray:
    """sum_t coefs * prod rows for every move of a block: (moves, n)."""
    coefs, index = np.asarray(block.coefs), np.asarray(block.rows)
    total = np.zeros((len(coefs), rows.shape[1]), coefs.dtype)
    for t in range(index.shape[1]):
        string = np.ones((len(coefs), rows.shape[1]))
        for z in range(index.shape[2]):
            string *= rows[index[:, t, z]]
        total += coefs[:, t, None] * string
    return total
