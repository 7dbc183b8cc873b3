"""Replicas and flips of all spins, against |psi|^2 with two wells on the full basis."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import Mesh

import vmc
from tests.engine.helpers import MeshOf, amplitudes, made, ring
from tests.engine.test_samplers import p_value
from vmc.base import Params, Problem, Sampler
from vmc.distributed import REPLICATED, gather, largest, per_walker
from vmc.errors import JobError
from vmc.keys import root_key
from vmc.moves import exchanges, local_flips
from vmc.samplers import metropolis
from vmc.space import Spins, spins
from vmc.tempering import exponents, tempered
from vmc.wavefunction import from_functions

N = 6


def wells(tilt: float) -> Any:
    """psi with wells at all up and all down, (n_sites * m)^2 between them."""

    def log_psi(params: Params, sigma: Array) -> Array:
        m = jnp.sum(sigma.astype(params.dtype), axis=1)
        return params[0] * m**2 / 2 + params[1] * m

    def init(key: Array) -> Params:
        return jnp.array([0.35, tilt]) + 0 * jax.random.uniform(key)

    problem = Problem(spins(N), "real")
    return from_functions(init, log_psi, problem=problem, range="positive")


def draws(sampler: Sampler, params: Params, mesh: Mesh) -> tuple[np.ndarray, ...]:
    """Samples (T, B, N), last chains, acceptance and drift, in global order."""

    def run(key: Array, params: Params) -> Any:
        start = sampler.init(key, params)
        chains, samples, info = sampler.sample(key, params, start)
        rows = gather(chains), gather(samples, axis=1)
        return *rows, gather(info.acceptance[None]).mean(), largest(info.drift)

    program = per_walker(run, mesh, (REPLICATED, REPLICATED), REPLICATED)
    return tuple(np.asarray(x) for x in jax.jit(program)(root_key(5), params))


def probabilities(wf: Any, params: Params, space: Spins) -> np.ndarray:
    return np.abs(amplitudes(wf, params, space)) ** 2


def test_replicas_cross_between_wells_where_single_chains_do_not(
    mesh_of: MeshOf,
) -> None:
    space = spins(N)
    wf = wells(tilt=0.1)
    params = wf.init(jax.random.key(0))
    p = probabilities(wf, params, space)
    keys: dict[str, Any] = {"n_chains": 1024, "n_draws": 24, "n_sweeps": 8}
    keys |= {"n_devices": 2}
    moves = local_flips(space)
    plain = metropolis(wf, space, moves, **keys)
    stuck = draws(plain, params, mesh_of(2))[1]
    assert p_value(stuck[-1], space, p) < 1e-6
    for betas, flip in (exponents(5, 0.0), False), (exponents(3, 0.2), True):
        sampler = tempered(wf, space, moves, **keys, betas=betas, global_flip=flip)
        chains, samples, acceptance, drift = draws(sampler, params, mesh_of(2))
        assert chains.shape == (1024, len(betas), N)
        np.testing.assert_array_equal(chains[:, 0], samples[-1])
        for row in samples[-1], samples[12]:
            assert p_value(row, space, p) > 1e-3
        # Each replica follows its own power of |psi|^2.
        for r, beta in enumerate(betas):
            power = p**beta / np.sum(p**beta)
            assert p_value(chains[:, r], space, power) > 1e-3
        assert 0 < acceptance < 0.2
        assert drift < 1e-12


def test_the_devices_do_not_matter(mesh_of: MeshOf) -> None:
    space = spins(4, total_sz=0)
    wf, params = made("rbm-complex", space, 0.3)
    moves = exchanges(space, np.array(ring(4)))
    found = []
    for n in 1, 2:
        sampler = tempered(
            wf,
            space,
            moves,
            n_chains=8,
            n_sweeps=3,
            n_devices=n,
            betas=exponents(3, 0.1),
            global_flip=True,
        )
        found.append(draws(sampler, params, mesh_of(n))[:2])
    for one, two in zip(*found):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rbm-real", "rbm-complex", "mps-complex"])
@pytest.mark.parametrize("total_sz", [None, 0])
def test_samples_of_each_draw_follow_psi_squared(
    mesh_of: MeshOf, kind: str, total_sz: int | None
) -> None:
    space = spins(N, total_sz=total_sz)
    wf, params = made(kind, space, 0.5)
    moves = local_flips(space) if total_sz is None else None
    sampler = tempered(
        wf,
        space,
        moves or exchanges(space, np.array(ring(N))),
        n_chains=4096,
        n_draws=20,
        n_sweeps=4,
        n_devices=2,
        betas=exponents(4, 0.1),
        global_flip=True,
    )
    _, samples, _, drift = draws(sampler, params, mesh_of(2))
    p = probabilities(wf, params, space)
    for row in samples[8:]:
        assert p_value(row, space, p) > 1e-4
    assert p_value(samples[8:], space, p**0.9 / np.sum(p**0.9)) < 1e-4
    assert drift < 1e-10


def job(**sampler: Any) -> vmc.Job:
    return vmc.Job(
        lattice={"name": "chain", "size": [4]},
        hamiltonian={"name": "tfim", "h": 0.5},
        ansatz={"name": "rbm", "alpha": 1},
        sampler={"n_chains": 16, "n_samples": 32, "burn_in": 2} | sampler,
        optimizer={"name": "sr"},
        run={"n_steps": 4, "steps_per_dispatch": 2},
        measure={"n_samples": 64},
    )


def test_a_run_keeps_its_replicas(tmp_path: Any) -> None:
    keys = {"replicas": 3, "beta_min": 0.2, "global_flip": True}
    built = vmc.build(job(**keys))
    state, records = built.vmc.advance(built.vmc.init(), 2)
    assert np.asarray(state.chains).shape == (16, 3, 4)
    assert np.all(np.isfinite(records["energy"]))
    assert built.vmc.measure(state, 64).error > 0
    assert built.job.sampler.replicas == 3


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"replicas": 0}, "replicas"),
        ({"beta_min": 1.0}, "beta_min"),
        ({"name": "full", "replicas": 2}, "Metropolis"),
    ],
)
def test_bad_keys_are_refused(keys: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        vmc.build(job(**keys))


def test_flips_that_leave_the_sector_are_refused() -> None:
    space = spins(4, total_sz=1)
    wf, _ = made("rbm-real", space, 0.1)
    make = functools.partial(tempered, wf, space, exchanges(space, np.array(ring(4))))
    with pytest.raises(JobError, match="leave the sector"):
        make(n_chains=4, global_flip=True)
    with pytest.raises(JobError, match="beta = 1"):
        make(n_chains=4, betas=(0.5, 0.1))
    with pytest.raises(JobError, match="at least one replica"):
        exponents(0, 0.5)
