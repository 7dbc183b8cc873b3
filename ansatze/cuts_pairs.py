"""Capacity of Boltzmann machines and Jastrow factors: who is connected to whom.

A hidden unit of a Boltzmann machine is an index of dimension 2 that copies, a weight
a 2 x 2 matrix between it and a site (arXiv:1704.01552, arXiv:1701.04831).  The
Schmidt rank is at most the minimal vertex cut, and for independent weights almost
always equal to it: along disjoint paths site - unit - site of Menger's theorem the
other weights may be switched off, and every path then doubles the rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ansatze.cuts import CutCapacity, each, smaller_side, trivial_bounds
from ansatze.index_graph import IndexGraph, site_name
from vmc.base import Capacity


def rbm_capacity(n_sites: int, n_hidden: int, tied: bool) -> CutCapacity:
    """Of a Boltzmann machine with all connections: min(|A|, |B|, M) ln 2.

    Args:
        n_sites: N, spins 1/2.
        n_hidden: M, units "h{j}".
        tied: weights shared by a symmetry: then only the upper bound is proved.
    """
    dims = (2,) * n_sites
    hidden = tuple(f"h{j}" for j in range(n_hidden))

    def one(inside: np.ndarray) -> Capacity:
        size = min(inside.sum(), n_sites - inside.sum())
        cut = hidden if n_hidden < size else smaller_side(inside, dims)
        value = math.log(2) * min(int(size), n_hidden)
        return Capacity(value, value, 0.0 if tied else value, "max-flow", cut)

    return each(dims, one, lambda: rbm_graph(np.ones((n_sites, n_hidden), bool)))


def rbm_graph(connected: np.ndarray) -> IndexGraph:
    """The index graph of a Boltzmann machine with some of the connections.

    Args:
        connected: bool (N, M), the weights that are there.
    """
    n_sites, n_hidden = connected.shape
    physical = tuple(site_name(i) for i in range(n_sites))
    hidden = [f"h{j}" for j in range(n_hidden)]
    tensors = tuple((physical[i], hidden[j]) for i, j in np.argwhere(connected))
    return IndexGraph(dict.fromkeys((*physical, *hidden), 2), tensors, physical)


def jastrow_capacity(
    local_dims: tuple[int, ...], orbits: np.ndarray | None = None
) -> CutCapacity:
    """Of a Jastrow factor with all couplings, exp(sum_ij V_ij sigma_i sigma_j).

    Sites of A with the same couplings to all of B count by their sum alone: k spins
    1/2 give k + 1 values instead of 2^k.  Symmetries that map A and B onto themselves,
    such as reflections, may lower the rank further.

    Args:
        local_dims: d of every site.
        orbits: int (N, N), equal for pairs whose couplings are tied; None if none
            are.  Then the bound is also reached, for equal d: with couplings of
            disjoint pairs alone the matrix of psi is a product of Vandermonde ones.
    """
    dims = np.array(local_dims)

    def side(inside: np.ndarray) -> float:
        rows = np.flatnonzero(inside)
        if orbits is None:
            return math.fsum(np.log(dims[rows]).tolist())
        _, kind = np.unique(orbits[rows][:, ~inside], axis=0, return_inverse=True)
        counts = 1 + np.bincount(kind.reshape(-1), weights=dims[rows] - 1)
        return math.fsum(np.log(counts).tolist())

    def one(inside: np.ndarray) -> Capacity:
        a, b = side(inside), side(~inside)
        chosen = np.flatnonzero(inside if a <= b else ~inside).tolist()
        cut = tuple(site_name(i) for i in chosen if local_dims[i] > 1)
        value = min(a, b)
        lower = value if orbits is None and len({*local_dims}) == 1 else 0.0
        return Capacity(value, value, lower, "max-flow", cut)

    return each(local_dims, one, lambda: pair_graph(local_dims))


def pair_graph(local_dims: Sequence[int]) -> IndexGraph:
    """The index graph of couplings between all pairs of sites."""
    physical = tuple(site_name(i) for i in range(len(local_dims)))
    tensors = tuple((a, b) for n, a in enumerate(physical) for b in physical[:n])
    return IndexGraph(dict(zip(physical, local_dims)), tensors, physical)


def block_capacity(local_dims: Sequence[int], block: np.ndarray) -> CutCapacity:
    """Of a product of functions of disjoint blocks of sites, each of them arbitrary.

    Args:
        local_dims: d of every site.
        block: number of the block of each site, int (N,).
    """
    dims = tuple(local_dims)
    members = [np.flatnonzero(block == b).tolist() for b in np.unique(block)]

    def one(inside: np.ndarray) -> Capacity:
        value, cut = 0.0, []
        for sites in members:
            own, mask = tuple(dims[i] for i in sites), inside[sites]
            value += float(trivial_bounds(mask[None], own)[0])
            cut += [site_name(sites[k]) for k in _numbers(smaller_side(mask, own))]
        return Capacity(value, value, 0.0, "composition", tuple(cut))

    def graph() -> IndexGraph:
        physical = tuple(site_name(i) for i in range(len(dims)))
        tensors = tuple(tuple(site_name(i) for i in sites) for sites in members)
        return IndexGraph(dict(zip(physical, dims)), tensors, physical)

    return each(dims, one, graph)


def _numbers(names: tuple[str, ...]) -> list[int]:
    return [int(name[1:]) for name in names]
