"""``vmc bench``: a suite of problems x ansatze x seeds, its report and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import Json
from vmc.errors import JobError

if TYPE_CHECKING:
    from vmc.bench_suite import Plan

Folder: TypeAlias = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of a suite.", show_default=False)
]
Only: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Only cells whose problem, ansatz or PROBLEM/ANSATZ matches, as "
        "'heis_*' or '*/rbm'; may be repeated.",
    ),
]
Varbench: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE.md", help="Also write the results as rows of VarBench."),
]
SuiteFile: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="SUITE.toml", help="The suite file.", show_default=False),
]
Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the suite; default bench/NAME."),
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, help="Cells side by side; default that of the suite."),
]
Changes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the suite (seeds=1) or of every job "
        "(run.n_steps=50); may be repeated.",
    ),
]
RerunStale: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--rerun-stale",
        help="Run again what has other settings or another version; the old runs "
        "are renamed.",
    ),
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="List the cells, run nothing.")
]
Peers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=PYTHON",
        help="Also run the problems in another program, as "
        "netket=/env/bin/python; may be repeated.",
    ),
]


class _Group(TyperGroup):
    """``vmc bench SUITE.toml`` means ``vmc bench run SUITE.toml``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "--help"}
        if args and not any(word in known for word in args[:1]):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Benchmark suites: vmc bench SUITE.toml, or one of the commands below.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def run(
    suite: SuiteFile,
    out: Out = None,
    jobs: Jobs = None,
    only: Only = None,
    set_: Changes = None,
    rerun_stale: RerunStale = False,
    dry_run: DryRun = False,
    peer: Peers = None,
    varbench: Varbench = None,
    json: Json = False,
) -> None:
    """Run what is left of a suite, collect its results, write its report."""
    with console.command() as output:
        set_threads(None)
        _refuse_ranks()
        peers = _peers(peer or [])
        from vmc import bench
        from vmc.bench_suite import load, plan

        loaded, for_jobs = load(suite, set_ or [])
        made = plan(loaded, suite.resolve().parent, for_jobs)
        cells = bench.select(made, only or [])
        folder = Path("bench") / loaded.name if out is None else out
        bench.check_folder(folder, made)
        if dry_run:
            from vmc.cli.bench_output import list_cells

            list_cells(output, made, folder, {cell.name for cell in cells}, json)
            return
        complete = _run(made, folder, cells, jobs or _default_jobs(made), rerun_stale)
        if complete:
            _run_peers(made, folder, peers)
        code = _finish(output, made, folder, varbench, json)
        if not complete:
            console.note(f"stopped; go on with the same command, or vmc bench {suite}")
            raise typer.Exit(console.STOPPED)
        if code:
            raise typer.Exit(code)


def _peers(given: list[str]) -> list[tuple[str, Path]]:
    if not given:
        return []
    import os

    # Before anything imports JAX; the devices are left to the cells.
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    from vmc.bench_peers import parse

    return [parse(text) for text in given]


def _run_peers(made: Plan, folder: Path, peers: list[tuple[str, Path]]) -> None:
    for name, python in peers:
        from vmc import bench_peers

        start_jax()
        bench_peers.run(made, folder, name, python, console.note)


def _refuse_ranks() -> None:
    from vmc.launch import launch

    where = launch()
    if where.is_parallel:
        raise JobError(
            f"{where.launcher} started {where.size} ranks, but the cells of a suite "
            "run as processes of their own: start `vmc bench` once, without mpirun or "
            "srun, and give --jobs"
        )


def _default_jobs(made: Plan) -> int:
    import os

    return max(1, min(made.suite.jobs, len(os.sched_getaffinity(0))))


def _run(made: Plan, folder: Path, cells: list, jobs: int, rerun_stale: bool) -> bool:
    from vmc import bench
    from vmc.signals import StopFlag

    stop = StopFlag()
    stop.install()
    n = len(cells)
    console.note(f"{folder}: {n} cells, {jobs} at a time")

    def tell(point: Any, what: str, detail: str) -> None:
        first = detail.partition("\n")[0]
        console.note(f"{point.name}: {what}{f' ({first})' if first else ''}")

    return bench.run(
        made,
        folder,
        cells,
        jobs=jobs,
        rerun_stale=rerun_stale,
        stop=stop,
        tell=tell,
    )


