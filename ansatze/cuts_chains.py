"""Capacity of chains: matrix product states and recurrent arithmetic circuits.

An open chain is a tree, so that its generic Schmidt rank is the minimal vertex cut of
bonds and physical indices.  Around a ring the cut stays an upper bound, which even
generic matrices may miss (four sites of d = 3 and D = 2, sites 0 and 2: rank 8, cut
9; with one tensor for all sites 3 of 4 at d = D = 2).

A recurrent circuit of depth L copies its hidden states, which no tensor network can.
But psi is homogeneous in the states at step t, of degree D_k = C(T - t + k - 1, k) in
those of layer L - k (D_0 = 1), and so is every later state: its monomials at step t
are the index that a chain has there, with prod_k C(R + D_k - 1, D_k) values.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ansatze.cuts import CutCapacity, each
from ansatze.cuts_dynamic import TreeCuts
from ansatze.cuts_trees import capacity_of_tree
from ansatze.index_graph import IndexGraph, site_name
from vmc.base import Capacity


def mps_capacity(
    local_dims: tuple[int, ...], bond: int, periodic: bool, shared: bool
) -> CutCapacity:
    """Of a matrix product state.

    Args:
        local_dims: d of every site.
        bond: D.  The bond before site i is the index "b{i}".
        periodic: a ring, whose prediction is the cut although loops may fall short
            of it.
        shared: one tensor for all sites: bounds from below are then proved only for
            the first sites of an open chain against the others.
    """
    graph = functools.partial(mps_graph, local_dims, bond, periodic)
    if not periodic:
        tree = capacity_of_tree(graph, local_dims, proved=not shared)
        return _from_start_to_end(tree, bond) if shared else tree
    made = functools.cache(graph)

    def one(inside: np.ndarray) -> Capacity:
        region = np.flatnonzero(inside).tolist()
        cut = made().min_cut(region)
        lower = 0.0
        if not shared:
            rounded = (made().powers(p) for p in range(2, max(local_dims) + 1))
            lower = max((g.min_cut(region).value for g in rounded), default=0.0)
        return Capacity(cut.value, cut.value, lower, "max-flow", cut.names)

    return each(local_dims, one, made)


def mps_graph(local_dims: tuple[int, ...], bond: int, periodic: bool) -> IndexGraph:
    """The index graph of a matrix product state."""
    n = len(local_dims)
    physical = tuple(site_name(i) for i in range(n))
    bonds = [f"b{i}" for i in range(n if periodic else n + 1)]
    dims = dict(zip(physical, local_dims)) | dict.fromkeys(bonds, bond)
    tensors = [
        tuple(dict.fromkeys((bonds[i], physical[i], bonds[(i + 1) % len(bonds)])))
        for i in range(n)
    ]
    return IndexGraph(dims, tuple(tensors), physical)


def rac_capacity(
    local_dims: tuple[int, ...], width: int, depth: int, site_dependent: bool
) -> CutCapacity:
    """Of a recurrent arithmetic circuit.

    Between the first t sites and the others the generic rank is min(R, M^t, M^(N-t))
    for depth 1 and at least C(min(R, M) + N - t - 1, N - t) for depth 2 and t >= N/2
    (arXiv:1710.09431); deeper circuits have only a conjecture.

    Args:
        local_dims: d of every site.
        width: R.  The hidden states after site i are the index "h{i}".
        depth: L.
        site_dependent: weights of its own for every site.
    """
    if depth == 1:
        graph = functools.partial(_rac_graph, local_dims, width)
        tree = capacity_of_tree(graph, local_dims, proved=site_dependent)
        return tree if site_dependent else _from_start_to_end(tree, width)
    made = functools.cache(functools.partial(monomial_graph, local_dims, width, depth))

    @functools.cache
    def cuts() -> TreeCuts:
        return TreeCuts(made(), made().physical[-1])

    def solve(inside: np.ndarray) -> list[Capacity]:
        n = inside.shape[1]
        out = []
        for row, cut in zip(inside, cuts().cuts(inside)):
            left, q = n - _first_sites(row), min(width, *local_dims)
            lower = 0.0
            if depth == 2 and n > left and 2 * left <= n and len({*local_dims}) == 1:
                lower = math.log(math.comb(q + left - 1, left))
            out.append(Capacity(cut.value, cut.value, lower, "monomials", cut.names))
        return out

    return CutCapacity(tuple(local_dims), solve, made)


def monomial_graph(local_dims: tuple[int, ...], width: int, depth: int) -> IndexGraph:
    """The chain of monomials of a deep recurrent circuit, see the module's docstring.

    Index "h{i}" joins site i to site i + 1.
    """
    n = len(local_dims)
    physical = tuple(site_name(i) for i in range(n))
    dims, tensors = dict(zip(physical, local_dims)), []
    for i in range(n):
        if i < n - 1:
            degrees = [math.comb(n - i - 2 + k, k) if k else 1 for k in range(depth)]
            counts = (math.comb(width + d - 1, d) for d in degrees)
            dims[f"h{i}"] = math.prod(counts)
        around = (f"h{i - 1}" if i > 0 else "", f"h{i}" if i < n - 1 else "")
        tensors.append((around[0], physical[i], around[1]))
    kept = tuple(tuple(name for name in names if name) for names in tensors)
    return IndexGraph(dims, kept, physical)


def _rac_graph(local_dims: tuple[int, ...], width: int) -> IndexGraph:
    n = len(local_dims)
    physical = tuple(site_name(i) for i in range(n))
    hidden = [f"h{i}" for i in range(n)]
    dims = dict(zip(physical, local_dims)) | dict.fromkeys(hidden, width)
    tensors = [*zip(physical, hidden), *zip(hidden, hidden[1:])]
    return IndexGraph(dims, tuple(tensors), physical)


def _from_start_to_end(tree: CutCapacity, bond: int) -> CutCapacity:
    """With the lower bound of shared weights between the first sites and the rest."""
    dims = tree.local_dims

    def solve(inside: np.ndarray) -> list[Capacity]:
        out = []
        for row, found in zip(inside, tree.solve(inside)):
            first = _first_sites(row)
            if first:
                sides = math.prod(dims[:first]), math.prod(dims[first:])
                found = found._replace(ln_lower=math.log(min(bond, *sides)))
            out.append(found)
        return out

    return CutCapacity(dims, solve, tree.graph)


def _first_sites(inside: np.ndarray) -> int:
    """How many sites stand before the only change between A and B; 0 if it is not."""
    changes = np.flatnonzero(inside[1:] != inside[:-1])
    return int(changes[0]) + 1 if len(changes) == 1 else 0
