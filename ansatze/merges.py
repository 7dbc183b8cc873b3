"""Merges: how the vectors of a window of tree nodes become the vector of their parent.

Every merge is multilinear in its children.  Arrays carry walkers on the last axis:
children are (n, P, c, B) for n parents with windows of P, parents (n, c', B).

`Product` multiplies the children elementwise and applies one matrix, as a
convolutional arithmetic circuit does (arXiv:1704.01552); `Bilinear` contracts a pair
with a tensor of order three, as a tree tensor network does.  A window that lacks a
child gets the vector of `pad`, which acts as a factor of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc.base import Params, ScoreFactors

#: Matrices (n, c', c) or tensors (n, c', c, c) of some parents; None for none.
Weights: TypeAlias = Any

#: Sums over at most so many terms are written out: XLA's reductions over an axis that
#: is not the last do not vectorise (up to twice the time of a sweep down).
UNROLLED = 32


def contract(spec: str, *arrays: Array) -> Array:
    """Einsum in the precision of the type: neither TF32 nor bfloat16."""
    return jnp.einsum(spec, *arrays, precision="highest")


@dataclasses.dataclass(frozen=True)
class Product:
    """y_j = W_j (elementwise product of the children of j).

    Attributes:
        window: P, children per parent.
        n_in: children that exist.
        c_in: dimension of their vectors.
        c_out: dimension of the parent's vector.
        name: key of W among the parameters; None for the identity.
        period: number of different matrices; parent j has the matrix j mod period.
    """

    window: int
    n_in: int
    c_in: int
    c_out: int
    name: str | None
    period: int = 1

    @property
    def n_out(self) -> int:
        """Parents."""
        return -(-self.n_in // self.window)

    def pad(self) -> np.ndarray:
        """Vector of an absent child."""
        return np.ones(self.c_in)

    def weights(self, params: Params, nodes: Array | np.ndarray) -> Weights:
        """W of some parents: (len(nodes), c_out, c_in)."""
        if self.name is None:
            return None
        matrices = params[self.name].reshape(self.period, self.c_out, self.c_in)
        if self.period == 1:
            return jnp.broadcast_to(matrices, (len(nodes), *matrices.shape[1:]))
        return matrices[nodes % self.period]

    def up(self, w: Weights, x: Array) -> Array:
        """Vectors of the parents, (n, c_out, B)."""
        z = jnp.prod(x, axis=1)
        return z if w is None else contract("nec,ncb->neb", w, z)

    def table(self, w: Weights, x: Array) -> Array:
        """Vectors of the parents for all combinations of states of their children.

        Args:
            w: weights of the parents.
            x: children in each of S states, (n, P, c, S).

        Returns:
            (n, c_out, S^P); child p is in the state (index // S^p) mod S.
        """
        z = x[:, 0]
        for p in range(1, self.window):
            z = x[:, p, :, :, None] * z[:, :, None]
            z = z.reshape(*z.shape[:2], -1)
        return z if w is None else contract("nec,ncs->nes", w, z)

    def open(self, w: Weights, g: Array) -> Array:
        """Environments of the parents with their weights, (n, k, B).

        What `down` and `close` contract with children: psi is multilinear in those.
        """
        return g if w is None else contract("nec,neb->ncb", w, g)

    def down(self, opened: Array, x: Array) -> Array:
        """Environments of the children, (n, P, c_in, B)."""
        return others(x) * opened[:, None]

    def close(self, opened: Array, x: Array) -> Array:
        """psi with the children x (n, P, c_in, B), up to the scale of g: (n, B)."""
        return jnp.sum(opened * jnp.prod(x, axis=1), axis=1)

    def scores(self, x: Array, g: Array) -> dict[str, ScoreFactors]:
        """Scores of W from children and normalised environments of the parents."""
        if self.name is None:
            return {}
        return {self.name: matrix_scores(g, jnp.prod(x, axis=1), self.period)}

    def gram(self, w: Weights, h: Array) -> Array:
        """Gram matrices of the parents, (n, c', c'), from the children's."""
        z = jnp.prod(h, axis=1)
        return z if w is None else contract("nec,ncd,nfd->nef", w, z, jnp.conj(w))

    def down_gram(self, w: Weights, h: Sequence[Array], e: Array, slot: int) -> Array:
        """Environment (B, c, c) of one child of one parent.

        Args:
            w: weights of the parent, without the leading axis.
            h: Gram matrices of the children, (P, B, c, c); that of ``slot`` is unused.
            e: environment of the parent, (B, c', c'), contracted as
                sum_ef E_ef y_e y*_f.
            slot: which child.
        """
        if w is not None:
            e = contract("ec,bef,fd->bcd", w, e, jnp.conj(w))
        for p in range(self.window):
            if p != slot:
                e = e * h[p]
        return e

    def quad(self, w: Weights, t: Array) -> Array:
        """Four-replica tensors (n, c', c', c', c') from the children's."""
        z = jnp.prod(t, axis=1)
        if w is None:
            return z
        z = contract("nai,nijkl->najkl", w, z)
        z = contract("nbj,najkl->nabkl", jnp.conj(w), z)
        z = contract("nck,nabkl->nabcl", w, z)
        return contract("ndl,nabcl->nabcd", jnp.conj(w), z)


@dataclasses.dataclass(frozen=True)
class Bilinear:
    """y_j[e] = sum_lr T_j[e, l, r] x_2j[l] x_2j+1[r].

    Attributes:
        n_in: children that exist.
        c_in: dimension of their vectors.
        c_out: dimension of the parent's vector.
        name: key of T, (n_out, c_out, c_in, c_in), among the parameters.
    """

    n_in: int
    c_in: int
    c_out: int
    name: str
    window: int = 2

    @property
    def n_out(self) -> int:
        """Parents."""
        return -(-self.n_in // 2)

    def pad(self) -> np.ndarray:
        """Vector of an absent child: only T[..., 0] of its parent is used."""
        return np.eye(1, self.c_in)[0]

    def weights(self, params: Params, nodes: Array | np.ndarray) -> Weights:
        """T of some parents: (len(nodes), c_out, c_in, c_in)."""
        if isinstance(nodes, np.ndarray) and len(nodes) == self.n_out:
            return params[self.name]
        return params[self.name][nodes]

    def up(self, w: Weights, x: Array) -> Array:
        """Vectors of the parents, (n, c_out, B)."""
        n, c = x.shape[0], self.c_in
        outer = x[:, 0, :, None, :] * x[:, 1, None, :, :]
        outer = outer.reshape(n, c * c, -1)
        return contract("nek,nkb->neb", w.reshape(n, self.c_out, c * c), outer)

    def table(self, w: Weights, x: Array) -> Array:
        """All combinations of states, (n, c_out, S^2), one side after the other.

        See `Product`; cheaper than `up` of S^2 walkers by the smaller of S and c_in.
        """
        half = contract("nelr,nrt->nelt", w, x[:, 1])
        full = contract("nls,nelt->nets", x[:, 0], half)
        return full.reshape(*full.shape[:2], -1)

    def open(self, w: Weights, g: Array) -> Array:
        """Environments of the parents with their weights, (n, k, B); see `Product`."""
        flat = w.reshape(len(w), self.c_out, -1)
        # Without the barrier XLA repeats work in the sums (a third more CPU time).
        return lax.optimization_barrier(contract("nek,neb->nkb", flat, g))

    def down(self, opened: Array, x: Array) -> Array:
        """Environments of the children, (n, 2, c_in, B)."""
        te = opened.reshape(x.shape[0], self.c_in, self.c_in, -1)
        if self.c_in > UNROLLED:
            left = jnp.sum(te * x[:, 1, None], axis=2)
            right = jnp.sum(te * x[:, 0, :, None], axis=1)
            return jnp.stack([left, right], axis=1)
        left = te[:, :, 0] * x[:, 1, None, 0]
        right = te[:, 0] * x[:, 0, 0, None]
        for i in range(1, self.c_in):
            left = left + te[:, :, i] * x[:, 1, None, i]
            right = right + te[:, i] * x[:, 0, i, None]
        return jnp.stack([left, right], axis=1)

    def close(self, opened: Array, x: Array) -> Array:
        """psi with the children x (n, 2, c_in, B), up to the scale of g: (n, B)."""
        te = opened.reshape(x.shape[0], self.c_in, self.c_in, -1)
        if self.c_in > UNROLLED:
            return dots(jnp.sum(te * x[:, 1, None], axis=2), x[:, 0])
        left = te[:, :, 0] * x[:, 1, None, 0]
        for i in range(1, self.c_in):
            left = left + te[:, :, i] * x[:, 1, None, i]
        return dots(left, x[:, 0])

    def scores(self, x: Array, g: Array) -> dict[str, ScoreFactors]:
        """Scores of T from children and normalised environments of the parents."""
        parts = (g, x[:, 0], x[:, 1])
        return {self.name: tuple(jnp.transpose(y, (2, 0, 1)) for y in parts)}

    def gram(self, w: Weights, h: Array) -> Array:
        """Gram matrices of the parents, (n, c', c'), from the children's."""
        half = contract("nelr,nlm->nemr", w, h[:, 0])
        half = contract("nemr,nrs->nems", half, h[:, 1])
        return contract("nems,nfms->nef", half, jnp.conj(w))

    def down_gram(self, w: Weights, h: Sequence[Array], e: Array, slot: int) -> Array:
        """Environment (B, c, c) of one child of one parent; see `Product`."""
        conj = jnp.conj(w)
        if slot == 0:
            half = contract("elr,bef->bflr", w, e)
            half = contract("bflr,brs->bfls", half, h[1])
            return contract("bfls,fms->blm", half, conj)
        half = contract("elr,bef->bflr", w, e)
        half = contract("bflr,blm->bfmr", half, h[0])
        return contract("bfmr,fms->brs", half, conj)

    def quad(self, w: Weights, t: Array) -> Array:
        """Four-replica tensors (n, c', c', c', c') from the children's."""
        conj = jnp.conj(w)
        z = contract("nali,nlmop->naimop", w, t[:, 0])
        z = contract("naimop,nijxy->namopjxy", z, t[:, 1])
        z = contract("nbmj,namopjxy->nabopxy", conj, z)
        z = contract("ncox,nabopxy->nabcpy", w, z)
        return contract("ndpy,nabcpy->nabcd", conj, z)


Merge: TypeAlias = Product | Bilinear


def dots(a: Array, b: Array, which: Array | None = None) -> Array:
    """Sums of products over the vectors of a (n, c, B) and b[which]: (n, B)."""

    def entry(i: int) -> Array:
        return b[:, i] if which is None else b[:, i][which]

    if a.shape[1] > UNROLLED:
        return jnp.sum(a * (b if which is None else b[which]), axis=1)
    out = a[:, 0] * entry(0)
    for i in range(1, a.shape[1]):
        out = out + a[:, i] * entry(i)
    return out


def others(x: Array) -> Array:
    """Product of all other children for each child: (n, P, c, B) -> the same."""
    if x.shape[1] == 2:
        return x[:, ::-1]
    ones = jnp.ones_like(x[:, 0])
    before, after = [ones], [ones]
    for p in range(x.shape[1] - 1):
        before.append(before[-1] * x[:, p])
        after.append(after[-1] * x[:, -1 - p])
    return jnp.stack([b * a for b, a in zip(before, after[::-1])], axis=1)


def matrix_scores(g: Array, z: Array, period: int) -> ScoreFactors:
    """Scores of matrices W_(j mod period) that enter as <g_j, W z_j>.

    Args:
        g: normalised environments (n, c', B).
        z: inputs (n, c, B).
        period: number of different matrices, at most n.

    Returns:
        One factor per side where every node has its own matrix, otherwise dense.
    """
    n, c_out, n_batch = g.shape
    if n == period and c_out > 1:
        return jnp.transpose(g, (2, 0, 1)), jnp.transpose(z, (2, 0, 1))
    missing = ((0, -n % period), (0, 0), (0, 0))
    g, z = (
        jnp.pad(x, missing).reshape(-1, period, x.shape[1], n_batch) for x in (g, z)
    )
    return (contract("pqeb,pqcb->bqec", g, z).reshape(n_batch, 1, -1),)


def select(table: Array, index: Array, axis: int | None = None) -> Array:
    """Entries table[..., index] of one axis, by comparisons instead of a gather.

    Args:
        table: the axis of states is the last but one and the last has length 1, or
            it is ``axis``.
        index: int; broadcasts against the result.
        axis: the axis of states.
    """
    axis = table.ndim - 2 if axis is None else axis
    out = lax.index_in_dim(table, 0, axis, keepdims=False)
    for state in range(1, table.shape[axis]):
        row = lax.index_in_dim(table, state, axis, keepdims=False)
        out = jnp.where(index == state, row, out)
    shape = jnp.broadcast_shapes(out.shape, index.shape)
    return jnp.broadcast_to(out, shape)


def normalised(g: Array, y: Array) -> Array:
    """Environments with <g, y> = 1; 0 where psi is zero."""
    overlap = jnp.sum(g * y, axis=1, keepdims=True)
    zero = overlap == 0
    return jnp.where(zero, jnp.zeros_like(g), g / jnp.where(zero, 1, overlap))
