"""Entanglement of a large lattice from smaller ones of the same family.

S(A) = c0 + c1 |boundary of A| (the area law), in one dimension with c ln(chord length
of A) beside it (arXiv:quant-ph/0405152), fitted to diagonalised lattices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vmc.design_cuts import CutSpec, all_cuts, smaller_side, symmetry_group
from vmc.design_spectra import (
    EXTRAPOLATED,
    MEMORY_LIMIT,
    Required,
    RequiredCut,
    entropies,
    fits_exactly,
    required_exactly,
)
from vmc.errors import JobError
from vmc.job import Job
from vmc.system import System, build_system

#: Largest sector of a relative that the laws are fitted on.
FIT_STATES = 2**14
#: Kinds of cuts whose entropies obey the same law.
_BLOCKS = ("contiguous", "rectangle", "strip", "tree", "given")


class Relative(NamedTuple):
    """A smaller lattice of the same family.

    Attributes:
        job: the job with the smaller lattice.
        system: its lattice and Hamiltonian.
    """

    job: Job
    system: System


class Law(NamedTuple):
    """A fit of entropies.

    Attributes:
        coefficients: c0, c1 and, in one dimension, c.
        residual: largest deviation of the data, in nats.
        is_chain: whether the logarithm is in it.
    """

    coefficients: tuple[float, ...]
    residual: float
    is_chain: bool

    def at(self, features: Sequence[float]) -> float:
        """The entropy, at least 0."""
        terms = zip(self.coefficients, features, strict=False)
        return max(0.0, float(sum(c * x for c, x in terms)))


def relatives(job: Job, max_states: int = FIT_STATES) -> list[Relative]:
    """Lattices of the same family whose sector has few states, smallest first.

    Every length keeps its parity; sizes that the model refuses are left out.  Empty
    without a lattice with a size.
    """
    section = job.lattice
    if section is None or section.size is None:
        return []
    found = []
    for size in _sizes(list(section.size)):
        # Beyond 2^24 configurations no sector is small: do not build those.
        if math.prod(size) > 24:
            continue
        try:
            smaller = job.replace({"lattice": {"size": size}})
            made = build_system(smaller)
            if made.hamiltonian.space.n_states <= max_states:
                found.append(Relative(smaller, made))
        except (JobError, TypeError, ValueError):
            continue  # the family has no lattice of this size
    return sorted(found, key=lambda one: one.system.n_sites)


def _sizes(size: list[int]) -> list[list[int]]:
    """Smaller extents: each length kept or shorter by steps of two, at least three."""
    choices = [range(n, 2, -2) if n > 2 else range(n, n + 1) for n in size]
    found = [list(s) for s in itertools.product(*choices)]
    return [s for s in found if s != size and math.prod(s) >= 4]


def is_chain(lattice: Any) -> bool:
    """Whether the bonds join the sites in order."""
    return lattice is not None and lattice.chain_kind() is not None


def features(region: Sequence[int], lattice: Any) -> tuple[float, ...]:
    """1, the bonds cut, and for chains the logarithm of the chord length."""
    inside = set(region)
    edges = np.asarray(lattice.edges(1)).reshape(-1, 2).tolist()
    boundary = sum((i in inside) != (j in inside) for i, j in edges)
    if not is_chain(lattice):
        return 1.0, float(boundary)
    n, length = lattice.n_sites, len(inside)
    chord = n / math.pi * math.sin(math.pi * length / n)
    return 1.0, float(boundary), math.log(max(chord, 1e-9))


def _group(kind: str) -> str:
    return "blocks" if kind in _BLOCKS else kind


def fit(rows: Sequence[tuple[Sequence[float], float]], chain: bool) -> Law:
    """Least squares; features that do not vary share their weight evenly.

    Args:
        rows: features and entropy of every cut.
        chain: whether the features end with the logarithm.

    Raises:
        JobError: there is nothing to fit.
    """
    if not rows:
        raise JobError(
            "no smaller lattice of this family can be diagonalised, so no law can be "
            'fitted. Take the method "mps" or "mc".'
        )
    x = np.array([one for one, _ in rows])
    y = np.array([value for _, value in rows])
    solution = np.linalg.pinv(x, rcond=1e-9) @ y
    residual = float(np.abs(x @ solution - y).max())
    return Law(tuple(float(c) for c in solution), residual, chain)


def required_by_laws(
    job: Job, system: System, cuts: Sequence[CutSpec], *, max_states: int = FIT_STATES
) -> Required:
    """What a large lattice needs, extrapolated from smaller ones.

    The spectrum of a cut is that of the most similar cut of the largest relative,
    p -> p^b / sum p^b with b such that S1 is the extrapolated one.

    Args:
        job: the job.
        system: its lattice and Hamiltonian.
        cuts: of the large lattice.
        max_states: of the sectors diagonalised.

    Raises:
        JobError: there are no smaller lattices to learn from.
    """
    family = relatives(job, max_states)[-3:]
    data: dict[str, list[tuple[tuple[float, ...], RequiredCut]]] = {}
    per_site = None
    for one in family:
        lattice, hamiltonian = one.system.lattice, one.system.hamiltonian
        if not fits_exactly(hamiltonian, MEMORY_LIMIT):
            continue
        group = symmetry_group(hamiltonian, lattice)
        specs = all_cuts(one.system.n_sites, lattice, group=group, n_random=2)
        small = required_exactly(hamiltonian, specs)
        assert small.energy is not None
        per_site = small.energy / one.system.n_sites
        for cut in small.cuts:
            if len(cut.region) > 1:  # a single site has saturated entropy
                row = features(cut.region, lattice), cut
                data.setdefault(_group(cut.kind), []).append(row)
    found, residuals = [], {}
    chain = is_chain(system.lattice)
    for spec in cuts:
        rows = data.get(_group(spec.kind)) or data.get("blocks") or []
        law = fit([(x, cut.s1 or 0.0) for x, cut in rows], chain)
        residuals[_group(spec.kind)] = law.residual
        found.append(_scaled(spec, law, rows, system))
    notes = [
        f"laws of {', '.join(f'{k} (+-{r:.2g})' for k, r in residuals.items())} fitted "
        f"to {', '.join(str(one.system.n_sites) for one in family)} sites"
    ]
    longest = max((len(c.spectrum) for c in found if c.spectrum is not None), default=0)
    notes.append(f"weights beyond the {longest}-th are not seen by the extrapolation")
    energy = None if per_site is None else per_site * system.n_sites
    return Required(tuple(found), energy, None, None, EXTRAPOLATED, None, tuple(notes))


def _scaled(
    spec: CutSpec,
    law: Law,
    rows: Sequence[tuple[tuple[float, ...], RequiredCut]],
    system: System,
) -> RequiredCut:
    space = system.hamiltonian.space
    region = smaller_side(spec.region, space.n_sites)
    most = sum(math.log(space.local_dims[i]) for i in region)
    wanted = min(law.at(features(region, system.lattice)), most)
    near = min(rows, key=lambda row: abs((row[1].s1 or 0.0) - wanted))[1]
    assert near.spectrum is not None
    # A region has no more weights than states.
    n_states = math.prod(space.local_dims[i] for i in region)
    spectrum = with_entropy(near.spectrum[:n_states], wanted)
    s2 = entropies(spectrum)[1]
    projected = not space.is_free
    return RequiredCut(
        region, spec.kind, wanted, s2, spectrum, None, EXTRAPOLATED, None, projected
    )


def with_entropy(spectrum: np.ndarray, entropy: float) -> np.ndarray:
    """p^b / sum p^b with S1 = entropy; at most the even spectrum of as many weights."""
    logs = np.log(spectrum[spectrum > 0])

    def at(b: float) -> np.ndarray:
        p = np.exp(b * (logs - logs[0]))
        return p / p.sum()

    low, high = 0.0, 1.0
    if entropy >= math.log(len(logs)):
        return at(0.0)
    while entropies(at(high))[0] > entropy and high < 1e6:
        high *= 2
    for _ in range(100):
        middle = 0.5 * (low + high)
        if entropies(at(middle))[0] > entropy:
            low = middle
        else:
            high = middle
    return at(high)
