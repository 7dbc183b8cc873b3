"""The tree that fits a state: which sites to put into one block.

Every bond of a tree has to carry the entropy of the block below it, so that the best
tree pairs what is most entangled.  Level by level the blocks are paired so that the
entropies of the pairs are least in total; the first pairs are chosen by the mutual
information of two sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np

from vmc import registry
from vmc.design_cuts import Region, tree_blocks
from vmc.errors import JobError
from vmc.space import Spins

#: Preference for neighbouring blocks among equally good pairings, in nats.
_TIE = 1e-7


class Geometry(NamedTuple):
    """A binary tree over the sites.

    Attributes:
        order: site at each leaf.
        cost: sum of S1 over the blocks of 2, 4, ... leaves, each cut once.
        contiguous_cost: the same for the order of the sites (or of the lattice).
        pairs: the blocks of every level, from two sites up.
        entropies: S1 of the blocks of ``pairs``.
    """

    order: tuple[int, ...]
    cost: float
    contiguous_cost: float
    pairs: tuple[tuple[Region, ...], ...]
    entropies: tuple[tuple[float, ...], ...]


class _Entropies:
    """S1 of regions of one state, each computed once."""

    def __init__(self, space: Spins, vector: np.ndarray) -> None:
        self._space, self._vector = space, vector
        self._known: dict[Region, float] = {}

    def __call__(self, region: Region) -> float:
        n = self._space.n_sites
        if len(region) in (0, n):
            return 0.0
        inside = set(region)
        rest = tuple(i for i in range(n) if i not in inside)
        key = min(region, rest) if len(region) == len(rest) else region
        key = rest if len(rest) < len(key) else key
        if key not in self._known:
            cut = registry.entanglement(self._space, self._vector, key)
            self._known[key] = cut.s1
        return self._known[key]


def mutual_information(space: Spins, vector: np.ndarray) -> np.ndarray:
    """I(i, j) = S(i) + S(j) - S(ij) of all pairs of sites, nats, (N, N).

    Args:
        space: the configurations.
        vector: (n_states,), normalised.
    """
    entropy, n = _Entropies(space, vector), space.n_sites
    information = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            both = entropy((i,)) + entropy((j,)) - entropy((j, i))
            information[i, j] = information[j, i] = both
    return information


def best_tree(
    space: Spins, vector: np.ndarray, order: Sequence[int] | None = None
) -> Geometry:
    """A binary tree of small block entropies, by pairing blocks level by level.

    Args:
        space: the configurations; N is a power of two, so that all blocks have a
            partner.
        vector: (n_states,), normalised.
        order: the order to compare with; default 0 ... N-1.

    Raises:
        JobError: N is no power of two.
    """
    n = space.n_sites
    if n < 2 or n & (n - 1):
        raise JobError(
            f"the best binary tree is searched for 2, 4, 8, 16 ... sites, not {n}"
        )
    entropy = _Entropies(space, vector)
    information = mutual_information(space, vector)
    given = list(range(n)) if order is None else [int(i) for i in order]
    blocks: list[tuple[int, ...]] = [(i,) for i in given]
    pairs, levels = [], []
    while len(blocks) > 2:
        size = len(blocks)
        graph = nx.Graph()
        for a in range(size):
            for b in range(a + 1, size):
                if len(blocks[a]) == 1:
                    gain = float(information[blocks[a][0], blocks[b][0]])
                else:
                    gain = -entropy(tuple(sorted(blocks[a] + blocks[b])))
                # Among equals, the pairs that the given order makes.
                odd = abs(b - a - 1) + (a % 2)
                graph.add_edge(a, b, weight=gain - _TIE * min(odd, size))
        matching = nx.max_weight_matching(graph, maxcardinality=True)
        joined = sorted(tuple(sorted(pair)) for pair in matching)
        blocks = [blocks[a] + blocks[b] for a, b in joined]
        pairs.append(tuple(tuple(sorted(block)) for block in blocks))
        levels.append(tuple(entropy(tuple(sorted(block))) for block in blocks))
    leaves = tuple(i for block in blocks for i in block)
    return Geometry(
        order=leaves,
        cost=tree_cost(entropy, leaves),
        contiguous_cost=tree_cost(entropy, given),
        pairs=tuple(pairs),
        entropies=tuple(levels),
    )


def tree_cost(entropy: _Entropies, order: Sequence[int]) -> float:
    """Sum of S1 over the blocks of two and more leaves, two halves counted once."""
    total = 0.0
    for blocks in tree_blocks(order, 2)[1:]:
        kept = blocks[:1] if len(blocks) == 2 else blocks
        total += sum(entropy(block) for block in kept)
    return total
