"""From a job to the objects of a run, with every "auto" decided and recorded.

`vmc.system` makes lattice, operator and Hamiltonian in its sector and sign gauge;
`build` adds wave function, sampler, optimiser and driver.  Nothing is compiled and
nothing runs.  Physics that does not fit is refused here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vmc import (
    distributed,
    grow,
    orthogonal,
    registry,
    resolve,
    sampling,
    spread,
    symmetry,
)
from vmc.base import Problem, Sampler, VMCState, WaveFunction
from vmc.chunking import chunk_size, default_budget
from vmc.distributed import REPLICATED
from vmc.driver import VMC
from vmc.earlier import (
    Earlier,
    check_space,
    check_start,
    open_run,
    projection_cost,
    start_params,
    wavefunction_of,
)
from vmc.errors import JobError
from vmc.healing import counted
from vmc.job import Job
from vmc.keys import Purpose, derive, root_key
from vmc.optimizers import make_optimizer
from vmc.penalties import Penalty
from vmc.sections import Symmetry
from vmc.system import ED_STATES, System, build_system


@dataclasses.dataclass(frozen=True, eq=False)
class Built:
    """Everything of a run.

    Attributes:
        job: the resolved job: building it again gives the same objects.
        system: lattice and Hamiltonian.
        problem: what the ansatz knows.
        wavefunction: psi, in the sign gauge.
        sampler: draws configurations.
        vmc: the driver.
        warnings: what a user should know before running.
        files: the user's own files.
    """

    job: Job
    system: System
    problem: Problem
    wavefunction: WaveFunction
    sampler: Sampler
    vmc: VMC
    warnings: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def n_sites(self) -> int:
        """N."""
        return self.system.n_sites

    @property
    def hamiltonian(self) -> Any:
        """The Hamiltonian in its sector and sign gauge."""
        return self.system.hamiltonian

    @property
    def e_infinity(self) -> float:
        """Mean energy of all configurations of the space, Tr H / dim."""
        return float(self.hamiltonian.mean_energy())

    def exact(self) -> dict[str, Any] | None:
        """Exact energy, {energy, source}, of the subspace that psi lives in; or None.

        A symmetric psi may be confined to a subspace without the ground state, except
        where that is known to be positive, and so to have characters of 1 (in the sign
        gauge): then only diagonalisation in the subspace will do.  There is none for a
        psi that is kept away from other states.
        """
        if self.job.run.orthogonal_to:
            return None
        keys = self.job.ansatz.symmetry if self.job.ansatz else None
        trivial = self.problem.characters is None and self.problem.flip_character == 1
        positive = self.hamiltonian.is_stoquastic and trivial
        if positive or not isinstance(keys, Symmetry):
            return self.system.exact()
        if self.hamiltonian.space.n_states > ED_STATES:
            return None
        numbers = keys.momentum, keys.spin_flip, keys.point_group
        energy = registry.ground_energy_in(
            self.hamiltonian, self.system.lattice, *numbers
        )
        return {"energy": energy, "source": "exact diagonalisation, same symmetry"}

    def start_from(self) -> Earlier | None:
        """The earlier run that the first parameters come from, if the job names one.

        Raises:
            JobError: it cannot be used.
        """
        if self.job.run.start_from is None:
            return None
        earlier = open_run(self.job.run.start_from, self.job.folder)
        space = self.hamiltonian.space
        check_start(earlier, self.job, self.problem, self.wavefunction, space)
        return earlier

    def first_state(self) -> VMCState:
        """The state at step 0, near an earlier run if the job names one.

        The step is compiled meanwhile: the next thing to do is to advance.

        Raises:
            JobError: the earlier run cannot be used.
        """
        earlier = self.start_from()
        self.vmc.prepare(random=earlier is None)
        if earlier is None:
            return self.vmc.init()
        key = derive(root_key(self.job.seed), Purpose.PARAMS)
        mine = (self.job, self.problem, self.wavefunction)
        return self.vmc.init(start_params(earlier, *mine, key))

    def at(self, step: int) -> Built:
        """The objects after a number of steps, see [run] grow; often the same ones."""
        job = grow.at_step(self.job, step)
        return self if job is self.job else build(job, self.vmc._mesh)

    def taken_over(self, before: Built, state: VMCState) -> VMCState:
        """A state with the sizes of these objects: psi, walkers and series go on.

        Args:
            before: the objects that the state belongs to, of smaller sizes.
            state: the state.

        Returns:
            The same step with grown parameters and a new state of the optimiser,
            whose schedules go on.
        """
        old, new = before.job.ansatz, self.job.ansatz
        assert old is not None and new is not None
        if old == new:
            return state  # only the number of samples has changed
        step = int(state.step)
        params = registry.resized_params(
            str(new.name),
            self.problem,
            old.keys,
            new.keys,
            jax.tree.map(np.asarray, state.params),
            derive(root_key(self.job.seed), Purpose.PARAMS, step),
        )

        return self.with_new_optimizer(state._replace(params=params))

    def with_new_optimizer(self, state: VMCState) -> VMCState:
        """The state with a fresh optimiser, whose schedules go on.

        Args:
            state: its parameters may be arrays of the host.
        """

        def start(params: Any) -> tuple[Any, Any]:
            # Computed by every process, which may differ in the last bits.
            params = distributed.from_first(params)
            opt_state = self.vmc.optimizer.init(params)
            return params, counted(opt_state, np.int32(state.step))

        program = distributed.compiled(
            start, self.vmc._mesh, (REPLICATED,), (REPLICATED, REPLICATED)
        )
        params, opt_state = program(state.params)
        state = state._replace(params=params, opt_state=opt_state)
        return self.vmc.trusting(state)

    def memory(self, n_devices: int | None = None) -> dict[str, int]:
        """Estimated bytes of the large arrays on one device.

        Args:
            n_devices: devices that share the samples; default those that are here.
        """
        p, job = self.vmc.n_parameters, self.job
        n_devices = n_devices or self.vmc._mesh.size
        n_all = job.sampler.n_samples or 0
        n_rows = -(-n_all // n_devices)
        word = 4 if job.precision == "float32" else 8
        number = word * (2 if self.wavefunction.range != "positive" else 1)
        natural = job.optimizer.name in ("sr", "spring", "march")
        solve = min(p, n_all) if natural else 0
        memory = {
            "hamiltonian": int(self.hamiltonian.memory_bytes),
            "samples": n_rows * self.n_sites,
            "local energies": (job.run.chunk or n_rows)
            * self.hamiltonian.moves.n_moves
            * number,
            "scores": n_rows * p * number if solve else 0,
            "linear system": 2 * solve**2 * number,
        }
        return memory | {"total": sum(memory.values())}


def build(job: Job, mesh: Mesh | None = None) -> Built:
    """All objects of a run.

    Args:
        job: the job.
        mesh: devices that share the walkers; default those of `vmc.spread.mesh_for`.

    Raises:
        JobError: a name or key is unknown, the physics does not fit, or the ansatz is
            missing.
    """
    if job.ansatz is None:
        raise JobError(
            "the section [ansatz] is missing: name a wave function, as [ansatz] name = "
            '"rbm"'
        )
    _check_precision(job.precision)
    system = build_system(job)
    job, warnings = system.job, list(system.warnings)
    problem, quantum_numbers = symmetry.problem(job, system.hamiltonian, system.lattice)
    wavefunction, ansatz_keys = wavefunction_of(job, problem)
    warnings += projection_cost(job, problem)
    warnings += symmetry.check_range(wavefunction, system.hamiltonian)

    mesh = _mesh(job, system, wavefunction) if mesh is None else mesh
    parts = (system.hamiltonian, wavefunction, system.lattice, mesh.size)
    sampler_keys = sampling.resolved(job, *parts)
    n_local = sampler_keys["n_samples"] // mesh.size
    row = system.hamiltonian.moves.n_moves * (8 if problem.dtype == "real" else 16)
    job = job.replace(
        {
            "ansatz": {
                "symmetry": quantum_numbers,
                "dtype": problem.dtype,
                **ansatz_keys,
            },
            "sampler": sampler_keys,
            "optimizer": resolve.optimizer(job, system.hamiltonian),
            "run": {
                "chunk": job.run.chunk or chunk_size(n_local, row, default_budget()),
                "penalty": orthogonal.strength(job, system.hamiltonian),
            },
        }
    )
    grow.check(job, problem)
    proposal = None
    if job.sampler.proposal is not None:
        run = open_run(job.sampler.proposal, job.folder)
        check_space(run, system.hamiltonian.space)
        proposal = run.wavefunction, run.params
    sampler = sampling.build(job, *parts, proposal)
    others = orthogonal.states(job, system, wavefunction, mesh.size)
    vmc = _driver(job, system, wavefunction, sampler, mesh, others.penalties)
    return Built(
        job=job,
        system=dataclasses.replace(system, job=job),
        problem=problem,
        wavefunction=wavefunction,
        sampler=sampler,
        vmc=vmc,
        warnings=(*warnings, *others.warnings),
        files=(*system.files, *others.files),
    )


def _mesh(job: Job, system: System, wavefunction: WaveFunction) -> Mesh:
    """The devices of a job, see `vmc.spread`."""
    alone = system.hamiltonian, wavefunction, system.lattice, 1
    keys = sampling.resolved(job, *alone)
    shapes = jax.eval_shape(wavefunction.init, root_key(0))
    n_parameters = sum(x.size for x in jax.tree.leaves(shapes))
    solve = min(n_parameters, keys["n_samples"])
    # Parameters with their like in the optimiser, and the linear system of a step.
    copied = 16 * (4 * n_parameters + 2 * solve**2)
    sizes = system.hamiltonian.space.n_sites, keys["n_chains"], keys["n_samples"]
    return spread.mesh_for(wavefunction, *sizes, copied)


def _driver(
    job: Job,
    system: System,
    wavefunction: WaveFunction,
    sampler: Sampler,
    mesh: Any,
    penalties: tuple[Penalty, ...],
) -> VMC:
    keys, n_steps = job.optimizer, job.run.n_steps
    rate = resolve.learning_rate(job, system.hamiltonian)
    optimizer = make_optimizer(
        keys.name,
        learning_rate=rate,
        diag_shift=resolve.schedule_or(keys.diag_shift, n_steps),
        max_kl=keys.max_kl,
        solver=keys.solver,
        n_steps=n_steps,
        momentum=keys.momentum,
        decay=keys.decay,
    )
    return VMC(
        hamiltonian=system.hamiltonian,
        wavefunction=wavefunction,
        sampler=sampler,
        optimizer=optimizer,
        learning_rate=rate,
        seed=job.seed,
        mesh=mesh,
        precision=job.precision,
        steps_per_dispatch=job.run.steps_per_dispatch,
        chunk=job.run.chunk,
        clip=keys.clip,
        penalties=penalties,
        burn_in=0 if job.sampler.name in ("direct", "full") else job.sampler.burn_in,
    )


def _check_precision(precision: str) -> None:
    if precision != "float32" and not jax.config.read("jax_enable_x64"):
        raise JobError(
            f'precision = "{precision}" needs 64-bit numbers, but JAX has them '
            'switched off: call jax.config.update("jax_enable_x64", True) before the '
            'first array is made (the command line does), or set precision = "float32"'
        )
