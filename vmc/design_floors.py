"""What a bounded Schmidt rank costs: infidelity, energy, utilisation of every cut.

A state whose Schmidt rank across a cut is at most k differs from the ground state by at
least w(k) = 1 - (sum of the k largest Schmidt weights p), since the truncated Schmidt
decomposition is the best approximation (Eckart and Young).  With a gap above a single
ground state, E - E0 >= gap (1 - F) >= gap w(k): a certificate.

A run in a sector samples psi only there, so that its state is P psi.  The projector
splits by the charge q of one side, P psi = sum_q P_q psi P'_q, and every part keeps the
rank k: then w is 1 - (sum over q of the k largest weights of that charge), which is
smaller.  The certificates use it wherever the job has a sector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vmc.base import Capacity
from vmc.design_cuts import Region
from vmc.design_spectra import EXACT, Required, RequiredCut
from vmc.errors import JobError

#: Regions -> what an architecture can carry across each.
CapacitiesOf = Callable[[Sequence[Region]], Sequence[Capacity]]

#: Smaller floors are rounding errors of the spectra.
ROUNDING = 1e-12


def tail(spectrum: np.ndarray, rank: int) -> float:
    """w(k): weight beyond the k largest, the least infidelity of a rank-k state.

    Args:
        spectrum: Schmidt weights p, largest first, of sum 1.
        rank: k >= 0.
    """
    rest = float(np.sum(spectrum[rank:][::-1]))
    return rest if rest > ROUNDING else 0.0


def projected_tail(blocks: Sequence[np.ndarray], rank: int) -> float:
    """w(k) of a state of rank k that is projected on a sector.

    Args:
        blocks: Schmidt weights of every charge of one side, each largest first.
        rank: k of the state before the projection.
    """
    rest = float(sum(np.sum(p[rank:]) for p in blocks))
    return rest if rest > ROUNDING else 0.0


def eps_rank(spectrum: np.ndarray, eps: float) -> int:
    """Smallest k with w(k) <= eps.

    Raises:
        JobError: eps is not between 0 and 1.
    """
    if not 0 < eps < 1:
        raise JobError(f"eps = {eps}; an infidelity is between 0 and 1")
    beyond = np.append(np.cumsum(spectrum[::-1])[::-1], 0.0)
    return max(1, int(np.argmax(beyond <= eps)))


def purity_tail(s2: float, rank: int) -> float:
    """Lower bound of w(k) from S2 alone: 1 - sqrt(k sum p^2), by Cauchy-Schwarz."""
    return max(0.0, 1 - math.sqrt(rank * math.exp(-s2)))


def rank_of(ln_rank: float) -> int:
    """The integer rank whose logarithm this is (rounded to 1e-9)."""
    return int(math.floor(math.exp(min(ln_rank, 60.0)) * (1 + 1e-9)))


class Verdict(NamedTuple):
    """One cut of one architecture.

    Attributes:
        region: the sites, of those images of the cut that the architecture holds
            worst.
        kind: see `vmc.design_cuts.CutSpec`.
        capacity: of the architecture there, or None without one.
        utilisation: S1 (S2 where that is unknown) required / ln of the capacity.
        floor: least infidelity of a state of that capacity, as the job samples it;
            None where nothing is known.
        free_floor: the same for a state that no sector projects.
        status: "ok", "limited" (the free floor is above the target, or S2 above ln of
            the capacity: only the sector's projection could still help), "trivial" (any
            state fits); None without a capacity.
    """

    region: Region
    kind: str
    capacity: Capacity | None
    utilisation: float | None
    floor: float | None
    free_floor: float | None
    status: str | None


def floors_of(cut: RequiredCut, rank: int) -> tuple[float | None, float | None]:
    """Least infidelity of rank-k states: in the job's sector, and free.

    A mixture of degenerate ground states has none.
    """
    if cut.mixed or (cut.spectrum is None and cut.s2 is None):
        return None, None
    if cut.spectrum is None:
        assert cut.s2 is not None
        free = purity_tail(cut.s2, rank)
        return (None if cut.projected else free), free
    free = tail(cut.spectrum, rank)
    if not cut.projected:
        return free, free
    if cut.blocks is None:
        return None, free
    return projected_tail(cut.blocks, rank), free


def verdict(
    cut: RequiredCut,
    found: Sequence[tuple[Region, Capacity]],
    dims: Sequence[int],
    target: float,
) -> Verdict:
    """Compare what a cut needs with what an architecture can hold there.

    Args:
        cut: the requirement.
        found: the images of the cut with their capacities, of which the least counts;
            none without an architecture.
        dims: local dimensions.
        target: infidelity up to which a floor is no limit.
    """
    if not found:
        return Verdict(cut.region, cut.kind, None, None, None, None, None)
    region, held = min(found, key=lambda one: (one[1].ln_upper, one[0]))
    floor, free = floors_of(cut, rank_of(held.ln_upper))
    entropy = cut.s1 if cut.s1 is not None else cut.s2
    utilisation = None
    if entropy is not None and held.ln_upper > 0:
        utilisation = entropy / held.ln_upper
    inside = sum(math.log(dims[i]) for i in region)
    most = min(inside, sum(math.log(d) for d in dims) - inside)
    status = "ok"
    if held.ln_upper >= most - 1e-9:
        status = "trivial"
    elif free is not None and free > target:
        status = "limited"
    elif cut.s2 is not None and cut.s2 > held.ln_upper + 1e-9:
        status = "limited"
    return Verdict(region, cut.kind, held, utilisation, floor, free, status)


class Certificate(NamedTuple):
    """What no parameters of an architecture can beat.

    Attributes:
        infidelity: 1 - F is at least this, or None where nothing is certain.
        energy: E - E0 is at least this, or None.
        region: the cut that says so.
        why_not: why there is none.
    """

    infidelity: float | None
    energy: float | None
    region: Region | None
    why_not: str | None = None


def certificate(required: Required, verdicts: Sequence[Verdict]) -> Certificate:
    """The largest floor of exact spectra, and gap times it.

    None of them for degenerate ground states, or where a spectrum is not exact.
    """
    if required.degeneracy is not None and required.degeneracy > 1:
        why = f"the ground level is {required.degeneracy}-fold: no state of its own"
        return Certificate(None, None, None, why)
    exact = [
        (one.floor, one.region)
        for cut, one in zip(required.cuts, verdicts, strict=True)
        if cut.label == EXACT and one.floor is not None
    ]
    if not exact:
        labels = sorted({cut.label for cut in required.cuts})
        why = f"no exact spectrum ({', '.join(labels) or 'no cut'}) or no capacity"
        return Certificate(None, None, None, why)
    floor, region = max(exact)
    if required.gap is None:
        return Certificate(floor, None, region, "the gap is not known")
    return Certificate(floor, required.gap * floor, region)
