"""Runs on disk: open one, continue it, or start a new one."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vmc import checkpoint, cluster, grow, observables_run, provenance, runlog
from vmc.assembly import Built, build
from vmc.base import VMCState, WaveFunction
from vmc.changes import changed_job, differences
from vmc.errors import CheckpointError, JobError
from vmc.job import Job
from vmc.penalties import own
from vmc.session import Info, Result, Session
from vmc.signals import StopFlag


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run directory; what needs the model is built when it is first asked for.

    Attributes:
        file: what the run file holds.
    """

    file: runlog.RunFile

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.file.folder

    @property
    def status(self) -> str:
        """running, stopped, failed, done; or damaged."""
        return self.file.status

    @property
    def series(self) -> dict[str, np.ndarray]:
        """Per-step columns, each (steps,)."""
        return self.file.series

    @property
    def report(self) -> dict[str, Any] | None:
        """The final report, or None."""
        return self.file.result

    @functools.cached_property
    def job(self) -> Job:
        """The resolved job."""
        return Job.from_dict(
            self.file.job, folder=self.file.job_folder, source=f"{self.folder}: job"
        )

    @functools.cached_property
    def built(self) -> Built:
        """All objects of the job, built again, with the sizes of `state`."""
        if not self.job.run.grow:
            return build(self.job)
        saved = newest(self.folder)[0]
        return build(grow.at_step(self.job, saved.step if saved else 0))

    @property
    def wavefunction(self) -> WaveFunction:
        """psi, in the sign gauge of the Hamiltonian."""
        return self.built.wavefunction

    @property
    def hamiltonian(self) -> Any:
        """The Hamiltonian in its sector and sign gauge."""
        return self.built.hamiltonian

    @functools.cached_property
    def state(self) -> VMCState:
        """State of the newest checkpoint that can be read.

        Raises:
            CheckpointError: there is none.
        """
        return restore(self.folder, self.built)[0]

    @property
    def params(self) -> Any:
        """Parameters of the newest checkpoint."""
        return self.state.params

    @property
    def chains(self) -> np.ndarray:
        """Walkers of the newest checkpoint, int8 (n_chains, N).

        With replicas, (n_chains, replicas, N).
        """
        return np.asarray(own(self.state.chains))


def newest(folder: Path) -> tuple[checkpoint.Saved | None, list[str]]:
    """The newest checkpoint that can be read, or None, and why others cannot."""
    problems = []
    for path in checkpoint.paths(folder):
        try:
            return checkpoint.peek(path), problems
        except CheckpointError as error:
            problems.append(f"\n  {error}")
    return None, problems


def restore(folder: Path, built: Built) -> tuple[VMCState, checkpoint.Saved]:
    """State and surroundings of the newest checkpoint that can be read.

    Args:
        folder: the run directory.
        built: the objects of the job; the state has the sizes of its own step.

    Raises:
        CheckpointError: there is none, or it belongs to another model.
    """
    saved, problems = newest(folder)
    if saved is None:
        raise CheckpointError(
            f"{folder} has no checkpoint to continue from{''.join(problems)}"
        )
    vmc = built.at(saved.step).vmc
    state = checkpoint.load(saved.path, vmc.shapes())
    return vmc.completed(state), saved


def load(folder: str | Path) -> Run:
    """Open a run directory, finished or not.

    Raises:
        CheckpointError: there is no run, or nothing of it can be read.
    """
    return Run(runlog.read(folder))


def iterate(
    job: Job | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    callback: Callable[[Info], None] | None = None,
) -> Iterator[Info]:
    """Run a job and look at it after every dispatch.

    Args:
        job: a job, its sections as a dictionary, or the path of a job file.
        out: run directory; without it (and without ``run.out``) no file is written.
        callback: called with every `Info`; it may raise StopRun, and the run goes to
            its final measurement.

    Yields:
        An `Info` per dispatch; the last one has a ``result``.  Leaving the loop
        before saves the run as stopped.

    Raises:
        JobError: the job cannot run as written.
        NumericalError: a number was not finite; the last good state is saved.
    """
    job = as_job(job)
    out = job.run.out if out is None else out
    if out is not None:
        cluster.on_first(lambda: runlog.refuse_existing(Path(out)))
    session = start(job, out=out, keep=out is not None)
    session.callback = callback
    yield from session


def start(
    job: Job,
    *,
    out: str | Path | None = None,
    keep: bool = True,
    stop: StopFlag | None = None,
) -> Session:
    """A new run, on all processes of the job.

    Args:
        job: the job.
        out: run directory; None chooses a free name below ``runs``.
        keep: False writes no file.
        stop: flag that asks for a stop.

    Raises:
        JobError: the job cannot run as written, or the ranks do not agree on it.
    """
    cluster.refuse_unjoined()
    check_same(job)
    built = build(job)
    # What cannot be measured or used is refused before there is a run.
    observables_run.plan(built, job.measure.observables)
    built.start_from()
    cluster.check_same({"files": json.dumps(provenance.file_hashes(built.files))})
    if not keep:
        return Session(built, stop=stop)
    folder, log = open_log(
        lambda: start_log(built, runlog.make_folder(out, job.stem)),
    )
    return Session(built, log=log, folder=folder, stop=stop)


