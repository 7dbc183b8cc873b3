"""The lattice: sites, bonds, symmetry permutations of a finite cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from hamiltonians import lattice_symmetry, shells
from hamiltonians.clusters import Grid, nearest_image
from vmc.errors import JobError


class Bonds(NamedTuple):
    """One shell of bonds of a finite lattice.

    Attributes:
        sites: int (n_edges, 2), each pair once, see `Lattice.edges`.
        vectors: float (n_edges, d), displacement from the first to the second site.
        colors: int (n_edges,), bonds of equal direction share a colour.
        meets_itself: True where some pair is joined by two equally short paths
            around a small torus (and still counts once).
    """

    sites: np.ndarray
    vectors: np.ndarray
    colors: np.ndarray
    meets_itself: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Lattice:
    """A finite lattice: unit cells on a grid or torus, or the nodes of a graph.

    Built by the factories of ``hamiltonians.lattice_families``.  Site numbers run
    over the cells row by row and, inside a cell, over the basis:
    ``site = b * cell + basis site``; the square lattice has ``site = x * L_y + y``.

    Attributes:
        name: what error messages call it.
        vectors: float (D, d), lattice vectors; D = 0 for a graph.
        basis: float (b, d), sites of the unit cell (all sites of a graph).
        grid: the cells and how they are identified.
        features: named groups of sites that models refer to and that symmetries
            preserve, such as ``dimers`` or ``stars``; tuples of sites.
        graph_edges: int (n, 2), the bonds of a graph; None for a lattice.
        graph_colors: int (n,), their colours.
    """

    name: str
    vectors: np.ndarray
    basis: np.ndarray
    grid: Grid
    features: Mapping[str, tuple[tuple[int, ...], ...]] = dataclasses.field(
        default_factory=dict
    )
    graph_edges: np.ndarray | None = None
    graph_colors: np.ndarray | None = None

    def __repr__(self) -> str:
        """Name, sites and boundary."""
        size = self.shape or self.grid.periods.tolist()
        return (
            f"Lattice({self.name!r}, n_sites={self.n_sites}, size={size}, "
            f"periodic={list(self.periodic)})"
        )

    @property
    def n_sites(self) -> int:
        """N."""
        return self.grid.n_cells * len(self.basis)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Extent of the grid of unit cells.

        None where the cells form no rectangular grid: tilted clusters and graphs.
        """
        if self.grid.is_tilted or len(self.vectors) == 0:
            return None
        return self.grid.extent

    @property
    def periodic(self) -> tuple[bool, ...]:
        """One flag per lattice direction."""
        return self.grid.periodic

    @cached_property
    def periods(self) -> np.ndarray:
        """Shortest period vectors of the torus, float (periodic directions, d)."""
        return self.grid.period_vectors(self.vectors)

    @cached_property
    def positions(self) -> np.ndarray:
        """Coordinates of the sites, float (N, d); nearest neighbours at distance 1."""
        cells = self.grid.cells() @ self.vectors
        if self.grid.is_tilted:
            inverse = np.linalg.pinv(self.periods)
            cells = cells - np.floor(cells @ inverse + 1e-9) @ self.periods
        return (cells[:, None] + self.basis[None]).reshape(self.n_sites, -1)

    def site(self, cell: np.ndarray, b: np.ndarray | int = 0) -> np.ndarray:
        """Site of basis position ``b`` in cells (..., D); -1 outside the lattice."""
        index = self.grid.index(np.asarray(cell))
        return np.where(index < 0, -1, index * len(self.basis) + b)

    # Bonds

    def edges(self, n: int = 1) -> np.ndarray:
        """Bonds between n-th neighbours, int (n_edges, 2).

        Shells are counted by the distances of the *infinite* lattice (of a graph: by
        the number of bonds between), so that edges(2) means the same bonds in
        every cluster.  A row (i, j) is directed: j lies along the first lattice
        direction from i (for a chain j = i + 1).  Rows are ordered by i.

        Small tori: a pair belongs to the shell of its shortest path, and counts once
        even if two equally short paths join it.  So a periodic chain of 2 sites has
        one bond, and edges(2) of a periodic chain of 4 sites two.

        Raises:
            JobError: n < 1, or no pair of this cluster is an n-th neighbour
                (n = 1 returns an empty array instead).
        """
        return self.bonds(n).sites

    def edge_colors(self, n: int = 1) -> np.ndarray:
        """Colour of each row of ``edges(n)``, int (n_edges,).

        Bonds of equal direction share a colour: along the first lattice vector 0,
        the second 1, ..., bonds inside a unit cell last (square: x, y; ladder: leg,
        rung; honeycomb: x, y, z of the Kitaev model).  A graph takes the edge
        attribute ``color``.
        """
        return self.bonds(n).colors

    def bonds(self, n: int = 1) -> Bonds:
        """The n-th shell with displacements and colours; see `edges`."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise JobError(f"shell {n!r}: neighbours are counted 1, 2, 3, ...")
        if n not in self._shells:
            self._shells[n] = self._find_bonds(int(n))
        bonds = self._shells[n]
        if n > 1 and len(bonds.sites) == 0:
            raise JobError(
                f"{self!r} has no bonds of shell {n}: it is too small for neighbours "
                "that far apart (on a torus they meet a nearer image). Enlarge it, or "
                "set the coupling of that shell to 0."
            )
        return bonds

    @cached_property
    def _shells(self) -> dict[int, Bonds]:
        return {}

    @cached_property
    def _links(self) -> shells.Links:
        return shells.shell_links(self.vectors, self.basis, 1)

    def _find_bonds(self, n: int) -> Bonds:
        if self.graph_edges is not None:
            return self._graph_bonds(n)
        links = shells.shell_links(self.vectors, self.basis, n)
        image = nearest_image(links.vector, self.periods)
        shortest = np.linalg.norm(image, axis=1) > links.distance * (1 - 1e-6)
        cells = self.grid.cells()
        target = self.grid.index(cells[:, None] + links.cell[None])
        b = len(self.basis)
        first = np.arange(len(cells))[:, None] * b + links.start
        second = target * b + links.end
        keep = ((target >= 0) & (first != second) & shortest).reshape(-1)
        pairs = np.stack([first.reshape(-1), second.reshape(-1)], axis=1)[keep]
        link = np.tile(np.arange(len(links.start)), len(cells))[keep]
        # Order by first site; links are sorted by basis site already.
        _, once = np.unique(
            np.sort(pairs, axis=1) @ np.array([self.n_sites, 1]), return_index=True
        )
        once.sort()
        link = link[once]
        return Bonds(
            pairs[once], links.vector[link], links.color[link], len(once) < len(pairs)
        )

    def _graph_bonds(self, n: int) -> Bonds:
        assert self.graph_edges is not None and self.graph_colors is not None
        if n == 1:
            pairs, colors = self.graph_edges, self.graph_colors
        else:
            pairs = np.argwhere(np.triu(self._graph_distances == n))
            colors = np.zeros(len(pairs), np.int64)
        delta = self.positions[pairs[:, 1]] - self.positions[pairs[:, 0]]
        return Bonds(pairs, delta, colors, False)

    @cached_property
    def _graph_distances(self) -> np.ndarray:
        """Bonds on the shortest path, int (N, N); -1 where there is none."""
        distance = np.full((self.n_sites, self.n_sites), -1)
        for source in range(self.n_sites):
            distance[source, source] = 0
            frontier = [source]
            while frontier:
                near = {j for i in frontier for j in self.neighbors[i]}
                new = [j for j in sorted(near) if distance[source, j] < 0]
                distance[source, new] = distance[source, frontier[0]] + 1
                frontier = new
        return distance

    @cached_property
    def neighbors(self) -> tuple[tuple[int, ...], ...]:
        """Nearest neighbours of every site, in increasing order."""
        near: list[list[int]] = [[] for _ in range(self.n_sites)]
        for i, j in self.edges(1).tolist():
            near[i].append(j)
            near[j].append(i)
        return tuple(tuple(sorted(each)) for each in near)

    @property
    def coordination(self) -> np.ndarray:
        """Number of nearest neighbours of every site, int (N,)."""
        return np.bincount(self.edges(1).reshape(-1), minlength=self.n_sites)

    def chain_kind(self) -> Literal["open", "ring"] | None:
        """How the bonds join the sites in order: a ring (N > 2), an open chain, or not.

        Decided from the bonds alone, whatever the lattice is called.
        """
        n = self.n_sites
        bonds = {(min(b), max(b)) for b in self.edges(1).tolist()}
        line = {(i, i + 1) for i in range(n - 1)}
        if bonds == line:
            return "open"
        return "ring" if n > 2 and bonds == line | {(0, n - 1)} else None

    @cached_property
    def distances(self) -> np.ndarray:
        """Shortest distance between every pair of sites, float (N, N).

        Around the torus where it is periodic; the number of bonds for a graph
        without positions (-1 where no path exists).
        """
        if self.positions.shape[1] == 0:
            return self._graph_distances.astype(float)
        delta = self.positions[None] - self.positions[:, None]
        return np.linalg.norm(nearest_image(delta, self.periods), axis=-1)

    # Sublattices, loops

    @cached_property
    def sublattice(self) -> np.ndarray | None:
        """0 or 1 for every site, int (N,), no bond joining equals; None if impossible.

        Site 0 (and the first site of every disconnected part) is in sublattice 0.
        """
        color = np.full(self.n_sites, -1)
        for root in range(self.n_sites):
            if color[root] >= 0:
                continue
            color[root], stack = 0, [root]
            while stack:
                i = stack.pop()
                for j in self.neighbors[i]:
                    if color[j] < 0:
                        color[j] = 1 - color[i]
                        stack.append(j)
                    elif color[j] == color[i]:
                        return None
        return color

    @property
    def is_bipartite(self) -> bool:
        """True if the nearest-neighbour bonds admit two sublattices."""
        return self.sublattice is not None

    @cached_property
    def triangles(self) -> np.ndarray:
        """Elementary triangles of nearest-neighbour bonds, int (T, 3).

        Counterclockwise in the plane; in increasing order for a graph.  Loops around
        a small torus do not count; loops through the same sites in the same sense
        count once, in three dimensions also in opposite senses.
        """
        if self.graph_edges is not None:
            loops = [
                (i, j, k)
                for i, j in np.sort(self.graph_edges, axis=1).tolist()
                for k in self.neighbors[i]
                if k > j and k in self.neighbors[j]
            ]
        else:
            loops = self._place(shells.triangle_loops(self._links, len(self.basis)))
        return np.array(loops, np.int64).reshape(-1, 3)

    @cached_property
    def plaquettes(self) -> tuple[tuple[int, ...], ...]:
        """Faces: loops of sites, counterclockwise in the plane.

        In two dimensions the faces of the drawing (squares; triangles and hexagons
        of the kagome lattice), in three the chordless parallelograms of
        nearest-neighbour bonds.  Empty for chains and graphs.  Torus: see
        `triangles`.
        """
        dimension = self.positions.shape[1]
        if self.graph_edges is not None or dimension < 2:
            return ()
        find = shells.face_loops if dimension == 2 else shells.parallelogram_loops
        return tuple(self._place(find(self._links, len(self.basis))))

    def _place(self, loops: list[shells.Loop]) -> list[tuple[int, ...]]:
        """Copies of loops in every cell that fit, each once; see `triangles`."""
        found: dict[tuple[int, ...], tuple[int, ...]] = {}
        is_planar = self.positions.shape[1] == 2
        for loop in loops:
            cells = np.array([c for c, _ in loop], np.int64).reshape(len(loop), -1)
            where = self.grid.cells()[:, None] + cells[None]
            sites = self.site(where, np.array([b for _, b in loop]))
            for row in sites.tolist():
                if min(row) >= 0 and len(set(row)) == len(row):
                    k = row.index(min(row))
                    loop = (*row[k:], *row[:k])
                    back = (loop[0], *loop[:0:-1])
                    found.setdefault(loop if is_planar else min(loop, back), loop)
        return list(found.values())

    # Symmetries

    @cached_property
    def translations(self) -> np.ndarray:
        """Translations along the periodic directions, int32 (G, N), identity first.

        ``perm[g, i]`` is the site that translation g moves site i to.  Translations
        that do not preserve ``features`` are left out.
        """
        return self._translations[0]

    @cached_property
    def translation_vectors(self) -> np.ndarray:
        """Displacement of each row of ``translations``, float (G, d)."""
        return self._translations[1] @ self.vectors

    @cached_property
    def _translations(self) -> tuple[np.ndarray, np.ndarray]:
        cells = self.grid.cells()
        closed = np.asarray(self.periodic, bool)
        moves = cells[np.all(cells[:, ~closed] == 0, axis=1)]
        b = np.arange(len(self.basis))
        perms = np.empty((len(moves), self.n_sites), np.int32)
        for g, move in enumerate(moves):
            perms[g] = self.site((cells + move)[:, None], b).reshape(-1)
        keep = lattice_symmetry.preserves(self.features, perms)
        return perms[keep], moves[keep]

    @cached_property
    def momenta(self) -> np.ndarray:
        """Wave vectors of the characters of ``translations``, float (G, d).

        exp(i momenta @ translation_vectors.T) is the (G, G) character table; row 0
        is k = 0.
        """
        return lattice_symmetry.momenta(self.translation_vectors, self.periods)

    @cached_property
    def point_group(self) -> np.ndarray:
        """Rotations and reflections about the best centre, int32 (G, N).

        Identity first; ``perm[g, i]`` is the site that operation g moves site i to.
        The largest group of isometries with a common fixed point that preserves
        the sites, the torus and ``features``; for a graph all automorphisms.

        Raises:
            JobError: a graph has too many automorphisms to list.
        """
        if self.graph_edges is not None:
            return lattice_symmetry.automorphisms(self.n_sites, self.graph_edges)
        return lattice_symmetry.point_group(self)

    def plot(self, ax: Any = None, shells: tuple[int, ...] = (1,)) -> Any:
        """Draw sites with their numbers and the bonds of some shells.

        Args:
            ax: matplotlib axes to draw on; None makes new ones.
            shells: which shells of bonds to draw.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is missing (``pip install nqs-vmc[plots]``).
        """
        from hamiltonians.lattice_plot import draw

        return draw(self, ax, shells)
