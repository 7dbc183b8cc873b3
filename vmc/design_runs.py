"""Required entanglement beyond exact diagonalisation: from trained states.

A matrix product state, optimised by sweeps (`vmc.design_sweeps`), knows the spectra of
its blocks and the purity of any region (`vmc.base.Exact`); of any other state the
purity is estimated from samples by the swap of a region between two copies, with all
pairs of samples (arXiv:1001.2335).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vmc import registry, swap
from vmc.base import Exact, Params, Problem
from vmc.design_cuts import CutSpec
from vmc.design_spectra import MC, MPS, Required, RequiredCut, entropies
from vmc.design_sweeps import ground_chain, padded
from vmc.distributed import walker_mesh
from vmc.earlier import Earlier, draw
from vmc.errors import JobError
from vmc.job import Job
from vmc.keys import Purpose, derive, root_key
from vmc.runs import iterate
from vmc.session import Result
from vmc.space import Spins
from vmc.system import build_system

#: Samples of the swap estimator, all pairs of which are taken.
SWAP_SAMPLES = 768


def cheap_run(job: Job, ansatz: dict[str, Any], n_steps: int) -> Result:
    """Train a wave function for the job's Hamiltonian, without files.

    Raises:
        JobError: the job does not fit the ansatz.
    """
    short = job.replace({"run": {"n_steps": n_steps, "out": None}})
    data = short.to_dict() | {"ansatz": ansatz}
    trained = Job.from_dict(data, folder=job.folder)
    trained = trained.replace({"measure": {"n_samples": 4096}})
    result = None
    for info in iterate(trained):
        result = info.result
    assert result is not None
    return result


def required_by_mps(
    job: Job,
    cuts: Sequence[CutSpec],
    *,
    bond_dimension: int = 32,
    n_sweeps: int = 24,
) -> Required:
    """Spectra of a matrix product state that sweeps optimise for the job's sector.

    Args:
        job: the job; its ansatz is not used.
        cuts: blocks in the order of the sites (or complements of blocks) get a
            spectrum, other regions their S2.
        bond_dimension: D; entropies above ln D across one bond cannot be seen.
        n_sweeps: most sweeps.

    Returns:
        `Required` with the energy of the state, no gap, every cut labelled "mps".

    Raises:
        JobError: the job has rules beyond total Sz, which the free space breaks.
    """
    if job.hamiltonian.charges or job.hamiltonian.blockade:
        raise JobError(
            "a matrix product state with exact spectra lives in the free space, but "
            'the job fixes charges or a blockade; take the method "mc"'
        )
    system = build_system(job)
    dims = tuple(system.hamiltonian.space.local_dims)
    total_sz = system.hamiltonian.space.total_sz
    numbers: dict[str, Any] = {"bond_dimension": bond_dimension, "n_sweeps": n_sweeps}
    state = ground_chain(system.operator, dims, total_sz=total_sz, **numbers)
    tensors = padded(state.tensors)
    bond = tensors.shape[-1]
    dtype = "complex" if np.iscomplexobj(tensors) else "real"
    problem = Problem(space=Spins(dims), dtype=dtype)
    tools = registry.ansatze()["mps"](problem, bond_dimension=bond).exact
    assert tools is not None
    end = np.eye(bond)[0].astype(tensors.dtype)
    params = {"tensors": tensors, "left": end, "right": end}
    params = jax.tree.map(jax.numpy.asarray, params)
    found = tuple(_mps_cut(tools, params, s, total_sz is not None) for s in cuts)
    notes = (
        f"spectra of a matrix product state with D = {bond} at E = {state.energy:.9g}: "
        f"its sweeps discard weights up to {state.discarded:.1g} at a bond, and the "
        f"last one changed E by {state.change:.0e}",
    )
    return Required(found, state.energy, None, None, MPS, None, notes)


def _mps_cut(
    tools: Exact, params: Params, spec: CutSpec, projected: bool
) -> RequiredCut:
    assert tools.spectrum is not None and tools.purity is not None
    try:
        p = np.asarray(tools.spectrum(params, spec.region), float)
        p = np.sort(p[p > 1e-14])[::-1]
        p = p / p.sum()
        s1, s2 = entropies(p)
    except JobError:  # no block of the chain
        p, s1 = None, None
        s2 = -math.log(float(tools.purity(params, spec.region)))
    return RequiredCut(spec.region, spec.kind, s1, s2, p, None, MPS, None, projected)


def required_by_swap(
    job: Job,
    cuts: Sequence[CutSpec],
    *,
    ansatz: dict[str, Any] | None = None,
    n_steps: int = 300,
    n_samples: int = SWAP_SAMPLES,
) -> Required:
    """S2 of every region by the swap estimator on a cheap run.

    Args:
        job: the job.
        cuts: regions.
        ansatz: table of the wave function to train; default a small RBM.
        n_steps: optimisation steps.
        n_samples: samples, all pairs of which are swapped; at most 1024.

    Returns:
        `Required` with the trained energy, every cut labelled "mc" with its error.
    """
    result = cheap_run(job, ansatz or {"name": "rbm"}, n_steps)
    built = result.built
    assert result.energy is not None
    state = (built.problem, built.wavefunction, result.state.params)
    earlier = Earlier(Path(), built.job, built.system, *state)
    key = derive(root_key(built.job.seed), Purpose.MEASURE)
    # One draw of every chain, so that all pairs are independent.
    samples = draw(earlier, key, n_samples)[:n_samples]
    state = (built.wavefunction, result.state.params, built.hamiltonian.space)
    projected = not built.hamiltonian.space.is_free
    mesh, found, lost = walker_mesh(jax.devices()[:1]), [], []
    for spec in cuts:
        if len(spec.region) in (0, built.n_sites):
            row = (spec.region, spec.kind, None, 0.0, None, None, MC, 0.0)
            found.append(RequiredCut(*row, projected))
            continue
        chains = np.arange(n_samples)
        one = swap.entropy_of_samples(*state, samples, chains, spec.region, mesh)
        if one.s2 is None:
            lost.append(f"{list(spec.region)}: S2 > {one.lower_bound:.2f}")
        row = (spec.region, spec.kind, None, one.s2, None, None, MC, one.error)
        found.append(RequiredCut(*row, projected))
    notes = [
        f"S2 by swaps of {n_samples} samples of an {built.job.ansatz.name} at E = "  # pyright: ignore[reportOptionalMemberAccess]
        f"{result.energy.mean:.8g} +- {result.energy.error:.1g}"
    ]
    notes += (
        [f"too small a purity for these samples, {', '.join(lost)}"] if lost else []
    )
    energy = float(result.energy.mean)
    return Required(tuple(found), energy, None, None, MC, None, tuple(notes))
