"""Restricted Boltzmann machine, plain or invariant under a group, without exps.

log psi(sigma) = sum_i a_i sigma_i + sum_j ln cosh(theta_j),
theta_j = b_j + sum_i W_ij sigma_i            (arXiv:1606.02318).

The cache keeps u_j = exp(2 theta_j) of every walker, walkers trailing.  A flip of
site i multiplies u_j by exp(-4 sigma_i W_ij), so that

psi'/psi = exp(sigma_i c_i) prod_j (1 + u'_j) / (1 + u_j),
c_i = 2 (sum_j W_ij - a_i):

one multiply-add per hidden unit and one logarithm per block of hidden units.
Complex numbers are kept as two real planes.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze import rbm_kernel
from ansatze.activations import log_cosh, log_cosh_planes
from ansatze.cuts_pairs import rbm_capacity
from ansatze.rbm_complex import ComplexParts, complex_log_ratio
from ansatze.rbm_products import (
    Case,
    as_planes,
    by_real_products,
    cases_of,
    log_one_plus,
    log_one_plus_moved,
    moved,
    real_times,
    site_values,
)
from vmc import elementary
from vmc.base import Key, Move, Moves, Params, Problem, WaveFunction
from vmc.errors import JobError

#: Hidden units per product.  |2 theta| is clipped to CLIP inside products, which
#: is exact to rounding (exp(-CLIP) is far below it) and keeps the product finite.
BLOCK_SIZE = {"float32": 4, "float64": 8}
CLIP = {"float32": 18.0, "float64": 80.0}


class RBMCache(NamedTuple):
    """Walkers' part (u, log_den) and tables of the parameters.

    Attributes:
        u: planes (M, B) of exp(2 theta).
        log_den: sum_j ln |1 + u_j|, real (B,).
        up: planes (N + 1, M) of exp(-4 W), the factor that flips an up spin; the
            last row is 1 (padding).
        down: planes of exp(+4 W).
        c: complex or real (N + 1,), see the module's docstring; the last is 0.
        bias: -2 a, (N + 1,).
        block_weights: sum of W over each block, (N + 1, M / block size).
    """

    u: tuple[Array, ...]
    log_den: Array
    up: tuple[Array, ...]
    down: tuple[Array, ...]
    c: Array
    bias: Array
    block_weights: Array


class RBMPending(NamedTuple):
    """What a proposal leaves for `commit`: factors of u, one after the other."""

    cases: tuple[Case, ...]
    log_den: Array


def rbm(
    problem: Problem,
    *,
    alpha: int | None = None,
    init_scale: float = 0.05,
) -> WaveFunction:
    """RBM with alpha N hidden units; alpha filters when a symmetry is given.

    With ``problem.symmetry`` psi is invariant under the group: hidden unit (f, g)
    sees the lattice through filter f moved by group element g.  Biases exist only
    where the global spin flip is no symmetry, since ln cosh is even.  For
    ``dtype = "real"`` psi is positive.

    Args:
        problem: see `vmc.base.Problem`.
        alpha: density of hidden units (filters), default 4 with a symmetry and 2
            without.
        init_scale: standard deviation of the weights is init_scale / sqrt(M / N).

    Raises:
        JobError: alpha is not positive, or a site is not a spin 1/2.
    """
    if any(d != 2 for d in problem.space.local_dims):
        raise JobError(
            "the RBM is defined for spins 1/2, but the space has local dimensions "
            f"{sorted(set(problem.space.local_dims))}. Choose another ansatz "
            "(`vmc list`)."
        )
    alpha = default_alpha(problem) if alpha is None else alpha
    if alpha < 1:
        raise JobError(f"alpha is {alpha}; it is a positive integer")
    shape = _Shape.of(problem, alpha, init_scale)
    return WaveFunction(
        init=functools.partial(_init, shape),
        log_psi=functools.partial(_log_psi, shape),
        cache=functools.partial(_cache, shape),
        log_ratios=functools.partial(_log_ratios, shape),
        try_move=functools.partial(_try_move, shape),
        commit=functools.partial(_commit, shape),
        scores=functools.partial(_scores, shape),
        range="complex" if shape.is_complex else "positive",
        capacity=rbm_capacity(
            shape.n_sites, shape.n_hidden, shape.symmetry is not None
        ),
        walk=functools.partial(_walk, shape),
    )


def default_alpha(problem: Problem) -> int:
    """Hidden units per site when the job does not say."""
    return 2 if problem.symmetry is None else 4


class _Shape(NamedTuple):
    """Everything static about one RBM."""

    n_sites: int
    n_features: int
    symmetry: np.ndarray | None
    inverse: np.ndarray | None
    biased: bool
    is_complex: bool
    precision: str
    init_scale: float

    @classmethod
    def of(cls, problem: Problem, alpha: int, init_scale: float) -> _Shape:
        n, perms = problem.space.n_sites, problem.symmetry
        return cls(
            n_sites=n,
            n_features=alpha if perms is not None else alpha * n,
            symmetry=perms,
            inverse=None if perms is None else np.argsort(perms, axis=1),
            biased=not problem.spin_flip,
            is_complex=problem.dtype == "complex",
            precision=problem.precision,
            init_scale=init_scale,
        )

    @property
    def n_hidden(self) -> int:
        return self.n_features * (1 if self.symmetry is None else len(self.symmetry))

    @property
    def n_padded(self) -> int:
        """Hidden units padded with zeros to whole blocks."""
        size = self.block_size
        return -(-self.n_hidden // size) * size

    @property
    def block_size(self) -> int:
        return BLOCK_SIZE[self.precision]

    @property
    def real(self) -> Any:
        return jnp.dtype(self.precision)


def _init(shape: _Shape, key: Key) -> Params:
    scale = shape.init_scale / math.sqrt(shape.n_hidden / shape.n_sites)

    def draw(key: Key, dims: tuple[int, ...]) -> Array:
        if not shape.is_complex:
            return scale * jax.random.normal(key, dims, shape.real)
        re, im = jax.random.normal(key, (2, *dims), shape.real)
        return scale * lax.complex(re, im)

    keys = jax.random.split(key, 3)
    if shape.symmetry is None:
        params = {"W": draw(keys[0], (shape.n_sites, shape.n_features))}
    else:
        params = {"W": draw(keys[0], (shape.n_features, shape.n_sites))}
    if shape.biased:
        n_visible = 1 if shape.symmetry is not None else shape.n_sites
        params["a"] = draw(keys[1], (n_visible,))
        params["b"] = draw(keys[2], (shape.n_features,))
    return params


def _expand(shape: _Shape, params: Params) -> tuple[Array, Array, Array]:
    """a (N,), b (M,), W (N, M) of the equivalent plain RBM, M padded to blocks."""
    weights = params["W"]
    n, dtype = shape.n_sites, weights.dtype
    a = jnp.broadcast_to(params.get("a", jnp.zeros((1,), dtype)), (n,))
    b = params.get("b", jnp.zeros((shape.n_features,), dtype))
    if shape.inverse is not None:
        n_group = len(shape.inverse)
        weights = weights[:, shape.inverse].reshape(-1, n).T
        b = jnp.repeat(b, n_group)
    pad = shape.n_padded - shape.n_hidden
    return a, jnp.pad(b, (0, pad)), jnp.pad(weights, ((0, 0), (0, pad)))


def _thetas(b: Array, weights: Array, sigma: Array) -> Array:
    """theta, (M, B): walkers trailing."""
    spins = sigma.T.astype(weights.real.dtype)
    return real_times(weights.T, spins) + b[:, None]


def _log_psi(shape: _Shape, params: Params, sigma: Array) -> Array:
    a, b, weights = _expand(shape, params)
    spins, theta = sigma.astype(shape.real), _thetas(b, weights, sigma)
    if not shape.is_complex:
        return spins @ a + jnp.sum(log_cosh(theta), axis=0)
    re, im = log_cosh_planes(theta.real, theta.imag)
    re = spins @ a.real + jnp.sum(re, axis=0)
    return lax.complex(re, spins @ a.imag + jnp.sum(im, axis=0))


def _cache(shape: _Shape, params: Params, sigma: Array) -> RBMCache:
    a, b, weights = _expand(shape, params)
    limit = CLIP[shape.precision]
    double = 2 * _thetas(b, weights, sigma)
    if shape.is_complex:
        size = jnp.exp(jnp.clip(double.real, -limit, limit))
        cos, sin = elementary.cos_sin(double.imag)
        u = (size * cos, size * sin)
    else:
        u = (jnp.exp(jnp.clip(double, -limit, limit)),)
    padded = jnp.pad(weights, ((0, 1), (0, 0)))
    a = jnp.pad(a, (0, 1))
    blocks = padded.reshape(shape.n_sites + 1, shape.block_size, -1)
    return RBMCache(
        u=u,
        log_den=log_one_plus(shape.block_size, u),
        up=as_planes(elementary.exp(-4 * padded)),
        down=as_planes(elementary.exp(4 * padded)),
        c=2 * (padded.sum(axis=1) - a),
        bias=-2 * a,
        block_weights=blocks.sum(axis=1),
    )


def _visible(cache: RBMCache, move: Move, spins: list[Array]) -> Array:
    """sum over the flipped sites of sigma_i c_i, (B,)."""
    if move.exchange:
        return spins[0] * (cache.c[move.sites[0]] - cache.c[move.sites[1]])
    total = spins[0] * cache.c[move.sites[0]]
    for c, spin in enumerate(spins[1:], start=1):
        total = total + spin * cache.c[move.sites[c]]
    return total


def _try_move(
    shape: _Shape, params: Params, cache: RBMCache, sigma: Array, move: Move
) -> tuple[Array, RBMPending]:
    spins = site_values(shape.n_sites, sigma, move.sites, shape.real)
    cases = cases_of(cache.up, cache.down, move, spins)
    log_den = log_one_plus_moved(shape.block_size, cache.u, cases)
    real_part = _visible(cache, move, spins).real + log_den - cache.log_den
    return 2 * real_part, RBMPending(cases, log_den)


def _commit(
    shape: _Shape, cache: RBMCache, pending: RBMPending, accept: Array
) -> RBMCache:
    keep = accept[None, :]
    after = moved(cache.u, pending.cases)
    u = tuple(jnp.where(keep, new, old) for new, old in zip(after, cache.u))
    log_den = jnp.where(accept, pending.log_den, cache.log_den)
    return cache._replace(u=u, log_den=log_den)


def _walk(
    shape: _Shape, params: Params, sigma: Array, *rows: Array, **keys: bool
) -> tuple[Array, Array, Array]:
    cache = _cache(shape, params, sigma)
    return rbm_kernel.walk(shape.block_size, cache, sigma, *rows, **keys)


def _log_ratios(
    shape: _Shape,
    params: Params,
    cache: RBMCache,
    sigma: Array,
    moves: Moves,
    wanted: Array | None = None,
) -> Array:
    if shape.is_complex:
        one = functools.partial(complex_log_ratio, _complex_parts(shape, cache), sigma)
    else:
        one = functools.partial(_real_log_ratio, shape, cache, sigma)

    def body(row: tuple[Array, Array]) -> Array:
        return one(Move(row[0], row[1], moves.exchange))

    return lax.map(body, (jnp.asarray(moves.sites), jnp.asarray(moves.shift)))


def _real_log_ratio(shape: _Shape, cache: RBMCache, sigma: Array, move: Move) -> Array:
    spins = site_values(shape.n_sites, sigma, move.sites, shape.real)
    cases = cases_of(cache.up, cache.down, move, spins)
    log_den = log_one_plus_moved(shape.block_size, cache.u, cases)
    return _visible(cache, move, spins) + log_den - cache.log_den


def _complex_parts(shape: _Shape, cache: RBMCache) -> ComplexParts:
    def blocks(planes: tuple[Array, ...]) -> Array:
        z = lax.complex(*planes)
        return z.reshape(shape.block_size, -1, z.shape[-1])

    u = blocks(cache.u)
    up, down = (blocks(tuple(x.T for x in t)) for t in (cache.up, cache.down))
    shift = 2 * cache.block_weights.T
    return ComplexParts(
        n_sites=shape.n_sites,
        u=u,
        inverse=1 / jnp.prod(1 + u, axis=0),
        up=up,
        down=down,
        block_up=elementary.exp(shift),
        block_down=elementary.exp(-shift),
        bias=cache.bias,
    )


def _scores(shape: _Shape, params: Params, sigma: Array) -> Any:
    _, b, weights = _expand(shape, params)
    spins = sigma.astype(shape.real)
    # Walkers lead, as in all scores: turning tanh around costs more than its products.
    theta = by_real_products(lambda w: spins @ w, weights) + b[None]
    tanh = elementary.tanh(theta[:, : shape.n_hidden])
    if shape.symmetry is None:
        # A factor that two leaves share is one array: it travels once.
        s, t = spins[:, None], tanh[:, None]
        scores = {"W": (s, t)}
        if shape.biased:
            scores |= {"a": (s,), "b": (t,)}
        return scores
    per_filter = tanh.reshape(-1, shape.n_features, len(shape.symmetry))
    scores = {"W": (_filter_scores(shape, per_filter, sigma),)}
    if shape.biased:
        scores["a"] = (spins.sum(axis=1)[:, None, None],)
        scores["b"] = (per_filter.sum(axis=2)[:, None, :],)
    return scores


def _filter_scores(shape: _Shape, tanh: Array, sigma: Array) -> Array:
    """d log psi / d w_{f d} = sum_g tanh_{f g} sigma[perm_g(d)], (B, 1, alpha N)."""
    assert shape.symmetry is not None
    moved = sigma[:, shape.symmetry].astype(shape.real)
    out = by_real_products(lambda t: jnp.einsum("bfg,bgd->bfd", t, moved), tanh)
    return out.reshape(len(sigma), 1, -1)
