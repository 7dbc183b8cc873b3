"""One point of a sweep in this process, and in all ranks that work on it."""

from __future__ import annotations

from typing import IO

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.errors import CheckpointError, JobError, NumericalError
from vmc.launch import launch
from vmc.sweep import Point, Sweep
from vmc.sweep_state import begin_attempt, claim, look, make_room, record_error


def run_task(sweep: Sweep, number: int, output: console.Output, *, json: bool) -> None:
    """Run or resume a point as `vmc run` and `vmc resume` do.

    Raises:
        JobError: somebody else runs the point, or its neighbour is not done.
        typer.Exit: with 75 if it was stopped.
    """
    from vmc import runlog
    from vmc.cli.run import finish
    from vmc.cli.show import show_result
    from vmc.signals import StopFlag

    stop = StopFlag()
    stop.install()
    point = sweep.points[number]
    folder = sweep.folder_of(point)
    job = sweep.job_of(point)
    # All ranks look before any of them changes anything.
    state = look(sweep, point)
    recorded = None
    if state.resumes:
        recorded = runlog.read(folder).provenance.get("openblas_threads")
    set_threads(job.sampler.n_samples, recorded)
    layout = start_jax(by_all=True)
    stop.install()

    from vmc import cluster, runs

    held: list[IO[bytes]] = []
    try:
        action = cluster.on_first(lambda: _begin(sweep, point, held))
        if action == "done":
            console.note(f"{folder} is done already; its result is")
            show_result(output, runlog.read(folder), json)
            return
        if action == "resume":
            session = runs.resume(folder, stop=stop)
        else:
            session = runs.start(job, out=folder, stop=stop)
        finish(session, layout, output, json=json, quiet=False)
    except (JobError, CheckpointError, NumericalError) as error:
        _record(held, str(error))
        raise
    except Exception as error:
        if not isinstance(error, typer.Exit):  # stopped and saved
            _record(held, f"{type(error).__name__}: {error}")
        raise
    finally:
        for log in held:
            log.close()


def _begin(sweep: Sweep, point: Point, held: list[IO[bytes]]) -> str:
    """Claim a point and make room for it; "done", "resume" or "run"."""
    if point.after is not None:
        status = look(sweep, sweep.point(point.after)).status
        if status != "done":
            raise JobError(
                f"{point.name} starts from {point.after}, which is {status}: run the "
                "points of a chain one after another (sbatch --array=0-9%1), or all "
                f"of them by `vmc sweep {sweep.folder}`"
            )
    claimed = claim(sweep, point)
    if claimed is None:
        raise JobError(f"{point.name} is running in another process")
    held.append(claimed.log)
    if claimed.state.status == "done":
        return "done"
    begin_attempt(claimed.log, f"task {point.number}, {launch().size} ranks")
    if claimed.state.resumes:
        return "resume"
    kept = make_room(sweep.folder_of(point))
    if kept is not None:
        console.note(f"what was there without a checkpoint is in {kept}")
    return "run"


def _record(held: list[IO[bytes]], message: str) -> None:
    """The error for the table, by the rank that holds the log."""
    for log in held:
        record_error(log, message)
