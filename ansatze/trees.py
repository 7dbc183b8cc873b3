"""Trees: wave functions that are multilinear in one vector per site.

A leaf table maps the local state of each site to a vector; levels of merges (see
`ansatze.merges`) combine windows of neighbours until one number is left, psi.  All
vectors are kept at max |v| = 1 and the logarithms of the norms apart, so that any
number of sites can be held.

What follows from multilinearity:

* all single-site changes from one sweep up (the cache) and one down: psi with s_i
  replaced by t is <g_i, table_i[:, t]>, with the environment g_i;
* changes of several sites: only nodes below their lowest common ancestor are
  recomputed, then closed with its environment;
* inside Metropolis only the path to the root is recomputed, O(log N);
* scores are outer products of environments and children.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.merges import Merge, matrix_scores, normalised, select
from ansatze.scaled import largest, log_amplitude, log_quotient
from vmc.base import Move, Params, ScoreFactors


class TreeCache(NamedTuple):
    """Every node of every walker.

    Attributes:
        x: inputs of the merges of each level, with absent children, normalised,
            (n_out P, c, B).
        norms: what the results of each merge but the last were divided by,
            real (n_out, B).
        value: result of the last merge, (B,).
    """

    x: tuple[Array, ...]
    norms: tuple[Array, ...]
    value: Array


class TreePending(NamedTuple):
    """The recomputed paths of k changed leaves.

    Attributes:
        nodes: their nodes on each level, int (k,).
        x: their vectors, (k, c, B).
        norms: their norms, on levels above the leaves, (k, B).
        value: new result of the last merge, (B,).
    """

    nodes: tuple[Array, ...]
    x: tuple[Array, ...]
    norms: tuple[Array, ...]
    value: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """Everything static about one tree, and its functions.

    Attributes:
        order: site at each leaf position, int (N,).
        local_dims: d of each site.
        real: dtype of real numbers.
        is_complex: whether parameters are complex.
        leaf_name: key of the leaf table (period, c, M) among the parameters; None
            for the identity, c = M.
        leaf_period: number of different tables; position p has p mod leaf_period.
        levels: the merges, from the leaves to the root, which has c_out = 1.
    """

    order: np.ndarray
    local_dims: tuple[int, ...]
    real: np.dtype
    is_complex: bool
    leaf_name: str | None
    leaf_period: int
    levels: tuple[Merge, ...]

    @property
    def n_sites(self) -> int:
        """N."""
        return len(self.order)

    @property
    def n_states(self) -> int:
        """M, the largest local dimension."""
        return max(self.local_dims)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of parameters and vectors."""
        return np.result_type(self.real, np.complex64) if self.is_complex else self.real

    def position(self) -> np.ndarray:
        """Leaf position of each site, int (N,)."""
        return np.argsort(self.order)

    def table(self, params: Params) -> Array:
        """Leaf vectors of each position and local state, (N, c, M)."""
        if self.leaf_name is None:
            eye = jnp.eye(self.n_states, dtype=self.dtype)
            return jnp.broadcast_to(eye, (self.n_sites, *eye.shape))
        return params[self.leaf_name][np.arange(self.n_sites) % self.leaf_period]

    def indices(self, sigma: Array) -> Array:
        """Local index of each position: int32 (N, B)."""
        dims = np.asarray(self.local_dims, np.int32)[self.order][:, None]
        return (jnp.asarray(dims) - 1 - sigma.T[self.order].astype(jnp.int32)) // 2

    def with_absent(self, level: int, x: Array) -> Array:
        """Children (n_in, c, B) followed by the absent ones."""
        merge = self.levels[level]
        missing = merge.n_out * merge.window - merge.n_in
        if missing == 0:
            return x
        pad = jnp.asarray(merge.pad(), x.dtype)[None, :, None]
        return jnp.concatenate([x, jnp.broadcast_to(pad, (missing, *x.shape[1:]))])

    def windows(self, level: int, x: Array) -> Array:
        """(n_out P, c, B) as (n_out, P, c, B)."""
        return x.reshape(-1, self.levels[level].window, *x.shape[1:])

    def cache(self, params: Params, sigma: Array) -> TreeCache:
        """One sweep up."""
        sigma = jnp.asarray(sigma)
        x = select(self.table(params)[..., None], self.indices(sigma)[:, None])
        return self.sweep(params, [], [], x)

    def sweep(
        self, params: Params, inputs: list[Array], norms: list[Array], x: Array
    ) -> TreeCache:
        """The rest of a sweep up.

        Args:
            params: parameters.
            inputs: `TreeCache.x` of the levels below some level.
            norms: `TreeCache.norms` of them.
            x: existing inputs of that level, (n_in, c, B).
        """
        inputs, norms = list(inputs), list(norms)
        for level in range(len(inputs), len(self.levels)):
            merge = self.levels[level]
            inputs.append(self.with_absent(level, x))
            w = merge.weights(params, np.arange(merge.n_out))
            x = merge.up(w, self.windows(level, inputs[-1]))
            if merge is not self.levels[-1]:
                size = largest(x, axis=1)
                x = x / size
                norms.append(size[:, 0])
        return TreeCache(tuple(inputs), tuple(norms), x[0, 0])

    def log_psi(self, params: Params, sigma: Array) -> Array:
        """Log psi, complex (B,)."""
        cache = self.cache(params, sigma)
        scale = jnp.zeros(cache.value.shape, self.real)
        for norm in cache.norms:
            scale = scale + jnp.sum(jnp.log(norm), axis=0)
        return log_amplitude(cache.value, scale)

    def environments(
        self, params: Params, cache: TreeCache, lowest: int = 0
    ) -> tuple[list[Array], list[Array]]:
        """One sweep down: environments of the leaves and of every merge's results.

        Args:
            params: parameters.
            cache: of the walkers.
            lowest: the level whose inputs come last.

        Returns:
            L + 1 - lowest arrays (n, c, B) with max |g| = 1, of the existing inputs of
            levels lowest, lowest + 1, ... and of the root; and `open` of the levels.
        """
        g = jnp.ones((1, 1, *cache.value.shape), self.dtype)
        out, opened = [g], []
        for level in reversed(range(lowest, len(self.levels))):
            merge = self.levels[level]
            w = merge.weights(params, np.arange(merge.n_out))
            opened.append(merge.open(w, g))
            g = merge.down(opened[-1], self.windows(level, cache.x[level]))
            g = g.reshape(-1, *g.shape[2:])[: merge.n_in]
            g = g / largest(g, axis=1)
            out.append(g)
        return out[::-1], opened[::-1]

    def output(self, cache: TreeCache, level: int) -> Array:
        """Results of the merges of a level before normalisation, (n_out, c, B)."""
        if level == len(self.levels) - 1:
            return cache.value[None, None]
        n_out = self.levels[level].n_out
        return cache.x[level + 1][:n_out] * cache.norms[level][:, None]

    def changes(
        self, sigma: Array, sites: Array | np.ndarray, shift: Array | np.ndarray
    ) -> tuple[Array, Array]:
        """Positions and new states of the leaves of moves.

        Args:
            sigma: (B, N).
            sites: int (K, k), padded with N.
            shift: (K, k).

        Returns:
            Positions (K, k) and local indices after the move, (K, k, B).  Padding
            repeats the first real entry.
        """
        sites, shift = jnp.asarray(sites), jnp.asarray(shift)
        first = jnp.argmax(sites < self.n_sites, axis=1)[:, None]
        rows = jnp.arange(sites.shape[1])[None, :]
        entry = jnp.where(sites < self.n_sites, rows, first)
        # A row of nothing but padding shifts some site by 0.
        sites = jnp.minimum(jnp.take_along_axis(sites, entry, 1), self.n_sites - 1)
        shift = jnp.take_along_axis(shift, entry, 1).astype(jnp.int32)[..., None]
        dims = jnp.asarray(self.local_dims, jnp.int32)[sites][..., None]
        old = (dims - 1 - jnp.asarray(sigma).T[sites].astype(jnp.int32)) // 2
        # One division per move instead of one per walker.
        new = old + jnp.mod(shift, dims)
        new = jnp.where(new >= dims, new - dims, new)
        return jnp.asarray(self.position())[sites], new

    def leaf_vectors(self, params: Params, nodes: Array, index: Array) -> Array:
        """Vectors (K, k, c, B) of leaves at positions (K, k) in states (K, k, B)."""
        if self.leaf_name is None:
            states = jnp.arange(self.n_states)[None, None, :, None]
            return (states == index[:, :, None]).astype(self.dtype)
        table = params[self.leaf_name][nodes % self.leaf_period]
        return select(table[..., None], index[:, :, None])

    def changed(
        self, cache: TreeCache, level: int, nodes: Array, x: Array, parent: Array
    ) -> Array:
        """Children of some merges, with changed nodes.

        Args:
            cache: the unchanged walkers.
            level: of the nodes.
            nodes: int (K, k), for K independent changes of k nodes at a time; equal
                nodes of one change have equal vectors.
            x: their new vectors, (K, k, c, B).
            parent: which merges, int (K, p).

        Returns:
            (K p, P, c, B).
        """
        window = self.levels[level].window
        kids = self.windows(level, cache.x[level])[parent]
        child = parent[..., None] * window + jnp.arange(window)[None, None]
        for b in range(nodes.shape[1]):
            hit = child == nodes[:, b, None, None]
            kids = jnp.where(hit[..., None, None], x[:, b, None, None], kids)
        return kids.reshape(-1, *kids.shape[2:])

    def merged(
        self,
        params: Params,
        cache: TreeCache,
        level: int,
        nodes: Array,
        x: Array,
        united: bool = False,
    ) -> Array:
        """Results of the merges above changed nodes, not normalised.

        Args as in `changed`; united: the nodes of each change have one common parent.

        Returns:
            (K, k, c', B), one for each changed node; (K, 1, c', B) if united.
        """
        merge = self.levels[level]
        parent = (nodes[:, :1] if united else nodes) // merge.window
        kids = self.changed(cache, level, nodes, x, parent)
        out = merge.up(merge.weights(params, parent.reshape(-1)), kids)
        return out.reshape(*parent.shape, *out.shape[1:])

    def try_move(
        self, params: Params, cache: TreeCache, sigma: Array, move: Move
    ) -> tuple[Array, TreePending]:
        """Recompute the paths of the changed leaves to the root."""
        sites, shift = jnp.asarray(move.sites), jnp.asarray(move.shift)
        nodes, index = self.changes(sigma, sites[None], shift[None])
        x = self.leaf_vectors(params, nodes, index)
        all_nodes, vectors, norms = [nodes[0]], [x[0]], []
        log_scale = jnp.zeros(cache.value.shape, self.real)
        last = len(self.levels) - 1
        for level in range(last):
            x = self.merged(params, cache, level, nodes, x)
            nodes = nodes // self.levels[level].window
            size = largest(x, axis=2)
            x = x / size
            change = jnp.log(size[0, :, 0] / cache.norms[level][nodes[0]])
            log_scale = log_scale + jnp.sum(
                jnp.where(
                    first_of_each(nodes[0])[:, None], change, jnp.zeros_like(change)
                ),
                axis=0,
            )
            all_nodes.append(nodes[0])
            vectors.append(x[0])
            norms.append(size[0, :, 0])
        value = self.merged(params, cache, last, nodes, x, united=True)[0, 0, 0]
        ratio = log_quotient(value, cache.value).real + log_scale
        pending = TreePending(tuple(all_nodes), tuple(vectors), tuple(norms), value)
        return 2 * ratio, pending

    def commit(
        self, cache: TreeCache, pending: TreePending, accept: Array
    ) -> TreeCache:
        """Write the paths of the walkers that accept."""

        def write(old: Array, nodes: Array, new: Array) -> Array:
            mask = accept.reshape((1,) * (new.ndim - 1) + (-1,))
            return old.at[nodes].set(jnp.where(mask, new, old[nodes]))

        x = tuple(map(write, cache.x, pending.nodes, pending.x))
        norms = tuple(map(write, cache.norms, pending.nodes[1:], pending.norms))
        return TreeCache(x, norms, jnp.where(accept, pending.value, cache.value))

    def scores(self, params: Params, sigma: Array) -> dict[str, ScoreFactors]:
        """Structured scores of every leaf of the parameters."""
        cache = self.cache(params, sigma)
        g, _ = self.environments(params, cache)
        out: dict[str, Any] = {}
        if self.leaf_name is not None:
            index = self.indices(jnp.asarray(sigma))
            states = jnp.arange(self.n_states)[None, :, None]
            one_hot = (states == index[:, None]).astype(self.real)
            leaves = cache.x[0][: self.n_sites]
            env = normalised(g[0], leaves)
            out[self.leaf_name] = matrix_scores(env, one_hot, self.leaf_period)
        for level, merge in enumerate(self.levels):
            env = normalised(g[level + 1], self.output(cache, level))
            out |= merge.scores(self.windows(level, cache.x[level]), env)
        return out


def first_of_each(nodes: Array) -> Array:
    """Whether each entry is the first of its value in its row: bool (..., k)."""
    equal = nodes[..., :, None] == nodes[..., None, :]
    return ~jnp.any(jnp.tril(equal, -1), axis=-1)
