"""``vmc profile``: where the time of a step goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobOrRun, Json, Overrides

HEAD = ("part", "ms", "median", "share", "GFLOP", "GFLOP/s", "of limit")
HEAD += ("GB/s", "of limit", "exp, log, ...")
#: Parts of the start of a run, in the order in which they are printed.
START = {"init": "parameters and burn-in", "first_step": "first step"}
START |= {"compile": "of it compiling"}


def profile(
    job: JobOrRun,
    set_: Overrides = None,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps that are timed.")
    ] = 20,
    json: Json = False,
) -> None:
    """Print where a step's time goes, and how close it is to the machine's limits.

    Changes nothing on disk.
    """
    with console.command(by_all=True) as output:
        load = _load_run if job.is_dir() else _load_job
        built, state = load(job, set_ or [])

        from vmc.profile import profile as measure

        found = measure(built, state, n_steps=steps)
        if json:
            output.json(found)
            return
        console.warn(found["warnings"])
        print_profile(output, found)


def _load_job(path: Path, overrides: list[str]) -> tuple[Any, Any]:
    """Objects of a job file, and None for a new state."""
    from vmc.job import Job

    loaded = Job.load(path, overrides)
    set_threads(loaded.sampler.n_samples)
    start_jax(by_all=True)

    from vmc import runs
    from vmc.assembly import build

    runs.check_same(loaded)
    return build(loaded), None


def _load_run(folder: Path, overrides: list[str]) -> tuple[Any, Any]:
    """Objects of a run, and the state of its newest checkpoint."""
    from vmc import runlog
    from vmc.errors import JobError

    if overrides:
        raise JobError(
            f"--set changes a job file, and {folder} is a run: give the job file, or "
            "leave out --set"
        )
    file = runlog.read(folder)
    set_threads(None, file.provenance.get("openblas_threads"))
    start_jax(by_all=True)

    from vmc import runs

    run = runs.load(folder)
    return run.built, run.state


def print_profile(output: console.Output, found: dict[str, Any]) -> None:
    """The table of `vmc.profile.profile`, and what surrounds it."""
    form = f", {found['form']} form" if found["form"] else ""
    devices = f"{found['n_devices']} x {found['device']}"
    output.text(
        f"{found['n_sites']} sites, {found['n_parameters']} parameters, "
        f"{found['n_samples']} samples, {found['optimizer']}{form}, "
        f"{found['precision']}, {devices}, from step {found['at_step']}"
    )
    rows = [_row(part["name"], part, part["element"]) for part in found["parts"]]
    blank = ("",) * (len(HEAD) - 4)
    rows += [
        (name, _ms(found[key]["ms"]), "", _percent(found[key]["share"]), *blank)
        for name, key in (("host", "host"), ("sum of parts", "sum"))
    ]
    rows.append(_row("whole step", found["step"] | {"share": 1.0}, ""))
    output.table(HEAD, rows)
    for part in [*found["parts"], found["step"]]:
        for reason in part["unknown"]:
            output.text(f"{part.get('name', 'whole step')}: unknown, {reason}")
    limits = found["limits"]
    rates = [
        f"{dtype} {_number(one['real'])} GFLOP/s, complex {_number(one['complex'])}"
        for dtype, one in limits["products"].items()
    ]
    memory = found["memory"]
    peaks = [
        (n, memory[k]) for n, k in (("RSS", "peak_rss"), ("device", "peak_device"))
    ]
    start = (f"{name} {found['start'][key]:.2f} s" for key, name in START.items())
    output.pairs(
        [
            ("limits", "; ".join(rates)),
            ("", f"triad {_number(limits['triad_gb_per_s'])} GB/s (GB: lower bound)"),
            ("start", ", ".join(start)),
            ("peak", ", ".join(f"{n} {x / 2**20:.0f} MiB" for n, x in peaks if x)),
        ]
    )


def _row(name: str, part: dict[str, Any], element: str) -> tuple[str, ...]:
    times = (_ms(part["ms"]), _ms(part["median_ms"]), _percent(part["share"]))
    if part["unknown"]:
        return (name, *times, "unknown", "", "", "", "", "unknown")
    each = part.get("transcendentals_per_element", part["transcendentals"])
    return (
        name,
        *times,
        _number(part["gflop"]),
        _number(part["gflop_per_s"]),
        _percent(part["product_fraction"]),
        _number(part["gb_per_s"]),
        _percent(part["triad_fraction"]),
        f"{_number(each)} per {element}" if element else _number(each),
    )


def _ms(x: float) -> str:
    return f"{x:.2f}" if x < 100 else f"{x:.0f}"


def _number(x: float) -> str:
    return f"{x:.3g}" if x < 1000 else f"{x:.4g}"


def _percent(x: float) -> str:
    return f"{100 * x:.0f} %" if x >= 0.095 else f"{100 * x:.1f} %"
