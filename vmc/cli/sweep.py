"""``vmc sweep``: one job at many points of a grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vmc.cli import console
from vmc.cli.options import Json, Overrides
from vmc.cli.sweep_options import (
    ARRAY,
    Array,
    Chain,
    DryRun,
    Extrapolate,
    Grids,
    Jobs,
    Out,
    Plot,
    Power,
    Prepare,
    Seeds,
    Table,
    Target,
    Task,
)
from vmc.errors import JobError
from vmc.launch import launch

if TYPE_CHECKING:
    from vmc.sweep import Point, Sweep


def sweep(
    target: Target,
    grid: Grids = None,
    seeds: Seeds = None,
    set_: Overrides = None,
    chain: Chain = None,
    out: Out = None,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    prepare: Prepare = False,
    task: Task = None,
    array: Array = False,
    table: Table = False,
    extrapolate: Extrapolate = False,
    power: Power = 1.0,
    plot: Plot = False,
    json: Json = False,
) -> None:
    """Run a job at many points of a grid, side by side, and collect one table."""
    alone = task is not None or array
    with console.command(by_all=alone) as output:
        _check_options(alone, dry_run=dry_run, prepare=prepare, table=table)
        _check_results(alone or dry_run or prepare, plot=plot, extrapolate=extrapolate)
        made, is_new = _open(target, grid, seeds, set_, chain, out)
        if dry_run:
            _list(output, made, json)
            return
        if alone or table:
            _refuse_new(made, is_new)
        if alone:
            from vmc.cli.sweep_task import run_task

            run_task(made, _number(task, made), output, json=json)
            return
        if not table:
            _save(made, is_new)
        if prepare:
            _list(output, made, json)
            console.note(
                f"{made.folder} is written; run point N by `vmc sweep {made.folder} "
                f"--task N`, all of them by `vmc sweep {made.folder}`"
            )
            return
        complete = table or _run(made, jobs)
        from vmc.cli.sweep_output import show_results

        show_results(
            output,
            made,
            json=json,
            power=power if extrapolate and complete else None,
            plot=plot and complete,
        )
        if not table:
            _exit_code(made, complete)


def _check_options(alone: bool, **modes: bool) -> None:
    wanted = [f"--{name.replace('_', '-')}" for name, on in modes.items() if on]
    wanted += ["--task or --array"] * alone
    if len(wanted) > 1:
        raise JobError(f"{' and '.join(wanted)} exclude each other; give one of them")
    where = launch()
    if where.is_parallel and not wanted:
        raise JobError(
            f"{where.launcher} started {where.size} ranks, but the points of a sweep "
            "run as processes of their own: start `vmc sweep` once, without "
            "mpirun or srun. For points of several ranks start each by itself: "
            "mpirun -n R vmc sweep SWEEP --task N"
        )


def _check_results(without: bool, *, plot: bool, extrapolate: bool) -> None:
    if without and (plot or extrapolate):
        raise JobError(
            "--plot and --extrapolate go with the whole sweep: leave them out, and ask "
            "for them with --table when the points are done"
        )
    if plot:
        from vmc.sweep_plot import require

        require()


def _open(
    target: Path,
    grid: Sequence[str] | None,
    seeds: int | None,
    set_: Sequence[str] | None,
    chain: str | None,
    out: Path | None,
) -> tuple[Sweep, bool]:
    """The sweep, and whether its file on disk has to be written."""
    from vmc import sweep

    if target.is_dir():
        given = {"--grid": grid, "--seeds": seeds, "--set": set_, "--chain": chain}
        names = [name for name, value in (given | {"--out": out}).items() if value]
        if names:
            raise JobError(
                f"{target} is a folder, whose sweep is fixed: leave out "
                f"{', '.join(names)}; to add points give the job file instead"
            )
        return sweep.load(target), False
    from vmc.job import Job
    from vmc.sweep_plan import plan

    job = Job.load(target, set_ or [])
    folder = Path("sweeps") / job.stem if out is None else out
    new = plan(job, grid or [], folder=folder, n_seeds=seeds, chain=chain)
    if sweep.is_sweep(folder):
        old = sweep.load(folder)
        both = sweep.merge(old, new)
        return both, len(both.points) > len(old.points) or both.grid != old.grid
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise JobError(
            f"{folder} exists and holds no sweep: choose another folder with --out"
        )
    return new, True


def _refuse_new(made: Sweep, is_new: bool) -> None:
    if is_new:
        raise JobError(
            f"{made.folder} does not hold these points yet: write them with --prepare "
            "first, or give the folder of a sweep"
        )


def _number(task: int | None, made: Sweep) -> int:
    """The point that --task or --array means."""
    text = str(task) if task is not None else os.environ.get(ARRAY, "")
    if not text.isdigit():
        raise JobError(
            f"--array: {ARRAY} is {text!r}; it is set in the tasks of a Slurm array "
            "(sbatch --array=0-9). Elsewhere use --task N"
        )
    if int(text) >= len(made.points):
        raise JobError(
            f"there is no point {text}: {made.folder} has the points 0 to "
            f"{len(made.points) - 1} (`vmc sweep {made.folder} --dry-run` lists them)"
        )
    return int(text)


def _save(made: Sweep, is_new: bool) -> None:
    from vmc.sweep import save, write_job

    if is_new:
        save(made)
    write_job(made)


def _list(output: console.Output, made: Sweep, json: bool) -> None:
    """The points and how far they are."""
    from vmc.sweep_state import look

    points = [
        {
            "number": p.number,
            "name": p.name,
            "status": look(made, p).status,
            "overrides": list(p.overrides),
            "after": p.after,
        }
        for p in made.points
    ]
    if json:
        output.json({"sweep": str(made.folder), "points": points})
        return
    head = ["point", "name", "status"] + ["starts from"] * (made.chain is not None)
    rows = [
        [str(p["number"]), p["name"], p["status"], str(p["after"] or "")][: len(head)]
        for p in points
    ]
    output.table(head, rows)


# ---- running -----------------------------------------------------------------------


def _run(made: Sweep, jobs: int) -> bool:
    """Run what is left; False if it was stopped before its end."""
    from vmc.signals import StopFlag
    from vmc.sweep_run import Runner

    stop = StopFlag()
    stop.install()
    console.note(f"{made.folder}: {len(made.points)} points, {jobs} at a time")
    runner = Runner(
        made,
        jobs=jobs,
        stop=stop,
        environment=lambda point: _environment(made, point, jobs),
        tell=_tell,
    )
    complete = runner.run(made.in_order())
    if stop.requested:
        console.note(
            f"stopped by {stop.reason}; go on with: vmc sweep {made.folder}",
        )
    return complete and not stop.requested


def _environment(made: Sweep, point: Point, jobs: int) -> dict[str, str]:
    """Of a point: its share of the cores, and threads for large linear systems."""
    from vmc.cli.environment import ONE_THREAD, THREADS
    from vmc.launch import CORES

    if jobs == 1:
        return {}
    share = max(1, len(os.sched_getaffinity(0)) // jobs)
    small = (made.job_of(point).sampler.n_samples or 0) <= ONE_THREAD
    wanted = {CORES: str(share), THREADS: "1" if small else str(min(8, share))}
    return {key: value for key, value in wanted.items() if key not in os.environ}


def _tell(point: Point, what: str, detail: str) -> None:
    first = detail.partition("\n")[0]
    console.note(f"{point.name}: {what}{f' ({first})' if first else ''}")


def _exit_code(made: Sweep, complete: bool) -> None:
    """Leave with 75 if a point is saved but not done, with 1 if one failed."""
    from vmc.sweep_state import look

    found = {look(made, point).status for point in made.points}
    if not complete or "stopped" in found:
        raise typer.Exit(console.STOPPED)
    if found - {"done", "running"}:
        raise typer.Exit(console.FAILED)
