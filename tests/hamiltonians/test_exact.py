"""Closed forms against exact diagonalisation and published numbers."""

import functools

import numpy as np
import pytest

from hamiltonians import LATTICES, MODELS, bethe, exact, exact_energy
from hamiltonians.compile import compile_operator
from hamiltonians.diagonalise import ground_states
from vmc.errors import JobError


@functools.cache
def spin_matrices(n: int) -> list[list[np.ndarray]]:
    """sx, sy, sz of every site of n spins, dense."""
    pauli = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    return [
        [np.kron(np.kron(np.eye(2**i), p), np.eye(2 ** (n - 1 - i))) for p in pauli]
        for i in range(n)
    ]


def bonds(n: int, periodic: bool) -> list[tuple[int, int]]:
    return [(i, (i + 1) % n) for i in range(n if periodic else n - 1)]


def tfim(J: np.ndarray, h: np.ndarray, periodic: bool) -> np.ndarray:
    n = len(h)
    s = spin_matrices(n)
    total = np.zeros((2**n, 2**n), complex)
    for i in range(n):
        total -= h[i] * s[i][0]
    for c, (i, j) in zip(J, bonds(n, periodic)):
        total -= c * s[i][2] @ s[j][2]
    return np.real(total)


def xxz(J: np.ndarray, delta: float, n: int, periodic: bool) -> np.ndarray:
    s = spin_matrices(n)
    total = np.zeros((2**n, 2**n), complex)
    for c, (i, j) in zip(J, bonds(n, periodic)):
        for axis, weight in enumerate((1, 1, delta)):
            total += c * weight / 4 * s[i][axis] @ s[j][axis]
    return np.real(total)


def sector(h: np.ndarray, n: int, total_sz: float) -> np.ndarray:
    """Levels with the given total Sz."""
    sz = np.sum([np.real(m[2]).diagonal() for m in spin_matrices(n)], axis=0) / 2
    inside = np.abs(sz - total_sz) < 1e-9
    return np.linalg.eigvalsh(h[np.ix_(inside, inside)])


# ---- free fermions


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("seed", range(4))
def test_ising_chain_of_any_signs_in_both_parities(n, periodic, seed) -> None:
    rng = np.random.default_rng(seed)
    J = rng.normal(size=n if periodic else n - 1)
    h = rng.normal(size=n)
    levels, vectors = np.linalg.eigh(tfim(J, h, periodic))
    parity = functools.reduce(np.matmul, (np.real(m[0]) for m in spin_matrices(n)))
    signs = np.sum(vectors * (parity @ vectors), axis=0)
    for p in (1, -1):
        want = levels[np.sign(signs) == p][0]
        assert exact.tfim_chain_energy(n, J, h, periodic, p) == pytest.approx(want)
    assert exact.tfim_chain_energy(n, J, h, periodic) == pytest.approx(levels[0])


@pytest.mark.parametrize(
    ("n", "h", "periodic", "energy"),
    [
        (64, 1.0, True, -81.49551266892573),
        (100, 1.0, False, -126.96187673968073),
        (24, 0.5, True, -25.525065845460333),
    ],
)
def test_ising_chain_published(n: int, h: float, periodic: bool, energy: float) -> None:
    found = exact.tfim_chain_energy(n, 1.0, h, periodic)
    assert found == pytest.approx(energy, rel=1e-14)


def test_odd_parity_of_the_ordered_ring_is_just_above() -> None:
    odd = exact.tfim_chain_energy(24, 1.0, 0.5, True, -1)
    assert odd == pytest.approx(-25.525065833261188, rel=1e-14)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("n", [5, 6])
def test_xx_chain_in_every_sector(n: int, periodic: bool) -> None:
    J = np.random.default_rng(n).normal(size=n if periodic else n - 1)
    h = xxz(J, 0.0, n, periodic)
    for sz in np.arange(-n / 2, n / 2 + 1):
        found = exact.xy_chain_energy(n, J, periodic, sz)
        assert found == pytest.approx(sector(h, n, sz)[0], abs=1e-12)
    lowest = np.linalg.eigvalsh(h)[0]
    found = exact.xy_chain_energy(n, J, periodic, None)
    assert found == pytest.approx(lowest, abs=1e-12)


