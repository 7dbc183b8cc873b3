"""Named models against independent matrices and published energies."""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from hamiltonians import LATTICES, MODELS, Lattice, Operator, from_unit_cell, spin
from hamiltonians.compile import compile_operator
from vmc.errors import JobError

_PAULI = {
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]).astype(complex),
}


def matrix(op: Operator, n: int, n_up: int | None = None) -> scipy.sparse.csr_matrix:
    """The operator on n spins 1/2 from its terms alone; site 0 is the slowest bit.

    With ``n_up`` only the block with that many spins up (bits 0).
    """
    states = np.arange(2**n)
    if n_up is not None:
        states = states[np.bitwise_count(states) == n - n_up]
    dim = len(states)
    bits = 1 - 2 * ((states[:, None] >> np.arange(n - 1, -1, -1)) & 1)
    total = scipy.sparse.csr_matrix((dim, dim), dtype=complex)
    for value, letters, sites in op.terms:
        flip, column = 0, np.full(dim, complex(value))
        for letter, s in zip(letters, sites, strict=True):
            flip ^= (1 << (n - 1 - s)) if letter in "XY" else 0
            column *= {"X": 1, "Y": 1j * bits[:, s], "Z": bits[:, s]}[letter]
        row = np.minimum(np.searchsorted(states, states ^ flip), dim - 1)
        inside = states[row] == states ^ flip
        where = (row[inside], np.flatnonzero(inside))
        total += scipy.sparse.csr_matrix((column[inside], where), (dim, dim))
    return total


def lowest(op: Operator, n: int, n_up: int | None = None) -> float:
    """Ground energy of n spins 1/2, over all sectors or with n_up spins up."""
    h = matrix(op, n, n_up)
    dim = 2**n if n_up is None else math.comb(n, n_up)
    if dim <= 256:
        return float(np.linalg.eigvalsh(h.toarray())[0])
    h = h.real if abs(h.imag).max() == 0 else h
    v0 = np.random.default_rng(0).normal(size=dim)
    return float(scipy.sparse.linalg.eigsh(h, 1, which="SA", v0=v0)[0][0])


def test_matrix_is_the_product_of_pauli_matrices() -> None:
    op = Operator.from_terms([(0.5, "XY", (0, 2)), (2.0, "ZX", (2, 1)), (1.0, "", ())])
    eye, x, y, z = np.eye(2), *_PAULI.values()
    want = 0.5 * functools.reduce(np.kron, (x, eye, y))
    want = want + 2 * functools.reduce(np.kron, (eye, x, z)) + np.eye(8)
    np.testing.assert_allclose(matrix(op, 3).toarray(), want, atol=0)


# Energies from two independent exact diagonalisations each.
REFERENCES = [
    ("tfim", "chain", 10, True, {"h": 0.5}, -10.635604409347959),
    ("tfim", "chain", 8, False, {"h": 2.0}, -16.885141493208163),
    ("tfim", "square", 3, True, {"h": 2.5}, -25.596469721010337),
    ("heisenberg", "chain", 8, True, {}, -3.6510934089371734),
    ("heisenberg", "chain", 9, True, {}, -3.7972997839370106),
    ("heisenberg", "chain", 10, False, {}, -4.258035207282883),
    ("heisenberg", "kagome", 2, True, {}, -5.444875216971856),
    ("heisenberg", "triangular", [3, 4], True, {}, -6.9308123628758835),
    ("j1j2", "chain", 12, True, {"J2": 0.5}, -4.5),
    ("j1j2", "chain", 12, False, {"J2": 0.5}, -4.5),
    ("dm", "chain", 12, True, {"D": 0.2}, -5.3905468570913815),
    ("haldane_shastry", "chain", 8, True, {}, -3.5468890816414875),
    ("kitaev_honeycomb", "honeycomb", 2, True, {}, -6.928203230275506),
    ("kitaev_honeycomb", "honeycomb", [3, 2], True, {}, -9.800282700243136),
    ("toric_code", "square_links", 2, True, {}, -8.0),
    ("toric_code", "square_links", 2, True, {"hx": 0.3}, -8.40256872332225),
    ("cluster", "chain", 12, True, {"h": 1.0}, -15.45481322062508),
    (
        *("rydberg", "chain", 12, False),
        *({"Omega": 1.0, "delta": 1.2, "V": 4.0}, -8.871126975766174),
    ),
    ("tfim", "square", 4, True, {"h": 3.0}, -51.448129133206),
    ("heisenberg", "square", 4, True, {}, -11.228483208428848),
    ("heisenberg", "square", 4, False, {}, -9.189207065192939),
    ("heisenberg", "triangular", 4, True, {}, -8.555514917516264),
    ("j1j2", "square", 4, True, {"J2": 0.5}, -8.457923351394866),
    ("xxz", "square", 4, True, {"delta": 2.0}, -17.357688859592006),
    ("xxz", "chain", 16, True, {"delta": -0.5}, -4.41361287818452),
    (
        *("shastry_sutherland", "shastry_sutherland", 4, True),
        *({"J": 0.8, "Jprime": 1.0}, -7.425772452645796),
    ),
    (
        *("tfim_long_range", "chain", 16, True),
        *({"J": -1, "alpha": 1.5, "h": 0.7}, -15.3723717271774),
    ),
]


