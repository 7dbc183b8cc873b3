"""How much entanglement a ground state has: spectra of regions, each with its origin.

"exact" numbers come from diagonalisation, "mps" from a matrix product state that the
engine trains (`vmc.design_runs`), "mc" from the swap estimator on a cheap run, and
"extrapolated" ones from smaller lattices of the same family (`vmc.design_laws`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vmc import registry
from vmc.design_cuts import CutSpec, Region, checked_region
from vmc.errors import JobError
from vmc.sectors import Charge
from vmc.space import Spins

EXACT, MPS, MC, EXTRAPOLATED = "exact", "mps", "mc", "extrapolated"
METHODS = (EXACT, MPS, MC, EXTRAPOLATED)

#: Default limit of the memory of a diagonalisation, bytes.
MEMORY_LIMIT = 4 * 2**30
#: Largest side of a block of amplitudes, as `hamiltonians.entropies.MAX_BLOCK`.
MAX_BLOCK = 2**13


class RequiredCut(NamedTuple):
    """What the ground state needs across one cut.

    Attributes:
        region: sites of one side, ascending.
        kind: see `vmc.design_cuts.CutSpec`.
        s1: von Neumann entropy in nats, or None.
        s2: Renyi entropy -ln sum p^2 in nats, or None.
        spectrum: Schmidt weights p, largest first, of sum 1; or None.
        blocks: the same by the conserved charge of the region, or None.
        label: "exact", "mps", "mc" or "extrapolated".
        error: of s2, where it has one.
        projected: True if the job samples a sector only, see `vmc.design_floors`.
        mixed: True if the weights are those of the equal mixture of degenerate ground
            states.
    """

    region: Region
    kind: str
    s1: float | None
    s2: float | None
    spectrum: np.ndarray | None
    blocks: tuple[np.ndarray, ...] | None
    label: str
    error: float | None = None
    projected: bool = False
    mixed: bool = False


class Required(NamedTuple):
    """What a ground state needs.

    Attributes:
        cuts: one entry per region asked for, in their order.
        energy: E0, or the best known energy; None if none is.
        gap: to the next level of the sector, or None.
        degeneracy: of the ground level, or None where it is not known.
        label: where energy and gap come from.
        vector: the ground state in the order of ``space.all_states()``, in the
            Hamiltonian's sign gauge; None unless exact and not degenerate.
        notes: what a reader should know.
    """

    cuts: tuple[RequiredCut, ...]
    energy: float | None
    gap: float | None
    degeneracy: int | None
    label: str
    vector: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def exact_memory(hamiltonian: Any) -> int:
    """Upper estimate, in bytes, of what `required_exactly` takes."""
    return _plan(hamiltonian, 2**62).n_bytes + 6 * 8 * hamiltonian.space.n_states


def _plan(hamiltonian: Any, memory_limit: int) -> Any:
    k = min(2, hamiltonian.space.n_states)
    return registry.plan(hamiltonian, k, memory_limit)


def fits_exactly(hamiltonian: Any, memory_limit: int = MEMORY_LIMIT) -> bool:
    """Whether diagonalisation stays within a limit."""
    try:
        refuse_large(hamiltonian, memory_limit)
    except JobError:
        return False
    return True


def refuse_large(hamiltonian: Any, memory_limit: int) -> None:
    """Refuse what diagonalisation cannot do.

    Raises:
        JobError: it needs more memory; the message names it and other ways.
    """
    space = hamiltonian.space
    cure = (
        'Take the method "mps" (a matrix product state, for chains), "mc" (swap '
        'estimator on a cheap run) or "extrapolated" (from smaller lattices), or raise '
        "the memory limit."
    )
    try:
        chosen = _plan(hamiltonian, memory_limit)
    except JobError as error:
        raise JobError(
            f"{space.n_sites} sites are too many for exact spectra: {error} {cure}"
        ) from None
    needed = chosen.n_bytes + 6 * 8 * space.n_states
    if needed > memory_limit:
        raise JobError(
            f"{space.n_sites} sites are too many for exact spectra: their "
            f"{space.n_states} states need about {needed / 2**30:.3g} GiB, the limit "
            f"is {memory_limit / 2**30:.3g} GiB. {cure}"
        )


def required_exactly(
    hamiltonian: Any,
    cuts: Iterable[CutSpec | Sequence[int]],
    *,
    memory_limit: int = MEMORY_LIMIT,
) -> Required:
    """Schmidt spectra of the ground state by exact diagonalisation, up to ~24 sites.

    Of a degenerate ground level the equal mixture of all its states is taken (the
    projector on the multiplet, divided by its dimension): a region's weights then say
    how many states there hold the whole multiplet, and certify nothing.

    Args:
        hamiltonian: in its sector; the sign gauge does not matter.
        cuts: regions, or specs with a kind.
        memory_limit: bytes.

    Returns:
        `Required`; every cut is labelled "exact".

    Raises:
        JobError: a region is not one, or the memory is short.
    """
    space = hamiltonian.space
    specs = [_spec(cut, space.n_sites) for cut in cuts]
    refuse_large(hamiltonian, memory_limit)
    levels = _levels(hamiltonian, memory_limit)
    copies = levels.degeneracy
    vectors = np.asarray(levels.vectors)[:, :copies]
    found = tuple(exact_cut(space, vectors, spec) for spec in specs)
    notes = []
    if copies > 1:
        notes.append(
            f"the ground level is {copies}-fold degenerate: entropies are those of the "
            "mixture of all its states, and no floor is certified"
        )
    return Required(
        cuts=found,
        energy=float(levels.energies[0]),
        gap=levels.gap,
        degeneracy=copies,
        label=EXACT,
        vector=vectors[:, 0] if copies == 1 else None,
        notes=tuple(notes),
    )


def _spec(cut: CutSpec | Sequence[int], n_sites: int) -> CutSpec:
    if isinstance(cut, CutSpec):
        return CutSpec(checked_region(cut.region, n_sites), cut.kind)
    return CutSpec(checked_region(cut, n_sites), "given")


def _levels(hamiltonian: Any, memory_limit: int) -> Any:
    """The ground level with the one above it."""
    n_states, k = hamiltonian.space.n_states, 2
    while True:
        levels = registry.ground_states(hamiltonian, min(k, n_states), memory_limit)
        if levels.gap is not None or len(levels.energies) >= n_states:
            return levels
        k = len(levels.energies) + 1


def exact_cut(space: Spins, vectors: np.ndarray, spec: CutSpec) -> RequiredCut:
    """What known ground states need across one cut.

    Args:
        space: the configurations.
        vectors: (n_states, g), the orthonormal states of the level.
        spec: the cut.
    """
    inside = spec.region
    projected, mixed = not space.is_free, vectors.shape[1] > 1
    if len(inside) in (0, space.n_sites):
        one = np.ones(1)
        return RequiredCut(
            inside, spec.kind, 0.0, 0.0, one, (one,), EXACT, None, projected
        )
    if mixed:
        p, blocks = _mixture(space, vectors, inside), None
    elif space.blockade:
        p = registry.entanglement(space, vectors[:, 0], inside).spectrum
        blocks = None
    else:
        blocks = charge_blocks(space, vectors[:, 0], inside)
        p = np.sort(np.concatenate(blocks))[::-1]
    s1, s2 = entropies(p)
    return RequiredCut(
        inside, spec.kind, s1, s2, p, blocks, EXACT, None, projected, mixed
    )


def entropies(spectrum: np.ndarray) -> tuple[float, float]:
    """S1 = -sum p ln p and S2 = -ln sum p^2, in nats, of weights of sum 1."""
    p = spectrum[spectrum > 0]
    return float(abs(np.sum(p * np.log(p)))), float(abs(np.log(np.sum(p**2))))


def charge_blocks(
    space: Spins, vector: np.ndarray, region: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """Schmidt weights by the conserved charges of a region.

    Args:
        space: without a blockade, which ties the two sides together.
        vector: (n_states,), normalised.
        region: sites.

    Returns:
        One array per value of the charges, each largest first; the sum of all is 1.
        The free space has one block.
    """
    if space.is_free:
        return (registry.entanglement(space, vector, region).spectrum,)
    charges = list(space.charges)
    if space.twice_sz is not None:
        lowered = (sum(space.local_dims) - space.n_sites - space.twice_sz) // 2
        charges.append(Charge((1,) * space.n_sites, lowered))
    sites = list(region)
    sigma = space.all_states()[:, sites].astype(np.int64)
    lowered_by = (np.array(space.local_dims)[sites] - 1 - sigma) // 2
    values = []
    for charge in charges:
        value = lowered_by @ np.array(charge.weights, np.int64)[sites]
        values.append(value % charge.modulus if charge.modulus else value)
    labels, which = np.unique(np.stack(values, 1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    blocks = []
    for number, label in enumerate(labels):
        here = which == number
        weight = float(np.sum(np.abs(vector[here]) ** 2))
        if weight < 1e-15:
            continue
        part = _part(space, charges, region, label)
        p = registry.entanglement(part, vector[here] / math.sqrt(weight), region)
        blocks.append(p.spectrum * weight)
    return tuple(blocks)


def _part(
    space: Spins, charges: list[Charge], region: Sequence[int], label: np.ndarray
) -> Spins:
    """The states of a sector in which the region has given charges."""
    inside = set(region)
    extra = tuple(
        Charge(
            tuple(w if i in inside else 0 for i, w in enumerate(charge.weights)),
            int(value),
            charge.modulus,
        )
        for charge, value in zip(charges, label, strict=True)
    )
    return Spins(space.local_dims, space.total_sz, (*space.charges, *extra))


def _mixture(space: Spins, vectors: np.ndarray, region: Region) -> np.ndarray:
    """Eigenvalues, largest first, of the equal mixture reduced to the smaller side."""
    codes = space.all_codes()
    inside = list(region)
    if 2 * len(inside) > space.n_sites:
        inside = [i for i in range(space.n_sites) if i not in region]
    if math.prod(space.local_dims[i] for i in inside) > MAX_BLOCK:
        raise JobError(
            f"cut {list(region)}: the mixture of degenerate ground states on "
            f"{len(inside)} sites is a matrix beyond {MAX_BLOCK}; choose fewer sites"
        )
    here, there = np.zeros_like(codes), np.zeros_like(codes)
    size, rest = codes.copy(), 1
    stride = 1
    for site in range(space.n_sites - 1, -1, -1):
        size, index = np.divmod(size, space.local_dims[site])
        if site in inside:
            here, stride = here + stride * index, stride * space.local_dims[site]
        else:
            there, rest = there + rest * index, rest * space.local_dims[site]
    _, there = np.unique(there, return_inverse=True)
    rho = np.zeros((stride, stride), vectors.dtype)
    for vector in vectors.T:
        matrix = np.zeros((stride, int(there.max()) + 1), vectors.dtype)
        matrix[here, there.reshape(-1)] = vector
        rho += matrix @ matrix.conj().T
    p = np.linalg.eigvalsh(rho / vectors.shape[1])[::-1]
    p = p[p > 1e-14]
    return p / p.sum()
