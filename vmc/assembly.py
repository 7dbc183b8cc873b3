"""From a job to the objects of a run, with every "auto" decided and recorded.

`build_system` makes lattice, operator and Hamiltonian in its sector and sign gauge;
`build` adds wave function, sampler, optimiser and driver.  Nothing is compiled and
nothing runs.  Physics that does not fit is refused here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from vmc import registry, resolve, sampling, symmetry
from vmc.base import Problem, Sampler, WaveFunction
from vmc.chunking import chunk_size, default_budget
from vmc.distributed import walker_mesh
from vmc.driver import VMC
from vmc.errors import JobError
from vmc.job import Job
from vmc.optimizers import make_optimizer

#: Largest basis that a report diagonalises for its exact energy.
ED_STATES = 1 << 14


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """Lattice and Hamiltonian of a job.

    Attributes:
        job: the job, with sector and sign gauge decided.
        lattice: the lattice, or None.
        operator: the operator as written.
        hamiltonian: its table of moves in the sector, in the sign gauge.
        couplings: keys of the model.
        warnings: what a user should know before running.
        files: the user's own files.
    """

    job: Job
    lattice: Any
    operator: Any
    hamiltonian: Any
    couplings: dict[str, Any]
    warnings: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def n_sites(self) -> int:
        """N."""
        return self.hamiltonian.space.n_sites

    def exact(self) -> dict[str, Any] | None:
        """Exact ground energy of the job's sector: {energy, source}, or None.

        A closed form or stored reference of the model if there is one, else
        diagonalisation where the basis has at most `ED_STATES` states.
        """
        model, total_sz = self.job.hamiltonian.name, self.hamiltonian.space.total_sz
        if isinstance(model, str) and not registry.is_user_code(model):
            known = registry.exact_energy(model, self.lattice, self.couplings, total_sz)
            if known is not None:
                return {"energy": float(known[0]), "source": known[1]}
        if self.hamiltonian.space.n_states <= ED_STATES:
            energy = registry.ground_energies(self.hamiltonian, 1)[0]
            return {"energy": float(energy), "source": "exact diagonalisation"}
        return None


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

        A symmetric psi for a Hamiltonian with a sign problem may be confined to a
        subspace without the ground state; then nothing is quoted.
        """
        confined = self.problem.symmetry is not None or self.problem.spin_flip
        if confined and not self.hamiltonian.is_stoquastic:
            return None
        return self.system.exact()

    def memory(self) -> dict[str, int]:
        """Estimated bytes of the large arrays on one device."""
        p, job = self.vmc.n_parameters, self.job
        n_devices = self.vmc._mesh.size
        n_all = job.sampler.n_samples or 0
        n_rows = -(-n_all // n_devices)
        word = 4 if job.precision == "float32" else 8
        number = word * (2 if self.wavefunction.range != "positive" else 1)
        solve = {"sr": min(p, n_all), "spring": min(p, n_all)}.get(
            job.optimizer.name, 0
        )
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


def build_system(job: Job) -> System:
    """Lattice, operator, Hamiltonian in its sector and sign gauge.

    Raises:
        JobError: a name or key is unknown, or the physics does not fit.
    """
    lattice = _lattice(job)
    operator, n_sites, default_sz = _operator(job, lattice)
    defaults = _model_defaults(job)
    free = registry.compile_operator(operator, n_sites, total_sz=None)
    total_sz = resolve.sector(job.hamiltonian.total_sz, free, default_sz)
    table = free
    if total_sz is not None:
        table = registry.compile_operator(operator, n_sites, total_sz=total_sz)
    table, warnings = resolve.gauge(job.hamiltonian.marshall, table, lattice)
    if lattice is not None and lattice.bonds(1).meets_itself:
        warnings.append(
            "the lattice is so small that two sites are neighbours along two ways "
            "around it; such a bond counts once"
        )
    decided = defaults | {
        "total_sz": "free" if total_sz is None else float(total_sz),
        "marshall": resolve.gauge_bits(table) or False,
    }
    return System(
        job=job.replace({"hamiltonian": decided}),
        lattice=lattice,
        operator=operator,
        hamiltonian=table,
        couplings=job.hamiltonian.keys,
        warnings=tuple(warnings),
        files=_files(job),
    )


def build(job: Job) -> Built:
    """All objects of a run.

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
    mesh = walker_mesh()
    system = build_system(job)
    job, warnings = system.job, list(system.warnings)
    problem, quantum_numbers = symmetry.problem(job, system.hamiltonian, system.lattice)
    wavefunction, ansatz_keys = _wavefunction(job, problem)
    warnings += symmetry.check_range(wavefunction, system.hamiltonian)

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
                "chunk": job.run.chunk or chunk_size(n_local, row, default_budget())
            },
        }
    )
    sampler = sampling.build(job, *parts)
    vmc = _driver(job, system, wavefunction, sampler, mesh)
    return Built(
        job=job,
        system=dataclasses.replace(system, job=job),
        problem=problem,
        wavefunction=wavefunction,
        sampler=sampler,
        vmc=vmc,
        warnings=tuple(warnings),
        files=system.files,
    )


def _driver(
    job: Job, system: System, wavefunction: WaveFunction, sampler: Sampler, mesh: Any
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
        burn_in=0 if job.sampler.name in ("direct", "full") else job.sampler.burn_in,
    )


def _check_precision(precision: str) -> None:
    if precision != "float32" and not jax.config.read("jax_enable_x64"):
        raise JobError(
            f'precision = "{precision}" needs 64-bit numbers, but JAX has them '
            'switched off: call jax.config.update("jax_enable_x64", True) before the '
            'first array is made (the command line does), or set precision = "float32"'
        )


def _files(job: Job) -> tuple[Path, ...]:
    sections = (job.lattice, job.hamiltonian, job.ansatz)
    names = [s.name for s in sections if s is not None and isinstance(s.name, str)]
    files = [registry.user_file(n, job.folder) for n in names if ".py:" in n]
    if job.hamiltonian.terms is not None:
        files.append((job.folder / job.hamiltonian.terms).resolve())
    return tuple(dict.fromkeys(files))


def _lattice(job: Job) -> Any:
    section = job.lattice
    if section is None:
        return None
    factory = registry.find("lattice", registry.lattices(), section.name, job.folder)
    keys = section.keys
    if section.size is not None:
        keys["size"] = section.size
    taken, open_ended = registry.parameters_of(factory)
    if open_ended or "periodic" in taken or section.periodic is not True:
        keys["periodic"] = section.periodic
    registry.check_keys("lattice", section.name, factory, keys)
    lattice = registry.call(section.name, factory, job.folder, **keys)
    return registry.checked_lattice(section.name, lattice)


def _operator(job: Job, lattice: Any) -> tuple[Any, int, float | None]:
    """The operator, N, and the sector that a terms file asks for."""
    section = job.hamiltonian
    if section.terms is not None:
        return _terms(job, lattice)
    reference = section.name
    factory = registry.find("hamiltonian", registry.models(), reference, job.folder)
    user = registry.is_user_code(reference)
    taken, open_ended = registry.parameters_of(factory)
    keys: Mapping[str, Any] = section.keys
    registry.check_keys("hamiltonian", reference, factory, keys, filled=("lattice",))
    if lattice is not None and ("lattice" in taken or open_ended):
        keys = {"lattice": lattice, **keys}
    elif "lattice" in taken and (
        not user or taken["lattice"].default is taken["lattice"].empty
    ):
        raise JobError(
            f"[hamiltonian] {reference!r} lives on a lattice: add a [lattice] section, "
            'as name = "chain", size = [16]'
        )
    operator = registry.call(reference, factory, job.folder, **keys)
    operator = registry.checked_operator(reference, operator)
    n_sites = operator.max_site + 1 if lattice is None else lattice.n_sites
    _check_sites(operator, n_sites, lattice)
    return operator, n_sites, None


def _model_defaults(job: Job) -> dict[str, Any]:
    """Couplings that a registered model has by default and the job leaves out."""
    name = job.hamiltonian.name
    if name is None or registry.is_user_code(name):
        return {}
    known = registry.defaults_of(registry.models()[str(name)])
    return {k: v for k, v in known.items() if k not in job.hamiltonian.keys}


def _terms(job: Job, lattice: Any) -> tuple[Any, int, float | None]:
    section = job.hamiltonian
    if section.keys:
        raise JobError(
            f"[hamiltonian] unknown key {next(iter(section.keys))!r}: with terms there "
            "are no couplings to set"
        )
    path = job.folder / str(section.terms)
    operator, n_sites, total_sz = registry.load_terms(path)
    if lattice is not None and lattice.n_sites != n_sites:
        raise JobError(
            f"{section.terms} has {n_sites} sites, but the lattice has "
            f"{lattice.n_sites}; leave out [lattice] or make them agree"
        )
    _check_sites(operator, n_sites, lattice)
    return operator, n_sites, total_sz


def _check_sites(operator: Any, n_sites: int, lattice: Any) -> None:
    if operator.max_site < 0:
        raise JobError("the Hamiltonian acts on no site: it is a number")
    if operator.max_site >= n_sites:
        where = "the lattice" if lattice is not None else "the terms file"
        raise JobError(
            f"the Hamiltonian names site {operator.max_site}, but {where} has sites 0 "
            f"to {n_sites - 1}"
        )


def _wavefunction(job: Job, problem: Problem) -> tuple[WaveFunction, dict[str, Any]]:
    """The wave function, and the keys of [ansatz] with their defaults."""
    section = job.ansatz
    assert section is not None
    reference, keys = section.name, section.keys
    if registry.is_user_code(reference):
        found = registry.find("ansatz", {}, reference, job.folder)
        return registry.user_wavefunction(
            reference, found, job.folder, problem, keys
        ), keys
    factory = registry.find("ansatz", registry.ansatze(), reference, job.folder)
    registry.check_keys("ansatz", reference, factory, keys, filled=("problem",))
    keys = registry.ansatz_defaults(str(reference), problem, keys)
    return factory(problem, **keys), registry.defaults_of(factory) | keys
