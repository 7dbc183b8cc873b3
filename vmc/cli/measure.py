"""``vmc measure``: measure the parameters of a run again, and more of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import Json, RunFolder

Samples: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Samples over all devices.")
]
ToError: TypeAlias = Annotated[
    float | None, typer.Option(help="Go on to this relative error.")
]
Names: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="What else to measure, as correlations,structure_factor,renyi2:0-3 "
        "(docs/job-file.md, Observables); default: those of the job.",
    ),
]
Fidelity: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="RUN2", help="Also |<a|b>|^2 with another run."),
]
Extrapolate: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="RUN2",
        help="Also the energy at zero variance, from this run and RUN2 (or one of "
        "its checkpoint files); may be repeated.",
    ),
]
Exactly: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="No samples: energy and entropies from the structure of mps, ttn, "
        'convac, cp or rac of depth 1 (total_sz = "free").',
    ),
]


def measure(
    run: RunFolder,
    n_samples: Samples = None,
    to_error: ToError = None,
    observables: Names = None,
    fidelity: Fidelity = None,
    extrapolate: Extrapolate = None,
    exact: Exactly = False,
    json: Json = False,
) -> None:
    """Measure the newest checkpoint; changes nothing on disk."""
    with console.command(by_all=True) as output:
        from vmc import runlog
        from vmc.errors import JobError
        from vmc.observables_names import parse, split

        given = (n_samples, to_error, observables, fidelity, extrapolate)
        if exact and any(value is not None for value in given):
            raise JobError(
                "--exact takes no samples and has no error: leave out --n-samples, "
                "--to-error, --observables, --fidelity and --extrapolate, or --exact"
            )
        names = None if observables is None else split(observables)
        for name in names or []:
            parse(name)
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
            numbers = _sampled(loaded, n_samples, to_error, names)
            more = _with_others(loaded, numbers, n_samples, fidelity, extrapolate)
            numbers, show = numbers | more, print_report
        if json:
            output.json(numbers)
        else:
            show(output, numbers)


def _sampled(
    loaded: Any, n_samples: int | None, to_error: float | None, names: list[str] | None
) -> dict[str, Any]:
    """The report of a run, measured again."""
    from vmc import cluster
    from vmc.health import final_warnings
    from vmc.observables_run import measure
    from vmc.report import report

    keys, built = loaded.job.measure, loaded.built
    energy, observables = measure(
        built,
        loaded.state,
        n_samples or keys.n_samples,
        keys.observables if names is None else names,
        to_error=to_error if to_error is not None else keys.to_error,
    )
    doubts = final_warnings(energy, built.sampler.n_chains)
    return cluster.on_first(
        lambda: report(
            built,
            energy,
            status=loaded.status,
            step=int(loaded.state.step),
            seconds=float(loaded.file.provenance.get("elapsed", 0.0)),
            warnings=[*built.warnings, *doubts],
            observables=observables,
        )
    )


def _with_others(
    loaded: Any,
    numbers: dict[str, Any],
    n_samples: int | None,
    fidelity: Path | None,
    extrapolate: list[Path] | None,
) -> dict[str, Any]:
    """What takes other runs as well: fidelity and extrapolation."""
    from vmc import observables_runs

    n = n_samples or loaded.job.measure.n_samples
    more: dict[str, Any] = {}
    if fidelity is not None:
        more["fidelity"] = observables_runs.fidelity(loaded, fidelity, n)
    if extrapolate:
        more["zero_variance"] = observables_runs.zero_variance(
            loaded, numbers["energy"], extrapolate, n
        )
    return more


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
