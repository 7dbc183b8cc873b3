"""Capacity of trees: convolutional arithmetic circuits, CP form, tree networks.

For independent weights the generic Schmidt rank across any cut is the minimal vertex
cut of the index graph, whatever the channel numbers: found without exception over
the integers modulo a prime, also with weights shared by the places in a window.  What
is proved (arXiv:1704.01552, theorem 1) is the upper bound, and the lower bound with
dimensions rounded down to powers of one integer.

Weights that all nodes of a level share (sharing "full") make psi symmetric under
exchange of siblings.  A block then spans S_{l+1} = min(r_l, C(min(S_l, r_l) + P - 1,
P)) dimensions, S_0 = M, and k siblings on the same side of a cut C(S_l + k - 1, k).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from ansatze.cuts import CutCapacity
from ansatze.cuts_dynamic import TreeCuts, rounded_cuts
from ansatze.index_graph import IndexGraph, site_name
from ansatze.merges import Bilinear, Product
from ansatze.trees import Tree
from vmc.base import Capacity


def tree_capacity(tree: Tree) -> CutCapacity:
    """The capacity of a tree, see the module's docstring.

    Args:
        tree: of products only or of tensors only.  Its indices are "s3" (site 3),
            "h1.0" (channels that node 0 of level 1 copies) and "b1.0" (bond above
            tensor 0 of level 1).
    """
    return capacity_of_tree(
        functools.partial(tree_graph, tree), tree.local_dims, _together(tree)
    )


def capacity_of_tree(
    graph: Callable[[], IndexGraph],
    local_dims: tuple[int, ...],
    together: dict[str, int] | None = None,
    *,
    proved: bool = True,
) -> CutCapacity:
    """The capacity of any network without loops.

    Args:
        graph: makes its index graph.
        local_dims: of every site.
        together: see `TreeCuts`; None for independent siblings.
        proved: whether the lower bound by powers of one integer holds.
    """
    made = functools.cache(graph)

    @functools.cache
    def cuts() -> TreeCuts:
        # The root is the last index: the top of a tree, the end of a chain.
        return TreeCuts(made(), list(made().dims)[-1], together or {})

    @functools.cache
    def bounds() -> list[TreeCuts]:
        return rounded_cuts(cuts()) if proved and not together else []

    def solve(inside: np.ndarray) -> list[Capacity]:
        found = cuts().cuts(inside)
        lower = np.zeros(len(inside))
        for below in bounds():
            exact = below is cuts()
            values = [cut.value for cut in found] if exact else below.values(inside)
            lower = np.maximum(lower, values)
        return [
            Capacity(cut.value, cut.value, low, "tree", cut.names)
            for cut, low in zip(found, lower.tolist())
        ]

    return CutCapacity(tuple(local_dims), solve, made)


def tree_graph(tree: Tree) -> IndexGraph:
    """The index graph of a tree; the last index is the one nearest to the root."""
    sites = tree.order.tolist()
    dims = {site_name(i): d for i, d in enumerate(tree.local_dims)}
    leaves = [site_name(i) for i in sites]
    physical = tuple(dims)
    if isinstance(tree.levels[0], Product):
        tensors = _circuit(tree, leaves, dims)
    else:
        tensors = _network(tree, leaves, dims)
    return IndexGraph(dims, tuple(tensors), physical)


def _circuit(
    tree: Tree, leaves: list[str], dims: dict[str, int]
) -> list[tuple[str, ...]]:
    """Tensors of an arithmetic circuit; one index per node, copied by its children."""
    top = len(tree.levels) - 1
    nodes: list[list[str]] = [[]] * (top + 1)
    nodes[top] = [f"h{top}.0"]
    for number in reversed(range(top)):
        merge, above = tree.levels[number], tree.levels[number + 1]
        parents = [nodes[number + 1][j // above.window] for j in range(merge.n_out)]
        # Without a matrix in between, products of products copy one index.
        own = [f"h{number}.{j}" for j in range(merge.n_out)]
        nodes[number] = parents if merge.name is None else own
    below, tensors = leaves, []
    for merge, names in zip(tree.levels, nodes):
        for place, name in enumerate(names):
            dims.setdefault(name, merge.c_in)
            children = below[place * merge.window : (place + 1) * merge.window]
            tensors += [(child, name) for child in children if child != name]
        below = names
    return tensors


def _network(
    tree: Tree, leaves: list[str], dims: dict[str, int]
) -> list[tuple[str, ...]]:
    """Tensors of a tree tensor network; one index per bond."""
    below, tensors = leaves, []
    for number, merge in enumerate(tree.levels):
        names = [f"b{number}.{j}" for j in range(merge.n_out)]
        dims |= dict.fromkeys(names, merge.c_out)
        for place, name in enumerate(names):
            tensors.append((*below[2 * place : 2 * place + 2], name))
        below = names
    return tensors


def _together(tree: Tree) -> dict[str, int]:
    """Blocks that are the same function of their sites, and what they span."""
    tied = tree.leaf_name is not None and tree.leaf_period == 1 and tree.n_sites > 1
    if not tied or isinstance(tree.levels[0], Bilinear):
        return {}
    span = tree.n_states
    out = {site_name(i): span for i in range(tree.n_sites)}
    sites = 1
    for number, merge in enumerate(tree.levels[:-1]):
        if merge.name is None:
            # A product of products is one product: only the leaves are siblings.
            return out
        kept = min(span, merge.c_in)
        span = min(merge.c_in, math.comb(kept + merge.window - 1, merge.window))
        sites *= merge.window
        whole = tree.n_sites // sites
        out |= {f"h{number}.{j}": span for j in range(whole)}
    return out
