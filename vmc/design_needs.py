"""Cuts of a design, and what the blocks of a tree or chain of some site order need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vmc import registry
from vmc.base import Problem
from vmc.design_cuts import (
    CutSpec,
    Region,
    all_cuts,
    checked_region,
    prefixes,
    representative,
    smaller_side,
    tree_blocks,
)
from vmc.design_families import Needs
from vmc.design_geometry import Geometry, best_tree
from vmc.design_spectra import EXACT, Required, RequiredCut, exact_cut
from vmc.errors import JobError
from vmc.job import Job
from vmc.system import System

#: Largest sector, in states, in which trees are searched.
GEOMETRY_STATES = 2**16
#: A searched order counts as better than the lattice's if it saves this, in nats.
_BETTER = 1e-6

#: Region -> the requirement there.
Finder = Callable[[Region], RequiredCut]


def default_order(system: System) -> list[int]:
    """Sites along the leaves of a binary tree, where a job says nothing."""
    space, lattice = system.hamiltonian.space, system.lattice
    shape = None if lattice is None else lattice.shape
    periodic = () if lattice is None else tuple(lattice.periodic)
    problem = Problem(space=space, shape=shape, periodic=periodic)
    return [int(i) for i in registry.site_order(problem, 2)]


def own_order(job: Job) -> list[int] | None:
    """The site order that the [ansatz] of a job names, if any."""
    keys = {} if job.ansatz is None else job.ansatz.keys
    order = keys.get("site_order")
    return None if order is None else [int(i) for i in order]


def specs_of(
    system: System,
    group: np.ndarray,
    orders: Sequence[Sequence[int]],
    regions: Sequence[Sequence[int]],
    n_random: int,
) -> list[CutSpec]:
    """All cuts of a design, those of the architectures among them.

    Args:
        system: lattice and Hamiltonian.
        group: its site permutations.
        orders: of the leaves of trees.
        regions: further ones.
        n_random: random ones.

    Raises:
        JobError: a region is none, or leaves nothing on one side.
    """
    n = system.n_sites
    given = [CutSpec(checked_region(r, n), "given") for r in regions]
    for one in given:
        if len(one.region) in (0, n):
            raise JobError(
                f"region {list(one.region)} leaves nothing on one side: its entropy is "
                "0; name some of the sites, not none or all"
            )
    extra = [spec for order in orders for spec in order_specs(order)]
    extra += [CutSpec(region, "contiguous") for region in prefixes(range(n))]
    return all_cuts(
        n, system.lattice, group=group, extra=[*given, *extra], n_random=n_random
    )


def order_specs(order: Sequence[int]) -> list[CutSpec]:
    """The blocks of a binary tree and the bonds of a chain over an order of sites."""
    blocks = [b for level in tree_blocks(order, 2) for b in level]
    return [CutSpec(region, "tree") for region in [*blocks, *prefixes(order)]]


def finder(needed: Required, group: np.ndarray) -> Finder:
    """Region -> the requirement of its class under the symmetries."""
    n_sites = group.shape[1]
    known = {cut.region: cut for cut in needed.cuts}

    def find(region: Region) -> RequiredCut:
        return known[representative(smaller_side(region, n_sites), group)]

    return find


def with_cuts(
    needed: Required, system: System, specs: Sequence[CutSpec], group: np.ndarray
) -> Required:
    """More cuts of a ground state that is known exactly, each class once."""
    assert needed.vector is not None
    n, known = system.n_sites, {cut.region for cut in needed.cuts}
    more = []
    for spec in specs:
        region = representative(smaller_side(spec.region, n), group)
        if region not in known:
            known.add(region)
            one = CutSpec(region, spec.kind)
            more.append(
                exact_cut(system.hamiltonian.space, needed.vector[:, None], one)
            )
    return needed._replace(cuts=(*needed.cuts, *more))


def searched(
    system: System, needed: Required, order: Sequence[int]
) -> tuple[Geometry | None, tuple[int, ...] | None]:
    """The best tree, and its order if that beats the given one."""
    n, space = system.n_sites, system.hamiltonian.space
    if needed.label != EXACT or needed.vector is None or n < 4 or n & (n - 1):
        return None, None
    if space.n_states > GEOMETRY_STATES:
        return None, None
    tree = best_tree(space, needed.vector, order)
    better = tree.cost < tree.contiguous_cost - _BETTER
    return tree, tree.order if better else None


def weights(cut: RequiredCut) -> np.ndarray:
    """Schmidt weights; where only S2 is known, those of an even spectrum."""
    if cut.spectrum is not None:
        return cut.spectrum
    rank = max(1, int(np.ceil(np.exp(cut.s2 or 0.0))))
    return np.full(rank, 1.0 / rank)


def needs_of(
    system: System,
    order: Sequence[int],
    chain: Sequence[int],
    find: Finder,
    needed: Required,
    kappa: float,
    repeats: bool,
) -> Needs:
    """What the ground state needs of a tree and of a chain.

    Args:
        system: lattice and Hamiltonian.
        order: sites along the leaves of the tree.
        chain: sites along the chain.
        find: the requirement of a region.
        needed: all cuts.
        kappa: energy per infidelity.
        repeats: whether blocks of a level may share their weights.
    """
    levels = []
    for blocks in tree_blocks(order, 2)[1:]:
        kept = blocks[:1] if len(blocks) == 2 else blocks
        levels.append(tuple(weights(find(block)) for block in kept))
    space = system.hamiltonian.space
    energy = abs(needed.energy) if needed.energy else 1.0
    return Needs(
        dims=tuple(space.local_dims[i] for i in order),
        levels=tuple(levels),
        bonds=tuple(weights(find(region)) for region in prefixes(chain)),
        worst=tuple(weights(cut) for cut in needed.cuts),
        scale=kappa / energy,
        repeats=repeats,
    )


def blocks_repeat(system: System, group: np.ndarray) -> bool:
    """Whether the blocks of a level of the lattice's own tree are all alike.

    All translations of a lattice with one site per cell and extents that are powers
    of two are symmetries.
    """
    n = system.n_sites
    if len(set(group[:, 0].tolist())) < n or n & (n - 1):
        return False
    lattice, hamiltonian = system.lattice, system.hamiltonian
    if lattice is None or lattice.shape is None or not all(lattice.periodic):
        return False
    perms: Any = np.asarray(lattice.translations)
    if len(perms) != n or any(length & (length - 1) for length in lattice.shape):
        return False
    return all(hamiltonian.is_invariant(perm) for perm in perms)
