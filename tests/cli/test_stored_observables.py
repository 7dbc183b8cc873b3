"""Observables that a job asks for: stored in the run file, refused before the run."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cli.conftest import TINY, invoke

NAMES = ["correlations", "bond_energies", "renyi2:0-2", "symmetries"]


@pytest.mark.slow
def test_the_run_file_holds_them(compiled_once: None) -> None:
    Path("job.toml").write_text(TINY.replace("n_steps = 30", "n_steps = 2"))
    ask = ["--set", f"measure.observables={NAMES}".replace("'", '"')]
    outcome = invoke("run", "job.toml", "--json", "--set", "run.out=done", *ask)
    tables = outcome.json["observables"]
    assert list(tables) == NAMES
    assert invoke("show", "done", "--json").json["observables"] == tables
    assert "[bond_energies]" in invoke("show", "done").out
    with h5py.File("done/run.h5") as file:
        stored = file["measurement/observables"]
        assert set(stored) == set(NAMES)
        zz = stored["correlations"]
        np.testing.assert_array_equal(zz["mean"], tables["correlations"]["mean"])
        assert zz["r"].shape == (8, 1) and zz["component"][0] == b"zz"
        # Bonds and sites: lists of unequal length are JSON.
        assert b"[0]" in stored["bond_energies/sites"][:]
        assert np.isnan(stored["renyi2:0-2/lower_bound"][0])
    again = invoke("measure", "done", "--json").json
    assert again["observables"] == tables, "those of the job, on the same samples"


@pytest.mark.parametrize("command", ["run", "check"])
def test_what_cannot_be_measured_is_refused_before_the_run(command: str) -> None:
    Path("job.toml").write_text(TINY)
    ask = ["--set", 'measure.observables=["renyi2:4-9"]']
    outcome = invoke(command, "job.toml", *ask)
    assert outcome.code == 2 and "site 6" in outcome.err
    assert not Path("runs").exists()
