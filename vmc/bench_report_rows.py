"""The cells of a suite by problem and ansatz: medians, verdicts, honest marks."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vmc.bench_report_text import count, number
from vmc.bench_rules import BELOW, verdicts

#: Standard errors within which a relative error counts as not resolved.
RESOLVED = 2.0

Cell = Mapping[str, Any]

#: What became of a group of seeds, worst news last.
VERDICTS: tuple[str, ...] = ("passed", "no rule", "incomplete", "failed")


@dataclasses.dataclass(frozen=True)
class Group:
    """The seeds of one ansatz on one problem.

    Attributes:
        problem: label.
        method: label of the ansatz; with the program in front if that is not ours.
        cells: all of them, by seed.
    """

    problem: str
    method: str
    cells: tuple[Cell, ...]

    @functools.cached_property
    def used(self) -> tuple[Cell, ...]:
        """Cells with numbers: those that are done, or stale ones if there are none."""
        done = tuple(c for c in self.cells if c["status"] == "done")
        return done or tuple(
            c
            for c in self.cells
            if c["status"] == "stale" and number(c["energy"]) is not None
        )

    @property
    def stale(self) -> bool:
        """Whether the numbers come from stale results."""
        return bool(self.used) and self.used[0]["status"] == "stale"

    @functools.cached_property
    def middle(self) -> Cell | None:
        """The cell of the median energy; of an even number the worse of the two."""
        known = [c for c in self.used if number(c["energy"]) is not None]
        known.sort(key=lambda c: c["energy"])
        return known[len(known) // 2] if known else None

    @functools.cached_property
    def verdict(self) -> tuple[str, str]:
        """One of `VERDICTS` and why, by the rule of `vmc.bench_rules`."""
        states = [c["status"] for c in self.cells]
        failed = states.count("failed")
        if failed:
            text = f"{failed} of {count(len(states), 'seed')} ended with an error"
            return "failed", text
        lost = states.count("missing") + states.count("stale")
        if lost:
            text = f"{lost} of {count(len(states), 'seed')} missing or stale"
            return "incomplete", text
        (row,) = verdicts(self.cells)
        if row["passed"] is None:
            return "no rule", row["why"]
        return ("passed" if row["passed"] else "failed"), row["why"]

    def values(self, read: Callable[[Cell], float | None]) -> list[float]:
        """The numbers of the used cells, without those that are missing."""
        return [v for cell in self.used if (v := read(cell)) is not None]

    def spread(self, name: str) -> tuple[float, float, float] | None:
        """Median, least and largest value of a column; None without any."""
        return spread(self.values(functools.partial(column, name)))


def spread(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Median, least and largest of some numbers; None without any."""
    if not values:
        return None
    return statistics.median(values), min(values), max(values)


def column(name: str, cell: Cell) -> float | None:
    """A number of a cell; a dot leads into a table ("time_to.1e-2")."""
    value: Any = cell
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return number(value)


def grouped(results: Iterable[Cell]) -> list[Group]:
    """Cells by problem and ansatz, problem by problem, each in order of appearance."""
    problems: dict[str, dict[str, list[Cell]]] = {}
    for cell in results:
        source = cell.get("source") or "vmc"
        own = source == "vmc"
        method = cell["ansatz"] if own else f"{source}: {cell['ansatz']}"
        problems.setdefault(cell["problem"], {}).setdefault(method, []).append(cell)
    return [
        Group(problem, method, tuple(sorted(cells, key=lambda c: c["seed"])))
        for problem, methods in problems.items()
        for method, cells in methods.items()
    ]


# ---- relative errors -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Relative:
    """(E - E0) / |E0| with all that makes it uncertain.

    Attributes:
        value: signed.
        sigma: of the measurement, or None if it is not known.
        noise: of measurement and reference together.
    """

    value: float
    sigma: float | None
    noise: float

    @property
    def resolved(self) -> bool:
        """Whether it differs from zero by more than noise."""
        return abs(self.value) >= RESOLVED * self.noise and self.value != 0

    @property
    def limit(self) -> float:
        """What it hardly exceeds."""
        return max(self.value, 0.0) + RESOLVED * self.noise


def relative(cell: Cell) -> Relative | None:
    """The relative error of a cell, or None without reference or energy."""
    value = number(cell["relative_error"])
    if value is None:
        return None
    sigma = number(cell["relative_error_sigma"])
    return Relative(value, sigma, math.hypot(sigma or 0.0, reference_noise(cell)))


