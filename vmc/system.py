"""Lattice, operator and Hamiltonian of a job, in its sector and sign gauge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmc import factories, registry, resolve
from vmc.errors import JobError
from vmc.job import Job
from vmc.sectors import Charge

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
        """Ground level of the job's sector: {energy, source, degeneracy}, or None.

        A closed form or stored reference of the model if there is one, else
        diagonalisation where the basis has at most `ED_STATES` states.  The number of
        ground states is counted by diagonalisation, or None.
        """
        model, total_sz = self.job.hamiltonian.name, self.hamiltonian.space.total_sz
        has_rules = self.hamiltonian.space.has_rules
        level, known = None, None
        if self.hamiltonian.space.n_states <= ED_STATES:
            level = registry.ground_level(self.hamiltonian)
        if isinstance(model, str) and not (factories.is_user_code(model) or has_rules):
            known = registry.exact_energy(model, self.lattice, self.couplings, total_sz)
        if known is None and level is None:
            return None
        energy, source = known or (level[0], "exact diagonalisation")  # pyright: ignore
        copies = None if level is None else level[1]
        if copies is not None and copies > 1 and "ground states" not in source:
            source += f", {copies} ground states"
        return {"energy": float(energy), "source": source, "degeneracy": copies}


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
    rules = _rules(job, lattice)
    table = free
    if total_sz is not None or rules:
        table = registry.compile_operator(operator, n_sites, total_sz=total_sz, **rules)
    table, warnings = resolve.gauge(job.hamiltonian.marshall, table, lattice)
    if job.hamiltonian.total_sz == "auto" and total_sz is not None and not rules:
        warnings += resolve.other_sectors(free, table)
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


def _rules(job: Job, lattice: Any) -> dict[str, Any]:
    """Restrictions of the space beyond total Sz."""
    section, rules = job.hamiltonian, {}
    if section.charges:
        rules["charges"] = tuple(
            Charge(tuple(c.weights), c.value, c.modulus) for c in section.charges
        )
    if section.blockade:
        if lattice is None:
            raise JobError(
                "[hamiltonian] blockade = true acts on nearest neighbours: add a "
                "[lattice] section"
            )
        rules["blockade"] = lattice.edges(1)
    return rules


def _files(job: Job) -> tuple[Path, ...]:
    sections = (job.lattice, job.hamiltonian, job.ansatz)
    names = [s.name for s in sections if s is not None and isinstance(s.name, str)]
    files = [factories.user_file(n, job.folder) for n in names if ".py:" in n]
    if job.hamiltonian.terms is not None:
        files.append((job.folder / job.hamiltonian.terms).resolve())
    return tuple(dict.fromkeys(files))


def _lattice(job: Job) -> Any:
    section = job.lattice
    if section is None:
        return None
    factory = factories.find("lattice", registry.lattices(), section.name, job.folder)
    keys = section.keys
    if section.size is not None:
        keys["size"] = section.size
    taken, open_ended = factories.parameters_of(factory)
    if open_ended or "periodic" in taken or section.periodic is not True:
        keys["periodic"] = section.periodic
    factories.check_keys("lattice", section.name, factory, keys)
    lattice = factories.call(section.name, factory, job.folder, **keys)
    return registry.checked_lattice(section.name, lattice)


def _operator(job: Job, lattice: Any) -> tuple[Any, int, float | None]:
    """The operator, N, and the sector that a terms file asks for."""
    section = job.hamiltonian
    if section.terms is not None:
        return _terms(job, lattice)
    reference = section.name
    factory = factories.find("hamiltonian", registry.models(), reference, job.folder)
    user = factories.is_user_code(reference)
    taken, open_ended = factories.parameters_of(factory)
    keys: Mapping[str, Any] = section.keys
    factories.check_keys("hamiltonian", reference, factory, keys, filled=("lattice",))
    if lattice is not None and ("lattice" in taken or open_ended):
        keys = {"lattice": lattice, **keys}
    elif "lattice" in taken and (
        not user or taken["lattice"].default is taken["lattice"].empty
    ):
        raise JobError(
            f"[hamiltonian] {reference!r} lives on a lattice: add a [lattice] section, "
            'as name = "chain", size = [16]'
        )
    operator = factories.call(reference, factory, job.folder, **keys)
    operator = registry.checked_operator(reference, operator)
    n_sites = operator.max_site + 1 if lattice is None else lattice.n_sites
    _check_sites(operator, n_sites, lattice)
    return operator, n_sites, None


def _model_defaults(job: Job) -> dict[str, Any]:
    """Couplings that a registered model has by default and the job leaves out."""
    name = job.hamiltonian.name
    if name is None or factories.is_user_code(name):
        return {}
    known = factories.defaults_of(registry.models()[str(name)])
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
