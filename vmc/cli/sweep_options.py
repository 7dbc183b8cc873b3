"""Arguments and options of ``vmc sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

#: What Slurm calls the number of an array's task.
ARRAY = "SLURM_ARRAY_TASK_ID"

Target: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="JOB.toml|SWEEP",
        help="A job file; or the folder of a sweep, to go on with it.",
        show_default=False,
    ),
]
Grids: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        metavar="SECTION.KEY=VALUES",
        help="START:STOP:STEP with the end included, or VALUE,VALUE,...; may be "
        "repeated for all combinations.",
    ),
]
Seeds: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="N seeds per point, from the job's on."),
]
Chain: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SECTION.KEY",
        help="Every point starts from its neighbour's parameters along this key.",
    ),
]
Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Of the sweep; default sweeps/JOB."),
]
Jobs: TypeAlias = Annotated[int, typer.Option(min=1, help="Runs side by side.")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="List the points, write nothing.")
]
Prepare: TypeAlias = Annotated[
    bool, typer.Option("--prepare", help="Write the folder, run nothing.")
]
Task: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Run point N only, in this process."),
]
Array: TypeAlias = Annotated[
    bool, typer.Option("--array", help=f"The same with N from {ARRAY}.")
]
Table: TypeAlias = Annotated[
    bool, typer.Option("--table", help="Collect the results, run nothing.")
]
Extrapolate: TypeAlias = Annotated[
    bool, typer.Option("--extrapolate", help="Fit E/N = e + a / N^p over lattice.size.")
]
Power: TypeAlias = Annotated[
    float, typer.Option(metavar="P", help="p of --extrapolate.")
]
Plot: TypeAlias = Annotated[bool, typer.Option("--plot", help="Draw SWEEP/table.png.")]
