"""RBM states in closed form, and the Hamiltonians whose ground states they are."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from ansatze import rbm
from hamiltonians import LATTICES, MODELS, compile_operator, ground_states
from vmc.base import Problem
from vmc.estimators import local_energies
from vmc.space import spins


def state(n_sites: int, hidden: list[dict[int, complex]], visible: np.ndarray):
    """A complex RBM with the given hidden units: wave function and parameters."""
    alpha = -(-len(hidden) // n_sites)
    wavefunction = rbm(Problem(spins(n_sites), dtype="complex"), alpha=alpha)
    weights = np.zeros((n_sites, alpha * n_sites), complex)
    for j, unit in enumerate(hidden):
        for site, w in unit.items():
            weights[site, j] += w
    params = {
        "W": jnp.asarray(weights),
        "a": jnp.asarray(visible, complex),
        "b": jnp.zeros(alpha * n_sites, complex),
    }
    return wavefunction, params


def amplitudes(wavefunction, params, n_sites: int) -> np.ndarray:
    """psi on the whole basis, largest modulus 1."""
    log_psi = np.asarray(wavefunction.log_psi(params, spins(n_sites).all_states()))
    return np.exp(log_psi - log_psi.real.max())


def schmidt(psi: np.ndarray, n_sites: int, block: list[int]) -> np.ndarray:
    """Normalised squared Schmidt coefficients of a block."""
    rest = [i for i in range(n_sites) if i not in block]
    matrix = psi.reshape((2,) * n_sites).transpose(*block, *rest)
    values = np.linalg.svd(matrix.reshape(2 ** len(block), -1), compute_uv=False) ** 2
    return values / values.sum()


def entropies(p: np.ndarray) -> tuple[float, float]:
    p = p[p > 1e-14]
    return float(-np.sum(p * np.log(p))), float(-np.log(np.sum(p**2)))


def graph_state(n_sites: int, edges: list[tuple[int, int]]):
    """prod over edges of (-1)^(n_i n_j), n = 1 for a down spin."""
    w = (math.asinh(1) + 0.5j * math.pi) / 2
    degree = np.bincount(np.array(edges).reshape(-1), minlength=n_sites)
    return state(n_sites, [{i: w, j: w} for i, j in edges], -0.25j * np.pi * degree)


def relative_to_first(psi: np.ndarray) -> np.ndarray:
    return psi / psi[0]


@pytest.mark.parametrize("n_sites", [6, 8])
def test_cluster_ring(n_sites: int) -> None:
    edges = [(i, (i + 1) % n_sites) for i in range(n_sites)]
    wavefunction, params = graph_state(n_sites, edges)
    psi = amplitudes(wavefunction, params, n_sites)
    down = (1 - spins(n_sites).all_states().astype(int)) // 2
    sign = (-1.0) ** sum(down[:, i] * down[:, j] for i, j in edges)
    np.testing.assert_allclose(relative_to_first(psi), sign, atol=1e-12)

    p = schmidt(psi, n_sites, list(range(n_sites // 2)))
    assert np.sum(p > 1e-12) == 4
    np.testing.assert_allclose(entropies(p), 2 * np.log(2), atol=1e-12)

    lattice = LATTICES["chain"]([n_sites])
    hamiltonian = compile_operator(MODELS["cluster"](lattice), n_sites)
    sigma = jnp.asarray(spins(n_sites).all_states())
    eloc = local_energies(wavefunction, hamiltonian, params, sigma)
    np.testing.assert_allclose(eloc, -n_sites, atol=1e-10)


def test_rainbow_has_volume_law() -> None:
    n_sites = 8
    edges = [(i, i + n_sites // 2) for i in range(n_sites // 2)]
    psi = amplitudes(*graph_state(n_sites, edges), n_sites)
    p = schmidt(psi, n_sites, list(range(n_sites // 2)))
    np.testing.assert_allclose(entropies(p), n_sites // 2 * np.log(2), atol=1e-12)


def test_ghz() -> None:
    n_sites = 6
    hidden = [{i: 0.25j * np.pi, i + 1: -0.25j * np.pi} for i in range(n_sites - 1)]
    psi = np.abs(amplitudes(*state(n_sites, hidden, np.zeros(n_sites)), n_sites))
    np.testing.assert_allclose(psi[[0, -1]], 1, atol=1e-12)
    assert psi[1:-1].max() < 1e-14
    for block in ([0], [0, 1, 2], [1, 3, 5]):
        np.testing.assert_allclose(entropies(schmidt(psi, n_sites, block)), np.log(2))


@pytest.mark.parametrize(
    ("size", "n_nonzero"),
    [
        ((2, 2), 32),
        ((2, 3), 128),
        pytest.param((3, 3), 1024, marks=pytest.mark.slow),
    ],
)
def test_toric_code(size: tuple[int, int], n_nonzero: int) -> None:
    lattice = LATTICES["square_links"](list(size))
    operator = MODELS["toric_code"](lattice)
    n_sites = lattice.n_sites
    plaquettes = [sites for _, letters, sites in operator.terms if letters == "ZZZZ"]
    assert len(plaquettes) == size[0] * size[1]
    hidden = [dict.fromkeys(sites, 0.25j * np.pi) for sites in plaquettes]
    visible = np.full(n_sites, 0.5j * np.pi)
    wavefunction, params = state(n_sites, hidden, visible)
    psi = amplitudes(wavefunction, params, n_sites)
    support = np.abs(psi) > 1e-10
    assert support.sum() == n_nonzero
    relative = psi[support] / psi[support][0]
    np.testing.assert_allclose(relative, 1, atol=1e-11)

    sigma = jnp.asarray(spins(n_sites).all_states()[support])
    hamiltonian = compile_operator(operator, n_sites)
    eloc = local_energies(wavefunction, hamiltonian, params, sigma)
    np.testing.assert_allclose(eloc, -2 * size[0] * size[1], atol=1e-9)


@pytest.mark.parametrize(
    ("n_sites", "energy"),
    [
        (4, -2.0),
        (8, -3.6510934089),
        (10, -4.5154463545),
        (12, -5.3873909174),
        pytest.param(16, -7.1422963606, marks=pytest.mark.slow),
    ],
)
def test_heisenberg_ring(n_sites: int, energy: float) -> None:
    operator = MODELS["heisenberg"](LATTICES["chain"]([n_sites]))
    levels = ground_states(compile_operator(operator, n_sites, total_sz=0), 1)
    np.testing.assert_allclose(levels.energies[0], energy, atol=1e-9)
