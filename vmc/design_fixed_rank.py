"""The least energy of states of bounded Schmidt rank, on small systems.

A floor from the discarded Schmidt weights (`vmc.design_floors`) is far below what a
state of that rank reaches: the best energy is not at the best overlap.  Here psi =
sum_{z <= k} a_z b_z across one cut is optimised on the exact Hamiltonian, one side
after the other: with one side orthonormal, the other is the lowest eigenvector of a
projected Hamiltonian (as in one-site sweeps of a matrix product state,
arXiv:1008.3477).  Truncations of the ground state onto a whole tree give energies that
a tree of those bonds can reach for certain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from vmc import registry
from vmc.design_cuts import Region, tree_blocks
from vmc.errors import JobError
from vmc.space import Spins

#: Largest space, in states, in which fixed-rank states are optimised.
MAX_STATES = 2**16
#: Sweeps end when the energy falls by less than this, relatively.
_TOLERANCE = 1e-9
_MAX_SWEEPS = 60
#: Perturbed starts, and their size.
_STARTS, _NOISE = 3, 0.3


class FixedRank(NamedTuple):
    """The best state found at one rank.

    Attributes:
        rank: k.
        energy: E of the state, an upper bound of the least one.
        infidelity: 1 - F with the ground state.
    """

    rank: int
    energy: float
    infidelity: float


class ExactSystem(NamedTuple):
    """A ground state in the whole space of a small system.

    Attributes:
        matrix: H on all configurations, in the sign gauge of the vector.
        vector: (prod of d,), normalised, zero outside the sector.
        dims: local dimensions.
        energy: E0.
        is_free: whether the job's states are all of them; else those of its sector.
    """

    matrix: Any
    vector: np.ndarray
    dims: tuple[int, ...]
    energy: float
    is_free: bool = True


def exact_system(system: Any, vector: np.ndarray, energy: float) -> ExactSystem:
    """The ground state of a job's sector among all configurations.

    Args:
        system: `vmc.system.System`.
        vector: in the order of ``space.all_states()``.
        energy: E0.

    Raises:
        JobError: there are too many configurations, or the space has a blockade, which
            is no property of the terms.
    """
    hamiltonian, space = system.hamiltonian, system.hamiltonian.space
    size = math.prod(space.local_dims)
    if size > MAX_STATES:
        raise JobError(
            f"states of fixed rank are optimised among at most {MAX_STATES} "
            f"configurations; {space.n_sites} sites have {size}. Take a smaller lattice"
        )
    if space.blockade:
        raise JobError(
            "states of fixed rank leave a space with a blockade; take another model"
        )
    free = hamiltonian
    if not space.is_free:
        free = registry.compile_operator(system.operator, space.n_sites, total_sz=None)
        if hamiltonian.signs is not None:
            free = free.with_signs(hamiltonian.signs)
    whole = np.zeros(size, np.asarray(vector).dtype)
    whole[space.all_codes()] = vector
    matrix, dims = registry.to_sparse(free), tuple(space.local_dims)
    return ExactSystem(matrix, whole, dims, energy, space.is_free)


def least_energies(
    exact: ExactSystem, region: Region, ranks: Sequence[int]
) -> tuple[FixedRank, ...]:
    """The least energy at several ranks across one cut, by alternating sweeps.

    They begin at the truncated ground state, whose symmetries they keep: in a sector
    they stay there.  In the free space they also begin at perturbed ones, since the
    best state of a low rank may break a symmetry.

    Args:
        exact: the small system.
        region: one side.
        ranks: ascending numbers k >= 1; more than full rank is full rank.

    Returns:
        One entry per rank; energies do not rise with the rank.
    """
    matrix, vector, n_a = _sorted(exact, region)
    start = vector.reshape(n_a, -1)
    left, values, right = np.linalg.svd(start, full_matrices=False)
    found: list[FixedRank] = []
    rng = np.random.default_rng(0)
    for rank in ranks:
        k = min(rank, len(values))
        energy, state = _sweeps(matrix, left[:, :k] * values[:k], right[:k])
        for _ in range(_STARTS if exact.is_free and k < len(values) else 0):
            noise = _NOISE * rng.normal(size=right[:k].shape)
            side = np.linalg.qr((right[:k] + noise / math.sqrt(k)).T)[0].T
            other = _sweeps(matrix, start @ side.conj().T, side)
            energy, state = min((energy, state), other, key=lambda one: one[0])
        if found and found[-1].energy < energy:
            found.append(found[-1]._replace(rank=rank))
            continue
        overlap = abs(np.vdot(vector, state.reshape(-1))) ** 2
        found.append(FixedRank(rank, energy, max(0.0, 1 - float(overlap))))
    return tuple(found)


def _sorted(exact: ExactSystem, region: Region) -> tuple[Any, np.ndarray, int]:
    """H and psi with the sites of a region first, and the size of its side."""
    n = len(exact.dims)
    rest = [i for i in range(n) if i not in region]
    codes = np.arange(len(exact.vector)).reshape(exact.dims)
    perm = codes.transpose([*region, *rest]).reshape(-1)
    n_a = math.prod(exact.dims[i] for i in region)
    return exact.matrix[perm][:, perm].tocsr(), exact.vector[perm], n_a


def _sweeps(
    matrix: Any, first: np.ndarray, second: np.ndarray
) -> tuple[float, np.ndarray]:
    """Energy and state sum_z first[:, z] second[z] after alternating optimisation.

    Args:
        matrix: H on (n_a n_b) configurations.
        first: (n_a, k).
        second: (k, n_b), orthonormal rows.
    """
    n_a, n_b = first.shape[0], second.shape[1]
    energy, state = math.inf, first @ second
    for _ in range(_MAX_SWEEPS):
        before = energy

        def on_first(x: np.ndarray, side: np.ndarray = second) -> np.ndarray:
            psi = x.reshape(n_a, -1) @ side
            return (matrix @ psi.reshape(-1)).reshape(n_a, n_b) @ side.conj().T

        _, first = lowest(on_first, first)
        first, rest = np.linalg.qr(first)

        def on_second(x: np.ndarray, side: np.ndarray = first) -> np.ndarray:
            psi = side @ x.reshape(-1, n_b)
            return side.conj().T @ (matrix @ psi.reshape(-1)).reshape(n_a, n_b)

        energy, second = lowest(on_second, rest @ second)
        state = first @ second
        second = np.linalg.qr(second.T)[0].T
        first = state @ second.conj().T
        if before - energy < _TOLERANCE * max(1.0, abs(energy)):
            break
    return energy, state


def lowest(apply: Any, start: np.ndarray) -> tuple[float, np.ndarray]:
    """Lowest eigenpair of a linear map of arrays of the shape of ``start``."""
    size = start.size
    if size <= 64:
        columns = [apply(e).reshape(-1) for e in np.eye(size, dtype=start.dtype)]
        dense = np.stack(columns, axis=1)
        values, vectors = np.linalg.eigh((dense + dense.conj().T) / 2)
        return float(values[0]), vectors[:, 0].reshape(start.shape)
    keys: Any = {"matvec": lambda x: apply(x).reshape(-1), "dtype": start.dtype}
    operator: Any = scipy.sparse.linalg.LinearOperator((size, size), **keys)
    options: Any = {"which": "SA", "v0": start.reshape(-1), "tol": 1e-9}
    values, vectors = scipy.sparse.linalg.eigsh(operator, k=1, **options)
    return float(values[0]), vectors[:, 0].reshape(start.shape)


def truncated_tree(
    exact: ExactSystem, order: Sequence[int], ranks: Sequence[int], window: int = 2
) -> FixedRank:
    """The ground state truncated onto a tree: what its bonds hold for certain.

    From the leaves up every block is projected on its largest Schmidt vectors
    (arXiv:1803.09780 calls the tree's circuit a ConvAC); the energy is an upper bound
    of the least energy of a tree tensor network with those bonds.

    Args:
        exact: the small system.
        order: site at each leaf.
        ranks: bond of the blocks of window^l leaves, l = 0, 1, ...; missing ones at
            the top are not truncated.
        window: children per node.

    Returns:
        The state's energy and infidelity; ``rank`` is the largest bond.
    """
    order = [int(i) for i in order]
    dims = [exact.dims[i] for i in order]
    psi = exact.vector.reshape(exact.dims).transpose(order).copy()
    shape = psi.shape
    place = {site: k for k, site in enumerate(order)}
    for rank, blocks in zip(ranks, tree_blocks(order, window), strict=False):
        # Both children of a root of two have one cut between them.
        for block in blocks[:1] if len(blocks) == 2 else blocks:
            first = min(place[i] for i in block)
            size = math.prod(dims[first : first + len(block)])
            before = math.prod(dims[:first])
            psi = _projected(psi.reshape(before, size, -1), rank).reshape(shape)
    back = np.argsort(order)
    state = psi.transpose(back).reshape(-1)
    norm = float(np.vdot(state, state).real)
    energy = float(np.vdot(state, exact.matrix @ state).real) / norm
    overlap = abs(np.vdot(exact.vector, state)) ** 2 / norm
    return FixedRank(max(ranks), energy, max(0.0, 1 - float(overlap)))


def _projected(psi: np.ndarray, rank: int) -> np.ndarray:
    """Psi (before, block, after) on the largest Schmidt vectors of the block."""
    size = psi.shape[1]
    if rank >= size:
        return psi
    matrix = psi.transpose(1, 0, 2).reshape(size, -1)
    vectors = np.linalg.eigh(matrix @ matrix.conj().T)[1][:, ::-1][:, :rank]
    kept = vectors @ (vectors.conj().T @ matrix)
    return kept.reshape(size, psi.shape[0], -1).transpose(1, 0, 2)


def kappa(found: Sequence[FixedRank], ground: float, space: Spins) -> float:
    """(E - E0) / (1 - F) of optimised states, the largest over the ranks.

    Args:
        found: see `least_energies`.
        ground: E0.
        space: of which states with rounding errors only are left out.

    Raises:
        JobError: every rank holds the ground state.
    """
    ratios = [
        (one.energy - ground) / one.infidelity
        for one in found
        if one.infidelity > 1e-9 and one.energy - ground > 1e-9 * max(1.0, abs(ground))
    ]
    if not ratios:
        raise JobError(
            f"the ground state of {space.n_sites} sites has so little entanglement "
            "that every rank holds it: there is nothing to calibrate"
        )
    return max(ratios)
