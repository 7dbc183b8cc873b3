"""Which architecture can hold a ground state, and how large it has to be.

`design` compares the entanglement that every cut of the ground state needs
(`vmc.design_required`) with what an architecture can carry there, certifies floors of
infidelity and energy (`vmc.design_floors`), and recommends sizes
(`vmc.design_recommend`) and a tree (`vmc.design_geometry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vmc import registry
from vmc.design_calibrate import bench_of
from vmc.design_cuts import symmetry_group, tree_blocks
from vmc.design_energies import calibration
from vmc.design_families import families_of
from vmc.design_floors import certificate
from vmc.design_needs import (
    Finder,
    blocks_repeat,
    default_order,
    finder,
    needs_of,
    order_specs,
    own_order,
    searched,
    specs_of,
    with_cuts,
)
from vmc.design_recommend import (
    Candidate,
    Search,
    Variant,
    bottleneck,
    build_ansatz,
    capacities_of,
    recommend,
    verdicts_of,
)
from vmc.design_required import required
from vmc.design_result import Block, Design
from vmc.design_spectra import MEMORY_LIMIT, Required
from vmc.job import Job
from vmc.system import System, build_system


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
    order, given = default_order(system), own_order(job)
    orders = [order, given] if given else [order]
    specs = specs_of(system, group, orders, regions, n_random)
    needed = required(
        job, system, specs, method=method, memory_limit=memory_limit, note=note
    )
    calibrated = calibration(job, system, needed)
    geometry, better = searched(system, needed, order)
    if better is not None:
        needed = with_cuts(needed, system, order_specs(better), group)
    find = finder(needed, group)
    variants = _variants(
        system, [given, better], order, find, needed, calibrated.kappa, group
    )
    dims = system.hamiltonian.space.local_dims
    search = Search(
        job=job,
        system=system,
        variants=variants,
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
        tree=_tree(needed, _leaves(own, given, candidates, order), find, carry, seen),
        calibration=calibrated,
        candidates=candidates,
        geometry=geometry,
        notes=(*system.warnings, *needed.notes, *calibrated.notes, *_sector(system)),
    )


def _variants(
    system: System,
    others: Sequence[Sequence[int] | None],
    order: Sequence[int],
    find: Finder,
    needed: Required,
    kappa: float,
    group: Any,
) -> tuple[Variant, ...]:
    """The lattice's own order of sites, and others that trees and chains may take."""
    n = system.n_sites
    alike = blocks_repeat(system, group)
    own = needs_of(system, order, range(n), find, needed, kappa, alike)
    found = [Variant(None, own)]
    for other in dict.fromkeys(tuple(o) for o in others if o is not None):
        needs = needs_of(system, other, other, find, needed, kappa, False)
        found.append(Variant(other, needs))
    return tuple(found)


def _leaves(
    own: Any,
    given: Sequence[int] | None,
    candidates: Sequence[Candidate],
    order: Sequence[int],
) -> Sequence[int]:
    """The order of the sites in the architecture that is judged."""
    if own is not None:
        return given or order
    best = candidates[0].keys.get("site_order") if candidates else None
    return best or order


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


def _tree(
    needed: Required,
    order: Sequence[int],
    find: Finder,
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
