"""Convolutional networks: ReLU with pooling by definition, ranks of sums of logs."""

import math

import jax
import numpy as np
import pytest

from ansatze.convnet import convnet
from ansatze.rbm import rbm
from tests.ansatze import modp
from tests.ansatze.cases import amplitudes, ring
from tests.ansatze.test_overlapping import all_bits, generic_rank
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


# ---- log psi = sum_j u_j: what a cut sees is the light cone ------------------------

LENGTH = 10
HALF = list(range(LENGTH // 2))


@pytest.mark.parametrize(("kernel", "depth", "rank"), [(2, 2, 4), (2, 3, 8), (3, 1, 4)])
def test_rank_of_a_sum_over_positions(kernel: int, depth: int, rank: int) -> None:
    """L layers below log psi = sum_j u_j: rank 2^l with l = (K - 1) L sites near a cut.

    An arithmetic circuit with one channel in its last layer is a product over
    positions of what the layers below it say.
    """
    channels = [3] * depth + [1]
    found = generic_rank((LENGTH,), False, HALF, channels, kernel, depth + 1)
    assert found == rank


def band(
    bits: np.ndarray, u: np.ndarray, bias: np.ndarray, inverse, prime: int | None
) -> np.ndarray:
    """prod_jc 2 cosh(b_c + sum_k w_ck sigma_(j+k)), u = exp(w), in any field.

    Args:
        bits: (N, n), 1 is down.
        u: (channels, K).
        bias: exp(b), (channels,).
        inverse: of a number.
        prime: of the field, or None for complex numbers.
    """

    def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * b if prime is None else a * b % prime

    total = np.ones_like(u, shape=bits.shape[1:])
    for first in range(len(bits)):
        for row, start in zip(u, bias, strict=True):
            plus = np.full_like(total, start)
            minus = np.full_like(total, inverse(start))
            for x, bit in zip(row, bits[first:], strict=False):
                plus = times(plus, np.where(bit, inverse(x), x))
                minus = times(minus, np.where(bit, x, inverse(x)))
            total = times(total, plus + minus)
    return total


@pytest.mark.parametrize(("kernel", "rank"), [(2, 2), (3, 4)])
def test_rank_of_one_layer_of_log_cosh(kernel: int, rank: int) -> None:
    """A Boltzmann machine whose weights are one filter: a single layer, nonlinear."""
    rng = np.random.default_rng(6)
    bits = all_bits(LENGTH)
    u = rng.integers(2, modp.PRIME, (1, kernel))
    bias = rng.integers(2, modp.PRIME, 1)
    psi = band(bits, u, bias, lambda x: pow(int(x), -1, modp.PRIME), modp.PRIME)
    assert modp.rank(modp.cut(psi.reshape((2,) * LENGTH), HALF)) == rank
    # The same formula in complex numbers is the wave function of the package.
    w, b = (0.3 * rng.normal(size=(2, 1, n)) for n in (kernel, 1))
    w, b = w[0] + 1j * w[1], b[0, :, 0] + 1j * b[1, :, 0]
    weights = sum(np.eye(LENGTH, k=-k) * w[0, k] for k in range(kernel))
    params = {"W": weights, "a": np.zeros(LENGTH, complex), "b": np.repeat(b, LENGTH)}
    problem = Problem(spins(LENGTH))
    got = amplitudes(rbm(problem, alpha=1), params, problem).reshape(-1)
    want = band(bits, np.exp(w), np.exp(b), lambda x: 1 / x, None)
    ratio = got / want
    np.testing.assert_allclose(ratio / ratio[0], 1, atol=1e-12)
    assert math.isclose(abs(ratio[0]), 2.0**-LENGTH, rel_tol=1e-10)
