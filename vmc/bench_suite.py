"""The file of a benchmark suite, and the cells that follow from it.

A suite is a matrix of problems x ansatze x seeds.  Tables are laid over each other,
later ones win, key by key: the ansatz (its label's defaults or its own table), the
suite's ``settings``, the ``overrides`` that match, ``--set``.  The ansatz
"documented" takes the problem's own settings.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from vmc import bench_ansatze, bench_problems, factories, provenance
from vmc.bench_problems import Problem, check_label
from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import apply_overrides, describe, read_toml, recorded, suggest
from vmc.sections import Section, key
from vmc.sweep_plan import absolute, check_job

SECTIONS = tuple(Job.model_fields)
GROUP = "group:"


class Budget(Section):
    """What every cell may spend on the optimisation; without it, run.n_steps."""

    seconds: float | None = key(
        None,
        "a positive number",
        "wall time of the process up to the final measurement",
        gt=0,
    )
    samples: int | None = key(None, "an integer >= 1", "samples of all steps", ge=1)
    max_steps: int = key(
        5000, "an integer >= 1", "with seconds: never more steps than these", ge=1
    )


class Own(Section):
    """An ansatz of the suite's own: sections of a job under a label."""

    label: str = key(..., "text", "its name, of letters, digits and ._+=-")
    ansatz: dict[str, Any] = key(..., "a table", "as [ansatz] of a job")
    sampler: dict[str, Any] = key({}, "a table", "as [sampler] of a job")
    optimizer: dict[str, Any] = key({}, "a table", "as [optimizer] of a job")
    run: dict[str, Any] = key({}, "a table", "as [run] of a job")
    measure: dict[str, Any] = key({}, "a table", "as [measure] of a job")
    precision: str | None = key(None, "as in a job", "arithmetic")

    @field_validator("label")
    @classmethod
    def _usable(cls, label: str) -> str:
        return check_label(label)

    def tables(self) -> dict[str, Any]:
        """Sections of a job."""
        return self.model_dump(exclude={"label"}, exclude_defaults=True)


class Exclusion(Section):
    """Cells that are left out, and why."""

    problem: str = key("*", "a label or pattern", "problems")
    ansatz: str = key("*", "a label or pattern", "ansatze")
    reason: str = key(..., "text", "what the report says")


class Override(Section):
    """Other settings for some cells."""

    problem: str = key("*", "a label or pattern", "problems")
    ansatz: str = key("*", "a label or pattern", "ansatze")
    settings: dict[str, Any] = key(..., "sections of a job", "what is laid over")


def _seeds(value: Any) -> Any:
    return list(range(1, value + 1)) if type(value) is int and value > 0 else value