@pytest.mark.parametrize(
    ("model", "family", "size", "periodic", "couplings", "energy"),
    REFERENCES,
)
def test_reference_energies(model, family, size, periodic, couplings, energy) -> None:
    lattice = LATTICES[family](size, periodic)
    op = MODELS[model](lattice, **couplings)
    n_up = lattice.n_sites // 2 if model in ("heisenberg", "j1j2", "xxz") else None
    assert op.is_hermitian
    assert lowest(op, lattice.n_sites, n_up) == pytest.approx(energy, rel=1e-10)


def test_every_model_says_formula_and_unit_first() -> None:
    for name, model in MODELS.items():
        first = (model.__doc__ or "").partition("\n")[0]
        assert first.startswith("H = "), name
        assert "Pauli" in first or "spin" in first or "S = " in first, name


# ---- single models against closed forms


def test_single_triangle_has_chirality_root_three_quarters() -> None:
    triangle = LATTICES["kagome"](1, False)
    op = MODELS["scalar_chirality"](triangle, J=0.0, J_chi=1.0)
    levels = np.linalg.eigvalsh(matrix(op, 3).toarray())
    want = np.array([-1, -1, 0, 0, 0, 0, 1, 1]) * 3**0.5 / 4
    np.testing.assert_allclose(levels, want, atol=1e-14)


def test_chirality_is_the_triple_product_of_spins() -> None:
    half = spin(0.5)
    triangle = LATTICES["kagome"](1, False)
    (i, j, k), axes = triangle.triangles[0].tolist(), (half.Sx, half.Sy, half.Sz)
    want = Operator.sum(
        np.linalg.det(np.eye(3)[list(p)])
        * axes[p[0]](i)
        @ axes[p[1]](j)
        @ axes[p[2]](k)
        for p in itertools.permutations(range(3))
    )
    assert MODELS["scalar_chirality"](triangle, J=0.0, J_chi=1.0) == want


def test_dm_is_the_cross_product() -> None:
    half = spin(0.5)
    bond = LATTICES["chain"](2, False)
    x, y, z = half.Sx, half.Sy, half.Sz
    want = (
        0.3 * (y(0) @ z(1) - z(0) @ y(1))
        + 0.5 * (z(0) @ x(1) - x(0) @ z(1))
        + 0.7 * (x(0) @ y(1) - y(0) @ x(1))
    )
    assert MODELS["dm"](bond, J=0.0, D=[0.3, 0.5, 0.7]) == want


