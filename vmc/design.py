"""Which architecture can hold a ground state, and how large it has to be.

`design` compares the entanglement that every cut of the ground state needs
(`vmc.design_required`) with what an architecture can carry there, certifies floors of
infidelity and energy (`vmc.design_floors`), and recommends sizes
(`vmc.design_recommend`) and a tree (`vmc.design_geometry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vmc import registry
from vmc.base import Problem
from vmc.design_calibrate import bench_of
from vmc.design_cuts import (
    CutSpec,
    Region,
    all_cuts,
    checked_region,
    prefixes,
    representative,
    smaller_side,
    symmetry_group,
    tree_blocks,
)
from vmc.design_energies import Calibration, calibration
from vmc.design_families import Needs, families_of
from vmc.design_floors import certificate
from vmc.design_geometry import Geometry, best_tree
from vmc.design_recommend import (
    Candidate,
    Search,
    bottleneck,
    build_ansatz,
    capacities_of,
    recommend,
    verdicts_of,
)
from vmc.design_required import required
from vmc.design_result import Block, Design
from vmc.design_spectra import EXACT, MEMORY_LIMIT, Required, RequiredCut
from vmc.errors import JobError
from vmc.job import Job
from vmc.system import System, build_system

#: Largest sector, in states, in which trees are searched.
GEOMETRY_STATES = 2**16


def design(
    job: Job,
    *,
    budget: int | None = None,
    target: float = 1e-3,
    families: Sequence[str] | None = None,
    regions: Sequence[Sequence[int]] = (),
    method: str = "auto",
    memory_limit: int = MEMORY_LIMIT,
    calibrate: bool = True,
    n_random: int = 4,
    note: Callable[[str], None] | None = None,
) -> Design:
    """Compare requirement and capacity, certify floors, recommend an architecture.

    Args:
        job: the job; [ansatz] may be missing.
        budget: most parameters of a recommendation.
        target: relative energy error (E - E0) / |E0| aimed at.
        families: names of families to choose from, see `vmc.design_families`.
        regions: further cuts.
        method: see `vmc.design_required.required`.
        memory_limit: bytes of a diagonalisation.
        calibrate: train families whose amplitudes no bond describes on a small
            lattice, some seconds each.
        n_random: random cuts.
        note: called with what takes time, before it begins.

    Raises:
        JobError: a region, family, target or budget makes no sense, or the method does
            not fit the size.
    """
    say = note or (lambda text: None)
    chosen = families_of(families, registry.ansatze())
    system = build_system(job)
    own = None if job.ansatz is None else _own(job, system)
    group = symmetry_group(system.hamiltonian, system.lattice)
    order = _order(system)
    specs = _specs(system, group, order, regions, n_random)
    needed = required(
        job, system, specs, method=method, memory_limit=memory_limit, note=note
    )
    calibrated = calibration(job, system, needed)
    find = _finder(needed, group)
    needs = _needs(system, order, find, calibrated, needed, group)
    dims = system.hamiltonian.space.local_dims
    search = Search(
        job=job,
        system=system,
        needs=needs,
        required=needed,
        group=group,
        target=target,
        budget=budget,
        capacities_of=lambda psi: capacities_of(psi, dims),
        bench=bench_of(job, system) if calibrate else None,
        note=say,
    )
    candidates = tuple(recommend(search, chosen))
    name, psi = _judged(job, system, own, candidates)
    carry = None if psi is None else capacities_of(psi, dims)
    seen = (group, dims, search.infidelity)
    verdicts = verdicts_of(needed, carry, *seen)
    return Design(
        job=job,
        system=system,
        target=target,
        budget=budget,
        required=needed,
        architecture=name,
        verdicts=verdicts,
        certificate=certificate(needed, verdicts),
        bottleneck=bottleneck(verdicts),
        tree=_tree(needed, order, find, carry, seen),
        calibration=calibrated,
        candidates=candidates,
        geometry=_geometry(system, needed, order),
        notes=(*system.warnings, *needed.notes, *calibrated.notes, *_sector(system)),
    )


def _own(job: Job, system: System) -> tuple[str, Any]:
    """Name and wave function of the job's own ansatz."""
    assert job.ansatz is not None
    table = job.ansatz.model_dump(exclude_none=True)
    return str(job.ansatz.name), build_ansatz(job, system, table)


def _judged(
    job: Job, system: System, own: Any, candidates: Sequence[Candidate]
) -> tuple[str | None, Any]:
    if own is not None:
        return own
    if not candidates:
        return None, None
    best = candidates[0]
    return best.family, build_ansatz(job, system, best.ansatz)


