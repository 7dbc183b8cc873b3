"""Delayed acceptance against |psi|^2 on the full basis."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax import Array

from ansatze.jastrow import jastrow
from tests.engine.helpers import MeshOf, amplitudes, made, ring
from tests.engine.test_samplers import p_value
from tests.engine.test_tempering import draws
from vmc.base import Params, Problem, WaveFunction
from vmc.distributed import BY_WALKER, REPLICATED, gather, largest, per_walker
from vmc.errors import JobError
from vmc.keys import root_key
from vmc.moves import exchanges, local_flips
from vmc.samplers import Metropolis, two_way
from vmc.space import Spins, spins
from vmc.surrogate import delayed


def model_of(space: Spins) -> WaveFunction:
    """A Jastrow factor with a parameter for every pair."""
    every = np.arange(space.n_sites)[None]
    return jastrow(Problem(space, "real", symmetry=every))


def cases() -> dict[str, tuple[str, Spins, float]]:
    return {
        "flips": ("rbm-real", spins(5), 0.4),
        "exchange": ("rbm-complex", spins(6, total_sz=0), 0.2),
        "spin-one": ("jastrow-real", spins(3, spin=1), 0.3),
        "recomputed": ("split", spins(4), 0.3),
    }


@pytest.mark.parametrize(
    "name",
    [
        "exchange",
        *(pytest.param(x, marks=pytest.mark.slow) for x in cases() if x != "exchange"),
    ],
)
def test_psi_squared_is_kept(mesh_of: MeshOf, name: str) -> None:
    """Walkers that follow |psi|^2 do so ever after, and forget where they were."""
    kind, space, scale = cases()[name]
    wf, params = made(kind, space, scale)
    ring_ = np.array(ring(space.n_sites))
    free = space.total_sz is None
    moves = local_flips(space) if free else exchanges(space, ring_)
    n = 1 << 14
    sampler = delayed(
        wf, model_of(space), space, moves, n_chains=n, n_draws=3, n_moves=6, n_devices=2
    )
    p = np.abs(amplitudes(wf, params, space)) ** 2
    states = space.all_states()
    start = states[np.random.default_rng(7).choice(len(states), n, p=p)]

    def run(key: Array, params: Params, start: Array) -> Any:
        chains, samples, info = sampler.sample(key, params, start)
        rows = gather(chains), gather(samples, axis=1)
        return *rows, gather(info.acceptance[None]).mean(), largest(info.drift)

    specs = (REPLICATED, REPLICATED, BY_WALKER)
    program = per_walker(run, mesh_of(2), specs, REPLICATED)
    found = jax.jit(program)(root_key(5), params, start)
    chains, samples, acceptance, drift = (np.asarray(x) for x in found)
    np.testing.assert_array_equal(chains, samples[-1])
    for row in samples:
        assert p_value(row, space, p) > 1e-3
    assert p_value(samples[-1], space, p**0.9 / np.sum(p**0.9)) < 1e-4
    assert np.mean(np.any(samples[-1] != start, axis=1)) > 0.2
    assert 0.1 < acceptance <= 1.0
    assert drift < 1e-12


def test_a_surrogate_that_fits_exactly_is_always_right(mesh_of: MeshOf) -> None:
    """psi = phi up to the ridge: nearly every proposal is accepted."""
    space = spins(5)
    wf = model_of(space)
    params = jax.tree.map(lambda x: 10 * x, wf.init(root_key(1)))
    sampler = delayed(
        wf,
        model_of(space),
        space,
        local_flips(space),
        n_chains=512,
        n_moves=10,
        n_devices=2,
    )
    assert draws(sampler, params, mesh_of(2))[2] > 0.99


def test_mirrored_walks_are_reversible(mesh_of: MeshOf) -> None:
    """q(x) T(x -> y) = q(y) T(y -> x) for one fixed sequence of moves."""
    space = spins(3)
    wf, params = made("rbm-real", space, 0.6)
    moves = local_flips(space)
    inner = Metropolis(wf, space, moves, 1, 1, 1, 0, two_way(space, moves))
    states = space.all_states()
    copies = 1 << 15

    def run(key: Any, params: Params) -> Any:
        start = np.repeat(states, copies, axis=0)
        end = inner.walk(key, params, start, 3, mirrored=True)[0]
        return gather(end)

    program = per_walker(run, mesh_of(1), (REPLICATED, REPLICATED), REPLICATED)
    q = np.abs(amplitudes(wf, params, space)) ** 2
    place = {tuple(s): i for i, s in enumerate(states.tolist())}
    worst = []
    for seed in range(3):
        end = np.asarray(jax.jit(program)(root_key(seed), params))
        to = np.array([place[tuple(s)] for s in end.tolist()]).reshape(-1, copies)
        flow = np.stack([np.bincount(row, minlength=len(states)) for row in to])
        flow = q[:, None] * flow / copies
        sigma = np.sqrt((q[:, None] * flow + q[None] * flow.T) / copies) + 1e-12
        worst.append(np.max(np.abs(flow - flow.T) / sigma))
    assert max(worst) < 5


def test_bad_numbers_are_refused() -> None:
    space = spins(4)
    wf, _ = made("rbm-real", space, 0.1)
    moves = local_flips(space)
    model = model_of(space)
    with pytest.raises(JobError, match="3"):
        delayed(wf, model, space, moves, n_chains=3, n_moves=4)
    with pytest.raises(JobError, match="n_moves is 0"):
        delayed(wf, model, space, moves, n_chains=4, n_moves=0)
    model = made("rbm-complex", space, 0.1)[0]
    with pytest.raises(JobError, match="positive"):
        delayed(wf, model, space, moves, n_chains=4, n_moves=4)