# ---- Bethe ansatz


@pytest.mark.parametrize("delta", [-0.7, -0.45, 0.0, 0.5, 1.0, 1.3, 5.0])
@pytest.mark.parametrize("n", [3, 4, 7, 8])
def test_xxz_ring_in_every_sector(n: int, delta: float) -> None:
    h = xxz(np.full(n, 1.5), delta, n, True)
    for sz in np.arange(n / 2, -1, -1):
        if not bethe.ring_is_solved(n, delta, sz):
            assert n % 2 and delta < -0.5
            with pytest.raises(JobError, match="not real"):
                exact.xxz_ring_energy(n, 1.5, delta, sz)
            continue
        found = exact.xxz_ring_energy(n, 1.5, delta, sz)
        assert found == pytest.approx(sector(h, n, sz)[0], abs=1e-11), sz


@pytest.mark.parametrize(
    ("n", "energy"),
    [
        (4, -2.0),
        (8, -3.6510934089371734),
        (9, -3.7972997839370106),
        (10, -4.515446354492043),
        (12, -5.387390917445214),
        (15, -6.533667572465751),
        (16, -7.14229636061677),
        (40, -17.746522788333216),
        (200, -88.6335532522416),
    ],
)
def test_heisenberg_ring_published(n: int, energy: float) -> None:
    assert exact.heisenberg_ring_energy(n) == pytest.approx(energy, rel=1e-13)


@pytest.mark.parametrize(
    ("n", "delta", "energy"),
    [
        (16, -0.5, -4.41361287818452),
        (40, 0.5, -15.017021260256818),
        (64, 1.5, -33.506386470153736),
        (32, 2.0, -19.755856280226098),
    ],
)
def test_xxz_ring_published(n: int, delta: float, energy: float) -> None:
    found = exact.xxz_ring_energy(n, 1.0, delta)
    assert found == pytest.approx(energy, rel=1e-12)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_open_heisenberg_chain_in_every_sector(n: int) -> None:
    h = xxz(np.full(n, 0.5), 1.0, n, False)
    for sz in np.arange(n / 2, -1, -1):
        found = exact.heisenberg_open_energy(n, 0.5, sz)
        assert found == pytest.approx(sector(h, n, sz)[0], abs=1e-12)


def test_open_heisenberg_chain_published() -> None:
    found = exact.heisenberg_open_energy(128)
    assert found == pytest.approx(-56.53546988460323, rel=1e-12)


# ---- recognising a job


def dense(op, n: int) -> np.ndarray:
    s = spin_matrices(n)
    total = np.zeros((2**n, 2**n), complex)
    for value, letters, sites in op.terms:
        each = [s[i]["XYZ".index(a)] for a, i in zip(letters, sites, strict=True)]
        total += value * functools.reduce(np.matmul, each, np.eye(2**n))
    return total