def check_same(job: Job) -> None:
    """Refuse ranks that start from other jobs or versions; see `vmc.cluster`."""
    versions = {"nqs-vmc": provenance.version(), **provenance.packages()}
    cluster.check_same({"job files": job.to_toml(), "versions": json.dumps(versions)})


def open_log(
    make: Callable[[], runlog.RunLog],
) -> tuple[Path, runlog.RunLog | None]:
    """The run directory, everywhere, and its log on the first process."""
    made: list[runlog.RunLog] = []

    def first() -> str:
        made.append(make())
        return str(made[0].folder)

    folder = Path(cluster.on_first(first))
    return folder, made[0] if made else None


def start_log(built: Built, folder: Path) -> runlog.RunLog:
    """The run file of a new run, with its provenance."""
    where = provenance.collect(
        seed=built.job.seed,
        job_folder=built.job.folder,
        files=built.files,
        n_devices=built.vmc._mesh.size,
    )
    where |= {"n_sites": built.n_sites, "n_parameters": built.vmc.n_parameters}
    return runlog.RunLog.create(folder, built.job, where)


def run(
    job: Job | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    callback: Callable[[Info], None] | None = None,
) -> Result:
    """Run a job to its end; see `iterate`."""
    result = None
    for info in iterate(job, out=out, callback=callback):
        result = info.result
    assert result is not None
    return result


def as_job(job: Job | Mapping[str, Any] | str | Path) -> Job:
    """A job from whatever describes one."""
    if isinstance(job, Job):
        return job
    if isinstance(job, Mapping):
        return Job(**job)
    return Job.load(job)


#: Seconds after which a run that writes nothing is not running any more.
QUIET = 30


def resume(
    folder: str | Path,
    *,
    stop: StopFlag | None = None,
    more_steps: int = 0,
    overrides: Sequence[str] = (),
    **keys: Any,
) -> Session:
    """Continue a run from its newest checkpoint, bit for bit.

    The series is cut back to the checkpoint's step, and the run file is written
    anew from the checkpoint's copy.  Whatever changes goes into the provenance.  A
    run that was lost before its first checkpoint begins again.

    Args:
        folder: the run directory.
        stop: flag that asks for a stop.
        more_steps: steps beyond those of the job; schedules stretch to the new end.
        overrides: "section.key=value" for what may change, see `vmc.changes`.
        keys: keys of [run] to change, as ``max_time="1:00:00"``.

    Returns:
        The session; iterate over it, or call ``run()``.

    Raises:
        CheckpointError: there is nothing to continue from.
        JobError: a key may not change.
    """
    cluster.refuse_unjoined()
    old = load(folder)
    job = changed_job(old.job, overrides, keys)
    if more_steps:
        job = job.replace({"run": {"n_steps": old.job.run.n_steps + more_steps}})
    check_same(job)
    if not checkpoint.paths(old.folder):
        return _begin_again(old, job, stop)
    state, saved = restore(old.folder, old.built)
    built = build(job)
    observables_run.plan(built, job.measure.observables)
    state = with_optimizer_of(built, state)
    changed = differences(old.job, job)
    event = {"event": "resumed", "at": provenance.now(), "step": saved.step}
    event |= {"changed": changed} if changed else {}
    where = saved.provenance | {"trail": [*saved.provenance["trail"], event]}

    def again() -> runlog.RunLog:
        set_aside(old.folder, saved)
        return runlog.RunLog.rewrite(old.folder, built.job, where, saved.series)

    folder, log = open_log(again)
    session = Session(
        built, log=log, state=state, stop=stop, folder=folder, series=saved.series
    )
    session.warnings += provenance.changed_files(where, built.files)
    return session


def _begin_again(old: Run, job: Job, stop: StopFlag | None) -> Session:
    """A run that was lost before its first checkpoint, from step 0.

    Raises:
        JobError: it seems to be running.
    """
    path = old.folder / runlog.FILE
    age = time.time() - path.stat().st_mtime
    if cluster.on_first(lambda: old.status == "running" and age < QUIET):
        raise JobError(
            f"{old.folder} has no checkpoint yet, and was written {age:.0f} s ago: if "
            f"it is running elsewhere, let it; if not, try again in {QUIET} s"
        )
    built = build(job)
    observables_run.plan(built, job.measure.observables)
    built.start_from()

    def again() -> runlog.RunLog:
        path.rename(path.with_name(path.name + ".lost"))
        return start_log(built, old.folder)

    folder, log = open_log(again)
    session = Session(built, log=log, stop=stop, folder=folder)
    lost = f"{runlog.FILE}.lost has what it had logged"
    session.warnings += [
        f"there is no checkpoint: the run begins again at step 0 ({lost})",
        *provenance.changed_files(old.file.provenance, built.files),
    ]
    return session


def with_optimizer_of(built: Built, state: VMCState) -> VMCState:
    """The state with what another optimiser needs, whose schedules go on."""
    wanted = jax.eval_shape(built.vmc.optimizer.init, state.params)
    if jax.tree.structure(wanted) == jax.tree.structure(state.opt_state):
        return state
    return built.at(int(state.step)).with_new_optimizer(state)


def set_aside(folder: Path, saved: checkpoint.Saved) -> None:
    """Rename checkpoints that are newer than the one in use: they are damaged."""
    for path in checkpoint.paths(folder):
        if path == saved.path:
            return
        path.rename(path.with_name(path.name + ".damaged"))
