"""``vmc measure``: measure the energy of a run's parameters again."""

from __future__ import annotations

from typing import Annotated, Any

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
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="No samples: energy and entropies from the structure of mps, ttn, "
            'convac, cp or rac of depth 1 (total_sz = "free").',
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Measure the energy of the newest checkpoint; changes nothing on disk."""
    with console.command(by_all=True) as output:
        from vmc import runlog
        from vmc.errors import JobError

        if exact and (n_samples is not None or to_error is not None):
            raise JobError(
                "--exact takes no samples and has no error: leave out --n-samples and "
                "--to-error, or --exact"
            )
        file = runlog.read(run)
        set_threads(None, file.provenance.get("openblas_threads"))
        start_jax(by_all=True)

        from vmc import cluster, runs
        from vmc.cli.report import print_exact, print_report

        loaded = runs.load(run)
        if exact:
            numbers = cluster.on_first(lambda: _exactly(loaded))
            show = print_exact
        else:
            seconds = float(file.provenance.get("elapsed", 0.0))
            numbers = _sampled(loaded, n_samples, to_error, seconds)
            show = print_report
        if json:
            output.json(numbers)
        else:
            show(output, numbers)


def _sampled(
    loaded: Any, n_samples: int | None, to_error: float | None, seconds: float
) -> dict[str, Any]:
    """The report of a run, measured again."""
    from vmc import cluster
    from vmc.report import report

    keys = loaded.job.measure
    estimate = loaded.built.vmc.measure(
        loaded.state,
        n_samples or keys.n_samples,
        to_error=to_error if to_error is not None else keys.to_error,
    )
    return cluster.on_first(
        lambda: report(
            loaded.built,
            estimate,
            status=loaded.status,
            step=int(loaded.state.step),
            seconds=seconds,
            warnings=list(loaded.built.warnings),
        )
    )


def _exactly(loaded: Any) -> dict[str, Any]:
    """What the structure of the ansatz says of a run, as JSON values."""
    from vmc.exact_values import measure_exactly

    values = measure_exactly(loaded.built, loaded.params)
    return {
        "status": loaded.status,
        "energy": {"mean": values.energy, "error": 0.0},
        "energy_per_site": values.energy_per_site,
        "exact": values.exact,
        "relative_error": values.relative_error,
        "log_norm": values.log_norm,
        "entropy": {"region": list(values.region), "s1": values.s1, "s2": values.s2},
        "n_sites": loaded.built.n_sites,
        "n_parameters": loaded.built.vmc.n_parameters,
        "n_steps": int(loaded.state.step),
        "warnings": [*loaded.built.warnings, *values.notes],
    }
