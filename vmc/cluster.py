"""Several processes as one run: start together, decide together, end together.

JAX carries all numbers (one mesh over all devices of all processes, see
`vmc.distributed`); MPI, where it launched the job, only helps to find one another and
to end all ranks at once.  In a process of its own every function here is trivial.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from vmc import binding, launch
from vmc.errors import CheckpointError, JobError

#: Seconds after which a silent process counts as dead.
HEARTBEAT = 20
#: Seconds that the last rank may come later than the first to the end of the run.
SHUTDOWN = 300
#: Seconds for which the other ranks leave it to the first to say what went wrong.
GRACE = 3.0
#: Open MPI looks for fabrics (1 s) that these few messages do not need.
_QUICK_START = {"OMPI_MCA_btl": "^ofi"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a run is spread, for its start line.

    Attributes:
        where: this process.
        mpi: version line of the MPI library, "" without one.
        n_devices: devices of all ranks; a job of one process may use fewer of them.
        kind: kind of device.
        cores: of this rank, as the launcher gave them.
    """

    where: launch.Launch
    mpi: str
    n_devices: int
    kind: str
    cores: int


def start(where: launch.Launch | None = None) -> Layout:
    """Join the other ranks of this job, if there are any; before any use of JAX.

    Args:
        where: what `vmc.launch.launch` says; it is called by default.

    Raises:
        JobError: the launcher and the MPI library do not belong together, mpi4py is
            missing, or accelerators cannot be shared evenly.
    """
    where = launch.launch() if where is None else where
    mpi = ""
    if where.is_parallel and not _started():
        mpi = _join(where)
    import jax

    if not where.is_parallel:
        from vmc import spread

        spread.offer_cores()
    before = binding.threads()
    devices, cores = jax.devices(), len(os.sched_getaffinity(0))
    if where.is_parallel and devices[0].platform == "cpu":
        binding.settle(binding.threads() - before)
    return Layout(where, mpi, len(devices), devices[0].device_kind, cores)


def start_cluster() -> Layout:
    """First call of a script that mpirun or srun may start; does nothing alone.

    All ranks then work on one run together, and an exception that nobody catches ends
    all of them.  A script must not call ``sys.exit`` on one rank only.

    Raises:
        JobError: see `start`.
    """
    layout = start()
    if layout.where.is_parallel:

        def hook(kind: Any, error: BaseException, trace: Any) -> None:
            lines = traceback.format_exception(kind, error, trace)
            give_up("".join(lines).rstrip(), 1)

        sys.excepthook = hook
    return layout


def _started() -> bool:
    from jax import distributed

    return distributed.is_initialized()


def _join(where: launch.Launch) -> str:
    import jax

    comm, mpi = _communicator(where)
    keys: dict[str, Any] = {
        "num_processes": where.size,
        "process_id": where.rank,
        "heartbeat_timeout_seconds": HEARTBEAT,
        "shutdown_timeout_seconds": SHUTDOWN,
    }
    if devices := _accelerators(where):
        keys["local_device_ids"] = devices
    given = os.environ.get("VMC_COORDINATOR")
    if comm is not None:
        hosts = comm.allgather(socket.gethostname())
        address = given or _address(all(h == hosts[0] for h in hosts))
        keys["coordinator_address"] = comm.bcast(address, root=0)
        keys["cluster_detection_method"] = "deactivate"
    else:
        keys["coordinator_address"] = given or launch.coordinator()
        keys["cluster_detection_method"] = "slurm"  # it shares the devices of a node
    with launch.without_proxies():
        jax.distributed.initialize(**keys)
    return mpi


def _communicator(where: launch.Launch) -> tuple[Any, str]:
    """MPI's world and the version of the library; None where Slurm does without.

    Raises:
        JobError: see `start`.
    """
    by_slurm = where.launcher == "Slurm"
    if by_slurm and "PMIX_RANK" not in os.environ:
        return None, ""
    for name, value in _QUICK_START.items():
        os.environ.setdefault(name, value)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no libmpi
        if by_slurm:
            return None, ""
        raise JobError(
            f"{where.launcher} started {where.size} ranks, but mpi4py cannot be used "
            f"({error}). Install it with its own library, pip install 'nqs-vmc[mpi]', "
            "or load the MPI module that this mpirun belongs to."
        ) from None
    world = MPI.COMM_WORLD
    library = MPI.Get_library_version().split("\n")[0].split(",")[0].strip(" \0")
    if world.size == where.size:
        return world, library
    if by_slurm:
        return None, ""
    raise JobError(
        f"{where.launcher} started {where.size} ranks, but the library of mpi4py "
        f"({library}) sees {world.size}: mpirun and library belong to different MPIs, "
        "and every rank would run the whole job. Use the mpirun of that library (the "
        f"folder of this Python, {os.path.dirname(sys.executable)}, may have it), or "
        "point MPI4PY_LIBMPI to the library of your mpirun."
    )


def _address(one_host: bool) -> str:
    """Where the first rank listens; all ranks of one machine need no network."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    host = "127.0.0.1" if one_host else socket.getfqdn()
    return f"{host}:{port}"


def _accelerators(where: launch.Launch) -> list[int] | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or os.environ.get("JAX_PLATFORMS") == "cpu":
        return None  # JAX counts for itself
    return launch.local_devices(len([x for x in visible.split(",") if x]), where)


def refuse_unjoined() -> None:
    """Refuse to go on as one of several ranks that know nothing of each other.

    Raises:
        JobError: names the call that is missing.
    """
    where = launch.launch()
    if where.is_parallel and not is_parallel():
        raise JobError(
            f"{where.launcher} started {where.size} ranks, and each would run the "
            "whole job: call vmc.start_cluster() first thing in the script, before any "
            "use of JAX (the command line does)"
        )


# ---- deciding together --------------------------------------------------------------


def is_parallel() -> bool:
    """Whether there are other processes."""
    import jax

    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process talks and writes for all."""
    import jax

    return jax.process_index() == 0


