"""Energy per infidelity of a Hamiltonian, from optimised states of fixed rank."""

from __future__ import annotations

import math
from typing import NamedTuple

from vmc.design_fixed_rank import (
    MAX_STATES,
    FixedRank,
    exact_system,
    kappa,
    least_energies,
)
from vmc.design_laws import relatives
from vmc.design_spectra import Required, required_exactly
from vmc.errors import JobError
from vmc.job import Job
from vmc.system import System

#: Ranks at which states are optimised.
RANKS = (1, 2, 4, 8, 16)
#: kappa in units of the mean |off-diagonal element| where nothing can be measured: the
#: upper end of what is found for spin chains.
_FALLBACK = 20.0


class Calibration(NamedTuple):
    """Energies of optimised states of fixed rank across the half cut.

    Attributes:
        kappa: (E - E0) / (1 - F), the largest over the ranks.
        ground: E0 of the system that was optimised, or None.
        n_sites: its size, or None.
        states: one entry per rank; empty where nothing was optimised.
        notes: where the numbers come from, if not from the system itself.
    """

    kappa: float
    ground: float | None
    n_sites: int | None
    states: tuple[FixedRank, ...]
    notes: tuple[str, ...] = ()


def calibration(job: Job, system: System, required: Required) -> Calibration:
    """Optimise states of fixed rank on the system, or on a smaller relative.

    Args:
        job: the job.
        system: its lattice and Hamiltonian.
        required: with the ground state, where it is known exactly.
    """
    if required.vector is not None and _is_small(system):
        try:
            return _measured(system, required)
        except JobError as error:
            return _guess(system, str(error))
    for one in reversed(relatives(job)):
        if not _is_small(one.system):
            continue
        half = tuple(range(one.system.n_sites // 2))
        small = required_exactly(one.system.hamiltonian, [half])
        if small.vector is None:
            continue
        try:
            found = _measured(one.system, small)
        except JobError:
            continue
        note = f"energy per infidelity measured on {one.system.n_sites} sites"
        return found._replace(notes=(note,))
    return _guess(system, "no ground state of a small lattice of this family is known")


def _is_small(system: System) -> bool:
    space = system.hamiltonian.space
    return math.prod(space.local_dims) <= MAX_STATES and not space.blockade


def _measured(system: System, required: Required) -> Calibration:
    assert required.vector is not None and required.energy is not None
    exact = exact_system(system, required.vector, required.energy)
    half = tuple(range(system.n_sites // 2))
    states = least_energies(exact, half, RANKS)
    slope = kappa(states, required.energy, system.hamiltonian.space)
    return Calibration(slope, required.energy, system.n_sites, states)


def _guess(system: System, why: str) -> Calibration:
    slope = _FALLBACK * max(float(system.hamiltonian.mean_offdiagonal), 1e-12)
    note = f"energy per infidelity is assumed to be {slope:.3g}: {why}"
    return Calibration(slope, None, None, (), (note,))
