"""Error bars against chains whose autocorrelation is known."""

import numpy as np
import pytest

from vmc import stats


def ar1(
    rho: float, n_draws: int, n_chains: int, seed: int = 0, repeats: int = 1
) -> np.ndarray:
    """Stationary chains x' = rho x + noise with variance 1: tau = (1+rho)/(1-rho)."""
    rng = np.random.default_rng(seed)
    x = np.empty((n_draws, repeats * n_chains))
    x[0] = rng.normal(size=repeats * n_chains)
    noise = rng.normal(size=x.shape) * np.sqrt(1 - rho**2)
    for t in range(1, n_draws):
        x[t] = rho * x[t - 1] + noise[t]
    return x


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.3, 0.7, 0.9])
@pytest.mark.parametrize("n_chains", [1, 64])
def test_tau_of_known_chains(rho: float, n_chains: int) -> None:
    x = ar1(rho, 8192 if n_chains == 1 else 512, n_chains)
    want = max((1 + rho) / (1 - rho), 1.0)
    np.testing.assert_allclose(stats.integrated_time(x), want, rtol=0.15)


def test_autocovariance_is_its_definition() -> None:
    x = ar1(0.5, 6, 3)
    for lag, got in enumerate(stats.autocovariance(x, 9)):
        pairs = [x[t, c] * x[t + lag, c] for c in range(3) for t in range(6 - lag)]
        np.testing.assert_allclose(got, np.mean(pairs), rtol=1e-12)
    assert len(stats.autocovariance(x, 9)) == 6


@pytest.mark.parametrize("rho", [0.0, 0.8])
@pytest.mark.parametrize(("n_draws", "n_chains"), [(512, 4), (64, 16), (16, 256)])
def test_one_standard_error_covers_two_thirds(
    rho: float, n_draws: int, n_chains: int
) -> None:
    repeats = 300
    x = 3.0 + ar1(rho, n_draws, n_chains, repeats=repeats)
    found = [stats.estimate(x[:, i::repeats]) for i in range(repeats)]
    coverage = np.mean([abs(e.mean - 3.0) < e.error for e in found])
    # 0.683 +- 0.027 for 300 repeats; few chains and long tau cost a little.
    assert 0.58 < coverage < 0.77
    errors = np.mean([e.error for e in found])
    np.testing.assert_allclose(errors, np.std([e.mean for e in found]), rtol=0.15)
    assert found[0].n_samples == n_draws * n_chains
    np.testing.assert_allclose(found[0].ess, found[0].n_samples / found[0].tau)


def test_a_naive_error_would_fail_that_test() -> None:
    x = ar1(0.8, 64, 16)
    naive = np.std(x) / np.sqrt(x.size)
    assert stats.estimate(x).error > 2 * naive


def test_variance_of_complex_local_energies_is_taken_as_given() -> None:
    x = ar1(0.0, 16, 8)
    plain, given = stats.estimate(x), stats.estimate(x, 7.0)
    assert given.variance == 7.0
    np.testing.assert_allclose(plain.variance, np.var(x))
    assert given.error == plain.error


@pytest.mark.parametrize("n_chains", [4, 128])
def test_r_hat_sees_chains_that_disagree(n_chains: int) -> None:
    x = ar1(0.3, 256, n_chains)
    assert 0.99 < stats.split_r_hat(x) < 1.02
    apart = x + np.linspace(-2, 2, n_chains)[None, :]
    assert stats.r_hat(apart) > 1.3
    assert stats.estimate(apart).r_hat > 1.3


def test_split_r_hat_sees_a_drift() -> None:
    x = ar1(0.0, 256, 16) + np.linspace(-2, 2, 256)[:, None]
    assert stats.r_hat(x) < 1.01
    assert stats.split_r_hat(x) > 1.2


def test_pooled_ignores_the_motion_of_the_mean() -> None:
    steps = np.linspace(0, -50, 20)[:, None]
    healthy = stats.pooled(ar1(0.3, 20, 512) + steps)
    assert abs(healthy.r_hat - np.sqrt(19 / 20 + 1.3 / 0.7 / 20)) < 0.02
    np.testing.assert_allclose(healthy.tau, 1.3 / 0.7, rtol=0.2)
    stuck = ar1(0.0, 1, 512).repeat(20, 0) + 0.1 * ar1(0.0, 20, 512) + steps
    assert stats.pooled(stuck).r_hat > 3
    assert np.isnan(stats.pooled(stuck[:3]).r_hat)


def test_degenerate_series() -> None:
    constant = np.full((16, 8), -3.0)
    e = stats.estimate(constant)
    assert (e.mean, e.error, e.variance, e.tau, e.r_hat) == (-3.0, 0, 0, 1, 1)
    frozen = np.arange(8.0)[None, :].repeat(16, 0)
    assert np.isinf(stats.estimate(frozen).r_hat)
    # Frozen chains are worth one sample each.
    assert stats.estimate(frozen).ess < 2 * 8
    assert np.isnan(stats.r_hat(np.ones((1, 8))))
    assert np.isnan(stats.r_hat(np.ones((8, 1))))


def test_v_score() -> None:
    assert stats.v_score(-10.0, 2.0, 16, -2.0) == 16 * 2.0 / 64.0
    assert stats.v_score(-10.0, 0.0, 16, 0.0) == 0
    assert np.isnan(stats.v_score(1.0, 2.0, 16, 1.0))
