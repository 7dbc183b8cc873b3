"""Who started the process, from the variables that launchers set."""

import os

import pytest

from vmc.errors import JobError
from vmc.launch import Launch, coordinator, launch, local_devices, without_proxies

OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
STEP = {
    "SLURM_JOB_ID": "70",
    "SLURM_NTASKS": "3",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "2(x1),1",
    "SLURM_STEP_NODELIST": "n[3-4]",
}
#: What srun --mpi=pmi2 adds.
PMI2 = {"PMI_JOBID": "70.0", "PMI_SIZE": "3", "PMI_RANK": "2"}


@pytest.mark.parametrize(
    ("environ", "want"),
    [
        ({}, Launch()),
        (OPEN_MPI, Launch("Open MPI", 8, 5, 1, 4)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, Launch("MPICH", 2, 1, 0, 1)),
        (STEP, Launch("Slurm", 3, 2, 1, 2)),
        (STEP | PMI2, Launch("Slurm", 3, 2, 1, 2)),
        # An mpirun of MPICH that starts its helpers, one per node, by srun.
        (STEP | PMI2 | {"PMI_SIZE": "6", "PMI_RANK": "5"}, Launch("MPICH", 6, 5, 1, 1)),
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


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("localhost", "localhost"),
        ("n3,n7", "n3"),
        ("n[003-010,12],x1", "n003"),
        ("gpu-[7,9-11].site", "gpu-7.site"),
        ("rack[1-2]n[03,07-09],x[1-2]", "rack1n03"),
    ],
)
def test_the_first_rank_of_a_step_listens_on_its_first_host(
    nodes: str, host: str
) -> None:
    assert coordinator(STEP | {"SLURM_STEP_NODELIST": nodes}) == f"{host}:63610"


def test_steps_and_jobs_on_one_node_have_different_ports() -> None:
    def port(job: int, step: int) -> int:
        env = STEP | {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}
        return int(coordinator(env).split(":")[1])

    ports = {port(job, step) for job in range(9000, 9100) for step in range(30)}
    assert len(ports) == 3000
    assert min(ports) >= 61440 and max(ports) < 65536


def test_a_step_that_does_not_say_where_it_runs() -> None:
    with pytest.raises(JobError, match="VMC_COORDINATOR=ADDRESS:PORT"):
        coordinator({k: v for k, v in STEP.items() if k != "SLURM_STEP_NODELIST"})


def test_proxies_are_hidden_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = {"http_proxy": "http://p:3128", "HTTPS_PROXY": "", "no_proxy": "n1,n2"}
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with pytest.raises(RuntimeError), without_proxies():
        assert not proxies.keys() & os.environ.keys()
        assert "PATH" in os.environ
        raise RuntimeError("the first rank cannot be reached")
    assert dict(os.environ) == before
