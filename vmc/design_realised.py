"""The entanglement that a trained state has: from all amplitudes, structure or samples.

Small spaces are enumerated; families whose structure gives entropies (`vmc.base.Exact`)
are asked for them at any size; of everything else the purity is estimated by swapping
regions between samples (arXiv:1001.2335).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vmc import registry, swap
from vmc.assembly import Built
from vmc.base import Params
from vmc.design_cuts import Region
from vmc.design_runs import SWAP_SAMPLES
from vmc.design_spectra import EXACT, MC, entropies
from vmc.distributed import walker_mesh
from vmc.earlier import Earlier, draw
from vmc.errors import JobError, NumericalError
from vmc.factors import expand_factors
from vmc.keys import Purpose, derive, root_key

#: Largest space, in states, whose amplitudes are all computed.
VECTOR_STATES = 2**18
#: Amplitudes (and rows of scores) computed at a time.
_CHUNK = 2**12
#: Most parameters, and most states times parameters squared, of `captured`.
MAX_PARAMETERS, _MAX_WORK = 4096, 4e11
#: Directions of psi whose norm is below this, relatively, do not count as directions.
_CUTOFF = 1e-8


class RealisedCut(NamedTuple):
    """The entanglement of a trained state across one cut.

    Attributes:
        region: sites of one side, ascending.
        s1: von Neumann entropy in nats, or None.
        s2: Renyi entropy in nats, or None where samples do not resolve it.
        error: one standard error of s2; None where it has none.
        spectrum: Schmidt weights, largest first, or None.
        label: "exact" or "mc".
    """

    region: Region
    s1: float | None
    s2: float | None
    error: float | None
    spectrum: np.ndarray | None
    label: str


class Amplitudes(NamedTuple):
    """A trained state among all configurations of a small space.

    Attributes:
        states: int8 (D, N), in the order of the space.
        vector: (D,), normalised, in the sign gauge of the Hamiltonian.
        matrix: H, sparse (D, D).
        energy: <H>.
        residual: (H - <H>) psi, (D,); its squared norm is the variance.
    """

    states: np.ndarray
    vector: np.ndarray
    matrix: Any
    energy: float
    residual: np.ndarray

    @property
    def variance(self) -> float:
        """<H^2> - <H>^2."""
        return float(np.vdot(self.residual, self.residual).real)


def amplitudes(built: Built, params: Params) -> Amplitudes | None:
    """All amplitudes of a state, or None where there are too many.

    Raises:
        NumericalError: the state is zero or not finite.
    """
    space = built.hamiltonian.space
    if math.prod(space.local_dims) >= 2**62 or space.n_states > VECTOR_STATES:
        return None
    states = space.all_states()
    log_psi = jax.jit(built.wavefunction.log_psi)
    logs = np.concatenate(
        [np.asarray(log_psi(params, rows))[:kept] for rows, kept in _chunks(states)]
    )
    psi = np.exp(logs - np.max(np.real(logs)))
    # Of real weights the phases are 0 and pi, and psi is real.
    psi = psi if built.wavefunction.range == "complex" else np.real(psi)
    norm = np.linalg.norm(psi)
    if not np.isfinite(norm) or norm == 0:
        raise NumericalError(
            f"the norm of psi is {norm}: these parameters are no state. Take an "
            "earlier checkpoint."
        )
    psi = psi / norm
    matrix = registry.to_sparse(built.hamiltonian)
    applied = matrix @ psi
    energy = float(np.vdot(psi, applied).real)
    return Amplitudes(states, psi, matrix, energy, applied - energy * psi)


def _chunks(states: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Rows in pieces of one shape, and how many of each count."""
    size = min(_CHUNK, len(states))
    pieces = [states[i : i + size] for i in range(0, len(states), size)]
    fill = [np.repeat(piece[:1], size - len(piece), axis=0) for piece in pieces]
    return [
        (np.concatenate([piece, more]), len(piece))
        for piece, more in zip(pieces, fill, strict=True)
    ]


