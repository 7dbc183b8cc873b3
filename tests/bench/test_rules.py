"""The pass rule, numbers from series, comparisons, rows of VarBench: no run needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hamiltonians import compile_operator
from hamiltonians.diagonalise import ground_states
from hamiltonians.termfiles import terms_from_dict
from vmc.bench_cell import accepted
from vmc.bench_compare import compare, energy_change
from vmc.bench_peers import cell_of, filled, gauged, parse
from vmc.bench_problems import Problem, Reference, Rule, find
from vmc.bench_results import empty, finite, smoothed, thinned, time_to
from vmc.bench_rules import judge, verdicts
from vmc.bench_varbench import COLUMNS, markdown
from vmc.errors import JobError

RULE = Rule(pass_relative_error=1e-3, stretch_relative_error=1e-5, time_limit_minutes=1)
EXACT = Reference(energy=-100.0, uncertainty=0.0, kind="exact")
QMC = Reference(energy=-100.0, uncertainty=0.01, kind="qmc")


@pytest.mark.parametrize(
    ("energy", "error", "seconds", "reference", "passed", "why"),
    [
        (-99.95, 0.01, 10, EXACT, True, "0.0005, limit 1e-03"),
        (-99.9999, 0.01, 10, EXACT, True, "within the stretch goal"),
        (-99.88, 0.01, 10, EXACT, True, "limit"),  # 3 sigma on top of the limit
        (-99.86, 0.01, 10, EXACT, False, "relative error 0.0014"),
        (-100.03, 0.01, 10, EXACT, True, "stretch"),  # 3 sigma below: noise
        (-100.05, 0.01, 10, EXACT, False, "5.0 standard errors"),
        (-100.05, 0.01, 10, QMC, True, "stretch"),  # 3.5 of both errors
        (-100.06, 0.01, 10, QMC, False, "4.2 standard errors below the reference"),
        (-99.95, 0.05, 10, EXACT, False, "measure more samples"),
        (-99.95, 0.01, 61, EXACT, False, "1.0 minutes, limit 1"),
        (None, None, 10, EXACT, False, "no energy"),
        (-99.95, 0.01, 10, None, None, "no reference"),
        (-100.0, 0.0, 10, EXACT, True, "stretch"),  # a full sum
        (-100.0 - 1e-6, 0.0, 10, EXACT, False, "below the exact energy"),
    ],
)
def test_rule(energy, error, seconds, reference, passed, why: str) -> None:
    found, text = judge(RULE, reference, energy, error, seconds)
    assert found is passed and why in text


def test_without_a_rule_only_the_impossible_fails() -> None:
    best = Reference(energy=-100.0, uncertainty=0.0, kind="best variational")
    assert judge(None, EXACT, -50.0, 0.1, 1) == (None, "no rule")
    assert judge(None, EXACT, -101.0, 0.1, 1)[0] is False
    assert judge(None, best, -101.0, 0.1, 1) == (None, "no rule")


PROBLEM = Problem(
    label="p",
    hamiltonian={"name": "tfim"},
    lattice={"name": "chain", "size": [8], "periodic": True},
    reference=EXACT,
    rule=RULE,
)


def result(seed: int = 1, energy: float = -99.95, **keys: Any) -> dict[str, Any]:
    made = empty(PROBLEM, "rbm", seed, "done")
    passed, why = judge(RULE, EXACT, energy, 0.01, keys.get("seconds", 1.0))
    made |= {"energy": energy, "energy_error": 0.01, "variance": 2.0, "n_sites": 8}
    made |= {"relative_error": (energy + 100) / 100, "passed": passed, "why": why}
    made |= {"seconds_per_step": 0.01, "n_parameters": 5, "job": {"ansatz": {}}}
    made["time_to"] = {"1e-2": 3.0, "1e-3": 10.0, "1e-4": None}
    return made | keys


@pytest.mark.parametrize(
    ("energies", "passed", "why"),
    [
        ([-99.95, -99.95, -99.95], True, "limit"),
        ([-99.95, -99.95, -99.7], True, "limit"),  # the median, and none beyond 5x
        ([-99.95, -99.7, -99.7], False, "median"),
        ([-99.95, -99.95, -99.4], False, "beyond 5x: seeds 3"),
        ([-99.95, -99.95, -100.1], False, "below E0: seeds 3"),
    ],
)
def test_rule_over_seeds(energies: list[float], passed: bool, why: str) -> None:
    rows = [result(n + 1, e) for n, e in enumerate(energies)]
    (verdict,) = verdicts(rows)
    assert verdict["passed"] is passed and why in verdict["why"]
    rows[0] |= {"status": "failed"}
    (verdict,) = verdicts(rows)
    assert verdict["passed"] is False and "not all seeds" in verdict["why"]
    rows[0] |= {"status": "missing"}
    assert verdicts(rows)[0]["passed"] is None


# ---- series --------------------------------------------------------------------------


def test_time_to_a_target_is_not_that_of_a_lucky_step() -> None:
    n = 400
    seconds = 5.0 + 0.1 * np.arange(1, n + 1)
    energy = -100.0 + 20.0 * np.exp(-np.arange(n) / 30)
    error = np.full(n, 0.01)
    exact = time_to(seconds, energy, error, -100.0)
    lucky = energy.copy()
    lucky[5] = -101.0
    assert time_to(seconds, lucky, error, -100.0) == exact
    # The trailing mean over 20 steps lags by some tens of steps at this pace.
    reached = seconds[np.flatnonzero(energy + 100 <= 1.0)[0]]
    assert reached < exact["1e-2"] < reached + 2.5
    assert exact["1e-2"] < exact["1e-3"] < exact["1e-4"]
    # Nor is it that of energies far below the exact one.
    lost = np.where(np.arange(n) < 40, energy, -110.0)
    assert time_to(seconds, lost, error, -100.0)["1e-3"] is None
    noisy = time_to(seconds, energy, np.full(n, 10.0), -100.0)
    assert noisy == {"1e-2": None, "1e-3": None, "1e-4": None}
    assert set(time_to(seconds, energy, error, None).values()) == {None}
    means, errors = smoothed(np.arange(4.0), np.array([1.0, np.nan, 1.0, 1.0]), 2)
    np.testing.assert_allclose(means, [0, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(errors, [1, 0.5, 0.5, np.sqrt(2) / 2])


def test_rejected_steps_are_not_in_the_series() -> None:
    n = 60
    times, error = 1.0 + np.arange(n), np.full(n, 0.01)
    series = {"step": np.arange(1, n + 1), "energy": np.full(n, -99.95), "error": error}
    bad = np.isin(np.arange(n), (3, 30, 40))
    spoiled = series | {"rejected": bad.astype(int), "shift": np.ones(n)}
    spoiled["energy"] = np.where(bad, [np.nan, -1e6, np.inf] * 20, -99.95)
    kept, clean = accepted(spoiled, times)
    assert list(kept) == [t for t, b in zip(times, bad, strict=True) if not b]
    assert time_to(kept, clean["energy"], clean["error"], -100.0)["1e-3"] == 1.0
    found = thinned(kept, clean, -100.0)
    assert len(found["steps"]) == n - 3 and 31 not in found["steps"]
    assert found["relative_error"] == pytest.approx([5e-4] * (n - 3))
    # Runs of before there were rejections have no such column.
    np.testing.assert_array_equal(accepted(series, times)[0], times)


@pytest.mark.parametrize("n", [0, 1, 150, 5000])
def test_a_series_is_thinned_and_keeps_its_ends(n: int) -> None:
    columns = {"step": np.arange(1, n + 1), "energy": np.full(n, -99.0)}
    columns["error"] = np.full(n, 0.1)
    series = thinned(np.arange(n, dtype=float), columns, -100.0)
    assert len({len(v) for v in series.values()}) == 1
    assert len(series["steps"]) == n if n <= 150 else 150 < len(series["steps"]) <= 200
    if n:
        assert series["steps"][0] == 1 and series["steps"][-1] == n
        assert series["relative_error"] == pytest.approx([0.01] * len(series["steps"]))


def test_what_is_not_finite_is_null() -> None:
    table = {"a": [1.0, float("nan")], "b": (np.float64("inf"), np.int64(2))}
    assert finite(table) == {"a": [1.0, None], "b": [None, 2]}


# ---- comparison ----------------------------------------------------------------------


def seeds(*energies: float, **keys: Any) -> list[dict[str, Any]]:
    return [result(n + 1, e, **keys) for n, e in enumerate(energies)]


OLD = seeds(-99.95, -99.94, -99.96)


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (OLD, None),
        (seeds(-99.94, -99.95, -99.95), None),
        (seeds(-99.99, -99.99, -99.99), None),  # better
        (seeds(-99.92, -99.91, -99.93), "worse"),
        (seeds(-99.95, -99.94, -99.80), "pass -> fail"),
        (seeds(-99.95, -99.94, -99.96, seconds_per_step=0.0125), None),
        (seeds(-99.95, -99.94, -99.96, seconds_per_step=0.014), "1.40 times as long"),
        (
            seeds(-99.95, -99.94, -99.96, status="failed", error="boom\nmore"),
            "done -> failed (boom)",
        ),
        (
            seeds(*[-99.95] * 3, time_to={"1e-2": 3, "1e-3": 14, "1e-4": None}),
            "1e-3 after 14 s",
        ),
        (
            seeds(*[-99.95] * 3, time_to={"1e-2": 3, "1e-3": None, "1e-4": None}),
            "1e-3 no longer reached by 3 seeds",
        ),
        (seeds(*[-99.95] * 3, time_to={"1e-2": 4.5, "1e-3": 10, "1e-4": 9}), None),
    ],
)
def test_regressions(new: list[dict[str, Any]], line: str | None) -> None:
    found = compare(OLD, new)["regressions"]
    assert bool(found) is (line is not None)
    assert line is None or any(line in text for text in found)


def test_noise_is_that_of_measurements_and_seeds() -> None:
    pairs = list(zip(OLD, OLD, strict=True))
    change, noise = energy_change(pairs)
    assert change == 0
    # The scatter of the seeds, 0.01, is that of the measurements here.
    assert noise == pytest.approx(np.sqrt(2 * 0.01**2 / 3))
    one = [(result(1, -99.95), result(1, -99.90))]
    assert energy_change(one) == pytest.approx((0.05, 0.01 * np.sqrt(2)))
    text = compare([one[0][0]], [one[0][1]])
    assert "3.5 joint standard errors" in text["regressions"][0]
    assert "one seed" in text["notes"][0]
    assert compare(OLD, [])["notes"] == ["p/rbm: only in the first folder"]


# ---- VarBench ------------------------------------------------------------------------


def test_rows_of_varbench() -> None:
    problem = find("heis_chain_20_P")
    rows = []
    for seed, variance in ((1, 0.02), (2, 0.01)):
        made = empty(problem, "rbm", seed, "done")
        made |= {"energy": -8.9 - seed / 1000, "energy_error": 0.0012, "n_sites": 20}
        made |= {"variance": variance, "n_parameters": 42, "versions": {"vmc": "1.2"}}
        rows.append(made | {"job": {"ansatz": {"name": "rbm|x", "alpha": 2}}})
    text = markdown([problem, PROBLEM], rows)
    assert text.startswith("## Heisenberg/chain_20_P.md\n\n| Energy ")
    lines = text.strip().splitlines()[2:]
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines]
    assert tuple(cells[0]) == COLUMNS and set(lines[1]) == {"|", "-"}
    # The seed of the smaller variance, in Pauli units: x 4, and x 16.
    assert cells[2][:5] == ["-35.6080", "0.0048", "0.16", "20", "0"]
    assert cells[2][5] == "rbm\\|x (alpha = 2, 42 parameters)" and len(lines) == 3
    with pytest.raises(JobError, match="no result is of an instance"):
        markdown([PROBLEM], [result()])


# ---- peers ---------------------------------------------------------------------------


def test_a_peer_gets_the_gauged_terms() -> None:
    """The lowest energy of what is handed over is that of the problem."""
    problem = find("heis_chain_8_P")
    cell = cell_of(problem, 5.0, 100)
    assert cell["total_sz"] == 0 and cell["real"] and len(cell["translations"]) == 8
    flips = [c for c, ops, _ in cell["terms"] if ops in ("XX", "YY")]
    assert len(flips) == 16 and set(flips) == {-0.25}, "no sign problem is left"
    table = {"N": 8, "nup": 4, "constant": 0.0, "terms": cell["terms"]}
    op, n_sites, total_sz = terms_from_dict(table)
    ham = compile_operator(op, n_sites, total_sz=total_sz)
    assert problem.reference is not None
    energy = ground_states(ham, 1).energies[0]
    assert energy == pytest.approx(problem.reference.energy, abs=1e-9)
    assert gauged([[0.0, 1.0], "XY", [0, 1]], [1, 1])[0] == [0.0, 1.0]
    assert gauged([[0.0, 1.0], "ZY", [0, 1]], [1, 1])[0] == [0.0, -1.0]


def test_what_a_peer_says_becomes_a_result() -> None:
    problem = find("heis_chain_8_P")
    said = {"mean": -3.65, "error": 1e-3, "variance": 0.02, "tau": 1.0, "r_hat": 1.0}
    said |= {"n_parameters": 16, "n_samples": 4096, "measure_seconds": 2.0}
    said |= {"seconds": 12.0, "peak_memory_mib": 300.0, "versions": {"netket": "3"}}
    said |= {"energies": [-3.0, -3.64, -3.65], "errors": [0.01] * 3}
    said["times"] = [8.0, 9.0, 10.0]
    cell = {"n_sites": 8, "constant": 0.0, "n_samples": 1024, "alpha": 2}
    blank = empty(problem, "netket-rbm", 1, "failed")
    result = filled(blank, said, problem, cell)
    assert set(result) == set(blank) and result["status"] == "done"
    assert result["v_score"] == pytest.approx(8 * 0.02 / 3.65**2)
    assert result["seconds_per_step"] == 1.0 and result["compile_seconds"] == 7.0
    assert result["optimise_seconds"] == 10.0 and result["n_steps"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("netket", "expected NAME=PYTHON"),
        ("netkat=/bin/sh", "did you mean 'netket'"),
        ("netket=/no/such/python", "there is no program"),
    ],
)
def test_bad_peers(text: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        parse(text)
