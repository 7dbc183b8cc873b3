"""Index graphs of tensor networks, and their minimal vertex cuts.

One vertex per index, of weight ln(dimension); a tensor joins all of its indices.  A
set of indices that separates the physical ones of A from those of B bounds the
Schmidt rank: with its values fixed psi factorises, so that the rank is at most the
product of its dimensions.  Vertices are cut, not edges: an index that several tensors
copy (the channels of a node of an arithmetic circuit) is paid for once
(arXiv:1704.01552, arXiv:1803.09780).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from vmc.errors import JobError

# Imported where it is used: a run needs no cut, and networkx takes 0.2 s to load.
if TYPE_CHECKING:
    import networkx as nx

#: Weights of the max-flow are integers, so that it ends and is the same everywhere.
SCALE = 2**40


class Cut(NamedTuple):
    """A vertex cut.

    Attributes:
        value: sum of ln(dimension) over it.
        names: its indices; those of dimension 1 are left out.
    """

    value: float
    names: tuple[str, ...]


def site_name(site: int) -> str:
    """Name of the physical index of a site."""
    return f"s{site}"


@dataclasses.dataclass(frozen=True, eq=False)
class IndexGraph:
    """The indices of a tensor network and the tensors that join them.

    Attributes:
        dims: dimension of every index, by name; at least 1, of any size.
        tensors: names of the indices of every tensor.
        physical: name of the index of each site, in the order of the sites.

    Raises:
        JobError: a name has no dimension.
    """

    dims: Mapping[str, int]
    tensors: tuple[tuple[str, ...], ...]
    physical: tuple[str, ...]

    def __post_init__(self) -> None:
        used = {name for names in self.tensors for name in names} | {*self.physical}
        if unknown := used - self.dims.keys():
            raise JobError(
                f"the index graph gives no dimension for {sorted(unknown)[:8]}; every "
                "index of a tensor and every physical index needs one in dims"
            )

    @functools.cached_property
    def ln_dims(self) -> dict[str, float]:
        """ln(dimension) of every index."""
        return {name: math.log(d) for name, d in self.dims.items()}

    def powers(self, base: int) -> IndexGraph:
        """The same graph with dimensions rounded down to powers of an integer.

        If all tensors are independent, the Schmidt rank is for almost all weights at
        least the minimal cut of this graph: a network of such dimensions can route
        digits along disjoint paths (arXiv:1704.01552).
        """

        def rounded(d: int) -> int:
            power = 1
            while power * base <= d:
                power *= base
            return power

        dims = {name: rounded(d) for name, d in self.dims.items()}
        return dataclasses.replace(self, dims=dims)

    def min_cut(self, region: Iterable[int]) -> Cut:
        """A minimal vertex cut between some sites and all others, by max-flow.

        Args:
            region: sites of one side.

        Returns:
            The cut; value 0 for no sites and for all.
        """
        import networkx as nx

        inside = set(region)
        if not inside or len(inside) == len(self.physical):
            return Cut(0.0, ())
        flow = self._split()
        for site, name in enumerate(self.physical):
            if site in inside:
                flow.add_edge("source", (name, "in"))
            else:
                flow.add_edge((name, "out"), "sink")
        _, (reached, _) = nx.minimum_cut(flow, "source", "sink")
        return self.cut_of(
            name
            for name in self.dims
            if (name, "in") in reached and (name, "out") not in reached
        )

    def cut_of(self, names: Iterable[str]) -> Cut:
        """The cut of given indices."""
        kept = tuple(name for name in names if self.dims[name] > 1)
        return Cut(math.fsum(self.ln_dims[name] for name in kept), kept)

    def separates(self, names: Collection[str], region: Iterable[int]) -> bool:
        """Whether no path of tensors avoids these indices between the two sides.

        Indices of dimension 1 separate in any case.
        """
        import networkx as nx

        cut = {*names, *(name for name, d in self.dims.items() if d == 1)}
        graph = nx.Graph()
        for number, tensor in enumerate(self.tensors):
            graph.add_edges_from((number, n) for n in tensor if n not in cut)
        inside = {self.physical[site] for site in region}
        start = [n for n in self.physical if n in inside and n in graph]
        if not start:
            return True
        graph.add_edges_from(("source", n) for n in start)
        reached = nx.node_connected_component(graph, "source")
        return not any(n in reached for n in self.physical if n not in inside)

    def _split(self) -> nx.DiGraph:
        """Every index as an edge of its weight; tensors have no limit."""
        import networkx as nx

        flow = nx.DiGraph()
        for name, weight in self.ln_dims.items():
            capacity = round(SCALE * weight)
            flow.add_edge((name, "in"), (name, "out"), capacity=capacity)
        for number, names in enumerate(self.tensors):
            if len(names) == 2:
                first, second = names
                flow.add_edge((first, "out"), (second, "in"))
                flow.add_edge((second, "out"), (first, "in"))
            elif len(names) > 2:
                for name in names:
                    flow.add_edge((name, "out"), number)
                    flow.add_edge(number, (name, "in"))
        return flow
