"""Graphs as lattices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hamiltonians.clusters import Grid
from hamiltonians.lattice_keys import Periodic, Size, is_whole, lengths, points
from hamiltonians.lattices import Lattice
from vmc.errors import JobError


def from_graph(graph: Any, *, name: str = "graph") -> Lattice:
    """Any networkx graph as a lattice.

    Site i is the i-th node of ``graph.nodes``.  Bonds keep the order of
    ``graph.edges`` (an undirected graph counts each once); the edge attribute
    ``color`` (an integer) becomes the bond colour, the node attribute ``pos`` the
    coordinates.  Shells are counted by the number of bonds between two sites.

    Args:
        graph: a ``networkx.Graph`` without self loops or parallel edges.
        name: what error messages call it.
    """
    import networkx as nx

    if not isinstance(graph, nx.Graph):
        raise JobError(
            f"from_graph takes a networkx.Graph; a {type(graph).__name__} came. From "
            'a list of bonds, use the lattice name = "graph", edges = [[0, 1], [1, 2]]'
        )
    nodes = list(graph.nodes)
    if not nodes:
        raise JobError("the graph has no nodes; a lattice needs at least one site")
    number = {node: i for i, node in enumerate(nodes)}
    links = list(graph.edges(data=True))
    edges = np.array([(number[u], number[v]) for u, v, _ in links], np.int64)
    edges = edges.reshape(-1, 2)
    if np.any(edges[:, 0] == edges[:, 1]):
        raise JobError("the graph has a bond from a site to itself; remove it")
    if len(np.unique(np.sort(edges, axis=1), axis=0)) < len(edges):
        raise JobError(
            "two bonds of the graph join the same pair of sites; keep one of them "
            "(networkx.Graph(g) does) and put the strength into the coupling"
        )
    colors = [data.get("color", 0) for _, _, data in links]
    placed = [data["pos"] for _, data in graph.nodes(data=True) if "pos" in data]
    if placed and len(placed) < len(nodes):
        raise JobError(f"{len(placed)} of {len(nodes)} nodes have a position 'pos'")
    basis = points("pos", placed) if placed else np.zeros((len(nodes), 0))
    return _from_edges(name, basis, edges, colors)


def graph(
    size: Size = None,
    periodic: Periodic = True,
    *,
    edges: Sequence[Sequence[int]],
    colors: Sequence[int] | None = None,
) -> Lattice:
    """A graph from its list of bonds, such as [[0, 1], [1, 2]].

    Args:
        size: [N]; the largest site of ``edges`` plus 1 by default.
        periodic: has no meaning here and is ignored.
        edges: pairs of sites, each pair once.
        colors: an integer per bond.
    """
    del periodic
    pairs = []
    for pair in edges:
        listed = list(pair) if isinstance(pair, Sequence | np.ndarray) else []
        if len(listed) != 2 or any(not is_whole(s) or s < 0 for s in listed):
            raise JobError(f"edge {pair!r} must be two site numbers, 0 or larger")
        pairs.append(tuple(listed))
    if len({frozenset(p) for p in pairs}) < len(pairs):
        raise JobError("a pair of sites occurs twice in edges; list every bond once")
    smallest = max((max(p) for p in pairs), default=0) + 1
    n = smallest if size is None else lengths("graph", size, (1,), "[N]")[0]
    if n < smallest:
        raise JobError(f"size = [{n}], but edges mention site {smallest - 1}")
    if colors is not None and len(colors) != len(pairs):
        raise JobError(f"{len(colors)} colors were given for {len(pairs)} edges")
    return _from_edges("graph", np.zeros((n, 0)), pairs, colors or [0] * len(pairs))


def complete(size: Size = None, periodic: Periodic = True) -> Lattice:
    """Complete graph: every pair of N sites is a bond.

    Args:
        size: [N].
        periodic: has no meaning here and is ignored.
    """
    del periodic
    n = lengths("complete", size, (1,), "[N]")[0]
    pairs = np.argwhere(np.triu(np.ones((n, n), bool), 1))
    return _from_edges("complete", np.zeros((n, 0)), pairs, [0] * len(pairs))


def _from_edges(
    name: str, basis: np.ndarray, edges: Any, colors: Sequence[int]
) -> Lattice:
    for color in colors:
        if not is_whole(color):
            raise JobError(
                f"bond colour {color!r} must be a whole number; colours number the "
                "kinds of bonds 0, 1, 2, ..."
            )
    none = np.zeros((0, 0), np.int64)
    return Lattice(
        name,
        np.zeros((0, basis.shape[1])),
        basis,
        Grid(none, (), none),
        graph_edges=np.array(edges, np.int64).reshape(-1, 2),
        graph_colors=np.array(colors, np.int64),
    )
