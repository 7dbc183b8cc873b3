"""Metropolis against |psi|^2 on the full basis."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import Array
from jax.sharding import Mesh

from tests.engine.helpers import MeshOf, amplitudes, made, ring
from vmc import metropolis as metropolis_module
from vmc.base import Moves, Params, Problem, Sampler, WaveFunction
from vmc.distributed import BY_WALKER, REPLICATED, gather, largest, per_walker
from vmc.errors import JobError
from vmc.keys import root_key
from vmc.moves import exchanges, local_flips
from vmc.samplers import metropolis
from vmc.space import Spins, spins
from vmc.wavefunction import from_functions


class Drawn(NamedTuple):
    start: np.ndarray
    samples: np.ndarray
    acceptance: float
    drift: float
    log_psi: np.ndarray


def drawn(sampler: Sampler, params: Params, mesh: Mesh, seed: int = 3) -> Drawn:
    """Fresh chains and one call of sample, as host arrays in global order."""

    def run(key: Array, params: Params) -> Any:
        start = sampler.init(key, params)
        chains, samples, info = sampler.sample(
            jax.random.fold_in(key, 9), params, start
        )
        rows = gather(start), gather(samples, axis=1), gather(chains)
        acceptance = gather(info.acceptance[None]).mean()
        return *rows, acceptance, largest(info.drift), gather(info.log_psi)

    program = per_walker(run, mesh, (REPLICATED, REPLICATED), REPLICATED)
    out = [np.asarray(x) for x in jax.jit(program)(root_key(seed), params)]
    start, samples, chains, acceptance, drift, log_psi = out
    np.testing.assert_array_equal(chains, samples[-1])
    return Drawn(start, samples, float(acceptance), float(drift), log_psi)


def moves_of(space: Spins) -> Moves:
    if space.total_sz is None:
        return local_flips(space)
    return exchanges(space, np.array(ring(space.n_sites)))


def p_value(samples: np.ndarray, space: Spins, p: np.ndarray) -> float:
    """Chi-square test; rare states are counted together."""
    base = max(space.local_dims) ** np.arange(space.n_sites)
    codes = space.all_states().astype(int) @ base
    order = np.argsort(codes)
    found = order[np.searchsorted(codes, samples.astype(int) @ base, sorter=order)]
    assert np.array_equal(space.all_states()[found], samples), "left the space"
    counts = np.bincount(found.reshape(-1), minlength=len(p))
    assert not np.any(counts[p == 0]), "a state of zero amplitude was sampled"
    counts, p = counts[p > 0], p[p > 0]
    want = p * counts.sum()
    common = want > 10
    if np.any(~common):
        counts = np.append(counts[common], counts[~common].sum())
        want = np.append(want[common], want[~common].sum())
    statistic = np.sum((counts - want) ** 2 / want)
    return float(scipy.stats.chi2.sf(statistic, len(want) - 1))


def expected_acceptance(space: Spins, moves: Moves, p: np.ndarray) -> float:
    """Mean over states and moves of min(1, p'/p), state by state."""
    place = {tuple(s): i for i, s in enumerate(space.all_states().tolist())}
    total = 0.0
    for state, i in place.items():
        for sites, shift in zip(np.asarray(moves.sites), np.asarray(moves.shift)):
            new = list(state)
            for site, q in zip(sites, shift):
                d = space.local_dims[site]
                new[site] = d - 1 - 2 * (((d - 1 - new[site]) // 2 + int(q)) % d)
            # An exchange of aligned spins leaves a sector, or nothing to accept.
            j = place.get(tuple(new))
            total += 0.0 if j is None else min(p[i], p[j])
    return total / moves.n_moves


CASES: dict[str, tuple[str, Spins, float]] = {
    "flips-real": ("rbm-real", spins(5), 0.35),
    "flips-complex": ("rbm-complex", spins(4), 0.3),
    "exchange-real": ("rbm-real", spins(6, total_sz=1), 0.2),
    "exchange-complex": ("rbm-complex", spins(6, total_sz=0), 0.15),
    "full-recompute": ("split", spins(4), 0.3),
    # Moves that are not their own inverse.
    "flips-spin-one": ("jastrow-real", spins(3, spin=1), 0.3),
    "exchange-spins": ("jastrow-real", spins(3, spin=[1, 0.5, 1.5], total_sz=1), 0.3),
    # Its cache moves along the chain, the same way for all walkers.
    "exchange-chain": ("mps-complex", spins(4, spin=1, total_sz=0), 0.5),
}

#: Every mechanism once; the rest is in the slow tier.
FAST = ("flips-real", "exchange-complex", "full-recompute")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=name, marks=[pytest.mark.slow] * (name not in FAST))
        for name, c in CASES.items()
    ],
)
def test_samples_follow_psi_squared(
    mesh_of: MeshOf, case: tuple[str, Spins, float]
) -> None:
    kind, space, scale = case
    wf, params = made(kind, space, scale)
    moves = moves_of(space)
    sampler = metropolis(
        wf,
        space,
        moves,
        n_chains=1024,
        n_draws=104,
        n_sweeps=8,
        n_devices=2,
    )
    out = drawn(sampler, params, mesh_of(2))
    p = np.abs(amplitudes(wf, params, space)) ** 2
    assert out.samples.shape == (104, 1024, space.n_sites)
    assert out.samples.dtype == np.int8
    samples = out.samples[4:]  # 32 sweeps to forget the start
    assert p_value(samples, space, p) > 1e-3
    # The same samples refute a psi that is off by a few per cent: the test has teeth.
    assert p_value(samples, space, p**0.9 / np.sum(p**0.9)) < 1e-4
    # Walkers are independent of one another: at any one time they follow p as well,
    # although they share the sequence of moves.
    for row in (samples[0], samples[50], samples[-1]):
        assert p_value(row, space, p) > 1e-3
    want = expected_acceptance(space, moves, p)
    np.testing.assert_allclose(out.acceptance, want, atol=0.004)
    assert out.drift < 1e-12
    want = np.asarray(jax.jit(wf.log_psi)(params, out.samples[-1])).real
    np.testing.assert_allclose(out.log_psi, want, atol=1e-12)


