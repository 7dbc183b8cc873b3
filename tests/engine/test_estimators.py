"""Local energies and first-order gradients against the full basis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from hamiltonians.compile import compile_operator
from hamiltonians.operators import spin, sz
from tests.engine.helpers import (
    MeshOf,
    Terms,
    amplitudes,
    flat,
    hamiltonian,
    heisenberg,
    jacobian,
    made,
    matrix,
    on_mesh,
    tfim,
    twisted,
)
from vmc.base import WaveFunction
from vmc.estimators import local_energies, weighted_scores
from vmc.space import Spins, spins

CASES: dict[str, tuple[str, Spins, Terms]] = {
    "positive-tfim": ("rbm-real", spins(5), tfim(5, h=0.7)),
    "positive-complex-h": ("rbm-real", spins(4), twisted(4)),
    "positive-exchange": ("rbm-real", spins(6, total_sz=0), heisenberg(6)),
    "complex-exchange": ("rbm-complex", spins(6, total_sz=1), heisenberg(6)),
    "complex-complex-h": ("rbm-complex", spins(5), twisted(5)),
    "jastrow": ("jastrow-complex", spins(5), twisted(5)),
    "split": ("split", spins(4), twisted(4)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_local_energies_on_the_full_basis(case: tuple[str, Spins, Terms]) -> None:
    kind, space, terms = case
    wf, params = made(kind, space)
    ham, states = hamiltonian(space, terms), space.all_states()
    psi = amplitudes(wf, params, space)
    want = (matrix(space, terms) @ psi) / psi

    def run(ham, params, sigma):
        whole = local_energies(wf, ham, params, sigma)
        # 7 divides none of the bases: the last chunk is padded.
        return whole, local_energies(wf, ham, params, sigma, 7)

    whole, chunked = jax.jit(run)(ham, params, states)
    np.testing.assert_allclose(whole, want, atol=1e-11 * np.abs(want).max())
    np.testing.assert_allclose(chunked, whole, rtol=1e-13)
    real = kind == "rbm-real" and not np.iscomplexobj(want)
    assert whole.dtype == (np.float64 if real else np.complex128)


def test_local_energies_of_spin_one() -> None:
    """Bilinear-biquadratic exchange with a field, in a sector."""
    n, space = 4, spins(4, spin=1, total_sz=1)
    root = np.sqrt(0.5)
    x = root * np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    y = root * np.array([[0, -1j, 0], [1j, 0, -1j], [0, 1j, 0]])
    z = np.diag([1.0, 0.0, -1.0])

    def at(i: int, op: np.ndarray) -> np.ndarray:
        return np.kron(np.kron(np.eye(3**i), op), np.eye(3 ** (n - 1 - i)))

    one, full, total = spin(1), np.zeros((3**n, 3**n), complex), []
    for i in range(n):
        j = (i + 1) % n
        dot = sum(at(i, p) @ at(j, p) for p in (x, y, z))
        full += dot + 0.3 * dot @ dot + 0.2 * at(i, z)
        symbol = one.Sx(i) @ one.Sx(j) + one.Sy(i) @ one.Sy(j) + one.Sz(i) @ one.Sz(j)
        total += [symbol + 0.3 * symbol @ symbol + 0.2 * one.Sz(i)]
    ham = compile_operator(sum(total[1:], total[0]), n, total_sz=1)
    states = space.all_states()
    rows = ((2 - states.astype(int)) // 2) @ 3 ** np.arange(n - 1, -1, -1)
    wf, params = made("jastrow-complex", space)
    psi = amplitudes(wf, params, space)
    want = (full[np.ix_(rows, rows)] @ psi) / psi
    got = jax.jit(lambda h, p, s: local_energies(wf, h, p, s))(ham, params, states)
    np.testing.assert_allclose(got, want, atol=1e-11 * np.abs(want).max())


def test_a_diagonal_hamiltonian() -> None:
    space = spins(3)
    wf, params = made("rbm-real", space)
    ham = compile_operator(sz(0) @ sz(1) + 0.5 * sz(2), 3)
    s = space.all_states().astype(float)
    got = local_energies(wf, ham, params, jnp.asarray(space.all_states()))
    np.testing.assert_allclose(got, s[:, 0] * s[:, 1] + 0.5 * s[:, 2], atol=1e-15)


def test_ratios_of_forbidden_moves_do_not_matter() -> None:
    space = spins(4, total_sz=0)
    wf, params = made("rbm-complex", space)
    ham, states = hamiltonian(space, heisenberg(4)), space.all_states()
    allowed = space.allows(jnp.asarray(states), ham.moves)
    assert not np.all(allowed)

    def spoilt(params, cache, sigma, moves, wanted):
        ratios = wf.log_ratios(params, cache, sigma, moves)
        # One of inf, nan and -inf per move.
        bad = jnp.asarray([np.inf, np.nan, -np.inf])[jnp.arange(len(ratios)) % 3]
        return jnp.where(allowed, ratios, bad[:, None])

    run = jax.jit(local_energies, static_argnums=0)
    want = run(wf, ham, params, states)
    got = run(wf._replace(log_ratios=spoilt), ham, params, states)
    np.testing.assert_array_equal(got, want)


def test_neighbours_of_zero_amplitude_contribute_nothing() -> None:
    """Log ratios of -inf are exact zeros, in value and not as nan."""
    space, terms = spins(4), twisted(4)
    wf, params = made("rbm-complex", space)
    states = space.all_states()
    dead = states[:, 0] * states[:, 2] < 0

    def log_psi(params, sigma):
        zero = sigma[:, 0] * sigma[:, 2] < 0
        return jnp.where(zero, -jnp.inf, wf.log_psi(params, sigma))

    def log_ratios(params, cache, sigma, moves, wanted):
        # The three-spin terms of the Hamiltonian move sites 0 to 3.
        odd = [jnp.sum(moves.sites == i, axis=1) % 2 for i in (0, 2)]
        now = sigma[:, 0] * sigma[:, 2]
        zero = (1 - 2 * ((odd[0] + odd[1]) % 2))[:, None] * now[None, :] < 0
        ratios = wf.log_ratios(params, cache, sigma, moves)
        return jnp.where(zero, -jnp.inf + 0j, ratios)

    masked: WaveFunction = wf._replace(log_psi=log_psi, log_ratios=log_ratios)
    psi = np.where(dead, 0, amplitudes(wf, params, space))
    alive = states[~dead]
    want = (matrix(space, terms) @ psi)[~dead] / psi[~dead]
    got = jax.jit(local_energies, static_argnums=0)(
        masked, hamiltonian(space, terms), params, alive
    )
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("n_devices", [1, 4])
@pytest.mark.parametrize("kind", ["rbm-real", "rbm-complex", "split"])
def test_weighted_scores(mesh_of: MeshOf, kind: str, n_devices: int) -> None:
    space = spins(4)
    wf, params = made(kind, space)
    sigma = space.all_states()
    re, im = np.random.default_rng(2).normal(size=(2, len(sigma)))
    rows = jacobian(wf, params, sigma)
    real = not np.iscomplexobj(flat(params))

    def run(params, sigma, re, im):
        def total(weights: Array):
            out = weighted_scores(wf, params, sigma, weights)
            return jax.tree.map(lambda x: jax.lax.psum(x, "w"), out)

        return total(re), total(jax.lax.complex(re, im))

    found = on_mesh(mesh_of(n_devices), run, (params,), (sigma, re, im))
    for got, weights in zip(found, (re, re + 1j * im)):
        want = rows.conj().T @ weights
        np.testing.assert_allclose(flat(got), want.real if real else want, atol=1e-12)
        assert flat(got).dtype == flat(params).dtype
