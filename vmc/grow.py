"""The schedule [run] grow: which keys of [ansatz] hold at which step.

A job and a step decide which sizes are active, so that a checkpoint needs to say no
more than its step: after ``at`` steps the new keys hold, and every state of that step
or a later one has the new sizes.
"""

from __future__ import annotations

from typing import Any

from vmc import factories, registry
from vmc.base import Problem
from vmc.errors import JobError
from vmc.job import Job


def at_step(job: Job, step: int) -> Job:
    """The job as it is after a number of steps.

    Its [ansatz] has the sizes of that step, and [run] grow what is still to come.

    Args:
        job: a job.
        step: steps done.

    Returns:
        ``job`` itself where nothing has changed.
    """
    done = [growth for growth in job.run.grow if growth.at <= step]
    if not done:
        return job
    keys: dict[str, Any] = {}
    samples: dict[str, Any] = {}
    for growth in done:
        keys |= growth.keys
        samples |= {"n_samples": growth.n_samples} if growth.n_samples else {}
    left = [g.model_dump(exclude_none=True) for g in job.run.grow[len(done) :]]
    return job.replace({"ansatz": keys, "sampler": samples, "run": {"grow": left}})


def next_step(job: Job) -> int:
    """Steps until which the sizes of the job hold: the next change, or its end."""
    return job.run.grow[0].at if job.run.grow else job.run.n_steps


def check(job: Job, problem: Problem) -> None:
    """Refuse a schedule that cannot be followed.  Nothing is compiled.

    Raises:
        JobError: the ansatz is no registered one, a key is unknown or of the wrong
            kind, a size does not grow, or anything else changes.
    """
    if not job.run.grow:
        return
    assert job.ansatz is not None
    name, old = job.ansatz.name, job.ansatz.keys
    _check_samples(job)
    if not any(growth.keys for growth in job.run.grow):
        return
    if factories.is_user_code(name):
        raise JobError(
            f"[run] grow: {name!r} is your own ansatz, whose parameters only you could "
            "enlarge; leave grow out"
        )
    name = str(name)
    factory = factories.find("ansatz", registry.ansatze(), name, job.folder)
    for number, growth in enumerate(job.run.grow):
        where = f"run.grow.{number}.keys"
        new = old | growth.keys
        if not growth.keys:
            continue
        for key in growth.keys:
            if key in ("symmetry", "dtype"):
                raise JobError(f"[{where}] {key} cannot change during a run")
        factories.check_keys(where, name, factory, new, filled=("problem",))
        if registry.ansatz_change(name, problem, old, new) != "grow":
            raise JobError(
                f"[{where}] {growth.keys} does not enlarge {name} with {old}: the "
                "sizes of mps and ttn (bond_dimension), convac (channels), cp (rank), "
                "rac (width) and rbm (alpha) can grow, and nothing else may change"
            )
        old = new


def _check_samples(job: Job) -> None:
    """Refuse numbers of samples that the walkers cannot draw, or a full sum."""
    n_chains = job.sampler.n_chains
    for number, growth in enumerate(job.run.grow):
        if growth.n_samples is None:
            continue
        if job.sampler.name == "full":
            raise JobError(
                f'[run.grow.{number}] n_samples: sampler "full" takes every '
                "configuration; leave it out"
            )
        if n_chains is not None and growth.n_samples % n_chains:
            raise JobError(
                f"[run.grow.{number}] n_samples = {growth.n_samples} is no multiple of "
                f"the {n_chains} walkers"
            )
