"""Fast paths of every tree against full evaluation; costs of a move."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.convac import convac
from ansatze.cp import cp
from ansatze.ttn import ttn
from tests.ansatze.cases import quick_jit
from vmc.base import Move, Moves, Problem, WaveFunction
from vmc.space import spins

TREES: dict[str, tuple[Any, int, dict]] = {
    "ttn-13": (ttn, 13, {"bond_dimension": 3}),
    "cp-11": (cp, 11, {"rank": 3}),
    "convac-2-16": (convac, 16, {"channels": 3}),
    "convac-4-18": (convac, 18, {"channels": (3, 4, 2), "window": 4}),
    "convac-9-12-none": (convac, 12, {"channels": 2, "window": 9, "sharing": "none"}),
    "convac-full-7": (convac, 7, {"channels": 2, "sharing": "full"}),
}


def generic(wf: WaveFunction, seed: int = 4) -> Any:
    shapes = jax.eval_shape(wf.init, jax.random.key(0))
    rng = np.random.default_rng(seed)

    def one(x: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.normal(size=(2, *x.shape))
        if np.issubdtype(x.dtype, np.complexfloating):
            return 1 + 0.5 * (noise[0] + 1j * noise[1])
        return 1 + 0.5 * noise[0]

    return jax.tree.map(one, shapes)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TREES]
#: The contract tests have windows of two; this one fills four with three.
SLOW[4] = pytest.param("convac-9-12-none")


@pytest.mark.parametrize("name", SLOW)
def test_moves_of_one_to_four_sites(rng: np.random.Generator, name: str) -> None:
    """All single flips, and random changes of k sites with merging paths."""
    factory, n, keys = TREES[name]
    dtype = "real" if name.startswith("convac-2") else "complex"
    wf = factory(Problem(spins(n), dtype=dtype), **keys)
    params = generic(wf)
    sigma = rng.choice(np.array([-1, 1], np.int8), size=(3, n))
    cache = quick_jit(wf.cache)(params, sigma)
    ratios, tries = quick_jit(wf.log_ratios), quick_jit(wf.try_move)
    full, fresh_cache, commit = map(quick_jit, (wf.log_psi, wf.cache, wf.commit))
    for k in (1, 2, 4):
        rows = [rng.permutation(n)[:k] for _ in range(n)]
        rows[0], rows[1] = np.arange(k), n - 1 - np.arange(k)
        if k == 1:
            rows = list(np.arange(n)[:, None])
        sites = np.array(rows, np.int32)
        if k == 4:
            sites[3, 2], sites[4, 1:], sites[5, 0] = n, n, n
        moves = Moves(sites, (sites < n).astype(np.int8))
        moved = np.repeat(sigma[None], n, axis=0)
        for m, row in enumerate(sites):
            moved[m][:, row[row < n]] *= -1
        logs = full(params, np.concatenate([sigma, moved.reshape(-1, n)]))
        want = np.exp(np.asarray(logs[3:].reshape(n, 3) - logs[None, :3]))
        # Traced tables and concrete ones.
        got = np.exp(np.asarray(ratios(params, cache, sigma, moves)))
        np.testing.assert_allclose(got, want, rtol=1e-11)
        for m in (0, 3, 5):
            log, pending = tries(params, cache, sigma, moves[m])
            np.testing.assert_allclose(log, 2 * np.log(np.abs(want[m])), atol=1e-11)
            accept = np.array([True, False, True])
            after = commit(cache, pending, accept)
            mixed = np.where(accept[:, None], moved[m], sigma)
            fresh = fresh_cache(params, mixed)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), after, fresh
            )


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_ratios_do_not_depend_on_the_scale_of_the_weights(
    rng: np.random.Generator, scale: float
) -> None:
    """Every level is normalised on the way up and on the way down."""
    wf = ttn(Problem(spins(16), dtype="real"), bond_dimension=3)
    params = generic(wf)
    sigma = rng.choice(np.array([-1, 1], np.int8), size=(3, 16))
    sites = np.arange(16, dtype=np.int32)[:, None]
    moves = Moves(sites, np.ones((16, 1), np.int8))
    scaled = jax.tree.map(lambda x: scale * x, params)
    want, got = (
        np.exp(quick_jit(wf.log_ratios)(p, quick_jit(wf.cache)(p, sigma), sigma, moves))
        for p in (params, scaled)
    )
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_zero_amplitudes_are_finite() -> None:
    """GHZ: all ratios from and to zeros of psi, and scores there."""
    wf = cp(Problem(spins(4), dtype="real"), rank=2)
    params = {"A": jnp.broadcast_to(jnp.eye(2), (4, 2, 2)), "a": jnp.ones(2)}
    sigma = np.array([[1, 1, 1, 1], [1, 1, 1, -1], [1, -1, 1, -1]], np.int8)
    cache = quick_jit(wf.cache)(params, sigma)
    sites = np.arange(4, dtype=np.int32)[:, None]
    moves = Moves(sites, sites * 0 + 1)
    out = np.asarray(quick_jit(wf.log_ratios)(params, cache, sigma, moves))
    assert np.all(np.isfinite(out))
    assert np.all(np.exp(out[:, 0]) == 0), "each flip leaves the state"
    assert out[3, 1].real > 1e29 and np.all(np.exp(out[:3, 1]) == 1)
    scores = jax.tree.leaves(quick_jit(wf.scores)(params, sigma))
    assert all(np.all(np.isfinite(x)) for x in scores)
    log = np.asarray(quick_jit(wf.log_psi)(params, sigma))
    assert np.all(np.exp(log) == [1, 0, 0])


@pytest.mark.parametrize(
    "name",
    [
        "convac",
        pytest.param("ttn", marks=pytest.mark.slow),
        pytest.param("cp", marks=pytest.mark.slow),
    ],
)
def test_a_move_costs_a_path(name: str) -> None:
    """Twice the sites: a move costs one level more, a full evaluation twice."""
    factory, keys = {
        "ttn": (ttn, {"bond_dimension": 4}),
        "convac": (convac, {"channels": 4}),
        "cp": (cp, {"rank": 4}),
    }[name]
    fast, full = [], []
    for n in (64, 128):
        wf = factory(Problem(spins(n)), **keys)
        params = jax.eval_shape(wf.init, jax.random.key(0))
        sigma = jax.ShapeDtypeStruct((16, n), jnp.int8)
        cache = jax.eval_shape(wf.cache, params, sigma)
        move = Move(
            jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int8)
        )

        def one(params: Any, cache: Any, sigma: Any, move: Move, wf: Any = wf) -> Any:
            ratio, pending = wf.try_move(params, cache, sigma, move)
            return ratio, pending

        fast.append(flops(one, params, cache, sigma, move))
        full.append(flops(wf.log_psi, params, sigma))
    assert fast[1] < 1.4 * fast[0]
    assert full[1] > 1.8 * full[0]
    assert fast[1] < full[1] / 5


def flops(fn: Any, *shapes: Any) -> float:
    cost = jax.jit(fn).lower(*shapes).compile().cost_analysis()
    assert cost is not None
    return cost["flops"]
