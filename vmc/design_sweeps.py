"""Ground states of long chains: two-site sweeps of a matrix product state.

The Hamiltonian becomes a matrix product operator, a finite automaton that reads the
sites from the left and remembers which products of operators have begun; two
neighbouring tensors at a time are replaced by the lowest state of the Hamiltonian
projected on them, and split by a truncated singular value decomposition
(arXiv:1008.3477).  Deterministic, on the host, without samples.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vmc.errors import JobError
from vmc.exact_values import _matrix

#: Bond dimension of the first sweep, which doubles until it is what was asked for.
_FIRST = 8
#: Vectors of one Lanczos run at a pair of sites.
_LANCZOS = 8
#: Residual below which a pair of tensors is left as it is.
_CONVERGED = 1e-9
#: Weights below this are not kept.
_NOTHING = 1e-14

#: Products that have begun: sites and operators so far.
_Prefix = tuple[tuple[int, Hashable], ...]


class Swept(NamedTuple):
    """A matrix product state.

    Attributes:
        energy: <H>.
        tensors: one per site, (D_left, d, D_right), D = 1 at the ends.
        discarded: the largest Schmidt weight that the last sweep cut off at a bond.
        change: of the energy in the last sweep, relative.
    """

    energy: float
    tensors: tuple[np.ndarray, ...]
    discarded: float
    change: float


def ground_chain(
    operator: Any,
    dims: Sequence[int],
    *,
    total_sz: float | None = None,
    bond_dimension: int = 32,
    n_sweeps: int = 24,
    tolerance: float = 1e-7,
) -> Swept:
    """The ground state of an operator as a matrix product state in the order of sites.

    Args:
        operator: `hamiltonians.Operator`, Hermitian; products of any length.
        dims: local dimensions.
        total_sz: sum of m_i; other sectors are lifted by a penalty.  None for all.
        bond_dimension: D.
        n_sweeps: most sweeps, each there and back.
        tolerance: relative change of the energy at which they end.

    Raises:
        JobError: there are fewer than two sites.
    """
    if len(dims) < 2:
        raise JobError("sweeps need at least two sites")
    terms, constant = _strings(operator)
    scale = max((abs(c) for c, _ in terms), default=1.0)
    penalty = None if total_sz is None else (2.0 * scale, float(total_sz))
    mpo = _automaton(terms, dims, penalty)
    tensors = _start(dims, np.result_type(*mpo), total_sz)
    bond, energy, change, discarded = _FIRST, math.inf, math.inf, 0.0
    for _ in range(n_sweeps):
        bond = min(bond, bond_dimension)
        before = energy
        energy, discarded = _sweep(tensors, mpo, bond)
        change = abs(before - energy) / max(1.0, abs(energy))
        if bond == bond_dimension and change < tolerance:
            break
        bond = min(2 * bond, bond_dimension)
    return Swept(energy + constant, tuple(tensors), discarded, change)


def _strings(operator: Any) -> tuple[list[tuple[Any, _Prefix]], float]:
    """Terms as (coefficient, (site, letter), ...), and the constant."""
    found, constant = [], 0.0
    for coefficient, letters, where in operator.terms:
        value = complex(coefficient)
        for letter in letters:
            value *= _matrix(letter)[0]
        value = value if abs(value.imag) > 1e-14 else value.real
        if where:
            found.append((value, tuple(sorted(zip(where, letters, strict=True)))))
        else:
            constant += complex(coefficient).real
    return found, constant


def _automaton(
    terms: Sequence[tuple[Any, _Prefix]],
    dims: Sequence[int],
    penalty: tuple[float, float] | None,
) -> list[np.ndarray]:
    """Tensors (w_left, w_right, d, d) whose product is the sum of all terms.

    State 0 has read nothing, state 1 is done, one state holds a single Sz for the
    penalty, the others are prefixes that wait for their next operator.
    """
    n = len(dims)
    waiting: list[dict[Any, int]] = [{"none": 0, "done": 1} for _ in range(n + 1)]
    if penalty is not None:
        for states in waiting:
            states["Sz"] = 2
    for _, string in terms:
        for k in range(1, len(string)):
            for bond in range(string[k - 1][0] + 1, string[k][0] + 1):
                waiting[bond].setdefault(string[:k], len(waiting[bond]))
    is_complex = any(isinstance(c, complex) for c, _ in terms)
    out = []
    for i, d in enumerate(dims):
        left, right = waiting[i], waiting[i + 1]
        w = np.zeros((len(left), len(right), d, d), complex if is_complex else float)
        for state, at in left.items():
            if state in right:
                w[at, right[state]] = np.eye(d)
        if penalty is not None:
            _penalise(w, d, penalty, n)
        out.append(w)
    for coefficient, string in terms:
        for k, (site, letter) in enumerate(string):
            before = string[:k] if k else "none"
            last = k == len(string) - 1
            after = "done" if last else string[: k + 1]
            at = waiting[site][before], waiting[site + 1][after]
            matrix = _matrix(letter)[1]
            if last:
                out[site][at] += coefficient * matrix
            else:
                out[site][at] = matrix
    return out


def _penalise(w: np.ndarray, d: int, penalty: tuple[float, float], n: int) -> None:
    """Add strength (sum_i Sz_i - target)^2 at one site."""
    strength, target = penalty
    sz = np.diag((d - 1) / 2 - np.arange(d))
    shifted = sz - target / n * np.eye(d)
    w[0, 2] = shifted
    w[2, 1] = 2 * strength * shifted
    w[0, 1] += strength * shifted @ shifted


def _start(dims: Sequence[int], dtype: Any, total_sz: float | None) -> list[np.ndarray]:
    """A random state of bond dimension 2; in a sector an alternating product state.

    Updates of two sites carry no charge over a distance: a start with the right total
    has it everywhere on average.
    """
    if total_sz is not None:
        return _alternating(dims, dtype, total_sz)
    rng = np.random.default_rng(0)
    n = len(dims)
    tensors = [
        rng.normal(size=(1 if i == 0 else 2, d, 1 if i == n - 1 else 2)).astype(dtype)
        for i, d in enumerate(dims)
    ]
    for i in range(n - 1, 0, -1):
        a, d, b = tensors[i].shape
        q, r = np.linalg.qr(tensors[i].reshape(a, d * b).T)
        tensors[i] = q.T.reshape(-1, d, b)
        tensors[i - 1] = np.tensordot(tensors[i - 1], r.T, 1)
    tensors[0] /= np.linalg.norm(tensors[0])
    return tensors


def _alternating(dims: Sequence[int], dtype: Any, total_sz: float) -> list[np.ndarray]:
    """A product state whose partial sums of m_i follow the line to the total."""
    tensors, total = [], 0.0
    left = sum(d - 1 for d in dims) / 2
    for i, d in enumerate(dims):
        left -= (d - 1) / 2
        values = (d - 1) / 2 - np.arange(d)
        # What the sites to the right can still make up for.
        able = np.abs(total_sz - total - values) <= left + 1e-9
        aim = total_sz * (i + 1) / len(dims)
        # Far from the line on alternating sides, as spins that point up and down.
        wish = aim - total + (0.25 if i % 2 == 0 else -0.25)
        cost = np.where(able, np.abs(values - wish), np.inf)
        index = int(np.argmin(cost))
        total += float(values[index])
        tensors.append(np.eye(d)[index].reshape(1, d, 1).astype(dtype))
    return tensors


def _sweep(
    tensors: list[np.ndarray], mpo: list[np.ndarray], bond: int
) -> tuple[float, float]:
    """Once to the right and back; the tensors are replaced."""
    n = len(tensors)
    one = np.ones((1, 1, 1), mpo[0].dtype)
    # The automaton begins having read nothing and ends done.
    first, last = np.zeros((1, mpo[0].shape[0], 1)), np.zeros((1, mpo[-1].shape[1], 1))
    first[0, 0, 0] = last[0, 1, 0] = 1.0
    left: list[np.ndarray] = [first.astype(one.dtype)] + [one] * n
    right: list[np.ndarray] = [one] * n + [last.astype(one.dtype)]
    for i in range(n - 1, 1, -1):
        right[i] = _from_right(right[i + 1], tensors[i], mpo[i])
    energy, worst = 0.0, 0.0
    steps = [(i, True) for i in range(n - 1)] + [
        (i, False) for i in range(n - 2, -1, -1)
    ]
    for i, forward in steps:
        theta = np.tensordot(tensors[i], tensors[i + 1], 1)
        energy, theta = _lowest(theta, left[i], right[i + 2], mpo[i], mpo[i + 1])
        a, d, e, b = theta.shape
        u, values, v = np.linalg.svd(theta.reshape(a * d, e * b), full_matrices=False)
        weights = values**2 / np.sum(values**2)
        kept = max(1, min(bond, int(np.sum(weights > _NOTHING))))
        worst = max(worst, float(np.sum(weights[kept:])))
        values = values[:kept] / np.linalg.norm(values[:kept])
        u, v = u[:, :kept].reshape(a, d, kept), v[:kept].reshape(kept, e, b)
        if forward:
            tensors[i], tensors[i + 1] = u, values[:, None, None] * v
            left[i + 1] = _from_left(left[i], u, mpo[i])
        else:
            tensors[i], tensors[i + 1] = u * values, v
            right[i + 1] = _from_right(right[i + 2], v, mpo[i + 1])
    return energy, worst


def _from_left(left: np.ndarray, a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(ket, state, bra) one site further to the right."""
    x = np.tensordot(left, a, (0, 0))  # state, bra, s, ket
    x = np.tensordot(x, w, ((0, 2), (0, 3)))  # bra, ket, state, s
    return np.tensordot(x, a.conj(), ((0, 3), (0, 1)))  # ket, state, bra


