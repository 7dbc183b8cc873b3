"""Who started the process, from the variables that launchers set."""

import pytest

from vmc.errors import JobError
from vmc.launch import Launch, launch, local_devices

OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
STEP = {
    "SLURM_NTASKS": "3",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "2(x1),1",
}


@pytest.mark.parametrize(
    ("environ", "want"),
    [
        ({}, Launch()),
        (OPEN_MPI, Launch("Open MPI", 8, 5, 1, 4)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, Launch("MPICH", 2, 1, 0, 1)),
        (STEP, Launch("Slurm", 3, 2, 1, 2)),
        # mpirun inside a Slurm job: the ranks are Open MPI's.
        (STEP | OPEN_MPI, Launch("Open MPI", 8, 5, 1, 4)),
        # The batch script, and an interactive shell: one process.
        ({k: v for k, v in STEP.items() if k != "SLURM_STEP_ID"}, Launch()),
        (STEP | {"SLURM_STEP_ID": "4294967291"}, Launch()),
        # Started by srun with one task.
        (
            STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
            Launch("Slurm", 1, 0, 1, 2),
        ),
    ],
)
def test_launchers(environ: dict[str, str], want: Launch) -> None:
    found = launch(environ)
    assert found == want
    assert found.is_parallel == (want.size > 1)
    assert found.is_first == (want.rank == 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"OMPI_COMM_WORLD_RANK": "8"}, "contradict each other"),
        ({"OMPI_COMM_WORLD_SIZE": "many"}, "'many', which is not a number"),
    ],
)
def test_variables_that_make_no_sense(change: dict[str, str], message: str) -> None:
    with pytest.raises(JobError, match=message):
        launch(OPEN_MPI | change)


def test_devices_of_a_rank() -> None:
    where = Launch("Slurm", 8, 5, 1, 4)
    assert local_devices(0, where) is None
    assert local_devices(1, where) == [0]
    assert local_devices(4, where) == [1]
    assert local_devices(8, where) == [2, 3]
    for n in (2, 6):
        with pytest.raises(JobError, match=f"4 ranks on this node see {n} accel"):
            local_devices(n, where)
