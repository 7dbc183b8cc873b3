"""The distributed Cholesky decomposition against NumPy, on 1, 2 and 4 devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from vmc import blocked, distributed, solvers

MeshOf = Callable[[int], Mesh]
SHIFT = 1e-3


def positive(n: int, dtype: str, smallest: float = 1e-4) -> np.ndarray:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(2, n, n))
    q, _ = np.linalg.qr(z[0] + 1j * z[1] if dtype == "complex" else z[0])
    values = np.geomspace(1e-4, 10, n)
    values[0] = smallest
    matrix = (q * values) @ q.conj().T
    return (matrix + matrix.conj().T) / 2


def solved(mesh: Mesh, matrix: np.ndarray, parts: int, b: np.ndarray) -> Any:
    """Through the solver that a job takes; rows are split over the devices."""
    n = len(matrix) // parts
    rows = matrix.reshape(parts, n, parts, n)

    def run(rows: jax.Array, b: jax.Array) -> Any:
        def whole() -> jax.Array:
            return distributed.gather(rows, axis=1).reshape(matrix.shape)

        def unused(_: jax.Array) -> jax.Array:
            raise AssertionError("a direct solver asked for products")

        trace = jnp.trace(whole()).real
        system = solvers.System(
            whole,
            unused,
            trace,
            len(matrix),
            distributed.from_first,
            lambda: blocked.Shared.of(rows),
        )
        found = solvers.cholesky(system, jnp.asarray(SHIFT))
        return found.solve(b), found.condition

    specs = (PartitionSpec(None, "w"), distributed.REPLICATED)
    return distributed.compiled(run, mesh, specs, distributed.REPLICATED)(rows, b)


@pytest.mark.parametrize("dtype", ["real", "complex"])
@pytest.mark.parametrize(
    ("n_devices", "n", "parts", "width"),
    [(1, 12, 1, 4), (2, 24, 1, 6), (2, 24, 2, 8), (4, 40, 1, 12), (4, 24, 2, 128)]
    + [(4, 28, 1, 1)],
)
def test_solutions(
    mesh_of: MeshOf,
    monkeypatch: pytest.MonkeyPatch,
    n_devices: int,
    n: int,
    parts: int,
    width: int,
    dtype: str,
) -> None:
    """Widths that do not divide the rows, and one that leaves a single block."""
    monkeypatch.setattr(blocked, "WIDTH", width)
    monkeypatch.setattr(blocked, "PANELS", n)
    matrix = positive(n, dtype)
    b = np.random.default_rng(5).normal(size=(n, 3)).astype(matrix.dtype)
    x, condition = solved(mesh_of(n_devices), matrix, parts, b)
    want = np.linalg.solve(matrix + SHIFT * np.eye(n), b)
    np.testing.assert_allclose(x, want, rtol=1e-10, atol=1e-10)
    assert 1 < condition <= (10 + SHIFT) / (1e-4 + SHIFT) * (1 + 1e-9)


def test_an_indefinite_matrix_falls_back_on_all_devices(
    mesh_of: MeshOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked, "WIDTH", 4)
    monkeypatch.setattr(blocked, "PANELS", 24)
    matrix = positive(24, "real", smallest=-2 * SHIFT)
    values, vectors = np.linalg.eigh(matrix)
    b = vectors[:, 3:] @ np.ones((21, 1))
    x, condition = solved(mesh_of(2), matrix, 1, b)
    assert np.isinf(condition)
    want = vectors[:, 3:] @ (1 / (values[3:] + SHIFT))[:, None]
    np.testing.assert_allclose(x, want, atol=1e-8)
