"""``vmc run``: optimise, measure, write the run directory."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobFile, Json, MaxTime, Overrides, Quiet

if TYPE_CHECKING:
    from vmc.cluster import Layout
    from vmc.session import Session


def run(
    job: JobFile,
    set_: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run directory, a new one: run.out."),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Start near an earlier run: run.start_from."),
    ] = None,
    max_time: MaxTime = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the ground state: optimise, then measure the energy."""
    with console.command(by_all=True) as output:
        from vmc.job import Job
        from vmc.signals import StopFlag

        stop = StopFlag()
        stop.install()
        overrides = list(set_ or [])
        if out is not None:
            overrides.append(f"run.out={dumps(str(out), ensure_ascii=False)}")
        if max_time is not None:
            overrides.append(f"run.max_time={max_time}")
        if init_from is not None:
            overrides.append(f"run.start_from={init_from.resolve()}")
        loaded = Job.load(job, overrides)
        if loaded.run.out is not None:
            from vmc.runlog import refuse_existing

            refuse_existing(Path(loaded.run.out))
        set_threads(loaded.sampler.n_samples)
        layout = start_jax(by_all=True)
        stop.install()

        from vmc import runs

        session = runs.start(loaded, out=loaded.run.out, stop=stop)
        finish(session, layout, output, json=json, quiet=quiet)


def finish(
    session: Session,
    layout: Layout,
    output: console.Output,
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Run a session to its end and print its report.

    Raises:
        typer.Exit: with 75 if it was stopped.
    """
    from vmc.cli.progress import progress
    from vmc.cli.report import headline, print_report
    from vmc.cluster import describe
    from vmc.signals import FULL_DISK

    folder = session.folder
    assert folder is not None
    console.note(headline(session.built, folder))
    built = session.built
    console.note(describe(layout, built.sampler.n_chains, built.vmc._mesh.size))
    known = len(session.warnings)
    console.warn(session.warnings)
    try:
        quiet = quiet or not layout.where.is_first
        with progress(session.built.n_sites, quiet=quiet) as session.callback:
            result = session.run()
    except Exception:
        console.note(f"what was reached is in {folder}")
        raise
    console.warn(session.warnings[known:])
    if json:
        output.json(result.report | {"run": str(folder)})
    elif result.energy is not None:
        print_report(output, result.report)
    if result.status == "stopped":
        console.note(
            f"stopped by {result.reason} after step {result.report['n_steps']}"
            f"{'' if result.reason == FULL_DISK else ', saved'}; "
            f"go on with: vmc resume {folder}"
        )
        raise typer.Exit(console.STOPPED)
