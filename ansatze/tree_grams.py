"""Norm and operator averages of a tree, from two copies contracted node by node.

Gram matrices H_ef = sum_s y_e(s) conj(y_f(s)) go up, environments E, with <psi|psi> =
sum_ef E_ef H_ef at every node, go down.  A product of one-site operators changes the
Gram matrices on the paths from its sites up to the node where they meet, and nothing
else.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.merges import Bilinear, Merge, Weights, contract
from ansatze.scaled import largest
from ansatze.trees import Tree
from vmc.base import Params
from vmc.chunking import chunk_size, default_budget, map_chunks


class Grams(NamedTuple):
    """Gram matrices of every node.

    Attributes:
        h: inputs of the merges of each level, with absent children and normalised,
            (n_out P, c, c).
        sizes: what the existing inputs of each level were divided by, (n_in,).
        root: that of psi in the units of the last merge, (1, 1, 1).
        log_norm: ln <psi|psi>, real.
    """

    h: tuple[Array, ...]
    sizes: tuple[Array, ...]
    root: Array
    log_norm: Array


class Paths(NamedTuple):
    """Changed nodes of one level, each of one term; on the host but for `x`.

    Attributes:
        term: number of the term, int (n,).
        node: the node, int (n,).
        x: Gram matrix with the operators below it, in the units of `Grams`, (n, c, c).
    """

    term: np.ndarray
    node: np.ndarray
    x: Array


@dataclasses.dataclass(frozen=True, eq=False)
class TreeGrams:
    """Gram matrices of one tree and what follows from them."""

    tree: Tree

    def mask(self, allowed: Array | None) -> Array:
        """Local states that exist (and are allowed) at each position, (N, M)."""
        tree = self.tree
        dims = np.asarray(tree.local_dims)[tree.order][:, None]
        mask = jnp.asarray(np.arange(tree.n_states)[None, :] < dims)
        if allowed is not None:
            mask = mask & jnp.asarray(allowed, bool)[tree.order]
        return mask.astype(tree.real)

    def with_absent(self, level: int, h: Array) -> Array:
        """Arrays (n_in, c, c, ...) followed by those of the absent children."""
        merge = self.tree.levels[level]
        missing = merge.n_out * merge.window - merge.n_in
        vector = merge.pad()
        pad = functools.reduce(np.multiply.outer, [vector] * (h.ndim - 1))
        pads = jnp.broadcast_to(jnp.asarray(pad, h.dtype)[None], (missing, *pad.shape))
        return jnp.concatenate([h, pads])

    def leaf_grams(self, params: Params, mask: Array) -> Array:
        """Gram matrices of the leaves, (N, c, c)."""
        table = self.tree.table(params)
        return contract("nct,ndt->ncd", table * mask[:, None, :], jnp.conj(table))

    def grams(self, params: Params, allowed: Array | None = None) -> Grams:
        """One sweep up of Gram matrices."""
        h = self.leaf_grams(params, self.mask(allowed))
        log_norm = jnp.zeros((), self.tree.real)
        inputs, sizes = [], []
        for level, merge in enumerate(self.tree.levels):
            size = largest(h.reshape(h.shape[0], -1))
            h = h / size[..., None]
            log_norm = log_norm + jnp.sum(jnp.log(size))
            inputs.append(self.with_absent(level, h))
            sizes.append(size[:, 0])
            kids = inputs[-1].reshape(merge.n_out, merge.window, *h.shape[1:])
            h = merge.gram(merge.weights(params, np.arange(merge.n_out)), kids)
        log_norm = log_norm + jnp.log(h[0, 0, 0].real)
        return Grams(tuple(inputs), tuple(sizes), h, log_norm)

    def log_norm(self, params: Params, allowed: Array | None = None) -> Array:
        """Ln <psi|psi>, or of the weight of the allowed local states.

        Args:
            params: parameters.
            allowed: bool (N, M), local states (index 0 is the largest value) that
                each site may take, or None for all.

        Returns:
            Real scalar; -inf for a zero state.
        """
        return self.grams(params, allowed).log_norm

    def environments(self, params: Params, grams: Grams) -> list[Array]:
        """One sweep down: environments of every node, up to a factor each.

        Returns:
            L + 1 arrays (n, c, c) with max |E| = 1; entry l belongs to the existing
            inputs of level l, the last to the root.
        """
        e = jnp.ones((1, 1, 1), self.tree.dtype)
        out = [e]
        for level in reversed(range(len(self.tree.levels))):
            merge = self.tree.levels[level]

            def down(part: tuple[Weights, Array, Array], m: Merge = merge) -> Array:
                w, kids, above = part
                each = [
                    m.down_gram(w, list(kids[:, None]), above[None], slot)[0]
                    for slot in range(m.window)
                ]
                return jnp.stack(each)

            kids = grams.h[level].reshape(merge.n_out, merge.window, *_square(merge))
            w = merge.weights(params, np.arange(merge.n_out))
            chunk = self.gram_chunk(merge, merge.n_out)
            e = map_chunks(jax.vmap(down), (w, kids, e), chunk)
            e = e.reshape(-1, *_square(merge))[: merge.n_in]
            e = e / largest(e.reshape(len(e), -1))[..., None]
            out.append(e)
        return out[::-1]

    def gram_chunk(self, merge: Merge, n_nodes: int) -> int:
        """Nodes whose Gram matrices are computed at once."""
        size = 4 * max(merge.c_in, merge.c_out) ** 2 * merge.window
        if isinstance(merge, Bilinear):
            size += 4 * merge.c_out * merge.c_in**2
        n_bytes = size * self.tree.dtype.itemsize
        return chunk_size(n_nodes, n_bytes, default_budget())

    def product_mean(
        self, params: Params, sites: Array | np.ndarray, matrices: Array | np.ndarray
    ) -> Array:
        """Averages of products of one-site operators in the normalised state.

        One sweep up and down, then for every term only the paths from its sites to
        the node where they meet: O(r^3) per node for circuits with r channels,
        O(D^4) for dense tensors.

        Args:
            params: parameters.
            sites: int (T, k), concrete; the different sites of each term, padded
                with N.
            matrices: (T, k, M, M), the operator on each of them, <bra|O|ket> at [bra,
                ket], index 0 for the largest value; what stands at absent local
                states or beside padding is not used.

        Returns:
            <psi| O_1 ... O_k |psi> / <psi|psi>, (T,), real if weights and matrices
            are.
        """
        sites = np.asarray(sites)
        term, column = np.nonzero(sites < self.tree.n_sites)
        leaf = self.tree.position()[sites[term, column]]
        grams = self.grams(params)
        env = self.environments(params, grams)
        h = [*grams.h, grams.root]
        x = self.leaf_products(params, leaf, jnp.asarray(matrices)[term, column])
        x = x / grams.sizes[0][leaf][:, None, None]
        paths = Paths(term, leaf, x)
        # A term without sites is the identity.
        out = jnp.ones(len(sites), x.dtype)
        for level in range(len(h)):
            alone = np.bincount(paths.term, minlength=len(sites))[paths.term] == 1
            node, e = paths.node[alone], env[level][paths.node[alone]]
            above = jnp.sum(e * paths.x[alone], axis=(1, 2))
            below = jnp.sum(e * h[level][node], axis=(1, 2))
            out = out.at[paths.term[alone]].set(above / below)
            paths = Paths(paths.term[~alone], paths.node[~alone], paths.x[~alone])
            if len(paths.node) == 0:
                break
            paths = self.lifted(params, grams, level, paths)
        return out

    def leaf_products(self, params: Params, leaf: np.ndarray, ops: Array) -> Array:
        """sum_st y_c(t) O_st conj(y_d(s)) of leaves: (n,), (n, M, M) -> (n, c, c)."""
        table = self.tree.table(params) * self.mask(None)[:, None, :]
        y = table[leaf]
        moved = contract("nct,nst->ncs", y, ops)
        return contract("ncs,nds->ncd", moved, jnp.conj(y))

    def lifted(self, params: Params, grams: Grams, level: int, paths: Paths) -> Paths:
        """The changed nodes of the next level."""
        merge = self.tree.levels[level]
        both = np.stack([paths.term, paths.node // merge.window])
        both, owner = np.unique(both, axis=1, return_inverse=True)
        (term, parent), owner = both, owner.reshape(-1)
        kids = grams.h[level].reshape(merge.n_out, merge.window, *_square(merge))
        kids = kids[parent].astype(paths.x.dtype)
        kids = kids.at[owner, paths.node % merge.window].set(paths.x)

        def up(part: tuple[Array, Array]) -> Array:
            # Numbers as a traced array: a merge may take N of them in NumPy for all.
            return merge.gram(merge.weights(params, part[0]), part[1])

        chunk = self.gram_chunk(merge, len(parent))
        x = map_chunks(up, (jnp.asarray(parent), kids), chunk)
        if level + 1 < len(grams.sizes):
            x = x / grams.sizes[level + 1][parent][:, None, None]
        return Paths(term, parent, x)


def _square(merge: Merge) -> tuple[int, int]:
    """Shape of the Gram matrix of a child."""
    return merge.c_in, merge.c_in
