"""The section [run]: how long, where to, what changes on the way."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import field_validator, model_validator

from vmc.sections_base import Section, key, seconds


class Growth(Section):
    """A step after which the wave function is larger, or samples are more."""

    at: int = key(..., "a step >= 1", "steps done before the change", ge=1)
    keys: dict[str, Any] = key(
        {},
        "a table, as {bond_dimension = 8}",
        "sizes of [ansatz] from then on, none smaller than before",
    )
    n_samples: int | None = key(
        None,
        "a multiple of n_chains",
        "samples per step from then on; default: as before",
        ge=1,
    )

    @model_validator(mode="after")
    def _something(self) -> Growth:
        if not self.keys and self.n_samples is None:
            raise ValueError("grow: give keys, n_samples or both")
        return self


class StopAt(Section):
    """When a run has done enough steps before `n_steps`; whichever comes first."""

    v_score: float | None = key(
        None,
        "a positive number",
        "N Var(H) / (E - E_inf)^2, pooled over the last 20 steps, is below this",
        gt=0,
    )
    plateau: int | None = key(
        None,
        "a number of steps >= 40",
        "the energy of the later half of so many steps is not lower than that of the "
        "earlier half, by more than their errors",
        ge=40,
    )


class Run(Section):
    """How long, and where to."""

    n_steps: int = key(500, "an integer >= 0", "optimisation steps", ge=0)
    out: str | None = key(
        None,
        "a path",
        "run directory; an existing one is refused; default of `vmc run`: "
        "runs/<job stem>, numbered if taken; in Python: no files",
    )
    start_from: str | None = key(
        None,
        "a path relative to the job file",
        "run to start from: the same ansatz takes its parameters (of other sizes: "
        "grown with psi unchanged; mps and ttn also truncated; on another lattice: if "
        "they have the same shapes, as those of a cnn), another one whose norm is "
        "known is fitted to samples of its |psi|^2",
    )
    orthogonal_to: list[str] = key(
        [],
        'a list of paths relative to the job file, as ["runs/ground"]',
        "excited states: finished runs of the same Hamiltonian and sector whose states "
        "psi is kept away from, by a penalty on |<psi|phi>|^2 of the normalised "
        "states; the lowest state first, then also the next, and so on. An excited "
        'state has nodes: ansatz.dtype = "auto" then means complex, ansatz.symmetry = '
        '"auto" none. The energies of the steps contain the penalty; the final '
        "measurement is that of H alone, with the overlaps that are left",
    )
    penalty: float | None = key(
        None,
        "a positive number",
        "energy by which each state of `orthogonal_to` is shifted up; it has to exceed "
        "the gap from that state to the one that is wanted, or psi falls back to the "
        "former; the noise grows with it; default with orthogonal_to: 4 x the mean "
        "|off-diagonal element|, which is no estimate of the gap",
    )
    grow: list[Growth] = key(
        [],
        "a list of tables, as [{at = 200, keys = {bond_dimension = 8}}]",
        "larger sizes of the ansatz during the run, psi unchanged at the change (mps, "
        "ttn, convac, cp, rac, rbm), or more samples, as {at = 400, n_samples = 4096}; "
        "`at` increases and is below n_steps",
    )
    stop_at: StopAt = key(
        StopAt(),
        "a table, as {v_score = 1e-4} or {plateau = 100}",
        "stop the steps earlier and go on to the final measurement; looked at every "
        "`steps_per_dispatch` steps, after the last change of `grow`",
    )
    checkpoint_minutes: float = key(
        5.0, "a positive number", "time between checkpoints", gt=0
    )
    stuck_minutes: float = key(
        30.0,
        "a positive number",
        "without progress for this long after the first steps (a rank that hangs), "
        "all ranks end with code 124",
        gt=0,
        allow_inf_nan=True,
    )
    on_full_disk: Literal["go_on", "stop"] = key(
        "go_on", '"go_on" or "stop"', "if a checkpoint fails; stop exits with code 75"
    )
    max_time: str | float | None = key(
        None,
        'seconds, "HH:MM:SS" or "D-HH:MM:SS"',
        "stop, save and exit with code 75 before this much wall time has passed",
    )
    chunk: int | None = key(
        None,
        "an integer >= 1",
        "samples whose local energies are computed at once, per device; default: from "
        "a memory budget",
        ge=1,
    )
    steps_per_dispatch: int = key(
        10,
        "an integer >= 1",
        "steps between looks at the host: progress, signals, checkpoints",
        ge=1,
    )

    @field_validator("penalty")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and not (0 < value < math.inf):
            raise ValueError(f"penalty = {value}: it is positive and finite")
        return value

    @model_validator(mode="after")
    def _penalty_on_something(self) -> Run:
        if self.penalty is not None and not self.orthogonal_to:
            raise ValueError('penalty goes with orthogonal_to = ["RUN"]')
        return self

    @model_validator(mode="after")
    def _growth_in_order(self) -> Run:
        steps = [growth.at for growth in self.grow]
        if any(a >= b for a, b in zip(steps, [*steps[1:], self.n_steps])):
            raise ValueError(
                f"grow: the steps `at` are {steps}; they must increase and stay below "
                f"n_steps = {self.n_steps}"
            )
        return self

    @field_validator("max_time")
    @classmethod
    def _time(cls, value: str | float | None) -> str | float | None:
        if value is not None:
            seconds(value)
        return value
