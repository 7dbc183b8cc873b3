"""After training: what was realised, and whether channels or optimisation limit it.

`after` compares, cut by cut, the entanglement of a trained state with what its
architecture can carry and with what the ground state needs, and its energy with what
any state of those ranks reaches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmc import runs
from vmc.assembly import Built
from vmc.base import Params
from vmc.design_cuts import symmetry_group
from vmc.design_energies import calibration
from vmc.design_families import Needs, expected_loss
from vmc.design_floors import Certificate, Verdict, certificate, rank_of
from vmc.design_growth import Growth, growth, has_bonds, size_of
from vmc.design_needs import (
    blocks_repeat,
    default_order,
    finder,
    needs_of,
    own_order,
    specs_of,
)
from vmc.design_realised import Amplitudes, RealisedCut, amplitudes, captured, realised
from vmc.design_recommend import bottleneck, capacities_of, verdicts_of
from vmc.design_required import required
from vmc.design_sector_rank import sector_least_energy
from vmc.design_spectra import EXACT, MEMORY_LIMIT, Required, RequiredCut
from vmc.design_verdict import Decision, Evidence, decide, fall
from vmc.errors import JobError
from vmc.keys import Purpose, derive, root_key

#: Largest space, in states, in which states of fixed rank are optimised.
RANK_STATES = 2**14


@dataclasses.dataclass(frozen=True, eq=False)
class After:
    """What became of a run.

    Attributes:
        folder: the run directory.
        built: its objects.
        target: relative energy error aimed at.
        step: optimisation steps done.
        energy: E of the state.
        energy_error: one standard error; 0 where all amplitudes were summed.
        infidelity: 1 - F with the ground state, or None.
        required: what the ground state needs, with one entry per cut.
        verdicts: what the architecture can carry, one per cut.
        realised: what the state has, one per cut.
        certificate: what the architecture cannot beat.
        evidence: what decided.
        decision: the verdict with its reasons.
        bottleneck: indices of the narrowest cut.
        growth: the next size, or None where the family cannot grow.
        after_growth: `Evidence.captured` of the larger ansatz, or None.
        notes: what a reader should know.
    """

    folder: Path
    built: Built
    target: float
    step: int
    energy: float
    energy_error: float
    infidelity: float | None
    required: Required
    verdicts: tuple[Verdict, ...]
    realised: tuple[RealisedCut, ...]
    certificate: Certificate
    evidence: Evidence
    decision: Decision
    bottleneck: tuple[str, ...]
    growth: Growth | None
    after_growth: float | None
    notes: tuple[str, ...]


def after(
    run: runs.Run | str | Path,
    *,
    target: float = 1e-3,
    regions: Sequence[Sequence[int]] = (),
    method: str = "auto",
    memory_limit: int = MEMORY_LIMIT,
    n_random: int = 2,
    note: Callable[[str], None] | None = None,
) -> After:
    """Compare a trained state with its architecture and with the ground state.

    Args:
        run: a run directory; its newest checkpoint counts.
        target: relative energy error (E - E0) / |E0| aimed at.
        regions: further cuts.
        method: where the required entanglement comes from, see
            `vmc.design_required.required`.
        memory_limit: bytes of a diagonalisation.
        n_random: random cuts.
        note: called with what takes time, before it begins.

    Raises:
        JobError: a region or the target makes no sense, or the method does not fit the
            size.
        CheckpointError: there is no run, or no checkpoint that can be read.
    """
    if not 0 < target < 1:
        raise JobError(
            f"target = {target}: a relative energy error is between 0 and 1, as 1e-3"
        )
    opened = run if isinstance(run, runs.Run) else runs.load(run)
    say = note or (lambda text: None)
    built, system = opened.built, opened.built.system
    group = symmetry_group(system.hamiltonian, system.lattice)
    order = own_order(built.job) or default_order(system)
    specs = specs_of(system, group, [order], regions, n_random)
    needed = required(
        built.job, system, specs, method=method, memory_limit=memory_limit, note=note
    )
    say("measuring the trained state")
    return _judged(opened, target, group, order, needed, say)


def _judged(
    run: runs.Run,
    target: float,
    group: np.ndarray,
    order: Sequence[int],
    needed: Required,
    say: Callable[[str], None],
) -> After:
    """The state of a run against what the ground state needs."""
    built, params, system = run.built, run.params, run.built.system
    calibrated = calibration(built.job, system, needed)
    reference = _ground_energy(built, needed)
    scale = abs(reference or needed.energy or 1.0) or 1.0
    dims = system.hamiltonian.space.local_dims
    infidelity = min(0.5, target * scale / calibrated.kappa)
    carry = capacities_of(built.wavefunction, dims)
    verdicts = verdicts_of(needed, carry, group, dims, infidelity)
    needs = _needs(built, order, needed, group, calibrated.kappa)
    found = amplitudes(built, params)
    have = realised(built, params, [v.region for v in verdicts], found)
    certain, narrowest = certificate(needed, verdicts), bottleneck(verdicts)
    expected = _expected(built, params, needs)
    energy, error = _energy(run, found)
    evidence = Evidence(
        error=None if reference is None else energy - reference,
        noise=error,
        target=target * scale,
        certified=certain.energy,
        fixed_rank=_fixed_rank(built, needed, verdicts, found, say),
        expected=None if expected is None else expected * calibrated.kappa,
        captured=_fraction(built.wavefunction, params, found),
        falling=fall(list(run.series.get("energy", ()))),
        limited=_limited(verdicts),
        narrow=_narrow(verdicts),
        missing=_missing(needed.cuts, have),
    )
    names = () if narrowest is None else narrowest.indices
    key = derive(root_key(built.job.seed), Purpose.PARAMS)
    larger = growth(built, params, names, needs, target, key)
    grown = larger and _fraction(larger.wavefunction, larger.params, found)
    return After(
        folder=run.folder,
        built=built,
        target=target,
        step=int(run.state.step),
        energy=energy,
        energy_error=error,
        infidelity=_infidelity(needed, found),
        required=needed,
        verdicts=verdicts,
        realised=have,
        certificate=certain,
        evidence=evidence,
        decision=decide(evidence),
        bottleneck=names,
        growth=larger,
        after_growth=grown,
        notes=(*system.warnings, *needed.notes, *calibrated.notes),
    )


def _needs(
    built: Built,
    order: Sequence[int],
    needed: Required,
    group: np.ndarray,
    kappa: float,
) -> Needs:
    """What trees and chains in the order of the run's own ansatz have to hold."""
    own, system = own_order(built.job), built.system
    alike = blocks_repeat(system, group) and own is None
    chain = own or range(system.n_sites)
    return needs_of(system, order, chain, finder(needed, group), needed, kappa, alike)


