"""From the options of a sweep to its points, every one of them checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vmc import factories, registry
from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import suggest
from vmc.sweep import Point, Sweep
from vmc.sweep_grid import parse, product, text_of

#: Keys that hold a path relative to the job file.
_PATHS = (("hamiltonian", "terms"), ("sampler", "proposal"), ("run", "start_from"))


def plan(
    job: Job,
    grids: Sequence[str],
    *,
    folder: Path,
    n_seeds: int | None = None,
    chain: str | None = None,
) -> Sweep:
    """A new sweep; nothing is written.

    Args:
        job: the base job; its ``run.out`` is left aside.
        grids: "section.key=values", see `vmc.sweep_grid.parse`; all combinations.
        folder: of the sweep.
        n_seeds: seeds job.seed, job.seed + 1, ...; default one, or a grid of ``seed``.
        chain: key along which every point starts from its neighbour.

    Raises:
        JobError: the grid is bad, or the job of a point is refused.
    """
    grid = _grid_of(grids, n_seeds)
    if not grid and n_seeds is None:
        raise JobError(
            "there is nothing to sweep: give --grid section.key=VALUES or --seeds N"
        )
    seeds = grid.pop("seed", None) or [job.seed + n for n in range(n_seeds or 1)]
    if chain is not None and len(grid.get(chain, ())) < 2:
        raise JobError(
            f"--chain {chain}: expected a key of the grid with several values"
            f"{suggest(chain, grid)}"
        )
    if chain is not None and "run.start_from" in grid:
        raise JobError("--chain sets run.start_from: leave it out of the grid")
    base = absolute(job.replace({"run": {"out": None}}).to_dict(), job.folder)
    points = [
        Point(n, name, values, seed, _overrides(values, seed, job.folder), after)
        for n, (name, values, seed, after) in enumerate(product(grid, seeds, chain))
    ]
    _check_names(points)
    made = Sweep(folder.resolve(), base, grid, seeds, chain, tuple(points))
    for point in points:
        _check(made, point)
    return made


def _grid_of(grids: Sequence[str], n_seeds: int | None) -> dict[str, list[Any]]:
    grid: dict[str, list[Any]] = {}
    for text in grids:
        key, values = parse(text)
        if key in grid:
            raise JobError(f"--grid {text}: {key} has a grid already; give it once")
        if key == "run.out":
            raise JobError(f"--grid {text}: every point has its own folder already")
        grid[key] = values
    if "seed" in grid and n_seeds is not None:
        raise JobError("give the seeds either by --seeds or by --grid seed=..., once")
    return grid


def _overrides(values: Mapping[str, Any], seed: int, folder: Path) -> tuple[str, ...]:
    changes = []
    for key, value in values.items():
        section, _, rest = key.partition(".")
        if rest and isinstance(value, str):
            value = absolute({section: {rest: value}}, folder)[section][rest]
        changes.append(f"{key}={text_of(value)}")
    return (*changes, f"seed={text_of(seed)}")


def absolute(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Tables of a job whose paths do not depend on where the job file lies.

    Args:
        tables: sections of a job.
        folder: where its relative paths start.
    """
    result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in tables.items()}
    for section in ("lattice", "hamiltonian", "ansatz"):
        name = result.get(section, {}).get("name")
        if isinstance(name, str) and ".py:" in name:
            path = factories.user_file(name, folder)
            result[section]["name"] = f"{path}:{name.rpartition(':')[2]}"
    for section, key in _PATHS:
        path = result.get(section, {}).get(key)
        if isinstance(path, str):
            result[section][key] = str((folder / path).resolve())
    if states := result.get("run", {}).get("orthogonal_to"):
        result["run"]["orthogonal_to"] = [str((folder / p).resolve()) for p in states]
    return result


def _check_names(points: Sequence[Point]) -> None:
    """Refuse two points in one folder, also where case does not count."""
    seen: dict[str, Point] = {}
    for point in points:
        other = seen.setdefault(point.name.lower(), point)
        if other is not point:
            raise JobError(
                f"two points of the grid would share the folder {point.name}: "
                f"{', '.join(other.overrides)} and {', '.join(point.overrides)}"
            )


def _check(sweep: Sweep, point: Point) -> None:
    """Refuse a point that `vmc run` would refuse for its keys."""
    try:
        check_job(sweep.job_of(point))
    except JobError as error:
        text = str(error).removeprefix(f"{point.name}: ")
        raise JobError(f"the point {point.name} cannot run: {text}") from None


def check_job(job: Job) -> None:
    """Refuse a job that `vmc run` would refuse for its names and keys.

    Raises:
        JobError: it says which.
    """
    if job.ansatz is None:
        raise JobError("the job has no [ansatz]: nothing can run")
    _check_keys("lattice", registry.lattices(), job.lattice, job.folder)
    if job.hamiltonian.terms is None:
        _check_keys("hamiltonian", registry.models(), job.hamiltonian, job.folder)
    _check_keys("ansatz", registry.ansatze(), job.ansatz, job.folder)


#: Parameters of the factories that do not come from the keys of their section.
_FILLED = {"lattice": ("size", "periodic"), "hamiltonian": ("lattice",)}


def _check_keys(kind: str, table: Mapping[str, Any], section: Any, at: Path) -> None:
    """The keys of a section against the signature of what it names."""
    if section is None:
        return
    factory = factories.find(kind, table, section.name, at)
    if kind != "ansatz":
        filled = _FILLED[kind]
        factories.check_keys(kind, section.name, factory, section.keys, filled=filled)
    elif inspect.isfunction(factory) or not factories.is_user_code(section.name):
        registry.check_ansatz_keys(section.name, factory, section.keys)
