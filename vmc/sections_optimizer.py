"""The section [optimizer] and the schedules of its numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from vmc.sections_base import Section, key


class Schedule(Section):
    """A number that changes with the step."""

    schedule: Literal["constant", "cosine", "linear", "exponential", "piecewise"] = key(
        "cosine",
        "constant, cosine, linear, exponential or piecewise",
        "shape of the way down; piecewise: constant between the steps of `points`",
    )
    init: float = key(
        ..., "a positive number", "value before `begin`", gt=0, allow_inf_nan=False
    )
    end: float | None = key(
        None, "a positive number", "last value; default init / 10", gt=0
    )
    begin: int = key(0, "a step >= 0", "step at which the change begins", ge=0)
    steps: int | None = key(
        None, "a number of steps", "length of the change; default: to n_steps", ge=1
    )
    warmup: int = key(
        0,
        "a number of steps >= 0",
        "steps at the start in which the value rises to what it would be, in equal "
        "parts",
        ge=0,
    )
    points: list[list[float]] = key(
        [],
        "a list of pairs, as [[200, 0.02], [400, 0.005]]",
        "piecewise: from these steps on, these values",
        validate_default=True,
    )

    @field_validator("points")
    @classmethod
    def _in_order(
        cls, points: list[list[float]], info: ValidationInfo
    ) -> list[list[float]]:
        if (info.data.get("schedule") == "piecewise") != bool(points):
            raise ValueError('points go with schedule = "piecewise"')
        if any(len(p) != 2 or p[0] % 1 or not p[1] > 0 for p in points):
            raise ValueError("every point is a pair of a step and a value > 0")
        steps = [0, *(p[0] for p in points)]
        if any(a >= b for a, b in zip(steps, steps[1:])):
            raise ValueError("the steps increase, from 1 at least")
        return points


class Optimizer(Section):
    """How parameters move."""

    name: Literal["auto", "spring", "sr", "march", "adam", "sgd"] = key(
        "auto",
        '"auto", "spring", "sr", "march", "adam" or "sgd"',
        "sr: stochastic reconfiguration, dense or kernel by shape; spring: the same "
        "with momentum 0.9; march: spring with a scale of its own for every parameter, "
        "from its recent changes; adam and sgd follow the plain gradient; auto: spring "
        "if psi may be taken positive, else sr, which rare large local energies do not "
        "carry away",
    )
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] | Schedule = key(
        "auto",
        'a positive number, "auto" or a schedule table',
        "imaginary-time step in units of 1 / mean |off-diagonal element| (adam: "
        "optax's own number); a number is held for two thirds of the run and then "
        "falls to a tenth along a cosine; auto: 0.05 (adam: 0.005)",
    )
    diag_shift: Literal["auto"] | Annotated[float, Field(gt=0)] | Schedule = key(
        "auto",
        'a positive number, "auto" or a schedule table',
        "added to the diagonal of S, in units of Tr S / min(P, samples); auto: from "
        "1e-2 to 1e-4, never below the noise",
    )
    max_kl: float = key(
        0.02,
        "a positive number",
        "sr, spring and march: a step never moves |psi|^2 further than this",
        gt=0,
        allow_inf_nan=False,
    )
    momentum: float = key(
        0.9,
        "a number in [0, 1)",
        "spring and march: part of the last step that is kept",
        ge=0,
        lt=1,
    )
    decay: float = key(
        0.995,
        "a number in [0, 1)",
        "march: how long changes of a parameter count for its scale",
        ge=0,
        lt=1,
    )
    clip: float | None = key(
        None,
        "a positive number",
        "for the gradient alone, local energies further than this many median absolute "
        "deviations from the median are moved there; default: none are. The reported "
        "energy is never touched",
        gt=0,
        allow_inf_nan=False,
    )
    solver: Literal["auto", "cholesky", "eigh", "cg"] = key(
        "auto",
        '"auto", "cholesky", "eigh" or "cg"',
        "linear solver of sr, spring and march",
    )
