"""`required`: the entanglement of a ground state by whatever means its size allows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from vmc.design_cuts import CutSpec, checked_region
from vmc.design_laws import is_chain, relatives, required_by_laws
from vmc.design_runs import required_by_mps, required_by_swap
from vmc.design_spectra import (
    EXACT,
    EXTRAPOLATED,
    MC,
    MEMORY_LIMIT,
    METHODS,
    MPS,
    Required,
    exact_memory,
    fits_exactly,
    required_exactly,
)
from vmc.errors import JobError
from vmc.job import Job
from vmc.system import System

#: Largest sector that "auto" diagonalises.
ED_STATES = 3 * 10**6


def required(
    job: Job,
    system: System,
    cuts: Sequence[CutSpec | Sequence[int]],
    *,
    method: str = "auto",
    memory_limit: int = MEMORY_LIMIT,
    bond_dimension: int = 32,
    n_steps: int = 300,
    note: Callable[[str], None] | None = None,
) -> Required:
    """What the ground state of a job needs across some cuts.

    Args:
        job: the job; its ansatz is not used.
        system: its lattice and Hamiltonian, as `vmc.system.build_system` makes them.
        cuts: regions, or specs with a kind.
        method: "exact" (diagonalisation, up to 20-24 sites), "mps" (a matrix product
            state, by sweeps), "mc" (swap estimator on a trained RBM), "extrapolated"
            (laws fitted to smaller lattices), or "auto".
        memory_limit: bytes of a diagonalisation.
        bond_dimension: of the matrix product state.
        n_steps: optimisation steps of the RBM.
        note: called with what is done before it is done.

    Returns:
        `vmc.design_spectra.Required`, every cut with the label of its origin.

    Raises:
        JobError: a region is outside, the method is unknown or does not fit; where
            diagonalisation is too large the message names memory and other ways.
    """
    n_sites = system.n_sites
    specs = [
        CutSpec(checked_region(c.region, n_sites), c.kind)
        if isinstance(c, CutSpec)
        else CutSpec(checked_region(c, n_sites), "given")
        for c in cuts
    ]
    if method not in ("auto", *METHODS):
        near = difflib.get_close_matches(method, METHODS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise JobError(
            f"method {method!r} is not one of auto, {', '.join(METHODS)}{hint}"
        )
    if method == "auto":
        method = chosen_method(job, system, memory_limit)
    say = note or (lambda text: None)
    if method == EXACT:
        if fits_exactly(system.hamiltonian, memory_limit):
            needed = exact_memory(system.hamiltonian) / 2**30
            say(
                f"diagonalising {system.hamiltonian.space.n_states} states, up to "
                f"{needed:.3g} GiB"
            )
        return required_exactly(system.hamiltonian, specs, memory_limit=memory_limit)
    if method == MPS:
        say(f"sweeping a matrix product state with D = {bond_dimension}")
        return required_by_mps(job, specs, bond_dimension=bond_dimension)
    if method == MC:
        say("training an RBM for the swap estimator")
        return required_by_swap(job, specs, n_steps=n_steps)
    say("fitting entropy laws to smaller lattices")
    return required_by_laws(job, system, specs)


def chosen_method(job: Job, system: System, memory_limit: int) -> str:
    """What "auto" takes: the most reliable way that the size allows."""
    hamiltonian = system.hamiltonian
    small = hamiltonian.space.n_states <= ED_STATES
    if small and fits_exactly(hamiltonian, memory_limit):
        return EXACT
    ruled = bool(job.hamiltonian.charges or job.hamiltonian.blockade)
    if is_chain(system.lattice) and system.n_sites <= 128 and not ruled:
        return MPS
    return EXTRAPOLATED if relatives(job) else MC
