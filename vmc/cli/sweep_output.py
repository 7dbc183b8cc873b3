"""The results of a sweep: tables for people, CSV and a picture on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmc.cli import console
from vmc.sweep import Sweep
from vmc.sweep_fit import doubts, extrapolate
from vmc.sweep_grid import labels, slug
from vmc.sweep_table import averages, collect, write_csv


def show_results(
    output: console.Output,
    made: Sweep,
    *,
    json: bool,
    power: float | None,
    plot: bool,
) -> None:
    """Tables on paper and on disk; ``power`` asks for an extrapolation."""
    keys = list(made.grid)
    rows = collect(made)
    means = averages(rows, keys)
    write_csv(made.folder / "table.csv", rows)
    write_csv(made.folder / "averages.csv", means)
    fits: list[dict[str, Any]] = []
    if power is not None:
        fits = extrapolate(means, keys, power)
        write_csv(made.folder / "extrapolation.csv", fits)
        console.warn(doubts(fits))
    if plot:
        from vmc.sweep_plot import draw

        draw(made.folder / "table.png", means, keys, first=made.chain, fits=fits)
    failed = [r for r in rows if r["message"]]
    for one in failed:
        first = one["message"].partition("\n")[0]
        console.note(f"{one['point']} {one['status']}: {first}")
    if failed:
        console.note(f"what they said is in {made.folder / 'logs'}")
    if json:
        tables = {"rows": rows, "averages": means, "extrapolation": fits}
        output.json({"sweep": str(made.folder), **tables})
        return
    _print_rows(output, rows, keys)
    if any(m["n_runs"] > 1 for m in means):
        output.text()
        _print_means(output, means, keys)
    if fits:
        output.text()
        _print_fits(output, fits, keys)


def _print_rows(
    output: console.Output, rows: Sequence[Mapping], keys: Sequence[str]
) -> None:
    head, cells = _keys(rows, keys)
    head += ["seed", "status", "energy", "per site", "variance", "V-score"]
    head += ["relative error", "seconds"]
    for one, cell in zip(rows, cells, strict=True):
        cell += [str(one["seed"]), one["status"], _pair(one["energy"], one["error"])]
        cell.append(_text(one["energy_per_site"], ".9g"))
        cell.append(_text(one["variance"], ".4g"))
        cell.append(_text(one["v_score"], ".2e"))
        cell.append(_text(one["relative_error"], "+.2e"))
        cell.append(_text(one["seconds"], ".0f"))
    output.table(head, cells)


def _print_means(
    output: console.Output, means: Sequence[Mapping], keys: Sequence[str]
) -> None:
    head, cells = _keys(means, keys)
    disorder = means[0]["n_disorder"] is not None
    head += ["runs"] + ["samples"] * disorder + ["mean energy", "per site"]
    for one, cell in zip(means, cells, strict=True):
        cell.append(str(one["n_runs"]))
        cell += [str(one["n_disorder"])] * disorder
        cell.append(_pair(one["energy"], one["error"]))
        cell.append(_pair(one["energy_per_site"], one["error_per_site"]))
    output.table(head, cells)


def _print_fits(
    output: console.Output, fits: Sequence[Mapping], keys: Sequence[str]
) -> None:
    head, cells = _keys(fits, keys)
    head += ["e_inf", "a", "power", "sizes", "chi^2/dof"]
    for fit, cell in zip(fits, cells, strict=True):
        cell.append(_pair(fit["e_inf"], fit["e_inf_error"]))
        cell.append(_pair(fit["slope"], fit["slope_error"]))
        cell += [f"{fit['power']:g}", ",".join(map(str, fit["sizes"]))]
        cell.append(_text(fit["chi2_per_dof"], ".3g"))
    output.table(head, cells)


def _keys(
    rows: Sequence[Mapping], keys: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the keys that a table has."""
    names = labels(keys)
    kept = [key for key in keys if rows and key in rows[0]]
    return [names[k] for k in kept], [[slug(one[k]) for k in kept] for one in rows]


def _pair(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.9g}" if error is None else console.with_error(value, error)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
