"""Runs on several ranks under mpirun: the same numbers, and no rank left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.mpi.ranks import environment, mpirun, ranks, run, vmc, write_job

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(mpirun() is None, reason="there is no mpirun here"),
]

#: Seconds within which all ranks have to be gone after one has failed.
PROMPT = 30

#: Columns that are compared sharply.  Others follow (gradients near zero, say, or the
#: condition number) with the rounding errors that they amplify.
SHARP = ("step", "energy", "error", "variance", "acceptance")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache of compiled programs for all starts."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("compiled")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        yield


def series(folder: Path) -> dict[str, np.ndarray]:
    with h5py.File(folder / "run.h5") as file:
        return {name: np.asarray(x[()]) for name, x in file["series"].items()}  # type: ignore


def assert_same(a: Path, b: Path, tolerance: float) -> None:
    one, two = series(a), series(b)
    assert one.keys() == two.keys()
    for name in one.keys() - {"seconds", "drift"}:
        scale = np.nanmax(np.abs(one[name]), initial=1e-300)
        limit = scale * (tolerance if name in SHARP else 1e-6)
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=limit)


def start(n: int, command: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ranks(n, command),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_steps(run_file: Path, at_least: int, job: subprocess.Popen[str]) -> None:
    """Until a run in progress has written some steps."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and job.poll() is None:
        try:
            with h5py.File(run_file, "r", locking=False) as file:
                if int(file["series"].attrs["rows"]) >= at_least:  # type: ignore
                    return
        except (OSError, KeyError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"no steps: {job.communicate(timeout=60)[1]}")


def workers(job: subprocess.Popen[str]) -> list[int]:
    """Process numbers of the ranks, in their order."""
    import psutil

    children = psutil.Process(job.pid).children(recursive=True)
    found = []
    for child in children:
        rank = child.environ().get("OMPI_COMM_WORLD_RANK")
        if rank is not None:
            found.append((int(rank), child.pid))
    return [pid for _, pid in sorted(found)]