def _ground_energy(built: Built, needed: Required) -> float | None:
    """E0 where it is exact; a trained state's energy is none."""
    if needed.label == EXACT:
        return needed.energy
    known = built.exact()
    return None if known is None else float(known["energy"])


def _energy(run: runs.Run, found: Amplitudes | None) -> tuple[float, float]:
    """Energy of the newest parameters, and its standard error."""
    if found is not None:
        return found.energy, 0.0
    report = run.report
    if report is not None and report.get("energy"):
        return float(report["energy"]["mean"]), float(report["energy"]["error"])
    estimate = run.built.vmc.measure(run.state, run.job.measure.n_samples)
    return float(estimate.mean), float(estimate.error)


def _infidelity(needed: Required, found: Amplitudes | None) -> float | None:
    if needed.vector is None or found is None:
        return None
    return max(0.0, 1 - float(abs(np.vdot(needed.vector, found.vector)) ** 2))


def _fraction(
    wavefunction: Any, params: Params, found: Amplitudes | None
) -> float | None:
    if found is None:
        return None
    part = captured(wavefunction, params, found)
    return None if part is None else part[0]


def _expected(built: Built, params: Params, needs: Needs) -> float | None:
    """Infidelity that the discarded weights of all bonds make one expect."""
    section = built.job.ansatz
    assert section is not None
    name, keys = str(section.name), section.keys
    if not has_bonds(name, keys):
        return None
    return expected_loss(name, size_of(name, keys, params), needs)


def _fixed_rank(
    built: Built,
    needed: Required,
    verdicts: Sequence[Verdict],
    found: Amplitudes | None,
    say: Callable[[str], None],
) -> float | None:
    """Least E - E0 at the rank of the cut with the largest floor, as psi is sampled."""
    space = built.hamiltonian.space
    if needed.vector is None or found is None or space.blockade:
        return None
    limited = [v for v in verdicts if v.capacity is not None and (v.floor or 0) > 0]
    if not limited or space.n_states > RANK_STATES or needed.energy is None:
        return None
    worst = max(limited, key=lambda one: one.floor or 0.0)
    assert worst.capacity is not None
    rank = rank_of(worst.capacity.ln_upper)
    say(f"optimising states of rank {rank} across the narrowest cut")
    best = sector_least_energy(found.matrix, needed.vector, space, worst.region, rank)
    return best.energy - needed.energy


def _limited(verdicts: Sequence[Verdict]) -> bool | None:
    known = [v.status for v in verdicts if v.status is not None]
    return "limited" in known if known else None


def _narrow(verdicts: Sequence[Verdict]) -> float | None:
    used = [v.utilisation for v in verdicts if v.utilisation and v.status != "trivial"]
    return max(used, default=None)


def _missing(
    needed: Sequence[RequiredCut], have: Sequence[RealisedCut]
) -> float | None:
    """The largest part of the required S2 that is certainly not there."""
    lacks = []
    for cut, one in zip(needed, have, strict=True):
        if cut.s2 is None or one.s2 is None or cut.s2 < 1e-6:
            continue
        noise = math.hypot(cut.error or 0.0, one.error or 0.0)
        lacks.append((cut.s2 - one.s2 - 2 * noise) / cut.s2)
    return max(lacks, default=None)
