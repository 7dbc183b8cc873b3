"""Ranks of restricted Boltzmann machines: the vertex cut of their connections."""

import networkx as nx
import numpy as np
import pytest

from ansatze.rbm import rbm
from tests.ansatze.cases import amplitudes, schmidt
from vmc.base import Problem
from vmc.space import spins

N = 8
HALF = [0, 1, 2, 3]


def rank(linked: np.ndarray) -> int:
    """Schmidt rank of half of N sites for generic weights, linked (N, hidden)."""
    rng = np.random.default_rng(3)
    weights = np.zeros((N, N), complex)
    noise = rng.normal(size=(2, *linked.shape))
    weights[:, : linked.shape[1]] = 0.7 * linked * (noise[0] + 1j * noise[1])
    problem = Problem(spins(N), dtype="complex")
    a, b = 0.3 * rng.normal(size=(2, N)) + 0.2j
    wf = rbm(problem, alpha=1)
    p = schmidt(amplitudes(wf, {"W": weights, "a": a, "b": b}, problem), HALF)
    # Weights of a rank that is there and of rounding are far apart.
    assert not np.any((p > 1e-27) & (p < 1e-22))
    return int(np.sum(p > 1e-22))


@pytest.mark.parametrize("hidden", [1, 2, 3, 4, 6])
def test_dense_machines(hidden: int) -> None:
    assert rank(np.ones((N, hidden))) == min(2**hidden, 16)


@pytest.mark.parametrize("seed", range(4))
def test_sparse_machines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    linked = rng.random((N, 5)) < 0.3
    graph = nx.DiGraph()
    for name in [*range(N), *((j,) for j in range(5))]:
        graph.add_edge((name, "in"), (name, "out"), capacity=1)
    for i, j in np.argwhere(linked).tolist():
        graph.add_edge((i, "out"), ((j,), "in"))
        graph.add_edge(((j,), "out"), (i, "in"))
    for i in range(N):
        side = ("source", (i, "in")) if i in HALF else ((i, "out"), "sink")
        graph.add_edge(*side)
    cut = nx.minimum_cut(graph, "source", "sink")[0]
    assert rank(linked) == 2**cut
