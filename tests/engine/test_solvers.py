"""Solvers against NumPy on matrices with a known spectrum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vmc.errors import JobError
from vmc.solvers import System, by_name, cholesky, eigh

N = 30


def with_spectrum(values: np.ndarray, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(2, len(values), len(values)))
    z = z[0] + 1j * z[1] if dtype == "complex" else z[0]
    q, _ = np.linalg.qr(z)
    matrix = (q * values) @ q.conj().T
    return (matrix + matrix.conj().T) / 2


def right_sides(matrix: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(4)
    return (matrix @ rng.normal(size=(len(matrix), 2))).astype(matrix.dtype)


@pytest.mark.parametrize("dtype", ["real", "complex"])
@pytest.mark.parametrize("name", ["auto", "cholesky", "eigh", "cg"])
def test_solutions(name: str, dtype: str) -> None:
    values = np.geomspace(1e-4, 10, N)
    matrix, shift = with_spectrum(values, dtype), 1e-2
    b = right_sides(matrix)

    @jax.jit
    def run(matrix, b):
        factored = by_name(name)(System.of(matrix), jnp.asarray(shift))
        return factored.solve(b), factored.condition, factored.rank

    x, condition, rank = run(matrix, b)
    want = np.linalg.solve(matrix + shift * np.eye(N), b)
    np.testing.assert_allclose(x, want, atol=1e-6 if name == "cg" else 1e-10)
    assert x.dtype == matrix.dtype and condition.dtype == np.float64
    assert int(rank) == N
    true = (10 + shift) / (1e-4 + shift)
    # Only the eigendecomposition knows; cg bounds it, Cholesky estimates from below.
    if name == "eigh":
        np.testing.assert_allclose(condition, true, rtol=1e-9)
    elif name == "cg":
        assert true <= condition <= N * true
    else:
        assert true / 30 <= condition <= true * (1 + 1e-9)


@pytest.mark.parametrize("dtype", ["real", "complex"])
def test_cholesky_survives_an_indefinite_matrix(dtype: str) -> None:
    """Rounding makes the small eigenvalues of S negative, below minus the shift."""
    values = np.where(np.arange(N) < 20, np.geomspace(1e-2, 10, N), 0.0)
    values[25] = -1e-6
    matrix = with_spectrum(values, dtype)
    b = right_sides(with_spectrum(np.maximum(values, 0), dtype))

    @jax.jit
    def run(matrix, b):
        factored = cholesky(System.of(matrix), jnp.asarray(1e-9))
        return factored.solve(b), factored.condition

    x, condition = run(matrix, b)
    want = np.linalg.lstsq(matrix, b, rcond=1e-5)[0]
    np.testing.assert_allclose(x, want, atol=1e-6)
    assert np.isinf(condition)


@pytest.mark.parametrize("shift", [0.0, 1e-9])
def test_eigh_drops_what_is_rounding(shift: float) -> None:
    values = np.where(np.arange(N) < 20, np.geomspace(1e-3, 10, N), 0.0)
    matrix = with_spectrum(values, "real")
    b = right_sides(matrix)
    factored = eigh(jnp.asarray(matrix), jnp.asarray(shift), cutoff=1e-10)
    # With a shift of 1e-9 = cutoff * 10 nothing falls below the cut-off.
    assert int(factored.rank) == (20 if shift == 0 else N)
    want = np.linalg.lstsq(matrix, b, rcond=1e-9)[0]
    np.testing.assert_allclose(factored.solve(jnp.asarray(b)), want, atol=1e-4)


def test_a_zero_matrix_gives_no_step() -> None:
    """Scores that all vanish (or do not vary) leave the parameters alone."""
    zero = jnp.zeros((4, 4))
    for name in ("cholesky", "eigh"):
        x = by_name(name)(System.of(zero), jnp.asarray(0.0)).solve(jnp.ones((4, 1)))
        np.testing.assert_array_equal(x, 0)


def test_a_matrix_that_is_not_finite_does_not_pass_unseen() -> None:
    matrix = jnp.full((4, 4), jnp.nan)
    for name in ("cholesky", "eigh", "cg"):
        x = by_name(name)(System.of(matrix), jnp.asarray(1e-3)).solve(jnp.ones((4, 1)))
        assert not np.any(np.isfinite(x)), name


def test_names() -> None:
    with pytest.raises(JobError, match='"choleski" is unknown.*cholesky'):
        by_name("choleski")
