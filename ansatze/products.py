"""Products and sums of wave functions of any registered families.

product: log psi = sum_k log psi_k; the moves of every factor stay as fast as they
are.  sum: psi = sum_k e^{c_k} psi_k with learned c_k.  Entanglement capacities add
(product) or, as ranks, add (sum).

All parameters must be real or all complex; where factors disagree, the complex ones
are held as pairs of real arrays.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.capacity import product_capacity, sum_capacity
from ansatze.cuts import each
from ansatze.grids import grid_of
from ansatze.scaled import LOG_ZERO, log_amplitude
from vmc import elementary
from vmc.base import Capacity, Key, Move, Moves, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.space import moved_values
from vmc.wavefunction import float_dtype

Range: TypeAlias = Literal["positive", "real", "complex"]

#: What is multiplied or added when the job does not say.
DEFAULT = ({"name": "jastrow"}, {"name": "rbm"})


def product(
    problem: Problem, *, parts: Sequence[Mapping[str, Any]] = DEFAULT
) -> WaveFunction:
    """The product of wave functions.

    Args:
        problem: handed to every factor.
        parts: tables like [ansatz]: a name and the keys of that family.  The key
            ``dtype`` ("real", "complex") overrides that of the problem for one
            part.  The name "marshall" is the sign (-1)^(lowered spins on odd
            sites) of a bipartite grid, which has no keys and no parameters.

    Raises:
        JobError: a table is malformed, or a family refuses the problem.
    """
    return _wave_function(_Product(*_parts(problem, parts, "product"), problem))


def sum_(
    problem: Problem, *, parts: Sequence[Mapping[str, Any]] = DEFAULT
) -> WaveFunction:
    """The sum of wave functions with weights e^{c_k}, parameters "log_weights".

    Args:
        problem: handed to every term.
        parts: see `product`.

    Raises:
        JobError: a table is malformed, or a family refuses the problem.
    """
    return _wave_function(_Sum(*_parts(problem, parts, "sum"), problem))


def _parts(
    problem: Problem, tables: Sequence[Mapping[str, Any]], what: str
) -> tuple[tuple[str, ...], tuple[WaveFunction, ...]]:
    """Names of the parameters of every part, and the parts."""
    if isinstance(tables, Mapping | str) or len(tables) == 0:
        raise JobError(
            f"parts of a {what} is {tables!r}; it is a list of tables, such as "
            '[{name = "jastrow"}, {name = "rbm", alpha = 2}]'
        )
    built = [_build(problem, table, what) for table in tables]
    kinds = {_kind(part) for part in built} - {None}
    if len(kinds) > 1:
        built = [_in_pairs(p) if _kind(p) == "c" else p for p in built]
    names = tuple(f"{k}_{table['name']}" for k, table in enumerate(tables))
    return names, tuple(built)


def _build(problem: Problem, table: Mapping[str, Any], what: str) -> WaveFunction:
    # Late, since the registry imports this file.
    from ansatze import ANSATZE

    if not isinstance(table, Mapping) or "name" not in table:
        raise JobError(f"a part of a {what} is {table!r}; it needs the key name")
    keys = dict(table)
    name, dtype = keys.pop("name"), keys.pop("dtype", problem.dtype)
    if dtype not in ("real", "complex"):
        raise JobError(f'dtype of part {name} is {dtype!r}; it is "real" or "complex"')
    if name == "marshall":
        return _marshall(problem)
    if name not in ANSATZE:
        known = [*ANSATZE, "marshall"]
        close = difflib.get_close_matches(str(name), known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise JobError(
            f"a part of a {what} is named {name!r}{hint}. Known: {', '.join(known)}"
        )
    return ANSATZE[name](problem._replace(dtype=dtype), **keys)


def _kind(part: WaveFunction) -> str | None:
    """Kind of the parameters, "f" or "c"; None without any."""
    shapes = jax.tree.leaves(jax.eval_shape(part.init, jax.random.key(0)))
    return np.dtype(shapes[0].dtype).kind if shapes else None


def _in_pairs(part: WaveFunction) -> WaveFunction:
    """The same wave function with parameters {"re", "im"}, all real."""

    def pack(params: Params) -> Params:
        return {
            "re": jax.tree.map(jnp.real, params),
            "im": jax.tree.map(jnp.imag, params),
        }

    def unpack(params: Params) -> Params:
        return jax.tree.map(lax.complex, params["re"], params["im"])

    def scores(params: Params, sigma: Array) -> Any:
        structure = jax.tree.structure(params["re"])
        factors = part.scores(unpack(params), sigma)
        turned = [(1j * f[0], *f[1:]) for f in structure.flatten_up_to(factors)]
        return {"re": factors, "im": structure.unflatten(turned)}

    return part._replace(
        init=lambda key: pack(part.init(key)),
        log_psi=lambda params, sigma: part.log_psi(unpack(params), sigma),
        cache=lambda params, sigma: part.cache(unpack(params), sigma),
        log_ratios=lambda params, *args: part.log_ratios(unpack(params), *args),
        try_move=lambda params, *args: part.try_move(unpack(params), *args),
        scores=scores,
        exact=None,
        walk=None,
    )


def _as_complex(x: Array) -> Array:
    return x if jnp.iscomplexobj(x) else lax.complex(x, jnp.zeros_like(x))


@dataclasses.dataclass(frozen=True, eq=False)
class _Combination:
    """What products and sums share: functions of all parts, one after the other."""

    names: tuple[str, ...]
    parts: tuple[WaveFunction, ...]
    problem: Problem

    @property
    def range(self) -> Range:
        ranges = {part.range for part in self.parts}
        if "complex" in ranges:
            return "complex"
        return "real" if "real" in ranges else "positive"

    def each(self, params: Params, *columns: Sequence[Any]) -> list[tuple]:
        """(part, its parameters, its entry of every column)."""
        own = [params[name] for name in self.names]
        return list(zip(self.parts, own, *columns))

    def stack(self, logs: Sequence[Array]) -> Array:
        if self.range != "positive":
            logs = [_as_complex(x) for x in logs]
        return jnp.stack(logs)

    def logs(self, params: Params, sigma: Array) -> Array:
        """Log psi of every part, (n, B)."""
        return self.stack([part.log_psi(p, sigma) for part, p in self.each(params)])

    def ratios(
        self,
        params: Params,
        caches: tuple,
        sigma: Array,
        moves: Moves,
        wanted: Array | None,
    ) -> Array:
        """Log ratios of every part, (n, K, B)."""
        rows = sigma, moves, wanted
        each = self.each(params, caches)
        return self.stack([part.log_ratios(p, c, *rows) for part, p, c in each])

    def init(self, key: Key) -> Params:
        keys = jax.random.split(key, len(self.parts))
        return {n: p.init(k) for n, p, k in zip(self.names, self.parts, keys)}

    def cache(self, params: Params, sigma: Array) -> tuple:
        return tuple(part.cache(p, sigma) for part, p in self.each(params))

    def commit(self, cache: tuple, pending: tuple, accept: Array) -> tuple:
        each = zip(self.parts, cache, pending)
        return tuple(part.commit(c, new, accept) for part, c, new in each)


class _Product(_Combination):
    """Static part of a product; caches and pendings are tuples over the factors."""

    def log_psi(self, params: Params, sigma: Array) -> Array:
        return jnp.sum(self.logs(params, sigma), axis=0)

    def log_ratios(
        self,
        params: Params,
        cache: tuple,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        return jnp.sum(self.ratios(params, cache, sigma, moves, wanted), axis=0)

    def try_move(
        self, params: Params, cache: tuple, sigma: Array, move: Move
    ) -> tuple[Array, tuple]:
        each = self.each(params, cache)
        ratios, pending = zip(*(w.try_move(p, c, sigma, move) for w, p, c in each))
        return jnp.sum(jnp.stack(ratios), axis=0), pending

    def scores(self, params: Params, sigma: Array) -> Any:
        each = zip(self.names, self.each(params))
        return {name: part.scores(p, sigma) for name, (part, p) in each}


class _Sum(_Combination):
    """Static part of a sum; the cache is (caches, log psi of every term (n, B))."""

    def init(self, key: Key) -> Params:
        is_complex = any(_kind(part) == "c" for part in self.parts)
        real = float_dtype(self.problem)
        dtype = np.result_type(real, np.complex64) if is_complex else real
        weights = jnp.zeros((len(self.parts),), dtype)
        return super().init(key) | {"log_weights": weights}

    def total(self, params: Params, logs: Array) -> Array:
        """Log of the weighted sum over the leading axis."""
        weights = params["log_weights"].reshape(-1, *((1,) * (logs.ndim - 1)))
        terms = logs + weights
        largest = lax.stop_gradient(jnp.max(terms.real, axis=0))
        value = jnp.sum(elementary.exp(terms - largest[None]), axis=0)
        if self.range == "positive":
            return elementary.log(value) + largest
        value = value.real if self.range == "real" else value
        return log_amplitude(value, largest)

    def log_psi(self, params: Params, sigma: Array) -> Array:
        return self.total(params, self.logs(params, sigma))

    def cache(self, params: Params, sigma: Array) -> tuple:
        return super().cache(params, sigma), self.logs(params, sigma)

    def log_ratios(
        self,
        params: Params,
        cache: tuple,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        caches, logs = cache
        ratios = self.ratios(params, caches, sigma, moves, wanted)
        new = self.total(params, ratios + logs[:, None])
        return new - self.total(params, logs)[None]

    def try_move(
        self, params: Params, cache: tuple, sigma: Array, move: Move
    ) -> tuple[Array, tuple]:
        caches, logs = cache
        row = Moves(move.sites[None], move.shift[None], move.exchange)
        ratios, pendings = [], []
        for part, p, c in self.each(params, caches):
            ratio, pending = part.try_move(p, c, sigma, move)
            pendings.append(pending)
            if part.range == "positive":
                ratios.append(0.5 * ratio)
            else:
                # A proposal gives moduli only, and terms interfere.
                ratios.append(part.log_ratios(p, c, sigma, row)[0])
        new = logs + self.stack(ratios)
        ratio = self.total(params, new) - self.total(params, logs)
        return 2 * ratio.real, (tuple(pendings), new)

    def commit(self, cache: tuple, pending: tuple, accept: Array) -> tuple:
        (caches, logs), (pendings, new) = cache, pending
        caches = super().commit(caches, pendings, accept)
        return caches, jnp.where(accept[None], new, logs)

    def scores(self, params: Params, sigma: Array) -> Any:
        logs = self.logs(params, sigma)
        total = self.total(params, logs)
        shares = elementary.exp(logs + params["log_weights"][:, None] - total[None])
        shares = shares.real if self.range == "real" else shares
        # The derivative at an exact zero of psi is taken as 0.
        zero = (total.real <= 0.1 * LOG_ZERO)[None]
        shares = jnp.where(zero, jnp.zeros_like(shares), shares)
        out: dict[str, Any] = {"log_weights": (shares.T[:, None, :],)}
        for k, (name, (part, p)) in enumerate(zip(self.names, self.each(params))):
            structure = jax.tree.structure(p)
            factors = structure.flatten_up_to(part.scores(p, sigma))
            share = shares[k][:, None, None]
            scaled = [(share * f[0], *f[1:]) for f in factors]
            out[name] = structure.unflatten(scaled)
        return out


def _wave_function(shape: _Product | _Sum) -> WaveFunction:
    combined = product_capacity if isinstance(shape, _Product) else sum_capacity
    return WaveFunction(
        init=shape.init,
        log_psi=shape.log_psi,
        cache=shape.cache,
        log_ratios=shape.log_ratios,
        try_move=shape.try_move,
        commit=shape.commit,
        scores=shape.scores,
        range=shape.range,
        capacity=combined(
            [(n, part.capacity) for n, part in zip(shape.names, shape.parts)],
            shape.problem.space.local_dims,
        ),
    )


def _marshall(problem: Problem) -> WaveFunction:
    """(-1)^(lowered spins on sites of odd coordinate sum), without parameters."""
    shape, periodic = grid_of(problem, "the Marshall sign")
    if any(p and n % 2 for n, p in zip(shape, periodic)):
        raise JobError(
            f"the Marshall sign needs a bipartite grid, but {shape} wraps around an "
            "odd number of sites"
        )
    if problem.symmetry is not None:
        raise JobError(
            "the Marshall sign distinguishes two sublattices, so the product has no "
            'translation symmetry. Use symmetry = "none".'
        )
    dims = problem.space.local_dims
    odd = np.indices(shape).sum(axis=0).ravel() % 2
    real = float_dtype(problem)
    pi = real.type(math.pi)

    def phase(parity: Array) -> Array:
        angle = jnp.where(jnp.mod(parity, 2) == 1, pi, 0).astype(real)
        return lax.complex(jnp.zeros_like(angle), angle)

    def log_psi(params: Params, sigma: Array) -> Array:
        lowered = (
            jnp.asarray(dims, jnp.int32)[None] - 1 - sigma.astype(jnp.int32)
        ) // 2
        return phase(jnp.sum(lowered * jnp.asarray(odd, jnp.int32)[None], axis=1))

    def log_ratios(
        params: Params,
        cache: tuple,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        old, new = (moved_values(sigma, moves, dims, before=b) for b in (True, False))
        weight = jnp.append(jnp.asarray(odd, jnp.int32), 0)[moves.sites][:, :, None]
        return phase(jnp.sum(weight * ((new - old) // 2), axis=1))

    return WaveFunction(
        init=lambda key: {},
        log_psi=log_psi,
        cache=lambda params, sigma: (),
        log_ratios=log_ratios,
        try_move=lambda params, cache, sigma, move: (
            jnp.zeros(sigma.shape[:1], real),
            (),
        ),
        commit=lambda cache, pending, accept: (),
        scores=lambda params, sigma: {},
        range="real",
        capacity=each(dims, lambda inside: Capacity(0.0, 0.0, 0.0, "composition")),
    )
