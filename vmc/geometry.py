"""The geometry of a step: lazy products with the centred score matrix.

With samples sigma_b of weight w_b (1 / Ns for samples of |psi|^2; their sum over all
devices is 1), means <.> = sum_b w_b (.)_b, and O_bk = d log psi(sigma_b) / d theta_k,

Oc = (O - <O>) sqrt(w)      centred and scaled score matrix, rows = samples
eps = (E_loc - E) sqrt(w)   centred local energies
F = Oc^H eps                force; S = Oc^H Oc;  T = Oc Oc^H

For real parameters S and F are the real parts, and the rows of Oc and eps are
their real and imaginary parts stacked, which gives the same S and F.  Complex
parameters are holomorphic (see `vmc.base.WaveFunction`).

The score matrix stays in factors (`vmc.base.ScoreFactors`): T is a sum of
products of small Gram matrices, and no Jacobian of size Ns x P need exist.
Everything is computed when first asked for; an optimiser that never asks pays
nothing.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from vmc import distributed
from vmc.base import Params, ScoreFactors
from vmc.blocked import Shared
from vmc.factors import (
    expand_factors,
    gram,
    norms,
    times_rows,
    times_transposed,
    times_vector,
)


class Geometry:
    """Lazy products with the centred scores; lives inside one traced step.

    Args:
        scores: () -> pytree of `ScoreFactors` of this device's samples.
        params: parameters, for shapes and dtypes.
        eloc: local energies of this device's samples, (B,).
        precision: dtype of gathered matrices and solves ("float64" or "float32").
        weights: (B,), of sum 1 over all devices, of a full sum; None for samples of
            |psi|^2.
        energy: mean of ``eloc`` over all samples, where it is known already.

    Attributes:
        n_independent: samples that the noise goes down with; infinite for full sums.
        energy: mean of ``eloc``.
        reported: mean local energy before any clipping.
    """

    def __init__(
        self,
        scores: Callable[[], Any],
        params: Params,
        eloc: Array,
        precision: str = "float64",
        weights: Array | None = None,
        energy: Array | None = None,
    ) -> None:
        self._scores = scores
        self.real_dtype = jnp.dtype(precision)
        self.n_local = eloc.shape[0]
        self.n_samples = self.n_local * distributed.n_devices()
        self.n_independent = self.n_samples if weights is None else math.inf
        if weights is None:
            uniform = 1.0 / self.n_samples
            weights = jnp.full((self.n_local,), uniform, eloc.real.dtype)
        self.weights = weights
        self.root = jnp.sqrt(weights)
        self.energy = self.mean(eloc) if energy is None else energy
        self.reported = self.energy
        self.centred = eloc - self.energy
        self.leaves, self.structure = jax.tree.flatten(params)
        self.n_parameters = sum(leaf.size for leaf in self.leaves)
        self.real_params = not any(jnp.iscomplexobj(leaf) for leaf in self.leaves)
        self.was_used = False

    def mean(self, x: Array) -> Array:
        """Weighted mean over all samples of x (B, ...)."""
        return distributed.total(jnp.tensordot(self.weights, x, 1))

    @functools.cached_property
    def _raw(self) -> list[ScoreFactors]:
        self.was_used = True
        return self.structure.flatten_up_to(self._scores())

    def rescaled(self, scales: Params) -> Geometry:
        """The same samples in the variables ``scales * theta``.

        Args:
            scales: positive real numbers, a pytree of the shapes of params.

        Returns:
            A geometry with the scores d log psi / d (scales * theta), dense ones.
        """

        def scores() -> Any:
            leaves = self.structure.flatten_up_to(scales)
            dense = [
                ((expand_factors(block) / scale.reshape(1, -1))[:, None],)
                for block, scale in zip(self._raw, leaves)
            ]
            return self.structure.unflatten(dense)

        view = copy.copy(self)
        for name, value in vars(type(self)).items():
            if isinstance(value, functools.cached_property):
                vars(view).pop(name, None)
        view._scores = scores
        return view

    @functools.cached_property
    def variance(self) -> Array:
        """Mean of |E_loc - E|^2, real scalar."""
        return self.mean(jnp.abs(self.centred) ** 2)

    @functools.cached_property
    def _moments(self) -> tuple[list[Array], list[Array], Array]:
        """Of the scores as they come: <O>^*, O^H eps, and of leaves in factors <|O|^2>.

        One pass over the scores and one message.  In the precision of the solve: an
        error of a mean adds up over all samples.
        """

        def exact(x: Array) -> Array:
            return x.astype(jnp.promote_types(x.dtype, self.real_dtype))

        eps = self._unrows(self.eps)
        rows = exact(jnp.stack([self.root.astype(eps.dtype), eps]) * self.root[None])
        blocks = [tuple(exact(f) for f in block) for block in self._raw]
        sums = [times_rows(b, rows, x.shape) for b, x in zip(blocks, self.leaves)]
        of_factors = [norms(block) for block in blocks if len(block) > 1]
        squares = self.weights @ functools.reduce(jnp.add, of_factors, 0 * self.weights)
        sums, squares = distributed.total((sums, squares))
        return [x[0] for x in sums], [x[1] for x in sums], squares

    @functools.cached_property
    def factors(self) -> list[ScoreFactors]:
        """Scores of each leaf of params; single factors are centred already."""

        def centre(block: ScoreFactors, mean: Array) -> ScoreFactors:
            if len(block) != 1:
                return block
            (rows,) = block
            mean = jnp.conj(mean if jnp.iscomplexobj(rows) else mean.real)
            return (rows - mean.reshape(rows.shape[1:])[None].astype(rows.dtype),)

        return [centre(*pair) for pair in zip(self._raw, self._moments[0])]

    @functools.cached_property
    def _means(self) -> list[Array]:
        """<O>^* of each leaf of `factors`: zero for those that are centred."""
        pairs = zip(self._raw, self._moments[0])
        return [x if len(block) > 1 else jnp.zeros_like(x) for block, x in pairs]

    @functools.cached_property
    def stacked(self) -> bool:
        """True if rows carry real and imaginary parts (real parameters, complex O)."""
        arrays = jax.tree.leaves(self._raw)
        return self.real_params and any(jnp.iscomplexobj(f) for f in arrays)

    @property
    def n_rows(self) -> int:
        """Order of T: Ns, or 2 Ns when stacked."""
        return self.n_samples * (2 if self.stacked else 1)

    @functools.cached_property
    def eps(self) -> Array:
        """Centred scaled local energies as rows, (1 or 2, B)."""
        return self._rows(self.centred * self.root)

    def _rows(self, x: Array) -> Array:
        if self.stacked:
            return jnp.stack([x.real, x.imag])
        if self.real_params:
            return x.real[None]
        return x[None]

    def _unrows(self, rows: Array) -> Array:
        return lax.complex(rows[0], rows[1]) if self.stacked else rows[0]

    def apply(self, vector: Params) -> Array:
        """Oc v as rows, (1 or 2, B)."""
        out, mean = jnp.zeros((), self.real_dtype), jnp.zeros((), self.real_dtype)
        leaves = self.structure.flatten_up_to(vector)
        for block, leaf, x in zip(self.factors, leaves, self._means):
            out = out + times_vector(block, leaf)
            mean = mean + jnp.sum(jnp.conj(x) * leaf)
        return self._rows((out - mean) * self.root)

    def slope(self, vector: Params) -> tuple[Array, Array]:
        """2 Re F^H v, real scalar, and its variance; that of full sums is 0.

        From every sample's own share: near nodes of psi local energies and scores are
        large together, and the product of their mean squares is far too small.
        """
        shares = 2 * jnp.sum((jnp.conj(self.eps) * self.apply(vector)).real, axis=0)
        found, squares = distributed.total((jnp.sum(shares), jnp.sum(shares**2)))
        if math.isinf(self.n_independent):
            return found, jnp.zeros_like(found)
        spread = jnp.maximum(squares - found**2 / self.n_samples, 0.0)
        return found, spread * (self.n_samples / self.n_independent)

    def adjoint(self, rows: Array) -> Params:
        """Oc^H x for rows (1 or 2, B), summed over devices; a pytree like params."""
        x = self._unrows(rows) * self.root
        size = jnp.sum(x)

        def leaf(block: ScoreFactors, param: Array, mean: Array) -> Array:
            out = times_rows(block, x[None], param.shape)[0] - mean * size
            return self._like(out, param)

        out = [leaf(*parts) for parts in zip(self.factors, self.leaves, self._means)]
        return distributed.total(self.structure.unflatten(out))

    def _like(self, x: Array, param: Array) -> Array:
        return (x.real if self.real_params else x).astype(param.dtype)

    @functools.cached_property
    def force(self) -> Params:
        """F = Oc^H eps, a pytree like params."""
        # Energies are centred: those of the scores need not be.
        pairs = zip(self._moments[1], self.leaves)
        return self.structure.unflatten([self._like(x, p) for x, p in pairs])

    def distance2(self, vector: Params) -> Array:
        """v^H S v, real scalar: squared Fubini-Study length of a step v."""
        return distributed.total(jnp.sum(jnp.abs(self.apply(vector)) ** 2))

    @functools.cached_property
    def trace(self) -> Array:
        """Tr S, real scalar."""
        squares = self._moments[2] - _squares(self._means)
        single = [norms(block) for block in self.factors if len(block) == 1]
        if single:
            squares = squares + self.mean(functools.reduce(jnp.add, single))
        return squares

    @functools.cached_property
    def matrix(self) -> Array:
        """Oc of this device as rows, (1 or 2, B, P)."""
        out = jnp.concatenate([expand_factors(f) for f in self.factors], axis=1)
        out = (out - self.mean(out)[None, :]) * self.root[:, None]
        return self._rows(out).astype(self.solve_dtype)

    @property
    def solve_dtype(self) -> Any:
        """Dtype of S, T and of the vectors that meet them."""
        # Complex parameters may have real scores (a Jastrow factor): F is complex.
        if self.real_params:
            return self.real_dtype
        return jnp.complex128 if self.real_dtype == jnp.float64 else jnp.complex64

    @functools.cached_property
    def s_matrix(self) -> Array:
        """S, (P, P), on every device."""
        rows = self.matrix.reshape(-1, self.n_parameters)
        return distributed.total(jnp.conj(rows).T @ rows)

    @functools.cached_property
    def _uncentred(self) -> list[ScoreFactors]:
        """What T is made of; it is centred in the end.

        Where products of factors, which cannot be centred before, set the accuracy,
        raw factors let leaves share their products.
        """
        factored = any(len(f) > 1 for f in self._raw)
        return self._raw if factored else self.factors

    @functools.cached_property
    def _wide(self) -> list[ScoreFactors]:
        """Dense scores that travel by columns: those with more columns than samples."""
        if distributed.n_devices() == 1:
            return []
        wide = [f for f in self._uncentred if len(f) == 1]
        columns = sum(f[0].size // self.n_local for f in wide)
        return wide if columns > self.n_samples else []

    @functools.cached_property
    def t_rows(self) -> Array:
        """This device's rows of T, (parts, B, parts, Ns), parts = 1 or 2.

        Factored scores are small: all rows of them go to every device, which computes
        its rows of T.  Wide dense ones are turned from rows into columns first
        (all_to_all): each device receives as many numbers as it has, and the sum over
        devices goes to the rows.
        """
        wide = self._wide
        near = [f for f in self._uncentred if not wide or len(f) != 1]
        rows = jnp.zeros((), self.real_dtype)
        if near:
            gathered = [tuple(distributed.gather(f) for f in b) for b in near]
            pairs = list(zip(near, gathered))
            rows = rows + self._parts(lambda c: sum(gram(x, y, c) for x, y in pairs))
        if wide:
            joined = jnp.concatenate([f.reshape(f.shape[0], -1) for (f,) in wide], 1)
            x = distributed.columns_of_rows(joined)
            full = self._parts(lambda conj: times_transposed(x, x, conj))
            rows = rows + distributed.total_rows(full, axis=1)
        return self._centre_both(rows.astype(self.solve_dtype))

    @property
    def t_shared(self) -> Shared:
        """T in blocks; where they can be had one by one, the upper ones are spared."""
        if self.stacked or self._wide:
            return Shared.of(self.t_rows)
        count, near = distributed.n_devices(), self._uncentred
        mean, square = self._means_of_t()
        # Leaves that share a factor send it once.
        shared = {id(f): f for block in near for f in block}
        gathered, far_mean, far_root = distributed.gather_all(
            (list(shared.values()), jnp.conj(mean), self.root)
        )
        of = dict(zip(shared, gathered))
        far = [tuple(of[id(f)] for f in block) for block in near]

        def some(x: Array, start: int, stop: int) -> Array:
            part = x[:, start:stop]
            return part.reshape(count * (stop - start), *x.shape[2:])

        def block(start: int, stop: int) -> Array:
            out = jnp.zeros((), self.solve_dtype)
            for f, g in zip(near, far):
                columns = tuple(some(x, start, stop) for x in g)
                out = out + gram(tuple(x[start:] for x in f), columns, True)
            out = out - mean[start:, None] - some(far_mean, start, stop)[None] + square
            root = self.root[start:, None] * some(far_root, start, stop)[None]
            return out.astype(self.solve_dtype) * root

        return Shared(1, self.n_local, block)

    def _means_of_t(self) -> tuple[Array, Array]:
        """Means over columns of the uncentred T, O <O>^H (B,), and over all of it."""
        raw = self._uncentred is self._raw
        means = self._moments[0] if raw else self._means
        rows = [times_vector(b, x) for b, x in zip(self._uncentred, means)]
        return functools.reduce(jnp.add, rows), _squares(means)

    def _centre_both(self, rows: Array) -> Array:
        """Subtract means over rows and columns of T, and apply the weights."""
        weights = distributed.gather(self.weights)
        root = jnp.sqrt(weights)[None, None, None]
        rows = (rows - jnp.tensordot(rows, weights, 1)[..., None]) * root
        means = distributed.total(jnp.einsum("b,pb...->p...", self.weights, rows))
        return (rows - means[:, None]) * self.root[None, :, None, None]

    @property
    def t_matrix(self) -> Array:
        """T, (n_rows, n_rows), on every device; rows ordered (part, sample)."""
        full = distributed.gather(self.t_rows, axis=1)
        return full.reshape(self.n_rows, self.n_rows)

    def _parts(self, gram: Callable[[bool], Any]) -> Array:
        """Uncentred, unweighted T of some rows, (row parts, rows, column parts, Ns).

        Args:
            gram: True -> O O^H, False -> O O^T, (rows, Ns).
        """
        plain = gram(True)
        if not self.stacked:
            return plain[None, :, None]
        other = gram(False)
        both, diff = plain + other, plain - other
        lines = [[both.real, -diff.imag], [both.imag, diff.real]]
        return jnp.stack([jnp.stack(line, axis=1) for line in lines]) / 2

    def gather_rows(self, rows: Array) -> Array:
        """Rows (1 or 2, B) of every device as one vector (n_rows,)."""
        return distributed.gather(rows, axis=1).reshape(-1)

    def scatter_rows(self, vector: Array) -> Array:
        """Inverse of `gather_rows`: this device's rows, (1 or 2, B)."""
        parts = vector.reshape(-1, self.n_samples)
        return distributed.local_rows(parts, self.n_local, axis=1)


def _squares(arrays: list[Array]) -> Array:
    parts = (jnp.sum(jnp.abs(x) ** 2) for x in arrays)
    return functools.reduce(jnp.add, parts)
