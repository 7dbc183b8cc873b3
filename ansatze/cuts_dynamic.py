"""Minimal vertex cuts of index graphs without loops, for many regions at once.

Every vertex is on side A, on side B, or cut.  From the leaves to a root,

cost_A = sum_c min(A_c, C_c),  cost_B = sum_c min(B_c, C_c),
cost_C = ln dim + sum_c min(A_c, B_c, C_c),

with cost_B infinite for a physical index of A, and so on; a tensor of three or more
indices is a vertex that cannot be cut.  O(N) per region, vectorised over regions.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ansatze.index_graph import Cut, IndexGraph

if TYPE_CHECKING:
    import networkx as nx

#: Numbers per array of costs: few enough to stay in a cache.
CHUNK = 2**18
#: One array for side A, one for side B.
_Pair: TypeAlias = tuple[np.ndarray, np.ndarray]


class _Level(NamedTuple):
    """Vertices at one distance from the root.

    Attributes:
        names: of the vertices.
        parent: place of each one's parent on the level above, int (n,).
        sites: site of each physical index, otherwise -1, int (n,).
        children: places on the level below, int (slots, n); one too many for none.
    """

    names: list
    parent: np.ndarray
    sites: np.ndarray
    children: np.ndarray


class _Costs(NamedTuple):
    """Costs of the three states of the vertices of a level; the last row is 0."""

    a: np.ndarray
    b: np.ndarray
    cut: np.ndarray


class _Choices(NamedTuple):
    """What is worth remembering of a level, bool (n, R).

    Attributes:
        rather_than_a: to cut is cheaper than A.
        rather_than_b: to cut is cheaper than B.
        b_than_a: B is cheaper than A.
        joint: for the states A and B, whether the children that wholly lie on the
            other side are cut together, or None.
        pure: whether all sites below are in A, or in B, bool (n + 1, R), or None.
    """

    rather_than_a: np.ndarray
    rather_than_b: np.ndarray
    b_than_a: np.ndarray
    joint: _Pair | None
    pure: _Pair | None


@dataclasses.dataclass(frozen=True, eq=False)
class TreeCuts:
    """Minimal cuts of one graph without loops.

    Attributes:
        graph: the graph.
        root: index to start from.
        together: for blocks whose siblings are the same function of their sites, the
            dimension S that they span.  k of them on the same side below one vertex
            are symmetric under exchange and cost at most ln C(S + k - 1, k)
            together.  By the name of the block's index; the same S on a level.
    """

    graph: IndexGraph
    root: str
    together: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def levels(self) -> list[_Level]:
        """From the root downwards.

        Raises:
            ValueError: the graph has loops or more than one piece.
        """
        import networkx as nx

        links = _links(self.graph)
        if not nx.is_tree(links):
            raise ValueError("the index graph is not a tree")
        site = {name: i for i, name in enumerate(self.graph.physical)}
        names, parent = [self.root], [0]
        before: dict[Any, Any] = {self.root: None}
        out = []
        while names:
            below, above = [], []
            for place, name in enumerate(names):
                for other in links[name]:
                    if other != before[name]:
                        before[other] = name
                        below.append(other)
                        above.append(place)
            sites = np.array([site.get(name, -1) for name in names])
            out.append(
                _Level(names, np.array(parent), sites, _slots(above, len(names)))
            )
            names, parent = below, above
        return out

    @functools.cached_property
    def weights(self) -> list[np.ndarray]:
        """Of the vertices of every level, (n, 1); a tensor cannot be cut."""
        known = self.graph.ln_dims
        each = [[known.get(name, np.inf) for name in x.names] for x in self.levels]
        return [np.array(weights)[:, None] for weights in each]

    def values(self, inside: np.ndarray) -> np.ndarray:
        """Values of minimal cuts, (R,), of masks (R, N)."""
        values = [self._sweep(rows.T)[0] for rows in self._chunks(inside)]
        return np.concatenate(values) if values else np.zeros(0)

    def cuts(self, inside: np.ndarray) -> list[Cut]:
        """Minimal cuts of several regions, bool (R, N)."""
        out = []
        for rows in self._chunks(inside):
            values, choices = self._sweep(rows.T)
            names = self._names(choices)
            out.extend(Cut(v, n) for v, n in zip(values.tolist(), names))
        return out

    def _chunks(self, inside: np.ndarray) -> Iterator[np.ndarray]:
        widest = max(len(level.names) for level in self.levels)
        size = max(1, CHUNK // widest)
        for start in range(0, len(inside), size):
            yield inside[start : start + size]

    def _sweep(self, inside: np.ndarray) -> tuple[np.ndarray, list[_Choices]]:
        """Values (R,) for masks (N, R), and choices from the root downwards."""
        out: list[_Choices] = []
        below: _Costs | None = None
        for number in reversed(range(len(self.levels))):
            level = self.levels[number]
            costs = self._sums(number, below, inside.shape[1])
            costs.cut[:-1] += self.weights[number]
            physical = np.flatnonzero(level.sites >= 0)
            mask = inside[level.sites[physical]]
            costs.a[physical] += np.where(mask, 0, np.inf)
            costs.b[physical] += np.where(mask, np.inf, 0)
            lower = out[0] if out else None
            pure = self._pure(level, lower, physical, mask)
            joint = None
            if below is not None and lower is not None and lower.pure is not None:
                joint = self._share(number, below, lower.pure, costs)
            a, b, cut = (x[:-1] for x in costs)
            out.insert(0, _Choices(cut < a, cut < b, b < a, joint, pure))
            below = costs
        assert below is not None
        return np.minimum(np.minimum(below.a, below.b), below.cut)[0], out

    def _sums(self, number: int, below: _Costs | None, n_regions: int) -> _Costs:
        """Costs of the children for each state of a vertex, (n + 1, R)."""
        level = self.levels[number]
        shape = (len(level.names) + 1, n_regions)
        out = _Costs(np.zeros(shape), np.zeros(shape), np.zeros(shape))
        if below is None:
            return out
        on_a = np.minimum(below.a, below.cut)
        on_b = np.minimum(below.b, below.cut)
        either = np.minimum(on_a, below.b)
        for total, part in zip(out, (on_a, on_b, either)):
            for slot in level.children:
                total[:-1] += part[slot]
        return out

    def _pure(
        self,
        level: _Level,
        below: _Choices | None,
        physical: np.ndarray,
        mask: np.ndarray,
    ) -> _Pair | None:
        """Which blocks lie in A, and in B; only where children may be cut together."""
        if not self.together:
            return None
        out = []
        for side, inside in enumerate((mask, ~mask)):
            pure = np.ones((len(level.names) + 1, mask.shape[1]), bool)
            pure[physical] = inside
            if below is not None and below.pure is not None:
                for slot in level.children:
                    pure[:-1] &= below.pure[side][slot]
            out.append(pure)
        return out[0], out[1]

    def _share(
        self, number: int, below: _Costs, pure: _Pair, costs: _Costs
    ) -> _Pair | None:
        """Lower the costs of A and B where cutting like children together is cheaper.

        A minimum over how many of the k children are cut together lies at none or
        all: ln C(S + k - 1, k) is concave in k.
        """
        level, children = self.levels[number], self.levels[number + 1].names
        known = [self.together[name] for name in children if name in self.together]
        if not known:
            return None
        size = known[0]
        like = np.array([*(name in self.together for name in children), False])
        table = np.array(
            [
                math.log(math.comb(size + k - 1, k))
                for k in range(len(level.children) + 1)
            ]
        )
        flags = []
        for side, cost in enumerate((below.a, below.b)):
            # For a vertex in A the children in B are in the way, and the reverse.
            alike = pure[1 - side] & like[:, None]
            single = np.where(alike, np.minimum(cost, below.cut), 0)
            count = np.zeros((len(level.names), cost.shape[1]), np.int64)
            total = np.zeros(count.shape)
            for slot in level.children:
                count += alike[slot]
                total += single[slot]
            saved = total - table[count]
            flags.append(saved > 0)
            costs[side][:-1] -= np.maximum(saved, 0)
        return flags[0], flags[1]

    def _names(self, choices: list[_Choices]) -> list[tuple[str, ...]]:
        """The cut indices of every region, from the root downwards."""
        columns, regions, states, above = [], [], None, None
        for level, best in zip(self.levels, choices):
            if states is None:
                is_cut = best.rather_than_a & best.rather_than_b
                on_b = best.b_than_a & ~is_cut
            else:
                # A vertex below one in A is in A or cut, and likewise for B.
                under_a, under_b = (x[level.parent] for x in states)
                is_cut = (best.rather_than_a | under_b) & (best.rather_than_b | under_a)
                is_cut |= self._joined(level, best, above, (under_a, under_b))
                on_b = ((best.b_than_a & ~under_a) | under_b) & ~is_cut
            vertex, region = np.nonzero(is_cut)
            regions.append(region)
            columns.extend([level.names[v] for v in vertex.tolist()])
            states, above = (~(on_b | is_cut), on_b), best
        row = np.concatenate(regions)
        order = np.argsort(row, kind="stable").tolist()
        n_regions = choices[0].b_than_a.shape[1]
        ends = np.cumsum(np.bincount(row, minlength=n_regions)).tolist()
        dims = self.graph.dims
        free = {name for name in columns if dims[name] == 1}
        out, start = [], 0
        for end in ends:
            names = [columns[i] for i in order[start:end]]
            out.append(tuple(n for n in names if n not in free) if free else (*names,))
            start = end
        return out

    def _joined(
        self,
        level: _Level,
        best: _Choices,
        above: _Choices | None,
        under: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray | bool:
        """Which vertices of a level are cut together with their siblings."""
        if above is None or above.joint is None or best.pure is None:
            return False
        like = np.array([name in self.together for name in level.names])[:, None]
        both = [
            joint[level.parent] & parent & pure[:-1]
            for joint, parent, pure in zip(above.joint, under, best.pure[::-1])
        ]
        return (both[0] | both[1]) & like


def rounded_cuts(cuts: TreeCuts) -> list[TreeCuts]:
    """Cuts of the graphs of `IndexGraph.powers`, whose largest value is a lower bound.

    Where one leaves all dimensions as they are, this one alone.
    """
    graph, out = cuts.graph, []
    # Physical indices of dimension 1 would separate anything at no cost.
    for base in range(2, max(graph.dims[name] for name in graph.physical) + 1):
        rounded = graph.powers(base)
        if rounded.dims == graph.dims:
            return [cuts]
        out.append(TreeCuts(rounded, cuts.root))
    return out


def _links(graph: IndexGraph) -> nx.Graph:
    """Indices joined directly by pairs, through a vertex by larger tensors."""
    import networkx as nx

    links = nx.Graph()
    links.add_nodes_from(graph.dims)
    for number, names in enumerate(graph.tensors):
        if len(names) == 2:
            links.add_edge(*names)
        elif len(names) > 2:
            links.add_edges_from((number, name) for name in names)
    return links


def _slots(parents: list[int], n_parents: int) -> np.ndarray:
    """Children of each parent, int (most, n_parents), filled up by their number."""
    places: list[list[int]] = [[] for _ in range(n_parents)]
    for child, parent in enumerate(parents):
        places[parent].append(child)
    most = max(map(len, places))
    out = np.full((most, n_parents), len(parents))
    for parent, children in enumerate(places):
        out[: len(children), parent] = children
    return out
