"""Exact generic ranks over the field of integers modulo 2^31 - 1.

Generic singular values reach 1e-13 of the largest, so that a rank in floating point
depends on a tolerance; over a finite field it does not (and fails to be the generic
one with a probability below 1e-6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import networkx as nx
import numpy as np

from ansatze.merges import Product
from ansatze.trees import Tree

PRIME = 2**31 - 1


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product modulo the prime, without overflow of int64."""
    out = np.zeros((a.shape[0], b.shape[1]), np.int64)
    for k in range(a.shape[1]):
        out = (out + a[:, k : k + 1] * b[k : k + 1] % PRIME) % PRIME
    return out


def rank(matrix: np.ndarray) -> int:
    """Rank modulo the prime, by elimination."""
    m = np.asarray(matrix, np.int64) % PRIME
    done = 0
    for column in range(m.shape[1]):
        rows = np.flatnonzero(m[done:, column])
        if len(rows) == 0:
            continue
        m[[done, rows[0] + done]] = m[[rows[0] + done, done]]
        m[done] = m[done] * pow(int(m[done, column]), PRIME - 2, PRIME) % PRIME
        below = m[done + 1 :, column].copy()
        hit = np.flatnonzero(below)
        m[done + 1 + hit] -= below[hit, None] * m[done][None] % PRIME
        m[done + 1 + hit] %= PRIME
        done += 1
        if done == len(m):
            break
    return done


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict:
    """Random field elements in the shapes of parameters."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(1, PRIME, shape) for name, shape in shapes.items()}


def amplitudes(tree: Tree, params: dict, window: int) -> np.ndarray:
    """psi of every configuration of a tree of products, modulo the prime.

    Args:
        tree: from a circuit with equal local dimensions; N a power of the window.
        params: integers.
        window: children per node.

    Returns:
        int64, one axis of length M per site.
    """
    assert tree.leaf_name is not None
    n, states = tree.n_sites, tree.n_states
    leaf = params[tree.leaf_name]
    # Block tables: channel by configuration of the block.
    blocks = [leaf[p % tree.leaf_period] for p in range(n)]
    for merge in tree.levels:
        assert isinstance(merge, Product)
        parents = []
        for j in range(merge.n_out):
            z = np.ones((merge.c_in, 1), np.int64)
            for child in blocks[j * window : (j + 1) * window]:
                z = z[:, :, None] * child[:, None, :] % PRIME
                z = z.reshape(merge.c_in, -1)
            if merge.name is not None:
                w = params[merge.name].reshape(merge.period, merge.c_out, merge.c_in)
                z = matmul(w[j % merge.period], z)
            parents.append(z)
        blocks = parents
    return blocks[0].reshape((states,) * n).transpose(tree.position())


def cut(psi: np.ndarray, region: Sequence[int]) -> np.ndarray:
    """psi as a matrix between a set of sites and the others."""
    rest = [i for i in range(psi.ndim) if i not in region]
    rows = math.prod(psi.shape[i] for i in region)
    return psi.transpose([*region, *rest]).reshape(rows, -1)


def min_cut(
    n: int, states: int, channels: Sequence[int], window: int, region: set[int]
) -> int:
    """Vertex min-cut of a circuit's index graph: the generic Schmidt rank."""
    graph = nx.DiGraph()

    def vertex(name: tuple[int, int], weight: int) -> None:
        graph.add_edge((name, "in"), (name, "out"), capacity=math.log(weight))

    def link(a: tuple[int, int], b: tuple[int, int]) -> None:
        graph.add_edge((a, "out"), (b, "in"))
        graph.add_edge((b, "out"), (a, "in"))

    for i in range(n):
        vertex((-1, i), states)
        side = (
            ("source", ((-1, i), "in")) if i in region else (((-1, i), "out"), "sink")
        )
        graph.add_edge(*side)
    below, level = [(-1, i) for i in range(n)], 0
    for weight in channels:
        # The copy index of a node joins the products of a window; one weight is
        # enough for the matrix above the leaves.
        nodes = [(level, j) for j in range(-(-len(below) // window))]
        for node in nodes:
            vertex(node, weight)
        for c, child in enumerate(below):
            link(child, nodes[c // window])
        below, level = nodes, level + 1
    return round(math.exp(nx.minimum_cut(graph, "source", "sink")[0]))
