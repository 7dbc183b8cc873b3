"""Which architecture for a target error, or under a budget of parameters.

Not from floors alone: those of a rank are far below the best energy of that rank.  A
tree or chain is recommended by its discarded weights times the measured energy per
infidelity, with the channels that a generic tensor needs; a family that no bond
describes by a short training on a small lattice, provided that its capacity holds what
every cut of the large one needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from vmc import registry, symmetry
from vmc.base import WaveFunction
from vmc.design_calibrate import Bench, trained_error
from vmc.design_cuts import MAX_IMAGES, Region, images
from vmc.design_families import Family, Needs, Rung
from vmc.design_floors import (
    CapacitiesOf,
    Certificate,
    Verdict,
    certificate,
    eps_rank,
    rank_of,
    verdict,
)
from vmc.design_spectra import Required
from vmc.earlier import wavefunction_of
from vmc.errors import JobError
from vmc.job import Job
from vmc.system import System

#: A trial on a small lattice has to be better than the target by this.
MARGIN = 3.0


class Candidate(NamedTuple):
    """One family's answer.

    Attributes:
        family: as registered.
        keys: of [ansatz].
        n_parameters: counted from the registered factory.
        predicted: relative energy error expected of a good optimisation, or None.
        basis: where that comes from, in words.
        reaches: whether that is within the target; None where it is not known.
        move_cost: of one flip, in words.
        verdicts: one per cut.
        certificate: what it cannot beat.
    """

    family: str
    keys: Mapping[str, Any]
    n_parameters: int
    predicted: float | None
    basis: str
    reaches: bool | None
    move_cost: str
    verdicts: tuple[Verdict, ...] = ()
    certificate: Certificate = Certificate(None, None, None)

    @property
    def ansatz(self) -> dict[str, Any]:
        """The table [ansatz]."""
        return {"name": self.family, **self.keys}


class Bottleneck(NamedTuple):
    """The index that limits an architecture most.

    Attributes:
        region: the cut.
        indices: names of the indices that form it.
    """

    region: Region
    indices: tuple[str, ...]


def build_ansatz(job: Job, system: System, ansatz: Mapping[str, Any]) -> WaveFunction:
    """The wave function that a job with this [ansatz] has; nothing is compiled.

    Raises:
        JobError: a key does not fit.
    """
    named = job.replace({"ansatz": None}).model_dump(exclude_none=True)
    made = Job.from_dict(named | {"ansatz": dict(ansatz)}, folder=job.folder)
    problem, _ = symmetry.problem(made, system.hamiltonian, system.lattice)
    return wavefunction_of(made, problem)[0]


def count_parameters(wavefunction: WaveFunction) -> int:
    """Numbers in the parameters; a complex one counts once."""
    shapes = jax.eval_shape(wavefunction.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def verdicts_of(
    required: Required,
    capacities_of: CapacitiesOf | None,
    group: Any,
    dims: Sequence[int],
    target: float,
) -> tuple[Verdict, ...]:
    """Every cut against an architecture, in the worst of its symmetric images."""
    if capacities_of is None:
        return tuple(verdict(cut, (), dims, target) for cut in required.cuts)
    of_cut = [sorted(images(c.region, group))[:MAX_IMAGES] for c in required.cuts]
    asked = [region for regions in of_cut for region in regions]
    held = dict(zip(asked, capacities_of(asked), strict=True))
    return tuple(
        verdict(cut, [(region, held[region]) for region in regions], dims, target)
        for cut, regions in zip(required.cuts, of_cut, strict=True)
    )


def bottleneck(verdicts: Sequence[Verdict]) -> Bottleneck | None:
    """The cut with the largest free floor, else the one used most; or None."""
    held = [one for one in verdicts if one.capacity is not None]
    held = [one for one in held if one.status != "trivial"]
    if not held:
        return None
    worst = max(held, key=lambda one: (one.free_floor or 0.0, one.utilisation or 0.0))
    assert worst.capacity is not None
    return Bottleneck(worst.region, worst.capacity.cut)


class Variant(NamedTuple):
    """An order of the sites, and what the ground state needs in it.

    Attributes:
        order: for the key ``site_order``; None for the lattice's own.
        needs: spectra of a tree and a chain.
    """

    order: tuple[int, ...] | None
    needs: Needs


class Search(NamedTuple):
    """What every family's search shares.

    Attributes:
        job: the job.
        system: its lattice and Hamiltonian.
        variants: orders of the sites, the lattice's own first.
        required: all cuts.
        group: site permutations that leave the Hamiltonian alone.
        target: relative energy error.
        budget: most parameters, or None.
        capacities_of: wave function -> its capacities.
        bench: small lattice for trials, or None for no trials.
        note: called with what takes time.
    """

    job: Job
    system: System
    variants: tuple[Variant, ...]
    required: Required
    group: Any
    target: float
    budget: int | None
    capacities_of: Callable[[WaveFunction], CapacitiesOf]
    bench: Bench | None
    note: Callable[[str], None]

    @property
    def infidelity(self) -> float:
        """The infidelity at which the energy error is the target."""
        return min(0.5, self.target / self.variants[0].needs.scale)


def recommend(search: Search, families: Sequence[Family]) -> list[Candidate]:
    """The families in one ranking, best first.

    Those that reach the target with the fewest parameters, then those that miss it by
    the predicted error, then those of which nothing is known.

    Raises:
        JobError: the target or the budget makes no sense.
    """
    if not 0 < search.target < 1:
        raise JobError(
            f"target = {search.target}: a relative energy error is between 0 and 1, as "
            "1e-3"
        )
    if search.budget is not None and search.budget < 1:
        raise JobError(f"budget = {search.budget}: a number of parameters is positive")
    found = [one for f in families if (one := _best(search, f)) is not None]
    return sorted(found, key=_order)


def _order(one: Candidate) -> tuple[int, float, int]:
    if one.reaches:
        return 0, float(one.n_parameters), one.n_parameters
    if one.predicted is not None:
        return 1, one.predicted, one.n_parameters
    return 2, float(one.n_parameters), one.n_parameters


def _best(search: Search, family: Family) -> Candidate | None:
    """The best order of the sites for a family that takes one."""
    variants = search.variants if family.ordered else search.variants[:1]
    found = [one for v in variants if (one := _best_of(search, family, v)) is not None]
    return min(found, key=_order) if found else None


def _best_of(search: Search, family: Family, variant: Variant) -> Candidate | None:
    """The smallest rung that will do, or the best one that fits the budget."""
    rungs = family.rungs(variant.needs)
    if variant.order is not None:
        order = {"site_order": list(variant.order)}
        rungs = [rung._replace(keys={**rung.keys, **order}) for rung in rungs]
    if family.basis == "bonds":
        chosen = _by_bonds(search, family, rungs)
        basis = "discarded weights"
    else:
        chosen, basis = _by_trial(search, family, rungs)
    if chosen is None:
        return None
    rung, psi = chosen
    dims = search.system.hamiltonian.space.local_dims
    seen = (search.group, dims, search.infidelity)
    verdicts = verdicts_of(search.required, search.capacities_of(psi), *seen)
    reaches = None if rung.predicted is None else rung.predicted <= search.target
    return Candidate(
        family=family.name,
        keys=rung.keys,
        n_parameters=count_parameters(psi),
        predicted=rung.predicted,
        basis=basis,
        reaches=reaches,
        move_cost=family.move_cost,
        verdicts=verdicts,
        certificate=certificate(search.required, verdicts),
    )


Chosen = tuple[Rung, WaveFunction] | None


def _fitting(search: Search, family: Family, rung: Rung) -> WaveFunction | None:
    """The wave function of a rung, or None: it does not exist here, or is too large."""
    try:
        psi = build_ansatz(
            search.job, search.system, {"name": family.name, **rung.keys}
        )
    except JobError:
        return None
    if search.budget is not None and count_parameters(psi) > search.budget:
        return None
    return psi


def _by_bonds(search: Search, family: Family, rungs: Sequence[Rung]) -> Chosen:
    """First rung within the target, else the largest one within the budget."""
    good = [i for i, r in enumerate(rungs) if (r.predicted or 0.0) <= search.target]
    top = good[0] if good else len(rungs) - 1
    psi = _fitting(search, family, rungs[top])
    if psi is not None:
        return rungs[top], psi
    low, high, found = 0, top - 1, None
    while low <= high:
        middle = (low + high) // 2
        psi = _fitting(search, family, rungs[middle])
        if psi is None:
            high = middle - 1
        else:
            found, low = (rungs[middle], psi), middle + 1
    return found


def _by_trial(
    search: Search, family: Family, rungs: Sequence[Rung]
) -> tuple[Chosen, str]:
    """First rung that can hold every cut and, where trials are made, passes one."""
    best: Chosen = None
    basis = "capacity of every cut (necessary, not sufficient)"
    for rung in rungs:
        psi = _fitting(search, family, rung)
        if psi is None or not holds(search, search.capacities_of(psi)):
            continue
        if search.bench is None or family.basis == "necessary":
            return (rung, psi), basis
        shown = ", ".join(f"{k} = {v}" for k, v in rung.keys.items())
        search.note(f"trying {family.name} ({shown}) on {search.bench.n_sites} sites")
        error = trained_error(search.bench, family.name, rung.keys) * MARGIN
        basis = f"{MARGIN:g} x the error of training on {search.bench.n_sites} sites"
        if best is None or error < (best[0].predicted or 0.0):
            best = rung._replace(predicted=error), psi
        if error <= search.target:
            break
    return best, basis


def holds(search: Search, capacities_of: CapacitiesOf) -> bool:
    """Whether the generic rank across every cut is what the target needs."""
    cuts = [c for c in search.required.cuts if c.spectrum is not None and c.region]
    for cut, held in zip(cuts, capacities_of([c.region for c in cuts]), strict=True):
        assert cut.spectrum is not None
        needed = eps_rank(cut.spectrum, search.infidelity)
        if rank_of(held.ln_predicted) < needed:
            return False
    return True


def capacities_of(wavefunction: WaveFunction, dims: Sequence[int]) -> CapacitiesOf:
    """What a wave function can carry; min(|A|, |B|) ln d where it does not say."""
    return lambda regions: registry.capacities(wavefunction, regions, dims)
