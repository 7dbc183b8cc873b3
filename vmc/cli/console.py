"""What every command shares: errors to exit codes, output to the right stream.

Standard output carries the result and nothing else, so that ``--json`` can be piped;
progress, warnings and errors go to standard error.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer

from vmc.errors import CheckpointError, JobError, NumericalError
from vmc.launch import Launch, launch

OK = 0
FAILED = 1
BAD_INPUT = 2
NUMERICAL = 3
STOPPED = 75


class Output:
    """The result of a command, written once at its end."""

    def __init__(self, stream: Any) -> None:
        """Args: stream: the real standard output."""
        self._stream = stream

    def json(self, value: Mapping[str, Any]) -> None:
        """One JSON object."""
        print(json.dumps(value, indent=2, allow_nan=False), file=self._stream)

    def text(self, text: str = "") -> None:
        """A line."""
        print(text, file=self._stream)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and values, in two columns."""
        rows = list(rows)
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self.text(f"{name:<{width}}  {value}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns of texts, numbers to the right."""
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            cells = (f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
            self.text("  ".join(cells).rstrip())


@contextlib.contextmanager
def command(*, by_all: bool = False) -> Iterator[Output]:
    """Body of a command: known errors become a message and an exit code.

    Whatever prints to standard output meanwhile (a user's own file, say) is sent to
    standard error.

    Args:
        by_all: the ranks of a parallel job work together; other commands are done by
            the first rank alone.
    """
    try:
        where = launch()
    except JobError as error:
        complain(str(error))
        raise typer.Exit(BAD_INPUT) from None
    if where.is_parallel:
        if not by_all and not where.is_first:
            raise typer.Exit(OK)
        if by_all:
            with together(where) as output:
                yield output
            return
    output = Output(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield output
    except _KNOWN as error:
        complain(str(error))
        raise typer.Exit(_code(error)) from None
    except BrokenPipeError:
        raise typer.Exit(OK) from None


_KNOWN = (JobError, CheckpointError, NumericalError)


def _code(error: Exception) -> int:
    return NUMERICAL if isinstance(error, NumericalError) else BAD_INPUT


@contextlib.contextmanager
def together(where: Launch) -> Iterator[Output]:
    """Body of a command that all ranks carry out.

    Only the first rank writes to standard output, which libraries do not reach.  No
    rank leaves before the others, unless something went wrong: then all end.
    """
    from vmc import cluster

    with silent_stdout() as stream:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield Output(stream if where.is_first else io.StringIO())
            code = OK
        except typer.Exit as end:
            code = end.exit_code
        except BrokenPipeError:
            code = OK
        except _KNOWN as error:
            cluster.give_up(f"error: {error}", _code(error))
        except BaseException as error:
            lines = traceback.format_exception(error)
            cluster.give_up("".join(lines).rstrip(), FAILED)
        stream.flush()
        cluster.finish()
    raise typer.Exit(code)


@contextlib.contextmanager
def silent_stdout() -> Iterator[Any]:
    """The real standard output as a stream, while file descriptor 1 is standard error.

    Libraries in C++ (the collectives of JAX) print to it.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(real, "w") as stream:
            yield stream
    finally:
        os.dup2(2, 1)


def complain(message: str) -> None:
    """An error, to standard error."""
    print(f"error: {message}", file=sys.stderr)


def warn(messages: Iterable[str]) -> None:
    """Warnings, to standard error, once for all ranks."""
    for message in messages:
        note(f"warning: {message}")


def note(message: str) -> None:
    """A line for people, to standard error, once for all ranks."""
    if launch().is_first:
        # It may go to a file on a full disk, which must not end a run.
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr, flush=True)


def with_error(value: float, error: float) -> str:
    """A number with its error in the last digits: -1.27324(12)."""
    import math

    if not (math.isfinite(error) and math.isfinite(value)):
        return f"{value:.8g}"
    if error <= 1e-13 * abs(value):  # a full sum: nothing but rounding
        return f"{value:.10g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    if digits > 0 and round(error * 10**digits) >= 100:
        digits -= 1
    return f"{value:.{digits}f}({round(error * 10**digits)})"
