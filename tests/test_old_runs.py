"""Runs of earlier versions stay readable, and can go on.

``data/run_schema_1`` is the run directory of a finished run of six sites and five
steps, as version 0.1.0 wrote it (with small chunks, to save space).
"""

from __future__ import annotations

import itertools
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import vmc
from tests.cli.conftest import compiled_once, invoke  # noqa: F401
from vmc import checkpoint, runlog

STORED = Path(__file__).parent / "data" / "run_schema_1"

WEIGHTS = [
    *(1.8727341054464843, 0.07628477674660453, 0.07916919227761149),
    *(0.009840885586033556, -0.05367831191021099, 0.10439495602764667),
]
ENERGIES = [
    *(-6.314789327680948, -7.205695948686362, -7.448935765997074),
    *(-7.285156155987217, -7.47381461762086),
]
MEAN, ERROR = -7.507020313642324, 0.05754582592836307
#: Energy of the stored wave function, summed over all 64 states with plain NumPy.
VARIATIONAL = -7.480747702603835


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "copy"))


def test_the_stored_run_is_small_and_anonymous() -> None:
    files = sorted(STORED.iterdir())
    assert [p.name for p in files] == ["checkpoint-00000005.h5", "run.h5"]
    assert sum(p.stat().st_size for p in files) < 100_000
    with h5py.File(STORED / "run.h5") as file:
        assert file.attrs["schema"] == 1
        assert file["job"].attrs["folder"] == "."
    content = b"".join(p.read_bytes() for p in files)
    assert socket.gethostname().encode() not in content.replace(b"vmc", b"")
    assert b'"job_folder": "."' in content
    assert str(Path(__file__).parents[2]).encode() not in content


def test_show() -> None:
    report = invoke("show", STORED, "--json").json
    assert (report["energy"]["mean"], report["energy"]["error"]) == (MEAN, ERROR)
    assert report["status"] == "done" and report["n_steps"] == 5
    series = invoke("show", STORED, "--series", "--json").json
    assert series["energy"] == ENERGIES and series["step"] == [1, 2, 3, 4, 5]
    assert "h = 1.0" in invoke("show", STORED, "--job").out
    assert invoke("show", STORED, "--follow").code == 0


@pytest.mark.usefixtures("compiled_once")
def test_the_wave_function_is_what_it_was() -> None:
    run = vmc.load(STORED)
    assert run.job.run.on_full_disk == "go_on"  # a key that is younger
    np.testing.assert_array_equal(np.ravel(run.params["W"]), WEIGHTS)
    assert run.chains.shape == (16, 6) and set(np.unique(run.chains)) == {-1, 1}
    states = np.array(list(itertools.product([1, -1], repeat=6)), np.int8)
    psi = np.exp(np.asarray(run.wavefunction.log_psi(run.params, states)).real)
    h_psi = -np.sum(states * np.roll(states, 1, axis=1), axis=1) * psi
    number = {tuple(row): i for i, row in enumerate(states.tolist())}
    for site in range(6):
        flipped = states.copy()
        flipped[:, site] *= -1
        h_psi -= psi[[number[tuple(row)] for row in flipped.tolist()]]
    assert psi @ h_psi / (psi @ psi) == pytest.approx(VARIATIONAL, abs=1e-10)
    assert abs(MEAN - VARIATIONAL) < 4 * ERROR


@pytest.mark.usefixtures("signals_and_environment", "compiled_once")
@pytest.mark.slow
def test_measure_and_resume(copy: Path) -> None:
    before = (copy / "run.h5").read_bytes()
    energy = invoke("measure", copy, "--n-samples", "4096", "--json").json["energy"]
    assert energy["n_samples"] == 4096 and energy["error"] < 0.02
    assert abs(energy["mean"] - VARIATIONAL) < 4 * energy["error"]
    assert (copy / "run.h5").read_bytes() == before
    outcome = invoke("resume", copy, "--steps", "2", "--json", "--quiet")
    assert outcome.code == 0 and outcome.json["n_steps"] == 7
    found = runlog.read(copy)
    assert found.series["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert found.series["energy"][:5].tolist() == ENERGIES
    assert np.all(np.abs(found.series["energy"][5:] - VARIATIONAL) < 1.0)
    (event,) = found.provenance["trail"]
    assert event["step"] == 5 and event["changed"]["run.n_steps"] == 7


def edited(copy: Path, change: Any) -> str:
    """What ``vmc resume`` says after a change of the checkpoint."""
    with h5py.File(checkpoint.paths(copy)[0], "r+") as file:
        change(file)
    outcome = invoke("resume", copy, "--steps", "1")
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert runlog.read(copy).series["energy"].tolist() == ENERGIES
    return outcome.err


@pytest.mark.usefixtures("signals_and_environment", "compiled_once")
def test_a_checkpoint_of_another_ansatz_names_its_leaves(copy: Path) -> None:
    def other(file: Any) -> None:
        file.move("state/params/W", "state/params/kernel")
        del file["state/opt_state/0/previous/W"]
        file["state/opt_state/0/previous/W"] = np.zeros((2, 6))

    said = edited(copy, other)
    assert "was written by another model than this job builds" in said
    assert "missing: params/W" in said and "extra: params/kernel" in said
    assert "misshapen: opt_state/0/previous/W is float64[2, 6], expected" in said


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("schema", 4, "schema 4, which is newer than 3"),
        ("format", "netket", "not a checkpoint of this program"),
    ],
)
@pytest.mark.usefixtures("signals_and_environment")
def test_a_newer_or_foreign_checkpoint(
    copy: Path, attribute: str, value: Any, message: str
) -> None:
    assert message in edited(copy, lambda file: file.attrs.modify(attribute, value))


@pytest.fixture
def signals_and_environment() -> Any:
    """Leave no trace of a command that runs in this process."""
    import signal

    from vmc.signals import SIGNALS

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_ENABLE_X64", "1")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "none: the tests decide")
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _as_far_as_known(now: Any, before: Any) -> Any:
    """Younger keys, of tables inside as well, left out."""
    if not isinstance(before, dict):
        return now
    return {key: _as_far_as_known(now[key], value) for key, value in before.items()}


def test_the_stored_job_still_resolves_to_itself() -> None:
    run = vmc.load(STORED)
    job = json.loads(json.dumps(run.built.job.to_dict()))
    for section, keys in run.file.job.items():
        if isinstance(keys, dict):
            assert _as_far_as_known(job[section], keys) == keys, section
