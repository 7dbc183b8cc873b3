"""``vmc design``: which architecture can hold the ground state, and how large.

Of a run it says what was realised, and what to enlarge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from vmc.cli import console
from vmc.cli.design_output import print_after, print_design
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobOrRun, Json, Memory, Overrides, sites
from vmc.errors import JobError

Budget: TypeAlias = Annotated[
    int | None, typer.Option(metavar="P", help="Most parameters.")
]
Target: TypeAlias = Annotated[
    float, typer.Option(metavar="ERROR", help="Relative energy error aimed at.")
]
Families: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...", help='Families to choose from, as "convac,mps,rbm,cnn".'
    ),
]
Cuts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SITES", help='One more cut, as "0-7" or "0,2,4"; may be repeated.'
    ),
]
Method: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where the required entanglement comes from: exact, mps, mc, "
        "extrapolated, or auto by size.",
    ),
]
Calibrate: TypeAlias = Annotated[
    bool,
    typer.Option(
        help="Train families that no bond describes on a small lattice first."
    ),
]
Plot: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw a PNG file.")
]
Write: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the recommended job file; of a run, the one that grows it.",
    ),
]


def design(
    job: JobOrRun,
    set_: Overrides = None,
    budget: Budget = None,
    target: Target = 1e-3,
    families: Families = None,
    cut: Cuts = None,
    method: Method = "auto",
    memory: Memory = 4.0,
    calibrate: Calibrate = True,
    plot: Plot = None,
    write: Write = None,
    json: Json = False,
) -> None:
    """Required and possible entanglement of every cut; the architecture to take.

    Of a run: what was realised, and whether channels or optimisation limit it.
    """
    with console.command() as output:
        names = None if families is None else [x.strip() for x in families.split(",")]
        regions = [sites("--cut", text) for text in cut or []]
        if write is not None and write.exists():
            raise JobError(f"--write {write}: there is such a file already")
        common: dict[str, Any] = {
            "target": target,
            "regions": regions,
            "method": method,
            "memory_limit": int(memory * 2**30),
            "note": console.note,
        }
        if job.is_dir():
            _refuse_for_runs(
                {"--set": set_, "--budget": budget, "--families": families}
            )
            _after(output, job, common, plot, write, json)
            return
        common |= {"budget": budget, "families": names, "calibrate": calibrate}
        _before(output, job, set_ or [], common, plot, write, json)


def _before(
    output: console.Output,
    path: Path,
    overrides: list[str],
    keys: dict[str, Any],
    plot: Path | None,
    write: Path | None,
    json: bool,
) -> None:
    """What a job needs."""
    from vmc.job import Job

    loaded = Job.load(path, overrides)
    set_threads(None)
    start_jax()
    if plot is not None:
        from vmc.design_plot import require

        require()

    from vmc.design import design as find

    found = find(loaded, **keys)
    if plot is not None:
        from vmc.design_plot import draw

        draw(plot, found)
    if write is not None:
        _write(write, found.job_toml(), "no family fits")
    if json:
        output.json(found.to_json())
        return
    print_design(output, found)


def _refuse_for_runs(given: dict[str, Any]) -> None:
    """What chooses among architectures says nothing about a trained one."""
    for name, value in given.items():
        if value is not None:
            raise JobError(
                f"{name} belongs to a job file, and this is a run directory: give the "
                f"job file, or leave out {name}"
            )


def _after(
    output: console.Output,
    folder: Path,
    common: dict[str, Any],
    plot: Path | None,
    write: Path | None,
    json: bool,
) -> None:
    """What a run realised."""
    from vmc import runlog

    file = runlog.read(folder)
    set_threads(None, file.provenance.get("openblas_threads"))
    start_jax()
    if plot is not None:
        from vmc.design_plot import require

        require()

    from vmc import design_after_report as report
    from vmc.design_after import after

    found = after(folder, **common)
    if plot is not None:
        from vmc.design_plot_after import draw_after

        draw_after(plot, found)
    if write is not None:
        _write(write, report.job_toml(found), "this ansatz cannot grow")
    if json:
        output.json(report.as_json(found))
    else:
        print_after(output, found)


def _write(path: Path, text: str | None, why_not: str) -> None:
    if text is None:
        raise JobError(f"--write: {why_not}, so that there is no job to write")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None
