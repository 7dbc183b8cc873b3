"""Problems of the benchmark suites, with their references and published results.

The data lie in ``vmc/data``: ``problems.json`` (energies in the units of the named
model) and ``varbench.json`` (rows of VarBench as published: Pauli matrices, J = 1,
totals).  A problem's ``pauli_factor`` leads from the first to the second, and
`baselines` is the one place that converts.  Source of the rows: arXiv:2302.04919.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from vmc.errors import JobError
from vmc.jobfile import suggest
from vmc.sections import Section, key

DATA = Path(__file__).parent / "data"
#: Name of the method of a row that is no variational state.
KINDS = ("exact", "qmc", "dmrg", "best variational")


class Reference(Section):
    """What an energy is compared to."""

    energy: float = key(..., "a number", "total energy, in the units of the model")
    uncertainty: float = key(0.0, "a number >= 0", "one standard error", ge=0)
    kind: Literal["exact", "qmc", "dmrg", "best variational"] = key(
        "exact", f"one of {', '.join(KINDS)}", "how it was found"
    )
    source: str = key("", "text", "where it comes from")


class Rule(Section):
    """When a result counts as a pass."""

    pass_relative_error: float = key(
        ..., "a positive number", "largest (E - E0) / |E0|", gt=0
    )
    stretch_relative_error: float | None = key(
        None, "a positive number", "what would be excellent", gt=0
    )
    time_limit_minutes: float | None = key(
        None, "a positive number", "of the whole process", gt=0
    )


class Problem(Section):
    """A lattice and a Hamiltonian with what is known of their ground state.

    Attributes of the instance are keys of a table of ``problems`` in a suite.
    """

    label: str = key(..., "text", "its name, of letters, digits and ._+=-")
    lattice: dict[str, Any] | None = key(None, "a table", "as [lattice] of a job")
    hamiltonian: dict[str, Any] = key(..., "a table", "as [hamiltonian] of a job")
    n_sites: int | None = key(None, "an integer", "number of sites, if known")
    pauli_factor: float = key(
        1.0, "a positive number", "energy in Pauli units / energy here", gt=0
    )
    reference: Reference | None = key(None, "a table", "what to compare to")
    rule: Rule | None = key(None, "a table", "when a result passes")
    varbench: str | None = key(None, "text", "instance of VarBench")
    tags: list[str] = key([], "a list of names", "groups that it belongs to")
    settings: dict[str, Any] = key(
        {}, "sections of a job", 'what the ansatz "documented" takes'
    )

    @field_validator("label")
    @classmethod
    def _usable(cls, label: str) -> str:
        return check_label(label)

    @property
    def lattice_text(self) -> str:
        """The lattice for people: "square 4x4 periodic"."""
        if self.lattice is None:
            return ""
        size = self.lattice.get("size") or []
        extent = "x".join(map(str, size if isinstance(size, list) else [size]))
        periodic = self.lattice.get("periodic", True)
        edges = "mixed"
        if isinstance(periodic, bool):
            edges = "periodic" if periodic else "open"
        return " ".join(x for x in (str(self.lattice["name"]), extent, edges) if x)

    @property
    def hamiltonian_text(self) -> str:
        """The Hamiltonian for people: "j1j2 J2=0.5"."""
        keys = {k: v for k, v in self.hamiltonian.items() if k != "name"}
        short = [f"{k}={v}" for k, v in keys.items() if not isinstance(v, list | dict)]
        return " ".join([str(self.hamiltonian.get("name", "terms")), *short])


def check_label(label: str) -> str:
    """A label that may name a folder.

    Raises:
        ValueError: it may not.
    """
    allowed = all(c.isascii() and (c.isalnum() or c in "._+=-") for c in label)
    if not label or not allowed or label.startswith(".") or len(label) > 100:
        raise ValueError(
            f"{label!r} cannot name a folder: use letters, digits and ._+=-, at most "
            "100, not beginning with a dot"
        )
    return label


@functools.cache
def problems() -> Mapping[str, Problem]:
    """All problems that come with the package, by label."""
    content = json.loads((DATA / "problems.json").read_text(encoding="utf-8"))
    return {
        label: Problem(label=label, **entry)
        for label, entry in content["problems"].items()
    }


@functools.cache
def _varbench() -> Mapping[str, list[dict[str, Any]]]:
    content = json.loads((DATA / "varbench.json").read_text(encoding="utf-8"))
    return content["instances"]


def varbench_source() -> str:
    """Where the published rows come from."""
    content = json.loads((DATA / "varbench.json").read_text(encoding="utf-8"))
    return str(content["source"])


def find(label: str) -> Problem:
    """The problem of a label, or of the name of a VarBench instance.

    Raises:
        JobError: there is none; it says which was probably meant.
    """
    table = problems()
    if label in table:
        return table[label]
    for problem in table.values():
        if problem.varbench == label:
            return problem
    known = [*table, *(p.varbench for p in table.values() if p.varbench)]
    hint = suggest(label, known)
    if hint.startswith("; known"):
        hint = "; `vmc bench list` lists them all"
    raise JobError(f"unknown problem {label!r}{hint}")


def tagged(tag: str) -> list[Problem]:
    """All problems of a group: "acceptance", "smoke", "varbench" or "sizes".

    Raises:
        JobError: there is no such group.
    """
    found = [p for p in problems().values() if tag in p.tags]
    if not found:
        tags = {t for p in problems().values() for t in p.tags}
        raise JobError(f"unknown group of problems {tag!r}{suggest(tag, tags)}")
    return found


def baselines(chosen: Iterable[Problem]) -> list[dict[str, Any]]:
    """Published results for some problems, in the units of their models.

    Returns:
        Tables {problem, method, energy, sigma, variance, v_score, relative_error,
        source, note}; all but the first three may be None.  Energies and sigma are
        divided by the problem's ``pauli_factor``, variances by its square; V-scores
        and relative errors have no units.
    """
    found = []
    for problem in chosen:
        for row in _varbench().get(problem.varbench or "", []):
            found.append(_baseline(problem, row))
    return found


def _baseline(problem: Problem, row: Mapping[str, Any]) -> dict[str, Any]:
    factor = problem.pauli_factor
    energy = row["energy"] / factor
    reference, relative = problem.reference, None
    if reference is not None and reference.energy != 0:
        relative = (energy - reference.energy) / abs(reference.energy)
    return {
        "problem": problem.label,
        "method": row["method"],
        "energy": energy,
        "sigma": None if row["sigma"] is None else row["sigma"] / factor,
        "variance": None if row["variance"] is None else row["variance"] / factor**2,
        "v_score": row["v_score"],
        "relative_error": relative,
        "source": row["reference"] or "VarBench (arXiv:2302.04919)",
        "note": row["note"],
    }