@pytest.mark.parametrize("theta", [0.4, np.pi])
def test_twist_moves_every_momentum_of_the_xx_ring(theta: float) -> None:
    n = 8
    op = MODELS["xy"](LATTICES["chain"](n), twist=theta)
    k = 2 * np.pi * (np.arange(n) + 0.5) / n  # n / 2 fermions, even
    levels = np.sort(np.cos(k + theta / n))[: n // 2]
    assert lowest(op, n, n // 2) == pytest.approx(levels.sum(), abs=1e-12)


def test_twist_of_two_pi_is_no_twist_in_any_direction_and_for_any_spin() -> None:
    square = LATTICES["square"]([3, 3])
    plain = lowest(MODELS["j1j2"](square), 9)
    full = lowest(MODELS["j1j2"](square, twist=[2 * np.pi, -2 * np.pi]), 9)
    half = lowest(MODELS["j1j2"](square, twist=[0.0, np.pi]), 9)
    assert full == pytest.approx(plain, abs=1e-10)
    assert abs(half - plain) > 1e-3
    ring = LATTICES["chain"](3)
    by_letters = MODELS["xxz"](ring, delta=0.3, twist=0.7)
    by_operators = MODELS["xxz"](ring, delta=0.3, twist=0.7, spin=1.0)
    assert by_letters.is_hermitian and by_operators.is_hermitian
    assert set(by_operators.local_dims.values()) == {3}


def test_twists_of_xyz_and_dm() -> None:
    ring = LATTICES["chain"](6)
    xxz = lowest(MODELS["xxz"](ring, delta=0.3, twist=0.7), 6)
    xyz = {"Jx": 1.0, "Jy": 1.0, "Jz": 0.3}
    boundary = MODELS["xyz"](ring, **xyz, twist=0.7)
    assert lowest(boundary, 6) == pytest.approx(xxz, abs=1e-12)
    assert sum(letters == "XY" for _, letters, _ in boundary.terms) == 1
    general = {"Jx": 1.0, "Jy": 0.4, "Jz": 0.3, "hx": 0.2}
    plain = lowest(MODELS["xyz"](ring, **general), 6)
    full = lowest(MODELS["xyz"](ring, **general, twist=2 * np.pi), 6)
    half = lowest(MODELS["xyz"](ring, **general, twist=np.pi), 6)
    assert full == pytest.approx(plain, abs=1e-12) and abs(half - plain) > 1e-3
    # Along z, D is a twist of the plane: J cos phi = 1, J sin phi = D.
    size = (1 + 0.4**2) ** 0.5
    both = {"J": size, "delta": 1 / size}
    phi = np.arctan(0.4)
    assert MODELS["dm"](ring, D=0.4) == MODELS["xxz"](ring, **both, twist=6 * phi)
    more = MODELS["xxz"](ring, **both, twist=6 * phi + 0.5)
    assert MODELS["dm"](ring, D=0.4, twist=0.5) == more
    across = MODELS["dm"](ring, D=[0.3, 0.0, 0.2], twist=2 * np.pi)
    assert across == MODELS["dm"](ring, D=[0.3, 0.0, 0.2])


def spin_one_matrix(op: Operator, n: int) -> np.ndarray:
    """Matrix of an operator on n spins 1, from the local matrices of its labels."""
    sz, sp = np.diag([1.0, 0, -1]), np.diag([2**0.5] * 2, 1)
    total = np.zeros((3**n, 3**n), complex)
    for value, labels, sites in op.terms:
        local = [np.eye(3)] * n
        for label, s in zip(labels, sites, strict=True):
            step = sp if label.raising > 0 else sp.T
            power = np.linalg.matrix_power
            local[s] = power(sz, label.power) @ power(step, abs(label.raising))
        total += value * functools.reduce(np.kron, local)
    return total


def test_spin_one_models() -> None:
    ring = LATTICES["chain"](4)
    # AKLT: each bond is 2 (projector on total spin 2) - 2/3.
    levels = np.linalg.eigvalsh(spin_one_matrix(MODELS["aklt"](ring), 4))
    assert levels[0] == pytest.approx(-2 / 3 * 4, abs=1e-12)
    assert levels[1] - levels[0] > 0.1
    # Heisenberg ring of 4: sublattice spins 2 and 2 couple to 0, E = J S (S + 1) parts.
    heisenberg = MODELS["heisenberg"](ring, spin=1.0)
    levels = np.linalg.eigvalsh(spin_one_matrix(heisenberg, 4))
    assert levels[0] == pytest.approx(-6.0, abs=1e-12)
    # One Blume-Capel site: D Sz^2 - h Sx on spin 1.
    site = MODELS["blume_capel"](LATTICES["chain"](1), D=0.5, h=1.0)
    want = np.diag([0.5, 0, 0.5]) - (np.eye(3, k=1) + np.eye(3, k=-1)) / 2**0.5
    np.testing.assert_allclose(spin_one_matrix(site, 1), want, atol=1e-15)


@pytest.mark.parametrize(
    "lattice",
    [
        LATTICES["graph"](3, edges=[[0, 1]]),
        LATTICES["chain"](1),
        LATTICES["chain"](3),
    ],
)
@pytest.mark.parametrize(
    ("model", "couplings", "dim"),
    [
        ("heisenberg", {"spin": 1}, 3),
        ("xxz", {"spin": 1.5, "delta": 0.0}, 4),
        ("xy", {"spin": np.float32(1)}, 3),
        ("heisenberg", {"spin": 0.5}, 2),
        ("aklt", {}, 3),
        ("bilinear_biquadratic", {"J": 0.0}, 3),
        ("blume_capel", {"h": 0.0}, 3),
    ],
)
def test_every_site_has_its_spin(lattice, model, couplings, dim: int) -> None:
    op = MODELS[model](lattice, **couplings)
    dims = compile_operator(op, lattice.n_sites).space.local_dims
    assert dims == (dim,) * lattice.n_sites
    # Also after its sites are renamed.
    mirrored = op.permuted(np.arange(lattice.n_sites)[::-1])
    assert compile_operator(mirrored, lattice.n_sites).space.local_dims == dims


def test_pxp_acts_on_the_constrained_space_only() -> None:
    n = 8
    ring = LATTICES["chain"](n)
    h = matrix(MODELS["pxp"](ring, Omega=1.5), n).toarray()
    states = np.arange(2**n)
    down = (states[:, None] >> np.arange(n)) & 1
    allowed = ~np.any(down & np.roll(down, 1, axis=1), axis=1)
    assert allowed.sum() == 47  # Lucas number
    assert not h[np.ix_(~allowed, allowed)].any()
    distance = np.array([[(a ^ b).bit_count() for b in states] for a in states])
    want = np.where(distance == 1, 1.5, 0.0)[np.ix_(allowed, allowed)]
    np.testing.assert_allclose(h[np.ix_(allowed, allowed)], want, atol=1e-14)
    lifted = matrix(MODELS["pxp"](ring, Omega=1.5, penalty=10.0), n).toarray()
    energy = np.linalg.eigvalsh(want)[0]
    np.testing.assert_allclose(lifted[np.ix_(allowed, allowed)], want, atol=1e-14)
    assert np.linalg.eigvalsh(lifted)[0] == pytest.approx(energy, abs=1e-12)


def test_xyz_and_fields_are_spin_operators() -> None:
    bond = LATTICES["chain"](2, False)
    op = MODELS["xyz"](bond, Jx=1.0, Jy=2.0, Jz=3.0, hx=0.5, hz=-0.5)
    half = spin(0.5)
    want = half.Sx(0) @ half.Sx(1) + 2 * half.Sy(0) @ half.Sy(1)
    want = want + 3 * half.Sz(0) @ half.Sz(1)
    for i in (0, 1):
        want = want - 0.5 * half.Sx(i) + 0.5 * half.Sz(i)
    assert op == want


def test_open_toric_code_commutes() -> None:
    op = MODELS["toric_code"](LATTICES["square_links"]([2, 3], False))
    pieces = [Operator.from_terms([term]) for term in op.terms]
    assert len(pieces) == 12
    for a, b in itertools.combinations(pieces, 2):
        assert a.commutator(b) == Operator.from_terms([])


def test_j3_needs_its_shell() -> None:
    square = LATTICES["square"](6)
    op = MODELS["j1j2j3"](square, J1=4.0, J2=8.0, J3=12.0)
    count = {c: sum(v == c for v, _, _ in op.terms) for c in (1.0, 2.0, 3.0)}
    assert count == {1.0: 72 * 3, 2.0: 72 * 3, 3.0: 72 * 3}
    without = MODELS["j1j2"](LATTICES["chain"](3), J2=0)
    assert without == MODELS["heisenberg"](LATTICES["chain"](3))


# ---- what does not fit


CHAIN, SQUARE = LATTICES["chain"](6), LATTICES["square"](4)
NORMAL = {"distribution": "normal"}
BAD = [
    ("tfim", CHAIN, {"J": float("nan")}, "finite"),
    ("tfim", CHAIN, {"h": True}, "finite real number"),
    ("tfim", CHAIN, {"h": "strong"}, "finite real number"),
    ("tfim", CHAIN, {"J": [1.0, 2.0]}, "6 bonds"),
    ("tfim", CHAIN, {"h": [1.0, 2.0]}, "6 sites"),
    ("tfim", CHAIN, {"h": [float("inf")] * 6}, "finite"),
    ("tfim", CHAIN, {"J": {"by_color": [1.0, 2.0]}}, "1 bond colours"),
    ("tfim", CHAIN, {"J": NORMAL}, "disorder_seed"),
    ("tfim", CHAIN, {"J": {"distribution": "cauchy"}, "disorder_seed": 1}, "normal"),
    ("tfim", CHAIN, {"J": NORMAL | {"sigma": 1}, "disorder_seed": 1}, "'sigma'"),
    ("tfim", CHAIN, {"J": NORMAL | {"std": -1}, "disorder_seed": 1}, "negative"),
    (
        *("tfim", CHAIN),
        {"J": {"distribution": "choice", "values": []}, "disorder_seed": 1},
        "nothing to choose from",
    ),
    ("tfim", LATTICES["chain"](3), {"h": {"by_sublattice": [1, 2]}}, "not bipartite"),
    ("sk_glass", CHAIN, {}, "disorder_seed"),
    ("ea_glass", CHAIN, {"distribution": "flat", "disorder_seed": 0}, "binary"),
    ("dm", CHAIN, {"D": [1.0, 2.0]}, "vector"),
    ("heisenberg", LATTICES["chain"](6, False), {"twist": 0.1}, "open direction"),
    ("heisenberg", CHAIN, {"twist": [0.1, 0.2]}, "2 angles"),
    ("heisenberg", LATTICES["square"]([4, 2]), {"twist": 0.1}, "too small"),
    ("heisenberg", CHAIN, {"spin": 0.3}, "multiple of 1/2"),
    ("heisenberg", CHAIN, {"spin": float("nan")}, "multiple of 1/2"),
    ("heisenberg", CHAIN, {"spin": True}, "multiple of 1/2"),
    ("j1j2", LATTICES["chain"](3), {}, "shell 2"),
    ("majumdar_ghosh", SQUARE, {}, "needs a chain"),
    ("majumdar_ghosh", LATTICES["chain"](4), {}, "from 6 sites"),
    ("haldane_shastry", LATTICES["chain"](6, False), {}, "periodic chain"),
    ("shastry_sutherland", SQUARE, {}, "dimers"),
    ("scalar_chirality", SQUARE, {}, "triangles"),
    ("scalar_chirality", LATTICES["pyrochlore"](2), {}, "planar"),
    ("kitaev_honeycomb", LATTICES["honeycomb"](1), {}, "at least 2 x 2"),
    ("kitaev_honeycomb", LATTICES["honeycomb"]([1, 2]), {}, "at least 2 x 2"),
    ("kitaev_honeycomb", LATTICES["honeycomb"]([3, 1]), {}, "at least 2 x 2"),
    ("kitaev_honeycomb", SQUARE, {}, "three kinds"),
    ("kitaev_honeycomb", LATTICES["triangular"](3), {}, "three kinds"),
    ("toric_code", SQUARE, {}, "square_links"),
    ("rydberg", LATTICES["graph"](3, edges=[[0, 1]]), {}, "no path"),
]


@pytest.mark.parametrize(("model", "lattice", "couplings", "message"), BAD)
def test_what_does_not_fit_is_refused(
    model: str, lattice: Lattice, couplings: dict, message: str
) -> None:
    with pytest.raises(JobError, match=message):
        MODELS[model](lattice, **couplings)


def test_kitaev_accepts_any_lattice_with_three_kinds_of_bonds() -> None:
    brick = from_unit_cell(
        2, vectors=[[3**0.5, 0.0], [3**0.5 / 2, 1.5]], positions=[[0.0, 0], [0, 1.0]]
    )
    assert len(MODELS["kitaev_honeycomb"](brick).terms) == len(brick.edges()) == 12
