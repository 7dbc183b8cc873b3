"""One cell of a benchmark suite, in a process of its own.

The cell is an ordinary run in an ordinary run directory; what is added is the budget,
and ``result.json`` at its end.  A budget of seconds ends the optimisation, never the
final measurement with frozen parameters, which comes after it and is timed apart.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vmc import bench_ansatze, bench_pace, registry, runs
from vmc.assembly import Built, build
from vmc.bench_problems import Problem
from vmc.bench_results import (
    empty,
    finite,
    machine,
    peak_memory_mib,
    thinned,
    time_to,
    versions,
    with_energy,
)
from vmc.errors import JobError, StopRun
from vmc.job import Job
from vmc.provenance import now
from vmc.session import Info, Result, Session
from vmc.signals import StopFlag
from vmc.sweep import write_text

SPEC, RESULT, JOB = "cell.json", "result.json", "job.toml"


def spec_path(folder: Path) -> Path:
    """Where the specification of a cell lies: beside its run directory."""
    return folder.with_name(f"{folder.name}.{SPEC}")


@dataclasses.dataclass
class Clock:
    """When things happened, in seconds since the process began.

    Attributes:
        began: `time.time` at which the process was started.
        apart: seconds that are not charged to the cell (the trial of the pace).
        budget: seconds up to the final measurement, or None.
    """

    began: float
    apart: float = 0.0
    budget: float | None = None
    earlier: float = 0.0
    first: float | None = None
    first_seconds: float = 0.0
    first_steps: int = 0
    steps_end: float | None = None
    end: float | None = None

    def now(self) -> float:
        """Seconds of this cell, those of earlier processes included."""
        return self.earlier + time.time() - self.began - self.apart

    def look(self, info: Info) -> None:
        """Called by the session after every dispatch.

        Raises:
            StopRun: the budget is spent; the session goes on to its measurement.
        """
        if info.phase == "done":
            self.end = self.now()
        elif info.phase == "steps":
            self.steps_end = self.now()
            if self.first is None:
                self.first_seconds = float(np.sum(info.records["seconds"]))
                self.first_steps = len(info.records["seconds"])
                self.first = self.steps_end - self.first_seconds
            if self.budget is not None and self.steps_end >= self.budget:
                raise StopRun


def run_cell(
    spec: Mapping[str, Any], folder: Path, *, began: float, stop: StopFlag
) -> Result:
    """Run or resume a cell; write its result if it is done.

    Args:
        spec: of the cell, see `vmc.bench_suite.Cell.spec`.
        folder: its run directory.
        began: `time.time` at which the process was started.
        stop: flag that asks for a stop; then the run is saved, and no result written.

    Raises:
        JobError: the job cannot run as written.
        NumericalError: a number was not finite.
    """
    problem = Problem(**spec["problem"])
    extras = spec["extras"]
    budget = extras["budget"] or {}
    clock = Clock(began, budget=budget.get("seconds"))
    if (folder / "run.h5").exists():
        session = _resumed(folder, clock, stop)
    else:
        session = _started(spec, folder, clock, stop)
    session.callback = clock.look
    result = session.run()
    if result.status == "done":
        table = _result(spec, problem, result, clock)
        text = result.built.job.to_toml()
        write_text(folder / JOB, f"# Every key of this run.\n{text}")
        write_text(folder / RESULT, json.dumps(table, allow_nan=False) + "\n")
    return result


def _started(
    spec: Mapping[str, Any], folder: Path, clock: Clock, stop: StopFlag
) -> Session:
    job = Job.from_dict(spec["job"], folder=folder.parent, source=str(folder))
    extras = spec["extras"]
    startup = clock.now()
    apart = time.monotonic()
    if extras["parameters"] is not None:
        job = sized(job, extras["parameters"])
    n_steps = bench_pace.steps_of(job, extras["budget"], folder.parent, startup)
    clock.apart = time.monotonic() - apart
    if n_steps is not None:
        job = job.replace({"run": {"n_steps": n_steps}})
    if extras["entropy"]:
        names = [*job.measure.observables, *_entropies(extras["entropy"])]
        job = job.replace({"measure": {"observables": names}})
    return runs.start(job, out=folder, stop=stop)


def _resumed(folder: Path, clock: Clock, stop: StopFlag) -> Session:
    """Go on from the newest checkpoint; with a spent budget, only measure."""
    saved = runs.newest(folder)[0]
    earlier = float(saved.provenance.get("elapsed", 0.0)) if saved else 0.0
    clock.earlier = earlier
    keys: dict[str, Any] = {}
    if saved and clock.budget is not None and earlier >= clock.budget:
        keys["n_steps"] = int(saved.step)
    return runs.resume(folder, stop=stop, **keys)


def sized(job: Job, wanted: int) -> Job:
    """The job with its ansatz sized to about so many parameters.

    Raises:
        JobError: the family has no key for its size.
    """
    assert job.ansatz is not None
    name = job.ansatz.name
    step = bench_ansatze.size_key(name)[1]

    def of_size(size: int) -> Job:
        return job.replace({"ansatz": bench_ansatze.sized_keys(name, size)})

    def count(size: int) -> int:
        return build(of_size(size)).vmc.n_parameters

    return of_size(bench_ansatze.choose_size(count, wanted, step))


# ---- the result ----------------------------------------------------------------------


def _result(
    spec: Mapping[str, Any], problem: Problem, run: Result, clock: Clock
) -> dict[str, Any]:
    result = empty(problem, spec["ansatz"], spec["seed"], "done")
    end = clock.end or clock.now()
    # Resumed for the measurement alone: the steps ended before.
    steps_end = clock.earlier if clock.steps_end is None else clock.steps_end
    result["seconds"] = end
    result["optimise_seconds"] = steps_end
    result["measure_seconds"] = end - steps_end
    result = with_energy(result, run.report, problem)
    result |= _speeds(run, clock, result)
    exact = (result["reference"] or {}).get("energy")
    times, series = accepted(run.series, step_times(run.series["seconds"], steps_end))
    result["time_to"] = time_to(times, series["energy"], series["error"], exact)
    result["series"] = thinned(times, series, exact)
    result["entropy"] = entropies(run.built, run.report, spec["extras"]["entropy"])
    if spec["extras"]["profile"]:
        result["parts"] = _parts(run)
    job = {k: v for k, v in run.built.job.to_dict().items()}
    job.get("run", {}).pop("out", None)
    result |= {
        "job": job,
        "versions": versions(),
        "machine": machine(run.built.vmc._mesh.size),
        "date": now(),
        "fingerprint": spec["fingerprint"],
    }
    return finite(result)


def step_times(seconds: np.ndarray, end: float) -> np.ndarray:
    """When each step ended, from its duration and the end of the last one.

    Args:
        seconds: (steps,), wall time of each step, compilation in the first ones.
        end: when the last step ended.
    """
    total = np.cumsum(seconds)
    return end - (total[-1] - total) if len(total) else total


def accepted(
    series: Mapping[str, np.ndarray], times: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The steps that were not rejected; the energies of the others mean nothing.

    Args:
        series: per-step columns, each (steps,).
        times: (steps,), when each step ended.
    """
    good = np.asarray(series.get("rejected", np.zeros(len(times)))) == 0
    return times[good], {k: series[k][good] for k in ("step", "energy", "error")}