@pytest.mark.parametrize(
    ("n_chains", "total_sz", "devices"),
    [pytest.param(256, None, (2, 4), marks=pytest.mark.slow), (40, 0, (4,))],
)
def test_samples_do_not_depend_on_the_devices(
    mesh_of: MeshOf,
    monkeypatch: pytest.MonkeyPatch,
    n_chains: int,
    total_sz: float | None,
    devices: tuple[int, ...],
) -> None:
    """256 chains make round numbers per device; 40 over 4 do not."""
    # Acceptance numbers in several batches, as in large runs.
    monkeypatch.setattr(metropolis_module, "MOVES_PER_DRAW", 3 * n_chains)
    space = spins(4, total_sz=total_sz)
    wf, params = made("rbm-real", space, 0.4)

    def run(n: int) -> Drawn:
        sampler = metropolis(
            wf,
            space,
            moves_of(space),
            n_chains=n_chains,
            n_draws=3,
            n_devices=n,
        )
        return drawn(sampler, params, mesh_of(n))

    one = run(1)
    assert len(np.unique(one.samples.reshape(-1, 4), axis=0)) > 4
    for other in map(run, devices):
        np.testing.assert_array_equal(other.start, one.start)
        np.testing.assert_array_equal(other.samples, one.samples)
        np.testing.assert_allclose(other.acceptance, one.acceptance, rtol=1e-12)


