"""Exact diagonalisation of a compiled Hamiltonian, in its sector."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from hamiltonians.matrix import CHUNK, Rows, SymmetricRows
from hamiltonians.symmetric import SymmetrySector
from hamiltonians.tables import TermHamiltonian
from vmc.errors import JobError

#: Default limit of the memory that a diagonalisation may take, bytes.
MEMORY_LIMIT = 4 * 2**30

#: Up to this dimension all levels are computed.
_DENSE = 512
#: Vectors that Lanczos holds at least, work space included.
_VECTORS = 24
#: Relative residuals of Lanczos vectors: of results, and of the search for copies.
_TIGHT, _LOOSE = 1e-12, 1e-5
#: Levels closer than this times the largest element are one level.
_DEGENERATE = 1e-9


class Levels(NamedTuple):
    """Lowest levels of a Hamiltonian.

    Attributes:
        energies: (n,), ascending.
        vectors: (n_states, n), normalised, in the order of ``space.all_states()``.
    """

    energies: np.ndarray
    vectors: np.ndarray

    @property
    def degeneracy(self) -> int:
        """Multiplicity of the ground level (all of its copies are listed)."""
        width = _DEGENERATE * max(1.0, float(np.abs(self.energies).max()))
        return int(np.sum(self.energies - self.energies[0] <= width))

    @property
    def gap(self) -> float | None:
        """Distance of the next level from the ground level; None if not listed."""
        n = self.degeneracy
        if n == len(self.energies):
            return None
        return float(self.energies[n] - self.energies[0])


class Plan(NamedTuple):
    """How a diagonalisation will be done.

    Attributes:
        method: "dense" (all levels), "sparse" (Lanczos on a stored matrix) or
            "matrix-free" (Lanczos; elements are computed whenever they are needed).
        dimension: states of the (symmetry) sector; about, with a symmetry.
        n_bytes: upper estimate of the memory.
    """

    method: Literal["dense", "sparse", "matrix-free"]
    dimension: int
    n_bytes: int


def plan(
    ham: TermHamiltonian,
    k: int = 1,
    *,
    symmetry: SymmetrySector | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Plan:
    """Choose a method that fits; nothing large is made.

    Args:
        ham: the Hamiltonian.
        k: levels wanted.
        symmetry: representation to work in, or None.
        memory_limit: bytes.

    Raises:
        JobError: k is impossible, or not even the vectors fit.
    """
    n_states = ham.space.n_states
    if not 1 <= k <= n_states:
        raise JobError(
            f"k = {k} levels were asked for; the sector has {n_states} states"
        )
    dim = n_states if symmetry is None else -(-n_states // len(symmetry.perms))
    is_real = ham.is_real and (symmetry is None or symmetry.is_real)
    entry = 8 if is_real else 16
    listing = (3 if symmetry is None else 6) * 8 * n_states
    width = ham.moves.n_moves + 1
    work = 8 * 8 * CHUNK + listing
    vectors = (_VECTORS + 2 * k) * dim * entry + k * n_states * entry
    index = 4 if dim * width < 2**31 else 8
    stored = 2 * dim * width * (entry + index)
    full = dim <= _DENSE or k > dim // 4
    if full and 3 * dim**2 * entry + listing <= memory_limit:
        return Plan("dense", dim, 3 * dim**2 * entry + stored + listing)
    if k < dim - 1:
        if work + vectors + stored <= memory_limit:
            return Plan("sparse", dim, work + vectors + stored)
        if work + vectors <= memory_limit:
            return Plan("matrix-free", dim, work + vectors)
    raise JobError(
        f"{k} levels of {n_states} states with {width - 1} moves each need about "
        f"{(work + vectors) / 2**30:.3g} GiB for the vectors alone (and "
        f"{stored / 2**30:.3g} GiB for a matrix); the limit is "
        f"{memory_limit / 2**30:.3g} GiB. Ask for a smaller sector, a momentum, fewer "
        "levels, or raise memory_limit."
    )


def estimate_bytes(ham: TermHamiltonian) -> int:
    """Upper bound of the memory of the sparse matrix and of its states."""
    dim, width = ham.space.n_states, ham.moves.n_moves + 1
    index = 4 if dim * width < 2**31 else 8
    return 2 * dim * width * ((8 if ham.is_real else 16) + index) + 24 * dim


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
    return _stored(Rows(ham))


def _stored(rows: Rows) -> scipy.sparse.csr_matrix:
    dim = rows.dim
    wide = np.int32 if dim * rows.width < 2**31 else np.int64
    counts, columns, values = [np.zeros(1, np.int64)], [], []
    for start in range(0, dim, rows.step):
        data, column = rows.rows(start, min(dim, start + rows.step))
        kept = data != 0
        counts.append(np.count_nonzero(kept, axis=1))
        values.append(data[kept])
        columns.append(column[kept].astype(wide))
    starts = np.cumsum(np.concatenate(counts)).astype(wide)
    arrays = (np.concatenate(values), np.concatenate(columns), starts)
    matrix = scipy.sparse.csr_matrix(arrays, shape=(dim, dim))
    if isinstance(rows, SymmetricRows):
        matrix.sum_duplicates()
    return matrix


def dense(ham: TermHamiltonian, *, memory_limit: int = MEMORY_LIMIT) -> np.ndarray:
    """The full matrix (dim, dim); see `to_sparse`."""
    needed = ham.space.n_states**2 * (8 if ham.is_real else 16)
    if needed > memory_limit:
        raise JobError(
            f"a full matrix of {ham.space.n_states} states needs {needed / 2**30:.3g} "
            f"GiB; the limit is {memory_limit / 2**30:.3g} GiB. Use to_sparse, ask for "
            "fewer levels, or raise memory_limit."
        )
    return to_sparse(ham, memory_limit=memory_limit).toarray()


def ground_states(
    ham: TermHamiltonian,
    k: int = 1,
    *,
    symmetry: SymmetrySector | None = None,
    memory_limit: int = MEMORY_LIMIT,
    copies: bool = True,
) -> Levels:
    """The lowest levels, with all copies of degenerate ones.

    Args:
        ham: the Hamiltonian.
        k: levels wanted; a degenerate level is never cut, so that there may be more.
        symmetry: look only among states of this representation, see
            `hamiltonians.symmetric.symmetry_sector`.
        memory_limit: bytes; decides whether the matrix is stored, see `plan`.
        copies: False saves the search for further copies, and so may miss some.

    Returns:
        `Levels`, which unpacks as (energies, vectors).

    Raises:
        JobError: k is not between 1 and the dimension, or memory is short.
    """
    method = plan(ham, k, symmetry=symmetry, memory_limit=memory_limit).method
    rows = Rows(ham) if symmetry is None else SymmetricRows(ham, symmetry)
    if k > rows.dim:
        raise JobError(
            f"k = {k} levels were asked for; the sector has {rows.dim} states"
        )
    if rows.dim <= _DENSE and method != "dense":
        method = "dense"  # the orbits were fewer than estimated
    if method == "matrix-free":
        problem: Any = _Recomputed(rows)
        scale = max(1.0, problem.largest)
    else:
        problem = _stored(rows)
        scale = max(1.0, float(abs(problem).max()) if problem.nnz else 0.0)
    if method == "dense":
        energies, vectors = scipy.linalg.eigh(problem.toarray())
    else:
        energies, vectors = _lanczos(problem, k, _DEGENERATE * scale, copies)
    last = energies[k - 1] + _DEGENERATE * scale
    n = int(np.searchsorted(energies, last, side="right"))
    energies, vectors = energies[:n], vectors[:, :n]
    if isinstance(rows, SymmetricRows):
        vectors = rows.expanded(vectors)
    return Levels(energies, vectors)


class _Recomputed:
    """A matrix whose elements are computed in every product."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.dtype = rows.dtype
        self.shape = (rows.dim, rows.dim)
        self.largest = 0.0
        self._diagonal = np.zeros(rows.dim)
        for start in range(0, rows.dim, rows.step):
            stop = min(rows.dim, start + rows.step)
            data, column = rows.rows(start, stop)
            self.largest = max(self.largest, float(np.abs(data).max()))
            own = column == np.arange(start, stop)[:, None]
            self._diagonal[start:stop] = np.where(own, np.real(data), 0).sum(axis=1)

    def diagonal(self) -> np.ndarray:
        """The diagonal, float (dim,)."""
        return self._diagonal

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        out = np.empty(len(x), np.result_type(self.dtype, x.dtype))
        step, dim = self._rows.step, len(x)
        for start in range(0, dim, step):
            data, column = self._rows.rows(start, min(dim, start + step))
            out[start : start + step] = np.sum(data * x[column], axis=1)
        return out


