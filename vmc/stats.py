"""Error bars and convergence diagnostics of Markov chains (host side, numpy).

Arrays are (T, C): T draws of each of C chains.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.floating]


class Estimate(NamedTuple):
    """A mean with an error bar that knows about autocorrelation.

    Attributes:
        mean: average over draws and chains.
        error: one standard error of the mean.
        variance: of one sample.
        tau: integrated autocorrelation time in draws, 1 if independent.
        r_hat: split R-hat; 1 if the chains agree.
        n_samples: samples used.
        ess: effective number of independent samples.
        blocked_error: the error from the spread of long blocks, without a model of the
            autocorrelation; nan without at least four blocks.
        variance_error: one standard error of the variance, from the same blocks.
        burn_in: draws per chain that were left out at the start.
    """

    mean: float
    error: float
    variance: float
    tau: float
    r_hat: float
    n_samples: int
    ess: float
    blocked_error: float = math.nan
    variance_error: float = math.nan
    burn_in: int = 0


def autocovariance(x: Series, max_lag: int) -> Series:
    """Autocovariances at lags 0..max_lag, averaged over chains, (max_lag + 1,).

    ``x`` must be centred by the caller.
    """
    n = x.shape[0]
    return np.array(
        [np.mean(x[: n - lag] * x[lag:]) for lag in range(min(max_lag, n - 1) + 1)]
    )


def integrated_time(x: Series) -> float:
    """Integrated autocorrelation time 1 + 2 sum rho, by Geyer's initial sequence.

    Sums of adjacent pairs of autocorrelations are taken while positive and made
    non-increasing (Geyer, Stat. Sci. 7, 473 (1992)).

    Args:
        x: (T, C); the overall mean is removed.
    """
    n_draws = x.shape[0]
    if n_draws < 4:
        return 1.0
    centred = x - np.mean(x)
    first = np.mean(centred * centred)
    if first <= 0:
        return 1.0
    total, smallest = 0.0, math.inf
    # Lag by lag: the sequence ends long before the longest one.
    for lag in range(0, n_draws // 2, 2):
        two = sum(np.mean(centred[: n_draws - k] * centred[k:]) for k in (lag, lag + 1))
        if two <= 0:
            break
        smallest = min(smallest, two / first)
        total += smallest
    return float(max(2 * total - 1, 1.0))


def r_hat(x: Series) -> float:
    """Potential scale reduction of chains (T, C); nan if T < 2 or C < 2."""
    n_draws, n_chains = x.shape
    if n_draws < 2 or n_chains < 2:
        return float("nan")
    return r_hat_of(np.mean(x, axis=0), np.var(x, axis=0, ddof=1), n_draws)


def r_hat_of(means: Series, variances: Series, n_draws: int) -> float:
    """R-hat from the mean and the (unbiased) variance of every chain, (C,) each."""
    within = np.mean(variances)
    between = np.var(means, ddof=1)
    if within <= 0:
        return 1.0 if between <= 0 else float("inf")
    return float(np.sqrt((n_draws - 1) / n_draws + between / within))


def split_r_hat(x: Series) -> float:
    """R-hat with every chain cut into halves, which also sees a drift in time."""
    half = x.shape[0] // 2
    if half < 2:
        return r_hat(x)
    return r_hat(np.concatenate([x[:half], x[half : 2 * half]], axis=1))


def estimate(x: Series, variance: float | None = None) -> Estimate:
    """Mean of (T, C) samples with an autocorrelation-corrected error.

    With many chains the spread of the chain means gives the error without any
    model of the autocorrelation; with fewer than 64 that spread is itself too
    uncertain, and variance times tau is used.

    Args:
        x: real samples.
        variance: of one sample, where it is not that of ``x`` (complex local
            energies); default the variance of ``x``.
    """
    n_draws, n_chains = x.shape
    n = x.size
    tau = integrated_time(x)
    spread = float(np.var(x)) if variance is None else variance
    if n_chains >= 64:
        error = np.std(np.mean(x, axis=0), ddof=1) / np.sqrt(n_chains)
    else:
        error = np.sqrt(float(np.var(x)) * tau / n)
    return Estimate(
        mean=float(np.mean(x)),
        error=float(error),
        variance=spread,
        tau=tau,
        r_hat=split_r_hat(x),
        n_samples=n,
        ess=n / tau,
    )


class Pooled(NamedTuple):
    """Diagnostics of a running optimisation, pooled over recent steps."""

    r_hat: float
    tau: float


def pooled(window: Series) -> Pooled:
    """R-hat and tau over the chain means of the last steps, (steps, chains).

    The parameters move between steps, so every step's mean is removed first.
    """
    if window.shape[0] < 4:
        return Pooled(float("nan"), float("nan"))
    centred = window - np.mean(window, axis=1, keepdims=True)
    return Pooled(r_hat(centred), integrated_time(centred))


def v_score(energy: float, variance: float, n_sites: int, e_infinity: float) -> float:
    """N Var(H) / (E - E_inf)^2 (arXiv:2302.04919), 0 for an exact eigenstate."""
    distance = (energy - e_infinity) ** 2
    return float("nan") if distance == 0 else n_sites * variance / distance
