"""Any pair of functions, or any flax module, as a `WaveFunction`.

`from_functions` supplies everything beyond log psi by evaluating it in full, in
chunks of bounded memory.  `from_module` reduces a flax module (nnx or linen) to
such a pair, and uses the module's own fast methods where it defines them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc.base import Cache, Key, Move, Moves, Params, Problem, WaveFunction
from vmc.chunking import (
    bytes_per_row,
    chunk_size,
    default_budget,
    map_chunks,
    map_wanted,
)
from vmc.errors import JobError
from vmc.flax_modules import FAST, Reduced, reduce_module

#: Largest relative residual of the Cauchy-Riemann equations that is rounding.
HOLOMORPHIC_TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


def float_dtype(problem: Problem) -> np.dtype:
    """The real dtype of a problem's precision.

    Raises:
        JobError: float64 is wanted but JAX runs without it.
    """
    if problem.precision == "float64" and jnp.result_type(float) != np.float64:
        raise JobError(
            'precision is "float64", but JAX has 64-bit numbers switched off. Call '
            'jax.config.update("jax_enable_x64", True) before the first array is '
            'made, or set precision = "float32".'
        )
    return np.dtype(problem.precision)


def apply_move(sigma: Array, move: Move, local_dims: tuple[int, ...]) -> Array:
    """Configurations after a move, for any local dimension.

    The local index of a value is (d - 1 - value) / 2; the move adds its shift to
    it modulo d.  Padding sites (N) are left out.

    Args:
        sigma: int8 (B, N).
        move: the same for every walker.
        local_dims: d of every site.

    Returns:
        int8 (B, N).
    """
    sigma, sites = jnp.asarray(sigma), jnp.asarray(move.sites)
    dims = jnp.asarray(local_dims, jnp.int32).at[sites].get(mode="clip")[None, :]
    old = sigma.at[:, sites].get(mode="clip").astype(jnp.int32)
    index = (dims - 1 - old) // 2 + move.shift.astype(jnp.int32)[None, :]
    new = dims - 1 - 2 * jnp.mod(index, dims)
    return sigma.at[:, sites].set(new.astype(sigma.dtype), mode="drop")


def from_functions(
    init: Callable[[Key], Params],
    log_psi: Callable[[Params, Array], Array],
    *,
    problem: Problem,
    range: Literal["positive", "real", "complex"],
) -> WaveFunction:
    """A wave function from log psi alone: every ratio is a full evaluation.

    Args:
        init: key -> parameters, all real or all complex.
        log_psi: (params, sigma int8 (B, N)) -> log psi (B,), row by row.  If the
            parameters are complex it must be holomorphic in them.
        problem: gives the space and the precision.
        range: see `WaveFunction`; "positive" goes with a real log psi, the others
            with a complex one.

    Raises:
        JobError: shapes or dtypes do not fit.
    """
    params = jax.eval_shape(lambda: init(jax.random.key(0)))
    holomorphic = _all_complex(params)
    dtype = output_dtype("log_psi", log_psi, params, problem)
    if np.issubdtype(dtype, np.complexfloating) == (range == "positive"):
        raise JobError(
            f'log_psi returns {dtype}, but its range is "{range}": a positive wave '
            "function has a real logarithm, any other a complex one"
        )
    n_sites, dims = problem.space.n_sites, problem.space.local_dims
    row = jax.ShapeDtypeStruct((n_sites,), jnp.int8)
    row_bytes = bytes_per_row(log_psi, params, row)
    evaluate = functools.partial(_evaluate, log_psi, row_bytes)

    def log_ratios(
        params: Params,
        cache: Cache,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        sigma, n_batch = jnp.asarray(sigma), sigma.shape[0]
        sites, shift = jnp.asarray(moves.sites), jnp.asarray(moves.shift)

        def moved(row: Array, sites: Array, shift: Array) -> Array:
            return apply_move(row[None], Move(sites, shift, moves.exchange), dims)[0]

        def some(pair: Array) -> Array:
            m, b = pair // n_batch, pair % n_batch
            rows = jax.vmap(moved)(sigma[b], sites[m], shift[m])
            return log_psi(params, rows) - cache[b]

        shape = (moves.n_moves, n_batch)
        if wanted is None:
            wanted = jnp.ones(shape, bool)
        most = chunk_size(math.prod(shape), row_bytes, default_budget())
        return map_wanted(some, wanted.reshape(-1), most).reshape(shape)

    def try_move(
        params: Params, cache: Cache, sigma: Array, move: Move
    ) -> tuple[Array, Array]:
        moved = evaluate(params, apply_move(sigma, move, dims))
        return 2 * (moved - cache).real, moved

    return WaveFunction(
        init=init,
        log_psi=evaluate,
        cache=evaluate,
        log_ratios=log_ratios,
        try_move=try_move,
        commit=lambda cache, pending, accept: jnp.where(accept, pending, cache),
        scores=functools.partial(_scores, log_psi, row_bytes, holomorphic),
        range=range,
    )


def from_module(module: Any, problem: Problem, **keys: Any) -> WaveFunction:
    """A wave function from a flax module, nnx or linen, instance or class.

    The module is called with sigma as floats, (B, N) with values +1 and -1 (2m for
    a general spin), and returns log psi, (B,): real for a positive wave function,
    complex otherwise.  Each row depends on its own configuration only.  A class is
    constructed with ``keys``; constructor arguments named ``n_sites``, ``problem``
    and ``rngs`` are filled in if ``keys`` does not give them.

    Parameters are ``nnx.Param`` (linen: the collection "params"), cast to the
    precision of the problem, in a flat dictionary "path.to.parameter" -> array.
    Real and complex leaves are both welcome.  Complex ones stay complex if all
    leaves are, and log psi is found to be holomorphic in them (Cauchy-Riemann
    equations, checked at random points); otherwise every complex leaf becomes a
    pair {"re": ..., "im": ...} of real ones.

    *Fast methods.*  Without more, every ratio is a full evaluation.  A module may
    define all of ``cache(sigma)``, ``log_ratios(cache, sigma, moves)``,
    ``try_move(cache, sigma, move)`` and the static method ``commit(cache, pending,
    accept)``, and also ``scores(sigma)``: the functions of `WaveFunction` with the
    parameters in ``self`` and sigma as int8.  ``scores`` returns a dictionary with
    the names of the parameters.

    Args:
        module: the module.
        problem: gives the space and the precision.
        keys: constructor arguments, for a class only.

    Raises:
        JobError: the module has state other than parameters, its constructor does
            not take the keys, or its output has the wrong shape or dtype.
    """
    reduced = reduce_module(module, problem, keys, float_dtype(problem))
    real = float_dtype(problem)

    def log_psi(params: Params, sigma: Array) -> Array:
        return reduced.call("__call__", params, sigma.astype(real))

    shapes = jax.eval_shape(lambda: reduced.init(jax.random.key(0)))
    dtype = output_dtype(reduced.name, log_psi, shapes, problem)
    complex_leaves = [jnp.iscomplexobj(x) for x in jax.tree.leaves(shapes)]
    pack = unpack = lambda params: params
    if any(complex_leaves) and not (
        all(complex_leaves)
        and np.issubdtype(dtype, np.complexfloating)
        and is_holomorphic(shapes, log_psi, problem)
    ):
        pack, unpack = _to_pairs, _from_pairs
        if "scores" in reduced.methods:
            raise JobError(
                f"{reduced.name} defines scores, but log psi is not holomorphic in "
                "its complex parameters (or only some are complex), so they are "
                "split into real pairs. Make all parameters real, or leave scores "
                "out."
            )
    wave_function = from_functions(
        lambda key: pack(reduced.init(key)),
        lambda params, sigma: log_psi(unpack(params), sigma),
        problem=problem,
        range="complex" if np.issubdtype(dtype, np.complexfloating) else "positive",
    )
    return wave_function._replace(**_fast_methods(reduced, unpack))


def _fast_methods(reduced: Reduced, unpack: Callable[[Params], Params]) -> dict:
    """The module's own methods, as functions of explicit parameters."""

    def bind(name: str) -> Callable[..., Any]:
        return lambda params, *args: reduced.call(name, unpack(params), *args)

    bound: dict[str, Any] = {}
    if set(FAST) <= reduced.methods:
        bound = {name: bind(name) for name in ("cache", "try_move")}
        ratios = bind("log_ratios")
        bound["log_ratios"] = lambda params, cache, sigma, moves, wanted=None: ratios(
            params, cache, sigma, moves
        )
        bound["commit"] = reduced.static("commit")
    if "scores" in reduced.methods:
        bound["scores"] = bind("scores")
    return bound


