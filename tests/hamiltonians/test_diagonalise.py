"""Exact diagonalisation and full-sum local energies against reference data."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from hamiltonians import LATTICES, MODELS, diagonalise, space_groups
from hamiltonians import matrix as matrix_module
from hamiltonians.compile import compile_operator
from hamiltonians.diagonalise import (
    dense,
    estimate_bytes,
    ground_states,
    plan,
    to_sparse,
)
from hamiltonians.entropies import entanglement
from hamiltonians.matrix import SymmetricRows
from hamiltonians.operators import Operator, spin, sx, sz
from hamiltonians.symmetric import symmetry_sector as symmetric_sector
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


@pytest.mark.parametrize("name", ["heis_chain_12_P", "heis_dm_chain_12_P_D0.2"])
def test_vectors_are_orthonormal_eigenvectors(name) -> None:
    ham = case(name)
    energies, vectors = ground_states(ham, 3)
    residual = to_sparse(ham) @ vectors - vectors * energies
    assert np.abs(residual).max() < 1e-9
    overlaps = vectors.conj().T @ vectors
    np.testing.assert_allclose(overlaps, np.eye(len(energies)), atol=1e-9)


@pytest.mark.parametrize("dims", [(2,) * 5, (3, 2, 4)])
@pytest.mark.parametrize("real", [True, False])
def test_matrix_is_the_kronecker_product(dims, real, rng, monkeypatch) -> None:
    monkeypatch.setattr(matrix_module, "CHUNK", 50)  # several pieces
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


def test_too_large_or_impossible_is_refused() -> None:
    ham = compile_operator(Operator.sum(sx(i) for i in range(40)), 40)
    for call in (ground_states, to_sparse, dense):
        with pytest.raises(JobError, match=r"GiB.*the limit is 4 GiB"):
            call(ham)
    small = compile_operator(sx(0) + sz(1), 2)
    assert estimate_bytes(small) < 10_000
    with pytest.raises(JobError, match="the limit is 9.31e-10 GiB"):
        to_sparse(small, memory_limit=1)
    for k in (0, 5):
        with pytest.raises(JobError, match=f"k = {k} levels.*has 4 states"):
            ground_states(small, k)
    middle = compile_operator(Operator.sum(sx(i) for i in range(13)), 13)
    with pytest.raises(JobError, match="4000 levels of 8192 states .* vectors alone"):
        ground_states(middle, 4000, memory_limit=2**28)
    with pytest.raises(JobError, match="full matrix of 8192 states"):
        dense(middle, memory_limit=2**26)


def test_method_follows_the_memory() -> None:
    ham = case("tfim_chain_12_P_h1")
    small = plan(case("tfim_chain_8_P_h1"))
    assert small.method == "dense" and small.dimension == 256
    stored = plan(ham)
    assert stored.method == "sparse" and stored.dimension == 4096
    tight = stored.n_bytes - 1
    free = plan(ham, memory_limit=tight)
    assert free.method == "matrix-free" and free.n_bytes <= tight
    with pytest.raises(JobError, match="GiB for the vectors alone"):
        plan(ham, memory_limit=free.n_bytes - 1)


@pytest.mark.parametrize(
    "name", ["tfim_chain_12_P_h1", "heis_dm_chain_12_P_D0.2", "toric_2x2_8_P"]
)
def test_matrix_free_levels_are_those_of_the_matrix(name, monkeypatch) -> None:
    ham = case(name)
    want = ground_states(ham, 3)
    monkeypatch.setattr(diagonalise, "_DENSE", 16)
    tight = plan(ham, 3).n_bytes - 1
    assert plan(ham, 3, memory_limit=tight).method == "matrix-free"
    monkeypatch.setattr(matrix_module, "CHUNK", 5000)  # several pieces
    got = ground_states(ham, 3, memory_limit=tight)
    np.testing.assert_allclose(got.energies, want.energies, atol=1e-10)
    residual = to_sparse(ham) @ got.vectors - got.vectors * got.energies
    assert np.abs(residual).max() < 1e-9


# ---- momentum and spin flip


def moved(space, perm) -> np.ndarray:
    """Number of the state that a permutation maps each state to."""
    sigma = space.all_states()
    image = np.empty_like(sigma)
    image[:, perm] = sigma
    place = codes(image, space.local_dims)
    return np.searchsorted(codes(sigma, space.local_dims), place)


LATTICE_CASES = {
    "ring": (LATTICES["chain"](6), "heisenberg", {}, 0.0),
    "odd ring": (LATTICES["chain"](7), "heisenberg", {}, 0.5),
    "twisted ring": (LATTICES["chain"](6), "xxz", {"delta": 0.3, "twist": 0.7}, 0.0),
    "dm": (LATTICES["chain"](6), "dm", {"D": 0.4}, 0.0),
    "spin 1": (LATTICES["chain"](4), "heisenberg", {"spin": 1.0}, 0.0),
    "torus": (LATTICES["square"]([3, 2]), "tfim", {"h": 0.7}, None),
    "cylinder": (LATTICES["square"]([3, 2], [True, False]), "tfim", {}, None),
    "kagome": (LATTICES["kagome"]([2, 1]), "heisenberg", {}, 0.0),
    "tilted": (
        *(LATTICES["square"](cluster=[[2, 2], [-2, 2]]), "heisenberg", {}, 0.0),
    ),
}


@pytest.mark.parametrize("name", LATTICE_CASES)
def test_momenta_share_out_the_whole_spectrum(name) -> None:
    lattice, model, couplings, total_sz = LATTICE_CASES[name]
    op = MODELS[model](lattice, **couplings)
    ham = compile_operator(op, lattice.n_sites, total_sz=total_sz)
    whole = np.linalg.eigvalsh(dense(ham))
    found = []
    generators = {
        d: lattice.translations[g]
        for g, shift in enumerate(lattice._translations[1])
        for d in range(len(lattice.periodic))
        if np.array_equal(shift, np.eye(len(lattice.periodic), dtype=int)[d])
    }
    orders = space_groups.orders(lattice)
    for momentum in itertools.product(*(range(order) for order in orders)):
        try:
            sector = symmetric_sector(ham, lattice, momentum)
        except JobError as error:
            assert name == "tilted" and "does not fit the periods" in str(error)
            continue
        rows = SymmetricRows(ham, sector)
        if rows.dim == 0:
            continue
        energies, vectors = ground_states(ham, rows.dim, symmetry=sector)
        found.append(energies)
        residual = to_sparse(ham) @ vectors - vectors * energies
        assert np.abs(residual).max() < 1e-10
        norms = np.sum(np.abs(vectors) ** 2, axis=0)
        np.testing.assert_allclose(norms, 1, atol=1e-12)
        for d, perm in generators.items():
            image = np.empty_like(vectors)
            image[moved(ham.space, perm)] = vectors
            phase = np.exp(-2j * np.pi * momentum[d] / orders[d])
            np.testing.assert_allclose(image, phase * vectors, atol=1e-10)
    np.testing.assert_allclose(np.sort(np.concatenate(found)), whole, atol=1e-9)


def test_spin_flip_and_momentum_together() -> None:
    lattice = LATTICES["chain"](6)
    ham = compile_operator(MODELS["heisenberg"](lattice), 6, total_sz=0)
    levels = {}
    for m, flip in itertools.product(range(6), (1, -1)):
        sector = symmetric_sector(ham, lattice, [m], flip)
        dim = SymmetricRows(ham, sector).dim
        if dim:
            levels[m, flip] = ground_states(ham, dim, symmetry=sector).energies
    every = np.sort(np.concatenate(list(levels.values())))
    np.testing.assert_allclose(every, np.linalg.eigvalsh(dense(ham)), atol=1e-10)
    # N / 2 odd: the ground state has k = pi; (-1)^(N/2) is its spin-flip parity.
    best = min(levels, key=lambda key: levels[key][0])
    assert best == (3, -1)
    tfim = compile_operator(MODELS["tfim"](lattice), 6)
    even = ground_states(tfim, symmetry=symmetric_sector(tfim, spin_flip=1))
    assert even.energies[0] == pytest.approx(np.linalg.eigvalsh(dense(tfim))[0])


def test_symmetries_that_are_not_there_are_refused() -> None:
    lattice = LATTICES["chain"](4)
    ring = compile_operator(MODELS["heisenberg"](lattice), 4, total_sz=1)
    open_ = LATTICES["chain"](4, False)
    random_field = MODELS["tfim"](lattice, h=[1.0, 2.0, 3.0, 4.0])
    field = compile_operator(MODELS["tfim"](lattice, hz=0.1), 4)
    for ham, options, words in [
        (ring, {"momentum": [0]}, "needs a .lattice."),
        (ring, {"lattice": lattice, "momentum": [0, 0]}, "each of the 1 directions"),
        (ring, {"lattice": open_, "momentum": [1]}, "open there; use 0"),
        (ring, {"spin_flip": 1}, "total Sz 1"),
        (field, {"spin_flip": -1}, "not symmetric under the flip"),
        (field, {"spin_flip": 2}, "must be 1 or -1"),
        (
            *(compile_operator(random_field, 4), {"lattice": lattice, "momentum": [0]}),
            "not invariant under the translations",
        ),
    ]:
        with pytest.raises(JobError, match=words):
            symmetric_sector(ham, **options)


# ---- entropies


@pytest.mark.parametrize(
    ("name", "region", "s1", "s2"),
    [
        ("heis_chain_8_P", range(4), 1.05116588, 0.73701438),
        ("heis_chain_8_P", range(0, 8, 2), 2.17150293, None),
        ("tfim_chain_8_P_h1", range(4), None, 0.48175026904),
        ("tfim_chain_10_P_h1", range(5), None, 0.51158726948),
        ("heis_square_4x4_P", range(8), 1.82093508, 1.12774677),
        ("j1j2_square_4x4_P_J2_0.5", range(8), 2.16196547, 0.93238812),
        ("cluster_chain_12_P_h0", range(6), 2 * np.log(2), 2 * np.log(2)),
    ],
)
def test_entropies_of_ground_states(name, region, s1, s2) -> None:
    ham = case(name)
    cut = entanglement(ham.space, ground_states(ham).vectors[:, 0], region)
    assert s1 is None or cut.s1 == pytest.approx(s1, abs=1e-8)
    assert s2 is None or cut.s2 == pytest.approx(s2, abs=1e-8)
    if name == "heis_chain_8_P" and len(set(region)) == 4 and region[1] == 2:
        assert len(cut.spectrum) == 12


def test_entropies_are_those_of_the_singular_values(rng) -> None:
    op, _ = random_operator(rng, (3, 2, 4))
    space = compile_operator(op, 3, local_dims=(3, 2, 4)).space
    psi = rng.normal(size=24) + 1j * rng.normal(size=24)
    psi /= np.linalg.norm(psi)
    table = psi.reshape(3, 2, 4).transpose(0, 2, 1).reshape(12, 2)
    p = np.linalg.svd(table, compute_uv=False) ** 2
    for region in ([0, 2], [1]):
        cut = entanglement(space, psi, region)
        np.testing.assert_allclose(cut.spectrum, p, atol=1e-12)
        assert cut.s1 == pytest.approx(-p @ np.log(p), abs=1e-12)
    assert entanglement(space, psi, []).s2 == pytest.approx(0.0, abs=1e-12)
    for region in ([0, 0], [3], [-1]):
        with pytest.raises(JobError, match="from 0 to 2"):
            entanglement(space, psi, region)
