"""The sections of a job file, one class each, typed by pydantic.

Every key states what it expects and what it means; these texts serve the error
messages and ``docs/job-file.md`` alike.  The keys of ``[lattice]``,
``[hamiltonian]`` and ``[ansatz]`` that are not listed here belong to the named
factory and are checked against its signature when the job is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from vmc.jobfile import plain

_DAYS = re.compile(r"(?:(\d+)-)?(\d+):(\d{1,2}):(\d{1,2})(\.\d+)?")

#: A registered name, "file.py:name", or (in Python) the function itself.
Reference: TypeAlias = str | Callable[..., Any]


def key(default: Any, expects: str, meaning: str, **limits: Any) -> Any:
    """A key of the job file: its default, what it expects, what it means."""
    extra: dict[str, Any] = {"expects": expects}
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


def seconds(text: str | float) -> float:
    """Seconds of a time limit: a number, "HH:MM:SS" or "D-HH:MM:SS".

    Raises:
        ValueError: the text is none of them, or not positive.
    """
    if isinstance(text, str) and not text.strip().isdecimal():
        match = _DAYS.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a time")
        days, hours, minutes, secs = (int(g or 0) for g in match.groups()[:4])
        total = float(((days * 24 + hours) * 60 + minutes) * 60 + secs)
    else:
        total = float(text)
    if not total > 0:
        raise ValueError(f"{text!r} is not a positive time")
    return total


class Section(BaseModel):
    """Base of the sections: immutable, strict types, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, data: Any) -> Any:
        """NumPy numbers and tuples, which TOML cannot hold, as Python's own."""
        return plain(data) if isinstance(data, Mapping) else data


