"""Graphs as lattices, what a job may not say, drawings."""

import sys

import networkx as nx
import numpy as np
import pytest

from hamiltonians import LATTICES, from_graph, from_unit_cell
from vmc.errors import JobError


def test_any_networkx_graph_is_a_lattice() -> None:
    lattice = from_graph(nx.petersen_graph())
    assert lattice.n_sites == 10 and lattice.shape is None
    np.testing.assert_array_equal(lattice.coordination, 3)
    assert len(lattice.edges(2)) == 30  # diameter 2
    assert lattice.point_group.shape == (120, 10)
    assert lattice.translations.shape == (1, 10)
    assert not lattice.is_bipartite and len(lattice.triangles) == 0
    np.testing.assert_array_equal(np.unique(lattice.distances), [0, 1, 2])
    assert len(from_graph(nx.complete_graph(5)).triangles) == 10


def test_graph_keeps_order_colors_and_positions() -> None:
    g = nx.Graph()
    g.add_node("b", pos=(0.0, 0.0))
    g.add_node("a", pos=(3.0, 4.0))
    g.add_edge("a", "b", color=2)
    lattice = from_graph(g)
    assert lattice.edge_colors().tolist() == [2]
    assert lattice.distances[0, 1] == 5.0
    same = LATTICES["graph"](3, edges=[[2, 0], [1, 0]], colors=[1, 0])
    assert same.edges().tolist() == [[2, 0], [1, 0]]
    assert same.edge_colors().tolist() == [1, 0]
    assert len(LATTICES["complete"](6).edges()) == 15


# ---- what does not fit


BAD = [
    (lambda: LATTICES["chain"](), "needs a size"),
    (lambda: LATTICES["chain"](0), "at least 1"),
    (lambda: LATTICES["chain"]([4, 4]), "expected 1 whole number"),
    (lambda: LATTICES["chain"](4.0), "whole number"),
    (lambda: LATTICES["chain"]("8"), "whole number"),
    (lambda: LATTICES["square"]([4, -4]), "at least 1"),
    (lambda: LATTICES["square"]([4, True]), "whole number"),
    (lambda: LATTICES["square"]([4, 4, 4]), r"\[L_x, L_y\]"),
    (lambda: LATTICES["cubic"]([4, 4]), r"\[L_x, L_y, L_z\]"),
    (lambda: LATTICES["square"](4, [True] * 3), "3 periodic flags"),
    (lambda: LATTICES["square"](4, "yes"), "true or false"),
    (lambda: LATTICES["square"](4, cluster=[[2, 0], [0, 2]]), "either size or cluster"),
    (lambda: LATTICES["square"](cluster=[[2, 1]]), "2 rows of 2 integers"),
    (lambda: LATTICES["square"](cluster=[[2, 1.5], [0, 2]]), "integers"),
    (lambda: LATTICES["square"](cluster=[[2, 1], [4, 2]]), "parallel"),
    (lambda: LATTICES["square"](None, False, cluster=[[2, 0], [0, 2]]), "torus"),
    (lambda: LATTICES["ladder"]([2, 4], [True, True]), "tube"),
    (lambda: LATTICES["shastry_sutherland"]([4, 5]), "even"),
    (lambda: LATTICES["chain"](4).edges(0), "counted 1, 2, 3"),
    (
        lambda: LATTICES["chain"](4).edges(1.0),  # pyright: ignore[reportArgumentType]
        "counted 1, 2, 3",
    ),
    (lambda: LATTICES["unit_cell"](2, vectors=[[1, 0], [2, 0]]), "dependent"),
    (lambda: LATTICES["unit_cell"](2, vectors=[[1, float("nan")]]), "finite"),
    (
        lambda: from_unit_cell(2, vectors=[[1, 0]], positions=[[0, 0], [1, 0]]),
        "same site",
    ),
    (lambda: from_unit_cell(2, vectors=[[1, 0]], positions=[[0]]), "coordinates"),
    (lambda: from_graph(nx.Graph()), "no nodes"),
    (lambda: from_graph([1, 2]), "takes a networkx.Graph; a list came"),
    (lambda: from_graph(nx.Graph([(0, 1, {"color": "x"})])), "colour 'x' must be"),
    (lambda: LATTICES["graph"](edges=[[0, 1]], colors=[0.5]), "colour 0.5 must be"),
    (lambda: LATTICES["graph"](edges=[0, 1]), "two site numbers"),
    (lambda: from_graph(nx.Graph([(1, 1)])), "to itself"),
    (lambda: from_graph(nx.MultiGraph([(0, 1), (0, 1)])), "same pair"),
    (lambda: LATTICES["graph"](edges=[[0, 1], [1, 0]]), "twice"),
    (lambda: LATTICES["graph"](edges=[[0, -1]]), "site numbers"),
    (lambda: LATTICES["graph"](2, edges=[[0, 2]]), "mention site 2"),
    (lambda: LATTICES["complete"](9).point_group, "automorphisms"),
    (lambda: LATTICES["complete"](3).plot(), "no positions"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_what_does_not_fit_is_refused(build, message: str) -> None:
    with pytest.raises(JobError, match=message):
        build()


def test_plot_without_matplotlib_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"nqs-vmc\[plots\]"):
        LATTICES["chain"](4).plot()


def test_plot_draws_every_site() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = LATTICES["kagome"](2).plot(shells=(1, 2))
    assert [t.get_text() for t in axes.texts] == [str(i) for i in range(12)]
