"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

JobFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="JOB.toml", help="The job file.", show_default=False)
]
RunFolder: TypeAlias = Annotated[
    Path, typer.Argument(metavar="RUN", help="The run directory.", show_default=False)
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override a key of the job; may be repeated.",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to standard output.")
]
MaxTime: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help='Stop, save and exit with 75 before this: seconds, "HH:MM:SS" or '
        '"D-HH:MM:SS".',
    ),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress.")]
