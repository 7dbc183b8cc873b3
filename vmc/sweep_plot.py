"""A sweep as a picture; needs the extra "plots"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmc.errors import JobError
from vmc.sweep import SIZE
from vmc.sweep_grid import labels, slug
from vmc.sweep_table import Row, grouped


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


def draw(
    path: Path,
    means: Sequence[Row],
    keys: Sequence[str],
    *,
    first: str | None = None,
    fits: Sequence[Row] = (),
) -> None:
    """Energies per site with error bars as a PNG file, one line per other key.

    Args:
        path: of the picture.
        means: see `vmc.sweep_table.averages`.
        keys: of the grid.
        first: key of the horizontal axis; default the first one with numbers.
        fits: see `vmc.sweep_fit.extrapolate`; the axis is then 1 / N^power.

    Raises:
        JobError: matplotlib is not installed, nothing is done yet, or the picture
            cannot be written.
    """
    require()
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    if not means:
        raise JobError("--plot: no point of the sweep is done yet")
    keys = [key for key in keys if key in means[0]]
    axis = SIZE if fits else _axis(means, keys, first)
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    others = [key for key in keys if key != axis]
    names = labels(keys)
    for number, group in enumerate(grouped(means, others)):
        x, ticks = _positions(group, axis)
        if fits:
            x = np.array([1 / one["n_sites"] ** fits[number]["power"] for one in group])
            _line(axes, fits[number], x)
        text = ", ".join(f"{names[k]} = {slug(group[0][k])}" for k in others)
        y = [one["energy_per_site"] for one in group]
        errors = [one["error_per_site"] or 0.0 for one in group]
        style = "o" if fits else "o-"
        axes.errorbar(x, y, errors, fmt=style, ms=4, capsize=2, label=text or None)
        if ticks and not fits:
            axes.set_xticks(x, ticks)
    axes.set_xlabel(_power(fits[0]["power"]) if fits else names.get(axis, ""))
    axes.set_ylabel("energy per site")
    if others and axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None


def _axis(means: Sequence[Row], keys: Sequence[str], first: str | None) -> str:
    """Key of the horizontal axis: a number that takes several values, if any."""

    def spread(key: str) -> bool:
        found = [one[key] for one in means]
        numbers = all(type(v) in (int, float) for v in found) or key == SIZE
        return numbers and len(grouped(means, [key])) > 1

    if first in keys:
        return str(first)
    return next((k for k in keys if spread(k)), keys[0] if keys else "")


def _positions(group: Sequence[Row], axis: str) -> tuple[np.ndarray, list[str]]:
    """Places on the axis, and texts for those that are no numbers."""
    values: list[Any] = [one.get(axis) for one in group]
    if axis == SIZE:
        return np.array([one["n_sites"] for one in group], float), []
    if all(type(v) in (int, float) for v in values):
        return np.array(values, float), []
    return np.arange(len(values), dtype=float), [
        "" if v is None else slug(v) for v in values
    ]


def _power(power: float) -> str:
    return "1 / N" if power == 1 else f"1 / N^{power:g}"


def _line(axes: Any, fit: Row, x: np.ndarray) -> None:
    ends = np.array([0.0, x.max()])
    axes.plot(ends, fit["e_inf"] + fit["slope"] * ends, "k-", lw=0.7)
    axes.errorbar(
        [0.0], [fit["e_inf"]], [fit["e_inf_error"]], fmt="ks", ms=4, capsize=2
    )
