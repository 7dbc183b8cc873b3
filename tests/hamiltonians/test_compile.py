"""Compiled tables against Kronecker products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hamiltonians.compile import TermHamiltonian, compile_operator
from hamiltonians.operators import Operator, Sm, Sp, Sx, Sy, Sz, spin, sx, sy, sz
from tests.hamiltonians.kron import codes, matrix_of, random_operator, states
from vmc.errors import JobError


def dot(s: float, i: int, j: int) -> Operator:
    one = spin(s)
    return one.Sx(i) @ one.Sx(j) + one.Sy(i) @ one.Sy(j) + one.Sz(i) @ one.Sz(j)


def ring(n: int, s: float = 0.5) -> Operator:
    return Operator.sum(dot(s, i, (i + 1) % n) for i in range(n))


@jax.jit
def evaluated(ham: TermHamiltonian, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
    return ham.elements(sigma), ham.diagonal(sigma)


def targets(ham: TermHamiltonian, sigma: np.ndarray) -> np.ndarray:
    """Configurations after every move, int8 (K, B, N)."""
    dims = np.asarray(ham.space.local_dims)
    moved = np.repeat(sigma[None], ham.moves.n_moves, axis=0)
    for move in range(ham.moves.n_moves):
        for site, shift in zip(
            ham.moves.sites[move], ham.moves.shift[move], strict=True
        ):
            if site < ham.space.n_sites:
                index = (dims[site] - 1 - sigma[:, site].astype(int)) // 2 + shift
                moved[move, :, site] = dims[site] - 1 - 2 * (index % dims[site])
    return moved


def matrix_from_tables(ham: TermHamiltonian) -> np.ndarray:
    """The matrix in the sector, as the engine sees it: moves, elements, diagonal."""
    dims, sigma = ham.space.local_dims, ham.space.all_states()
    here = codes(sigma, dims)
    size = len(states(dims))
    elements, diagonal = map(np.asarray, evaluated(ham, sigma))
    full = np.zeros((size, size), elements.dtype)
    full[here, here] = diagonal
    for line, moved in zip(elements, targets(ham, sigma), strict=True):
        there = codes(moved, dims)
        assert np.all(np.isin(there[line != 0], here)), "an element leaves the sector"
        full[here, there] += line
    return full[np.ix_(here, here)]


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("dims", [(2,) * 5, (3, 3, 3), (2, 3, 4), (5, 2)])
def test_tables_are_the_matrix(dims, real, rng) -> None:
    op, dense = random_operator(rng, dims, real=real)
    op, dense = op + 0.3, dense + 0.3 * np.eye(len(dense))
    ham = compile_operator(op, len(dims), local_dims=dims)
    assert ham.is_real == real
    np.testing.assert_allclose(matrix_from_tables(ham), dense, atol=1e-12)
    keys = [
        tuple(zip(s, q, strict=True))
        for s, q in zip(ham.moves.sites.tolist(), ham.moves.shift.tolist(), strict=True)
    ]
    assert len(set(keys)) == len(keys), "moves are not merged"


def mixed_ring() -> Operator:
    one, half = spin(1), spin(0.5)
    pairs = [(0, 1), (1, 2), (2, 3), (3, 0)]
    steps = [(half, one)[i % 2] for i in range(4)]
    return Operator.sum(
        0.5 * (steps[i].Sp(i) @ steps[j].Sm(j) + steps[i].Sm(i) @ steps[j].Sp(j))
        + 0.7 * steps[i].Sz(i) @ steps[j].Sz(j)
        for i, j in pairs
    )


def four_spin_exchange() -> Operator:
    cycle = Sp(0) @ Sm(1) @ Sp(2) @ Sm(3)
    return cycle + cycle.dagger() + 0.4 * dot(0.5, 0, 2) @ dot(0.5, 1, 3)


def hop_with_string() -> Operator:
    hop = Sp(0) @ sz(1) @ sz(2) @ Sm(3) + (0.3 + 0.2j) * Sp(1) @ sz(3) @ Sm(2)
    return hop + hop.dagger() + sz(0) @ sz(1) @ sz(2)


SECTORS = {
    "heisenberg": (ring(6), 6, 0.0),
    "magnetised": (ring(5) + 0.3 * Sz(2), 5, 1.5),
    "four-spin": (four_spin_exchange(), 4, 0.0),
    "string": (hop_with_string(), 4, 1.0),
    "spin 1": (ring(4, 1) + 0.1 * ring(4, 1) @ ring(4, 1), 4, -1.0),
    "mixed": (mixed_ring(), 4, 0.0),
}


@pytest.mark.parametrize("name", SECTORS)
def test_sectors_are_blocks_of_the_matrix(name) -> None:
    op, n_sites, total_sz = SECTORS[name]
    ham = compile_operator(op, n_sites, total_sz=total_sz)
    here = codes(ham.space.all_states(), ham.space.local_dims)
    block = matrix_of(op, ham.space.local_dims)[np.ix_(here, here)]
    np.testing.assert_allclose(matrix_from_tables(ham), block, atol=1e-12)
    assert ham.conserves_sz
    mean = float(np.trace(block).real) / len(block)
    assert ham.mean_energy() == pytest.approx(mean, abs=1e-12)
    free = np.trace(matrix_of(op, ham.space.local_dims)).real
    free /= np.prod(ham.space.local_dims)
    assert ham.identity_coefficient == pytest.approx(free, abs=1e-12)
    sigma = ham.space.all_states()
    leaves = targets(ham, sigma).sum(axis=2, dtype=int) != sigma.sum(axis=1, dtype=int)
    assert leaves.any() and np.all(np.asarray(evaluated(ham, sigma)[0])[leaves] == 0.0)


@pytest.mark.parametrize(
    ("op", "exchange"),
    [
        (ring(4), True),
        (Operator.from_terms([(1, "XY", (0, 1)), (-1, "YX", (0, 1))]), True),
        (ring(4) + sx(0), False),
        (Operator.from_terms([(1, "XX", (0, 1))]), False),
        (four_spin_exchange(), False),
        (ring(4, 1), False),
        (sz(0) @ sz(3), False),
    ],
)
def test_exchange_is_declared_exactly_where_it_holds(op, exchange) -> None:
    assert compile_operator(op, 4).moves.exchange is exchange


def test_long_strings_and_many_strings(rng) -> None:
    n = 10
    terms: list = [(0.7, "Z" * n, range(n)), (-0.4, "X" + "Z" * (n - 1), range(n))]
    for bits in range(1, 12):  # more than 8 strings for the flip of site 0
        sites = [i for i in range(1, n) if bits >> (i % 4) & 1]
        terms.append((rng.normal(), "X" + "Z" * len(sites), [0, *sites]))
    terms.append((0.2, "XYXYXYXYXY", range(n)))
    op = Operator.from_terms(terms)
    ham = compile_operator(op, n)
    np.testing.assert_allclose(
        matrix_from_tables(ham), matrix_of(op, (2,) * n), atol=1e-12
    )


def test_diagonal_and_empty_hamiltonians() -> None:
    sigma = jnp.asarray(states((2, 2, 2)))
    for op in (sz(0) @ sz(2) - 1, Operator.sum([])):
        ham = compile_operator(op, 3)
        assert ham.elements(sigma).shape == (0, 8) and ham.is_stoquastic
        assert ham.mean_offdiagonal == 0.0
        want = np.real(np.diag(matrix_of(op, (2, 2, 2))))
        np.testing.assert_array_equal(np.asarray(ham.diagonal(sigma)), want)


# ---- facts -----------------------------------------------------------------


@pytest.mark.parametrize("dims", [(2,) * 4, (3, 2, 3)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_conservation_is_that_of_the_matrix(dims, symmetric, rng) -> None:
    op, dense = random_operator(rng, dims)
    if symmetric:
        op = op + op.spin_flipped()
    dense = matrix_of(op, dims)
    flip = np.fliplr(np.eye(len(dense)))
    ham = compile_operator(op, len(dims), local_dims=dims)
    commutes = np.allclose(flip @ dense @ flip, dense, atol=1e-12)
    assert ham.conserves_spin_flip == commutes == symmetric
    total = np.diag(states(dims).sum(axis=1))
    assert ham.conserves_sz == np.allclose(total @ dense, dense @ total, atol=1e-12)
    largest = [
        np.abs(line).max() for line in np.asarray(evaluated(ham, states(dims))[0])
    ]
    assert ham.mean_offdiagonal == pytest.approx(np.mean(largest), rel=1e-12)


SIGNS = {
    "ferromagnet": (-1 * ring(4), None, "stoquastic"),
    "antiferromagnet": (ring(4), None, "positive"),
    "field": (-1 * sx(0) - 0.9 * sx(0) @ sz(1) + sz(0) @ sz(1), None, "stoquastic"),
    "wrong sign": (-1 * sx(0) - 1.1 * sx(0) @ sz(1), None, "positive"),
    "complex": (sy(0) + sz(1), None, "complex"),
    # X0 X1 + Y0 Y1 times (1 + Z2 + Z3): 3 if both are up, which the sector forbids.
    "sector": (
        -1 * (Sp(0) @ Sm(1) + Sm(0) @ Sp(1)) @ (1 - 0.7 * sz(2) - 0.7 * sz(3)),
        -1.0,
        "stoquastic",
    ),
    "no sector": (
        -1 * (Sp(0) @ Sm(1) + Sm(0) @ Sp(1)) @ (1 - 0.7 * sz(2) - 0.7 * sz(3)),
        None,
        "positive",
    ),
    "spin 1": (-1 * ring(3, 1), None, "stoquastic"),
    "many sites": (
        Operator.from_terms(
            [(-1, "X", [0])] + [(0.1, "XZ" + "Z" * i, range(i + 2)) for i in range(15)]
        ),
        None,
        "unknown",
    ),
    "bounded": (
        Operator.from_terms([(-2, "X", [0]), (1, "X" + "Z" * 15, range(16))]),
        None,
        "stoquastic",
    ),
}


@pytest.mark.parametrize("name", SIGNS)
def test_sign_structure(name) -> None:
    op, total_sz, structure = SIGNS[name]
    ham = compile_operator(op, op.max_site + 1, total_sz=total_sz)
    assert ham.offdiagonal_sign_structure == structure
    assert ham.is_stoquastic == (structure == "stoquastic")
    if structure != "unknown" and ham.space.n_sites < 10:
        dense = matrix_from_tables(ham)
        off = dense - np.diag(np.diag(dense))
        real = np.allclose(np.imag(off), 0)
        assert ham.is_stoquastic == (real and np.real(off).max() < 1e-12)


def dm_ring(n: int) -> Operator:
    twist = [(0.3, "XY", (i, (i + 1) % n)) for i in range(n)]
    twist += [(-0.3, "YX", (i, (i + 1) % n)) for i in range(n)]
    return ring(n) + Operator.from_terms(twist)


@pytest.mark.parametrize(
    "op",
    [
        ring(6),
        dm_ring(6),
        ring(4, 1) @ ring(4, 1),
        hop_with_string(),
        ring(6) + 0.1 * sx(2),
        mixed_ring(),
        Operator.from_terms(
            [(-1, "ZXZ", (i, (i + 1) % 5, (i + 2) % 5)) for i in range(5)]
        ),
    ],
)
def test_invariance_is_that_of_the_operator(op, rng) -> None:
    n = op.max_site + 1
    ham = compile_operator(op, n, signs=[1, -1, *[1] * (n - 2)])
    plain = compile_operator(op, n)
    shift, mirror = np.roll(np.arange(n), 1), np.arange(n)[::-1]
    swap = np.r_[1, 0, np.arange(2, n)]
    perms = [
        np.arange(n),
        shift,
        shift[shift],
        mirror,
        swap,
        *(rng.permutation(n),) * 3,
    ]
    for perm in perms:
        dims = plain.space.local_dims
        same = [dims[p] for p in perm] == list(dims) and op.permuted(perm) == op
        assert plain.is_invariant(perm) == same
    assert not ham.is_invariant(shift), "the gauge belongs to the table"
    for wrong in ([0, 0, *range(2, n)], range(n - 1)):
        with pytest.raises(JobError, match="not a permutation"):
            plain.is_invariant(np.array(wrong))


@pytest.mark.parametrize(
    "op",
    [
        ring(4),
        hop_with_string(),
        ring(3, 1),
        ring(3, 1.5),
        mixed_ring(),
        four_spin_exchange() + sx(1) + 0.4 * sy(2),
    ],
)
def test_gauge_is_a_diagonal_rotation(op, rng) -> None:
    n = op.max_site + 1
    dims = compile_operator(op, n).space.local_dims
    down = (np.asarray(dims) - 1 - states(dims)) // 2
    signs = rng.choice([-1, 1], n)
    ham = compile_operator(op, n, signs=signs)
    rotation = np.prod(signs**down, axis=1)
    want = rotation[:, None] * matrix_of(op, dims) * rotation
    np.testing.assert_allclose(matrix_from_tables(ham), want, atol=1e-12)
    assert ham.signs == tuple(signs)
    twice = ham.with_signs(signs)
    assert twice.signs == (1,) * n
    np.testing.assert_allclose(
        matrix_from_tables(twice), matrix_of(op, dims), atol=1e-12
    )


# ---- as a pytree -----------------------------------------------------------


def test_couplings_are_leaves_and_do_not_retrace(rng) -> None:
    traces = []

    @jax.jit
    def local(ham, sigma):
        traces.append(None)
        return ham.diagonal(sigma), ham.elements(sigma)

    pairs = [(i, (i + 2) % 6) for i in range(6)]
    sigma = compile_operator(ring(6), 6, total_sz=0).space.all_states()
    for j2 in (0.2, 0.5, 0.9):
        op = ring(6) + j2 * Operator.sum(dot(0.5, i, j) for i, j in pairs)
        ham = compile_operator(op, 6, total_sz=0)
        diagonal, elements = local(ham, sigma)
        assert elements.max() == 0.5 and np.any(np.isclose(elements, j2 / 2))
    assert len(traces) == 1
    single = jax.tree.map(
        lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, ham
    )
    for values in local(single, sigma):
        assert values.dtype == jnp.float32
    assert diagonal.dtype == jnp.float64
    complex_ = compile_operator(dm_ring(6), 6)
    assert complex_.elements(jnp.asarray(sigma)).dtype == jnp.complex128
    assert complex_.diagonal(jnp.asarray(sigma)).dtype == jnp.float64
    assert ham.memory_bytes == sum(x.nbytes for x in jax.tree.leaves(ham))


def test_ten_thousand_terms_take_memory_linear_in_them() -> None:
    rng = np.random.default_rng(1)
    terms = [
        (rng.normal(), "".join(rng.choice(list("XYZ"), 3)), rng.choice(100, 3, False))
        for _ in range(10_000)
    ]
    op = Operator.from_terms(terms)
    ham = compile_operator(op, 100)
    assert ham.memory_bytes < 100 * len(op.terms)
    # One move with many strings must not widen the table of all others.
    many = [(1.0, "XZZ", (0, i, j)) for i in range(1, 100) for j in range(i)]
    many = [t for t in many if 0 not in t[2][1:]]
    more = compile_operator(Operator.from_terms(terms + many), 100)
    assert more.memory_bytes < 100 * (len(terms) + len(many))


# ---- refusals --------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "options", "words"),
    [
        (ring(4) + 0.3j * sx(1), {}, r"not Hermitian: its term 0.3j X1 lacks"),
        (ring(4) + Sp(0) @ Sm(2), {}, r"not Hermitian.*0.25j? [XY]0 [XY]2 lacks"),
        (ring(4, 1) + 2 * spin(1).Sp(1), {}, r"its term 2 Sp1 lacks its conjugate"),
        (ring(4), {"n_sites": 3}, "acts on site 3, but there are 3 sites"),
        (ring(4) + 0.2 * sx(2), {"total_sz": 0}, r"its term 0.2 X2 changes it"),
        (ring(4) + 0.1 * Sx(0) @ Sx(1), {"total_sz": 0}, r"term 0.2\d* [XY]0 [XY]1"),
        (ring(4, 1) + spin(1).Sx(0), {"total_sz": 0}, "term 0.5 S[pm]0 changes"),
        (ring(5), {"n_sites": 5, "total_sz": 0}, "nearest sector is total_sz = -?0.5"),
        (ring(4), {"local_dims": [2, 2, 3, 2]}, "site 2 has 3 states"),
        (ring(4), {"local_dims": [2, 2]}, "2 local_dims came for 4"),
        (ring(4), {"signs": [1, -1]}, "sign gauge is .* 4 sites"),
        (ring(4), {"signs": [1, -1, 0, 1]}, "sign gauge is"),
        (ring(4), {"n_sites": 4.5}, "n_sites = 4.5: expected a whole number"),
        (ring(4), {"n_sites": True}, "n_sites = True: expected a whole number"),
        (ring(4), {"total_sz": "a"}, "total_sz = 'a': expected a multiple of 1/2"),
        (ring(4), {"total_sz": float("nan")}, "total_sz = nan: expected"),
        (ring(4), {"total_sz": False}, "total_sz = False: expected"),
        ("XX", {}, "an Operator was expected, a str came"),
        (1e200 * sx(0) @ (1e200 * sx(1)), {}, "overflowed"),
    ],
)
def test_wrong_hamiltonians_are_refused(op, options, words) -> None:
    n_sites = options.pop("n_sites", 4)
    with pytest.raises(JobError, match=words):
        compile_operator(op, n_sites, **options)


def test_local_dims_fill_untouched_sites() -> None:
    ham = compile_operator(dot(1, 0, 1), 3, local_dims=(3, 3, 4))
    assert ham.space.local_dims == (3, 3, 4)
    assert compile_operator(dot(1, 0, 1), 3).space.local_dims == (3, 3, 2)
    assert Sy(0) == 0.5 * sy(0)
