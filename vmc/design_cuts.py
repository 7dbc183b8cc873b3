"""The cuts across which an entanglement design looks.

Cuts that a symmetry of the Hamiltonian maps onto each other need the same entanglement,
so that the requirement is computed once; an architecture is no such symmetry, and is
asked for every image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vmc.errors import JobError

Region = tuple[int, ...]

#: Most images of a region that an architecture is asked for.
MAX_IMAGES = 32


class CutSpec(NamedTuple):
    """A cut to be looked at.

    Attributes:
        region: sites of one side, ascending.
        kind: "contiguous", "rectangle", "strip", "sublattice", "stripe", "tree",
            "random" or "given".
    """

    region: Region
    kind: str


def checked_region(region: Iterable[int], n_sites: int) -> Region:
    """Sites in ascending order.

    Args:
        region: sites; none or all of them are a cut without entanglement.
        n_sites: N.

    Raises:
        JobError: a site is outside the lattice, repeated or no integer.
    """
    sites = list(region)
    for i in sites:
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise JobError(f"region {sites}: {i!r} is no site; sites are integers")
        if not 0 <= i < n_sites:
            raise JobError(
                f"region {sites}: site {i} is outside; the sites are 0 to {n_sites - 1}"
            )
    if len(set(sites)) != len(sites):
        raise JobError(f"region {sites}: a site is listed twice; name each once")
    return tuple(sorted(int(i) for i in sites))


def smaller_side(region: Region, n_sites: int) -> Region:
    """The side with fewer sites; of two halves the one with site 0."""
    inside = set(region)
    rest = tuple(i for i in range(n_sites) if i not in inside)
    if len(region) != len(rest):
        return min(region, rest, key=len)
    return region if 0 in inside else rest


def symmetry_group(hamiltonian: Any, lattice: Any) -> np.ndarray:
    """Site permutations that leave Hamiltonian and sector alone, int (G, N).

    Translations and the point group of the lattice and their products, as far as the
    Hamiltonian has them; identity first.
    """
    n_sites = hamiltonian.space.n_sites
    identity = np.arange(n_sites)[None]
    if lattice is None:
        return identity
    groups = [
        _kept(hamiltonian, np.asarray(lattice.translations).reshape(-1, n_sites)),
        _kept(hamiltonian, _point_group(lattice, n_sites)),
    ]
    products = [a[b] for a, b in itertools.product(*groups)]
    unique = {tuple(int(i) for i in p): None for p in products}
    return np.array(list(unique), np.int64)


def _point_group(lattice: Any, n_sites: int) -> np.ndarray:
    try:
        return np.asarray(lattice.point_group).reshape(-1, n_sites)
    except JobError:  # a graph with more automorphisms than can be listed
        return np.arange(n_sites)[None]


def _kept(hamiltonian: Any, perms: np.ndarray) -> np.ndarray:
    """Those under which a Hamiltonian and its sector are invariant."""
    kept = [
        perm
        for perm in perms
        if hamiltonian.is_invariant(perm) and hamiltonian.space.is_invariant(perm)
    ]
    return np.array(kept or [np.arange(hamiltonian.space.n_sites)])


def images(region: Region, group: np.ndarray) -> tuple[Region, ...]:
    """All different regions that a group makes of one (or of its other side)."""
    n_sites = group.shape[1]
    rows = np.sort(group[:, list(region)], axis=1)
    found = {smaller_side(tuple(int(i) for i in row), n_sites): None for row in rows}
    return tuple(found)


def representative(region: Region, group: np.ndarray) -> Region:
    """The first image in dictionary order."""
    return min(images(region, group))


def contiguous(order: Sequence[int]) -> list[CutSpec]:
    """Blocks of 1 ... N/2 sites, in an order of the sites, from its beginning."""
    n_sites = len(order)
    return [
        CutSpec(smaller_side(tuple(sorted(order[:n])), n_sites), "contiguous")
        for n in range(1, n_sites // 2 + 1)
    ]


def prefixes(order: Sequence[int]) -> list[Region]:
    """The sites on the left of every bond of a chain, N - 1 of them."""
    n = len(order)
    return [tuple(sorted(int(i) for i in order[:k])) for k in range(1, n)]


def tree_blocks(order: Sequence[int], window: int) -> list[list[Region]]:
    """Blocks of a tree by level, from the leaves up; the root's is left out.

    Args:
        order: site at each leaf.
        window: children per node.

    Returns:
        Level l: blocks of window^l leaves.
    """
    levels = []
    size = 1
    while size < len(order):
        blocks = [order[i : i + size] for i in range(0, len(order), size)]
        levels.append([tuple(sorted(int(i) for i in b)) for b in blocks])
        size *= window
    return levels


def grid_cuts(shape: Sequence[int], n_basis: int) -> list[CutSpec]:
    """Rectangles and strips of cells of a grid with two or more directions."""
    cells = np.arange(int(np.prod(shape))).reshape(shape)
    found = []
    halves = [range(1, n // 2 + 1 if n > 1 else 2) for n in shape]
    for extent in itertools.product(*halves):
        part = cells[tuple(slice(n) for n in extent)]
        found.append(CutSpec(_sites(part, n_basis), "rectangle"))
    for axis, length in enumerate(shape):
        for n in range(1, length // 2 + 1):
            part = np.take(cells, range(n), axis=axis)
            found.append(CutSpec(_sites(part, n_basis), "strip"))
        if length > 2:
            part = np.take(cells, range(0, length, 2), axis=axis)
            found.append(CutSpec(_sites(part, n_basis), "stripe"))
    return found


def _sites(cells: np.ndarray, n_basis: int) -> Region:
    sites = cells.reshape(-1)[:, None] * n_basis + np.arange(n_basis)
    return tuple(sorted(int(i) for i in sites.reshape(-1)))


def all_cuts(
    n_sites: int,
    lattice: Any = None,
    *,
    group: np.ndarray | None = None,
    extra: Iterable[CutSpec] = (),
    n_random: int = 4,
    seed: int = 0,
) -> list[CutSpec]:
    """The cuts of a design, none the image of another.

    Args:
        n_sites: N.
        lattice: the lattice, or None.
        group: see `symmetry_group`; None compares nothing but the two sides.
        extra: further cuts, such as the blocks of an architecture's tree.
        n_random: random regions of N/2 sites.
        seed: of the random regions.

    Returns:
        Contiguous blocks of every size, rectangles and strips in two dimensions or
        more, sublattices and stripes, the cuts given, random regions.
    """
    group = np.arange(n_sites)[None] if group is None else group
    found = contiguous(range(n_sites))
    shape = None if lattice is None else lattice.shape
    if shape is not None and sum(n > 1 for n in shape) > 1:
        found = grid_cuts(shape, n_sites // int(np.prod(shape))) + found
    sublattice = None if lattice is None else lattice.sublattice
    if sublattice is not None:
        part = tuple(int(i) for i in np.flatnonzero(sublattice == 0))
        found.append(CutSpec(part, "sublattice"))
    if n_sites > 3:
        found.append(CutSpec(tuple(range(0, n_sites, 2)), "stripe"))
    found += [CutSpec(checked_region(c.region, n_sites), c.kind) for c in extra]
    rng = np.random.default_rng(seed)
    for _ in range(n_random if n_sites > 3 else 0):
        sites = rng.permutation(n_sites)[: n_sites // 2]
        found.append(CutSpec(checked_region(sites.tolist(), n_sites), "random"))
    unique: dict[Region, CutSpec] = {}
    for one in found:
        if 0 < len(one.region) < n_sites:
            least = representative(smaller_side(one.region, n_sites), group)
            unique.setdefault(least, CutSpec(least, one.kind))
    return list(unique.values())
