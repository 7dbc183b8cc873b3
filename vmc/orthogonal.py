"""The states that a job wants its psi to be orthogonal to, from earlier runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vmc import sampling
from vmc.base import WaveFunction
from vmc.earlier import Earlier, check_space, open_run
from vmc.errors import JobError
from vmc.job import Job
from vmc.penalties import Penalty
from vmc.sections import Symmetry
from vmc.system import System

#: The automatic penalty, in units of the mean |off-diagonal element|.
STRENGTH = 4.0


def strength(job: Job, hamiltonian: Any) -> float | None:
    """The penalty of a job as a number; None where there is nothing to penalise.

    Raises:
        JobError: the Hamiltonian has no off-diagonal elements to measure it with.
    """
    wanted = job.run.penalty
    if not job.run.orthogonal_to or wanted is not None:
        return wanted
    scale = float(hamiltonian.mean_offdiagonal)
    if scale == 0:
        raise JobError(
            "[run] penalty is 4 x the mean |off-diagonal element| by default, and the "
            "Hamiltonian has none; give a number above the gap, as penalty = 2.0"
        )
    return STRENGTH * scale


class States(NamedTuple):
    """The states of [run] orthogonal_to.

    Attributes:
        penalties: one for each.
        warnings: what a user should know before running.
        files: that they are from.
    """

    penalties: tuple[Penalty, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def states(
    job: Job, system: System, wavefunction: WaveFunction, n_devices: int
) -> States:
    """What the earlier runs of a job are to its psi.

    Args:
        job: the job, whose [sampler] and penalty are resolved.
        system: its Hamiltonian; its own job still has what was left to choose.
        wavefunction: psi.
        n_devices: devices that share the walkers.

    Raises:
        JobError: a run cannot be used, is named twice, or has another space.
    """
    if not job.run.orthogonal_to:
        return States()
    made: list[Penalty] = []
    files: list[Path] = []
    warnings = _of_psi(system.job, wavefunction)
    for reference in job.run.orthogonal_to:
        path = (job.folder / reference).resolve()
        if job.run.out is not None and Path(job.run.out).resolve() == path:
            raise JobError(
                f"[run] orthogonal_to: {reference!r} is the folder of this run itself; "
                "name an earlier run, or another `out`"
            )
        if path / "run.h5" in files:
            raise JobError(f"[run] orthogonal_to names the run {path} twice")
        earlier = open_run(reference, job.folder)
        _check(earlier, system)
        warnings += _of_run(reference, earlier, job, system)
        made.append(_penalty(reference, earlier, job, system, n_devices))
        files.append(path / "run.h5")
    return States(tuple(made), tuple(warnings), tuple(files))


def _check(earlier: Earlier, system: System) -> None:
    """Refuse a run on another space or in another sector."""
    check_space(earlier, system.hamiltonian.space)
    ours, theirs = system.hamiltonian.space, earlier.system.hamiltonian.space
    if ours != theirs:
        labels = [x.label or "all configurations" for x in (theirs, ours)]
        raise JobError(
            f"[run] orthogonal_to: the space of {earlier.folder} is that of "
            f"{labels[0]}, of this job that of {labels[1]}. Run both with the same "
            "hamiltonian.total_sz and charges; states of different sectors are "
            "orthogonal anyway, and need no penalty"
        )


def _penalty(
    name: str, earlier: Earlier, job: Job, system: System, n_devices: int
) -> Penalty:
    """A state with a sampler of as many chains and draws as that of psi."""
    numbers = {"n_chains": job.sampler.n_chains, "n_samples": job.sampler.n_samples}
    keys = earlier.job.sampler.model_dump() | numbers
    if job.sampler.name == "full":
        keys |= {"name": "full", "proposal": None, "replicas": 1}
        keys |= {"global_flip": False, "surrogate_moves": 0}
    elif earlier.job.sampler.name in ("full", "independent"):
        keys |= {"name": "auto", "proposal": None}
    parts = (earlier.system.hamiltonian, earlier.wavefunction, earlier.system.lattice)
    theirs = earlier.job.replace({"sampler": keys})
    resolved = sampling.resolved(theirs, *parts, n_devices)
    theirs = theirs.replace({"sampler": resolved})
    signs = _signs(system) * _signs(earlier.system)
    direct = theirs.sampler.name in ("direct", "full")
    assert job.run.penalty is not None
    return Penalty(
        name=name,
        hamiltonian=earlier.system.hamiltonian,
        wavefunction=earlier.wavefunction,
        params=jax.tree.map(np.asarray, earlier.params),
        sampler=sampling.build(theirs, *parts, n_devices),
        strength=float(job.run.penalty),
        signs=None if np.all(signs == 1) else signs,
        burn_in=0 if direct else job.sampler.burn_in,
    )


def _signs(system: System) -> np.ndarray:
    signs = system.hamiltonian.signs
    return np.ones(system.n_sites, int) if signs is None else np.asarray(signs, int)


def _of_psi(job: Job, wavefunction: WaveFunction) -> list[str]:
    """Warnings about what was chosen for psi, and about a positive one."""
    assert job.ansatz is not None
    texts, chosen = [], []
    if job.ansatz.dtype == "auto":
        chosen.append('ansatz.dtype = "complex"')
    if job.ansatz.symmetry == "auto":
        chosen.append('ansatz.symmetry = "none"')
    if chosen:
        texts.append(
            f"orthogonal_to: an excited state has nodes, hence {' and '.join(chosen)}"
        )
    if wavefunction.range == "positive":
        texts.append(
            "orthogonal_to: this psi is positive, and cannot be orthogonal to another "
            'positive state; use ansatz.dtype = "complex"'
        )
    return texts


def _of_run(reference: str, earlier: Earlier, job: Job, system: System) -> list[str]:
    """Warnings about another operator, other quantum numbers, or a bad start."""
    texts = []
    start = job.run.start_from
    if start is not None and (job.folder / start).resolve() == earlier.folder:
        texts.append(
            f"orthogonal_to: the run also starts from {reference!r}, the very state "
            "that it is to leave, where the penalised energy is stationary: start from "
            "another run, or from random parameters"
        )
    if earlier.system.operator != system.operator:
        texts.append(
            f"orthogonal_to: the run {reference!r} is of another Hamiltonian (its "
            "couplings or terms differ): its state is no eigenstate here, and the "
            "penalised energy has no excited state as its minimum"
        )
    assert job.ansatz is not None and earlier.job.ansatz is not None
    ours, theirs = job.ansatz.symmetry, earlier.job.ansatz.symmetry
    if isinstance(ours, Symmetry) and isinstance(theirs, Symmetry):
        mine, its = ours.model_dump(exclude_none=True), theirs.model_dump()
        other = [k for k, v in mine.items() if its[k] is not None and its[k] != v]
        if other:
            texts.append(
                f"orthogonal_to: psi and the run {reference!r} differ in "
                f"{', '.join(other)}, so they are orthogonal by symmetry: the penalty "
                "does nothing but add noise"
            )
    return texts
