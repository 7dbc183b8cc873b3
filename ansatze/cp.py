"""Canonical polyadic form: a sum of product states, or shallow arithmetic circuit.

psi(s) = sum_{z < Z} a_z prod_i A^i_{z, s_i}: one convolution, one global product
(arXiv:1704.01552).  The Schmidt rank of every cut is at most Z, so that depth, not
width, buys entanglement.  The product over the sites is taken pair by pair, along a
binary tree, so that one flip costs O(Z log N) without ever dividing by a factor.
"""

from __future__ import annotations

import numpy as np

from ansatze.merges import Product
from ansatze.tree_family import (
    check_sharing,
    refuse_symmetry,
    tree_of,
    tree_wavefunction,
)
from ansatze.tree_order import level_sizes
from ansatze.trees import Tree
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError

#: Terms if a job names no number.
DEFAULT_RANK = 16
SHARING = ("none", "full")


def cp(
    problem: Problem, *, rank: int | None = None, sharing: str = "none"
) -> WaveFunction:
    """Sum of product states.

    Parameters: "A" (N, rank, M) and "a" (rank,).  With sharing "full", A is
    (1, rank, M), the same on all sites, and psi does not see the order of the sites.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.  For dtype "real" the
            weights are real and psi has signs.
        rank: Z, the number of terms, by default 16.
        sharing: "none" or "full".

    Raises:
        JobError: a key does not fit, or a symmetry is asked for.
    """
    refuse_symmetry(problem, "cp")
    return tree_wavefunction(cp_tree(problem, rank, sharing), problem)


def cp_tree(problem: Problem, rank: int | None = None, sharing: str = "none") -> Tree:
    """The static part of `cp`; same arguments."""
    rank = DEFAULT_RANK if rank is None else rank
    if rank < 1:
        raise JobError(f"rank is {rank}; it is a positive integer")
    check_sharing(sharing, SHARING)
    n_sites = problem.space.n_sites
    sizes = level_sizes(n_sites, 2)
    levels = [Product(2, n, rank, rank, None) for n in sizes[:-1]]
    levels.append(Product(2, sizes[-1], rank, 1, "a"))
    period = n_sites if sharing == "none" else 1
    order = np.arange(n_sites)
    return tree_of(problem, order, levels, leaf_name="A", leaf_period=period)
