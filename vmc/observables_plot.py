"""Observables of a run as a picture; needs the extra "plots"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vmc.errors import JobError
from vmc.sweep_plot import require

#: Columns of a result, as `vmc.observables_run.Results` has them.
Columns = Mapping[str, Any]


def draw(path: Path, observables: Mapping[str, Columns]) -> None:
    """Correlations by distance, S(q), entropies by size: one panel each, as a PNG.

    Args:
        path: of the picture.
        observables: of the report; tables without such an axis are left out.

    Raises:
        JobError: matplotlib is not installed, nothing can be drawn, or the picture
            cannot be written.
    """
    require()
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    panels = [(name, kind) for name, c in observables.items() if (kind := _kind(c))]
    if not panels:
        raise JobError(
            "--plot: the run has no correlations, structure factors or entropies to "
            "draw; measure them, as [measure] observables = "
            '["correlations", "structure_factor", "renyi2:blocks"]'
        )
    n_columns = min(len(panels), 2)
    n_rows = -(-len(panels) // n_columns)
    size = (5.5 * n_columns, 4.0 * n_rows)
    figure = Figure(figsize=size, layout="constrained")
    for number, (name, kind) in enumerate(panels):
        axes = figure.add_subplot(n_rows, n_columns, number + 1)
        _PANELS[kind](axes, observables[name])
        axes.set_title(name, fontsize="medium")
    try:
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None


def _kind(columns: Columns) -> str | None:
    """Which panel shows a table, or None."""
    if "region" in columns:
        return "entropy"
    if "distance" in columns:
        return "distance"
    if "q" in columns and len(columns["q"]) > 1:
        return "plane" if len(columns["q"][0]) == 2 else "line"
    return None


def _numbers(values: list[Any]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], float)


def _by_distance(axes: Any, columns: Columns) -> None:
    distance = _numbers(columns["distance"])
    mean, error = _numbers(columns["mean"]), _numbers(columns["error"])
    components = columns["component"]
    for number, component in enumerate(dict.fromkeys(components)):
        # The same site is a number of its own scale.
        keep = (np.array(components) == component) & (distance > 0)
        if keep.any():
            style = {"fmt": "os^Dv"[number % 5], "ms": 4, "capsize": 2}
            axes.errorbar(
                distance[keep], mean[keep], error[keep], label=component, **style
            )
    axes.axhline(0, color="grey", lw=0.7)
    axes.set_xlabel("distance")
    axes.set_ylabel("correlation")
    axes.legend(fontsize="small")


def _on_line(axes: Any, columns: Columns) -> None:
    """S(q) of one direction (or along the first, in three dimensions)."""
    q = np.array([row[0] for row in columns["q"]], float)
    mean, error = _numbers(columns["mean"]), _numbers(columns["error"])
    order = np.argsort(q, kind="stable")
    axes.errorbar(
        q[order] / np.pi, mean[order], error[order], fmt="o-", ms=4, capsize=2
    )
    axes.set_xlabel(r"$q / \pi$")
    axes.set_ylabel("S(q)")


def _on_plane(axes: Any, columns: Columns) -> None:
    """S(q) over the Brillouin zone, the value as colour and area."""
    q = np.array(columns["q"], float)
    mean = _numbers(columns["mean"])
    top = np.nanmax(np.abs(mean))
    area = 20 + 200 * np.abs(mean) / (top if top > 0 else 1)
    points = axes.scatter(*(q.T / np.pi), s=area, c=mean, cmap="viridis")
    axes.figure.colorbar(points, ax=axes, label="S(q)")
    axes.set_aspect("equal")
    axes.set_xlabel(r"$q_x / \pi$")
    axes.set_ylabel(r"$q_y / \pi$")


def _entropies(axes: Any, columns: Columns) -> None:
    size = _numbers(columns["size"])
    mean, error = _numbers(columns["mean"]), _numbers(columns["error"])
    bound = _numbers(columns["lower_bound"])
    found = np.isfinite(mean)
    axes.errorbar(size[found], mean[found], error[found], fmt="o-", ms=4, capsize=2)
    axes.plot(size[~found], bound[~found], "^", color="grey", label="lower bound")
    axes.set_xlabel("sites of the region")
    axes.set_ylabel(r"$S_2$ (nats)")
    if not found.all():
        axes.legend(fontsize="small")


_PANELS = {
    "distance": _by_distance,
    "line": _on_line,
    "plane": _on_plane,
    "entropy": _entropies,
}