def _sector(system: System) -> list[str]:
    label = system.hamiltonian.space.label
    if not label:
        return []
    return [
        f"a run samples psi only in its sector ({label}): it is projected, and floors "
        "are those of projected states; floor_free is for psi without a sector"
    ]


def _order(system: System) -> list[int]:
    """Sites along the leaves of a binary tree."""
    space, lattice = system.hamiltonian.space, system.lattice
    shape = None if lattice is None else lattice.shape
    periodic = () if lattice is None else tuple(lattice.periodic)
    problem = Problem(space=space, shape=shape, periodic=periodic)
    return [int(i) for i in registry.site_order(problem, 2)]


def _specs(
    system: System,
    group: np.ndarray,
    order: list[int],
    regions: Sequence[Sequence[int]],
    n_random: int,
) -> list[CutSpec]:
    """All cuts of the design, those of the architectures among them."""
    n = system.n_sites
    given = [CutSpec(checked_region(r, n), "given") for r in regions]
    for one in given:
        if len(one.region) in (0, n):
            raise JobError(
                f"region {list(one.region)} leaves nothing on one side: its entropy is "
                "0; name some of the sites, not none or all"
            )
    blocks = [b for level in tree_blocks(order, 2) for b in level]
    extra = [CutSpec(block, "tree") for block in blocks]
    extra += [CutSpec(region, "contiguous") for region in prefixes(range(n))]
    return all_cuts(
        n, system.lattice, group=group, extra=[*given, *extra], n_random=n_random
    )


def _finder(needed: Required, group: np.ndarray) -> Callable[[Region], RequiredCut]:
    """Region -> the requirement of its class under the symmetries."""
    n_sites = group.shape[1]
    known = {cut.region: cut for cut in needed.cuts}

    def find(region: Region) -> RequiredCut:
        return known[representative(smaller_side(region, n_sites), group)]

    return find


def _weights(cut: RequiredCut) -> np.ndarray:
    """Schmidt weights; where only S2 is known, those of an even spectrum."""
    if cut.spectrum is not None:
        return cut.spectrum
    rank = max(1, int(np.ceil(np.exp(cut.s2 or 0.0))))
    return np.full(rank, 1.0 / rank)


def _needs(
    system: System,
    order: list[int],
    find: Callable[[Region], RequiredCut],
    calibrated: Calibration,
    needed: Required,
    group: np.ndarray,
) -> Needs:
    space = system.hamiltonian.space
    levels = []
    for blocks in tree_blocks(order, 2)[1:]:
        kept = blocks[:1] if len(blocks) == 2 else blocks
        levels.append(tuple(_weights(find(block)) for block in kept))
    n = system.n_sites
    moved = group[:, 0]
    alike = len(set(moved.tolist())) == n and n & (n - 1) == 0
    energy = abs(needed.energy) if needed.energy else 1.0
    return Needs(
        dims=tuple(space.local_dims[i] for i in order),
        levels=tuple(levels),
        bonds=tuple(_weights(find(region)) for region in prefixes(range(n))),
        worst=tuple(_weights(cut) for cut in needed.cuts),
        scale=calibrated.kappa / energy,
        repeats=alike and _translates(system),
    )


def _translates(system: System) -> bool:
    """Whether all translations of a lattice with one site per cell are symmetries."""
    lattice, hamiltonian = system.lattice, system.hamiltonian
    if lattice is None or lattice.shape is None or not all(lattice.periodic):
        return False
    perms = np.asarray(lattice.translations)
    if len(perms) != system.n_sites or any(n & (n - 1) for n in lattice.shape):
        return False
    return all(hamiltonian.is_invariant(perm) for perm in perms)


def _tree(
    needed: Required,
    order: list[int],
    find: Callable[[Region], RequiredCut],
    carry: Any,
    seen: tuple[Any, Sequence[int], float],
) -> tuple[tuple[Block, ...], ...]:
    """Verdicts of the blocks themselves, not of their images."""
    group, dims, infidelity = seen
    alone = group[:1]
    levels = []
    for blocks in tree_blocks(order, 2):
        cuts = tuple(find(block)._replace(region=block) for block in blocks)
        held = verdicts_of(needed._replace(cuts=cuts), carry, alone, dims, infidelity)
        pairs = zip(blocks, held, strict=True)
        levels.append(tuple(Block(block, one) for block, one in pairs))
    return tuple(levels)


def _geometry(
    system: System, needed: Required, order: Sequence[int]
) -> Geometry | None:
    n, space = system.n_sites, system.hamiltonian.space
    if needed.label != EXACT or needed.vector is None or n < 4 or n & (n - 1):
        return None
    if space.n_states > GEOMETRY_STATES:
        return None
    return best_tree(space, needed.vector, order)
