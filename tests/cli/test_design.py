"""``vmc design``: JSON, table, picture and the job file that it recommends."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import vmc
from tests.cli.conftest import invoke, loaded

JobFile = Callable[[str], Path]

RING = """
[lattice]
name = "chain"
size = [8]
[hamiltonian]
name = "heisenberg"
"""
OWN = RING + '[ansatz]\nname = "convac"\nchannels = [2, 2, 2]\n'
FAST = ("--families", "convac,mps", "--no-calibrate")


def test_from_a_job_to_a_job(job_file: JobFile) -> None:
    """One small chain end to end: the written job is one that runs."""
    drawn = importlib.util.find_spec("matplotlib") is not None
    files = ("--write", "best.toml", *(("--plot", "design.png") if drawn else ()))
    outcome = invoke("design", job_file(OWN), *FAST, *files, "--cut", "0,3", "--json")
    found = outcome.json
    assert outcome.code == 0 and "diagonalising 70 states" in outcome.err
    assert found["energy"] == pytest.approx(-3.6510934089, abs=1e-9)
    for cut in found["cuts"]:
        assert {"region", "s1", "s2", "log_capacity", "utilisation"} <= cut.keys()
        assert {"floor", "status", "label"} <= cut.keys()
        assert cut["label"] == "exact" and cut["s2"] <= cut["s1"] + 1e-12
    assert [0, 3] in [cut["region"] for cut in found["cuts"]]
    half = next(c for c in found["cuts"] if c["region"] == [0, 1, 2, 3])
    assert half["s1"] == pytest.approx(1.05116588, abs=1e-8)
    assert half["s2"] == pytest.approx(0.73701438, abs=1e-8)
    assert half["status"] == "limited" and half["floor"] < half["floor_free"]
    worst = max(cut["floor"] for cut in found["cuts"])
    assert found["certified_infidelity"] == worst > 0
    floor = found["gap"] * worst
    assert found["certified_energy_floor"] == pytest.approx(floor)
    assert found["architecture"] == "convac" and found["bottleneck"]["indices"]

    best = found["recommendation"]
    assert best["reaches_target"] and best["predicted_relative_error"] <= 1e-3
    assert {best["family"], found["alternatives"][0]["family"]} == {"convac", "mps"}
    text = Path("best.toml").read_text()
    assert text == best["job"] and tomllib.loads(text)["ansatz"] == best["ansatz"]
    assert vmc.build(vmc.Job.load("best.toml")).vmc.n_parameters == best["n_parameters"]
    assert not drawn or Path("design.png").read_bytes()[:4] == b"\x89PNG"


def test_the_table(job_file: JobFile) -> None:
    outcome = invoke("design", job_file(OWN), *FAST)
    assert outcome.code == 0
    assert "heisenberg on chain, N = 8: E0 = -3.65109341" in outcome.out
    head = next(x for x in outcome.out.splitlines() if x.lstrip().startswith("cut"))
    assert head.split()[:8] == "cut |A| kind S1 S2 chi1e-2 chi1e-4 from".split()
    assert "convac (job)" in head and "[0..3]" in outcome.out
    assert "rank 4 across the half cut" in outcome.out
    assert "recommendation: " in outcome.out and "[ansatz]" in outcome.out
    assert "samples psi only in its sector" in outcome.err


def test_without_an_ansatz_and_degenerate(job_file: JobFile) -> None:
    text = RING.replace('"heisenberg"', '"majumdar_ghosh"')
    options = ("--families", "mps", "--json")
    found = invoke("design", job_file(text), *options).json
    assert found["degeneracy"] == 2
    assert found["certified_infidelity"] is None
    assert found["certified_energy_floor"] is None
    assert "2-fold" in found["why_not_certified"]
    assert found["architecture"] == found["recommendation"]["family"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families", "convac,mpps"], "did you mean 'mps'"),
        (["--cut", "0-8"], "site 8 is outside; the sites are 0 to 7"),
        (["--cut", "0:3"], "--cut '0:3': expected sites"),
        (["--target", "7"], "between 0 and 1"),
        (["--memory", "0.00001", "--method", "exact"], "the limit is 1e-05 GiB"),
        (["--method", "dmrg"], "is not one of auto"),
        (["--write", "job.toml"], "there is such a file already"),
    ],
)
def test_bad_input(job_file: JobFile, arguments: list[str], message: str) -> None:
    outcome = invoke("design", job_file(RING), "--no-calibrate", *arguments)
    assert outcome.code == 2 and outcome.out == ""
    assert message in outcome.err


def test_help_loads_nothing_heavy() -> None:
    modules = loaded("")
    assert not {"jax", "numpy", "matplotlib", "vmc.design"} & modules
