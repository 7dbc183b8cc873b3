"""Overlapping arithmetic circuits: definition, generic ranks, light cones."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.overlapping import overlapping_convac
from tests.ansatze import modp
from tests.ansatze.cases import amplitudes, case, ring
from tests.contracts import test_ansatze as contract
from vmc.base import Moves, Problem
from vmc.errors import JobError
from vmc.space import spins


def grid(shape: tuple[int, ...], periodic: bool, **keys) -> Problem:
    space = spins(int(np.prod(shape)))
    return Problem(space, shape=shape, periodic=(periodic,) * len(shape), **keys)


def by_definition(
    params: dict,
    bits: np.ndarray,
    shape: tuple,
    periodic: bool,
    prime: int | None,
    stride: int = 1,
) -> np.ndarray:
    """psi of configurations, bits (N, n): a product written as in the formula."""

    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a @ b if prime is None else modp.matmul(a, b)

    def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * b if prime is None else a * b % prime

    sites = list(itertools.product(*map(range, shape)))
    y = {s: np.stack([1 - b, b]) for s, b in zip(sites, bits.astype(np.int64))}
    for weight in params["weights"]:
        kernel = round(len(weight) ** (1 / len(shape)))
        new = {}
        below, shape = shape, tuple(-(-n // stride) for n in shape)
        for s in itertools.product(*map(range, shape)):
            out = np.ones((weight.shape[1], bits.shape[1]), np.int64)
            steps = itertools.product(range(kernel), repeat=len(shape))
            for k, step in enumerate(steps):
                t = tuple(stride * a + b for a, b in zip(s, step))
                if periodic:
                    t = tuple(a % n for a, n in zip(t, below))
                if t in y:
                    out = times(out, matmul(weight[k], y[t]))
            new[s] = out
        y = new
    total = np.ones_like(next(iter(y.values())))
    for top in y.values():
        total = times(total, top)
    return matmul(params["out"][None], total)[0]


def all_bits(n: int) -> np.ndarray:
    return (np.arange(2**n)[None] >> np.arange(n - 1, -1, -1)[:, None]) & 1


def generic_rank(
    shape: tuple,
    periodic: bool,
    region: list[int],
    r: int | list[int],
    kernel: int,
    depth: int,
) -> int:
    wf = overlapping_convac(
        grid(shape, periodic), channels=r, kernel_size=kernel, depth=depth
    )
    rng = np.random.default_rng(4)
    shapes = jax.eval_shape(wf.init, jax.random.key(0))
    params = jax.tree.map(lambda x: rng.integers(1, modp.PRIME, x.shape), shapes)
    n = int(np.prod(shape))
    psi = by_definition(params, all_bits(n), shape, periodic, modp.PRIME)
    return modp.rank(modp.cut(psi.reshape((2,) * n), region))


@pytest.mark.parametrize(
    ("periodic", "r", "kernel", "depth", "rank"),
    [
        (False, 2, 2, 1, 2),
        (False, 2, 2, 2, 4),
        (False, 2, 2, 3, 8),
        (False, 2, 3, 1, 2),
        (False, 2, 3, 2, 8),
        (False, 2, 3, 3, 32),
        (False, 2, 5, 2, 32),
        (False, 3, 3, 2, 12),
        (True, 2, 2, 1, 2),
        (True, 2, 2, 2, 8),
        (True, 2, 2, 3, 32),
    ],
)
def test_rank_of_half_a_chain(
    periodic: bool, r: int, kernel: int, depth: int, rank: int
) -> None:
    assert generic_rank((12,), periodic, list(range(6)), r, kernel, depth) == rank


@pytest.mark.parametrize(("region", "rank"), [(list(range(8)), 32), ([0, 1, 4, 5], 16)])
def test_rank_on_a_square(region: list[int], rank: int) -> None:
    assert generic_rank((4, 4), False, region, 2, 2, 2) == rank


@pytest.mark.parametrize(
    ("shape", "periodic", "keys"),
    [
        ((7,), False, {"channels": [3, 2], "kernel_size": 3}),
        ((2, 4), True, {"channels": 2, "kernel_size": 2}),
        ((7,), True, {"channels": [3, 2], "kernel_size": 3, "stride": 2}),
        ((3, 4), False, {"channels": 2, "kernel_size": 3, "stride": 2}),
    ],
)
def test_amplitudes_by_definition(shape: tuple, periodic: bool, keys: dict) -> None:
    problem = grid(shape, periodic)
    wf = overlapping_convac(problem, **keys)
    params = contract.random_params(wf)
    n = problem.space.n_sites
    stride = keys.get("stride", 1)
    want = by_definition(params, all_bits(n), shape, periodic, None, stride)
    got = amplitudes(wf, params, problem).reshape(-1)
    np.testing.assert_allclose(got / want, 1, atol=1e-11)


@pytest.mark.parametrize(
    ("shape", "periodic", "keys"),
    [
        pytest.param((4, 5), False, {}, marks=pytest.mark.slow),
        # A period that the stride does not divide.
        ((25,), True, {"kernel_size": 3, "stride": 2}),
    ],
)
def test_light_cones(shape: tuple, periodic: bool, keys: dict) -> None:
    """Moves of one to three sites after a walk, on a grid with edges."""
    problem = grid(shape, periodic, dtype="real")
    one = case(overlapping_convac, problem, channels=3, depth=2, **keys)
    n = math.prod(shape)
    # Weights near one: amplitudes of order one, so that ratios are well posed.
    params = jax.tree.map(lambda x: 1 + x, one.params)
    one = one._replace(params=params)
    rng = np.random.default_rng(7)
    sites = np.array([[0, n, n], [3, 4, n], [n - 1, 0, 10], [12, 7, 6]], np.int32)
    moves = Moves(sites, (sites < n).astype(np.int8))
    sigma = rng.choice(np.array([-1, 1], np.int8), (5, n))
    cache = one.wf.cache(one.params, sigma)
    assert len(cache.layers) == 2, "no light cone is followed"
    for m in (1, 3, 2, 0, 3):
        accept = rng.random(5) < 0.5
        _, pending = one.wf.try_move(one.params, cache, sigma, moves[m])
        cache = one.wf.commit(cache, pending, jnp.asarray(accept))
        after = contract.moved(sigma, moves, (2,) * n)[m]
        sigma = np.where(accept[:, None], after, sigma)
    contract.check_ratios(one, cache, sigma, moves, 1e-11)


def test_translations_on_a_torus() -> None:
    shape = (3, 4)
    index = np.arange(12).reshape(shape)
    perms = [np.roll(index, (a, b), (0, 1)).ravel() for a in range(3) for b in range(4)]
    problem = grid(shape, True, symmetry=np.array(perms))
    wf = overlapping_convac(problem, channels=2)
    params = contract.random_params(wf)
    rng = np.random.default_rng(0)
    sigma = rng.choice(np.array([-1, 1], np.int8), (6, 12))
    images = np.concatenate([sigma, *(sigma[:, p] for p in perms), sigma[:, ::-1]])
    log_psi = np.asarray(contract.quick_jit(wf.log_psi)(params, images)).reshape(-1, 6)
    ratios = np.exp(log_psi - log_psi[:1])
    np.testing.assert_allclose(ratios[:-1], 1, atol=1e-12)
    assert np.abs(ratios[-1] - 1).max() > 1e-3
    with pytest.raises(JobError, match="all directions"):
        overlapping_convac(grid(shape, False, symmetry=np.array(perms)))
    with pytest.raises(JobError, match="stride 2 is not invariant"):
        overlapping_convac(problem, stride=2)
    with pytest.raises(JobError, match="translations only"):
        overlapping_convac(grid(shape, True, symmetry=np.arange(12)[None, ::-1]))


@pytest.mark.slow
def test_4096_sites_in_extended_precision() -> None:
    n = 4096
    wf = overlapping_convac(grid((n,), False), channels=2)
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(wf.init, jax.random.key(0))

    def draw(x: jax.ShapeDtypeStruct) -> np.ndarray:
        re, im = rng.normal(size=(2, *x.shape))
        return 1 + 0.1 * (re + 1j * im)

    params = jax.tree.map(draw, shapes)
    sigma = rng.choice(np.array([-1, 1], np.int8), (1, n))
    got = complex(jax.jit(wf.log_psi)(params, sigma)[0])
    bits = (1 - sigma[0].astype(int)) // 2
    y = np.stack([1 - bits, bits]).astype(np.clongdouble)
    for w in params["weights"]:
        first, second = (x.astype(np.clongdouble) @ y for x in w)
        y = first * np.pad(second[:, 1:], ((0, 0), (0, 1)), constant_values=1)
    total, scale = np.ones(2, np.clongdouble), np.longdouble(0)
    for column in y.T:
        total = total * column
        size = np.abs(total).max()
        total, scale = total / size, scale + np.log(size)
    value = params["out"] @ total
    want = scale + np.log(np.abs(value))
    assert abs(want) > 800, "the amplitude itself would fit into a float"
    assert abs(got.real - float(want)) < 1e-9
    assert abs(np.exp(1j * (got.imag - float(np.angle(value)))) - 1) < 1e-9


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"depth": 0}, "depth"),
        ({"kernel_size": 9}, "at most 6"),
        ({"channels": [2, 2, 2]}, "each of the 2 layers"),
        ({"stride": 0}, "positive integer"),
        ({"stride": 3}, "is at most 2"),
        ({"stride": 2, "depth": 4}, "Use depth = 3"),
    ],
)
def test_refusals(keys: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        overlapping_convac(ring(), **keys)
    with pytest.raises(JobError, match="one site per cell"):
        overlapping_convac(ring()._replace(shape=(3,)))
    with pytest.raises(JobError, match="spins have"):
        overlapping_convac(Problem(spins(2, spin=[0.5, 1])))