RING, OPEN, ODD = (
    LATTICES["chain"](n, p) for n, p in ((8, True), (7, False), (7, True))
)
# A ring whose bonds come in another order and sense than the chain's.
GRAPH = LATTICES["graph"](edges=[[3, 4], [0, 5], [2, 1], [0, 1], [4, 5], [2, 3]])
NORMAL = {"distribution": "normal"}
LINKS, UNIFORM = LATTICES["square_links"](2), {"distribution": "uniform"}
KNOWN = [
    ("tfim", RING, {"h": 0.7}, [None]),
    ("tfim", ODD, {"J": -1.0, "h": -0.7}, [None]),
    ("tfim", GRAPH, {"J": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "h": 2.0}, [None]),
    ("tfim", OPEN, {"J": {"distribution": "normal"}, "disorder_seed": 5}, [None]),
    ("heisenberg", RING, {"J": 2.0}, [None, 0.0, 1.0, -3.0, 4.0]),
    ("heisenberg", ODD, {}, [None, 0.5, -1.5]),
    ("heisenberg", OPEN, {"J": 3.0}, [None, 0.5, 2.5]),
    ("heisenberg", GRAPH, {}, [0.0]),
    ("heisenberg", LATTICES["chain"](2), {}, [None, 0.0, 1.0]),
    ("heisenberg", LATTICES["square"](2), {"J": -1.0}, [None, 0.0, 2.0]),
    ("heisenberg", LATTICES["triangular"]([3, 2]), {"J": -0.5}, [1.0]),
    ("xxz", RING, {"delta": 1.5}, [None, 0.0, 2.0]),
    ("xxz", RING, {"J": -1.0, "delta": 0.5}, [None, 0.0]),
    ("xxz", RING, {"J": -1.0, "delta": -2.0}, [None, 1.0]),
    ("xxz", ODD, {"J": -1.0, "delta": 0.0}, [None, 0.5]),
    ("xy", OPEN, {"J": {"distribution": "uniform"}, "disorder_seed": 2}, [None, 1.5]),
    ("j1j2", RING, {}, [None, 0.0]),
    ("j1j2", LATTICES["chain"](8, False), {"J1": 2.0, "J2": 1.0}, [0.0]),
    ("j1j2", RING, {"J2": 0.0}, [0.0]),
    ("majumdar_ghosh", RING, {"J": 0.5}, [0.0]),
    ("haldane_shastry", RING, {"J": 2.0}, [None, 0.0]),
    ("cluster", ODD, {"J": 2.0}, [None]),
    ("cluster", RING, {"J": 1.5, "h": 0.4}, [None]),
    ("toric_code", LATTICES["square_links"](2), {"J_star": 2.0}, [None]),
    ("toric_code", LATTICES["square_links"](2, False), {}, [None]),
    ("toric_code", LINKS, {"J_face": UNIFORM, "disorder_seed": 4}, [None]),
    ("cluster", ODD, {"J": NORMAL, "disorder_seed": 6}, [None]),
]


@pytest.mark.parametrize(("model", "lattice", "couplings", "sectors"), KNOWN)
def test_known_answers_are_the_lowest_level_of_their_sector(
    model, lattice, couplings, sectors
) -> None:
    n = lattice.n_sites
    h = dense(MODELS[model](lattice, **couplings), n)
    for total_sz in sectors:
        answer = exact_energy(model, lattice, couplings, total_sz)
        assert answer is not None
        energy, source = answer
        levels = np.linalg.eigvalsh(h) if total_sz is None else sector(h, n, total_sz)
        assert energy == pytest.approx(levels[0], rel=1e-11)
        assert type(energy) is float and source


UNKNOWN = [
    ("tfim", LATTICES["square"](3), {}, None),
    ("tfim", RING, {"hz": 0.1}, None),
    ("tfim", RING, {}, 0.0),
    ("heisenberg", LATTICES["square"](3), {}, 0.5),
    ("heisenberg", RING, {"twist": 0.3}, 0.0),
    ("heisenberg", RING, {"h": 0.3}, None),
    ("heisenberg", RING, {"spin": 1.0}, 0.0),
    ("heisenberg", RING, {"J": [1.0] * 7 + [2.0]}, 0.0),
    ("xxz", RING, {"delta": -1.5}, None),
    ("xxz", ODD, {"J": -1.0, "delta": 0.5}, None),
    ("xxz", OPEN, {"delta": 0.5}, None),
    ("xy", LATTICES["square"](3), {}, None),
    ("j1j2", RING, {"J2": 0.4}, 0.0),
    ("j1j2", RING, {}, 1.0),
    ("j1j2", LATTICES["chain"](4), {}, 0.0),
    ("j1j2", ODD, {}, 0.5),
    ("cluster", ODD, {"h": 0.1}, None),
    ("toric_code", LATTICES["square_links"](2), {"hx": 0.1}, None),
    ("shastry_sutherland", LATTICES["shastry_sutherland"](4), {"J": 0.6}, 0.0),
    ("shastry_sutherland", LATTICES["shastry_sutherland"](4, False), {"J": 0.3}, 0.0),
    ("sk_glass", RING, {"disorder_seed": 1}, None),
    ("majumdar_ghosh", RING, {"J": UNIFORM, "disorder_seed": 1}, 0.0),
    ("haldane_shastry", RING, {"J": UNIFORM, "disorder_seed": 1}, 0.0),
    ("cluster", RING, {"J": UNIFORM, "h": 0.4, "disorder_seed": 1}, None),
    ("toric_code", LINKS, {"J_star": NORMAL, "disorder_seed": 1}, None),
    ("aklt", RING, {"J": NORMAL, "disorder_seed": 1}, 0.0),
    ("my_model", RING, {}, None),
    ("heisenberg", None, {}, None),
]