class Open(Section):
    """A section that also takes the keys of the factory it names."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    @property
    def keys(self) -> dict[str, Any]:
        """The keys that belong to the factory."""
        return dict(self.model_extra or {})


class Schedule(Section):
    """A number that changes with the step."""

    schedule: Literal["constant", "cosine", "linear", "exponential"] = key(
        "cosine", "constant, cosine, linear or exponential", "shape of the way down"
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


class Symmetry(Section):
    """Quantum numbers, in the physical frame (before any sign gauge)."""

    momentum: list[int] | None = key(
        None,
        "one integer per direction",
        "momentum in units of 2 pi / L; null leaves translations broken",
    )
    point_group: str | None = key(
        None,
        'a name, as "A1"',
        "one-dimensional representation of the rotations and reflections that keep the "
        "momentum; null leaves them broken",
    )
    spin_flip: Literal[1, -1] | None = key(
        None, "1 or -1", "eigenvalue of the global spin flip; null leaves it open"
    )


class Lattice(Open):
    """Sites and their neighbours.  Without this section, see `Hamiltonian`."""

    name: Reference = key(
        ..., 'a registered lattice or "file.py:name"', "which lattice (`vmc list`)"
    )
    size: Annotated[
        list[int] | None, BeforeValidator(lambda v: [v] if type(v) is int else v)
    ] = key(None, "a list of integers >= 1, as [64]", "unit cells per direction")
    periodic: bool | list[bool] = key(
        True, "true, false or one of them per direction", "close the boundaries"
    )

    @field_validator("size")
    @classmethod
    def _positive(cls, size: list[int] | None) -> list[int] | None:
        if size is not None and (not size or min(size) < 1):
            raise ValueError("every direction needs at least one cell")
        return size


class Charge(Section):
    """Q = sum_i w_i n_i, where n_i counts steps below the top state of site i."""

    weights: list[int] = key(..., "an integer per site", "w_i")
    value: int = key(..., "an integer", "Q of the sector")
    modulus: int = key(
        0, "0 or an integer >= 2", "n: conserved modulo n; 2 with weights 1: parity"
    )


class Hamiltonian(Open):
    """The operator, its sector and its sign gauge."""

    name: Reference | None = key(
        None,
        'a registered model or "file.py:name"',
        "which model (`vmc list`); the function of a file receives the lattice, if "
        "there is one, and the other keys of this section",
    )
    terms: str | None = key(
        None,
        "a path relative to the job file",
        "instead of name: Pauli terms in JSON (`docs/job-file.md`, Terms files)",
    )
    total_sz: Literal["auto", "free"] | float = key(
        "auto",
        '"auto", "free" or a multiple of 1/2',
        "sector: sum of the m_i; auto: smallest |Sz| when the terms conserve it, "
        "free: not fixed",
    )
    marshall: Literal["auto"] | bool | list[Literal[0, 1]] = key(
        "auto",
        '"auto", true, false or a list of one 0 or 1 per site',
        "sign gauge psi -> (-1)^(sum of a_i over down spins) psi: auto solves for a_i "
        "that make every off-diagonal element <= 0 (if there are none, the largest "
        "elements), true is the two-sublattice rule, "
        "false is no gauge, a list gives the a_i",
    )

    charges: list[Charge] = key(
        [],
        "a list of tables {weights, value, modulus}",
        "other conserved charges to fix; the terms must conserve them",
    )
    blockade: bool = key(
        False,
        "true or false",
        "of two nearest neighbours at most one may be down (PXP model)",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Hamiltonian:
        if (self.name is None) == (self.terms is None):
            raise ValueError("give exactly one of name and terms")
        return self


class Ansatz(Open):
    """The wave function."""

    name: Reference = key(
        ...,
        'a registered family or "file.py:Class"',
        "which family (`vmc list`); a file gives a flax module (nnx or linen) or a "
        "function that returns a WaveFunction",
    )
    symmetry: Literal["auto", "none"] | Symmetry = key(
        "auto",
        '"auto", "none" or a table, as {momentum = [0]}',
        "symmetry built in; auto: translations, when the gauged Hamiltonian is "
        "stoquastic and invariant under them; a table holds quantum numbers of the "
        "physical frame",
    )
    dtype: Literal["auto", "real", "complex"] = key(
        "auto",
        '"auto", "real" or "complex"',
        "auto: real if the gauged Hamiltonian is stoquastic, else complex",
    )


class Sampler(Section):
    """How configurations are drawn."""

    name: Literal[
        "auto", "local", "exchange", "mixed", "direct", "independent", "full"
    ] = key(
        "auto",
        '"auto", "local", "exchange", "mixed", "direct", "independent" or "full"',
        "Metropolis with single-site changes, with exchanges along bonds, or with "
        "either of them and all moves of the Hamiltonian; direct: independent draws, "
        "where the ansatz offers them; independent: proposals drawn from an earlier "
        "run; full: every configuration of a small space with "
        "its weight, without noise.  auto: direct where possible; else exchange in a "
        "fixed sector of total Sz; else local if the Hamiltonian changes one site "
        "at a time, and mixed if not",
    )
    proposal: str | None = key(
        None,
        "a path relative to the job file",
        "independent: run whose wave function, one that can be drawn from, proposes",
    )
    n_chains: int | None = key(
        None,
        "an integer >= 1",
        "walkers over all devices; default 1024, or n_samples if that is smaller",
        ge=1,
    )
    n_samples: int | None = key(
        None,
        "a multiple of n_chains",
        "samples per step over all devices; "
        "default: the first multiple of n_chains from 1024",
        ge=1,
    )
    n_sweeps: int = key(
        1, "an integer >= 1", "sweeps of N proposals before each draw", ge=1
    )
    burn_in: int = key(
        20, "an integer >= 0", "sweeps, once, when the walkers start", ge=0
    )

    @model_validator(mode="after")
    def _proposal_goes_with_independent(self) -> Sampler:
        if (self.name == "independent") != (self.proposal is not None):
            raise ValueError('proposal = "RUN" goes with name = "independent"')
        return self


class Optimizer(Section):
    """How parameters move."""

    name: Literal["auto", "spring", "sr", "adam", "sgd"] = key(
        "auto",
        '"auto", "spring", "sr", "adam" or "sgd"',
        "sr: stochastic reconfiguration, dense or kernel by shape; spring: the same "
        "with momentum 0.9; adam and sgd follow the plain gradient; auto: spring if "
        "psi may be taken positive, else sr, which rare large local energies do not "
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
        "sr and spring: a step never moves |psi|^2 further than this",
        gt=0,
        allow_inf_nan=False,
    )
    momentum: float = key(
        0.9,
        "a number in [0, 1)",
        "spring: part of the last step that is kept",
        ge=0,
        lt=1,
    )
    solver: Literal["auto", "cholesky", "eigh", "cg"] = key(
        "auto", '"auto", "cholesky", "eigh" or "cg"', "linear solver of sr and spring"
    )


class Growth(Section):
    """A step after which the wave function is larger."""

    at: int = key(..., "a step >= 1", "steps done before the change", ge=1)
    keys: dict[str, Any] = key(
        ...,
        "a table, as {bond_dimension = 8}",
        "sizes of [ansatz] from then on, none smaller than before",
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
        "grown with psi unchanged; mps and ttn also truncated), another one whose norm "
        "is known is fitted to samples of its |psi|^2",
    )
    grow: list[Growth] = key(
        [],
        "a list of tables, as [{at = 200, keys = {bond_dimension = 8}}]",
        "larger sizes of the ansatz during the run, psi unchanged at the change (mps, "
        "ttn, convac, cp, rac, rbm); `at` increases and is below n_steps",
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


class Measure(Section):
    """The final measurement with frozen parameters."""

    n_samples: int = key(65536, "an integer >= 1", "samples over all devices", ge=1)
    to_error: float | None = key(
        None,
        "a positive number",
        "go on until error / |energy| is below this",
        gt=0,
    )
    observables: list[str] = key(
        ["energy"],
        'a list of names, as ["energy", "correlations", "renyi2:0-3"]',
        "what is measured, from the same samples (Observables, below)",
    )

    @field_validator("observables")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        from vmc.observables_names import parse

        for name in names:
            parse(name)
        return names