def output_dtype(
    name: str, log_psi: Callable[..., Any], params: Params, problem: Problem
) -> np.dtype:
    """Check by tracing that log psi has shape (B,) and a dtype of the precision.

    Args:
        name: what to call it in a message.
        log_psi: (params, sigma int8 (B, N)) -> (B,).
        params: parameters or their shapes.
        problem: gives N and the precision.

    Returns:
        The dtype.

    Raises:
        JobError: it does not, or it fails.
    """
    n_sites = problem.space.n_sites
    # One row more than sites: a result per site is not mistaken for one per row.
    sigma = jax.ShapeDtypeStruct((n_sites + 1, n_sites), jnp.int8)
    try:
        out = jax.eval_shape(log_psi, params, sigma)
    except Exception as error:
        raise JobError(
            f"{name} failed on a batch sigma of shape (B, N) = {sigma.shape}: {error}"
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct) or out.shape != (n_sites + 1,):
        came = jax.tree.map(lambda x: x.shape, out)
        raise JobError(
            f"{name} returns {came} for a batch sigma of shape (B, N) = "
            f"{sigma.shape}; expected one array log psi of shape (B,) = "
            f"{(n_sites + 1,)}. Treat the leading axis as a batch and reduce the rest."
        )
    real = float_dtype(problem)
    expected = (real, np.result_type(real, np.complex64))
    if out.dtype not in expected:
        raise JobError(
            f"{name} returns {out.dtype}; with precision = "
            f'"{problem.precision}" expected {expected[0]} or {expected[1]}. Leave '
            "the dtype of layers unset (None), so that they follow their input, or "
            "change the precision of the job."
        )
    return np.dtype(out.dtype)


