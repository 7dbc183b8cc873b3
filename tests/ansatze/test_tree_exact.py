"""Norm, exact sampling, purities and spectra of trees, against enumeration."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from ansatze.convac import convac
from ansatze.cp import cp
from ansatze.ttn import ttn
from tests.ansatze import modp
from tests.ansatze.cases import quick_jit, words
from tests.ansatze.test_trees import generic
from vmc.base import Exact, Problem, WaveFunction
from vmc.errors import JobError
from vmc.space import Spins, spins

TREES: dict[str, tuple[Any, Spins, dict]] = {
    "ttn": (ttn, spins(6), {"bond_dimension": 3}),
    "ttn-mixed": (ttn, spins(5, spin=[0.5, 1, 0.5, 1, 1]), {"bond_dimension": 3}),
    "cp": (cp, spins(7), {"rank": 3}),
    "convac": (convac, spins(8), {"channels": (3, 4, 2)}),
    "convac-4": (convac, spins(6), {"channels": 3, "window": 4, "sharing": "none"}),
}


def made(name: str) -> tuple[WaveFunction, Exact, Any, np.ndarray, Spins]:
    factory, space, keys = TREES[name]
    dtype = "real" if name in ("ttn", "convac-4") else "complex"
    wf = factory(Problem(space, dtype=dtype), **keys)
    params = generic(wf)
    psi = np.exp(np.asarray(quick_jit(wf.log_psi)(params, space.all_states())))
    assert wf.exact is not None
    return wf, wf.exact, params, psi / np.linalg.norm(psi), space


def trees(*fast: str) -> list[Any]:
    marks = {name: () if name in fast else pytest.mark.slow for name in TREES}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def purity_of(exact: Exact, params: Any, region: Any) -> np.ndarray:
    assert exact.purity is not None
    return np.asarray(quick_jit(lambda p: exact.purity(p, region))(params))


def order_of(sigma: np.ndarray, space: Spins) -> np.ndarray:
    dims = np.array(space.local_dims)
    index = (dims - 1 - sigma.astype(int)) // 2
    return np.ravel_multi_index(tuple(index.T), space.local_dims)


@pytest.mark.parametrize("name", trees("convac", "ttn-mixed"))
def test_samples_follow_the_state(name: str) -> None:
    wf, exact, params, psi, space = made(name)
    draw = quick_jit(exact.sample)
    sigma, log_prob = map(np.asarray, draw(params, words(Problem(space), 100_000)))
    assert sigma.dtype == np.int8
    p = np.abs(psi) ** 2
    which = order_of(sigma, space)
    # The chain rule: conditional probabilities multiply to |psi|^2 / norm.
    np.testing.assert_allclose(np.exp(log_prob), p[which], rtol=1e-12)
    counts, expected = np.bincount(which, minlength=len(p)), p * len(which)
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    assert chisquare(counts[keep], expected[keep]).pvalue > 1e-3


def test_clamped_sites() -> None:
    """Conditional draws: probabilities of the rest, given one fixed spin."""
    _, exact, params, psi, space = made("ttn")
    allowed = np.ones((6, 2), bool)
    allowed[2], allowed[4] = [False, True], [True, False]
    draw = quick_jit(exact.sample)
    sigma, log_prob = map(np.asarray, draw(params, words(Problem(space), 500), allowed))
    assert np.all(sigma[:, 2] == -1) and np.all(sigma[:, 4] == 1)
    assert len(np.unique(sigma, axis=0)) > 4
    states, p = space.all_states(), np.abs(psi) ** 2
    weight = np.sum(p[(states[:, 2] == -1) & (states[:, 4] == 1)])
    np.testing.assert_allclose(
        np.exp(log_prob), p[order_of(sigma, space)] / weight, rtol=1e-12
    )
    log_norm = quick_jit(exact.log_norm)
    got = log_norm(params, allowed) - log_norm(params)
    np.testing.assert_allclose(np.exp(got), weight, rtol=1e-12)


@pytest.mark.parametrize("name", trees("convac"))
def test_purity_of_any_region(rng: np.random.Generator, name: str) -> None:
    _, exact, params, psi, space = made(name)
    n = space.n_sites
    tensor = psi.reshape(space.local_dims)
    for size in (1, 2, n // 2):
        region = sorted(rng.permutation(n)[:size].tolist())
        p = np.linalg.svd(modp.cut(tensor, region), compute_uv=False) ** 2
        got = purity_of(exact, params, region)
        np.testing.assert_allclose(got, np.sum(p**2), rtol=1e-11)
        rest = [i for i in range(n) if i not in region]
        np.testing.assert_allclose(purity_of(exact, params, rest), got, rtol=1e-11)


@pytest.mark.parametrize("name", trees("convac"))
def test_spectrum_of_blocks(name: str) -> None:
    _, exact, params, psi, space = made(name)
    tensor, n = psi.reshape(space.local_dims), space.n_sites
    block = {"convac-4": [0, 1, 2, 3]}.get(name, [2, 3])
    for region in (block, [i for i in range(n) if i not in block], [n - 1]):
        want = np.linalg.svd(modp.cut(tensor, region), compute_uv=False) ** 2
        got = quick_jit(lambda p, r=tuple(region): exact.spectrum(p, r))(params)
        got = np.asarray(got)
        k = min(len(want), len(got))
        np.testing.assert_allclose(got[:k], want[:k], atol=1e-13)
        np.testing.assert_allclose(want[k:], 0, atol=1e-13)
        purity = purity_of(exact, params, region)
        np.testing.assert_allclose(np.sum(got**2), purity, rtol=1e-11)
    with pytest.raises(JobError, match="block"):
        exact.spectrum(params, [0, 2])
    with pytest.raises(JobError, match="outside"):
        exact.purity(params, [n])
    assert exact.spectrum(params, range(n)) == 1


@pytest.mark.slow
def test_large_trees(rng: np.random.Generator) -> None:
    """N = 256, where nothing can be enumerated: bounds and consistency."""
    n, r = 256, 4
    for wf in (
        convac(Problem(spins(n)), channels=r),
        ttn(Problem(spins(n)), bond_dimension=r),
    ):
        params, exact = generic(wf), wf.exact
        assert exact is not None
        purity = exact.purity(params, range(n // 2))
        assert 0 <= -np.log(purity) <= np.log(r) + 1e-12
        spectrum = np.asarray(exact.spectrum(params, range(n // 2)))
        np.testing.assert_allclose(np.sum(spectrum**2), purity, rtol=1e-10)
        region = rng.permutation(n)[:100]
        rest = np.setdiff1d(np.arange(n), region)
        np.testing.assert_allclose(
            exact.purity(params, region), exact.purity(params, rest), rtol=1e-8
        )
        draw = quick_jit(exact.sample)
        sigma, log_prob = draw(params, words(Problem(spins(n)), 4))
        want = 2 * quick_jit(wf.log_psi)(params, sigma).real - exact.log_norm(params)
        np.testing.assert_allclose(log_prob, want, rtol=1e-10)
