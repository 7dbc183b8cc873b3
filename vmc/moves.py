"""Move tables: what a sampler may propose, in the form shared with Hamiltonians."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vmc.base import Move, Moves
from vmc.errors import JobError
from vmc.space import Spins


def local_flips(space: Spins) -> Moves:
    """Every change of one site: K = sum_i (d_i - 1), which is N for spins 1/2.

    Raises:
        JobError: the space is a sector, which single flips leave.
    """
    if space.total_sz is not None or space.charges:
        raise JobError(
            f"local flips leave the sector ({space.label}). Use sampler "
            '"auto", or total_sz = "free" and no charges.'
        )
    rows = [(i, q) for i, d in enumerate(space.local_dims) for q in range(1, d)]
    table = np.array(rows, np.int32).reshape(-1, 2)
    return Moves(table[:, :1], table[:, 1:].astype(np.int8))


def exchanges(space: Spins, edges: np.ndarray) -> Moves:
    """Moves of one unit of m between the two sites of an edge.

    For spins 1/2 that is the exchange of antiparallel spins.  For larger spins
    both directions are listed; either conserves total Sz.

    Args:
        space: the configurations.
        edges: int (E, 2), pairs of sites.

    Raises:
        JobError: there is no edge, or one names a site outside the space.
    """
    edges = np.asarray(edges, np.int32).reshape(-1, 2)
    if len(edges) == 0:
        raise JobError(
            "exchange moves need pairs of sites, but neither the lattice nor the "
            'terms give one. Name a [lattice] with bonds, or use sampler "local".'
        )
    outside = edges[(edges < 0) | (edges >= space.n_sites)]
    if outside.size:
        raise JobError(
            f"an exchange names site {outside[0]}, but the space has sites "
            f"0 to {space.n_sites - 1}"
        )
    if space.is_spin_half:
        return Moves(edges, np.ones(edges.shape, np.int8), exchange=True)
    # Index = (d - 1 - value) / 2: shift +1 lowers m, shift d - 1 raises it.
    dims = np.asarray(space.local_dims, np.int32)[edges]
    down_up = np.stack([np.ones(len(edges), np.int32), dims[:, 1] - 1], axis=1)
    up_down = np.stack([dims[:, 0] - 1, np.ones(len(edges), np.int32)], axis=1)
    return Moves(
        np.concatenate([edges, edges]),
        np.concatenate([down_up, up_down]).astype(np.int8),
    )


def join(first: Moves, second: Moves, space: Spins) -> Moves:
    """Both tables, without repetitions, in sorted order."""
    width = max(first.sites.shape[1], second.sites.shape[1])

    def rows(moves: Moves) -> list[tuple[tuple[int, int], ...]]:
        table = zip(np.asarray(moves.sites).tolist(), np.asarray(moves.shift).tolist())
        pairs = [
            sorted(p for p in zip(*row, strict=True) if p[0] < space.n_sites)
            for row in table
        ]
        return [tuple(p + [(space.n_sites, 0)] * (width - len(p))) for p in pairs]

    table = np.array(sorted({*rows(first), *rows(second)}), np.int64)
    table = table.reshape(-1, width, 2)
    same = first.exchange and second.exchange
    return Moves(table[..., 0].astype(np.int32), table[..., 1].astype(np.int8), same)


def inverse(move: Move, local_dims: tuple[int, ...]) -> Move:
    """The move that takes ``move`` back: shifts d - shift."""
    dims = jnp.asarray((*local_dims, 1), jnp.int32)[move.sites]
    shift = jnp.mod(-move.shift.astype(jnp.int32), dims)
    return dataclasses.replace(move, shift=shift.astype(move.shift.dtype))


def reachable(space: Spins, moves: Moves) -> tuple[int, int]:
    """Sizes of the largest class that the moves connect, and of the whole space.

    By enumeration: for small N.  They are equal if the move set is ergodic.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    states = space.all_states()
    n = len(states)
    base = np.cumprod([1, *space.local_dims[::-1]])[::-1][1:].astype(np.int64)
    dims = np.asarray(space.local_dims, np.int64)
    index = (dims - 1 - states) // 2
    codes = index @ base
    order = np.argsort(codes)
    links = []
    for sites, shift in zip(np.asarray(moves.sites), np.asarray(moves.shift)):
        new = index.copy()
        for site, q in zip(sites, shift):
            if site < space.n_sites:
                new[:, site] = (new[:, site] + q) % dims[site]
        target = new @ base
        place = np.minimum(np.searchsorted(codes, target, sorter=order), n - 1)
        found = order[place]
        ok = codes[found] == target
        links.append(np.stack([np.flatnonzero(ok), found[ok]]))
    pairs = np.concatenate(links, axis=1) if links else np.zeros((2, 0), np.int64)
    graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    return int(np.bincount(labels).max()), n


def apply_move(
    sigma_t: Array, move: Move, accept: Array, local_dims: tuple[int, ...]
) -> Array:
    """Make a move where it is accepted.

    Args:
        sigma_t: int8 (N, B), configurations with walkers trailing.
        move: the move, the same for every walker.
        accept: bool (B,).
        local_dims: d of every site.

    Returns:
        int8 (N, B).
    """
    n_sites = len(local_dims)
    for c in range(move.sites.shape[0]):
        site = move.sites[c]
        inside = site < n_sites
        row = jnp.minimum(site, n_sites - 1)
        old = jax.lax.dynamic_index_in_dim(sigma_t, row, 0, keepdims=False)
        if max(local_dims) == 2:
            new = -old
        else:
            dim = jnp.asarray(local_dims, jnp.int32)[row]
            index = (dim - 1 - old.astype(jnp.int32)) // 2
            index = jnp.mod(index + move.shift[c].astype(jnp.int32), dim)
            new = (dim - 1 - 2 * index).astype(sigma_t.dtype)
        row_value = jnp.where(accept & inside, new, old)
        sigma_t = jax.lax.dynamic_update_index_in_dim(sigma_t, row_value, row, 0)
    return sigma_t