def is_holomorphic(
    shapes: Params, log_psi: Callable[[Params, Array], Array], problem: Problem
) -> bool:
    """Whether log psi obeys the Cauchy-Riemann equations, at three random points.

    Compares the derivatives along a random complex direction v and along i v.  A
    derivative that is not finite counts as a violation, since splitting into real
    pairs is right in any case.

    Args:
        shapes: shapes and dtypes of the parameters, all complex.
        log_psi: (params, sigma) -> complex (B,).
        problem: gives configurations and precision.
    """
    tolerance = HOLOMORPHIC_TOLERANCE[problem.precision]
    words = np.random.default_rng(0).integers(2**32, size=(problem.space.n_sites, 8))
    sigma = problem.space.random(jnp.asarray(words, jnp.uint32))

    @jax.jit
    def residual(params: Params, direction: Params) -> tuple[Array, Array]:
        _, slope = jax.linearize(lambda p: log_psi(p, sigma), params)
        along = slope(direction)
        turned = slope(jax.tree.map(lambda v: 1j * v, direction))
        return jnp.max(jnp.abs(turned - 1j * along)), jnp.max(jnp.abs(along))

    for seed in range(3):
        rng = np.random.default_rng(seed)
        gap, scale = residual(_random_like(rng, shapes), _random_like(rng, shapes))
        if not bool(gap <= tolerance * scale):
            return False
    return True


