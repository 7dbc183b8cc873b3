"""Running statistics: equal to the batch formulas, honest beyond their memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.engine.test_stats import ar1
from vmc import stats
from vmc.streaming import Blocks, Stream, Sums

UNIT = 16


def streamed(x: np.ndarray, y: np.ndarray | None = None, **keys: int) -> Stream:
    """A stream that got a series in uneven pieces."""
    stream, start = Stream(x.shape[1], **keys), 0
    for size in [1, 10, *[UNIT] * len(x)]:
        part = slice(start, min(start + size, len(x)))
        if part.start < len(x):
            stream.add(x[part], None if y is None else y[part])
        start += size
    assert stream.n_draws == len(x)
    return stream


@pytest.mark.parametrize(
    ("n_draws", "n_chains"), [(200, 4), (65, 64), (37, 3), (5, 2), (1, 64), (90, 1)]
)
def test_a_stream_is_the_batch_formula(n_draws: int, n_chains: int) -> None:
    x = -17.0 + ar1(0.6, n_draws, n_chains)
    y = ar1(0.2, n_draws, n_chains, seed=1)
    variance = float(np.var(x) + np.var(y))
    want = stats.estimate(x, variance)._asdict()
    got = streamed(x, y).estimate(left_out=10)._asdict()
    for name in ("mean", "error", "variance", "tau", "r_hat", "n_samples", "ess"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-9, err_msg=name)
    assert got["burn_in"] == 10


@pytest.mark.parametrize("n_chains", [4, 64])
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_beyond_its_memory(rho: float, n_chains: int) -> None:
    x = ar1(rho, 4096, n_chains)
    small = streamed(x, numbers=64 * n_chains)
    rows = small._rows.shape
    assert rows == (64, 4, n_chains), "constant memory"
    want, got = stats.estimate(x), small.estimate()
    for name in ("mean", "variance", "n_samples"):
        np.testing.assert_allclose(
            got._asdict()[name], want._asdict()[name], rtol=1e-9, atol=1e-12
        )
    np.testing.assert_allclose(got.r_hat, want.r_hat, atol=2e-3)
    true = (1 + rho) / (1 - rho)
    np.testing.assert_allclose(got.tau, true, rtol=0.3)
    np.testing.assert_allclose(got.error, np.sqrt(true / x.size), rtol=0.25)
    np.testing.assert_allclose(got.blocked_error, got.error, rtol=0.35)


@pytest.mark.parametrize(("n_draws", "n_chains"), [(256, 8), (32, 64)])
def test_error_bars_of_means_and_variances_cover(n_draws: int, n_chains: int) -> None:
    repeats = 200
    x = 3.0 + ar1(0.7, n_draws, n_chains, repeats=repeats)
    found = [streamed(x[:, i::repeats]).estimate() for i in range(repeats)]
    inside = {
        "error": [abs(e.mean - 3) < e.error for e in found],
        "blocked_error": [abs(e.mean - 3) < e.blocked_error for e in found],
        "variance_error": [abs(e.variance - 1) < e.variance_error for e in found],
    }
    for name, hits in inside.items():
        assert 0.56 < np.mean(hits) < 0.78, name
    naive = [abs(e.mean - 3) < np.sqrt(e.variance / e.n_samples) for e in found]
    assert np.mean(naive) < 0.5


@pytest.mark.parametrize("n_chains", [4, 128])
def test_a_start_that_drifts_is_left_out(n_chains: int) -> None:
    x = ar1(0.5, 256, n_chains)
    stream = streamed(x)
    assert stream.settled() == 0 and stream.estimate().burn_in == 0
    drifting = x + 12 * np.exp(-np.arange(256) / 12)[:, None]
    stream = streamed(drifting)
    assert stream.settled() == 64
    e = stream.estimate(left_out=10)
    assert e.burn_in == 74 and e.n_samples == 192 * n_chains
    assert abs(e.mean) < 4 * e.error < abs(np.mean(drifting))
    # A drift without end is left to R-hat.
    stream = streamed(x + np.linspace(0, 10, 256)[:, None])
    assert stream.settled() == 128 and stream.estimate().r_hat > 1.05


def blocked(x: np.ndarray) -> Blocks:
    """Blocks of features (T, F, C), which come as sums over up to `UNIT` draws."""
    blocks = Blocks(x.shape[2], {"a": 2, "b": x.shape[1] - 2}, UNIT)
    for start in range(0, len(x), UNIT):
        part = x[start : start + UNIT]
        blocks.add(part.sum(axis=0), len(part))
    return blocks


def both(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize(("n_draws", "n_chains"), [(72, 64), (40, 2048), (1024, 4)])
def test_blocks_of_linear_functions(n_draws: int, n_chains: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n_draws, 3, n_chains)) + np.array([1.0, -2, 5])[:, None]
    blocks = blocked(x)
    values, errors = blocks.evaluate(["a", "b"], both)
    np.testing.assert_allclose(values, x.mean(axis=(0, 2)), rtol=1e-10)
    np.testing.assert_allclose(errors, 1 / np.sqrt(n_draws * n_chains), rtol=0.35)
    if n_chains == 64:
        spread = np.std(x.mean(axis=0), axis=1, ddof=1) / np.sqrt(n_chains)
        np.testing.assert_allclose(errors, spread, rtol=1e-10)
    values, _ = blocks.evaluate(["b"], both)
    np.testing.assert_allclose(values, [x[:, 2].mean()], rtol=1e-10)
    one = [Sums({"a": 2, "b": 1}, np.arange(3.0)).evaluate([n], both) for n in "ba"]
    assert [v.tolist() for v, _ in one] == [[2.0], [0.0, 1.0]]


def test_blocks_forget_the_start() -> None:
    x = np.zeros((160, 3, 64))
    x[:32] = 100.0
    blocks = blocked(x)
    assert blocks.evaluate(["a"], both)[0][0] > 1
    blocks.leave_out(32)
    np.testing.assert_array_equal(blocks.evaluate(["a"], both)[0], 0)


@pytest.mark.parametrize(("n_draws", "n_chains"), [(512, 4), (16, 64)])
def test_functions_of_averages_are_unbiased_and_covered(
    n_draws: int, n_chains: int
) -> None:
    """<x>^2 of noisy averages is too large by the variance of the average."""
    repeats, rho = 200, 0.6
    x = 1.0 + ar1(rho, n_draws, n_chains, repeats=repeats)
    values, errors, plain = [], [], []
    for i in range(repeats):
        part = x[:, None, i::repeats].repeat(3, axis=1)
        found = blocked(part).evaluate(["b"], lambda parts: parts[0] ** 2)
        values.append(found[0][0])
        errors.append(found[1][0])
        plain.append(part.mean() ** 2)
    hits = np.abs(np.array(values) - 1) < errors
    assert 0.58 < np.mean(hits) < 0.79
    lags = np.abs(np.subtract.outer(np.arange(n_draws), np.arange(n_draws)))
    variance = np.mean(rho**lags) / n_chains
    np.testing.assert_allclose(
        np.mean(np.array(plain) - values), variance, rtol=0.1 if n_chains > 8 else 0.3
    )


def test_too_few_groups_have_no_error() -> None:
    x = np.ones((16, 3, 2))
    values, errors = blocked(x).evaluate(["a"], both)
    np.testing.assert_array_equal(values, [1, 1])
    assert np.all(np.isnan(errors))
