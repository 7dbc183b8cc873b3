"""The wave function of a job, and that of an earlier run with its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import jax
import numpy as np
from jax import Array

from vmc import (
    checkpoint,
    distributed,
    factories,
    grow,
    registry,
    runlog,
    sampling,
    symmetry,
)
from vmc.base import Key, Params, Problem, WaveFunction
from vmc.distributed import REPLICATED
from vmc.errors import CheckpointError, JobError
from vmc.fit import fit
from vmc.job import Job
from vmc.keys import Purpose, derive
from vmc.system import System, build_system


def wavefunction_of(job: Job, problem: Problem) -> tuple[WaveFunction, dict[str, Any]]:
    """The wave function, and the keys of [ansatz] with their defaults."""
    section = job.ansatz
    assert section is not None
    reference, keys = section.name, section.keys
    has = native_problem(job, problem)
    if factories.is_user_code(reference):
        found = factories.find("ansatz", {}, reference, job.folder)
        psi = registry.user_wavefunction(reference, found, job.folder, has, keys)
        return registry.projected(psi, problem, has), keys
    factory = factories.find("ansatz", registry.ansatze(), reference, job.folder)
    keys = registry.ansatz_defaults(str(reference), has, keys)
    psi = registry.projected(factory(has, **keys), problem, has)
    return psi, factories.defaults_of(factory) | keys


def native_problem(job: Job, problem: Problem) -> Problem:
    """The problem with the symmetries that the ansatz of a job has by construction.

    What is left of ``problem`` is projected, see `ansatze.symmetrized`.

    Raises:
        JobError: the ansatz is unknown, or a key of it.
    """
    section = job.ansatz
    assert section is not None
    reference, keys = section.name, section.keys
    if factories.is_user_code(reference):
        return registry.without_symmetry(problem)
    factory = factories.find("ansatz", registry.ansatze(), reference, job.folder)
    registry.check_ansatz_keys(reference, factory, keys)
    return registry.native_problem(str(reference), problem, keys)


def projection_cost(job: Job, problem: Problem) -> list[str]:
    """What a projection costs, in words; nothing where there is none."""
    has = native_problem(job, problem)
    n_images = registry.n_images(problem, has)
    if n_images == 1:
        return []
    assert job.ansatz is not None
    return [
        f"[ansatz.symmetry] {job.ansatz.name} does not have these quantum numbers by "
        f"construction: psi is projected on them, and every amplitude costs {n_images} "
        "evaluations"
    ]


#: Samples of an earlier run that another ansatz is fitted to, and sweeps before.
FIT_SAMPLES = 8192
FIT_SWEEPS = 50


class Earlier(NamedTuple):
    """A finished run, as far as another one uses it.

    Attributes:
        folder: its run directory.
        job: its resolved job, with the final sizes of the ansatz.
        system: its lattice and Hamiltonian.
        problem: what its ansatz knows.
        wavefunction: its psi, in its sign gauge.
        params: its last parameters.
    """

    folder: Path
    job: Job
    system: System
    problem: Problem
    wavefunction: WaveFunction
    params: Params


def open_run(reference: str, folder: Path) -> Earlier:
    """Wave function and parameters of a run directory.

    Args:
        reference: path of the run, relative to ``folder``.
        folder: where the job lies.

    Raises:
        JobError: there is no such run, or it has no parameters yet.
    """
    path = (folder / reference).resolve()
    try:
        file = runlog.read(path)
        job = Job.from_dict(file.job, folder=file.job_folder, source=f"{path}: job")
        job = grow.at_step(job, len(file.series.get("step", ())))
        system = build_system(job)
        problem, _ = symmetry.problem(job, system.hamiltonian, system.lattice)
        wavefunction, _ = wavefunction_of(job, problem)
        template = jax.eval_shape(wavefunction.init, jax.random.key(0))
        with h5py.File(path / "run.h5", "r", locking=False) as h5:
            if "parameters" not in h5:
                raise JobError(
                    f"the run {path} has no final parameters: it is still running, or "
                    "was killed. Wait for it, or finish it with `vmc resume`."
                )
            group = h5["parameters"]
            params = checkpoint.read_tree(group, template, str(path))  # pyright: ignore
    except CheckpointError as error:
        raise JobError(f"cannot use the run {reference!r}: {error}") from error
    return Earlier(path, job, system, problem, wavefunction, params)


def _kind(space: Any) -> str:
    dims = " or ".join(str(d) for d in sorted(set(space.local_dims)))
    return f"{space.n_sites} sites of {dims} states each"


def check_space(earlier: Earlier, space: Any) -> None:
    """Refuse a run on another space.

    Raises:
        JobError: sites or local dimensions differ.
    """
    theirs = earlier.system.hamiltonian.space
    if theirs.local_dims != space.local_dims:
        raise JobError(
            f"the run {earlier.folder} has {_kind(theirs)}, this job {_kind(space)}: "
            "its samples do not fit. Only parameters "
            "of the same shapes, as those of a cnn of the same depth, channels and "
            "kernel_size, can start a run on another lattice"
        )


def carries_over(earlier: Earlier, job: Job, wavefunction: WaveFunction) -> bool:
    """Whether parameters mean the same on another lattice, as those of a convolution.

    They do if the same ansatz asks for arrays of the same shapes, and sites have the
    same local states.
    """
    ours, theirs = job.ansatz, earlier.job.ansatz
    assert ours is not None and theirs is not None
    wanted = jax.eval_shape(wavefunction.init, jax.random.key(0))
    return ours.name == theirs.name and _shapes(earlier.params) == _shapes(wanted)


def start_params(
    earlier: Earlier, job: Job, problem: Problem, wavefunction: WaveFunction, key: Key
) -> Params:
    """Parameters that start a wave function near an earlier run's.

    The same ansatz takes the parameters as they are, or grows them (log psi
    unchanged) or truncates them (largest Schmidt values kept) to its sizes.  Another
    one whose norm is known is fitted to samples of the earlier |psi|^2 by maximum
    likelihood; signs and phases are not learnt.

    Args:
        earlier: the earlier run.
        job: the resolved job that starts from it.
        problem: what its ansatz knows.
        wavefunction: its ansatz.
        key: of random numbers.

    Raises:
        JobError: the ansatz is another one, and its norm is not known.
    """
    taken = _taken(earlier, job, problem, wavefunction, key)
    if taken is not None:
        return taken
    return fit(wavefunction, draw(earlier, derive(key, Purpose.DIRECT)), key).params


def _taken(
    earlier: Earlier, job: Job, problem: Problem, wavefunction: WaveFunction, key: Key
) -> Params | None:
    """The earlier parameters in the sizes of now; None: they have to be fitted."""
    wanted = jax.eval_shape(wavefunction.init, jax.random.key(0))
    if _shapes(earlier.params) == _shapes(wanted):
        return earlier.params
    resized = _resized(earlier, job, problem, key)
    if resized is not None:
        return resized
    if wavefunction.exact is None or wavefunction.exact.log_norm is None:
        raise JobError(
            f"[run] start_from: {earlier.folder} has another ansatz (or other sizes) "
            "than this job. Only an ansatz whose norm is known (mps, ttn, convac, cp, "
            "rac of depth 1) can be fitted to it; take one of these, or the same ansatz"
        )
    return None


def check_start(
    earlier: Earlier, job: Job, problem: Problem, wavefunction: WaveFunction, space: Any
) -> None:
    """Refuse a run that a job cannot start from; arguments as in `start_params`.

    Args:
        earlier: the earlier run.
        job: the resolved job.
        problem: what its ansatz knows.
        wavefunction: its ansatz.
        space: its configurations.

    Raises:
        JobError: sites or local dimensions differ, or the ansatz is another one whose
            norm is not known.
    """
    if not carries_over(earlier, job, wavefunction):
        check_space(earlier, space)
    _taken(earlier, job, problem, wavefunction, jax.random.key(0))


def _shapes(params: Params) -> Any:
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), params)


def _resized(earlier: Earlier, job: Job, problem: Problem, key: Key) -> Params | None:
    """Parameters of the same family with other sizes, or None for another one."""
    ours, theirs = job.ansatz, earlier.job.ansatz
    assert ours is not None and theirs is not None
    name, old = ours.name, theirs.keys
    if factories.is_user_code(name) or name != theirs.name:
        return None
    # The order of the sites in a tree, and the images of a filter.
    if problem.shape != earlier.problem.shape or not np.array_equal(
        np.asarray(problem.symmetry), np.asarray(earlier.problem.symmetry)
    ):
        return None
    factory = registry.ansatze()[str(name)]
    has = registry.native_problem(str(name), problem, old)
    before = jax.eval_shape(factory(has, **old).init, jax.random.key(0))
    if _shapes(before) != _shapes(earlier.params):
        return None  # real and complex weights, or biases on one side only
    kind = registry.ansatz_change(str(name), problem, old, ours.keys)
    if kind not in ("grow", "truncate"):
        return None
    return registry.resized_params(
        str(name), problem, old, ours.keys, earlier.params, key
    )


def draw(earlier: Earlier, key: Key, n_samples: int = FIT_SAMPLES) -> np.ndarray:
    """Samples of an earlier run's |psi|^2, int8 (at least n_samples, N)."""
    mesh = distributed.walker_mesh(jax.devices()[:1])
    parts = (earlier.system.hamiltonian, earlier.wavefunction, earlier.system.lattice)
    name = earlier.job.sampler.name
    kept = {"name": "auto"} if name in ("full", "independent") else {}
    numbers = {"n_chains": 1024, "n_samples": 1024 * -(-n_samples // 1024)}
    job = earlier.job.replace({"sampler": kept | numbers})
    job = job.replace({"sampler": sampling.resolved(job, *parts, 1)})
    sampler = sampling.build(job, *parts, 1)

    def run(key: Key, params: Params) -> Array:
        start = sampler.init(derive(key, Purpose.INIT), params)
        burn = sampler.with_draws(FIT_SWEEPS)
        chains = burn.sample(derive(key, Purpose.MEASURE), params, start)[0]
        samples = sampler.sample(key, params, chains)[1]
        return samples.reshape(-1, samples.shape[-1])

    specs = (REPLICATED, REPLICATED)
    program = distributed.compiled(run, mesh, specs, REPLICATED)
    return np.asarray(program(key, earlier.params))
