"""Exact diagonalisation and full-sum local energies against reference data."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from hamiltonians import diagonalise
from hamiltonians.compile import TermHamiltonian, compile_operator
from hamiltonians.diagonalise import dense, estimate_bytes, ground_states, to_sparse
from hamiltonians.operators import Operator, spin, sx, sz
from hamiltonians.termfiles import load_terms
from tests.hamiltonians.kron import codes, matrix_of, random_operator
from vmc.errors import JobError

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "energies.json").read_text())


def case(name):
    op, n_sites, total_sz = load_terms(DATA / "terms" / f"{name}.json")
    return compile_operator(op, n_sites, total_sz=total_sz)


def bonds(pairs, s, square=0.0) -> Operator:
    one = spin(s)
    dots = [
        0.5 * (one.Sp(i) @ one.Sm(j) + one.Sm(i) @ one.Sp(j)) + one.Sz(i) @ one.Sz(j)
        for i, j in pairs
    ]
    return Operator.sum(d + square * d @ d for d in dots)


@pytest.mark.parametrize("name", CASES)
def test_reference_energies(name) -> None:
    ham = case(name)
    energies, vectors = ground_states(ham)
    assert energies[0] == pytest.approx(CASES[name]["energy"], rel=1e-10)
    matrix = to_sparse(ham)
    residual = matrix @ vectors - vectors * energies
    assert np.abs(residual).max() < 1e-9
    overlaps = vectors.conj().T @ vectors
    np.testing.assert_allclose(overlaps, np.eye(len(energies)), atol=1e-9)


@pytest.mark.parametrize("dims", [(2,) * 5, (3, 2, 4)])
@pytest.mark.parametrize("real", [True, False])
def test_matrix_is_the_kronecker_product(dims, real, rng, monkeypatch) -> None:
    monkeypatch.setattr(diagonalise, "_CHUNK", 50)  # several pieces
    op, matrix = random_operator(rng, dims, real=real)
    ham = compile_operator(op, len(dims), local_dims=dims)
    got = to_sparse(ham)
    assert got.dtype == (np.float64 if real else np.complex128)
    np.testing.assert_allclose(got.toarray(), matrix, atol=1e-12)
    assert np.all(got.data != 0)


@pytest.mark.parametrize(
    ("op", "total_sz"),
    [
        (bonds([(0, 1), (1, 2), (2, 3), (0, 3)], 0.5) + 0.3 * sz(1), 0),
        (bonds([(0, 1), (1, 2), (2, 3)], 1, square=0.4), 1),
    ],
)
def test_sector_matrix_is_a_block(op, total_sz) -> None:
    ham = compile_operator(op, 4, total_sz=total_sz)
    here = codes(ham.space.all_states(), ham.space.local_dims)
    block = matrix_of(op, ham.space.local_dims)[np.ix_(here, here)]
    np.testing.assert_allclose(dense(ham), block, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "k"), [("heis_chain_12_P", 7), ("heis_dm_chain_12_P_D0.2", 5)]
)
def test_lanczos_finds_every_level(name, k) -> None:
    ham = case(name)
    want = np.linalg.eigvalsh(dense(ham))
    energies, vectors = ground_states(ham, k)
    assert len(energies) >= k and vectors.shape == (ham.space.n_states, len(energies))
    np.testing.assert_allclose(energies, want[: len(energies)], atol=1e-10)
    assert want[len(energies)] > energies[-1] + 1e-6, "a level is cut"
    again, _ = ground_states(ham, k)
    np.testing.assert_array_equal(again, energies)


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("j1j2_chain_12_P_J2_0.5", 2),  # Majumdar-Ghosh
        ("toric_2x2_8_P", 4),
        ("kitaev_honeycomb_3x2_12_P_K1_1_1", 4),
        ("heis_chain_9_P", 2),
        ("heis_chain_12_P", 1),
    ],
)
def test_degenerate_ground_levels_are_complete(name, copies) -> None:
    levels = ground_states(case(name))
    assert levels.degeneracy == len(levels.energies) == copies
    np.testing.assert_allclose(levels.energies, CASES[name]["energy"], rtol=1e-10)


@pytest.mark.parametrize(("periodic", "copies"), [(True, 1), (False, 4)])
def test_aklt_chain(periodic, copies) -> None:
    n = 6
    pairs = [(i, (i + 1) % n) for i in range(n if periodic else n - 1)]
    ham = compile_operator(bonds(pairs, 1, square=1 / 3), n)
    levels = ground_states(ham)
    np.testing.assert_allclose(levels.energies, [-2 / 3 * len(pairs)] * copies)
    assert levels.degeneracy == copies


def test_spin_one_dimer_and_ring() -> None:
    dimer = ground_states(compile_operator(bonds([(0, 1)], 1), 2), k=9).energies
    np.testing.assert_allclose(dimer, [-2] + 3 * [-1] + 5 * [1], atol=1e-12)
    # Two sublattices of total spin 2: E = (S (S + 1) - 12) / 2 with S = 0.
    ring = compile_operator(bonds([(i, (i + 1) % 4) for i in range(4)], 1), 4)
    assert ground_states(ring).energies[0] == pytest.approx(-6.0, abs=1e-12)


@jax.jit
def evaluated(ham: TermHamiltonian, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
    return ham.elements(sigma), ham.diagonal(sigma)


def log_rbm(sigma: np.ndarray) -> np.ndarray:
    """The fixed complex state of the reference data."""
    z, n = sigma.astype(float), sigma.shape[1]
    a, i = np.arange(n)[:, None], np.arange(n)[None, :]
    weights = 0.15 * np.cos(0.7 * a + 1.3 * i) + 0.05j * np.sin(1.1 * a - 0.4 * i)
    hidden = np.log(np.cosh(z @ weights.T)).sum(axis=1)
    return 0.1j * (z @ np.sin(np.arange(n) + 1)) + hidden


@pytest.mark.parametrize("name", CASES)
def test_trial_states_have_their_exact_energy_and_variance(name) -> None:
    ham = case(name)
    n_sites = ham.space.n_sites
    sigma = ham.space.all_states()
    here = codes(sigma, ham.space.local_dims)
    diagonal, elements = (
        np.asarray(ham.diagonal(sigma)),
        np.asarray(ham.elements(sigma)),
    )
    trials = CASES[name]["trial_states_E_var"]
    assert len(trials) == 2
    for label, (energy, variance) in trials.items():
        log_psi = np.zeros(len(sigma)) if "uniform" in label else log_rbm(sigma)
        psi = np.zeros(2**n_sites, complex)
        psi[here] = np.exp(log_psi)
        e_loc = diagonal.astype(complex)
        for move, line in enumerate(elements):
            flips = ham.moves.sites[move]
            bits = sum(1 << (n_sites - 1 - int(s)) for s in flips if s < n_sites)
            e_loc += line * psi[here ^ bits] / psi[here]
        weight = np.abs(psi[here]) ** 2
        weight /= weight.sum()
        mean = weight @ e_loc
        scale = np.abs(e_loc).max()
        assert mean == pytest.approx(energy, abs=1e-12 * scale)
        assert weight @ np.abs(e_loc - mean) ** 2 == pytest.approx(
            variance, abs=1e-12 * scale**2
        )


def test_too_large_or_impossible_is_refused() -> None:
    ham = compile_operator(Operator.sum(sx(i) for i in range(40)), 40)
    for call in (ground_states, to_sparse, dense):
        with pytest.raises(JobError, match=r"GiB; the limit is 4 GiB"):
            call(ham)
    small = compile_operator(sx(0) + sz(1), 2)
    assert estimate_bytes(small) < 10_000
    with pytest.raises(JobError, match="the limit is 9.31e-10 GiB"):
        to_sparse(small, memory_limit=1)
    for k in (0, 5):
        with pytest.raises(JobError, match=f"k = {k} levels.*has 4 states"):
            ground_states(small, k)
    middle = compile_operator(Operator.sum(sx(i) for i in range(13)), 13)
    with pytest.raises(JobError, match="full matrix of 8192 states"):
        ground_states(middle, 4000, memory_limit=2**26)