def largest(*values: float) -> tuple[float, ...]:
    """The largest of every value over all processes; all must call it."""
    if not is_parallel():
        return values
    from jax.experimental import multihost_utils

    rows = multihost_utils.process_allgather(np.asarray(values, np.float64))
    return tuple(np.max(np.asarray(rows), axis=0).tolist())


def on_first(function: Callable[[], Any]) -> Any:
    """Run on the first process; its JSON value, or its error, is everyone's.

    Args:
        function: what to run; its value must go through JSON.

    Raises:
        JobError: the first process met an error that users can cure.
    """
    if not is_parallel():
        return function()
    from jax.experimental import multihost_utils

    reply: dict[str, Any] = {}
    failure: BaseException | None = None
    if is_first():
        try:
            reply = {"value": function()}
        except (JobError, CheckpointError) as error:
            reply, failure = {type(error).__name__: str(error)}, error
    text = json.dumps(reply).encode()
    length = multihost_utils.broadcast_one_to_all(np.asarray(len(text), np.int32))
    words = np.zeros(int(length), np.uint8)
    if is_first():
        words[:] = np.frombuffer(text, np.uint8)
    words = np.asarray(multihost_utils.broadcast_one_to_all(words))
    reply = json.loads(words.tobytes().decode())
    if failure is not None:
        raise failure
    for kind in (JobError, CheckpointError):
        if kind.__name__ in reply:
            raise kind(reply[kind.__name__])
    return reply["value"]


def check_same(facts: Mapping[str, str]) -> None:
    """Refuse to go on if some rank started from other files or versions.

    Args:
        facts: what must agree, by name.

    Raises:
        JobError: names the ranks that differ from the first, and in what.
    """
    if not is_parallel():
        return
    import hashlib

    from jax.experimental import multihost_utils

    names = sorted(facts)
    digests = [hashlib.sha256(facts[name].encode()).digest()[:8] for name in names]
    mine = np.frombuffer(b"".join(digests), np.uint8).reshape(len(names), 8)
    rows = np.asarray(multihost_utils.process_allgather(mine))
    different = np.any(rows != rows[:1], axis=2)
    if not different.any():
        return
    what = [name for name, column in zip(names, different.T) if column.any()]
    ranks = np.flatnonzero(different.any(axis=1)).tolist()
    shown = ", ".join(map(str, ranks[:8])) + (", ..." if len(ranks) > 8 else "")
    where = [_difference(facts[n], ranks[0]) for n in what]
    raise JobError(
        f"the ranks started from different {' and '.join(what)}: rank {shown} differs "
        f"from rank 0 ({'; '.join(filter(None, where))}). Give every node the same "
        "files and the same environment."
    )


def _difference(text: str, rank: int) -> str:
    """The first line of a text that is another one on that rank; all must call it."""
    from jax.experimental import multihost_utils

    mine = np.frombuffer(text.encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.asarray(mine.size)))
    padded = np.pad(mine, (0, int(sizes.max()) - mine.size))
    rows = np.asarray(multihost_utils.process_allgather(padded))
    first, other = (rows[r, : sizes[r]].tobytes().decode() for r in (0, rank))
    lines = itertools.zip_longest(first.splitlines(), other.splitlines(), fillvalue="")
    for there, here in lines:
        if there != here:
            return f'"{here.strip()}" on rank {rank}, "{there.strip()}" on rank 0'
    return ""


# ---- ending together ----------------------------------------------------------------


def finish() -> None:
    """Wait for the other ranks at the end of the program, so that none is cut off."""
    if is_parallel() and _started():
        import jax

        jax.distributed.shutdown()


def abort(code: int) -> NoReturn:
    """End all ranks now, from any thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if "mpi4py.MPI" in sys.modules:
            from mpi4py import MPI

            if MPI.Is_initialized() and not MPI.Is_finalized():
                MPI.COMM_WORLD.Abort(code)
    finally:
        os._exit(code)


def give_up(message: str, code: int) -> NoReturn:
    """Say why this rank cannot go on, and end all ranks.

    An error that all ranks meet is told once: the first rank speaks at once and ends
    the others while they still wait.
    """
    where = launch.launch()
    if not where.is_first:
        time.sleep(GRACE)
        message = f"rank {where.rank} on {socket.gethostname()}: {message}"
    print(message, file=sys.stderr, flush=True)
    abort(code)


def describe(layout: Layout, n_chains: int, n_devices: int) -> str:
    """The start line: ranks, devices, walkers, threads, library.

    Args:
        layout: of the processes.
        n_chains: walkers over all devices.
        n_devices: those that the job uses.
    """
    where = layout.where
    ranks = "1 process" if where.size == 1 else f"{where.size} ranks ({where.launcher})"
    n = n_devices // where.size
    each = " each" if where.size > 1 else ""
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "?")
    cores = layout.cores
    parts = [
        ranks,
        f"{n} device{'s'[: n > 1]}{each} ({layout.kind})",
        f"{n_chains // n_devices} walkers per device",
        f"{cores} core{'s'[: cores > 1]}{each}",
        f"{threads} OpenBLAS thread{'s'[: threads != '1']}",
    ]
    return ", ".join(parts + [layout.mpi] * bool(layout.mpi))
