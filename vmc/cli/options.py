"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from vmc.errors import JobError

JobFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="JOB.toml", help="The job file.", show_default=False)
]
RunFolder: TypeAlias = Annotated[
    Path, typer.Argument(metavar="RUN", help="The run directory.", show_default=False)
]
JobOrRun: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="JOB.toml|RUN",
        help="The job file, or a run directory: its newest checkpoint.",
        show_default=False,
    ),
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
Memory: TypeAlias = Annotated[
    float, typer.Option(metavar="GIB", min=0.0, help="Limit of the memory, GiB.")
]


def numbers(option: str, text: str) -> list[int]:
    """Integers of an option such as "0,3"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise JobError(f'{option} {text!r}: expected integers, as "0,3"') from None


def sites(option: str, text: str) -> list[int]:
    """Sites of an option such as "0-3,7"."""
    listed: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdigit() or (dash and not last.strip().isdigit()):
            raise JobError(f'{option} {text!r}: expected sites, as "0-7" or "0,2,4"')
        listed += range(int(first), int(last if dash else first) + 1)
    return listed