class _Lifted(scipy.sparse.linalg.LinearOperator):
    """A matrix whose known eigenvectors are moved above the middle of the rest."""

    def __init__(
        self,
        matrix: Any,
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
    matrix: Any, k: int, width: float, copies: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The k lowest levels and every copy of them.

    Lanczos sees one copy of a degenerate level per start vector: the levels found
    are lifted and the rest is searched again, loosely at first, until nothing lies
    at or below the k-th.
    """
    rng = np.random.default_rng(7)
    dim = matrix.shape[0]
    energies = np.zeros(0)
    vectors = np.zeros((dim, 0), matrix.dtype)
    wanted, start = k, rng.normal(size=dim)
    while True:
        found, states = _lowest(
            _Lifted(matrix, energies, vectors), wanted, _TIGHT, start
        )
        if len(energies) and found[0] > energies[k - 1] + width:
            return energies, vectors
        energies = np.concatenate([energies, found])
        order = np.argsort(energies, kind="stable")
        energies = energies[order]
        vectors = np.concatenate([vectors, states], axis=1)[:, order]
        if not copies:
            return energies, vectors
        # A new random start: the old one has no component along the copies that its
        # search did not find.  What it finds is only refined by the next search.
        fresh = rng.normal(size=dim)
        problem = _Lifted(matrix, energies, vectors)
        guess, nearby = _lowest(problem, 1, _LOOSE, fresh)
        if guess[0] - _LOOSE * abs(float(guess[0])) > energies[k - 1] + width:
            return energies, vectors
        wanted, start = 1, nearby[:, 0]


def _lowest(
    problem: _Lifted, k: int, tolerance: float, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k lowest levels of a problem, searched from a vector."""
    options: Any = {"tol": tolerance, "v0": start}
    energies, vectors = scipy.sparse.linalg.eigsh(problem, k=k, which="SA", **options)
    return np.asarray(energies), np.asarray(vectors)
