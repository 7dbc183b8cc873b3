"""Deep convolutional arithmetic circuit: a tree of 1 x 1 convolutions and products.

Level by level, every node's vector goes through a matrix (a 1 x 1 convolution) and the
vectors of a window are multiplied elementwise (product pooling), until one is left:

y^l_j = W^{l,j} x^l_j,   x^{l+1}_j = prod_{c in window j} y^l_c,   psi = <a, x^L>,

with x^0_i one-hot in the state of site i (arXiv:1704.01552; hierarchical Tucker
format).  The Schmidt rank across any cut is, for generic weights, the minimal vertex
cut of the tree, whose nodes weigh ln r_l.

Sharing: "window" (a matrix per place inside the window, the default) and "none" (a
matrix per node) reach that rank; "full" (one matrix per level, the literal 1 x 1
convolution) makes psi symmetric under exchanging the children of any window, so that
it cannot hold even one singlet, psi(ud) = -psi(du).
"""

from __future__ import annotations

from collections.abc import Sequence

from ansatze.merges import Product
from ansatze.reordered import leaf_order
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

#: Channels of every level if a job names none.
DEFAULT_CHANNELS = 8
WINDOWS = (2, 4, 9)
SHARING = ("window", "none", "full")


def convac(
    problem: Problem,
    *,
    channels: int | Sequence[int] | None = None,
    window: int = 2,
    sharing: str = "window",
    origin: int | Sequence[int] = 0,
    site_order: Sequence[int] | None = None,
) -> WaveFunction:
    """Convolutional arithmetic circuit.

    Parameters: "W0", "W1", ..., of shape (matrices, channels out, channels in), and
    "a" (channels,).  A window that lacks children (N no power of the window) misses
    their factors.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.  For dtype "real" the
            weights are real and psi has signs.
        channels: r_0, r_1, ... from the leaves to the root, one for each of the
            ceil(log_window N) levels, or one number for all; by default 8.
        window: children per node: 2; 4 (2 x 2 in two dimensions); 9 (3 x 3).
        sharing: "window", "none" or "full", see the module's docstring.
        origin: cell where the first window begins, one number or one per direction.
            A sum or product of circuits of different origins spans all bonds alike.
        site_order: site at each leaf, instead of the lattice's own order; what the
            state entangles most belongs into one window.

    Raises:
        JobError: a key does not fit, or a symmetry is asked for.
    """
    refuse_symmetry(problem, "convac")
    tree = convac_tree(problem, channels, window, sharing, origin, site_order)
    return tree_wavefunction(tree, problem)


def convac_tree(
    problem: Problem,
    channels: int | Sequence[int] | None = None,
    window: int = 2,
    sharing: str = "window",
    origin: int | Sequence[int] = 0,
    site_order: Sequence[int] | None = None,
) -> Tree:
    """The static part of `convac`; same arguments."""
    if window not in WINDOWS:
        raise JobError(f"window is {window}; it is one of {WINDOWS}")
    check_sharing(sharing, SHARING)
    sizes = level_sizes(problem.space.n_sites, window)
    ranks = _channels(channels, len(sizes), problem.space.n_sites, window)
    periods = {
        "none": sizes,
        "window": [min(window, n) for n in sizes],
        "full": [1] * len(sizes),
    }[sharing]
    levels = []
    for i, n in enumerate(sizes):
        if i + 1 < len(sizes):
            above = (ranks[i + 1], f"W{i + 1}", periods[i + 1])
        else:
            above = (1, "a", 1)
        levels.append(Product(window, n, ranks[i], *above))
    order = leaf_order(problem, window, origin, site_order)
    return tree_of(problem, order, levels, leaf_name="W0", leaf_period=periods[0])


def _channels(
    channels: int | Sequence[int] | None, n_levels: int, n_sites: int, window: int
) -> list[int]:
    """One positive number of channels per level."""
    if channels is None:
        channels = DEFAULT_CHANNELS
    ranks = [channels] * n_levels if isinstance(channels, int) else list(channels)
    if len(ranks) != n_levels:
        raise JobError(
            f"channels = {ranks} has {len(ranks)} levels, but {n_sites} sites in "
            f"windows of {window} make {n_levels}. Give {n_levels} numbers from the "
            "leaves to the root, or one for all."
        )
    if any(not isinstance(r, int) or isinstance(r, bool) or r < 1 for r in ranks):
        raise JobError(f"channels = {ranks}; they are positive integers")
    return ranks
