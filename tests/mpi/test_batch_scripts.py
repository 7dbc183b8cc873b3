"""The batch scripts to copy, with an srun and an scontrol that only write down."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "cluster"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def submit(folder: Path, script: str, *arguments: str, code: int = 0) -> list[str]:
    """Run a script as job 7 whose step ends with a code.

    Returns:
        What it called, and its own exit code.
    """
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for name, status in (("srun", code), ("scontrol", 0)):
        text = f'#!/bin/sh\necho "{name} $*" >>"$CALLS"\nexit {status}\n'
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments],
        cwd=folder,
        env={
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(calls),
            "SLURM_JOB_ID": "7",
            "SLURM_RESTART_COUNT": "1",
            "SLURM_ARRAY_JOB_ID": "6",
            "SLURM_ARRAY_TASK_ID": "2",
            "SLURM_CPUS_PER_TASK": "16",
        },
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return [*calls.read_text().splitlines(), str(done.returncode)]


@pytest.mark.parametrize("script", ["slurm_cpu.sh", "slurm_gpu.sh"])
def test_a_job_begins_and_goes_on_where_it_was(tmp_path: Path, script: str) -> None:
    run = tmp_path / "runs" / "slurm-7"

    def command(*arguments: str, code: int = 0) -> str:
        called, *_, status = submit(tmp_path, script, *arguments, code=code)
        assert status == str(code)
        assert called.startswith("srun -K --mpi=none --cpus-per-task=16 ")
        return called.partition(" vmc ")[2]

    begin = "run job.toml --out runs/slurm-7"
    assert command("job.toml", code=3) == begin
    # The node was lost before the first checkpoint: that run cannot be resumed.
    run.mkdir(parents=True)
    (run / "run.h5").touch()
    assert command("job.toml") == begin
    assert [path.name for path in run.parent.iterdir()] == ["slurm-7.lost-1"]
    # Requeued, and submitted again by hand.
    run.mkdir()
    (run / "checkpoint-00000010.h5").touch()
    assert command("job.toml") == "resume runs/slurm-7"
    run.rename(run.with_name("slurm-5"))
    assert command("runs/slurm-5") == "resume runs/slurm-5"


@pytest.mark.parametrize(
    ("script", "job"),
    [("slurm_cpu.sh", "7"), ("slurm_gpu.sh", "7"), ("sweep_slurm.sh", "6_2")],
)
def test_a_run_that_was_stopped_in_time_is_queued_again(
    tmp_path: Path, script: str, job: str
) -> None:
    calls = submit(tmp_path, script, "job.toml", code=75)
    assert calls[1:] == [f"scontrol requeue {job}", "0"]
    assert submit(tmp_path, script, "job.toml", code=1)[1:] == ["1"]


def test_a_task_of_an_array_is_a_point_of_a_sweep(tmp_path: Path) -> None:
    wanted = "srun -K --mpi=none --cpus-per-task=16 vmc sweep sweeps/tfim --array"
    assert submit(tmp_path, "sweep_slurm.sh", "sweeps/tfim") == [wanted, "0"]