def test_blocks_of_walkers_are_the_same_walkers(
    mesh_of: MeshOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Walkers whose caches are large take their sweeps block by block."""
    space = spins(4)
    wf, params = made("rbm-complex", space, 0.4)

    def run() -> Drawn:
        moves = local_flips(space)
        sampler = metropolis(wf, space, moves, n_chains=24, n_draws=3, n_devices=2)
        return drawn(sampler, params, mesh_of(2))

    together = run()
    monkeypatch.setattr(metropolis_module, "BLOCK_BYTES", 1)
    monkeypatch.setattr(metropolis_module, "LEAST_BLOCK", 3)
    blocks = run()
    np.testing.assert_array_equal(blocks.samples, together.samples)
    np.testing.assert_allclose(blocks.acceptance, together.acceptance, rtol=1e-12)
    np.testing.assert_allclose(blocks.log_psi, together.log_psi, atol=1e-12)
    assert 0 < blocks.drift < 1e-12


def test_random_numbers_in_batches_are_all_different(
    mesh_of: MeshOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of one move still sample psi squared."""
    monkeypatch.setattr(metropolis_module, "MOVES_PER_DRAW", 1)
    space = spins(4)
    wf, params = made("rbm-real", space, 0.4)
    sampler = metropolis(
        wf, space, local_flips(space), n_chains=1024, n_draws=40, n_sweeps=4, burn_in=20
    )
    out = drawn(sampler, params, mesh_of(1))
    p = np.abs(amplitudes(wf, params, space)) ** 2
    assert p_value(out.samples, space, p) > 1e-3


def test_chains_start_independent_and_differ_between_seeds(mesh_of: MeshOf) -> None:
    space = spins(6, total_sz=0)
    wf, params = made("rbm-real", space, 0.0)
    sampler = metropolis(wf, space, moves_of(space), n_chains=1024, n_draws=1)
    first = drawn(sampler, params, mesh_of(1))
    uniform = np.full(space.n_states, 1 / space.n_states)
    assert p_value(first.start, space, uniform) > 1e-3
    other = drawn(sampler, params, mesh_of(1), seed=4)
    same = np.mean(np.all(first.start == other.start, axis=1))
    assert same < 0.1  # 1 / 20 by chance


def test_draws_are_more_sweeps_not_other_chains(mesh_of: MeshOf) -> None:
    """with_draws changes T alone: the first draws are the same."""
    space = spins(4)
    wf, params = made("rbm-real", space, 0.4)
    sampler = metropolis(wf, space, local_flips(space), n_chains=32)
    one = drawn(sampler, params, mesh_of(1))
    three = drawn(sampler.with_draws(3), params, mesh_of(1))
    assert sampler.with_draws(3).n_draws == 3 and sampler.n_draws == 1
    np.testing.assert_array_equal(three.samples[0], one.samples[0])
    assert np.any(three.samples[1] != three.samples[0])


# ---- amplitudes that vanish ----------------------------------------------------


def zeros_where(problem: Problem, dead: Any, wf: WaveFunction) -> WaveFunction:
    """psi set to exactly 0 where ``dead(sigma)``."""

    def log_psi(params: Params, sigma: Array) -> Array:
        return jnp.where(dead(sigma), -jnp.inf, wf.log_psi(params, sigma))

    return from_functions(wf.init, log_psi, problem=problem, range=wf.range)


def test_exact_zeros_are_left_and_never_entered(mesh_of: MeshOf) -> None:
    space = spins(4)
    plain, params = made("rbm-real", space, 0.3)
    problem = Problem(space, "real")
    wf = zeros_where(problem, lambda s: jnp.sum(s, axis=1) == 0, plain)
    sampler = metropolis(
        wf,
        space,
        local_flips(space),
        n_chains=1024,
        n_draws=60,
        n_sweeps=8,
        burn_in=20,
    )
    out = drawn(sampler, params, mesh_of(2))
    assert not np.any(out.samples.sum(axis=-1) == 0)
    p = amplitudes(wf, params, space) ** 2
    # M = +-2 are cut off from one another: compare inside the half of each walker.
    up = np.all(out.samples.sum(axis=-1) > 0, axis=0)
    down = np.all(out.samples.sum(axis=-1) < 0, axis=0)
    assert np.all(up | down)
    total = space.all_states().sum(axis=1)
    for chosen, half in ((up, total > 0), (down, total < 0)):
        q = np.where(half, p, 0)
        assert p_value(out.samples[:, chosen], space, q / q.sum()) > 1e-3
    assert out.drift < 1e-12


def test_a_walker_stuck_at_zero_is_reported(mesh_of: MeshOf) -> None:
    """Every neighbour of M = 0 vanishes as well: no way out, but no silence either."""
    space = spins(4)
    plain, params = made("rbm-real", space, 0.3)
    wf = zeros_where(
        Problem(space, "real"), lambda s: jnp.abs(jnp.sum(s, axis=1)) < 4, plain
    )
    sampler = metropolis(wf, space, local_flips(space), n_chains=64)
    out = drawn(sampler, params, mesh_of(1))
    stuck = np.abs(out.samples[-1].sum(axis=-1)) < 4
    assert np.any(stuck)
    np.testing.assert_array_equal(np.isneginf(out.log_psi), stuck)


def test_a_wrong_cache_shows_up_as_drift(mesh_of: MeshOf) -> None:
    space = spins(4)
    wf, params = made("rbm-real", space, 0.4)

    def wrong(params, cache, sigma, move):
        ratio, pending = wf.try_move(params, cache, sigma, move)
        return ratio + 1e-4, pending

    sampler = metropolis(
        wf._replace(try_move=wrong), space, local_flips(space), n_chains=64
    )
    assert 1e-5 < drawn(sampler, params, mesh_of(2)).drift < 1e-2


# ---- tracing -------------------------------------------------------------------


def test_no_full_evaluation_inside_the_loop(mesh_of: MeshOf) -> None:
    """log_psi and cache are traced at the ends of a walk, whatever its length."""
    space = spins(4)
    wf, params = made("rbm-real", space, 0.4)
    calls = {"log_psi": 0, "cache": 0}

    def counted(name: str, params: Params, sigma: Array) -> Any:
        calls[name] += 1
        return getattr(wf, name)(params, sigma)

    counting = wf._replace(
        log_psi=functools.partial(counted, "log_psi"),
        cache=functools.partial(counted, "cache"),
    )
    sampler = metropolis(
        counting, space, local_flips(space), n_chains=8, n_draws=5, n_sweeps=7
    )
    program = per_walker(
        lambda key, p, s: sampler.sample(key, p, s)[1],
        mesh_of(1),
        (REPLICATED, REPLICATED, BY_WALKER),
        jax.sharding.PartitionSpec(None, "w"),
    )
    run = jax.jit(program)
    sigma = jnp.ones((8, 4), jnp.int8)
    sigma = run(root_key(0), params, sigma)[-1]
    # lax.scan may trace its body twice, for the types of its carry.
    assert 2 <= calls["log_psi"] <= 4 and 1 <= calls["cache"] <= 2
    # Samples are sharded, the first sigma was not: one more program, no further.
    run(root_key(1), params, sigma)
    before = dict(calls)
    for seed in (2, 3):
        params = jax.tree.map(lambda x: 1.1 * x, params)
        sigma = run(root_key(seed), params, sigma)[-1]
    assert calls == before


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n_chains": 0}, "n_chains is 0"),
        ({"n_chains": 6, "n_devices": 4}, "n_chains = 6 .* are 4 and 8"),
        ({"n_chains": 3, "n_devices": 4}, "n_chains = 3 .* number.* 4"),
        ({"n_chains": 8, "n_draws": 0}, "n_draws is 0"),
        ({"n_chains": 8, "n_sweeps": 0}, "n_sweeps is 0"),
        ({"n_chains": 8, "burn_in": -1}, "burn_in is -1"),
    ],
)
def test_numbers_out_of_range(keys: dict[str, int], message: str) -> None:
    space = spins(4)
    wf, _ = made("rbm-real", space)
    with pytest.raises(JobError, match=message):
        metropolis(wf, space, local_flips(space), **keys)


def test_a_sampler_needs_moves() -> None:
    space = spins(4)
    wf, _ = made("rbm-real", space)
    none = Moves(jnp.zeros((0, 1), jnp.int32), jnp.zeros((0, 1), jnp.int8))
    with pytest.raises(JobError, match="no moves"):
        metropolis(wf, space, none, n_chains=8)