def _finish(
    output: console.Output,
    made: Plan,
    folder: Path,
    varbench: Path | None,
    json: bool,
) -> int:
    """Tables, report, rows of VarBench; the exit code."""
    from vmc import bench

    suite, results = bench.write_tables(made, folder)
    report = [str(path) for path in bench.report(folder)]
    if json:
        output.json({"suite": suite, "results": results, "report": report})
    else:
        from vmc.cli.bench_output import show

        show(output, suite, results)
    for path in report:
        console.note(f"report: {path}")
    stale = [r for r in results if r["status"] == "stale"]
    if stale:
        names = ", ".join(f"{r['problem']}/{r['ansatz']}" for r in stale[:3])
        console.note(
            f"{len(stale)} stale results were not used ({names}, ...): run them again "
            "with --rerun-stale"
        )
    if varbench is not None:
        _write_varbench(varbench, made.problems, results)
    bad = any(r["status"] == "failed" for r in results)
    return console.FAILED if bad else console.OK


def _write_varbench(path: Path, problems: Any, results: Any) -> None:
    from vmc.bench_varbench import markdown
    from vmc.sweep import write_text

    write_text(path, markdown(problems, results))
    console.note(f"rows of VarBench: {path}")


@app.command()
def report(folder: Folder, varbench: Varbench = None, json: Json = False) -> None:
    """Write the report of a suite folder again, from its tables."""
    with console.command() as output:
        set_threads(None)
        from vmc import bench

        paths = [str(path) for path in bench.report(folder)]
        if varbench is not None:
            suite, results = bench.read(folder)
            _write_varbench(varbench, bench.problems_of(suite), results)
        if json:
            output.json({"report": paths})
            return
        for path in paths:
            output.text(path)


@app.command()
def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="The folder to compare with.")
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="The one in question.")],
    factor: Annotated[
        float, typer.Option(min=1.0, help="Slower than this is a regression.")
    ] = 1.3,
    sigmas: Annotated[
        float, typer.Option(min=0.0, help="Joint standard errors of an energy.")
    ] = 3.0,
    json: Json = False,
) -> None:
    """What became worse from A to B, beyond noise; exit code 1 if anything did."""
    with console.command() as output:
        set_threads(None)
        from vmc import bench
        from vmc.bench_compare import compare as compared

        old, new = bench.read(first)[1], bench.read(second)[1]
        found = compared(old, new, factor=factor, sigmas=sigmas)
        if not found["rows"]:
            raise JobError(f"{first} and {second} have no cell in common")
        if json:
            output.json(found)
        else:
            from vmc.cli.bench_output import show_comparison

            show_comparison(output, found)
        if found["regressions"]:
            raise typer.Exit(console.FAILED)


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Problems that a suite may name, with their references."""
    with console.command() as output:
        set_threads(None)
        from vmc.bench_problems import problems

        table = problems()
        if json:
            output.json({label: p.model_dump() for label, p in table.items()})
            return
        rows = []
        for label, p in table.items():
            known = p.reference
            rows.append(
                (
                    label,
                    str(p.n_sites),
                    "" if known is None else f"{known.energy:.10g}",
                    "" if known is None else f"{known.uncertainty:.1g}",
                    "" if known is None else known.kind,
                    p.varbench or "",
                    ", ".join(p.tags),
                )
            )
        head = ("problem", "N", "energy", "+-", "kind", "VarBench", "groups")
        output.table(head, rows)


@app.command(hidden=True)
def cell(
    spec: Annotated[Path, typer.Argument(metavar="CELL.json", show_default=False)],
    began: Annotated[float | None, typer.Option(hidden=True)] = None,
    cores: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """One cell, in this process; `vmc bench` starts it."""
    import os
    import time

    began = time.time() if began is None else began
    if cores:
        # Before NumPy and JAX start their threads.
        os.sched_setaffinity(0, {int(n) for n in cores.split(",")})
    with console.command():
        from vmc.signals import StopFlag

        stop = StopFlag()
        stop.install()
        table = _specification(spec)
        set_threads(table["job"].get("sampler", {}).get("n_samples"))
        start_jax()
        stop.install()

        from vmc.bench_cell import SPEC, run_cell

        folder = spec.with_name(spec.name.removesuffix(f".{SPEC}"))
        result = run_cell(table, folder, began=began, stop=stop)
        if result.status == "stopped":
            raise typer.Exit(console.STOPPED)


def _specification(path: Path) -> dict[str, Any]:
    """What a cell has to know; nothing may import JAX yet."""
    import json

    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["format"] != "vmc-bench-spec":
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, TypeError):
        raise JobError(f"{path} is no specification of a cell") from None
    return table
