"""``vmc design``: JSON, table, picture and the job file that it recommends."""

from __future__ import annotations

import importlib.util
import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import vmc
from tests.cli.conftest import Outcome, invoke, loaded
from vmc.system import build_system

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


def test_a_run_directory(whole: tuple[Path, Outcome]) -> None:
    """What a run realised, and a job that grows it: one small run end to end."""
    folder, _ = whole
    outcome = invoke("design", folder, "--json", "--write", "next.toml")
    found = outcome.json
    assert outcome.code == 0 and "measuring the trained state" in outcome.err
    assert found["verdict"] in ("target reached", "optimisation-limited", "undecided")
    assert found["reasons"] and found["step"] == 30 and found["architecture"] == "rbm"
    for cut in found["cuts"]:
        assert {"s1", "s2", "realised_s1", "realised_s2", "log_capacity"} <= cut.keys()
    energy = invoke("show", folder, "--json").json["energy"]["mean"]
    assert found["energy"]["mean"] == pytest.approx(energy, abs=0.2)
    assert found["growth"]["keys"] == {"alpha": 2}
    grown = vmc.Job.load("next.toml")
    assert grown.run.start_from == str(folder)
    assert vmc.build(grown).first_state().params["W"].shape[0] == 2

    outcome = invoke("design", folder)
    assert outcome.code == 0 and "S2 has" in outcome.out
    assert f"{found['headline']}\n" in outcome.out

    for option in (["--budget", "9"], ["--families", "mps"], ["--set", "seed=2"]):
        outcome = invoke("design", folder, *option)
        assert outcome.code == 2 and f"{option[0]} belongs to a job file" in outcome.err


@pytest.mark.slow
def test_a_chain_beyond_diagonalisation(job_file: JobFile) -> None:
    """Forty sites: spectra of a trained matrix product state, end to end."""
    text = RING.replace("[8]", "[40]") + '[ansatz]\nname = "convac"\nchannels = 4\n'
    options = ("--families", "convac,mps", "--json", "--write", "best.toml")
    outcome = invoke("design", job_file(text), *options)
    found = outcome.json
    assert outcome.code == 0 and found["label"] == "mps"
    assert "sweeping a matrix product state" in outcome.err
    exact = build_system(vmc.Job.load("job.toml")).exact()
    assert exact is not None  # Bethe's
    assert exact["energy"] < found["energy"] < exact["energy"] * (1 - 1e-3)
    assert found["certified_energy_floor"] is None
    assert "no exact spectrum" in found["why_not_certified"]
    half = next(c for c in found["cuts"] if c["region"] == list(range(20)))
    assert half["label"] == "mps" and 1.3 < half["s1"] < 1.7
    block = next(c for c in found["cuts"] if c["region"] == list(range(16)))
    assert block["log_capacity"] == pytest.approx(math.log(4))
    assert found["recommendation"] is not None
    assert vmc.build(vmc.Job.load("best.toml")).vmc.n_parameters > 0


def test_help_loads_nothing_heavy() -> None:
    modules = loaded("")
    assert not {"jax", "numpy", "matplotlib", "vmc.design"} & modules
