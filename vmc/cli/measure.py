"""``vmc measure``: measure the energy of a run's parameters again."""

from __future__ import annotations

from typing import Annotated

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import Json, RunFolder


def measure(
    run: RunFolder,
    n_samples: Annotated[
        int | None, typer.Option(min=1, help="Samples over all devices.")
    ] = None,
    to_error: Annotated[
        float | None, typer.Option(help="Go on to this relative error.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the energy of the newest checkpoint; changes nothing on disk."""
    with console.command() as output:
        from vmc import runlog

        file = runlog.read(run)
        set_threads(None, file.provenance.get("openblas_threads"))
        start_jax()

        from vmc import runs
        from vmc.cli.report import print_report
        from vmc.session import report

        loaded = runs.load(run)
        keys = loaded.job.measure
        estimate = loaded.built.vmc.measure(
            loaded.state,
            n_samples or keys.n_samples,
            to_error=to_error if to_error is not None else keys.to_error,
        )
        numbers = report(
            loaded.built,
            estimate,
            status=loaded.status,
            step=int(loaded.state.step),
            seconds=float(file.provenance.get("elapsed", 0.0)),
            warnings=list(loaded.built.warnings),
        )
        if json:
            output.json(numbers)
        else:
            print_report(output, numbers)
