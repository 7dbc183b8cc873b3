"""The result of a design: plain data and job files of it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from vmc.design_cuts import Region
from vmc.design_energies import Calibration
from vmc.design_floors import Certificate, Verdict, eps_rank
from vmc.design_geometry import Geometry
from vmc.design_recommend import Bottleneck, Candidate
from vmc.design_spectra import Required, RequiredCut
from vmc.job import Job
from vmc.jobfile import plain, recorded, to_toml
from vmc.system import System

#: Infidelities whose ranks are listed.
EPSILONS = (1e-2, 1e-3, 1e-4, 1e-6)


class Block(NamedTuple):
    """A block of the architecture's tree.

    Attributes:
        region: its sites.
        verdict: its cut.
    """

    region: Region
    verdict: Verdict


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """What `design` found.

    Attributes:
        job: the job.
        system: its lattice and Hamiltonian.
        target: relative energy error aimed at.
        budget: most parameters, or None.
        required: what the ground state needs, with one entry per cut.
        architecture: name of the ansatz that ``verdicts`` judge: the job's own, else
            the recommended one; None without any.
        verdicts: one per cut.
        certificate: what that architecture cannot beat.
        bottleneck: what limits it most, or None.
        tree: its blocks by level, or those of a binary tree, from one site up.
        calibration: energies of states of fixed rank.
        candidates: one per family, best first.
        geometry: the best binary tree, or None where it was not searched.
        notes: what a reader should know.
    """

    job: Job
    system: System
    target: float
    budget: int | None
    required: Required
    architecture: str | None
    verdicts: tuple[Verdict, ...]
    certificate: Certificate
    bottleneck: Bottleneck | None
    tree: tuple[tuple[Block, ...], ...]
    calibration: Calibration
    candidates: tuple[Candidate, ...]
    geometry: Geometry | None
    notes: tuple[str, ...]

    @property
    def recommendation(self) -> Candidate | None:
        """The best candidate, or None if no family fits."""
        return self.candidates[0] if self.candidates else None

    def job_toml(self, candidate: Candidate | None = None) -> str | None:
        """A job file for a candidate, by default the recommended one."""
        return job_toml(self.job, candidate or self.recommendation)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data.

        ``cuts`` (region, kind, s1, s2, label, log_capacity, utilisation, floor, status
        and more), ``certified_infidelity``, ``certified_energy_floor`` (E - E0 cannot
        be below it; null where nothing is certain), ``recommendation`` (null if no
        family fits) and ``alternatives``.
        """
        return as_json(self)


def as_json(found: Design) -> dict[str, Any]:
    """See `Design.to_json`."""
    required, certain = found.required, found.certificate
    pairs = zip(required.cuts, found.verdicts, strict=True)
    best = found.recommendation
    data = {
        "n_sites": found.system.n_sites,
        "target": found.target,
        "budget": found.budget,
        "energy": required.energy,
        "gap": required.gap,
        "degeneracy": required.degeneracy,
        "label": required.label,
        "architecture": found.architecture,
        "cuts": [_cut(cut, one) for cut, one in pairs],
        "certified_infidelity": certain.infidelity,
        "certified_energy_floor": certain.energy,
        "certified_by": None if certain.region is None else list(certain.region),
        "why_not_certified": certain.why_not,
        "bottleneck": _bottleneck(found),
        "fixed_rank": _fixed_rank(found),
        "kappa": found.calibration.kappa,
        "recommendation": None if best is None else _candidate(found, best),
        "alternatives": [_candidate(found, one) for one in found.candidates[1:]],
        "geometry": _geometry(found),
        "notes": list(found.notes),
    }
    return plain(data)


def _cut(cut: RequiredCut, one: Verdict) -> dict[str, Any]:
    held, p = one.capacity, cut.spectrum
    ranks = {} if p is None else {f"{e:g}": eps_rank(p, e) for e in EPSILONS}
    return {
        "region": list(one.region),
        "kind": cut.kind,
        "s1": cut.s1,
        "s2": cut.s2,
        "s2_error": cut.error,
        "label": cut.label,
        "eps_ranks": ranks,
        "log_capacity": None if held is None else held.ln_upper,
        "log_capacity_predicted": None if held is None else held.ln_predicted,
        "log_capacity_lower": None if held is None else held.ln_lower,
        "method": None if held is None else held.method,
        "indices": [] if held is None else list(held.cut),
        "utilisation": one.utilisation,
        "floor": one.floor,
        "floor_free": one.free_floor,
        "status": one.status,
    }


def _bottleneck(found: Design) -> dict[str, Any] | None:
    one = found.bottleneck
    if one is None:
        return None
    return {"region": list(one.region), "indices": list(one.indices)}


def _fixed_rank(found: Design) -> dict[str, Any]:
    used = found.calibration
    return {
        "n_sites": used.n_sites,
        "states": [
            {
                "rank": one.rank,
                "energy_above": one.energy - (used.ground or 0.0),
                "infidelity": one.infidelity,
            }
            for one in used.states
        ],
    }


def _candidate(found: Design, one: Candidate) -> dict[str, Any]:
    return {
        "family": one.family,
        "ansatz": one.ansatz,
        "n_parameters": one.n_parameters,
        "predicted_relative_error": finite(one.predicted),
        "basis": one.basis,
        "reaches_target": one.reaches,
        "move_cost": one.move_cost,
        "certified_infidelity": one.certificate.infidelity,
        "certified_energy_floor": one.certificate.energy,
        "job": job_toml(found.job, one),
    }


def finite(value: float | None) -> float | None:
    """None for infinity, which JSON does not have."""
    return None if value is None or value == float("inf") else value


def _geometry(found: Design) -> dict[str, Any] | None:
    tree = found.geometry
    if tree is None:
        return None
    return {
        "order": list(tree.order),
        "cost": tree.cost,
        "contiguous_cost": tree.contiguous_cost,
        "blocks": [[list(b) for b in level] for level in tree.pairs],
        "entropies": [list(level) for level in tree.entropies],
    }


def job_toml(job: Job, candidate: Candidate | None) -> str | None:
    """The job with another [ansatz], without keys that have their defaults."""
    if candidate is None:
        return None
    tables = job.model_dump(exclude_defaults=True, exclude_none=True)
    tables = {k: v for k, v in tables.items() if v != {}}
    run = {k: v for k, v in dict(tables.pop("run", {})).items() if k != "out"}
    tables |= {"run": run} if run else {}
    old = job.ansatz
    kept: dict[str, Any] = {}
    if old is not None and old.dtype != "auto":
        kept = {"dtype": old.dtype}
    tables["ansatz"] = plain({**candidate.ansatz, **kept})
    order = ("seed", "precision", "lattice", "hamiltonian", "ansatz")
    ordered = {k: tables[k] for k in order if k in tables}
    return to_toml(recorded(ordered | tables))
