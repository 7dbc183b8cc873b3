"""What became of a run, as a picture; needs the extra "plots"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmc.design_after import After
from vmc.design_after_report import headline
from vmc.design_plot import require
from vmc.errors import JobError


def draw_after(path: Path, found: After) -> None:
    """Entropies needed and realised, and the error with what explains it, as PNG.

    Left: entropies of blocks that the ground state needs and that the state has, and
    ln of the capacity, against the number of sites.  Right: E - E0 beside what no
    parameters go below and what a good optimisation would end at.

    Args:
        path: of the picture.
        found: what became of the run.

    Raises:
        JobError: matplotlib is not installed, or the picture cannot be written.
    """
    require()
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _entropies(left, found)
    _errors(right, found)
    figure.suptitle(f"{found.folder.name}: {headline(found)}", fontsize="medium")
    try:
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None


def _entropies(axes: Any, found: After) -> None:
    rows = [
        (len(cut.region), cut, one, have)
        for cut, one, have in zip(
            found.required.cuts, found.verdicts, found.realised, strict=True
        )
        if cut.kind in ("contiguous", "rectangle", "strip")
    ]
    rows.sort(key=lambda row: row[0])
    points = {
        "S2 needed": ("s", [(n, cut.s2) for n, cut, _, _ in rows]),
        "S2 realised": ("x", [(n, have.s2) for n, _, _, have in rows]),
        "ln capacity": (
            "-",
            [(n, one.capacity and one.capacity.ln_upper) for n, _, one, _ in rows],
        ),
    }
    for name, (mark, pairs) in points.items():
        known = [(n, y) for n, y in pairs if y is not None]
        if known:
            axes.plot(*zip(*known, strict=True), mark, ms=6, label=name)
    axes.set_xlabel("sites in the block")
    axes.set_ylabel("nats")
    axes.legend(fontsize="small")


def _errors(axes: Any, found: After) -> None:
    known = found.evidence
    bars = {
        "this run": known.error,
        "truncation to\nits bonds": known.expected,
        "least at\nits rank": known.fixed_rank,
        "certified\nfloor": known.certified,
    }
    shown = {name: value for name, value in bars.items() if value and value > 0}
    axes.bar(range(len(shown)), list(shown.values()), width=0.6)
    axes.set_xticks(range(len(shown)), list(shown), fontsize="small")
    axes.axhline(known.target, color="grey", ls="--", lw=1, label="target")
    axes.set_yscale("log")
    axes.set_ylabel("E - E0")
    axes.legend(fontsize="small")
