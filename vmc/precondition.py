"""Stochastic reconfiguration as optax transformations fed a lazy ``geometry``.

They ignore their ``updates`` argument and return the natural gradient x of
(S + lambda) x = F, so that ``optax.scale_by_learning_rate`` after them makes the
learning rate an imaginary-time step:

>>> import optax
>>> tx = optax.chain(sr(1e-3), optax.scale_by_learning_rate(0.02), limit_kl(0.02))

lambda = diag_shift * Tr S / min(P, Ns): relative to the mean of the eigenvalues
that can differ from zero.  The dense form solves in parameter space, the
kernel form (minSR, arXiv:2302.01941) in sample space; they agree exactly and the
cheaper one is chosen by shape.  SPRING (arXiv:2401.10190) adds momentum to either,
MARCH (arXiv:2507.02644) a scale for every parameter as well.

Whoever drives the optimiser may ask for ``caution``, a factor on the shift: that of
`vmc.healing` after bad steps, times that of `vmc.damping` where steps overshoot.  It is
at least 1, so that an `AutoShift` is never lower than the noise allows.
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
        changes: decaying sum of |change of the natural gradient|^2 (MARCH), or None.
    """

    count: Array
    previous: Params
    boost: Array
    diag_shift: Array
    condition: Array
    rank: Array
    d_eff: Array
    changes: Params = None


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
    decay: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic reconfiguration; `minsr`, `spring`, `march` are named cases of it.

    Args:
        diag_shift: lambda / (Tr S / min(P, Ns)): number, schedule, or `AutoShift`.
        solver: see `vmc.solvers.by_name`.
        form: "dense" (P x P), "kernel" (Ns x Ns), or the smaller one.
        momentum: SPRING's mu, in [0, 1).
        decay: MARCH's beta, in [0, 1); None gives all parameters the same scale.

    Raises:
        JobError: an argument is out of range.
    """
    _check_arguments(form, momentum, decay)
    solve_by = solvers.by_name(solver)
    auto = diag_shift if isinstance(diag_shift, AutoShift) else None
    shift_at = _shift_schedule(diag_shift)
    adaptive = decay is not None

    def init(params: Params) -> SRState:
        real = jnp.finfo(jax.tree.leaves(params)[0].dtype).dtype
        keeps = momentum or adaptive
        previous = jax.tree.map(jnp.zeros_like, params) if keeps else None
        changes = None
        if adaptive:
            changes = jax.tree.map(lambda p: jnp.zeros(p.shape, real), params)
        one, zero = jnp.ones((), real), jnp.zeros((), real)
        count = jnp.zeros((), jnp.int32)
        return SRState(count, previous, one, zero, one, zero, zero, changes)

    def update(
        updates: Params,
        state: SRState,
        params: Params | None = None,
        *,
        geometry: Geometry,
        caution: Array | float = 1.0,
        **_: Any,
    ) -> tuple[Params, SRState]:
        del updates, params
        relative = shift_at(state.count) * state.boost * caution
        relative = jnp.minimum(relative, 1.0)
        view, previous, scales = geometry, state.previous, None
        if adaptive:
            scales = _scales(state.changes)
            view = geometry.rescaled(scales)
            previous = jax.tree.map(jnp.multiply, previous, scales)
        shift = relative * view.trace / min(view.n_parameters, view.n_rows)
        dense = form == "dense"
        if form == "auto":
            dense = view.n_parameters <= view.n_rows
        step = _dense_step if dense else _kernel_step
        x, factored, d_eff = step(view, shift, solve_by, previous, momentum)
        changes = None
        if adaptive:
            x = jax.tree.map(jnp.divide, x, scales)
            moved = jax.tree.map(_squared_distance, x, state.previous)
            changes = jax.tree.map(lambda v, m: decay * v + m, state.changes, moved)
        real, boost = state.boost.dtype, state.boost
        if auto is not None:
            boost = _next_boost(auto, state, geometry, d_eff).astype(real)
        return x, SRState(
            count=state.count + 1,
            previous=None if state.previous is None else x,
            boost=boost,
            diag_shift=jnp.asarray(relative, real),
            condition=factored.condition.astype(real),
            rank=factored.rank.astype(real),
            d_eff=d_eff.astype(real),
            changes=changes,
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def _check_arguments(form: str, momentum: float, decay: float | None) -> None:
    if not 0 <= momentum < 1:
        raise JobError(f"momentum is {momentum}; it lies in [0, 1)")
    if decay is not None and not 0 <= decay < 1:
        raise JobError(f"decay is {decay}; it lies in [0, 1)")
    if form not in ("auto", "dense", "kernel"):
        raise JobError(f'form is "{form}"; it is auto, dense or kernel')


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


def march(
    diag_shift: float | Schedule | AutoShift = 1e-3,
    *,
    momentum: float = 0.95,
    decay: float = 0.995,
    solver: str = "auto",
    form: Form = "auto",
) -> optax.GradientTransformationExtraArgs:
    """SPRING with a scale for every parameter, MARCH (arXiv:2507.02644).

    The step is x_k = argmin |O x - eps|^2 + lambda |D (x - mu x_(k-1))|^2 with
    D = v^(1/4), v_k = beta v_(k-1) + |x_k - x_(k-1)|^2: parameters that change little
    are free to change more.  In the variables D x that is SPRING, and lambda is
    relative to their S.  The scores are needed in full, (Ns, P), also where they come
    in factors: a scale of every parameter is no product.

    Args:
        diag_shift: as of `sr`.
        momentum: mu.
        decay: beta.
        solver: see `vmc.solvers.by_name`.
        form: as of `sr`.

    Raises:
        JobError: an argument is out of range.
    """
    return sr(diag_shift, solver=solver, form=form, momentum=momentum, decay=decay)


#: Smallest v in units of the largest: a parameter that never moved has a scale too.
LEAST_CHANGE = 1e-12


def _scales(changes: Params) -> Params:
    """D of `march`, of the largest entry 1; 1 before anything has changed."""
    largest = jnp.max(jnp.stack([jnp.max(v) for v in jax.tree.leaves(changes)]))
    unit = jnp.where(largest > 0, largest, 1.0)

    def scale(v: Array) -> Array:
        return jnp.where(largest > 0, (v / unit + LEAST_CHANGE) ** 0.25, 1.0)

    return jax.tree.map(scale, changes)


def _squared_distance(x: Array, y: Array) -> Array:
    return jnp.abs(x - y) ** 2


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
    """A fixed vector of random signs (Hutchinson's trace estimator).

    The finaliser of MurmurHash3 of the position: one kernel to compile.
    """
    x = jnp.arange(1, n + 1, dtype=jnp.uint32)
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return 1 - 2 * (x >> 31).astype(dtype)


def _solve(factored: solvers.Factored, columns: list[Array]) -> list[Array]:
    stacked = jnp.stack(columns, axis=1)
    x = factored.solve(stacked)
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


def _by_halves() -> bool:
    """Whether T is factored by `blocked`; by one device only where that is faster."""
    return distributed.n_devices() > 1 or jax.default_backend() == "cpu"


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
    if _by_halves():
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
    flat = distributed.joined([leaf.astype(dtype) for leaf in leaves])

    def unravel(vector: Array) -> Params:
        out, start = [], 0
        for leaf in leaves:
            part = vector[start : start + leaf.size].reshape(leaf.shape)
            part = part if jnp.iscomplexobj(leaf) else part.real
            out.append(part.astype(leaf.dtype))
            start += leaf.size
        return structure.unflatten(out)

    return flat, unravel