def test_results_do_not_depend_on_the_number_of_ranks(tmp_path: Path) -> None:
    for n in (1, 2):
        job = write_job(tmp_path, f"{n}.toml", out=f"run{n}", n_steps=100)
        done = run(n, vmc("run", job, "--quiet", "--json"), tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["n_steps"] == 100
    assert "2 ranks (Open MPI), 1 device each" in done.stderr
    assert_same(tmp_path / "run1", tmp_path / "run2", 1e-10)


@pytest.mark.slow
def test_stopped_by_a_signal_and_resumed_on_other_ranks(tmp_path: Path) -> None:
    whole = write_job(tmp_path, "whole.toml", out="whole", n_steps=600)
    job = write_job(tmp_path, "job.toml", out="run", n_steps=600)
    going = start(2, vmc("run", job, "--quiet"), tmp_path)
    wait_for_steps(tmp_path / "run" / "run.h5", 10, going)
    going.send_signal(signal.SIGUSR1)
    _, text = going.communicate(timeout=PROMPT)
    assert going.returncode == 75, text
    assert "stopped by SIGUSR1" in text
    before = len(series(tmp_path / "run")["step"])
    assert before < 600
    done = run(1, vmc("resume", "run", "--quiet"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert run(1, vmc("run", whole, "--quiet"), tmp_path).returncode == 0
    np.testing.assert_array_equal(series(tmp_path / "run")["step"], range(1, 601))
    assert_same(tmp_path / "whole", tmp_path / "run", 1e-10)


@pytest.mark.slow
def test_commands_for_one_rank_and_for_all(tmp_path: Path) -> None:
    job = write_job(tmp_path, "job.toml", out="run", n_steps=10)
    check = run(2, vmc("check", job, "--json"), tmp_path)
    assert check.returncode == 0, check.stderr
    assert json.loads(check.stdout)["warnings"] == []
    assert run(1, vmc("run", job, "--quiet"), tmp_path).returncode == 0
    energies = []
    for n in (1, 2):
        done = run(n, vmc("measure", "run", "--json"), tmp_path)
        assert done.returncode == 0, done.stderr
        energies.append(json.loads(done.stdout)["energy"]["mean"])
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)


def test_a_killed_rank_ends_all(tmp_path: Path) -> None:
    job = write_job(tmp_path, "job.toml", out="run", n_steps=100000)
    going = start(2, vmc("run", job, "--quiet"), tmp_path)
    wait_for_steps(tmp_path / "run" / "run.h5", 10, going)
    pids = workers(going)
    assert len(pids) == 2
    os.kill(pids[1], signal.SIGKILL)
    began = time.monotonic()
    _, text = going.communicate(timeout=PROMPT)
    assert going.returncode != 0
    assert time.monotonic() - began < PROMPT
    assert "signal 9" in text or "rank" in text
    assert all(not _alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


OUT_OF_MEMORY = (
    "import numpy, resource; "
    "resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33)); "
    "numpy.ones(1 << 32)"
)
SCRIPT = """
import os, sys, time
import jax
import vmc
jax.config.update("jax_enable_x64", True)
vmc.start_cluster()
rank = jax.process_index()

def callback(info):
    if rank == 1 and info.step >= 10:
        {fault}

result = vmc.run("job.toml", callback=callback)
print("energy", result.energy.mean)
"""


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        pytest.param(
            "raise RuntimeError('the disk of this node is gone')",
            1,
            "the disk of this",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "time.sleep(1000)", 124, "made no progress for 6 s", marks=pytest.mark.slow
        ),
        pytest.param(OUT_OF_MEMORY, 1, "MemoryError", marks=pytest.mark.slow),
        pytest.param("pass", 0, "energy -", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_fails_or_hangs_in_a_script(
    tmp_path: Path, fault: str, code: int, says: str
) -> None:
    write_job(tmp_path, "job.toml", out="run", n_steps=40)
    text = (tmp_path / "job.toml").read_text()
    (tmp_path / "job.toml").write_text(
        text.replace("[run]", "[run]\nstuck_minutes = 0.1\n")
    )
    (tmp_path / "script.py").write_text(SCRIPT.format(fault=fault))
    began = time.monotonic()
    done = run(2, [sys.executable, "script.py"], tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    if code:
        assert "rank 1 " in done.stderr or "rank 0 " in done.stderr
    assert time.monotonic() - began < 4 * PROMPT  # compilation included


def test_ranks_with_different_jobs_do_not_start(tmp_path: Path) -> None:
    a = write_job(tmp_path, "a.toml", out="run", n_steps=20)
    b = write_job(tmp_path, "b.toml", out="run", n_steps=21)
    command = [*vmc("run", a), ":", "-n", "1", *vmc("run", b)]
    launcher = ranks(2, [])[0]
    done = subprocess.run(
        [launcher, "-n", "1", *command],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    said = 'rank 1 differs from rank 0 ("n_steps = 21" on rank 1, "n_steps = 20" on'
    assert done.stderr.count(f"different job files: {said} rank 0)") == 1
    assert not (tmp_path / "run").exists()


def test_bad_input_is_said_once(tmp_path: Path) -> None:
    job = write_job(tmp_path, "job.toml", out="run")
    done = run(2, vmc("run", job, "--set", "sampler.n_chains=63"), tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "n_chains = 63 cannot be split over 2 devices" in done.stderr


@pytest.mark.slow
def test_ranks_of_slurm_need_no_mpi(tmp_path: Path) -> None:
    """The variables of a step that srun starts on this machine, without srun."""
    job = write_job(tmp_path, "job.toml", out="run", n_steps=20)
    step = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        # Nobody listens there, and the ranks are not to ask.
        "http_proxy": "http://127.0.0.1:9",
    }
    started = [
        subprocess.Popen(
            vmc("run", job, "--quiet", "--json"),
            cwd=tmp_path,
            env=environment(**step, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    (out, err), (other, _) = [one.communicate(timeout=200) for one in started]
    assert [one.returncode for one in started] == [0, 0], err
    assert "2 ranks (Slurm), 1 device each" in err
    assert json.loads(out)["n_steps"] == 20 and other == ""
    assert run(1, vmc("run", job, "--set", "run.out=one"), tmp_path).returncode == 0
    assert_same(tmp_path / "one", tmp_path / "run", 1e-10)


def test_an_mpirun_of_another_mpi_is_refused(tmp_path: Path) -> None:
    """Its ranks would each be alone in the world of the library that is loaded."""
    job = write_job(tmp_path, "job.toml", out="run")
    done = run(1, vmc("run", job), tmp_path, PMI_SIZE="2", PMI_RANK="0")
    assert done.returncode == 2, done.stderr
    assert "MPICH started 2 ranks, but the library of mpi4py (Open MPI" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_script_without_start_cluster_is_refused(tmp_path: Path) -> None:
    write_job(tmp_path, "job.toml", out="run")
    text = SCRIPT.format(fault="pass").replace("vmc.start_cluster()", "")
    (tmp_path / "script.py").write_text(text)
    done = run(2, [sys.executable, "script.py"], tmp_path)
    assert done.returncode != 0
    assert "call vmc.start_cluster() first" in done.stderr
    assert not (tmp_path / "run").exists()