def captured(
    wavefunction: Any, params: Params, found: Amplitudes
) -> tuple[float, int] | None:
    """Fraction of the residual (H - E) psi that small changes of parameters undo.

    The residual is the direction of imaginary time; its projection on the tangent space
    {d psi / d theta_k} is what any optimiser can follow.  0 is a stationary point: no
    change of these parameters lowers the energy to first order.  1 is the freedom of a
    full vector.

    Args:
        wavefunction: psi, perhaps a larger one with equal amplitudes.
        params: its parameters, real or complex (holomorphic).
        found: the amplitudes.

    Returns:
        The fraction and the number of independent directions, or None where there are
        too many parameters.
    """
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    work = float(len(found.vector)) * count**2
    if count > MAX_PARAMETERS or work > _MAX_WORK or found.variance == 0:
        return None
    real = not any(np.iscomplexobj(leaf) for leaf in jax.tree.leaves(params))

    @jax.jit
    def rows_of(params: Params, sigma: Any) -> Any:
        factors = jax.tree.leaves(
            wavefunction.scores(params, sigma), is_leaf=lambda x: isinstance(x, tuple)
        )
        blocks = [expand_factors(f) for f in factors]
        return jax.numpy.concatenate(blocks, axis=1)

    dtype = float if real and not np.iscomplexobj(found.vector) else complex
    gram, force = np.zeros((count, count), dtype), np.zeros(count, dtype)
    mean, start = np.zeros(count, dtype), 0
    for sigma, kept in _chunks(found.states):
        scores = np.asarray(rows_of(params, sigma))[:kept]
        psi = found.vector[start : start + kept, None]
        rows = np.asarray(scores * psi, dtype)
        gram += rows.conj().T @ rows
        force += rows.conj().T @ found.residual[start : start + kept]
        mean += rows.conj().T @ psi[:, 0]
        start += kept
    # Without psi itself; the residual is orthogonal to it.
    gram -= np.outer(mean, mean.conj())
    if real:
        gram, force = np.real(gram), np.real(force)
    values, vectors = np.linalg.eigh(gram)
    good = values > _CUTOFF * values[-1]
    parts = np.abs(vectors[:, good].conj().T @ force) ** 2 / values[good]
    return min(1.0, float(np.sum(parts)) / found.variance), int(np.sum(good))


def realised(
    built: Built,
    params: Params,
    regions: Sequence[Region],
    found: Amplitudes | None,
    n_samples: int = SWAP_SAMPLES,
) -> tuple[RealisedCut, ...]:
    """The entanglement of a trained state across some cuts.

    Args:
        built: the objects of the run.
        params: its parameters.
        regions: none empty or full.
        found: all amplitudes, where there are few enough.
        n_samples: of the swap estimator, all pairs of which are taken; at most 1024.
    """
    space, tools = built.hamiltonian.space, built.wavefunction.exact
    if found is not None:
        return tuple(_from_vector(space, found.vector, r) for r in regions)
    if tools is not None and space.is_free and tools.spectrum is not None:
        known = [_from_structure(tools, params, r) for r in regions]
        if all(one is not None for one in known):
            return tuple(one for one in known if one is not None)
    earlier = Earlier(
        Path(), built.job, built.system, built.problem, built.wavefunction, params
    )
    key = derive(root_key(built.job.seed), Purpose.MEASURE)
    # One draw of every chain, so that all pairs are independent.
    samples = draw(earlier, key, n_samples)[:n_samples]
    state = built.wavefunction, params, space, samples, np.arange(len(samples))
    mesh, out = walker_mesh(jax.devices()[:1]), []
    for region in regions:
        one = swap.entropy_of_samples(*state, region, mesh)
        out.append(RealisedCut(region, None, one.s2, one.error, None, MC))
    return tuple(out)


def _from_vector(space: Any, vector: np.ndarray, region: Region) -> RealisedCut:
    cut = registry.entanglement(space, vector, region)
    p = np.asarray(cut.spectrum)
    s1, s2 = entropies(p)
    return RealisedCut(region, s1, s2, None, p, EXACT)


def _from_structure(tools: Any, params: Params, region: Region) -> RealisedCut | None:
    """From the spectrum of a block, else the purity; None where neither is known."""
    try:
        p = np.asarray(tools.spectrum(params, region), float)
        p = np.sort(p[p > 1e-14])[::-1]
        p = p / p.sum()
        s1, s2 = entropies(p)
        return RealisedCut(region, s1, s2, None, p, EXACT)
    except JobError:
        pass
    try:
        s2 = -math.log(float(tools.purity(params, region)))
    except (JobError, TypeError):
        return None
    return RealisedCut(region, None, s2, None, None, EXACT)
