"""``vmc show``: the result of a run, also while it goes on.  Needs no JAX."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads
from vmc.cli.options import Json, RunFolder
from vmc.errors import JobError
from vmc.repairs import repairs, repairs_text

#: Columns of the table, of all that --json prints.
COLUMNS = ("step", "energy", "error", "variance", "acceptance", "r_hat", "seconds")

Plot: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png",
        help="Draw the correlations, structure factors and entropies of the final "
        "measurement.",
    ),
]


def show(
    run: RunFolder,
    series: Annotated[
        bool, typer.Option("--series", help="The per-step columns instead.")
    ] = False,
    job: Annotated[
        bool, typer.Option("--job", help="The resolved job instead.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="A line per look until the run ends.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.01, help="Time between looks.")
    ] = 1.0,
    patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="End if nothing is written for so long."
        ),
    ] = 600.0,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the series as TensorBoard scalars."),
    ] = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Print the result of a run, its series, or its resolved job."""
    with console.command() as output:
        set_threads(None)

        from vmc import runlog

        if follow and (series or job):
            raise JobError(
                "--follow ends with the report: leave out --series and --job"
            )
        file = runlog.read(run)
        if file.rebuilt:
            console.warn(
                [
                    f"{run}/run.h5 is damaged; this is the newest checkpoint's copy "
                    f"(`vmc resume {run}` rebuilds it)"
                ]
            )
        try:
            file = _watch(file, follow, every, patience, tensorboard)
        except KeyboardInterrupt:
            return  # enough seen
        if plot is not None:
            _draw(file, plot)
        if job:
            _show_job(output, file, json)
        elif series:
            _show_series(output, file, json)
        else:
            show_result(output, file, json)


def _watch(
    file: Any, follow: bool, every: float, patience: float, tensorboard: Path | None
) -> Any:
    """Follow or export a run, as asked; the newest look at it."""
    board = None
    if tensorboard is not None:
        from vmc.cli.tensorboard import Board

        board = Board(tensorboard)
        n_rows = board.add(file)
        console.note(
            f"{n_rows} steps written; look at them with: "
            f"tensorboard --logdir {tensorboard}"
        )
    try:
        if follow:
            from vmc.cli.follow import Follower

            follower = Follower(file.folder, every, patience)
            if board is not None:
                follower.seen = board.add
            file = follower(file)
    finally:
        if board is not None:
            board.close()
    return file


def _draw(file: Any, path: Path) -> None:
    """The observables of the final measurement as a picture."""
    from vmc.observables_plot import draw

    draw(path, (file.result or {}).get("observables", {}))
    console.note(f"drawn in {path}")


def _show_job(output: console.Output, file: Any, json: bool) -> None:
    from vmc.jobfile import to_toml

    if json:
        output.json(file.job)
    else:
        output.text(to_toml(file.job).rstrip())


def _show_series(output: console.Output, file: Any, json: bool) -> None:
    if json:
        lists = {name: values.tolist() for name, values in file.series.items()}
        output.json({name: _numbers(values) for name, values in lists.items()})
        return
    names = [name for name in COLUMNS if name in file.series]
    columns = [file.series[name].tolist() for name in names]
    rows = [
        tuple(str(v) if isinstance(v, int) else f"{v:.8g}" for v in row)
        for row in zip(*columns, strict=True)
    ]
    output.table(names, rows)


def _numbers(values: list[Any]) -> list[Any]:
    """JSON has no not-a-number."""
    return [v if isinstance(v, int) or math.isfinite(v) else None for v in values]


def show_result(output: console.Output, file: Any, json: bool) -> None:
    """The report of a run file."""
    report = file.result or unfinished(file)
    if json:
        output.json(report | {"run": str(file.folder)})
        return
    if report["energy"] is None:
        n_steps = file.job["run"]["n_steps"]
        console.note(
            f"{file.folder} is {file.status}: step {report['n_steps']} of {n_steps}, "
            "no final measurement yet"
        )
        last = report["last"]
        output.pairs((k, "-" if v is None else f"{v:.8g}") for k, v in last.items())
        if text := repairs_text(repairs(file.series)):
            console.note(f"repaired: {text}")
        console.note(_what_next(file))
        return
    from vmc.cli.report import print_report

    console.warn(report["warnings"])
    print_report(output, report)


def _what_next(file: Any) -> str:
    """How a run without a result can go on."""
    resume, log = f"vmc resume {file.folder}", file.folder / "run.log"
    why = f"{log} says why; " if log.exists() else ""
    return {
        "running": f"watch it with: vmc show {file.folder} --follow; if nothing runs "
        f"any more (it was killed), go on with: {resume}",
        "stopped": f"go on with: {resume}",
        "failed": f"{why}go on from the last good state with smaller steps: "
        f"{resume} --set optimizer.learning_rate=...",
    }.get(file.status, f"go on from the newest checkpoint with: {resume}")


def unfinished(file: Any) -> dict[str, Any]:
    """The report of a run without a final measurement: `last` is its last step."""
    names = list(file.series)
    values = [file.series[name][-1:].tolist() for name in names]
    last = {n: _numbers(v)[0] for n, v in zip(names, values, strict=True) if v}
    return {
        "status": file.status,
        "energy": None,
        "energy_per_site": None,
        "v_score": None,
        "exact": None,
        "relative_error": None,
        "n_sites": file.provenance.get("n_sites"),
        "n_parameters": file.provenance.get("n_parameters"),
        "n_steps": len(file.series.get("step", ())),
        "seconds": file.provenance.get("elapsed", 0.0),
        "warnings": [],
        "last": last,
    }
