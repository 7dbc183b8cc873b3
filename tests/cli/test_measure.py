"""``vmc measure --exact``: no samples, the same energy, and who cannot."""

from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Outcome, invoke

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


def test_exact_takes_no_samples() -> None:
    outcome = invoke("measure", "nowhere", "--exact", "--n-samples", "10")
    assert outcome.code == 2 and "leave out --n-samples" in outcome.err
