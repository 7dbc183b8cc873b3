"""Deep networks against plain NumPy: every formula, one site at a time."""

import math
from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze import ANSATZE
from ansatze.activations import log_cosh, weighted_log_sum
from ansatze.shared_weights import windows
from tests.ansatze.cases import quick_jit, ring
from tests.ansatze.test_deep_nets import momentum, random_spins
from tests.contracts.test_ansatze import TRANSLATIONS, random_params
from vmc.base import Problem
from vmc.space import spins


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def take(theta: np.ndarray) -> Generator[Any, Any, None]:
    """Arrays cut from a vector one after the other: send shapes."""
    out, start = None, 0
    while True:
        shape = yield out
        size = math.prod(shape)
        out, start = theta[start : start + size].reshape(shape), start + size


def convolved(
    w: np.ndarray, x: np.ndarray, shape: tuple[int, ...], periodic: tuple[bool, ...]
) -> np.ndarray:
    """w (D, C, K), K offsets of -1, 0, 1 per direction, on x (C, P), one by one."""
    grid = x.reshape(-1, *shape)
    out = np.zeros((len(w), *shape))
    offsets = list(np.ndindex(*(3,) * len(shape)))
    for cell in np.ndindex(*shape):
        for k, offset in enumerate(offsets):
            at = np.array(cell) + np.array(offset) - 1
            gone = (at < 0) | (at >= np.array(shape))
            if np.any(gone & ~np.array(periodic)):
                continue
            out[(slice(None), *cell)] += (
                w[:, :, k] @ grid[(slice(None), *(at % np.array(shape)))]
            )
    return out.reshape(len(w), -1)


@pytest.mark.parametrize(
    ("shape", "n_basis", "periodic", "dtype", "readout"),
    [
        ((3, 4), 1, (True, False), "complex", "sum_exp"),
        ((5,), 2, (True,), "real", "product"),
        pytest.param(
            (3, 3, 3), 1, (True,) * 3, "real", "sum_exp", marks=pytest.mark.slow
        ),
        pytest.param((4,), 3, (False,), "complex", "product", marks=pytest.mark.slow),
    ],
)
def test_cnn_by_definition(
    shape: tuple, n_basis: int, periodic: tuple, dtype: Any, readout: str
) -> None:
    n = math.prod(shape) * n_basis
    problem = Problem(spins(n), dtype=dtype, shape=shape, periodic=periodic)
    keys = {"channels": 4, "depth": 1, "layers": 2, "kernel_size": 3}
    wf = ANSATZE["cnn"](problem, **keys, readout=readout)
    params = random_params(wf)
    cut = take(np.asarray(params["theta"]))
    next(cut)
    k, c, heads = 3 ** len(shape), 4, 2 if dtype == "complex" else 1
    layers = [(cut.send((c, n_basis, k)), cut.send((c,)))]
    layers += [(cut.send((c, c, k)), cut.send((c,))) for _ in range(3)]
    head = cut.send((heads, c if readout == "sum_exp" else 1, c))
    sigma, want = random_spins(n, 3), []
    for row in sigma:

        def layer(number: int, x: np.ndarray) -> np.ndarray:
            w, b = layers[number]
            return convolved(w, x, shape, periodic) + b[:, None]

        x = layer(0, row.reshape(-1, n_basis).T.astype(float))
        x = layer(1, gelu(x))
        x = x + layer(3, gelu(layer(2, gelu(x))))
        y = np.einsum("htc,cp->htp", head, gelu(x / math.sqrt(2)))
        y = y[0] + 1j * y[1] if heads == 2 else y[0]
        # A complex psi subtracts one of four channels.
        signs = np.array([[1], [1], [1], [-1 if heads == 2 else 1]])
        total = np.log(np.mean(signs * np.exp(y)))
        want.append(total if readout == "sum_exp" else y.sum())
    got = np.exp(quick_jit(wf.log_psi)(params, sigma))
    np.testing.assert_allclose(got, np.exp(want), rtol=1e-11)
    assert np.std(want) > 1e-3


def norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Over the first axis of (C, P)."""
    gap = x - x.mean(axis=0)
    return gap / np.sqrt((gap**2).mean(axis=0) + 1e-6) * scale[:, None] + shift[:, None]


@pytest.mark.slow
def test_convnext_by_definition() -> None:
    problem = Problem(spins(5), dtype="real", shape=(5,), periodic=(False,))
    wf = ANSATZE["convnext"](problem, channels=2, depth=2, kernel_size=3)
    params = random_params(wf)
    cut = take(np.asarray(params["theta"]))
    next(cut)
    first = cut.send((2, 1, 3)), cut.send((2,))
    shapes = [(2, 3), (2,), (2,), (4, 2), (4,), (2, 4), (2,)]
    blocks = [[cut.send(s) for s in shapes] for _ in range(2)]
    scale, shift, head = cut.send((2,)), cut.send((2,)), cut.send((1, 2, 2))
    sigma, want = random_spins(5, 4), []
    for row in sigma:
        x = convolved(first[0], row[None].astype(float), (5,), (False,))
        x = x + first[1][:, None]
        for window, s, t, w1, b1, w2, b2 in blocks:
            own = [
                convolved(w[None, None], y[None], (5,), (False,))
                for w, y in zip(window, x)
            ]
            z = norm(np.concatenate(own), s, t)
            x = x + w2 @ gelu(w1 @ z + b1[:, None]) + b2[:, None]
        want.append(np.log(np.mean(np.exp(head[0] @ norm(x, scale, shift)))))
    got = quick_jit(wf.log_psi)(params, sigma)
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_gcnn_by_definition() -> None:
    """One layer, on the ring with momentum 1."""
    problem = ring()._replace(symmetry=TRANSLATIONS, characters=momentum((6,), (1,)))
    wf = ANSATZE["gcnn"](problem, features=2, depth=1)
    params = random_params(wf)
    cut = take(np.asarray(params["theta"]))
    next(cut)
    lift, bias = cut.send((2, 1, 6))[:, 0], cut.send((2,))
    w, b, head = cut.send((2, 2, 6)), cut.send((2,)), cut.send((2, 2, 2))
    v = head[0] + 1j * head[1]

    def selu(x: np.ndarray) -> np.ndarray:
        alpha, scale = 1.6732632423543772, 1.0507009873554805
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    sigma, want = random_spins(6), []
    for row in sigma:
        x = np.array([lift @ row[p] + bias for p in TRANSLATIONS])
        y = [
            b + sum(w[:, :, u] @ selu(x[(g + u) % 6]) for u in range(6))
            for g in range(6)
        ]
        phases = np.exp(-2j * np.pi * np.arange(6) / 6)
        want.append(np.mean(phases[:, None] * np.exp(selu(np.array(y)) @ v.T)))
    got = np.exp(quick_jit(wf.log_psi)(params, sigma))
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert np.min(np.abs(want)) > 1e-3


@pytest.mark.slow
def test_vit_by_definition() -> None:
    """Patches of two on a ring, one head per channel: attention as a plain sum."""
    problem = ring()
    wf = ANSATZE["vit"](problem, patch=2, d_model=2, heads=2, depth=1)
    params = random_params(wf)
    cut = take(np.asarray(params["theta"]))
    next(cut)
    shapes = [(2, 2), (2,)]
    shapes += [(2,), (2,), (2, 2), (2, 3), (2, 2), (2,), (2,), (4, 2), (4,), (2, 4)]
    shapes += [(2,), (2,), (2,), (2, 2, 2), (2, 2)]
    w, b, s1, t1, values, alpha, mix, s2, t2, w1, b1, w2, b2, s, t, head, bias = (
        cut.send(shape) for shape in shapes
    )
    sigma, want = random_spins(6), []
    for row in sigma:
        x = w @ row.reshape(3, 2).T + b[:, None]
        v = values @ norm(x, s1, t1)
        # Offsets -1, 0, 1 of a ring of three patches.
        seen = [
            alpha[:, 0] * v[:, i - 1]
            + alpha[:, 1] * v[:, i]
            + alpha[:, 2] * v[:, (i + 1) % 3]
            for i in range(3)
        ]
        x = x + mix @ np.array(seen).T
        x = x + w2 @ gelu(w1 @ norm(x, s2, t2) + b1[:, None]) + b2[:, None]
        z = norm(x.sum(axis=1)[:, None], s, t)[:, 0]
        theta = (head[0] + 1j * head[1]) @ z + bias[0] + 1j * bias[1]
        want.append(np.sum(np.log(np.cosh(theta))))
    got = np.exp(quick_jit(wf.log_psi)(params, sigma))
    np.testing.assert_allclose(got, np.exp(want), rtol=1e-11)


@pytest.mark.parametrize("shape", [(9,), pytest.param((3, 2), marks=pytest.mark.slow)])
def test_both_ways_of_a_shared_layer(shape: tuple[int, ...]) -> None:
    """By the full matrix and by gathering, and the gradients of both."""
    layer = windows(shape, (False,) * len(shape), (2,) * len(shape))
    rng = np.random.default_rng(1)
    w = jnp.asarray(rng.normal(size=(2, 3, layer.n_weights)))
    x = jnp.asarray(rng.normal(size=(3, layer.n_in, 4)))
    want = layer.by_matrix(w, x)
    np.testing.assert_allclose(layer.by_gather(w, x), want, atol=1e-13)
    np.testing.assert_allclose(layer(w, x), want, atol=1e-13)
    weight = rng.normal(size=want.shape)

    def gradients(function: Any) -> Any:
        return jax.grad(lambda w, x: jnp.sum(function(w, x) * weight), (0, 1))(w, x)

    pairs = zip(gradients(layer.by_matrix), gradients(layer), strict=True)
    for plain, own in pairs:
        np.testing.assert_allclose(own, plain, atol=1e-13)
    # A single walker, whose gradient gathers.
    plain, own = (jax.jacrev(f)(w, x[:, :, :1]) for f in (layer.by_matrix, layer))
    np.testing.assert_allclose(own, plain, atol=1e-13)


# ---- numbers ----------------------------------------------------------------------


def test_nothing_overflows() -> None:
    y = np.array([[800.0, -800.0], [799.0, -2000.0], [-5.0, -801.0]])
    plain = weighted_log_sum(jnp.asarray(y), np.ones(3))
    top = np.array([800, -800])
    want = top + np.log(np.exp(y - top).sum(axis=0) / 3)
    np.testing.assert_allclose(plain, want, rtol=1e-14)
    signs = np.array([1.0, -1.0, 1.0])
    mixed = np.exp(np.asarray(weighted_log_sum(jnp.asarray(y), signs)) - top)
    np.testing.assert_allclose(mixed, signs @ np.exp(y - top) / 3, atol=1e-14)
    # Terms that cancel give a finite logarithm, not that of rounding.
    gone = weighted_log_sum(jnp.asarray(y[:2] * 0 + 0.1), np.array([1.0, -1.0]))
    assert np.all(np.real(gone) == -1e30)
    z = np.array([900 + 2j, -900 + 1j, 1e-3j])
    want = [900 + 2j - math.log(2), 900 - 1j - math.log(2), np.log(np.cos(1e-3))]
    np.testing.assert_allclose(log_cosh(jnp.asarray(z)), want, atol=1e-12)