class Suite(Section):
    """A whole suite file."""

    name: str = key(..., "text", "its name, of letters, digits and ._+=-")
    description: str = key("", "text", "one line for the report")
    seeds: Annotated[list[int], BeforeValidator(_seeds), Field(min_length=1)] = key(
        [1], "a number of seeds or a list of them", "seeds of every cell"
    )
    jobs: int = key(1, "an integer >= 1", "cells side by side", ge=1)
    budget: Budget | None = key(None, "a table", "what every cell may spend")
    parameters: int | None = key(
        None,
        "an integer >= 1",
        'size every ansatz but "documented" to about so many parameters',
        ge=1,
    )
    profile: bool = key(False, "true or false", "parts of a step, for the first seed")
    entropy: list[int] = key(
        [], "a list of integers >= 1", "blocks of the first sites: Renyi-2 entropies"
    )
    problems: list[str | Problem] = key(
        ..., "labels, group:NAME or tables", "rows of the matrix"
    )
    ansatze: list[str | Own] = key(..., "labels or tables", "columns of the matrix")
    settings: dict[str, Any] = key({}, "sections of a job", "of every cell")
    exclude: list[Exclusion] = key([], "a list of tables", "cells that are left out")
    overrides: list[Override] = key([], "a list of tables", "settings of some cells")

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        return check_label(name)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a suite.

    Attributes:
        problem: what is solved.
        ansatz: label.
        seed: of the job.
        job: its tables, with absolute paths.
        extras: budget, parameters, profile, entropy.
        inputs: all that the result depends on, as plain tables.
    """

    problem: Problem
    ansatz: str
    seed: int
    job: dict[str, Any]
    extras: dict[str, Any]
    inputs: dict[str, Any]

    @property
    def name(self) -> str:
        """Its folder in the folder of the suite."""
        return f"{self.problem.label}/{self.ansatz}/seed{self.seed}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ``inputs``."""
        text = json.dumps(self.inputs, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def spec(self) -> dict[str, Any]:
        """What the process of the cell has to know, as JSON values."""
        return {
            "format": "vmc-bench-spec",
            "schema": 1,
            "problem": self.problem.model_dump(),
            "ansatz": self.ansatz,
            "seed": self.seed,
            "job": self.job,
            "extras": self.extras,
            "inputs": self.inputs,
            "fingerprint": self.fingerprint,
        }


@dataclasses.dataclass(frozen=True)
class Plan:
    """A suite with its cells.

    Attributes:
        suite: the file, after ``--set``.
        problems: in order.
        cells: seed by seed, so that every corner of the matrix is seen early.
        excluded: {problem, ansatz, reason}.
    """

    suite: Suite
    problems: list[Problem]
    cells: list[Cell]
    excluded: list[dict[str, str]]


def load(path: Path, overrides: Sequence[str] = ()) -> tuple[Suite, list[str]]:
    """A suite file; and those of the overrides that belong to the jobs.

    Args:
        path: a TOML file.
        overrides: "key=value" of the suite, or "section.key=value" of every job.

    Raises:
        JobError: the file is malformed, or a key or value is wrong.
    """
    for_jobs = [o for o in overrides if o.partition("=")[0].split(".")[0] in SECTIONS]
    for_suite = [o for o in overrides if o not in for_jobs]
    try:
        return Suite(**apply_overrides(read_toml(path), for_suite)), for_jobs
    except ValidationError as error:
        raise JobError(f"{path}: {describe(error, Suite)}") from None
    except JobError as error:
        text = str(error).replace("no job file", "no suite file")
        if path.suffix != ".toml" and not path.exists():
            text = f"{text}; a suite is a file, as benchmarks/suites/{path.name}.toml"
        raise JobError(text) from None


def plan(suite: Suite, folder: Path, overrides: Sequence[str] = ()) -> Plan:
    """All cells of a suite, every one of them checked.

    Args:
        suite: the file.
        folder: where its relative paths start.
        overrides: "section.key=value" of every job.

    Raises:
        JobError: an unknown problem or ansatz, or a job that is refused.
    """
    problems = _problems(suite)
    ansatze = _ansatze(suite)
    _check_patterns(suite, [p.label for p in problems], list(ansatze))
    cells, excluded = [], []
    for problem in problems:
        for label, tables in ansatze.items():
            reason = _excluded(suite, problem.label, label)
            if reason is not None:
                why = {"problem": problem.label, "ansatz": label, "reason": reason}
                excluded.append(why)
                continue
            for seed in suite.seeds:
                job = _tables(suite, problem, label, tables, overrides)
                cells.append(_cell(suite, problem, label, seed, job, folder))
    if not cells:
        raise JobError(f"the suite {suite.name} has no cells: all are excluded")
    cells.sort(key=lambda cell: suite.seeds.index(cell.seed))
    return Plan(suite, problems, cells, excluded)


def _problems(suite: Suite) -> list[Problem]:
    found: dict[str, Problem] = {}
    for entry in suite.problems:
        if isinstance(entry, Problem):
            named = [entry]
        elif entry.startswith(GROUP):
            named = bench_problems.tagged(entry.removeprefix(GROUP))
        else:
            named = [bench_problems.find(entry)]
        for problem in named:
            if found.setdefault(problem.label, problem) != problem:
                raise JobError(f"two problems have the label {problem.label}")
    return list(found.values())


def _ansatze(suite: Suite) -> dict[str, dict[str, Any] | None]:
    """Label -> tables; None for what comes from the problem."""
    found: dict[str, dict[str, Any] | None] = {}
    for entry in suite.ansatze:
        label = entry if isinstance(entry, str) else entry.label
        if label in found:
            raise JobError(f"two ansatze have the label {label}")
        if isinstance(entry, Own):
            found[label] = entry.tables()
        elif label == bench_ansatze.DOCUMENTED:
            found[label] = None
        else:
            found[label] = bench_ansatze.settings(label)
    return found


def _check_patterns(suite: Suite, problems: list[str], ansatze: list[str]) -> None:
    """Refuse an exclusion or override that matches nothing: it is a mistake."""
    for entry in [*suite.exclude, *suite.overrides]:
        for kind, labels in (("problem", problems), ("ansatz", ansatze)):
            pattern = getattr(entry, kind)
            if not fnmatch.filter(labels, pattern):
                raise JobError(
                    f"{kind} = {pattern!r} of an exclusion or override matches nothing "
                    f"in the suite{suggest(pattern, labels)}"
                )


def _matches(entry: Exclusion | Override, problem: str, ansatz: str) -> bool:
    return fnmatch.fnmatchcase(problem, entry.problem) and fnmatch.fnmatchcase(
        ansatz, entry.ansatz
    )


def _excluded(suite: Suite, problem: str, ansatz: str) -> str | None:
    for entry in suite.exclude:
        if _matches(entry, problem, ansatz):
            return entry.reason
    return None


def overlay(tables: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Sections with others laid over; another ``name`` replaces a whole section."""
    merged = dict(tables)
    for section, value in over.items():
        old = merged.get(section)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            other = "name" in value and value["name"] != old.get("name")
            named = section in ("lattice", "hamiltonian", "ansatz")
            merged[section] = dict(value) if other and named else {**old, **value}
        else:
            merged[section] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _tables(
    suite: Suite,
    problem: Problem,
    ansatz: str,
    tables: dict[str, Any] | None,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """The tables of a cell's job but its seed."""
    job: dict[str, Any] = {"hamiltonian": problem.hamiltonian}
    if problem.lattice is not None:
        job["lattice"] = problem.lattice
    if tables is None and not problem.settings:
        raise JobError(
            f"{problem.label} has no settings of its own for the ansatz "
            f"{ansatz!r}: name a family instead (`vmc list ansatz`)"
        )
    job = overlay(job, problem.settings if tables is None else tables)
    job = overlay(job, suite.settings)
    for entry in suite.overrides:
        if _matches(entry, problem.label, ansatz):
            job = overlay(job, entry.settings)
    return apply_overrides(job, overrides)


def _cell(
    suite: Suite,
    problem: Problem,
    ansatz: str,
    seed: int,
    tables: dict[str, Any],
    folder: Path,
) -> Cell:
    tables = tables | {"seed": seed}
    for name in suite.entropy:
        if name < 1:
            raise JobError(f"entropy: a block has at least one site, not {name}")
    try:
        job = Job.from_dict(tables, folder=folder)
        if job.run.out is not None or job.run.max_time is not None:
            raise JobError("run.out and run.max_time belong to the suite: leave it out")
        check_job(job)
    except JobError as error:
        name = f"{problem.label}/{ansatz}"
        raise JobError(f"the cell {name} cannot run: {error}") from None
    sized = suite.parameters is not None and ansatz != bench_ansatze.DOCUMENTED
    if sized:
        assert job.ansatz is not None
        bench_ansatze.size_key(job.ansatz.name)
    extras = {
        "budget": suite.budget.model_dump() if suite.budget else None,
        "parameters": suite.parameters if sized else None,
        "profile": suite.profile and seed == suite.seeds[0],
        "entropy": suite.entropy,
    }
    inputs = {
        "job": job.to_dict(),
        "extras": {k: v for k, v in extras.items() if k != "profile"},
        "version": provenance.version(),
        "files": _file_hashes(tables, folder),
    }
    place = recorded(absolute(tables, folder))
    return Cell(problem, ansatz, seed, place, extras, inputs)


def _file_hashes(tables: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """SHA-256 of the user's own files, by what the job calls them."""
    files = {}
    for section in ("lattice", "hamiltonian", "ansatz"):
        table = tables.get(section) or {}
        name = table.get("name")
        if isinstance(name, str) and ".py:" in name:
            files[name] = factories.user_file(name, folder)
        if isinstance(table.get("terms"), str):
            files[table["terms"]] = folder / table["terms"]
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if path.is_file()
    }
