"""User-defined charges, parities and constrained spaces against full enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hamiltonians import LATTICES, MODELS
from hamiltonians.compile import compile_operator
from hamiltonians.diagonalise import dense, ground_states
from hamiltonians.matrix import SymmetricRows
from hamiltonians.operators import Operator, Sm, Sp, spin, sx, sz
from hamiltonians.symmetric import symmetry_sector
from tests.hamiltonians.kron import codes, matrix_of, states
from vmc.base import Moves
from vmc.errors import JobError
from vmc.sectors import MAX_LAYER, Charge
from vmc.space import Spins, spins

RING = [(i, (i + 1) % 6) for i in range(6)]
#: Spaces, and the rule that picks their states from the local indices.
SPACES = {
    "parity": (
        spins(5, charges=[Charge((1,) * 5, 1, 2)]),
        lambda n: n.sum(1) % 2 == 1,
    ),
    "sublattices": (
        spins(6, charges=[Charge((1, 0) * 3, 1), Charge((0, 1) * 3, 2)]),
        lambda n: (n[:, ::2].sum(1) == 1) & (n[:, 1::2].sum(1) == 2),
    ),
    "signed, with total Sz": (
        spins(6, total_sz=1, charges=[Charge((1, -1, 2, 0, 1, -1), 1)]),
        lambda n: (n.sum(1) == 2) & (n @ np.array([1, -1, 2, 0, 1, -1]) == 1),
    ),
    "mixed spins, modulo 3": (
        spins(4, spin=[1, 0.5, 1.5, 1], charges=[Charge((1, 2, 1, 1), 2, 3)]),
        lambda n: n @ np.array([1, 2, 1, 1]) % 3 == 2,
    ),
    "ring blockade": (
        spins(6, blockade=RING),
        lambda n: ~np.any([n[:, i] * n[:, j] > 0 for i, j in RING], axis=0),
    ),
    "blockade with parity": (
        spins(6, charges=[Charge((1,) * 6, 0, 2)], blockade=RING),
        lambda n: (
            ~np.any([n[:, i] * n[:, j] > 0 for i, j in RING], axis=0)
            & (n.sum(1) % 2 == 0)
        ),
    ),
}


def picked(space: Spins, rule) -> np.ndarray:
    every = states(space.local_dims)
    return every[rule((np.array(space.local_dims) - 1 - every) // 2)]


@pytest.mark.parametrize("name", SPACES)
def test_states_are_those_that_obey_the_rule(name) -> None:
    space, rule = SPACES[name]
    want = picked(space, rule)
    np.testing.assert_array_equal(space.all_states(), want)
    np.testing.assert_array_equal(space.all_codes(), codes(want, space.local_dims))
    assert space.n_states == len(want) and not space.is_free


@pytest.mark.parametrize("name", SPACES)
def test_random_states_are_uniform_over_the_sector(name, rng) -> None:
    space, rule = SPACES[name]
    n = 20_000
    words = rng.integers(0, 2**32, (space.n_sites, n), np.uint32)
    sigma = np.asarray(jax.jit(space.random)(words))
    assert sigma.dtype == np.int8
    want = codes(picked(space, rule), space.local_dims)
    place = np.searchsorted(want, codes(sigma, space.local_dims))
    np.testing.assert_array_equal(
        want[np.minimum(place, len(want) - 1)], codes(sigma, space.local_dims)
    )
    counts = np.bincount(place, minlength=len(want))
    chi2 = np.sum((counts - n / len(want)) ** 2) / (n / len(want))
    freedom = len(want) - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("name", SPACES)
def test_allows_exactly_the_moves_that_stay(name, rng) -> None:
    space, rule = SPACES[name]
    n, dims = space.n_sites, np.array(space.local_dims)
    rows = [
        rng.choice(n, size, replace=False)
        for size in (1, 2, 2, 3, 1, 2)
        for _ in range(3)
    ]
    sites = np.full((len(rows), 3), n, np.int32)
    shift = np.zeros((len(rows), 3), np.int8)
    for m, row in enumerate(rows):
        sites[m, : len(row)] = row
        shift[m, : len(row)] = [rng.integers(1, dims[s]) for s in row]
    sigma = space.all_states()
    leaves = (jnp.asarray(sites), jnp.asarray(shift))
    got = np.asarray(space.allows(jnp.asarray(sigma), Moves(*leaves)))
    index = (dims - 1 - sigma) // 2
    for m, row in enumerate(rows):
        new = index.copy()
        for s, q in zip(row, shift[m], strict=False):
            new[:, s] = (new[:, s] + q) % dims[s]
        np.testing.assert_array_equal(got[m], rule(new))


# ---- Hamiltonians


def pair_creation() -> Operator:
    """Conserves n_0 + n_1 - n_2 - n_3, but not total Sz; and the parity."""
    both = 0.3j * Sp(0) @ Sp(2) + 0.7 * Sp(1) @ Sp(3) @ sz(0) + Sp(0) @ Sm(1)
    return both + both.dagger() + 0.4 * sz(0) @ sz(2) - 0.2 * sz(1)


def clock() -> Operator:
    """Conserves the sum of the local indices modulo 3, on spins 1."""
    local = spin(1)
    turn = [local.matrix(i, np.roll(np.eye(3), 1, axis=0)) for i in range(3)]
    hop = turn[0] @ turn[1].dagger() + 0.5 * turn[1] @ turn[2].dagger()
    return hop + hop.dagger() + 0.3 * local.Sz(0) @ local.Sz(2)


def three_at_a_time() -> Operator:
    """Conserves the number of down spins modulo 3."""
    triple = Sp(0) @ Sp(1) @ Sp(2) + 0.5 * Sp(1) @ Sp(2) @ Sp(3)
    return triple + triple.dagger() + 0.2 * sz(0) @ sz(1)


SECTORS = {
    "difference": (pair_creation(), (2,) * 4, (1, 1, -1, -1), 0),
    "parity": (
        MODELS["xyz"](LATTICES["chain"](4), 1.0, 0.3, 0.7),
        (2,) * 4,
        (1,) * 4,
        2,
    ),
    "clock": (clock(), (3,) * 3, (1, 1, 1), 3),
    "modulo 3": (three_at_a_time(), (2,) * 4, (1,) * 4, 3),
    "toric vertex": (
        *(MODELS["cluster"](LATTICES["chain"](4, False)) + 0, (2,) * 4),
        *((0, 0, 0, 0), 2),
    ),
}


@pytest.mark.parametrize("name", SECTORS)
def test_sectors_of_a_charge_are_blocks_of_the_matrix(name) -> None:
    op, dims, weights, modulus = SECTORS[name]
    whole = matrix_of(op, dims)
    index = (np.array(dims) - 1 - states(dims)) // 2
    q = index @ np.array(weights)
    q = q % modulus if modulus else q
    levels = []
    for value in np.unique(q).tolist():
        charge = Charge(tuple(weights), value, modulus)
        ham = compile_operator(op, len(dims), charges=[charge])
        here = np.flatnonzero(q == value)
        block = whole[np.ix_(here, here)]
        np.testing.assert_allclose(dense(ham), block, atol=1e-13)
        levels.append(np.linalg.eigvalsh(block))
        assert ham.mean_energy() == pytest.approx(np.trace(block).real / len(here))
        # Elements are exactly 0 where they leave the sector.
        sigma = ham.space.all_states()
        stay = np.asarray(ham.space.allows(jnp.asarray(sigma), ham.moves))
        assert not np.asarray(ham.elements(jnp.asarray(sigma)))[~stay].any()
    np.testing.assert_allclose(
        np.sort(np.concatenate(levels)), np.linalg.eigvalsh(whole), atol=1e-12
    )


def violations() -> dict:
    chain = LATTICES["chain"](4)
    tfim = MODELS["tfim"](chain, hz=0.3)
    return {
        "additive": (pair_creation(), {"charges": [Charge((1, 1, 1, 1), 2)]}),
        "parity": (tfim, {"charges": [Charge((1,) * 4, 0, 2)]}),
        "modulo": (pair_creation(), {"charges": [Charge((1,) * 4, 0, 3)]}),
        "blockade": (tfim, {"blockade": chain.edges(1)}),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("additive", r"does not conserve the charge .*\[1, 1, 1, 1\].*its term .*[XY]"),
        ("parity", r"its term -1 X0|its term -X0"),
        ("modulo", r"modulus 3\): its term"),
        ("blockade", r"leaves the constrained space: its term .*X"),
    ],
)
def test_charges_that_are_not_conserved_are_refused(name, words) -> None:
    op, options = violations()[name]
    with pytest.raises(JobError, match=words):
        compile_operator(op, 4, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"charges": [Charge((1, 1), 0)]}, "2 weights; expected one integer for each"),
        (
            {"charges": [Charge((0.5,) * 4, 0)]},  # pyright: ignore[reportArgumentType]
            "must be integers",
        ),
        ({"charges": [Charge((1,) * 4, 0, 1)]}, "modulus = 1"),
        (
            {"charges": [Charge((1,) * 4, 9)]},
            "no configuration of 4 sites has charge 9",
        ),
        ({"blockade": [(0, 4)]}, "is not two different sites of 0 to 3"),
        ({"blockade": [(1, 1)]}, "is not two different sites"),
    ],
)
def test_impossible_spaces_are_refused(options, words) -> None:
    with pytest.raises(JobError, match=words):
        spins(4, **options)


def test_a_sector_too_wide_is_refused() -> None:
    far = [(i, 39 - i) for i in range(20)]
    with pytest.raises(JobError, match=f"more than {MAX_LAYER} partial sums"):
        spins(40, blockade=far)


# ---- the PXP model


@pytest.mark.parametrize("n", [8, 13])
def test_pxp_in_its_constrained_space(n: int) -> None:
    ring = LATTICES["chain"](n)
    op = MODELS["pxp"](ring, Omega=1.5)
    ham = compile_operator(op, n, blockade=ring.edges(1))
    lucas = {8: 47, 13: 521}[n]
    assert ham.space.n_states == lucas
    want = np.zeros((lucas, lucas))
    sigma = ham.space.all_states()
    for i, j in itertools.combinations(range(lucas), 2):
        want[i, j] = want[j, i] = 1.5 * (np.sum(sigma[i] != sigma[j]) == 1)
    np.testing.assert_allclose(dense(ham), want, atol=1e-13)
    # In the free space the same operator keeps the constrained block.
    energies = np.linalg.eigvalsh(want)
    assert ground_states(ham).energies[0] == pytest.approx(energies[0], abs=1e-12)
    found = []
    for m in range(n):
        sector = symmetry_sector(ham, ring, [m])
        dim = SymmetricRows(ham, sector).dim
        found.append(ground_states(ham, dim, symmetry=sector).energies)
    np.testing.assert_allclose(np.sort(np.concatenate(found)), energies, atol=1e-10)


def test_pxp_on_the_square_lattice_and_in_a_gauge() -> None:
    square = LATTICES["square"]([4, 4])
    ham = compile_operator(MODELS["pxp"](square), 16, blockade=square.edges(1))
    assert ham.space.n_states == 743  # hard squares on the 4 x 4 torus
    gauged = ham.with_signs([-1] * 16)
    assert gauged.is_stoquastic
    both = ground_states(ham).energies[0], ground_states(gauged).energies[0]
    assert both[0] == pytest.approx(both[1], abs=1e-10)
    assert ham.mean_energy() == 0.0


def test_diagonal_terms_in_a_constrained_space_have_their_own_mean() -> None:
    ring = LATTICES["chain"](8)
    op = MODELS["pxp"](ring) + Operator.sum(0.3 * sz(i) for i in range(8))
    op = op + 0.1 * sz(0) @ sz(3) + 2.0
    ham = compile_operator(op, 8, blockade=ring.edges(1))
    assert ham.mean_energy() == pytest.approx(np.trace(dense(ham)) / 47, abs=1e-12)
    both = compile_operator(op, 8)
    assert both.mean_energy() == pytest.approx(2.0)


def test_a_large_constrained_space_is_counted_and_drawn() -> None:
    ring = LATTICES["chain"](60)
    space = compile_operator(MODELS["pxp"](ring), 60, blockade=ring.edges(1)).space
    lucas = [2, 1]
    while len(lucas) <= 60:
        lucas.append(lucas[-1] + lucas[-2])
    assert space.n_states == lucas[60]
    words = np.random.default_rng(1).integers(0, 2**32, (60, 500), np.uint32)
    down = np.asarray(space.random(jnp.asarray(words))) < 0
    assert not np.any(down & np.roll(down, 1, axis=1))
    # Fraction of excited sites in the uniform ensemble: (1 - 1 / sqrt 5) / 2.
    assert down.mean() == pytest.approx((1 - 5**-0.5) / 2, abs=0.01)
    with pytest.raises(JobError, match="can be enumerated"):
        space.all_states()


def test_sx_string_is_seen_as_violation_only_where_it_flips() -> None:
    weights = (1, 0, 1, 0)
    op = sx(1) + sx(3) + sz(0) @ sz(2)
    ham = compile_operator(op, 4, charges=[Charge(weights, 1)])
    assert ham.space.n_states == 8
