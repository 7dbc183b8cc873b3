"""``vmc resume``: continue a run from its last checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import Json, MaxTime, Overrides, Quiet, RunFolder


def resume(
    run: RunFolder,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="N more steps than the job says."),
    ] = None,
    set_: Overrides = None,
    max_time: MaxTime = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Continue a run that was stopped or killed, bit for bit."""
    with console.command(by_all=True) as output:
        from vmc import runlog
        from vmc.cli.show import show_result
        from vmc.signals import StopFlag

        stop = StopFlag()
        stop.install()
        file = runlog.read(run)
        if file.rebuilt:
            console.warn([f"{run}/run.h5 is damaged; it is rebuilt from a checkpoint"])
        changes = steps is not None or bool(set_)
        if file.status == "done" and file.result is not None and not changes:
            console.note(f"{run} is done already (--steps N goes on); its result is")
            show_result(output, file, json)
            return
        set_threads(None, file.provenance.get("openblas_threads"))
        layout = start_jax(by_all=True)
        stop.install()

        from vmc import runs
        from vmc.cli.run import finish

        # The limit is for this part of the run: an old one is not inherited.
        session = runs.resume(
            run,
            stop=stop,
            more_steps=steps or 0,
            overrides=list(set_ or []),
            max_time=max_time,
        )
        finish(session, layout, output, json=json, quiet=quiet)
