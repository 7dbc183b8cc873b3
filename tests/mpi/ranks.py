"""Start the command line, or a script, on several ranks of this machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: Limit of one start, on a machine that does other things as well.
LIMIT = 240

JOB = """
seed = 5
[lattice]
name = "chain"
size = [8]
[hamiltonian]
name = "tfim"
h = 1.0
[ansatz]
name = "rbm"
alpha = 1
[sampler]
n_chains = 64
[optimizer]
name = "spring"
[run]
n_steps = {n_steps}
out = "{out}"
[measure]
n_samples = 1024
"""


def mpirun() -> str | None:
    """The launcher that belongs to mpi4py's library; None without one."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


def environment(**more: str) -> dict[str, str]:
    """Variables for ranks that share the cores of a test machine."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    }
    return kept | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "OPENBLAS_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        **more,
    }


def vmc(*arguments: str) -> list[str]:
    """The command line of this Python."""
    return [sys.executable, "-m", "vmc", *arguments]


def ranks(n: int, command: Sequence[str]) -> list[str]:
    """A command on n ranks; n = 1 is no MPI at all."""
    launcher = mpirun()
    assert launcher is not None
    return list(command) if n == 1 else [launcher, "-n", str(n), *command]


def run(
    n: int, command: Sequence[str], folder: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run to the end, or fail after `LIMIT` seconds."""
    return subprocess.run(
        ranks(n, command),
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def write_job(folder: Path, name: str, *, out: str, n_steps: int = 20) -> str:
    """A small job file; its name."""
    (folder / name).write_text(JOB.format(out=out, n_steps=n_steps))
    return name
