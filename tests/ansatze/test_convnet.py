"""The ReLU network with pooling, against the formula written out."""

import jax
import numpy as np
import pytest

from ansatze.convnet import convnet
from tests.ansatze.cases import ring
from tests.contracts import test_ansatze as contract
from vmc.base import Problem
from vmc.errors import JobError
from vmc.space import spins


def by_definition(
    params: dict, sigma: np.ndarray, shape: tuple, window: int, pooling: str
) -> complex:
    """Log psi of one configuration; positions as dictionary keys."""
    dims = len(shape)
    cells = list(np.ndindex(*shape))
    x = {c: np.eye(2)[int(s)] for c, s in zip(cells, (1 - sigma.astype(int)) // 2)}
    for weight, bias in zip(params["weights"], params["biases"]):
        pools: dict = {}
        for cell, vector in x.items():
            inside = np.ravel_multi_index([c % window for c in cell], (window,) * dims)
            z = weight[inside] @ vector + bias[inside]
            pools.setdefault(tuple(c // window for c in cell), []).append(
                np.maximum(z, 0)
            )
        pool = np.max if pooling == "max" else np.mean
        x = {cell: pool(children, axis=0) for cell, children in pools.items()}
    (root,) = x.values()
    heads = params["out"] @ root
    return heads[0] + 1j * heads[1] if len(heads) == 2 else heads[0]


@pytest.mark.parametrize(
    ("shape", "keys", "dtype"),
    [
        ((7,), {"window": 2, "channels": [3, 4, 2]}, "complex"),
        ((3, 5), {"window": 2, "pooling": "mean", "channels": 3}, "complex"),
        ((6,), {"window": 8, "pooling": "mean", "channels": 3}, "real"),
    ],
)
def test_log_psi_by_definition(shape: tuple, keys: dict, dtype: str) -> None:
    n = int(np.prod(shape))
    problem = Problem(
        spins(n), dtype=dtype, shape=shape, periodic=(False,) * len(shape)
    )
    wf = convnet(problem, **keys)
    assert wf.range == ("positive" if dtype == "real" else "complex")
    # Shifted, or most units would be off.
    params = jax.tree.map(lambda x: x + 0.3, contract.random_params(wf))
    sigma = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (8, n))
    pooling = keys.get("pooling", "max")
    want = [by_definition(params, s, shape, keys["window"], pooling) for s in sigma]
    got = jax.jit(wf.log_psi)(params, sigma)
    np.testing.assert_allclose(got, want, atol=1e-13)
    assert np.std(want) > 1e-3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"window": 1}, "at least 2"),
        ({"pooling": "sum"}, "mean"),
        ({"channels": [2]}, "each of the 3 layers"),
    ],
)
def test_refusals(keys: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        convnet(ring(), **keys)
    with pytest.raises(JobError, match="windows break"):
        convnet(ring()._replace(symmetry=contract.TRANSLATIONS))
