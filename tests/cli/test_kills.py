"""The command line, killed at random moments, resumed: the same numbers."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from vmc import checkpoint

#: Steps of some milliseconds; a checkpoint after nearly every look at the host, so
#: that some kills meet a write.
JOB = """
seed = 8
[lattice]
name = "chain"
size = [24]
[hamiltonian]
name = "tfim"
h = 1.0
[ansatz]
name = "rbm"
[sampler]
n_chains = 256
[optimizer]
name = "spring"
diag_shift = "auto"
[run]
n_steps = {n_steps}
steps_per_dispatch = 5
checkpoint_minutes = 0.0005
out = "{out}"
[measure]
n_samples = 1024
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vmc", *arguments, "--quiet"]


def environment(cache: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return kept | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }


def steps_saved(folder: Path) -> int:
    found = checkpoint.paths(folder) if folder.is_dir() else []
    return int(found[0].stem.split("-")[1]) if found else 0


def kill_once(
    going: subprocess.Popen[bytes], folder: Path, how: int, rng: random.Random
) -> int | None:
    """Wait for progress and a little longer, then kill; the exit code, if killed."""
    before, deadline = steps_saved(folder), time.monotonic() + 120
    while steps_saved(folder) <= before and going.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint appears"
        time.sleep(0.01)
    time.sleep(0.3 * rng.random())
    if going.poll() is not None:
        assert going.returncode == 0
        return None
    going.send_signal(how)
    return going.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", [20])
def test_a_killed_run_gives_the_numbers_of_a_whole_one(
    tmp_path: Path, n_kills: int
) -> None:
    n_steps, rng = 200 * n_kills, random.Random(n_kills)
    for name in ("whole", "killed"):
        text = JOB.format(n_steps=n_steps, out=name)
        (tmp_path / f"{name}.toml").write_text(text)
    env = environment(tmp_path / "cache")
    subprocess.run(command("run", "whole.toml"), cwd=tmp_path, env=env, check=True)
    kills, arguments = 0, ("run", "killed.toml")
    while kills < n_kills:
        how = signal.SIGKILL if kills % 2 else signal.SIGTERM
        going = subprocess.Popen(command(*arguments), cwd=tmp_path, env=env)
        code = kill_once(going, tmp_path / "killed", how, rng)
        if code is None:
            break
        assert code == (75 if how == signal.SIGTERM else -signal.SIGKILL)
        kills, arguments = kills + 1, ("resume", "killed")
    assert kills >= n_kills // 2, "the run was over before it could be killed"
    subprocess.run(command("resume", "killed"), cwd=tmp_path, env=env, check=True)
    with (
        h5py.File(tmp_path / "whole" / "run.h5") as a,
        h5py.File(tmp_path / "killed" / "run.h5") as b,
    ):
        np.testing.assert_array_equal(b["series/step"][()], range(1, n_steps + 1))  # type: ignore
        for name in a["series"]:  # type: ignore
            if name != "seconds":
                one, two = a["series"][name][()], b["series"][name][()]  # type: ignore
                np.testing.assert_array_equal(one, two, err_msg=name)
        for name in a["parameters"]:  # type: ignore
            one, two = a["parameters"][name][()], b["parameters"][name][()]  # type: ignore
            np.testing.assert_array_equal(one, two)
        assert (
            a["measurement/energy"].attrs["mean"]
            == b["measurement/energy"].attrs["mean"]
        )
    assert not list((tmp_path / "killed").glob("*.tmp.*"))