def reference_noise(cell: Cell) -> float:
    """Relative uncertainty of the reference of a cell; 0 where none is stated."""
    known = cell["reference"] or {}
    energy = number(known.get("energy"))
    return abs((number(known.get("uncertainty")) or 0.0) / energy) if energy else 0.0


def below(cell: Cell) -> str | None:
    """What to say of an energy below its reference by more than noise, or None."""
    found = relative(cell)
    # Rounding of an energy that the reference states with all its digits.
    if found is None or found.value > -max(BELOW * found.noise, 1e-12):
        return None
    kind = (cell["reference"] or {}).get("kind")
    if kind in ("exact", "qmc"):
        return f"below the {kind} energy by more than noise: cannot be right"
    return f"below the reference ({kind}) by more than noise"


def impossible(cell: Cell) -> bool:
    """Whether an energy lies below one that no state has."""
    return "cannot be right" in (below(cell) or "")


# ---- summaries -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Best:
    """The lowest energy of a problem.

    Attributes:
        problem: label.
        group: that has it by its median seed, or None if nothing has an energy.
        ties: other methods within noise of it.
        groups: of the problem.
        published: the published result of the lowest energy, or None.
    """

    problem: str
    group: Group | None
    ties: tuple[str, ...]
    groups: tuple[Group, ...]
    published: Mapping[str, Any] | None

    @property
    def reference(self) -> Mapping[str, Any] | None:
        """What the problem's energies are compared to."""
        cells = (cell for group in self.groups for cell in group.cells)
        return next((c["reference"] for c in cells if c["reference"]), None)


def best(groups: Sequence[Group], baselines: Sequence[Mapping[str, Any]]) -> list[Best]:
    """Which method has the lowest energy, problem by problem.

    Stale results and energies that no state can have do not take part.
    """
    found = []
    for problem in dict.fromkeys(group.problem for group in groups):
        own = tuple(g for g in groups if g.problem == problem)
        fit = [
            (g.middle["energy"], g)
            for g in own
            if g.middle is not None and not g.stale and not impossible(g.middle)
        ]
        fit.sort(key=lambda pair: pair[0])
        first = fit[0][1] if fit else None
        ties = tuple(g.method for _, g in fit[1:] if first and _tied(first, g))
        rows = [b for b in baselines if b["problem"] == problem]
        states = [b for b in rows if variational(b)]
        lowest = min(states, key=lambda b: b["energy"], default=None)
        found.append(Best(problem, first, ties, own, lowest))
    return found


def _tied(one: Group, other: Group) -> bool:
    """Whether the median energies agree within two standard errors."""
    a, b = one.middle, other.middle
    assert a is not None and b is not None
    noise = math.hypot(number(a["energy_error"]) or 0, number(b["energy_error"]) or 0)
    return b["energy"] - a["energy"] < RESOLVED * noise


def variational(baseline: Mapping[str, Any]) -> bool:
    """Whether a published row is the energy of a variational state, and can be one."""
    method = str(baseline["method"]).lower()
    energy, error = number(baseline["energy"]), number(baseline["relative_error"])
    if energy is None or "exact" in method or "qmc" in method:
        return False
    sigma = abs((number(baseline["sigma"]) or 0.0) / energy) if energy else 0.0
    return error is None or error > -max(BELOW * sigma, 1e-9)


def tally(groups: Sequence[Group]) -> dict[str, int]:
    """How many groups have each verdict."""
    found = dict.fromkeys(VERDICTS, 0)
    for group in groups:
        found[group.verdict[0]] += 1
    return found


def notes(group: Group) -> list[str]:
    """All that a reader of the row must know: errors, stale marks, doubts."""
    texts: dict[str, list[str]] = {}

    def note(text: str, cell: Cell) -> None:
        texts.setdefault(text, []).append(str(cell["seed"]))

    for cell in group.cells:
        if cell["status"] == "failed":
            note(f"failed: {cell['error'] or 'no reason given'}", cell)
        elif cell["status"] == "stale":
            note(f"stale: {cell['stale_because'] or 'other settings'}", cell)
        elif cell["status"] == "missing":
            note(f"missing: {cell['error'] or 'not run'}", cell)
        elif text := below(cell):
            note(text, cell)
    found = []
    for text, seeds in texts.items():
        one = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"
        found.append(f"{one if len(seeds) < len(group.cells) else 'all seeds'} {text}")
    state, why = group.verdict
    statuses = {cell["status"] for cell in group.cells}
    if state in ("failed", "no rule") and why and statuses == {"done"}:
        found.append(why)
    return found
