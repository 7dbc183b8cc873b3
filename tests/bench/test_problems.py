"""The problems that come with the package: Hamiltonians, energies, units."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from hamiltonians import LATTICES, MODELS, compile_operator
from hamiltonians.diagonalise import ground_states
from hamiltonians.termfiles import load_terms
from vmc import bench_problems
from vmc.assembly import build_system
from vmc.bench_problems import DATA, Problem, baselines, find, problems, tagged
from vmc.errors import JobError
from vmc.job import Job

TESTS = Path(__file__).resolve().parents[1] / "data"
FILED = [name for name in problems() if (TESTS / "terms" / f"{name}.json").exists()]
SMALL = [label for label, p in problems().items() if (p.n_sites or 99) <= 20]
#: The ground energies of the file of terms, found by two other programs.
EXACT = json.loads((TESTS / "energies.json").read_text())
PUBLISHED = json.loads((DATA / "varbench.json").read_text())["instances"]


def operator(problem: Problem) -> tuple[Any, int]:
    assert problem.lattice is not None
    table = dict(problem.lattice)
    lattice = LATTICES[table["name"]](table["size"], table["periodic"])
    keys = {k: v for k, v in problem.hamiltonian.items() if k != "name"}
    return MODELS[problem.hamiltonian["name"]](lattice, **keys), lattice.n_sites


def job_of(problem: Problem, **sections: Any) -> Job:
    tables = {"hamiltonian": problem.hamiltonian, "lattice": problem.lattice}
    return Job(**(tables | sections))


def test_what_there_is() -> None:
    assert len(tagged("acceptance")) == 12 and len(tagged("smoke")) == 8
    assert len(tagged("varbench")) == 65
    assert {p.label for p in tagged("smoke")} <= set(SMALL)
    for problem in tagged("acceptance"):
        assert problem.rule is not None and problem.rule.time_limit_minutes
        assert problem.reference is not None and problem.settings["ansatz"]
    for problem in problems().values():
        assert problem.reference is not None and problem.reference.source


@pytest.mark.parametrize("label", problems())
def test_size_and_bonds(label: str) -> None:
    """All spins up: every bond counts once, with its own coupling."""
    problem = find(label)
    op, n_sites = operator(problem)
    assert n_sites == problem.n_sites
    model = problem.hamiltonian["name"]
    if model not in ("tfim", "heisenberg", "j1j2"):
        return
    assert problem.pauli_factor == (1 if model == "tfim" else 4)
    near, next_near = bonds(problem)
    up = sum(c.real for f, c in op.coefficients.items() if set(names(f)) <= {"z", "Z"})
    j2 = problem.hamiltonian.get("J2", 0.0)
    expected = -near if model == "tfim" else (near + j2 * next_near) / 4
    assert up == pytest.approx(expected, abs=1e-9)


def names(factors: Any) -> list[str]:
    return re.findall(r"[A-Za-z]+", " ".join(str(f[1]) for f in factors))


def bonds(problem: Problem) -> tuple[int, int]:
    """Nearest and second neighbours, by counting on paper."""
    assert problem.lattice is not None and problem.n_sites is not None
    name, size = problem.lattice["name"], problem.lattice["size"]
    n, closed = problem.n_sites, problem.lattice["periodic"]
    if name == "chain":
        return (n, n) if closed else (n - 1, n - 2)
    if name == "kagome":
        return 2 * n, 2 * n
    a, b = size
    if closed:
        diagonals = 2 * n
        return (3 * n if name == "triangular" else 2 * n), diagonals
    straight, diagonal = a * (b - 1) + b * (a - 1), (a - 1) * (b - 1)
    return straight + (diagonal if name == "triangular" else 0), 2 * diagonal


@pytest.mark.parametrize("label", FILED)
def test_terms_are_those_of_the_files(label: str) -> None:
    op, n_sites, _ = load_terms(TESTS / "terms" / f"{label}.json")
    assert operator(find(label)) == (op, n_sites)
    known = find(label).reference
    assert known is not None
    assert known.energy == pytest.approx(EXACT[label]["energy"], rel=1e-11)


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(x, marks=() if (find(x).n_sites or 0) <= 10 else pytest.mark.slow)
        for x in SMALL
    ],
)
def test_references_against_diagonalisation(label: str) -> None:
    problem = find(label)
    ham = build_system(job_of(problem)).hamiltonian
    energy = ground_states(ham, 1, copies=False).energies[0]
    known = problem.reference
    assert known is not None
    # As many digits as were printed.
    digits = max(2 * known.uncertainty, 1e-9 * abs(known.energy))
    assert energy == pytest.approx(known.energy, rel=0, abs=digits)


def test_varbench_energies_are_converted_once() -> None:
    for problem in tagged("varbench"):
        found = baselines([problem])
        rows = PUBLISHED[problem.varbench]
        assert [b["method"] for b in found] == [r["method"] for r in rows]
        known = problem.reference
        assert known is not None
        exact = [r["energy"] for r in rows if r["exact"]]
        if exact and known.kind == "exact":
            error = abs(problem.pauli_factor * known.energy - exact[0])
            assert error < 1e-6 * abs(exact[0]), problem.label
        for b, row in zip(found, rows, strict=True):
            factor = problem.pauli_factor
            assert b["energy"] * factor == pytest.approx(row["energy"], rel=1e-14)
            if b["variance"] is None or b["v_score"] is None:
                continue
            # The V-score has no units: it must come out of the converted numbers.
            score = problem.n_sites * b["variance"] / b["energy"] ** 2
            assert score == pytest.approx(b["v_score"], rel=1e-6)
    (sample,) = (
        b for b in baselines([find("J1J2/square_36_P_0.5")]) if "RBM+PP" in b["method"]
    )
    assert sample["energy"] == pytest.approx(-72.54722 / 4)
    assert sample["sigma"] == pytest.approx(0.00016 / 4)
    assert 0 < sample["relative_error"] < 1e-4


def test_invalid_rows_say_so() -> None:
    flagged = [b for b in baselines([find("TFIsing/chain_10_P_1")]) if b["note"]]
    assert [b["method"] for b in flagged] == ["RBM (alpha = 1)"]
    assert "BELOW" in flagged[0]["note"] and flagged[0]["relative_error"] < 0


def test_names_that_do_not_exist() -> None:
    with pytest.raises(JobError, match="did you mean 'heis_chain_40_P'"):
        find("heis_chain_40")
    with pytest.raises(JobError, match="vmc bench list"):
        find("zzzzzzzz")
    with pytest.raises(JobError, match="did you mean 'acceptance'"):
        tagged("acceptence")
    with pytest.raises(ValueError, match="cannot name a folder"):
        bench_problems.check_label("../up")


@pytest.mark.parametrize("label", [p.label for p in problems().values() if p.settings])
def test_documented_settings_are_a_job(label: str) -> None:
    problem = find(label)
    from vmc.bench_suite import overlay
    from vmc.sweep_plan import check_job

    tables = {"hamiltonian": problem.hamiltonian, "lattice": problem.lattice}
    job = Job(**overlay(tables, problem.settings))
    check_job(job)
    assert job.ansatz is not None and math.prod(job.lattice.size) > 0  # pyright: ignore
    compile_operator(*operator(problem)[:1], problem.n_sites)
