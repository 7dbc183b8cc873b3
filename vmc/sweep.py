"""A sweep: one job at many points of a grid, in one folder.

``sweep.json`` holds the base job and the list of points; every point is a run
directory beside it.  Points keep their numbers for ever, so that the tasks of a batch
array may count on them; new points come after the old ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import apply_overrides, to_toml
from vmc.sweep_grid import product, text_of

FORMAT = "vmc-sweep"
SCHEMA = 1
FILE = "sweep.json"
JOB = "job.toml"
LOGS = "logs"

DISORDER = "hamiltonian.disorder_seed"
SIZE = "lattice.size"

_HEADER = (
    f"# The base job of this sweep, written from {FILE}: changes here are undone.\n"
)


@dataclasses.dataclass(frozen=True)
class Point:
    """One job of a sweep.

    Attributes:
        number: its place in the list, from 0.
        name: of its run directory.
        values: of the grid keys.
        seed: of the job.
        overrides: what is changed in the base job, "section.key=value".
        after: name of the point that it starts from, in a chain; or None.
    """

    number: int
    name: str
    values: dict[str, Any]
    seed: int
    overrides: tuple[str, ...]
    after: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """A base job and its points.

    Attributes:
        folder: of the sweep, absolute.
        job: the base job as tables; its paths are absolute.
        grid: key -> values, in the order of the options.
        seeds: of the jobs.
        chain: key along which points start from their neighbours, or None.
        points: all points, by number.
    """

    folder: Path
    job: dict[str, Any]
    grid: dict[str, list[Any]]
    seeds: list[int]
    chain: str | None
    points: tuple[Point, ...]

    def point(self, name: str) -> Point:
        """The point of a name."""
        return next(p for p in self.points if p.name == name)

    def folder_of(self, point: Point) -> Path:
        """Run directory of a point."""
        return self.folder / point.name

    def overrides_of(self, point: Point) -> list[str]:
        """What a point changes in the base job, with the folders of this sweep."""
        changes = [*point.overrides, f"run.out={_quoted(self.folder_of(point))}"]
        if point.after is not None:
            start = self.folder / point.after
            changes.append(f"run.start_from={_quoted(start)}")
        return changes

    def job_of(self, point: Point) -> Job:
        """The job of a point.

        Raises:
            JobError: the schema refuses it.
        """
        tables = apply_overrides(self.job, self.overrides_of(point))
        return Job.from_dict(tables, folder=self.folder, source=point.name)

    def in_order(self) -> list[Point]:
        """The points in the order of the grid, also those that were added later."""
        ranks = {name: n for n, (name, *_) in enumerate(product(self.grid, self.seeds))}
        return sorted(self.points, key=lambda point: ranks[point.name])


def _quoted(path: Path) -> str:
    return json.dumps(str(path))


# ---- on disk ---------------------------------------------------------------------


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (folder / FILE).is_file()


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole.

    Raises:
        JobError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None


def save(sweep: Sweep) -> None:
    """Write the sweep file and the base job, and make room for logs.

    Raises:
        JobError: the folder cannot be written.
    """
    points = [
        {
            "name": p.name,
            "values": p.values,
            "seed": p.seed,
            "overrides": list(p.overrides),
            "after": p.after,
        }
        for p in sweep.points
    ]
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        "job": to_toml(sweep.job),
        "grid": sweep.grid,
        "seeds": sweep.seeds,
        "chain": sweep.chain,
        "points": points,
    }
    write_text(sweep.folder / FILE, json.dumps(content, indent=1) + "\n")


def write_job(sweep: Sweep) -> Path:
    """The base job as a file, from which `vmc run` starts the points."""
    path, text = sweep.folder / JOB, _HEADER + to_toml(sweep.job)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def load(folder: Path) -> Sweep:
    """Read a sweep.

    Raises:
        JobError: there is none, or its file is damaged or too new.
    """
    path = folder / FILE
    if not path.is_file():
        what = f"has no {FILE}"
        if (folder / "run.h5").exists():
            what += f"; it is one run (`vmc show {folder}`)"
        raise JobError(f"{folder} is not the folder of a sweep: it {what}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        if content["schema"] > SCHEMA:
            raise JobError(
                f"{path} has schema {content['schema']}, newer than {SCHEMA}, the "
                "newest that this version reads: upgrade nqs-vmc"
            )
        points = tuple(
            Point(n, **(entry | {"overrides": tuple(entry["overrides"])}))
            for n, entry in enumerate(content["points"])
        )
        return Sweep(
            folder=folder.resolve(),
            job=tomllib.loads(content["job"]),
            grid=content["grid"],
            seeds=content["seeds"],
            chain=content["chain"],
            points=points,
        )
    except JobError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"{path} is damaged or no sweep file ({error!r})") from None


def merge(old: Sweep, new: Sweep) -> Sweep:
    """A sweep with the points of another one after its own.

    Raises:
        JobError: the other one has another job or lacks points; it says which.
    """
    problems = _differences(old, new)
    if problems:
        raise JobError(
            f"{old.folder} holds another sweep than this one:"
            + "".join(f"\n  {text}" for text in problems)
            + f"\nGo on with it by `vmc sweep {old.folder}`; for this one choose "
            "another folder with --out. Only points may be added."
        )
    known = {p.name for p in old.points}
    added = [p for p in new.points if p.name not in known]
    first = len(old.points)
    points = [dataclasses.replace(p, number=first + n) for n, p in enumerate(added)]
    return dataclasses.replace(new, points=(*old.points, *points))


def _differences(old: Sweep, new: Sweep) -> list[str]:
    problems = []
    # Defaults of keys that an older version did not know are filled in.
    before = Job.from_dict(old.job, folder=old.folder, source=str(old.folder))
    a, b = _flat(before.to_dict()), _flat(new.job)
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) != b.get(key):
            there, here = (text_of(x[key]) if key in x else "not set" for x in (a, b))
            problems.append(f"{key} is {there} there, {here} here")
    if list(old.grid) != list(new.grid):
        keys = (", ".join(x.grid) or "no key" for x in (old, new))
        problems.append("the grid is over {} there, {} here".format(*keys))
    elif old.chain != new.chain:
        problems.append(f"the chain is {old.chain} there, {new.chain} here")
    else:
        points = {p.name: p for p in new.points}
        lost = [p.name for p in old.points if p.name not in points]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            problems.append(f"it has the points {'; '.join(lost[:3])}{more}")
        problems += [
            f"{p.name} starts from {p.after or 'its own start'} there, "
            f"{points[p.name].after or 'its own start'} here (add values of a chain "
            "at its end)"
            for p in old.points
            if p.name in points and points[p.name].after != p.after
        ]
    return problems


def _flat(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{before}{key}.")
        else:
            found[before + key] = value
    return found
