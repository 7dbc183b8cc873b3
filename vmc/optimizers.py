"""The optimiser of a job: a chain of optax links with good defaults."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import Array

from vmc.errors import JobError
from vmc.precondition import AutoShift, Schedule, limit_kl, march, sr

#: The automatic shift: from, to, and the part of the run in between.
AUTO_SHIFT = (1e-2, 1e-4, 0.5)
#: Noise that the automatic shift tolerates, in units of max_kl.  The cap on the
#: step takes care of the rest; measured on plain RBMs, a smaller number delays the
#: start of a run three times and gains nothing at its end.
NOISE_BUDGET = 5.0


def make_optimizer(
    name: str,
    *,
    learning_rate: float | Schedule,
    n_steps: int,
    diag_shift: str | float | Schedule = "auto",
    max_kl: float = 0.02,
    solver: str = "auto",
    momentum: float = 0.9,
    decay: float = 0.995,
) -> optax.GradientTransformationExtraArgs:
    """Optimiser by the name used in a job file.

    Args:
        name: "spring" (stochastic reconfiguration with momentum), "sr", "march",
            "adam" or "sgd".
        learning_rate: number or step -> number.
        n_steps: length of the run, for the automatic shift.
        diag_shift: see `vmc.precondition.sr`; "auto" decays from 1e-2 to 1e-4 over
            the first half of the run, but never below the noise.
        max_kl: cap on the KL divergence of a step (sr, spring and march).
        solver: see `vmc.solvers.by_name`.
        momentum: of spring and march.
        decay: of march.

    Raises:
        JobError: the name is unknown, or a number is out of range.
    """
    if name == "adam":
        return optax.with_extra_args_support(optax.adam(learning_rate))
    if name == "sgd":
        return optax.with_extra_args_support(optax.sgd(learning_rate))
    if name not in ("sr", "spring", "march"):
        raise JobError(
            f'optimizer "{name}" is unknown; there are spring, sr, march, adam, sgd'
        )
    shift = (
        automatic_shift(learning_rate, n_steps, max_kl)
        if isinstance(diag_shift, str)
        else diag_shift
    )
    natural = (
        march(shift, momentum=momentum, decay=decay, solver=solver)
        if name == "march"
        else sr(shift, solver=solver, momentum=momentum if name == "spring" else 0.0)
    )
    return optax.chain(
        natural,
        optax.scale_by_learning_rate(learning_rate),
        limit_kl(max_kl),
    )


def automatic_shift(
    learning_rate: float | Schedule, n_steps: int, max_kl: float
) -> AutoShift:
    """The shift of ``diag_shift = "auto"``."""
    first, last, part = AUTO_SHIFT

    def schedule(count: Array) -> Array:
        fraction = jnp.minimum(count / max(part * n_steps, 1.0), 1.0)
        return first * (last / first) ** fraction

    rate = learning_rate if callable(learning_rate) else lambda count: learning_rate
    return AutoShift(schedule, rate, NOISE_BUDGET * max_kl)
