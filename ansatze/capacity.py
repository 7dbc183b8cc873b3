"""How much entanglement an ansatz can carry across a cut, before any training.

`capacity` gives bounds and a prediction of ln(Schmidt rank), in nats, and the indices
that form the narrowest cut.  Tensor networks are judged by a vertex cut of their
index graph (`ansatze.index_graph`), networks with windows by their light cones
(`ansatze.cuts_cones`), products, sums and averages over a group by the rules below;
of everything else only the dimension of the smaller side is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ansatze.cuts import CutCapacity, Hook, Region, trivial
from ansatze.cuts_cones import light_cone_capacity
from ansatze.index_graph import IndexGraph
from vmc.base import Capacity, WaveFunction
from vmc.errors import JobError

__all__ = [
    "CutCapacity",
    "IndexGraph",
    "capacities",
    "capacity",
    "index_graph",
    "light_cone_capacity",
    "product_capacity",
    "sum_capacity",
    "symmetrised_capacity",
]


def capacity(
    wavefunction: WaveFunction,
    region: Region,
    local_dims: Sequence[int] | None = None,
) -> Capacity:
    """The entanglement that a wave function can carry between a region and the rest.

    Args:
        wavefunction: any; one that says nothing of its capacity gets the trivial
            bound, min(|A|, |B|) ln d with the method "trivial".
        region: sites of one side, in any order.  For no sites and for all of them
            everything is 0.
        local_dims: number of local states of every site, ``space.local_dims``.  Only
            wave functions from outside the package need it.

    Returns:
        Never more than the trivial bound.

    Raises:
        JobError: a site is outside the lattice or named twice, or ``local_dims`` is
            needed.
    """
    return capacities(wavefunction, [region], local_dims)[0]


def capacities(
    wavefunction: WaveFunction,
    regions: Iterable[Region],
    local_dims: Sequence[int] | None = None,
) -> list[Capacity]:
    """`capacity` of many regions, together and so much faster for trees and chains."""
    hook = wavefunction.capacity
    if local_dims is None and not isinstance(hook, CutCapacity):
        raise JobError(
            "this wave function says neither what it can carry nor how many sites it "
            "has. Pass local_dims = problem.space.local_dims"
        )
    return _cut_capacity(hook, () if local_dims is None else local_dims).many(regions)


def index_graph(wavefunction: WaveFunction) -> IndexGraph | None:
    """The index graph of a wave function, or None where it has none.

    Its minimal cut bounds the Schmidt rank, except where light cones or ties between
    weights give a smaller bound, which `capacity` knows.
    """
    hook = wavefunction.capacity
    if not isinstance(hook, CutCapacity) or hook.graph is None:
        return None
    return hook.graph()


def product_capacity(
    parts: Sequence[tuple[str, Hook | None]], local_dims: Sequence[int]
) -> CutCapacity:
    """Of a product of wave functions: ln(rank) of a product is at most their sum.

    Nothing is proved from below, unless all factors but one are products themselves.

    Args:
        parts: name and ``WaveFunction.capacity`` of each; the cut indices are called
            "name:index".
        local_dims: of every site.
    """

    def combine(found: Sequence[Capacity]) -> Capacity:
        upper = math.fsum(c.ln_upper for c in found)
        predicted = math.fsum(c.ln_predicted for c in found)
        entangled = [c for c in found if c.ln_upper > 0]
        lower = entangled[0].ln_lower if len(entangled) == 1 else 0.0
        return Capacity(upper, predicted, lower, "composition")

    return _combination(parts, local_dims, combine)


def sum_capacity(
    parts: Sequence[tuple[str, Hook | None]], local_dims: Sequence[int]
) -> CutCapacity:
    """Of a weighted sum of wave functions: ranks add.

    As the weights are free, almost all of them keep the rank of every single term.

    Args:
        parts: see `product_capacity`.
        local_dims: of every site.
    """

    def combine(found: Sequence[Capacity]) -> Capacity:
        upper = float(np.logaddexp.reduce([c.ln_upper for c in found]))
        predicted = float(np.logaddexp.reduce([c.ln_predicted for c in found]))
        lower = max(c.ln_lower for c in found)
        return Capacity(upper, predicted, lower, "composition")

    return _combination(parts, local_dims, combine)


def symmetrised_capacity(
    hook: Hook | None, symmetry: np.ndarray, local_dims: Sequence[int]
) -> CutCapacity:
    """Of psi(sigma) = sum_g chi_g psi_0(sigma[perm_g]): at most |G| times the rank.

    Sharper, the sum of the ranks of psi_0 across the images of the cut.

    Args:
        hook: ``capacity`` of psi_0.
        symmetry: the permutations, int (G, N).
        local_dims: of every site.
    """
    inner = _cut_capacity(hook, local_dims)
    perms = np.asarray(symmetry)

    def one(inside: np.ndarray) -> Capacity:
        # Site i of psi_0 sees site perm[i].
        images, counts = np.unique(inside[perms], axis=0, return_counts=True)
        found = inner.many(np.flatnonzero(row).tolist() for row in images)
        weights = np.log(counts)
        upper = np.logaddexp.reduce(weights + [c.ln_upper for c in found])
        predicted = np.logaddexp.reduce(weights + [c.ln_predicted for c in found])
        return Capacity(float(upper), float(predicted), 0.0, "composition")

    return CutCapacity(inner.local_dims, lambda inside: [one(row) for row in inside])


def _combination(
    parts: Sequence[tuple[str, Hook | None]],
    local_dims: Sequence[int],
    combine: Callable[[Sequence[Capacity]], Capacity],
) -> CutCapacity:
    """Capacities of all parts, combined region by region."""
    inner = [(name, _cut_capacity(hook, local_dims)) for name, hook in parts]

    def solve(inside: np.ndarray) -> list[Capacity]:
        regions = [np.flatnonzero(row).tolist() for row in inside]
        columns = [one.many(regions) for _, one in inner]
        out = []
        for found in zip(*columns):
            cut = tuple(
                f"{name}:{index}"
                for (name, _), c in zip(inner, found)
                for index in c.cut
            )
            out.append(combine(found)._replace(cut=cut))
        return out

    return CutCapacity(tuple(local_dims), solve)


def _cut_capacity(hook: Hook | None, local_dims: Sequence[int]) -> CutCapacity:
    """Any hook as a `CutCapacity`, checked and capped."""
    if hook is None:
        return trivial(local_dims)
    if isinstance(hook, CutCapacity):
        return hook

    def solve(inside: np.ndarray) -> list[Capacity]:
        return [hook(tuple(np.flatnonzero(row).tolist())) for row in inside]

    return CutCapacity(tuple(local_dims), solve)
