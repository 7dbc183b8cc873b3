"""Tables of the lowest levels of a tree.

A node above few sites has few different vectors: 16 above four spins 1/2, 256 above
eight, however many walkers there are.  They are computed once per call, for all
combinations of the children's states at a time, and looked up for every walker.  Most
nodes of a tree are that low: a look-up replaces most of a sweep.

A table costs about as much as one sweep of some fraction of its states through its
level, so it ends where these outnumber the walkers by more than two.  A few chains of
a sampler, and single moves, have little use for one.

`Tree.log_psi` does not look up: it is what is differentiated.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.merges import select
from ansatze.scaled import largest
from ansatze.trees import Tree, TreeCache
from vmc.base import Params

#: States of a node in the largest table, whatever the number of walkers.
MOST_STATES = 512

#: States per walker in the largest table.
STATES_PER_WALKER = 2


@dataclasses.dataclass(frozen=True)
class Table:
    """The inputs of one level, for every state of the sites below them.

    The state of a node is sum_i s_i M^i over the sites below it, from the left, with
    M the largest local dimension; absent sites have s_i = 0.

    Attributes:
        span: sites below a node.
        x: normalised vectors, with absent children, (n_out P, S, c).
        norm: what they were divided by, real (n_out P, S); 1 on level 0.
        scale: the logarithms of these and of all norms below, real (n_out P, S).
    """

    span: int
    x: Array
    norm: Array
    scale: Array

    def rows(self, nodes: Array, index: Array) -> Array:
        """Vectors (..., c) of nodes in the states ``index``, both int (...)."""
        return self._look_up(self.x.reshape(-1, self.x.shape[2]), nodes, index)

    def norms(self, nodes: Array, index: Array) -> Array:
        """Their norms, (...)."""
        return self._look_up(self.norm.reshape(-1), nodes, index)

    def scales(self, nodes: Array, index: Array) -> Array:
        """The logarithms of all norms inside them, (...)."""
        return self._look_up(self.scale.reshape(-1), nodes, index)

    def _look_up(self, flat: Array, nodes: Array, index: Array) -> Array:
        row = nodes.astype(jnp.int32) * self.x.shape[1] + index.astype(jnp.int32)
        return flat.at[row].get(mode="promise_in_bounds")


def table_depth(tree: Tree, n_batch: int) -> int:
    """The highest level, below the root's, whose inputs are worth tables."""
    limit = min(MOST_STATES, STATES_PER_WALKER * n_batch)
    depth, span = 0, 1
    for merge in tree.levels[:-1]:
        span *= merge.window
        if tree.n_states**span > limit:
            break
        depth += 1
    return depth


def tables(tree: Tree, params: Params, depth: int) -> list[Table]:
    """Tables of the inputs of levels 0, ..., depth."""
    x = tree.with_absent(0, tree.table(params))
    one = jnp.ones((len(x), x.shape[2]), tree.real)
    out = [Table(1, jnp.swapaxes(x, 1, 2), one, jnp.zeros_like(one))]
    for level, merge in enumerate(tree.levels[:depth]):
        w = merge.weights(params, np.arange(merge.n_out))
        x = merge.table(w, tree.windows(level, x))
        norm = largest(x, axis=1)
        x = tree.with_absent(level + 1, x / norm)
        below = out[-1].scale.reshape(merge.n_out, merge.window, -1)
        scale = jnp.log(norm[:, 0]) + _sums(below)
        missing = ((0, len(x) - merge.n_out), (0, 0))
        norm = jnp.pad(norm[:, 0], missing, constant_values=1)
        scale = jnp.pad(scale, missing)
        span = out[-1].span * merge.window
        out.append(Table(span, jnp.swapaxes(x, 1, 2), norm, scale))
    return out


def _sums(parts: Array) -> Array:
    """Sums of numbers (n, P, S) of the children for all their states: (n, S^P)."""
    out = parts[:, 0]
    for p in range(1, parts.shape[1]):
        out = parts[:, p, :, None] + out[:, None]
        out = out.reshape(len(out), -1)
    return out


def states(tree: Tree, index: Array, span: int) -> Array:
    """States (n, B) of the nodes above ``span`` sites each, from local (N, B)."""
    missing = -tree.n_sites % span
    digits = jnp.pad(index, ((0, missing), (0, 0))).reshape(-1, span, index.shape[1])
    strides = jnp.asarray(tree.n_states ** np.arange(span), jnp.int32)
    return jnp.sum(digits * strides[None, :, None], axis=1)


def cache(tree: Tree, params: Params, sigma: Array) -> TreeCache:
    """`Tree.cache`, its lowest levels looked up: the same numbers up to rounding."""
    sigma = jnp.asarray(sigma)
    index = tree.indices(sigma)
    depth = table_depth(tree, sigma.shape[0])
    inputs, norms = [], []
    x = select(tree.table(params)[..., None], index[:, None])
    for level, table in enumerate(tables(tree, params, depth)[1:]):
        inputs.append(tree.with_absent(level, x))
        state = states(tree, index, table.span)
        nodes = jnp.arange(len(state), dtype=jnp.int32)[:, None]
        x = jnp.swapaxes(table.rows(nodes, state), 1, 2)
        norms.append(table.norms(nodes, state))
    return tree.sweep(params, inputs, norms, x)