@pytest.mark.parametrize(("model", "lattice", "couplings", "total_sz"), UNKNOWN)
def test_no_answer_where_no_formula_holds(model, lattice, couplings, total_sz) -> None:
    assert exact_energy(model, lattice, couplings, total_sz) is None


def test_a_random_coupling_is_drawn_under_its_own_name() -> None:
    keys = {"J2": 0, "J1": {"distribution": "uniform", "low": -2, "high": -1}}
    keys["disorder_seed"] = 7
    ground = np.linalg.eigvalsh(dense(MODELS["j1j2"](RING, **keys), 8))[0]
    answer = exact_energy("j1j2", RING, keys, None)
    assert answer is not None and answer[0] == pytest.approx(ground)


def test_dimers_of_shastry_and_sutherland() -> None:
    lattice = LATTICES["shastry_sutherland"](6)
    answer = exact_energy("shastry_sutherland", lattice, {"J": 0.5}, 0.0)
    assert answer is not None and answer[0] == pytest.approx(-13.5)


def test_aklt_chain() -> None:
    for periodic, n_bonds in ((True, 10), (False, 9)):
        answer = exact_energy("aklt", LATTICES["chain"](10, periodic), {"J": 3.0}, 0)
        assert answer is not None and answer[0] == pytest.approx(-2.0 * n_bonds)


@pytest.mark.parametrize("periodic", [True, False])
def test_aklt_chain_of_random_bonds(periodic: bool) -> None:
    chain, keys = LATTICES["chain"](5, periodic), {"J": UNIFORM, "disorder_seed": 3}
    ham = compile_operator(MODELS["aklt"](chain, **keys), 5)
    answer = exact_energy("aklt", chain, keys, None)
    assert answer is not None
    assert answer[0] == pytest.approx(ground_states(ham).energies[0], rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact.tfim_chain_energy(2), "too short"),
        (lambda: exact.tfim_chain_energy(4, np.ones(3)), "4 of them"),
        (lambda: exact.tfim_chain_energy(4, float("nan")), "finite"),
        (lambda: exact.tfim_chain_energy(4, parity=0), "parity"),
        (lambda: exact.xy_chain_energy(5, total_sz=0.0), "impossible"),
        (lambda: exact.xxz_ring_energy(6, 1.0, -1.0), "delta > -1"),
        (lambda: exact.heisenberg_ring_energy(6, -1.0), "J > 0"),
        (lambda: exact.heisenberg_ring_energy(6, 1.0, 0.5), "impossible"),
        (lambda: exact.heisenberg_open_energy(6, 0.0), "J > 0"),
        (lambda: exact.majumdar_ghosh_energy(7), "even n"),
        (lambda: exact.haldane_shastry_energy(7), "even n"),
    ],
)
def test_values_outside_a_formula_are_refused(call, message: str) -> None:
    with pytest.raises(JobError, match=message):
        call()
