"""Stochastic reconfiguration as optax transformations fed a lazy ``geometry``.

They ignore their ``updates`` argument and return the natural gradient x of
(S + lambda) x = F, so that ``optax.scale_by_learning_rate`` after them makes the
learning rate an imaginary-time step:

>>> import optax
>>> tx = optax.chain(sr(1e-3), optax.scale_by_learning_rate(0.02), limit_kl(0.02))

lambda = diag_shift * Tr S / min(P, Ns): relative to the mean of the eigenvalues
that can differ from zero.  The dense form solves in parameter space, the
kernel form (minSR, arXiv:2302.01941) in sample space; they agree exactly and the
cheaper one is chosen by shape.  SPRING (arXiv:2401.10190) adds momentum to either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from vmc import distributed, solvers
from vmc.base import Params
from vmc.errors import JobError
from vmc.geometry import Geometry

Schedule = Callable[[Any], Any]
Form = Literal["auto", "dense", "kernel"]


class SRState(NamedTuple):
    """State of `sr`.

    Attributes:
        count: steps done.
        previous: last natural gradient (momentum), or None.
        boost: factor by which noise has raised the shift; 1 if it has not.
        diag_shift: relative shift used in the last step.
        condition: condition number of the last solve.
        rank: eigenvalues kept in the last solve.
        d_eff: Tr[S (S + lambda)^-1], estimated with one random vector.
    """

    count: Array
    previous: Params
    boost: Array
    diag_shift: Array
    condition: Array
    rank: Array
    d_eff: Array


class AutoShift(NamedTuple):
    """A shift that decays, but not below what the noise of a step allows.

    A step eta S^-1 F carries noise of KL divergence 2 eta^2 d_eff Var(E) / Ns.
    While that exceeds ``max_kl`` the shift is raised by steps of 1.5, and let
    down again by steps of 1.1.

    Attributes:
        schedule: step -> relative shift without noise.
        learning_rate: step -> eta.
        max_kl: the budget.
    """

    schedule: Schedule
    learning_rate: Schedule
    max_kl: float


def sr(
    diag_shift: float | Schedule | AutoShift = 1e-3,
    *,
    solver: str = "auto",
    form: Form = "auto",
    momentum: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic reconfiguration; `minsr` and `spring` are named cases of it.

    Args:
        diag_shift: lambda / (Tr S / min(P, Ns)): number, schedule, or `AutoShift`.
        solver: see `vmc.solvers.by_name`.
        form: "dense" (P x P), "kernel" (Ns x Ns), or the smaller one.
        momentum: SPRING's mu, in [0, 1).

    Raises:
        JobError: an argument is out of range.
    """
    if not 0 <= momentum < 1:
        raise JobError(f"momentum is {momentum}; it lies in [0, 1)")
    if form not in ("auto", "dense", "kernel"):
        raise JobError(f'form is "{form}"; it is auto, dense or kernel')
    solve_by = solvers.by_name(solver)
    auto = diag_shift if isinstance(diag_shift, AutoShift) else None
    shift_at = _shift_schedule(diag_shift)

    def init(params: Params) -> SRState:
        real = jnp.finfo(jax.tree.leaves(params)[0].dtype).dtype
        previous = jax.tree.map(jnp.zeros_like, params) if momentum else None
        one, zero = jnp.ones((), real), jnp.zeros((), real)
        count = jnp.zeros((), jnp.int32)
        return SRState(count, previous, one, zero, one, zero, zero)

    def update(
        updates: Params,
        state: SRState,
        params: Params | None = None,
        *,
        geometry: Geometry,
        **_: Any,
    ) -> tuple[Params, SRState]:
        del updates, params
        relative = jnp.minimum(shift_at(state.count) * state.boost, 1.0)
        rank = min(geometry.n_parameters, geometry.n_rows)
        shift = relative * geometry.trace / rank
        dense = form == "dense"
        if form == "auto":
            dense = geometry.n_parameters <= geometry.n_rows
        step = _dense_step if dense else _kernel_step
        x, factored, d_eff = step(geometry, shift, solve_by, state.previous, momentum)
        real = state.boost.dtype
        boost = state.boost
        if auto is not None:
            boost = _next_boost(auto, state, geometry, d_eff).astype(real)
        return x, SRState(
            count=state.count + 1,
            previous=x if momentum else None,
            boost=boost,
            diag_shift=jnp.asarray(relative, real),
            condition=factored.condition.astype(real),
            rank=factored.rank.astype(real),
            d_eff=d_eff.astype(real),
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def minsr(
    diag_shift: float | Schedule | AutoShift = 1e-3, *, solver: str = "auto"
) -> optax.GradientTransformationExtraArgs:
    """`sr` in kernel form (arXiv:2302.01941)."""
    return sr(diag_shift, solver=solver, form="kernel")


def spring(
    diag_shift: float | Schedule | AutoShift = 1e-3,
    *,
    momentum: float = 0.9,
    solver: str = "auto",
) -> optax.GradientTransformationExtraArgs:
    """`sr` with momentum (arXiv:2401.10190)."""
    return sr(diag_shift, solver=solver, momentum=momentum)


class LimitKLState(NamedTuple):
    """State of `limit_kl`: KL divergence of the last step after limiting."""

    kl: Array


def limit_kl(max_kl: float) -> optax.GradientTransformationExtraArgs:
    """Shorten a step to a KL divergence of at most ``max_kl``.

    To leading order a step d changes |psi|^2 by a KL divergence of at most
    2 d^H S d (equal to it for positive psi).  Use as the last link of a chain.

    Raises:
        JobError: max_kl is not positive.
    """
    if not max_kl > 0:
        raise JobError(f"max_kl is {max_kl}; it is positive")

    def init(params: Params) -> LimitKLState:
        real = jnp.finfo(jax.tree.leaves(params)[0].dtype).dtype
        return LimitKLState(jnp.zeros((), real))

    def update(
        updates: Params,
        state: LimitKLState,
        params: Params | None = None,
        *,
        geometry: Geometry,
        **_: Any,
    ) -> tuple[Params, LimitKLState]:
        del params
        kl = 2 * geometry.distance2(updates)
        factor = jnp.sqrt(jnp.minimum(1.0, max_kl / jnp.maximum(kl, 1e-300)))
        updates = jax.tree.map(lambda u: (u * factor).astype(u.dtype), updates)
        return updates, LimitKLState((kl * factor**2).astype(state.kl.dtype))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def _shift_schedule(diag_shift: float | Schedule | AutoShift) -> Schedule:
    if isinstance(diag_shift, AutoShift):
        return diag_shift.schedule
    if callable(diag_shift):
        return diag_shift
    if not diag_shift > 0:
        raise JobError(f"diag_shift is {diag_shift}; it is positive")
    value = float(diag_shift)
    return lambda count: jnp.asarray(value)


def _next_boost(
    auto: AutoShift, state: SRState, geometry: Geometry, d_eff: Array
) -> Array:
    eta = auto.learning_rate(state.count)
    noise = 2 * eta**2 * d_eff * geometry.variance / geometry.n_independent
    raised = jnp.minimum(state.boost * 1.5, 1e4)
    lowered = jnp.maximum(state.boost / 1.1, 1.0)
    return jnp.where(noise > auto.max_kl, raised, lowered)


def _probe(n: int, dtype: Any) -> Array:
    """A fixed vector of random signs (Hutchinson's trace estimator)."""
    return jax.random.rademacher(jax.random.key(0), (n,), dtype)


def _solve(factored: solvers.Factored, columns: list[Array]) -> list[Array]:
    stacked = jnp.stack(columns, axis=1)
    x = distributed.from_first(factored.solve(stacked))
    return [x[:, c] for c in range(len(columns))]


def _system(
    geometry: Geometry,
    matrix: Callable[[], Array],
    product: Callable[[Array], Array],
    n: int,
) -> solvers.System:
    """S or T for a solver."""
    trace = geometry.trace.astype(geometry.real_dtype)
    return solvers.System(matrix, product, trace, n, distributed.from_first)


def _by_panels(dtype: Any) -> bool:
    """Whether T is factored in panels; by one device only where that is faster."""
    real = not jnp.issubdtype(dtype, jnp.complexfloating)
    return distributed.n_devices() > 1 or (real and jax.default_backend() == "cpu")


def _dense_step(
    geometry: Geometry,
    shift: Array,
    solve_by: solvers.Solver,
    previous: Params,
    momentum: float,
) -> tuple[Params, solvers.Factored, Array]:
    """x = (S + shift)^-1 (F + shift mu previous)."""
    dtype, n = geometry.solve_dtype, geometry.n_parameters
    shift = shift.astype(geometry.real_dtype)
    force, unravel = _ravel(geometry.force, dtype)
    if momentum:
        force = force + shift * momentum * _ravel(previous, dtype)[0]

    def product(v: Array) -> Array:
        return _ravel(geometry.adjoint(geometry.apply(unravel(v))), dtype)[0]

    factored = solve_by(_system(geometry, lambda: geometry.s_matrix, product, n), shift)
    probe = _probe(n, dtype)
    x, y = _solve(factored, [force, probe])
    d_eff = n - shift * jnp.sum(probe * y).real
    return unravel(x), factored, d_eff


def _kernel_step(
    geometry: Geometry,
    shift: Array,
    solve_by: solvers.Solver,
    previous: Params,
    momentum: float,
) -> tuple[Params, solvers.Factored, Array]:
    """x = Oc^H (T + shift)^-1 (eps - mu Oc previous) + mu previous."""
    dtype, n = geometry.solve_dtype, geometry.n_rows
    shift = shift.astype(geometry.real_dtype)
    rows = geometry.eps
    if momentum:
        rows = rows - momentum * geometry.apply(previous)

    def product(v: Array) -> Array:
        out = geometry.apply(geometry.adjoint(geometry.scatter_rows(v)))
        return geometry.gather_rows(out).astype(dtype)

    system = _system(geometry, lambda: geometry.t_matrix, product, n)
    if _by_panels(dtype):
        system = system._replace(shared=lambda: geometry.t_shared)
    factored = solve_by(system, shift)
    probe = _probe(n, dtype)
    rhs = geometry.gather_rows(rows).astype(dtype)
    y, z = _solve(factored, [rhs, probe])
    x = geometry.adjoint(geometry.scatter_rows(y))
    if momentum:
        x = jax.tree.map(lambda a, b: a + momentum * b, x, previous)
    d_eff = n - shift * jnp.sum(probe * z).real
    return x, factored, d_eff


def _ravel(tree: Params, dtype: Any) -> tuple[Array, Callable[[Array], Params]]:
    """Flat vector of a pytree in leaf order, and the way back."""
    leaves, structure = jax.tree.flatten(tree)
    flat = jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in leaves])

    def unravel(vector: Array) -> Params:
        out, start = [], 0
        for leaf in leaves:
            part = vector[start : start + leaf.size].reshape(leaf.shape)
            part = part if jnp.iscomplexobj(leaf) else part.real
            out.append(part.astype(leaf.dtype))
            start += leaf.size
        return structure.unflatten(out)

    return flat, unravel
