"""Sign gauges: site signs a_i that make a ground state positive.

Writing psi(sigma) = prod_i a_i^[sigma_i = -1] phi(sigma) multiplies the element of a
move by the signs of the sites that it flips.  The Marshall rule is the special case
of a bipartite antiferromagnet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from hamiltonians.facts import TOLERANCE, sign_ranges
from hamiltonians.tables import TermHamiltonian
from vmc.errors import JobError

# Imported where it is used: most jobs need no graph, and it takes 0.2 s to load.
if TYPE_CHECKING:
    import networkx as nx


def find_sign_gauge(ham: TermHamiltonian) -> np.ndarray | None:
    """Site signs that make every allowed off-diagonal element <= 0.

    Solves sum_{i in F} x_i = 1 (mod 2) for every set F of flipped sites whose
    element is positive and 0 where it is negative, with a_i = (-1)^x_i; undetermined
    signs are +1.  Larger spins change by several steps; F is then the set of sites
    that change by an odd number.

    Returns:
        int (N,) of +1 and -1 for `TermHamiltonian.with_signs`; None if the elements
        are complex, the sign of a move depends on the configuration (or on too many
        sites to tell), or the equations contradict each other: site signs cannot
        remove the sign problem.
    """
    if not ham.is_real:
        return None
    n_sites = ham.space.n_sites
    ranges = sign_ranges(ham)
    cut = TOLERANCE * max((r.largest.max(initial=0.0) for r in ranges), default=0.0)
    equations = [np.zeros((0, n_sites + 1), bool)]
    for r in ranges:
        positive, negative = r.high > cut, r.low < -cut
        if (positive & negative).any():
            return None
        lines = np.zeros((len(r.moves), n_sites + 1), bool)
        np.put_along_axis(lines, r.sites.astype(np.int64), True, axis=1)
        lines[:, n_sites] = positive
        equations.append(lines[positive | negative])
    solution = _solve_gf2(np.concatenate(equations), n_sites)
    return None if solution is None else np.where(solution, -1, 1)


def marshall_signs(
    ham: TermHamiltonian, edges: Iterable[tuple[int, int]] | None = None
) -> np.ndarray:
    """The two-sublattice (Marshall) signs: -1 on one sublattice.

    Args:
        ham: its moves that change two sites are the edges of the exchange graph.
        edges: other edges to colour, for instance those of a lattice.

    Returns:
        int (N,) of +1 and -1; the smallest site of each connected part has +1.

    Raises:
        JobError: the graph is not bipartite; the message names an odd cycle.
    """
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(ham.space.n_sites))
    graph.add_edges_from(_exchange_edges(ham) if edges is None else edges)
    if not nx.is_bipartite(graph):
        raise JobError(
            "the Marshall rule needs a bipartite exchange graph, but the sites "
            f"{_odd_cycle(graph)} form a cycle of odd length. Leave marshall on auto."
        )
    signs = np.ones(ham.space.n_sites, np.int64)
    for part in nx.connected_components(graph):
        root = min(part)
        distance = nx.single_source_shortest_path_length(graph, root)
        for site, steps in distance.items():
            signs[site] = 1 - 2 * (steps % 2)
    return signs


def _exchange_edges(ham: TermHamiltonian) -> list[tuple[int, int]]:
    sites = np.asarray(ham.moves.sites)
    used = [[s for s in line if s < ham.space.n_sites] for line in sites.tolist()]
    return [(line[0], line[1]) for line in used if len(line) == 2]


def _odd_cycle(graph: nx.Graph) -> list[int]:
    """Sites of an odd cycle of a graph that is not bipartite."""
    import networkx as nx

    for part in nx.connected_components(graph):
        paths = nx.single_source_shortest_path(graph, min(part))
        for i, j in graph.subgraph(part).edges:
            if len(paths[i]) % 2 == len(paths[j]) % 2:
                shared = 0
                while paths[i][shared : shared + 1] == paths[j][shared : shared + 1]:
                    shared += 1
                return paths[i][shared - 1 :] + paths[j][: shared - 1 : -1]
    return []


def _solve_gf2(equations: np.ndarray, n_unknowns: int) -> np.ndarray | None:
    """One solution of a linear system over GF(2), free unknowns 0.

    Args:
        equations: bool (n, n_unknowns + 1), the right-hand side last.
        n_unknowns: number of columns before it.

    Returns:
        bool (n_unknowns,), or None if there is none.
    """
    width = -(-(n_unknowns + 1) // 64) * 64
    lines = np.zeros((len(equations), width), bool)
    lines[:, : n_unknowns + 1] = equations
    packed = np.packbits(lines, axis=1, bitorder="little").view(np.uint64)
    packed = np.unique(packed, axis=0)
    pivots: list[int] = []
    for column in range(n_unknowns):
        word, bit = divmod(column, 64)
        has = (packed[:, word] >> np.uint64(bit)) & np.uint64(1) == 1
        candidates = np.flatnonzero(has[len(pivots) :])
        if not len(candidates):
            continue
        row, target = len(pivots) + candidates[0], len(pivots)
        packed[[target, row]] = packed[[row, target]]
        has[[target, row]] = has[[row, target]]
        has[target] = False
        packed[has] ^= packed[target]
        pivots.append(column)
    word, bit = divmod(n_unknowns, 64)
    right = (packed[:, word] >> np.uint64(bit)) & np.uint64(1) == 1
    if right[len(pivots) :].any():
        return None
    solution = np.zeros(n_unknowns, bool)
    solution[pivots] = right[: len(pivots)]
    return solution