def _speeds(
    run: Result, clock: Clock, result: Mapping[str, Any]
) -> dict[str, float | int | None]:
    """Times of the parts of a process, and rates."""
    seconds = run.series["seconds"]
    warm = seconds[clock.first_steps :] if clock.earlier == 0 else seconds
    per_step = float(np.median(warm if len(warm) else seconds)) if len(seconds) else 0.0
    compile_seconds = max(0.0, clock.first_seconds - clock.first_steps * per_step)
    n_samples = run.built.job.sampler.n_samples
    ess, measuring = result["ess"], result["measure_seconds"]
    return {
        "seconds_per_step": per_step or None,
        "compile_seconds": compile_seconds if clock.first is not None else None,
        "samples_per_second": n_samples / per_step if n_samples and per_step else None,
        "ess_per_second": ess / measuring if ess and measuring else None,
        "peak_memory_mib": peak_memory_mib(),
    }


def _parts(run: Result) -> dict[str, float] | None:
    """Milliseconds of each part of a step, timed alone after the run.

    None for a step that cannot be timed in parts; the cell's log says why.
    """
    from vmc.profile import profile

    try:
        table = profile(run.built, run.state, n_steps=5)
    except JobError as error:
        print(f"no times of the parts of a step: {error}", file=sys.stderr)
        return None
    return {row["name"]: row["ms"] for row in table["parts"]}


# ---- entanglement --------------------------------------------------------------------


def _entropies(blocks: list[int]) -> list[str]:
    return [f"renyi2:{_region(n)}" for n in blocks]


def _region(n: int) -> str:
    return "0" if n == 1 else f"0-{n - 1}"


def entropies(
    built: Built, report: Mapping[str, Any], blocks: list[int]
) -> list[dict[str, Any]]:
    """Measured Renyi-2 entropies of blocks beside what the ansatz can carry.

    Args:
        built: the objects of the run.
        report: of the run, with the observables of `_entropies`.
        blocks: numbers of sites, from site 0 on.
    """
    found = []
    for n, name in zip(blocks, _entropies(blocks), strict=True):
        table = report.get("observables", {}).get(name, {})
        row = {key: (table.get(key) or [None])[0] for key in ("mean", "error")}
        found.append(
            {
                "sites": n,
                "capacity": capacity(built, n),
                "required": None,
                "measured": row["mean"],
                "measured_error": row["error"],
                "order": 2,
            }
        )
    return found


def capacity(built: Built, n: int) -> float | None:
    """Largest entropy of the first n sites that generic parameters reach, in nats."""
    assert built.job.ansatz is not None
    name = built.job.ansatz.name
    if not isinstance(name, str) or name not in registry.ansatze():
        return None
    capacity_of = built.wavefunction.capacity
    if capacity_of is None:
        return None
    try:
        return float(capacity_of(tuple(range(n))).ln_predicted)
    except JobError:
        return None
