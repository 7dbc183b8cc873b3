"""What the tests of chains and overlapping circuits share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.stats import chi2

from tests.contracts import test_ansatze as contract
from vmc.base import Problem, WaveFunction
from vmc.keys import numbers
from vmc.space import spins

#: Compiles in half the time; changes only rounding.
quick_jit = contract.quick_jit


def ring(dtype: str = "complex", n: int = contract.N) -> Problem:
    return Problem(spins(n), dtype=dtype, shape=(n,), periodic=(True,))


def case(
    factory: Callable[..., WaveFunction], problem: Problem, **keys: Any
) -> contract.Case:
    """A family with keys of its own, as the contract tests want it."""
    raw = factory(problem, **keys)
    quick = {f: quick_jit(getattr(raw, f)) for f in raw._fields[:-4]}
    return contract.Case(
        problem, raw._replace(**quick), raw, contract.random_params(raw)
    )


def check_contract(
    factory: Callable[..., WaveFunction], problem: Problem, **keys: Any
) -> None:
    """Moves of one to three sites, before and after a walk, and the scores."""
    one = case(factory, problem, **keys)
    contract.test_moves(one, "mixed")
    contract.test_scores_are_the_jacobian(one)


def amplitudes(wf: WaveFunction, params: Any, problem: Problem) -> np.ndarray:
    """psi of all configurations, one axis per site."""
    log_psi = quick_jit(wf.log_psi)(params, problem.space.all_states())
    return np.exp(np.asarray(log_psi)).reshape(problem.space.local_dims)


def schmidt(psi: np.ndarray, region: list[int]) -> np.ndarray:
    """Normalised squared singular values between a region and the rest."""
    rest = [i for i in range(psi.ndim) if i not in region]
    rows = int(np.prod([psi.shape[i] for i in region]))
    matrix = psi.transpose([*region, *rest]).reshape(rows, -1)
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    return values / values.sum()


def words(problem: Problem, n: int, seed: int = 5) -> Array:
    """Random words for ``exact.sample``, uint32 (N, n)."""
    ids = jnp.arange(n, dtype=jnp.uint32)
    return numbers(jax.random.key(seed), ids, problem.space.n_sites)


def check_exact(wf: WaveFunction, params: Any, problem: Problem) -> None:
    """Norm, purities, spectra and samples of a small chain against enumeration."""
    assert wf.exact is not None
    psi = amplitudes(wf, params, problem)
    norm = np.sum(np.abs(psi) ** 2)
    np.testing.assert_allclose(wf.exact.log_norm(params), np.log(norm), atol=1e-13)
    for region in ([0, 1], [1, 2], [0, 2, 4], [0, psi.ndim - 1]):
        want = schmidt(psi, region)
        got = wf.exact.purity(params, region)
        np.testing.assert_allclose(got, np.sum(want**2), atol=1e-12)
        if region != [0, 2, 4]:
            values = np.asarray(wf.exact.spectrum(params, region))
            keep = min(len(values), len(want))
            np.testing.assert_allclose(values[:keep], want[:keep], atol=1e-12)
            np.testing.assert_allclose(values[keep:], 0, atol=1e-12)
    sigma, log_prob = wf.exact.sample(params, words(problem, 100_000))
    dims = np.array(problem.space.local_dims)
    sigma = np.asarray(sigma, np.int64)
    codes = np.ravel_multi_index(tuple(((dims - 1 - sigma) // 2).T), tuple(dims))
    p = (np.abs(psi) ** 2 / norm).reshape(-1)
    np.testing.assert_allclose(log_prob, np.log(p[codes]), atol=1e-11)
    counts = np.bincount(codes, minlength=len(p))
    often = p * len(codes) > 5
    assert counts[~often].sum() < 0.01 * len(codes)
    gap = (counts - p * len(codes))[often] ** 2 / (p * len(codes))[often]
    assert chi2.sf(gap.sum(), often.sum() - 1) > 1e-3
