"""Renyi-2 entropies S2 = -ln Tr rho_A^2 by the swap of a region between two replicas.

For configurations x, y of |psi|^2 and x', y' with their sites in A exchanged,
Tr rho_A^2 = E[psi(x') psi(y') / (psi(x) psi(y))] (arXiv:1001.2335).  All pairs of
samples from different chains are used (a U-statistic), whose error is several times
below that of disjoint pairs.  A pair that leaves the sector contributes exactly 0.
Entropies are in nats; a sign gauge of single sites drops out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from vmc import distributed, elementary
from vmc.base import Params, WaveFunction
from vmc.chunking import bytes_per_row, chunk_size, default_budget, map_chunks
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.errors import JobError, NumericalError
from vmc.space import Spins

#: Samples whose pairs are evaluated.
N_SAMPLES = 1024
#: Chains without which a jackknife over them says nothing.
MIN_CHAINS = 8
#: Pairs of one call, per device.
PAIRS = 1 << 14
#: Standard errors that a purity must be away from 0 for its logarithm to be quoted.
RESOLVED = 3.0


class Entropy(NamedTuple):
    """A Renyi-2 entropy.

    Attributes:
        s2: -ln of the purity in nats, free of the bias of first order; None if the
            purity is not `RESOLVED` from 0.
        error: one standard error of s2, or None.
        lower_bound: ln(1 / (3 standard errors of the purity)) where s2 is None.
        purity: Tr rho_A^2.
        purity_error: one standard error.
        method: "exact", "full" or "swap".
    """

    s2: float | None
    error: float | None
    lower_bound: float | None
    purity: float
    purity_error: float
    method: str


def checked_region(region: Sequence[int], n_sites: int) -> tuple[int, ...]:
    """A region as sorted sites.

    Raises:
        JobError: it is empty, everything, repeats a site or names one outside.
    """
    sites = sorted(int(i) for i in region)
    wrong = [i for i in sites if not 0 <= i < n_sites]
    if wrong:
        raise JobError(
            f"the region names site {wrong[0]}, but there are sites 0 to {n_sites - 1}"
        )
    if len(set(sites)) < len(sites):
        raise JobError(f"the region {sites} repeats a site")
    if not 0 < len(sites) < n_sites:
        raise JobError(
            f"a region has 1 to {n_sites - 1} of the {n_sites} sites, this one has "
            f"{len(sites)}: an entropy belongs to a cut in two parts"
        )
    return tuple(sites)


# ---- all configurations ----------------------------------------------------------


def entropy_of_state(
    states: np.ndarray, psi: np.ndarray, region: Sequence[int]
) -> Entropy:
    """From all amplitudes.

    Args:
        states: int8 (D, N), every configuration once.
        psi: (D,), not necessarily normalised.
        region: sites of A.
    """
    sites = checked_region(region, states.shape[1])
    inside = np.isin(np.arange(states.shape[1]), sites)
    a = np.unique(states[:, inside], axis=0, return_inverse=True)[1].reshape(-1)
    b = np.unique(states[:, ~inside], axis=0, return_inverse=True)[1].reshape(-1)
    matrix = np.zeros((a.max() + 1, b.max() + 1), psi.dtype)
    matrix[a, b] = psi / np.linalg.norm(psi)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    purity = float(np.sum(np.abs(matrix @ matrix.conj().T) ** 2))
    return Entropy(-math.log(purity), 0.0, None, purity, 0.0, "full")


# ---- samples ---------------------------------------------------------------------


def chosen(samples: np.ndarray, n: int = N_SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Some of the kept configurations, spread over chains and time.

    Args:
        samples: int8 (n, C, N), draws of every chain.
        n: about how many.

    Returns:
        int8 (S, N) and the chain of each, int (S,).

    Raises:
        JobError: there are too few chains.
    """
    n_kept, n_chains, n_sites = samples.shape
    if n_chains < MIN_CHAINS:
        raise JobError(
            f"a swap needs pairs of samples from independent chains, at least "
            f"{MIN_CHAINS} of them; sampler.n_chains is {n_chains}"
        )
    chains = np.arange(n_chains)
    if n_chains > n:
        chains = chains[np.arange(n) * n_chains // n]
    each = max(1, min(n_kept, n // len(chains)))
    # Backwards from the last, which is the best thermalised.
    times = n_kept - 1 - np.arange(each) * n_kept // each
    picked = samples[times][:, chains]
    return picked.reshape(-1, n_sites), np.tile(chains, each)


def entropy_of_samples(
    wavefunction: WaveFunction,
    params: Params,
    space: Spins,
    sigma: np.ndarray,
    chain: np.ndarray,
    region: Sequence[int],
    mesh: Mesh,
) -> Entropy:
    """From all pairs of samples of different chains, with a jackknife over chains.

    Args:
        wavefunction: psi.
        params: its parameters.
        space: the configurations.
        sigma: int8 (S, N), samples of |psi|^2.
        chain: int (S,), the chain of each; chains are independent.
        region: sites of A.
        mesh: devices that share the pairs.

    Raises:
        JobError: the region is none, or there are fewer than two chains.
        NumericalError: an amplitude is not finite.
    """
    sites = checked_region(region, space.n_sites)
    inside = np.isin(np.arange(space.n_sites), sites)
    pairs = np.stack(np.triu_indices(len(sigma), 1))
    pairs = pairs[:, chain[pairs[0]] != chain[pairs[1]]]
    if pairs.shape[1] == 0:
        raise JobError("a swap needs samples of at least two independent chains")
    first, second = pairs
    kept = allowed(space, sigma, inside, first, second)
    ratios = np.zeros(len(first))
    ratios[kept] = _swapped(
        wavefunction, params, sigma, inside, first[kept], second[kept], mesh
    )
    return _jackknife(ratios, chain[first], chain[second])


def allowed(
    space: Spins,
    sigma: np.ndarray,
    inside: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> np.ndarray:
    """Whether swapped pairs stay in the sector, bool (P,).

    Args:
        space: the configurations.
        sigma: int8 (S, N), samples of the sector.
        inside: bool (N,), the region.
        first: int (P,), one member of every pair.
        second: int (P,), the other.
    """
    keep = np.ones(len(first), bool)
    if space.total_sz is not None:
        inner = sigma[:, inside].astype(np.int64) @ np.ones(np.sum(inside), np.int64)
        keep &= inner[first] == inner[second]
    tops = np.array(space.local_dims) - 1
    lowered = (tops - sigma.astype(np.int64)) // 2
    for charge in space.charges:
        inner = lowered[:, inside] @ np.array(charge.weights)[inside]
        keep &= charge.fits(inner[first] - inner[second])
    for i, j in space.blockade:
        if inside[i] != inside[j]:
            one, other = lowered[:, i] > 0, lowered[:, j] > 0
            keep &= ~(one[first] & other[second]) & ~(one[second] & other[first])
    return keep


def _swapped(
    wavefunction: WaveFunction,
    params: Params,
    sigma: np.ndarray,
    inside: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    mesh: Mesh,
) -> np.ndarray:
    """Real part of psi(x') psi(y') / (psi(x) psi(y)) for pairs, float (P,)."""
    own, program = _programs(wavefunction, params, sigma.shape[1], mesh)
    padded = np.resize(sigma, (-(-len(sigma) // mesh.size) * mesh.size, sigma.shape[1]))
    log_psi = own(params, padded)
    step = PAIRS * mesh.size
    out = np.empty(len(first))
    for start in range(0, len(first), step):
        stop = min(start + step, len(first))
        index = np.zeros((step, 2), np.int32)
        index[: stop - start] = np.stack([first, second], axis=1)[start:stop]
        part = program(params, padded, log_psi, inside, index)
        out[start:stop] = np.asarray(part, np.float64)[: stop - start]
    if not np.all(np.isfinite(out)):
        raise NumericalError(
            "an amplitude of a swapped configuration is not finite: the parameters "
            "are not usable for an entropy"
        )
    return out


def _programs(
    wavefunction: WaveFunction, params: Params, n_sites: int, mesh: Mesh
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Compiled: log psi of the samples, and the ratios of pairs of them."""
    row = jax.ShapeDtypeStruct((n_sites,), jnp.int8)
    each = bytes_per_row(wavefunction.log_psi, params, row)

    def log_psi(params: Params, sigma: Array) -> Array:
        chunk = chunk_size(sigma.shape[0], each, default_budget())
        evaluate = functools.partial(wavefunction.log_psi, params)
        return map_chunks(evaluate, sigma, chunk)

    def own(params: Params, sigma: Array) -> Array:
        return distributed.gather(log_psi(params, sigma))

    def ratios(
        params: Params, sigma: Array, logs: Array, inside: Array, index: Array
    ) -> Array:
        x, y = sigma[index[:, 0]], sigma[index[:, 1]]
        both = [jnp.where(inside[None], x, y), jnp.where(inside[None], y, x)]
        swapped = log_psi(params, jnp.concatenate(both)).reshape(2, -1)
        log_ratio = jnp.sum(swapped, axis=0) - jnp.sum(logs[index], axis=1)
        return distributed.gather(elementary.exp(log_ratio).real)

    specs = (REPLICATED, BY_WALKER)
    first = distributed.compiled(own, mesh, specs, REPLICATED)
    specs = (REPLICATED,) * 4 + (BY_WALKER,)
    return first, distributed.compiled(ratios, mesh, specs, REPLICATED)


def _jackknife(ratios: np.ndarray, one: np.ndarray, other: np.ndarray) -> Entropy:
    """The entropy with its error, leaving out one chain after the other."""
    chains, index = np.unique(np.concatenate([one, other]), return_inverse=True)
    n, half = len(chains), len(one)
    first, second = np.sort(index.reshape(2, half), axis=0)

    def touching(values: np.ndarray) -> np.ndarray:
        return np.bincount(first, values, n) + np.bincount(second, values, n)

    total, count = np.sum(ratios), float(half)
    purity = float(total / count)
    left = count - touching(np.ones(half))
    without = (total - touching(ratios)) / np.maximum(left, 1)
    spread = math.sqrt((n - 1) / n * np.sum((without - np.mean(without)) ** 2))
    # Where every configuration has the same mean ratio (a maximally mixed region) that
    # vanishes, and the noise of pairs of chains is what is left.
    both = np.bincount(first * n + second, ratios - purity)
    error = max(spread, math.sqrt(float(np.sum(both**2))) / count)
    if purity <= RESOLVED * error or np.any(without <= 0):
        bound = max(-math.log(RESOLVED * max(error, 1 / count)), 0.0)
        return Entropy(None, None, bound, purity, error, "swap")
    pseudo = -n * math.log(purity) + (n - 1) * np.log(without)
    s2_error = max(float(np.std(pseudo, ddof=1)) / math.sqrt(n), error / purity)
    return Entropy(float(np.mean(pseudo)), s2_error, None, purity, error, "swap")
