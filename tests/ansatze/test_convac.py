"""Convolutional arithmetic circuits: amplitudes, generic ranks, known states."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.convac import convac, convac_tree
from ansatze.tree_family import parameter_shapes
from ansatze.ttn import ttn
from tests.ansatze import modp
from tests.ansatze.cases import quick_jit
from tests.contracts.test_ansatze import random_params
from vmc.base import Problem
from vmc.errors import JobError
from vmc.space import spins

EIGHT = spins(8)


def draw(wf, seed: int = 0, scale: float = 0.4):
    """Generic parameters around one."""
    shapes = jax.eval_shape(wf.init, jax.random.key(0))
    rng = np.random.default_rng(seed)

    def one(x):
        noise = rng.normal(size=x.shape)
        if np.issubdtype(x.dtype, np.complexfloating):
            noise = noise + 1j * rng.normal(size=x.shape)
        return jnp.asarray(1 + scale * noise, x.dtype)

    return jax.tree.map(one, shapes)


def all_amplitudes(wf, params, n: int) -> np.ndarray:
    states = spins(n).all_states()
    return np.exp(np.asarray(quick_jit(wf.log_psi)(params, states)))


def entropies(psi: np.ndarray, region: list[int]) -> tuple[float, float]:
    """Von Neumann and Renyi-2 entropy of a region, in nats."""
    m = modp.cut(psi.reshape((2,) * int(math.log2(psi.size))), region)
    p = np.linalg.svd(m, compute_uv=False) ** 2
    p = p / p.sum()
    q = p[p > 1e-15]
    return float(-np.sum(q * np.log(q))), float(-np.log(np.sum(p**2)))


def contraction(params, channels: tuple[int, ...], sharing: str) -> np.ndarray:
    """psi of 8 sites by the definition, all configurations."""
    out = []
    for s in itertools.product(range(2), repeat=8):
        x = [np.eye(2)[t] for t in s]
        for level in range(3):
            w = params[f"W{level}"]
            y = []
            for j, v in enumerate(x):
                row = {"none": j, "window": j % 2, "full": 0}[sharing]
                y.append(np.asarray(w[row]) @ v)
            x = [y[j] * y[j + 1] for j in range(0, len(y), 2)]
        out.append(np.asarray(params["a"]) @ x[0])
    return np.array(out)


@pytest.mark.parametrize(
    "sharing",
    [
        "window",
        pytest.param("none", marks=pytest.mark.slow),
        pytest.param("full", marks=pytest.mark.slow),
    ],
)
def test_amplitudes_and_norm(sharing: str) -> None:
    wf = convac(Problem(EIGHT), channels=(3, 4, 2), sharing=sharing)
    params = draw(wf)
    psi, want = all_amplitudes(wf, params, 8), contraction(params, (3, 4, 2), sharing)
    np.testing.assert_allclose(psi, want, rtol=1e-12)
    assert wf.exact is not None
    norm = np.exp(wf.exact.log_norm(params))
    np.testing.assert_allclose(norm, np.sum(np.abs(want) ** 2), rtol=1e-13)


def exact_amplitudes(n, states, channels, window, sharing, seed) -> np.ndarray:
    problem = Problem(spins(n, spin=(states - 1) / 2))
    tree = convac_tree(problem, channels, window, sharing)
    weights = modp.random_weights(parameter_shapes(tree), seed)
    return modp.amplitudes(tree, weights, window)


@pytest.mark.parametrize("sharing", ["none", "window"])
@pytest.mark.parametrize(("n", "window"), [(8, 2), (16, 2), (16, 4)])
def test_rank_is_the_min_cut(n: int, window: int, sharing: str) -> None:
    rng = np.random.default_rng(n + window)
    n_levels = round(math.log(n, window))
    for seed in range(3):
        channels = [int(r) for r in rng.integers(1, 10, n_levels)]
        region = sorted(rng.permutation(n)[: n // 2].tolist())
        psi = exact_amplitudes(n, 2, channels, window, sharing, seed)
        want = modp.min_cut(n, 2, channels, window, set(region))
        assert modp.rank(modp.cut(psi, region)) == want, (channels, region)


def test_full_sharing_loses_rank() -> None:
    psi = exact_amplitudes(8, 2, (7, 5, 5), 2, "full", 1)
    assert modp.rank(modp.cut(psi, [1, 4, 5])) == 6
    assert modp.min_cut(8, 2, (7, 5, 5), 2, {1, 4, 5}) == 8
    assert np.array_equal(psi, psi.transpose([1, 0, 2, 3, 4, 5, 6, 7]))
    assert np.array_equal(psi, psi.transpose([4, 5, 6, 7, 0, 1, 2, 3]))
    # So psi(ud) = psi(du), and never their negatives: no singlet.
    pair = exact_amplitudes(2, 2, (5,), 2, "full", 2)
    assert pair[0, 1] == pair[1, 0] != 0
    free = exact_amplitudes(2, 2, (5,), 2, "window", 2)
    assert free[0, 1] != free[1, 0]


@pytest.mark.parametrize("k", [3, 9])
def test_last_channels_bound_the_half_cut(k: int) -> None:
    psi = exact_amplitudes(16, 2, (9, 9, 9, k), 2, "window", 3)
    assert modp.rank(modp.cut(psi, list(range(8)))) == k


def test_interleaved_cut_is_full_from_two_channels_on() -> None:
    psi = exact_amplitudes(8, 2, (2, 1, 1), 2, "window", 4)
    assert modp.rank(modp.cut(psi, [0, 2, 4, 6])) == 2**4


@pytest.mark.parametrize(
    ("channels", "want"),
    [((2, 2, 2), 28), ((3, 2, 2), 28), ((2, 3, 2), 28), ((4, 3, 2), 44)]
    + [((3, 3, 3), 45)],
)
def test_jacobian_rank(channels: tuple[int, ...], want: int) -> None:
    """The gauge null space: psi is linear in each weight, taken one at a time."""
    tree = convac_tree(Problem(EIGHT), channels, 2, "none")
    weights = modp.random_weights(parameter_shapes(tree), 5)
    columns = []
    for name, w in weights.items():
        for index in np.ndindex(w.shape):
            unit = w.copy()
            # Only the node that holds this weight: psi is linear in its matrix.
            unit[index[0] if name != "a" else slice(None)] = 0
            unit[index] = 1
            psi = modp.amplitudes(tree, weights | {name: unit}, 2)
            columns.append(psi.reshape(-1))
    assert modp.rank(np.stack(columns)) == want


def given(channels, matrices, a) -> np.ndarray:
    """psi of 8 spins for given matrices, one pair (left, right) per level."""
    wf = convac(Problem(EIGHT, dtype="real"), channels=channels)
    shapes = jax.eval_shape(wf.init, jax.random.key(0))
    params = {f"W{i}": jnp.asarray(m, float) for i, m in enumerate(matrices)}
    params["a"] = jnp.asarray(a, float)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    psi = all_amplitudes(wf, params, 8)
    assert np.all(np.abs(psi.imag) < 1e-12)
    assert wf.exact is not None
    norm = np.exp(wf.exact.log_norm(params))
    np.testing.assert_allclose(norm, np.sum(np.abs(psi) ** 2), rtol=1e-13)
    return psi.real


def test_w_state() -> None:
    none, one = [0, 1], [1, 0]
    left0, right0 = [none, none, one], [none, one, none]
    no, yes = [1, 0, 0], [0, 1, 1]
    psi = given(
        (3, 3, 2),
        [
            (left0, right0),
            ([no, no, yes], [no, yes, no]),
            ([no, yes], [yes, no]),
        ],
        (1, 1),
    )
    states = EIGHT.all_states()
    want = np.sum(states == 1, axis=1) == 1
    np.testing.assert_allclose(psi, want.astype(float), atol=1e-15)
    np.testing.assert_allclose(entropies(psi, [0, 1, 2, 3])[1], np.log(2))
    np.testing.assert_allclose(entropies(psi, [3])[0], 0.37677016, atol=1e-8)


def test_ghz_state() -> None:
    eye = np.eye(2)
    psi = given((2, 2, 2), [(eye, eye)] * 3, (1, 1))
    np.testing.assert_allclose(np.sum(psi**2), 2)
    for region in ([0], [0, 1, 2, 3], [0, 2, 4, 6], [1, 6]):
        np.testing.assert_allclose(entropies(psi, region), np.log(2))


def test_aligned_dimers() -> None:
    up, down = np.eye(2)
    one = [[1, 1]]
    singlets = ([up, down], [down, -up])
    psi = given((2, 1, 1), [singlets, (one, one), ([[1]], [[1]])], (1,))
    cuts = {(0, 1, 2, 3): 0, (1, 2): 2, (0, 2, 4, 6): 4}
    for region, n in cuts.items():
        np.testing.assert_allclose(
            entropies(psi, list(region))[1], n * np.log(2), atol=1e-12
        )


def ring_state(inside: np.ndarray, link: np.ndarray) -> np.ndarray:
    """prod over aligned pairs of inside[s, s'] times prod over the others of link.

    The state of a block is told by its two end spins (a, d); a link of two blocks
    is a sum over k of [b = k] link[k, c].
    """
    ends = [(a, d) for a in range(2) for d in range(2)]
    left = [np.eye(2)[a] for a, _ in ends]
    right = [np.eye(2)[d] for _, d in ends]
    # Level 1: block (a, b) meets (c, d) over k; channels are (a, d, k).
    level1 = np.zeros((2, 8, 4))
    # Root: links k between d and a', and m between d' and a; channels (k, m).
    level2 = np.zeros((2, 4, 8))
    for n, (a, d, k) in enumerate(itertools.product(range(2), repeat=3)):
        for z, (p, q) in enumerate(ends):
            level1[0, n, z] = inside[p, q] * (p == a) * (q == k)
            level1[1, n, z] = inside[p, q] * link[k, p] * (q == d)
        for c, (j, m) in enumerate(ends):
            level2[0, c, n] = (a == m) * (d == j)
            level2[1, c, n] = link[j, a] * link[d, m]
    return given((4, 8, 4), [(left, right), level1, level2], np.ones(4))


@pytest.mark.slow
def test_misaligned_dimers_on_a_ring() -> None:
    singlet = np.array([[0, 1], [-1, 0]])
    psi = ring_state(np.ones((2, 2)), singlet)
    s = (1 - EIGHT.all_states().astype(int)) // 2
    want = np.prod([singlet[s[:, i], s[:, (i + 1) % 8]] for i in (1, 3, 5, 7)], axis=0)
    np.testing.assert_allclose(psi, want, atol=1e-14)
    np.testing.assert_allclose(np.sum(psi**2), 16)
    np.testing.assert_allclose(entropies(psi, [0, 1, 2, 3])[1], 2 * np.log(2))


def test_cluster_ring() -> None:
    phase = np.array([[1, 1], [1, -1]])
    psi = ring_state(phase, phase)
    s = (1 - EIGHT.all_states().astype(int)) // 2
    want = (-1.0) ** np.sum(s * np.roll(s, -1, axis=1), axis=1)
    np.testing.assert_allclose(psi, want, atol=1e-13)
    np.testing.assert_allclose(np.sum(psi**2), 256)
    np.testing.assert_allclose(entropies(psi, [0, 1, 2, 3])[1], 2 * np.log(2))


@pytest.mark.parametrize("window", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_thousands_of_sites(window: int) -> None:
    """Against unscaled evaluation in extended precision (exponents to 1e4932)."""
    n = 4096 if window == 2 else 4000
    tree = convac_tree(Problem(spins(n)), 3, window, "window")
    rng = np.random.default_rng(1)
    params = {
        name: 1 + 0.3 * (rng.normal(size=s) + 1j * rng.normal(size=s))
        for name, s in parameter_shapes(tree).items()
    }
    params["a"] = params["a"] * (1e-290 if window == 2 else 1e290)
    sigma = rng.choice(np.array([-1, 1], np.int8), size=(2, n))
    got = np.asarray(quick_jit(tree.log_psi)(params, sigma))
    for row, log in zip(sigma, got):
        x = np.eye(2, dtype=np.clongdouble)[(1 - row.astype(int)) // 2]
        for level in range(len(params) - 1):
            w = params[f"W{level}"].astype(np.clongdouble)
            y = np.einsum("jec,jc->je", w[np.arange(len(x)) % len(w)], x)
            x = np.array(
                [np.prod(y[j : j + window], axis=0) for j in range(0, len(y), window)]
            )
        want = np.log(params["a"].astype(np.clongdouble) @ x[0])
        assert np.isfinite(want) and abs(want.real) > 900
        np.testing.assert_allclose(log.real, float(want.real), rtol=1e-12)
        np.testing.assert_allclose(np.exp(1j * (log.imag - float(want.imag))), 1, 1e-9)


def test_wrong_keys() -> None:
    problem = Problem(EIGHT)
    for keys, word in (
        ({"channels": (2, 2)}, "3 from|make 3"),
        ({"channels": (2, 0, 2)}, "positive"),
        ({"window": 3}, "window"),
        ({"sharing": "windows"}, "did you mean 'window'"),
    ):
        with pytest.raises(JobError, match=word):
            convac(problem, **keys)
    group = np.array([np.roll(np.arange(8), i) for i in range(8)])
    with pytest.raises(JobError, match='symmetry = "none"'):
        convac(problem._replace(symmetry=group))


def test_squares_are_windows_in_two_dimensions() -> None:
    tree = convac_tree(Problem(spins(16), shape=(4, 4)), 2, 4)
    squares = tree.order.reshape(4, 4)
    assert squares.tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]
    nine = convac_tree(Problem(spins(36), shape=(6, 6)), 2, 9).order
    assert sorted(nine[:9].tolist()) == [0, 1, 2, 6, 7, 8, 12, 13, 14]


@pytest.mark.parametrize("factory", [convac, ttn])
@pytest.mark.parametrize(
    ("shape", "origin"), [((7,), 3), ((4, 4), [1, 2]), ((4, 3), -1)]
)
def test_an_origin_moves_the_tree(factory: Any, shape: tuple, origin: Any) -> None:
    """psi of the moved tree is psi of the spins moved the other way."""
    n = int(np.prod(shape))
    problem = Problem(spins(n), shape=shape, periodic=(False,) * len(shape))
    here, there = factory(problem), factory(problem, origin=origin)
    params = random_params(here)
    sigma = np.random.default_rng(1).choice(np.array([-1, 1], np.int8), (9, n))
    steps = np.broadcast_to(origin, len(shape))
    axes = range(1, len(shape) + 1)
    moved = np.roll(sigma.reshape(-1, *shape), -steps, axes).reshape(-1, n)
    log_psi, other = quick_jit(here.log_psi), quick_jit(there.log_psi)
    got, want = other(params, sigma), log_psi(params, moved)
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert not np.allclose(got, log_psi(params, sigma))


def test_an_origin_has_a_number_for_each_direction() -> None:
    problem = Problem(spins(12), shape=(4, 3), periodic=(True, True))
    with pytest.raises(JobError, match="each of the 2 directions"):
        convac(problem, origin=[1, 0, 0])
