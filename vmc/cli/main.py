"""Entry point of the command ``vmc``.

Nothing heavy is imported here: a command imports what it needs when it runs, after
its environment is set, so that help and refusals of bad input come at once.
"""

from __future__ import annotations

import typer

from vmc.cli.bench import app as bench
from vmc.cli.check import check
from vmc.cli.design import design
from vmc.cli.ed import ed
from vmc.cli.environment import collect_rarely
from vmc.cli.listing import listing
from vmc.cli.measure import measure
from vmc.cli.profile import profile
from vmc.cli.resume import resume
from vmc.cli.run import run
from vmc.cli.show import show
from vmc.cli.sweep import sweep

app = typer.Typer(
    name="vmc",
    help="Variational Monte Carlo with neural quantum states.",
    epilog="Exit codes: 0 done, 1 a point of a sweep or cell of a suite failed, 2 bad "
    "input, 3 numerical failure, 75 stopped, saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(resume)
app.command()(check)
app.command()(ed)
app.command()(design)
app.command()(show)
app.command()(measure)
app.command()(profile)
app.command()(sweep)
app.add_typer(bench, name="bench")
app.command(name="list")(listing)


def main() -> None:
    """Run the command line."""
    collect_rarely()
    app()
