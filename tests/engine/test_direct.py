"""Direct draws through the engine: law, drift, devices, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import Array

from tests.engine.helpers import MeshOf, amplitudes, made
from vmc import distributed
from vmc.base import Exact, Params, Problem, Sampler, WaveFunction
from vmc.distributed import REPLICATED
from vmc.errors import JobError
from vmc.independent import independent
from vmc.keys import root_key
from vmc.samplers import direct
from vmc.space import spins
from vmc.wavefunction import from_functions

N = 3


def product_state(wrong_by: float = 0.0) -> WaveFunction:
    """psi = prod_i exp(theta_i s_i / 2), which is drawn site by site."""

    def init(key: Array) -> Params:
        return jax.random.normal(key, (N,)) / 2

    def log_psi(params: Params, sigma: Array) -> Array:
        return sigma.astype(params.dtype) @ params / 2

    def sample(params: Params, words: Array) -> tuple[Array, Array]:
        up = jax.nn.sigmoid(2 * params + wrong_by)[:, None]
        sigma = jnp.where(words * 2.0**-32 < up, 1, -1).astype(jnp.int8).T
        log_p = jnp.where(sigma.T > 0, jnp.log(up), jnp.log1p(-up))
        return sigma, jnp.sum(log_p, axis=0)

    def log_norm(params: Params) -> Array:
        return jnp.sum(jnp.logaddexp(params, -params))

    wf = from_functions(
        init, log_psi, problem=Problem(spins(N), "real"), range="positive"
    )
    return wf._replace(exact=Exact(sample=sample, log_norm=log_norm))


def drawn(sampler: Sampler, params: Params, mesh: jax.sharding.Mesh) -> tuple:
    def run(key: Array, params: Params) -> tuple:
        start = sampler.init(key, params)
        chains, samples, info = sampler.sample(key, params, start)
        out = distributed.gather(samples, axis=1), distributed.gather(chains)
        return *out, distributed.largest(info.drift), info.acceptance

    specs = (REPLICATED,) * 4
    program = distributed.compiled(run, mesh, (REPLICATED, REPLICATED), specs)
    return tuple(map(np.asarray, program(root_key(4), params)))


def test_draws_follow_psi_squared_on_any_mesh(mesh_of: MeshOf) -> None:
    wf = product_state()
    params = np.array([0.4, -0.2, 0.7])
    runs = [
        drawn(direct(wf, spins(N), n_chains=1000, n_draws=40, n_devices=n), params, m)
        for n, m in ((1, mesh_of(1)), (4, mesh_of(4)))
    ]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
    samples, chains, drift, acceptance = runs[0]
    assert samples.shape == (40, 1000, N) and samples.dtype == np.int8
    np.testing.assert_array_equal(chains, samples[-1])
    assert drift < 1e-14 and acceptance == 1
    states = spins(N).all_states()
    p = np.exp(states @ params)
    p /= p.sum()

    def fits(rows: np.ndarray) -> float:
        codes = (rows.reshape(-1, N) > 0) @ (1 << np.arange(N))
        order = (states > 0) @ (1 << np.arange(N))
        counts = np.bincount(codes, minlength=8)[order]
        return scipy.stats.chisquare(counts, p * codes.size).pvalue

    assert fits(samples) > 1e-3
    # No memory: pairs of consecutive draws of a walker are independent.
    same = np.mean(np.all(samples[1:] == samples[:-1], axis=-1))
    want = np.sum(p**2)
    assert abs(same - want) < 4 * np.sqrt(want * (1 - want) / (39 * 1000))


def test_a_wrong_drawing_rule_shows_up_as_drift(mesh_of: MeshOf) -> None:
    sampler = direct(product_state(wrong_by=0.1), spins(N), n_chains=8)
    drift = drawn(sampler, np.zeros(N), mesh_of(1))[2]
    assert drift > 0.01


def test_draws_that_leave_the_sector_show_up_as_drift(mesh_of: MeshOf) -> None:
    """A state of the free space, used in a sector."""
    sampler = direct(product_state(), spins(N, total_sz=0.5), n_chains=8)
    assert drawn(sampler, np.zeros(N), mesh_of(1))[2] == np.inf


def test_what_cannot_be_drawn_is_refused() -> None:
    wf = product_state()
    with pytest.raises(JobError, match="not from a sector"):
        direct(wf._replace(exact=None), spins(N, total_sz=0.5), n_chains=4)
    with pytest.raises(JobError, match="can be drawn from exactly"):
        direct(wf._replace(exact=None), spins(N), n_chains=4)
    with pytest.raises(JobError, match="nearest valid numbers are 4 and 6"):
        direct(wf, spins(N), n_chains=5, n_devices=2)


# ---- independent proposals -----------------------------------------------------


def test_independent_proposals_reach_another_wave_function(mesh_of: MeshOf) -> None:
    """phi is a product state, psi is not; the walkers follow psi, on any mesh."""
    phi, space = product_state(), spins(N)
    psi, params = made("rbm-complex", space, 0.4)
    at = np.array([0.1, -0.1, 0.2])
    runs = []
    for n in (1, 4):
        sampler = independent(
            psi, phi, at, space, n_chains=2000, n_draws=300, n_sweeps=2, n_devices=n
        )
        runs.append(drawn(sampler, params, mesh_of(n)))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    samples, chains, _, acceptance = runs[0]
    np.testing.assert_array_equal(chains, samples[-1])
    states = space.all_states()
    p = np.abs(amplitudes(psi, params, space)) ** 2
    q = np.exp(states @ at)
    q /= q.sum()
    codes = (samples[100:].reshape(-1, N) > 0) @ (1 << np.arange(N))
    order = (states > 0) @ (1 << np.arange(N))
    last = np.bincount(codes[-2000:], minlength=8)[order]
    assert scipy.stats.chisquare(last, p * 2000).pvalue > 1e-3
    assert scipy.stats.chisquare(last, q * 2000).pvalue < 1e-6
    w = p / q
    want = np.sum(np.outer(p, q) * np.minimum(1, w[None, :] / w[:, None]))
    np.testing.assert_allclose(acceptance, want, atol=0.01)


def test_independent_proposals_that_cannot_work() -> None:
    phi, free = product_state(), spins(N)
    with pytest.raises(JobError, match="drawn from the whole space"):
        sector = spins(N, total_sz=0.5)
        independent(phi, phi, np.zeros(N), sector, n_chains=4)
    with pytest.raises(JobError, match="can be drawn from"):
        bare = phi._replace(exact=None)
        independent(phi, bare, np.zeros(N), free, n_chains=4)
    with pytest.raises(JobError, match="n_sweeps is 0"):
        independent(phi, phi, np.zeros(N), free, n_chains=4, n_sweeps=0)
