"""What a tree gives without a Markov chain: samples, purities, spectra.

All follow from contracting two (or four) copies of the tree node by node, as in
`ansatze.tree_grams`; nothing of size 2^N is ever formed (the sampling: A. J. Ferris,
G. Vidal, arXiv:1201.3974).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.merges import Bilinear, Merge, Weights, contract, select
from ansatze.scaled import draw_state, largest
from ansatze.tree_grams import Grams, TreeGrams
from ansatze.trees import Tree
from vmc.base import Exact, Params, Problem
from vmc.chunking import chunk_size, default_budget, map_chunks
from vmc.errors import JobError
from vmc.space import Spins

#: Bytes that the four-replica contraction may use at one node.
MAX_REPLICA_BYTES = 2**31


def exact_of(tree: Tree, problem: Problem) -> Exact | None:
    """The exact tools of a tree; None in a sector, which a tree does not conserve."""
    space = problem.space
    if isinstance(space, Spins) and not space.is_free:
        return None
    tools = TreeExact(tree)
    return Exact(
        sample=tools.sample,
        log_norm=tools.log_norm,
        purity=tools.purity,
        spectrum=tools.spectrum,
        product_mean=tools.product_mean,
    )


class Descent(NamedTuple):
    """State of the sampler between two leaves, for S samples.

    Attributes:
        e: environment of the current node of each level, (S, c, c).
        y: vectors of the children sampled so far in its window, (P, c, S).
        index: local index of each position, int32 (N, S).
        log_prob: logarithm of the probability so far, (S,).
    """

    e: tuple[Array, ...]
    y: tuple[Array, ...]
    index: Array
    log_prob: Array


class TreeExact(TreeGrams):
    """Exact tools of one tree."""

    @functools.cached_property
    def strides(self) -> tuple[int, ...]:
        """Leaves below a full node of each level, that of the root included."""
        out = [1]
        for merge in self.tree.levels:
            out.append(out[-1] * merge.window)
        return tuple(out)

    def sample(
        self, params: Params, words: Array, allowed: Array | None = None
    ) -> tuple[Array, Array]:
        """Independent draws of |psi|^2, conditioned on the allowed local states.

        Leaf after leaf is drawn from its conditional probability given those before,
        those after being traced out.  A node's environment is computed once.

        Args:
            params: parameters.
            words: uint32 (N, B), one uniform random word per site and draw.
            allowed: see `log_norm`; clamps sites to given states.

        Returns:
            sigma int8 (B, N) and the logarithm of its (conditional) probability,
            normalised by construction, (B,).
        """
        tree, n = self.tree, words.shape[1]
        words = words[tree.order]
        mask, grams = self.mask(allowed), self.grams(params, allowed)
        table = tree.table(params)
        n_levels = len(tree.levels)
        state = Descent(
            tuple(jnp.zeros((n, m.c_in, m.c_in), tree.dtype) for m in tree.levels),
            tuple(jnp.zeros((m.window, m.c_in, n), tree.dtype) for m in tree.levels),
            jnp.zeros((tree.n_sites, n), jnp.int32),
            jnp.zeros(n, tree.real),
        )
        zero = jnp.zeros((), jnp.int32)
        state = self.descend(params, grams, n_levels, zero, state)
        state = self.draw(table, mask, words, zero, state)
        branches = [
            functools.partial(self.advance, params, grams, level)
            for level in range(n_levels)
        ]

        def step(i: Array, state: Descent) -> Descent:
            # The level on which the path to leaf i leaves that to leaf i - 1.
            parts = [(i % stride == 0).astype(jnp.int32) for stride in inner]
            level = sum(parts, jnp.zeros((), jnp.int32))
            state = (
                lax.switch(level, branches, i, state)
                if inner
                else branches[0](i, state)
            )
            return self.draw(table, mask, words, i, state)

        inner = self.strides[1:-1]
        state = lax.fori_loop(1, tree.n_sites, step, state)
        dims = np.asarray(tree.local_dims, np.int32)[:, None]
        sigma = dims - 1 - 2 * state.index[tree.position()]
        return sigma.T.astype(jnp.int8), state.log_prob

    def advance(
        self, params: Params, grams: Grams, level: int, i: Array, state: Descent
    ) -> Descent:
        """From leaf i - 1 to leaf i, whose paths part below a merge of this level."""
        y = list(state.y)
        for j in range(level):
            merge, above = self.tree.levels[j], self.tree.levels[j + 1]
            node = i // self.strides[j + 1] - 1
            vector = merge.up(merge.weights(params, node[None]), y[j][None])[0]
            vector = vector / largest(vector, axis=0)
            y[j + 1] = y[j + 1].at[node % above.window].set(vector)
        return self.descend(params, grams, level, i, state._replace(y=tuple(y)))

    def descend(
        self, params: Params, grams: Grams, level: int, i: Array, state: Descent
    ) -> Descent:
        """Environments of the nodes on the path to leaf i, from this level down."""
        e, n = list(state.e), state.log_prob.shape[0]
        for j in reversed(range(min(level + 1, len(e)))):
            merge = self.tree.levels[j]
            parent = i // self.strides[j + 1]
            first = parent * merge.window
            h = lax.dynamic_slice_in_dim(grams.h[j], first, merge.window)
            above = e[j + 1] if j + 1 < len(e) else jnp.ones((n, 1, 1), h.dtype)
            w = merge.weights(params, parent[None])
            w = None if w is None else w[0]
            slots = range(merge.window) if j == level else range(1)
            branches = [
                functools.partial(self.environment, merge, slot, w) for slot in slots
            ]
            if j == level:
                slot = i // self.strides[j] - first
                e[j] = lax.switch(slot, branches, h, state.y[j], above)
            else:
                e[j] = branches[0](h, state.y[j], above)
        return state._replace(e=tuple(e))

    def environment(
        self, merge: Merge, slot: int, w: Weights, h: Array, y: Array, e: Array
    ) -> Array:
        """Environment of one child: those before it are sampled, those after not."""
        n = e.shape[0]
        known = [contract("cb,db->bcd", v, jnp.conj(v)) for v in y[:slot]]
        traced = [jnp.broadcast_to(x[None], (n, *x.shape)) for x in h[slot:]]
        out = merge.down_gram(w, [*known, *traced], e, slot)
        return out / largest(out.reshape(n, -1))[..., None]

    def draw(
        self, table: Array, mask: Array, words: Array, i: Array, state: Descent
    ) -> Descent:
        """Draw the state of leaf i from its conditional probability."""
        vectors = table[i]
        prob = contract("bcd,ct,dt->tb", state.e[0], vectors, jnp.conj(vectors)).real
        prob = jnp.maximum(prob, 0) * mask[i][:, None]
        index, log_prob = draw_state(prob, words[i])
        y = select(vectors[..., None], index[None])
        slot = i % self.tree.levels[0].window
        first = state.y[0].at[slot].set(y)
        return state._replace(
            y=(first, *state.y[1:]),
            index=state.index.at[i].set(index),
            log_prob=state.log_prob + log_prob,
        )

    def purity(self, params: Params, region: Sequence[int] | np.ndarray) -> Array:
        """Tr rho_A^2 of the normalised state for any set of sites A.

        By contracting four copies of the tree: O(N r^5) for circuits with r channels,
        O(N D^8) for dense tensors.

        Args:
            params: parameters.
            region: sites of A, concrete.

        Returns:
            Real scalar; the Renyi-2 entropy is -ln of it, in nats.

        Raises:
            JobError: a site does not exist, or the bond dimension is too large.
        """
        inside = self.members(region)[:, None, None, None, None]
        h = self.leaf_grams(params, self.mask(None))
        apart = contract("nij,nkl->nijkl", h, h)
        swapped = contract("nil,nkj->nijkl", h, h)
        t = jnp.where(inside, swapped, apart)
        log = jnp.zeros((), self.tree.real)
        for level, merge in enumerate(self.tree.levels):
            size = largest(t.reshape(t.shape[0], -1))
            t = t / size[..., None, None, None]
            log = log + jnp.sum(jnp.log(size))
            kids = self.with_absent(level, t)
            kids = kids.reshape(merge.n_out, merge.window, *t.shape[1:])
            w = merge.weights(params, np.arange(merge.n_out))
            chunk = self.replica_chunk(merge)
            if w is None:
                t = map_chunks(lambda x, m=merge: m.quad(None, x), kids, chunk)
            else:
                t = map_chunks(lambda x, m=merge: m.quad(*x), (w, kids), chunk)
        value = t.reshape(()).real
        return value * jnp.exp(log - 2 * self.log_norm(params))

    def replica_chunk(self, merge: Merge) -> int:
        """Nodes per chunk of the four-replica contraction."""
        size = max(merge.c_out, merge.c_in) ** 4
        if isinstance(merge, Bilinear):
            size = merge.c_out * merge.c_in**6
        n_bytes = size * self.tree.dtype.itemsize
        if n_bytes > MAX_REPLICA_BYTES:
            raise JobError(
                f"the exact purity of a tree with bond dimension {merge.c_in} needs "
                f"{n_bytes / 2**30:.0f} GiB at one node. Take the spectrum, if the "
                "region is a block of the tree, or estimate it from samples."
            )
        return chunk_size(merge.n_out, n_bytes, default_budget())

    def members(self, region: Sequence[int] | np.ndarray) -> np.ndarray:
        """Which leaf positions lie in a set of sites: bool (N,)."""
        sites = np.asarray(region, np.int64).reshape(-1)
        n_sites = self.tree.n_sites
        if np.any((sites < 0) | (sites >= n_sites)):
            raise JobError(
                f"region {sites.tolist()} has sites outside 0 ... {n_sites - 1}"
            )
        inside = np.zeros(n_sites, bool)
        inside[sites] = True
        return inside[self.tree.order]

    def block(self, region: Sequence[int] | np.ndarray) -> tuple[int, int] | None:
        """(level, node) whose leaves are the region or its complement.

        None for the region of no or all sites.

        Raises:
            JobError: there is none.
        """
        inside = self.members(region)
        if inside.all() or not inside.any():
            return None
        for level, merge in enumerate(self.tree.levels):
            stride = self.strides[level]
            for node in range(merge.n_in):
                leaves = np.zeros(len(inside), bool)
                leaves[node * stride : (node + 1) * stride] = True
                if np.all(leaves == inside) or np.all(leaves != inside):
                    return level, node
        sizes = sorted({s for s in self.strides[:-1] if s < self.tree.n_sites})
        raise JobError(
            f"region {np.flatnonzero(inside).tolist()} (leaf positions) is no block of "
            f"the tree, whose blocks are aligned windows of {sizes} leaves, nor the "
            "complement of one. The purity is exact for any region."
        )

    def spectrum(self, params: Params, region: Sequence[int] | np.ndarray) -> Array:
        """Eigenvalues of rho_A of the normalised state, for a block A of the tree.

        Args:
            params: parameters.
            region: sites of A, all leaves below one node or all others; concrete.

        Returns:
            Real, largest first; as many as the bond has dimensions.

        Raises:
            JobError: A is not such a block.
        """
        found = self.block(region)
        if found is None:
            return jnp.ones(1, self.tree.real)
        level, node = found
        h = self.grams(params).h
        e = jnp.ones((1, 1, 1), self.tree.dtype)
        for j in reversed(range(level, len(self.tree.levels))):
            merge = self.tree.levels[j]
            child = node // (self.strides[j] // self.strides[level])
            parent, slot = divmod(child, merge.window)
            w = merge.weights(params, np.array([parent]))
            kids = h[j][parent * merge.window : (parent + 1) * merge.window]
            w = None if w is None else w[0]
            e = merge.down_gram(w, list(kids[:, None]), e, slot)
            e = e / largest(e.reshape(1, -1))[..., None]
        values, vectors = jnp.linalg.eigh(h[level][node].T)
        root = vectors * jnp.sqrt(jnp.maximum(values, 0))[None, :]
        out = jnp.linalg.eigvalsh(jnp.conj(root).T @ e[0] @ root)[::-1]
        out = jnp.maximum(out, 0)
        return out / jnp.sum(out)
