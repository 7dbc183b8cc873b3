"""Who started this process (mpirun, srun or nobody), and where its ranks meet.

All is told by the environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping

from vmc.errors import JobError

#: Launcher and its variables: ranks, this rank, this rank on its node, ranks there.
#: The first whose first two are set counts.
_VARIABLES = (
    (
        "Open MPI",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    ("MPICH", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    (
        "MVAPICH",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    ("PALS", "PALS_SIZE", "PALS_RANKID", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    (
        "Slurm",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
    ),
)
#: The most cores that are made devices of: the share of a process beside others.
CORES = "VMC_CORES"
#: Numbers of Slurm's pseudo steps (the batch script, an interactive shell) begin here.
_PSEUDO_STEP = 4294967290
#: Ports of first ranks under Slurm begin here, above those that Linux hands out, and
#: are so many.
_FIRST_PORT, _PORTS = 61440, 4096


@dataclasses.dataclass(frozen=True)
class Launch:
    """The place of this process in a job.

    Attributes:
        launcher: name of what started it, "" if it runs by itself.
        size: ranks of the job.
        rank: this rank, 0 <= rank < size.
        local_rank: this rank among those of its node.
        local_size: ranks on its node.
    """

    launcher: str = ""
    size: int = 1
    rank: int = 0
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank talks and writes for all."""
        return self.rank == 0

    @property
    def is_parallel(self) -> bool:
        """Whether there are other ranks."""
        return self.size > 1


def launch(environ: Mapping[str, str] | None = None) -> Launch:
    """Read the variables that the known launchers set.

    A batch script of Slurm is one process, although SLURM_NTASKS and SLURM_PROCID are
    set in it: only inside a step, started by srun, do they count.

    Args:
        environ: environment variables; default those of the process.

    Raises:
        JobError: a variable is not a number, or the rank is not below the size.
    """
    env = os.environ if environ is None else environ
    for name, *variables in _VARIABLES:
        size, rank, local_rank, local_size = variables
        if size not in env or rank not in env:
            continue
        if name == "Slurm" and not _inside_step(env):
            continue
        if name == "MPICH" and _by_srun(env):
            continue
        default = env.get("SLURM_LOCALID", "0")
        found = Launch(
            name,
            _number(env, size),
            _number(env, rank),
            _number(env, local_rank, default),
            # "4(x2),3": ranks per node, node by node.
            _number(env, local_size, "1"),
        )
        if not 0 <= found.rank < found.size:
            raise JobError(
                f"{rank}={env[rank]} and {size}={env[size]} contradict each other; "
                "start the job by mpirun or srun, or unset both"
            )
        return found
    return Launch()


def _inside_step(env: Mapping[str, str]) -> bool:
    step = env.get("SLURM_STEP_ID", "")
    return step.isdigit() and int(step) < _PSEUDO_STEP


def _by_srun(env: Mapping[str, str]) -> bool:
    """Whether srun --mpi=pmi2 set the variables of MPICH's mpirun.

    Ranks of an mpirun that itself uses srun are as many as the step has tasks only if
    every node has one; they may then be taken for those tasks.
    """
    step = f"{env.get('SLURM_JOB_ID')}.{env.get('SLURM_STEP_ID')}"
    same_size = env.get("PMI_SIZE") == env.get("SLURM_STEP_NUM_TASKS")
    return _inside_step(env) and env.get("PMI_JOBID") == step and same_size


def coordinator(environ: Mapping[str, str] | None = None) -> str:
    """Where the first rank of a Slurm step listens, the same on all ranks.

    The port belongs to job and step, so that several steps of one job, or jobs that
    share a node, do not meet.

    Args:
        environ: environment variables; default those of the process.

    Returns:
        HOST:PORT.

    Raises:
        JobError: srun did not say where the step runs.
    """
    env = os.environ if environ is None else environ
    # "rack[1-2]n[03,07-09],login1": the first host is rack1n03.
    host = re.match(r"(?:[^,\[]|\[[^\]]*\])+", env.get("SLURM_STEP_NODELIST", ""))
    if host is None:
        raise JobError(
            "SLURM_STEP_NODELIST, which srun sets, is empty: start the job by srun, or "
            "say where the first rank listens, VMC_COORDINATOR=ADDRESS:PORT"
        )
    name = re.sub(r"\[(\w+)[^\]]*\]", r"\1", host.group())
    # 31 is odd: jobs with successive numbers have different ports.
    place = 31 * _number(env, "SLURM_JOB_ID") + _number(env, "SLURM_STEP_ID")
    return f"{name}:{_FIRST_PORT + place % _PORTS}"


@contextlib.contextmanager
def without_proxies() -> Iterator[None]:
    """Hide the variables that name a proxy (http_proxy, ...), as long as it lasts.

    They lead out of the cluster; JAX would also take that way from rank to rank, and
    wait for ever.
    """
    names = [name for name in os.environ if name.lower().endswith("_proxy")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _number(env: Mapping[str, str], name: str, default: str = "") -> int:
    text = env.get(name, default).split("(")[0].split(",")[0]
    try:
        return int(text)
    except ValueError:
        raise JobError(
            f"the environment variable {name} is {env.get(name, default)!r}, which is "
            "not a number; it is set by the launcher (mpirun, srun)"
        ) from None


def local_devices(n_visible: int, where: Launch) -> list[int] | None:
    """Accelerators of this rank, as numbers among those that it sees.

    One visible device was bound to the rank by the launcher; otherwise the ranks of a
    node share what is there evenly.

    Args:
        n_visible: accelerators that this process sees.
        where: this process.

    Returns:
        Their numbers; None on a machine without any.

    Raises:
        JobError: they cannot be shared evenly.
    """
    if n_visible == 0:
        return None
    if n_visible == 1:
        return [0]
    each, left = divmod(n_visible, where.local_size)
    if left or not each:
        raise JobError(
            f"{where.local_size} ranks on this node see {n_visible} accelerators: "
            "start as many ranks as there are, or a number that divides them"
        )
    return list(range(where.local_rank * each, (where.local_rank + 1) * each))
