"""``vmc design``: which architecture can hold the ground state, and how large.

Of a run it says what was realised, and what to enlarge.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmc.cli import console
from vmc.cli.ed import sites
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import Json, Overrides
from vmc.errors import JobError

if TYPE_CHECKING:
    from vmc.design import Design
    from vmc.design_after import After


def design(
    job: Annotated[
        Path,
        typer.Argument(
            metavar="JOB.toml|RUN",
            help="The job file, or a run directory: its newest checkpoint.",
            show_default=False,
        ),
    ],
    set_: Overrides = None,
    budget: Annotated[
        int | None, typer.Option(metavar="P", help="Most parameters.")
    ] = None,
    target: Annotated[
        float, typer.Option(metavar="ERROR", help="Relative energy error aimed at.")
    ] = 1e-3,
    families: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help='Families to choose from, as "convac,mps,rbm,cnn".'
        ),
    ] = None,
    cut: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITES", help='One more cut, as "0-7" or "0,2,4"; may be repeated.'
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where the required entanglement comes from: exact, mps, mc, "
            "extrapolated, or auto by size.",
        ),
    ] = "auto",
    memory: Annotated[
        float, typer.Option(metavar="GIB", min=0.0, help="Limit of the memory, GiB.")
    ] = 4.0,
    calibrate: Annotated[
        bool,
        typer.Option(
            help="Train families that no bond describes on a small lattice first."
        ),
    ] = True,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a PNG file.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the recommended job file; of a run, the one that grows it.",
        ),
    ] = None,
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
        from vmc.job import Job

        loaded = Job.load(job, set_ or [])
        set_threads(None)
        start_jax()
        if plot is not None:
            from vmc.design_plot import require

            require()

        from vmc.design import design as find

        found = find(
            loaded, budget=budget, families=names, calibrate=calibrate, **common
        )
        if plot is not None:
            from vmc.design_plot import draw

            draw(plot, found)
        if write is not None:
            _write(write, found.job_toml(), "no family fits")
        if json:
            output.json(found.to_json())
            return
        _print(output, found)


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
        _print_after(output, found)


def _print_after(output: console.Output, found: After) -> None:
    """Table of cuts, evidence, verdict."""
    from vmc import design_after_report as report

    console.warn(found.notes)
    output.table(*report.table(found))
    output.text()
    for line in report.lines(found):
        output.text(line)


def _write(path: Path, text: str | None, why_not: str) -> None:
    if text is None:
        raise JobError(f"--write: {why_not}, so that there is no job to write")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None


def _print(output: console.Output, found: Design) -> None:
    """Table of cuts, summary of architectures, recommendation."""
    from vmc import design_report as report

    console.warn(found.notes)
    output.text(report.headline(found))
    output.text()
    output.table(*report.table(found))
    output.text(
        "columns of an architecture: ln of its capacity, certified floor of 1 - F; "
        "! too narrow for the target, t any state fits"
    )
    output.text()
    certain = found.certificate
    if found.architecture is not None:
        text = report.certified(certain)
        why = f" ({certain.why_not})" if certain.why_not else ""
        output.text(f"{found.architecture}: certified E - E0 >= {text}{why}")
    for line in report.fixed_rank_lines(found):
        output.text(line)
    if found.bottleneck is not None and found.bottleneck.indices:
        shown = ", ".join(found.bottleneck.indices[:4])
        output.text(f"bottleneck of {found.architecture}: {shown}")
    if found.geometry is not None:
        tree = found.geometry
        better = "no better than" if tree.cost > tree.contiguous_cost - 1e-6 else "best"
        order = ", ".join(str(i) for i in tree.order)
        output.text(
            f"tree: entropy of all blocks {tree.contiguous_cost:.4g} in order, "
            f"{tree.cost:.4g} in the searched order ({better}: {order})"
        )
    output.text()
    head = ("family", "keys", "parameters", "error", "target?", "certified")
    rows = report.summary(found)
    output.table((*head, "move", "from"), rows)
    best = found.recommendation
    if best is None:
        output.text("recommendation: none, no family fits")
        return
    output.text(f"recommendation: {rows[0][0]}, {rows[0][1]}")
    output.text()
    output.text(found.job_toml() or "")
