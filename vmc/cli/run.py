"""``vmc run``: optimise, measure, write the run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobFile, Json, MaxTime, Overrides, Quiet

if TYPE_CHECKING:
    from vmc.session import Session


def run(
    job: JobFile,
    set_: Overrides = None,
    max_time: MaxTime = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the ground state: optimise, then measure the energy."""
    with console.command() as output:
        from vmc.job import Job
        from vmc.signals import StopFlag

        stop = StopFlag()
        stop.install()
        overrides = list(set_ or [])
        if max_time is not None:
            overrides.append(f"run.max_time={max_time}")
        loaded = Job.load(job, overrides)
        if loaded.run.out is not None:
            from vmc.runlog import refuse_existing

            refuse_existing(Path(loaded.run.out))
        set_threads(loaded.sampler.n_samples)
        start_jax()
        stop.install()

        from vmc.assembly import build
        from vmc.runlog import make_folder
        from vmc.runs import start_log
        from vmc.session import Session

        built = build(loaded)
        folder = make_folder(loaded.run.out, loaded.stem)
        log = start_log(built, folder)
        finish(Session(built, log=log, stop=stop), output, json=json, quiet=quiet)


def finish(
    session: Session, output: console.Output, *, json: bool, quiet: bool
) -> None:
    """Run a session to its end and print its report.

    Raises:
        typer.Exit: with 75 if it was stopped.
    """
    from vmc.cli.progress import progress
    from vmc.cli.report import headline, print_report

    assert session.log is not None
    folder = session.log.folder
    console.note(headline(session.built, folder))
    known = len(session.warnings)
    console.warn(session.warnings)
    try:
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
            f"stopped by {result.reason} after step {result.report['n_steps']}, saved; "
            f"go on with: vmc resume {folder}"
        )
        raise typer.Exit(console.STOPPED)
