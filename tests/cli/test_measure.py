"""``vmc measure``: observables, exact values, other runs; ``vmc show`` prints them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import TINY, Outcome, invoke
from tests.cli.test_show import REPORT, new_log

#: A Heisenberg ring in the Marshall gauge, drawn directly.
CHAIN = """
[lattice]
name = "chain"
size = [8]
[hamiltonian]
name = "heisenberg"
total_sz = "free"
[ansatz]
name = "mps"
bond_dimension = 4
[sampler]
n_chains = 32
[run]
n_steps = 3
[measure]
n_samples = 4096
"""


def run(text: str) -> tuple[Path, Outcome]:
    Path("job.toml").write_text(text)
    outcome = invoke("run", "job.toml", "--json", "--set", "run.out=done", "--quiet")
    return Path("done"), outcome


@pytest.mark.slow
def test_exact_values_of_a_run(compiled_once: None) -> None:
    folder, outcome = run(CHAIN)
    sampled = outcome.json
    before = (folder / "run.h5").read_bytes()
    values = invoke("measure", folder, "--exact", "--json").json
    assert (folder / "run.h5").read_bytes() == before
    energy, error = sampled["energy"]["mean"], sampled["energy"]["error"]
    assert values["energy"]["error"] == 0 < error
    assert abs(values["energy"]["mean"] - energy) < 4 * error
    assert values["energy_per_site"] == pytest.approx(values["energy"]["mean"] / 8)
    assert values["exact"] == sampled["exact"]
    exact = values["exact"]["energy"]
    assert exact == pytest.approx(-3.6510934089)
    relative = (values["energy"]["mean"] - exact) / abs(exact)
    assert values["relative_error"] == pytest.approx(relative) and relative > 0
    entropy = values["entropy"]
    assert entropy["region"] == [0, 1, 2, 3]
    assert 0 < entropy["s2"] < entropy["s1"] < 1.3863
    assert values["n_steps"] == 3 and values["status"] == "done"
    assert values["n_parameters"] == sampled["n_parameters"]
    shown = invoke("measure", folder, "--exact").out
    assert "first 4 sites" in shown and f"{values['energy']['mean']:.12g}" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(TINY.replace("1024", "64"), "mps, ttn, convac", id="rbm"),
        pytest.param(
            CHAIN.replace('"free"', "0").replace("4096", "64"),
            'total_sz = "free"',
            id="sector",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_who_has_no_exact_values(compiled_once: None, text: str, message: str) -> None:
    folder, _ = run(text.replace("n_steps = 30", "n_steps = 1"))
    outcome = invoke("measure", folder, "--exact")
    assert outcome.code == 2 and outcome.out == ""
    assert message in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize("more", [["--n-samples", "10"], ["--observables", "energy"]])
def test_exact_takes_no_samples(more: list[str]) -> None:
    outcome = invoke("measure", "nowhere", "--exact", *more)
    assert outcome.code == 2 and "leave out --n-samples" in outcome.err


def test_observables_of_a_run(compiled_once: None) -> None:
    folder, outcome = run(TINY.replace("n_steps = 30", "n_steps = 1"))
    before = (folder / "run.h5").read_bytes()
    names = "correlations,renyi2:0-1,4,magnetization"
    found = invoke("measure", folder, "--observables", names, "--json").json
    assert (folder / "run.h5").read_bytes() == before
    assert found["energy"] == outcome.json["energy"], "the same samples"
    tables = found["observables"]
    assert list(tables) == ["correlations", "renyi2:0-1,4", "magnetization"]
    assert tables["renyi2:0-1,4"]["region"] == [[0, 1, 4]]
    zz = tables["correlations"]
    assert zz["component"] == ["zz"] * 4 + ["zz_connected"] * 4
    assert zz["distance"][:4] == [0, 1, 2, 3]
    assert zz["mean"][0] == 0.25 and zz["error"][0] < 1e-12
    assert all(abs(v) <= 0.25 for v in zz["mean"][:4]) and zz["error"][1] > 0
    wrong = invoke("measure", folder, "--observables", "corelations")
    assert wrong.code == 2 and "did you mean 'correlations'" in wrong.err


@pytest.mark.slow
def test_measurements_with_other_runs(compiled_once: None) -> None:
    Path("job.toml").write_text(TINY)
    for steps in ("20", "60"):
        more = ["--set", f"run.out=run{steps}", "--set", f"run.n_steps={steps}"]
        assert invoke("run", "job.toml", "--quiet", *more).code == 0
    same = invoke("measure", "run60", "--fidelity", "run60", "--json").json
    assert same["fidelity"]["mean"] == pytest.approx(1, abs=1e-12)
    options = ["--fidelity", "run20", "--extrapolate", "run20", "--n-samples", "8192"]
    found = invoke("measure", "run60", *options, "--json").json
    assert 0.5 < found["fidelity"]["mean"] < 1 + 4 * found["fidelity"]["error"]
    line = found["zero_variance"]
    assert line["dof"] == 0 and line["runs"] == ["run60", "run20"]
    assert line["variances"][0] < line["variances"][1]
    assert line["energy"] < min(line["energies"])
    assert abs(line["energy"] - found["exact"]["energy"]) < max(0.1, 5 * line["error"])
    shown = invoke("measure", "run60", *options)
    assert "energy at zero variance" in shown.out and "with run20" in shown.out
    (checkpoint, *_) = sorted(Path("run20").glob("checkpoint-*.h5"))
    again = invoke("measure", "run60", "--extrapolate", checkpoint, "--json").json
    assert again["zero_variance"]["energies"][1] < 0
    more = ["--set", "run.out=other", "--set", "hamiltonian.h=2.0"]
    assert invoke("run", "job.toml", "--quiet", *more).code == 0
    other = invoke("measure", "run60", "--extrapolate", "other")
    assert other.code == 2 and "another Hamiltonian" in other.err


#: What a report holds of three observables, and a fourth without an axis.
TABLES: dict[str, Any] = {
    "correlations": {"component": ["zz"] * 2, "r": [[0.0], [1.0]]}
    | {"distance": [0.0, 1.0], "mean": [0.25, -0.15], "error": [0.0, 0.001]},
    "structure_factor": {"q": [[0.0], [np.pi]], "mean": [0, 0.9], "error": [0, 0.01]},
    "renyi2:blocks": {"region": [[0], [0, 1]], "size": [1, 2], "mean": [0.69, None]}
    | {"method": ["swap"] * 2, "error": [0.01, None], "lower_bound": [None, 1.25]}
    | {"purity": [0.5, 0.1], "purity_error": [0.01, 0.1]},
    "total_spin": {"quantity": ["S^2"], "mean": [0.5], "error": [None]},
}


def test_show_prints_and_draws_observables() -> None:
    log = new_log()
    log.close("done", result=REPORT | {"observables": TABLES})
    shown = invoke("show", "run")
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["zz", "(1)", "1", "-0.1500(10)"] in lines
    assert ["(3.1416)", "0.900(10)"] in lines
    assert ["0-1", "2", "swap", ">", "1.25"] in lines
    assert ["S^2", "0.5"] in lines
    assert invoke("show", "run", "--json").json["observables"] == TABLES
    pytest.importorskip("matplotlib")
    drawn = invoke("show", "run", "--plot", "o.png")
    assert drawn.code == 0 and Path("o.png").read_bytes()[:4] == b"\x89PNG"
    log.close("done", result=REPORT)
    assert "total_spin" not in invoke("show", "run").out
    without = invoke("show", "run", "--plot", "none.png")
    assert without.code == 2 and "[measure] observables" in without.err