def _random_like(rng: np.random.Generator, shapes: Params) -> Params:
    """Complex normal numbers that keep the values of a deep network of order one."""

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        re, im = rng.normal(size=(2, *leaf.shape))
        fan_in = math.prod(leaf.shape[:-1])
        return ((re + 1j * im) / math.sqrt(2 * max(1, fan_in))).astype(leaf.dtype)

    return jax.tree.map(draw, shapes)


def _to_pairs(params: Params) -> Params:
    """Complex leaves as {"re", "im"}."""

    def split(x: Array) -> Any:
        return {"re": x.real, "im": x.imag} if jnp.iscomplexobj(x) else x

    return jax.tree.map(split, params)


def _from_pairs(params: Params) -> Params:
    """The inverse of `_to_pairs`; params is flat apart from the pairs."""
    return {
        name: lax.complex(x["re"], x["im"]) if isinstance(x, dict) else x
        for name, x in params.items()
    }


def _all_complex(params: Params) -> bool:
    """Whether all leaves are complex; they must be all complex or all real."""
    leaves = jax.tree.leaves(params)
    kinds = {np.dtype(x.dtype).kind for x in leaves}
    if kinds not in ({"f"}, {"c"}):
        raise JobError(
            f"parameters have dtypes {sorted({str(x.dtype) for x in leaves})}; "
            "expected at least one array, all real floating or all complex. Hold a "
            "complex parameter next to real ones as two real arrays."
        )
    return kinds == {"c"}


def _evaluate(
    log_psi: Callable[..., Array], row_bytes: int, params: Params, sigma: Array
) -> Array:
    """Log psi of any number of rows, in bounded memory, also when differentiated."""
    rows = functools.partial(log_psi, params)
    chunk = chunk_size(sigma.shape[0], row_bytes, default_budget())
    if chunk < sigma.shape[0]:
        # Inside a loop nothing can be shared between the two evaluations anyway.
        rows = jax.checkpoint(rows, prevent_cse=False)
    return map_chunks(rows, sigma, chunk)


def _scores(
    log_psi: Callable[..., Array],
    row_bytes: int,
    holomorphic: bool,
    params: Params,
    sigma: Array,
) -> Any:
    """Gradients of log psi one configuration at a time, dense leaves (B, 1, n)."""
    params = _vary_with(params, sigma)

    def one(row: Array) -> Any:
        def value(p: Params) -> Array:
            return log_psi(p, row[None, :])[0]

        if holomorphic:
            grad = jax.grad(value, holomorphic=True)(params)
        else:
            out, pull = jax.vjp(lambda p: _parts(value(p)), params)
            # As in `_vary_with`: cotangents must vary as the outputs do.
            zero = 0 * jnp.sum(row, dtype=jnp.int32)
            basis = jnp.eye(len(out), dtype=out[0].dtype) + zero.astype(out[0].dtype)
            parts = [pull(tuple(unit))[0] for unit in basis]
            grad = parts[0] if len(out) == 1 else jax.tree.map(lax.complex, *parts)
        return jax.tree.map(lambda g: g.reshape(1, -1), grad)

    n_params = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
    # Forward values are kept for the way back, once per pullback.
    per_row = 2 * (row_bytes + n_params)
    chunk = chunk_size(sigma.shape[0], per_row, default_budget())
    return jax.tree.map(lambda g: (g,), map_chunks(jax.vmap(one), sigma, chunk))


def _parts(y: Array) -> tuple[Array, ...]:
    return (y.real, y.imag) if jnp.iscomplexobj(y) else (y,)


def _vary_with(params: Params, sigma: Array) -> Params:
    """Parameters marked as varying over the devices that sigma varies over.

    In ``shard_map`` with its check on, differentiating with respect to replicated
    parameters would sum over devices, behind the caller's back.  Adding a zero made
    from sigma marks them in every version of JAX; elsewhere it does nothing.
    """
    zero = 0 * jnp.sum(sigma, dtype=jnp.int32)
    return jax.tree.map(lambda x: x + zero.astype(x.dtype), params)
