"""A design as a picture; needs the extra "plots"."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vmc.design_result import Block, Design
from vmc.errors import JobError


def require() -> None:
    """Refuse to begin what could not be drawn at the end.

    Raises:
        JobError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise JobError(
            "--plot needs matplotlib: pip install 'nqs-vmc[plots]'"
        ) from None


def draw(path: Path, found: Design) -> None:
    """Entropies and capacities, floors by level, and the tree, as a PNG file.

    Left: entropy of blocks of sites, and ln of the capacity of the architecture and
    of the recommended ones, against the number of sites.  Middle: the largest floor on
    every level of the tree.  Right: the tree, with every block in the colour of its
    utilisation and the bottleneck ringed.

    Args:
        path: of the picture.
        found: the design.

    Raises:
        JobError: matplotlib is not installed, or the picture cannot be written.
    """
    require()
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    figure = Figure(figsize=(14.0, 4.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _entropies(left, found)
    _levels(middle, found)
    _tree(figure, right, found)
    try:
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None


def _entropies(axes: Any, found: Design) -> None:
    """S1, S2 and capacities against the size of a block."""
    kinds = ("contiguous", "rectangle", "strip")
    rows = [
        (len(cut.region), cut, i)
        for i, cut in enumerate(found.required.cuts)
        if cut.kind in kinds
    ]
    rows.sort(key=lambda row: row[0])
    for name, mark in (("s1", "o"), ("s2", "s")):
        points = [(n, value) for n, cut, _ in rows if (value := getattr(cut, name))]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, mark, ms=4, label=f"{name.upper()} needed")
    lines = {f"{found.architecture}": found.verdicts} if found.architecture else {}
    for one in found.candidates[:4]:
        lines.setdefault(f"{one.family} (recommended)", one.verdicts)
    for name, verdicts in lines.items():
        held = {n: verdicts[i].capacity for n, _, i in rows}
        points = [(n, one.ln_upper) for n, one in held.items() if one is not None]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "-", lw=1, label=f"ln capacity, {name}")
    axes.set_xlabel("sites in the block")
    axes.set_ylabel("nats")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="x-small")


def _levels(axes: Any, found: Design) -> None:
    """The largest floors of the blocks on every level of the tree."""
    drawn = False
    for name, text in (("free_floor", "free"), ("floor", "in the job's sector")):
        rows = [[getattr(b.verdict, name) for b in level] for level in found.tree]
        points = [(n, max(y)) for n, row in enumerate(rows) if (y := _positive(row))]
        if points:
            x, y = zip(*points, strict=True)
            axes.semilogy(x, y, "o-", ms=4, label=text)
            drawn = True
    if drawn:
        axes.legend(fontsize="x-small")
    else:
        text = "no floor: every block fits,\nor nothing is certain"
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks(range(len(found.tree)))
    axes.set_xlabel("level of the tree (blocks of 2^level sites)")
    axes.set_ylabel("least infidelity 1 - F")


def _positive(values: list[float | None]) -> list[float]:
    return [value for value in values if value]


def _tree(figure: Any, axes: Any, found: Design) -> None:
    """The blocks of the tree over the leaves, coloured by utilisation."""
    from matplotlib import colormaps  # pyright: ignore[reportMissingImports]

    place = {b.region[0]: k for k, b in enumerate(found.tree[0])} if found.tree else {}
    x, y, color, at = [], [], [], {}
    for level, blocks in enumerate(found.tree):
        for block in blocks:
            middle = sum(place[i] for i in block.region) / len(block.region)
            at[block.region] = middle, level
            _edges(axes, found, level, block, at)
            used = block.verdict.utilisation
            x.append(middle)
            y.append(level)
            color.append(math.nan if used is None else used)
    shades = colormaps["viridis"].with_extremes(bad="lightgrey")
    points = axes.scatter(x, y, c=color, cmap=shades, vmin=0, vmax=1, zorder=2)
    figure.colorbar(points, ax=axes, label="utilisation S1 / ln capacity")
    limits = [
        ((b.verdict.free_floor or 0.0, b.verdict.utilisation or 0.0), b.region)
        for level in found.tree
        for b in level
        if b.verdict.capacity is not None and b.verdict.status != "trivial"
    ]
    if limits:
        worst = max(limits)[1]
        axes.plot(*at[worst], "o", ms=14, mfc="none", mec="red", label="bottleneck")
        axes.legend(fontsize="x-small", loc="upper right")
    axes.set_xticks(range(len(place)), [str(i) for i in place], fontsize="x-small")
    axes.set_yticks(range(len(found.tree)))
    axes.set_xlabel("site at the leaf")
    axes.set_ylabel("level")


def _edges(
    axes: Any,
    found: Design,
    level: int,
    block: Block,
    at: dict[tuple[int, ...], tuple[float, int]],
) -> None:
    """Lines from a block to its children."""
    if level == 0:
        return
    inside = set(block.region)
    for child in found.tree[level - 1]:
        if inside.issuperset(child.region):
            (a, b), (c, d) = at[block.region], at[child.region]
            axes.plot([a, c], [b, d], "-", color="grey", lw=0.7, zorder=1)
