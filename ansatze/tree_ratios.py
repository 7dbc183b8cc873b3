"""Ratios psi(moved) / psi of a tree, for whole tables of moves.

The sweep down stops at the blocks of sites that have a table (see
`ansatze.tree_tables`); single sites where there is none.  With the environment g of a
block, psi with the block in the state s is <g, table[s]>: one look-up and c products
for any change inside one block, one or more sites alike.  A change of several blocks
looks their vectors up and recomputes the nodes between them and their lowest common
ancestor, then closes with its environment.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.merges import dots
from ansatze.scaled import log_quotient
from ansatze.tree_tables import Table, states, table_depth, tables
from ansatze.trees import Tree, TreeCache, first_of_each
from vmc.base import Moves, Params
from vmc.chunking import chunk_size, default_budget, map_chunks


class Walkers(NamedTuple):
    """What all moves share.

    Attributes:
        params: parameters.
        cache: of the walkers.
        depth: level that has the blocks as inputs.
        table: of the blocks.
        sigma: (B, N).
        state: of the blocks, int (n, B).
        g: `Tree.environments`, from the blocks' level on.
        opened: likewise.
    """

    params: Params
    cache: TreeCache
    depth: int
    table: Table
    sigma: Array
    state: Array
    g: list[Array]
    opened: list[Array]


class Changes(NamedTuple):
    """What moves do to blocks; of equal blocks of one move, all entries are equal.

    Attributes:
        blocks: int (K, k).
        state: their states after the move, int (K, k, B).
        scale: change of the logarithms of the norms inside them, real (K, B).
    """

    blocks: Array
    state: Array
    scale: Array


def log_ratios(
    tree: Tree,
    params: Params,
    cache: TreeCache,
    sigma: Array,
    moves: Moves,
    wanted: Array | None = None,
) -> Array:
    """Log psi(moved) - log psi, complex (K, B); of all moves together."""
    sigma = jnp.asarray(sigma)
    depth = table_depth(tree, sigma.shape[0])
    table = tables(tree, params, depth)[-1]
    state = states(tree, tree.indices(sigma), table.span)
    g, opened = tree.environments(params, cache, depth)
    walkers = Walkers(params, cache, depth, table, sigma, state, g, opened)
    sites, shift = jnp.asarray(moves.sites), jnp.asarray(moves.shift)
    new, blocks, scale = within_blocks(tree, walkers, sites, shift)
    old = dots(g[0], cache.x[depth][: len(g[0])])[blocks[:, 0]]
    if sites.shape[1] > 1 and len(sites) > 0:
        top = common_level(tree, blocks, depth)
        new, old = between_blocks(tree, walkers, sites, shift, top, (new, old))
    # From zero to zero no scale matters.
    dead = (new == 0) & (old == 0)
    log = log_quotient(new, old)
    return log + jnp.where(dead, jnp.zeros_like(scale), scale).astype(log.dtype)


def block_changes(tree: Tree, walkers: Walkers, sites: Array, shift: Array) -> Changes:
    """The moves (K, k) of sites as changes of blocks."""
    table, sigma = walkers.table, walkers.sigma
    sites, new = tree.changes(sigma, sites, shift)
    blocks, digit = sites // table.span, sites % table.span
    strides = jnp.asarray(tree.n_states ** np.arange(table.span), jnp.int32)
    step = (new - tree.indices(sigma)[sites]) * strides[digit][..., None]
    before = walkers.state[blocks]
    if sites.shape[1] > 1:
        # Steps of all different sites of the same block.
        same = (blocks[:, :, None] == blocks[:, None]) & first_of_each(sites)[:, None]
        step = jnp.sum(jnp.where(same[..., None], step[:, None], 0), axis=2)
    after = before + step
    nodes = blocks[..., None]
    scale = table.scales(nodes, after) - table.scales(nodes, before)
    if sites.shape[1] > 1:
        scale = jnp.where(first_of_each(blocks)[..., None], scale, 0)
    return Changes(blocks, after, jnp.sum(scale, axis=1))


def common_level(tree: Tree, nodes: Array, lowest: int) -> Array:
    """Level of the merge that unites the nodes of each change: int (K,).

    Args:
        tree: the tree.
        nodes: inputs of the level ``lowest``, int (K, k).
        lowest: also what is returned, less one, where they are one node.
    """
    level = jnp.full(nodes.shape[:1], lowest - 1, jnp.int32)
    for number, merge in enumerate(tree.levels[lowest:], lowest):
        apart = jnp.any(nodes != nodes[:, :1], axis=1)
        level = jnp.where(apart, number, level)
        nodes = nodes // merge.window
    return level


def within_blocks(
    tree: Tree, walkers: Walkers, sites: Array, shift: Array
) -> tuple[Array, Array, Array]:
    """psi after moves inside one block, (K, B), and `Changes.blocks` and ``.scale``."""
    g = walkers.g[0]

    def some(part: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        changes = block_changes(tree, walkers, *part)
        block, state = changes.blocks[:, 0], changes.state[:, 0]
        x = jnp.swapaxes(walkers.table.rows(block[:, None], state), 1, 2)
        return dots(x, g, block), changes.blocks, changes.scale

    # A loop over chunks that fit the second cache of a CPU.  It also keeps XLA from
    # building the tables anew at every look-up.
    n_bytes = 2 * g.shape[1] * g.shape[2] * g.dtype.itemsize
    chunk = chunk_size(len(sites), n_bytes, default_budget() // 64)
    return map_chunks(some, (sites, shift), chunk)


def between_blocks(
    tree: Tree,
    walkers: Walkers,
    sites: Array,
    shift: Array,
    top: Array,
    psi: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Overwrite psi after and before the moves of more than one block.

    Sorted by their common ancestor, so that a chunk of moves recomputes only what is
    below the highest of its ancestors; moves inside blocks come last and stay.
    """
    depth, n_moves = walkers.depth, len(sites)
    order = jnp.argsort(-top)
    width = max(m.c_in for m in tree.levels) ** 2 * sites.shape[1] * psi[0].shape[1]
    chunk = chunk_size(n_moves, width * tree.dtype.itemsize, default_budget() // 8)
    # Many chunks, so that few of them hold moves of different levels.
    chunk = min(chunk, max(1, n_moves // 32))
    overlaps = [
        dots(g, tree.output(walkers.cache, level))
        for level, g in enumerate(walkers.g[1:], depth)
    ]
    branches = [
        lambda changes, level=level: close(
            tree, walkers, overlaps[level - depth], level, changes
        )
        for level in range(depth, len(tree.levels))
    ]

    def some(i: Array, psi: tuple[Array, Array]) -> tuple[Array, Array]:
        start = jnp.minimum(i * chunk, n_moves - chunk)
        rows = lax.dynamic_slice_in_dim(order, start, chunk)
        changes = block_changes(tree, walkers, sites[rows], shift[rows])
        new, old = lax.switch(jnp.max(top[rows]) - depth, branches, changes)
        return psi[0].at[rows].set(new), psi[1].at[rows].set(old)

    n_chunks = (jnp.sum(top >= depth) + chunk - 1) // chunk
    return lax.fori_loop(0, n_chunks, some, psi)


def close(
    tree: Tree, walkers: Walkers, overlap: Array, level: int, changes: Changes
) -> tuple[Array, Array]:
    """psi after and before moves whose blocks meet at some level or below.

    Args:
        tree: the tree.
        walkers: of which psi is wanted.
        overlap: <g, y> of the results of the level, (n_out, B).
        level: where all changed nodes have one parent.
        changes: the moves.
    """
    params, cache, nodes = walkers.params, walkers.cache, changes.blocks
    x = jnp.swapaxes(walkers.table.rows(nodes[..., None], changes.state), 2, 3)
    for below in range(walkers.depth, level):
        x = tree.merged(params, cache, below, nodes, x)
        nodes = nodes // tree.levels[below].window
        x = x / cache.norms[below][nodes][:, :, None]
    merge = tree.levels[level]
    parent = nodes[:, :1] // merge.window
    kids = tree.changed(cache, level, nodes, x, parent)
    opened = walkers.opened[level - walkers.depth][parent[:, 0]]
    return merge.close(opened, kids), overlap[parent[:, 0]]
