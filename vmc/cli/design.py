"""``vmc design``: which architecture can hold the ground state, and how large."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmc.cli import console
from vmc.cli.ed import sites
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobFile, Json, Overrides
from vmc.errors import JobError

if TYPE_CHECKING:
    from vmc.design import Design


def design(
    job: JobFile,
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
        typer.Option(metavar="FILE", help="Write the recommended job file."),
    ] = None,
    json: Json = False,
) -> None:
    """Required and possible entanglement of every cut; the architecture to take."""
    with console.command() as output:
        from vmc.job import Job

        names = None if families is None else [x.strip() for x in families.split(",")]
        regions = [sites("--cut", text) for text in cut or []]
        if write is not None and write.exists():
            raise JobError(f"--write {write}: there is such a file already")
        loaded = Job.load(job, set_ or [])
        set_threads(None)
        start_jax()
        if plot is not None:
            from vmc.design_plot import require

            require()

        from vmc.design import design as find

        found = find(
            loaded,
            budget=budget,
            target=target,
            families=names,
            regions=regions,
            method=method,
            memory_limit=int(memory * 2**30),
            calibrate=calibrate,
            note=console.note,
        )
        if plot is not None:
            from vmc.design_plot import draw

            draw(plot, found)
        if write is not None:
            _write(write, found)
        if json:
            output.json(found.to_json())
            return
        _print(output, found)


def _write(path: Path, found: Design) -> None:
    text = found.job_toml()
    if text is None:
        raise JobError("--write: no family fits, so that there is no job to write")
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
