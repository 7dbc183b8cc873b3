"""Fast paths of every tree against full evaluation; costs of a move."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.convac import convac, convac_tree
from ansatze.cp import cp, cp_tree
from ansatze.tree_tables import table_depth
from ansatze.ttn import ttn, ttn_tree
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


MIXED = [0.5, 1, 0.5, 0.5, 1, 1, 0.5]

#: Static part, spins, factory and keys of a tree; walkers; the depth of its tables.
TABLES: dict[str, tuple[Any, Any, Problem, dict, int, int]] = {
    # Blocks of eight, of which the second lacks three sites; then of four and two.
    "ttn-13": (ttn_tree, ttn, Problem(spins(13)), {"bond_dimension": 3}, 130, 3),
    "ttn-13-4": (ttn_tree, ttn, Problem(spins(13)), {"bond_dimension": 3}, 9, 2),
    "ttn-mixed": (
        ttn_tree,
        ttn,
        Problem(spins(7, spin=MIXED), dtype="real"),
        {"bond_dimension": 4},
        50,
        2,
    ),
    "convac-4-18": (
        convac_tree,
        convac,
        Problem(spins(18)),
        {"channels": (3, 4, 2), "window": 4},
        8,
        1,
    ),
    "convac-9-12-none": (
        convac_tree,
        convac,
        Problem(spins(12), dtype="real"),
        {"channels": 2, "window": 9, "sharing": "none"},
        256,
        1,
    ),
    "cp-11": (cp_tree, cp, Problem(spins(11)), {"rank": 3}, 128, 3),
}


@pytest.mark.parametrize(
    "name",
    [
        "ttn-13",
        "ttn-mixed",
        "convac-4-18",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("ttn-13-4", "convac-9-12-none", "cp-11")
        ),
    ],
)
def test_tables_of_the_lowest_levels(rng: np.random.Generator, name: str) -> None:
    """Ratios and caches with tables against full evaluation and a plain sweep."""
    static, factory, problem, keys, n_batch, depth = TABLES[name]
    tree, wf = static(problem, *keys.values()), factory(problem, **keys)
    assert table_depth(tree, n_batch) == depth
    n = problem.space.n_sites
    dims = np.array(problem.space.local_dims)
    params = generic(wf)
    index = rng.integers(0, dims, size=(n_batch, n))
    sigma = (dims - 1 - 2 * index).astype(np.int8)
    cache, plain = quick_jit(wf.cache)(params, sigma), quick_jit(tree.cache)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13),
        cache,
        plain(params, sigma),
    )
    full, ratios = quick_jit(wf.log_psi), quick_jit(wf.log_ratios)
    # Shifts down as well as up; inside a block, between blocks, and both.
    rows = [rng.permutation(n)[:3] for _ in range(9)]
    triples = np.array([np.arange(3), n - 1 - np.arange(3), [0, 1, n - 1], *rows])
    triples[3, 1], triples[4, :2] = n, n
    for sites in (np.arange(n)[:, None], triples):
        shift = rng.choice([-1, 1, 2], size=sites.shape)
        shift[sites == n] = 0
        moved = np.repeat(index[None], len(sites), axis=0)
        for m, (row, by) in enumerate(zip(sites, shift)):
            moved[m][:, row[row < n]] += by[row < n]
        moved = (dims - 1 - 2 * (moved % dims)).astype(np.int8)
        logs = full(params, np.concatenate([sigma, moved.reshape(-1, n)]))
        old, new = logs[:n_batch], logs[n_batch:].reshape(len(sites), n_batch)
        want = np.exp(np.asarray(new - old[None]))
        moves = Moves(sites.astype(np.int32), shift.astype(np.int8))
        got = np.exp(np.asarray(ratios(params, cache, sigma, moves)))
        # Digits that an amplitude close to zero has lost are lost on both sides.
        lost = np.exp(jnp.max(old.real) - old.real)
        lost = np.maximum(np.abs(want), 1) * np.maximum(lost, 1)
        assert np.max(np.abs(got - want) / lost) < 1e-12


def test_tables_hold_any_scale(rng: np.random.Generator) -> None:
    """States of one block that differ by hundreds of orders of magnitude."""
    problem = Problem(spins(16), dtype="real")
    wf = cp(problem, rank=2)
    params = generic(wf)
    scale = np.array([1e-60, 1e60])
    params["A"] = params["A"] * scale
    sigma = rng.choice(np.array([-1, 1], np.int8), size=(128, 16))
    cache = quick_jit(wf.cache)(params, sigma)
    sites = np.arange(16, dtype=np.int32)
    moves = Moves(np.stack([sites, np.roll(sites, -1)], 1), np.ones((16, 2), np.int8))
    got = quick_jit(wf.log_ratios)(params, cache, sigma, moves)
    moved = np.repeat(sigma[None], 16, axis=0)
    for m, row in enumerate(np.asarray(moves.sites)):
        moved[m][:, row] *= -1
    logs = quick_jit(wf.log_psi)(params, np.concatenate([sigma, *moved]))
    want = logs[128:].reshape(16, 128) - logs[None, :128]
    np.testing.assert_allclose(got.real, want.real, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(jnp.cos(got.imag), jnp.cos(want.imag), atol=1e-12)


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
