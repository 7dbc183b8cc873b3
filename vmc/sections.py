"""The sections of a job file, one class each, typed by pydantic.

Every key states what it expects and what it means; these texts serve the error
messages and ``docs/job-file.md`` alike.  The keys of ``[lattice]``,
``[hamiltonian]`` and ``[ansatz]`` that are not listed here belong to the named
factory and are checked against its signature when the job is built.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from vmc.sections_base import Open, Reference, Section, key, seconds
from vmc.sections_optimizer import Optimizer, Schedule
from vmc.sections_run import Growth, Run, StopAt

__all__ = [
    "Ansatz",
    "Charge",
    "Growth",
    "Hamiltonian",
    "Lattice",
    "Measure",
    "Optimizer",
    "Reference",
    "Run",
    "Sampler",
    "Schedule",
    "Section",
    "StopAt",
    "Symmetry",
    "key",
    "seconds",
]


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
        "stoquastic and invariant under them, and without run.orthogonal_to; a table "
        "holds quantum numbers of the physical frame",
    )
    dtype: Literal["auto", "real", "complex"] = key(
        "auto",
        '"auto", "real" or "complex"',
        "auto: real if the gauged Hamiltonian is stoquastic, else complex; complex "
        "with run.orthogonal_to",
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
    replicas: int = key(
        1,
        "an integer >= 1",
        "parallel tempering: copies of each walker that follow |psi|^(2 beta), beta "
        "from 1 down to beta_min in equal steps, and exchange configurations; for psi "
        "with several wells, at the cost of as many walkers",
        ge=1,
    )
    beta_min: float = key(
        0.1, "a number in [0, 1)", "exponent of the flattest replica", ge=0, lt=1
    )
    global_flip: bool = key(
        False, "true or false", "also propose to flip all spins, after each sweep"
    )

    surrogate_moves: int = key(
        0,
        "an integer >= 0",
        "if positive: a Jastrow factor, fitted to the walkers' |psi|, makes so many "
        "moves, which psi then accepts or not as one proposal (delayed acceptance, "
        "exact), a sweep being one proposal; for networks whose every amplitude is a "
        "full evaluation",
        ge=0,
    )

    kernel: Literal["xla", "pallas"] = key(
        "xla",
        '"xla" or "pallas"',
        "pallas: all moves of a draw in one kernel of a GPU, for the RBM; it is tested "
        "with Pallas' interpreter and has not been timed on a GPU",
    )

    @model_validator(mode="after")
    def _kernel_of_a_plain_chain(self) -> Sampler:
        others = {
            "replicas": self.replicas > 1,
            "global_flip": self.global_flip,
            "surrogate_moves": self.surrogate_moves > 0,
            f'name = "{self.name}"': self.name in ("direct", "independent", "full"),
        }
        if self.kernel == "pallas" and any(others.values()):
            found = ", ".join(name for name, is_set in others.items() if is_set)
            raise ValueError(
                f'kernel = "pallas" walks plain Metropolis chains, without {found}'
            )
        return self

    @model_validator(mode="after")
    def _extras_of_a_chain(self) -> Sampler:
        extras = self.replicas > 1 or self.global_flip
        if self.name in ("direct", "independent", "full") and (
            extras or self.surrogate_moves
        ):
            raise ValueError(
                "replicas, global_flip and surrogate_moves go with Metropolis "
                'chains: name = "auto", "local", "exchange" or "mixed"'
            )
        if extras and self.surrogate_moves:
            raise ValueError(
                "surrogate_moves goes without replicas and without global_flip"
            )
        return self

    @model_validator(mode="after")
    def _proposal_goes_with_independent(self) -> Sampler:
        if (self.name == "independent") != (self.proposal is not None):
            raise ValueError('proposal = "RUN" goes with name = "independent"')
        return self


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
