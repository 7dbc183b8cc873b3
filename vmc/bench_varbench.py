"""Results in VarBench's own format, ready to be submitted.

One Markdown table per instance, "Energy | Sigma | Energy Variance | DOF | Einf |
Method | Reference"; total energies in Pauli units with J = 1 (arXiv:2302.04919,
github.com/varbench/varbench).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vmc.bench_problems import Problem
from vmc.errors import JobError

COLUMNS = (
    "Energy",
    "Sigma",
    "Energy Variance",
    "DOF",
    "Einf",
    "Method",
    "Reference",
)


def rows(
    problem: Problem, results: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """One row per ansatz: the seed of the smallest variance.

    The variance is known without the exact energy, so that choosing by it is no
    choice of the luckiest energy.

    Args:
        problem: of VarBench.
        results: of the problem; those that are not done, or not ours, are left out.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for result in results:
        usable = result["status"] == "done" and result["variance"] is not None
        usable = usable and result["source"] == "vmc"
        if not usable or result["problem"] != problem.label:
            continue
        other = best.get(result["ansatz"])
        if other is None or result["variance"] < other["variance"]:
            best[result["ansatz"]] = result
    return [_row(problem, result) for result in best.values()]


def _row(problem: Problem, result: Mapping[str, Any]) -> dict[str, str]:
    factor = problem.pauli_factor
    energy, error = factor * result["energy"], factor * result["energy_error"]
    digits = _decimals(error, energy)
    cells = (
        f"{energy:.{digits}f}",
        f"{error:.{digits}f}",
        f"{factor**2 * result['variance']:.6g}",
        str(result["n_sites"]),
        "0",
        _escaped(method(result)),
        f"nqs-vmc {result['versions'].get('vmc', '')}".strip(),
    )
    return dict(zip(COLUMNS, cells, strict=True))


def _decimals(error: float, energy: float) -> int:
    """Decimals that show an error with two digits, at most what a float holds."""
    if error <= 1e-13 * abs(energy):
        return 10
    return min(12, max(0, 1 - math.floor(math.log10(error))))


def method(result: Mapping[str, Any]) -> str:
    """The ansatz with its keys: "rbm (alpha = 4)"."""
    table = dict(result["job"].get("ansatz", {}))
    name = str(table.pop("name", result["ansatz"]))
    keys = [
        f"{key} = {value}"
        for key, value in table.items()
        if isinstance(value, int | str) and not isinstance(value, bool)
        if key in ("alpha", "dtype") or isinstance(value, int)
    ]
    keys.append(f"{result['n_parameters']} parameters")
    return f"{name} ({', '.join(keys)})"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def markdown(problems: Sequence[Problem], results: Sequence[Mapping[str, Any]]) -> str:
    """A section per VarBench instance, named as its file there.

    Args:
        problems: of the suite; those that VarBench does not have are left out.
        results: of their cells.

    Raises:
        JobError: there is no result for any instance of VarBench.
    """
    parts = []
    for problem in problems:
        found = rows(problem, results) if problem.varbench else []
        if found:
            parts.append(f"## {problem.varbench}.md\n\n{table(found)}")
    if not parts:
        raise JobError(
            "no result is of an instance of VarBench; `vmc bench list` names them"
        )
    return "\n\n".join(parts) + "\n"


def table(found: Sequence[Mapping[str, str]]) -> str:
    """Aligned Markdown."""
    lines = [dict(zip(COLUMNS, COLUMNS, strict=True)), *found]
    widths = {c: max(len(line[c]) for line in lines) for c in COLUMNS}
    text = [
        "| " + " | ".join(f"{line[c]:<{widths[c]}}" for c in COLUMNS) + " |"
        for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (widths[c] + 2) for c in COLUMNS) + "|")
    return "\n".join(text)