def _from_right(right: np.ndarray, a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(ket, state, bra) one site further to the left."""
    x = np.tensordot(a, right, (2, 0))  # ket, s, state, bra
    x = np.tensordot(x, w, ((2, 1), (1, 3)))  # ket, bra, state, s
    return np.tensordot(x, a.conj(), ((1, 3), (2, 1)))  # ket, state, bra


def _lowest(
    theta: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Lowest state of the projected Hamiltonian near a pair of tensors, by Lanczos."""

    def apply(x: np.ndarray) -> np.ndarray:
        y = np.tensordot(left, x, (0, 0))  # w, bra, s, t, ket'
        y = np.tensordot(y, first, ((0, 2), (0, 3)))  # bra, t, ket', w, s
        y = np.tensordot(y, second, ((3, 1), (0, 3)))  # bra, ket', s, w, t
        return np.tensordot(y, right, ((1, 3), (0, 1)))  # bra, s, t, bra'

    basis, images = [theta / np.linalg.norm(theta)], []
    for _ in range(_LANCZOS):
        images.append(apply(basis[-1]))
        rest = images[-1]
        # Twice: near convergence the rest is all rounding after the first time.
        for _ in range(2):
            for one in basis:
                rest = rest - np.vdot(one, rest) * one
        size = float(np.linalg.norm(rest))
        if len(basis) == _LANCZOS or size < _CONVERGED:
            break
        basis.append(rest / size)
    h = np.array([[np.vdot(a, b) for b in images] for a in basis])
    values, vectors = np.linalg.eigh((h + h.conj().T) / 2)
    best = sum(c * one for c, one in zip(vectors[:, 0], basis, strict=True))
    return float(values[0]), np.asarray(best)


def padded(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """Tensors (N, d, D, D) of an open chain whose ends are the first basis vectors."""
    bond = max(max(a.shape[0], a.shape[2]) for a in tensors)
    kinds = max(a.shape[1] for a in tensors)
    out = np.zeros((len(tensors), kinds, bond, bond), np.result_type(*tensors))
    for i, a in enumerate(tensors):
        out[i, : a.shape[1], : a.shape[0], : a.shape[2]] = a.transpose(1, 0, 2)
    return out
