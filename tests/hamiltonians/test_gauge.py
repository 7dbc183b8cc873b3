"""Sign gauges against exhaustive search."""

import itertools

import numpy as np
import pytest

from hamiltonians.compile import compile_operator
from hamiltonians.diagonalise import dense
from hamiltonians.gauge import find_sign_gauge, marshall_signs
from hamiltonians.operators import Operator, spin, sx, sz
from vmc.errors import JobError


def exchange(pairs, s=0.5, plane=1.0) -> Operator:
    one = spin(s)
    return Operator.sum(
        plane * (one.Sx(i) @ one.Sx(j) + one.Sy(i) @ one.Sy(j)) + one.Sz(i) @ one.Sz(j)
        for i, j in pairs
    )


def ring(n, distance=1):
    return [(i, (i + distance) % n) for i in range(n)]


def dm(pairs) -> Operator:
    terms = [(0.2 * c, a, p) for p in pairs for c, a in ((1, "XY"), (-1, "YX"))]
    return Operator.from_terms(terms)


SOLVABLE = {
    "Heisenberg ring": (exchange(ring(6)), 6, 0),
    "ferromagnetic plane": (exchange(ring(5), plane=-0.5), 5, 0.5),
    "XY chain": (Operator.from_terms([(1, a, (0, 1)) for a in ("XX", "YY")]), 2, None),
    "TFIM, h < 0": (
        Operator.sum(sx(i) - sz(i) @ sz((i + 1) % 4) for i in range(4)),
        4,
        None,
    ),
    "four-spin X": (
        Operator.from_terms([(1, "XXXX", (0, 1, 2, 3)), (1, "X", [2])]),
        4,
        None,
    ),
    "spin-1 ring": (exchange(ring(4), s=1), 4, 0),
    "spin-3/2 chain": (exchange([(0, 1), (1, 2)], s=1.5), 3, None),
    # Sp and Sm^2 share a move; only the first, an odd step, sees the sign of its site.
    "double step": (spin(1).Sx(0) - 0.4 * spin(1).Sx(0) @ spin(1).Sx(0), 1, None),
    "diagonal": (sz(0) @ sz(1), 2, None),
}
FRUSTRATED = {
    "J1-J2": (exchange(ring(8)) + 0.5 * exchange(ring(8, 2)), 8, 0),
    "odd ring": (exchange(ring(5)), 5, 0.5),
    "DM ring": (exchange(ring(6)) + dm(ring(6)), 6, 0),
    "cluster": (Operator.from_terms([(-1, "ZXZ", (0, 1, 2))]), 3, None),
    "flip and exchange": (exchange(ring(4)) + sx(0) + sx(1), 4, None),
    "spin-1 triangle": (exchange(ring(3), s=1), 3, 0),
}


@pytest.mark.parametrize("name", SOLVABLE)
def test_gauge_makes_every_element_negative(name) -> None:
    op, n_sites, total_sz = SOLVABLE[name]
    ham = compile_operator(op, n_sites, total_sz=total_sz)
    signs = find_sign_gauge(ham)
    assert signs is not None
    gauged = ham.with_signs(signs)
    matrix = dense(gauged)
    assert (matrix - np.diag(np.diag(matrix))).max() <= 1e-14
    assert gauged.is_stoquastic
    if ham.is_stoquastic:
        assert np.all(signs == 1)
    levels = np.linalg.eigvalsh(matrix), np.linalg.eigvalsh(dense(ham))
    np.testing.assert_allclose(*levels, atol=1e-12)


@pytest.mark.parametrize("name", FRUSTRATED)
def test_real_sign_problems_have_no_gauge(name) -> None:
    op, n_sites, total_sz = FRUSTRATED[name]
    ham = compile_operator(op, n_sites, total_sz=total_sz)
    assert find_sign_gauge(ham) is None
    matrix = dense(ham)
    states = ham.space.all_states()
    down = (np.asarray(ham.space.local_dims) - 1 - states) // 2
    for signs in itertools.product([1, -1], repeat=n_sites):
        rotation = np.prod(np.array(signs) ** down, axis=1)
        off = rotation[:, None] * matrix * rotation
        off = off - np.diag(np.diag(off))
        assert np.abs(off.imag).max() > 1e-3 or off.real.max() > 1e-3


def test_solver_agrees_with_exhaustive_search(rng) -> None:
    found = 0
    for _ in range(60):
        n_flips = rng.integers(2, 8)
        terms = []
        for _ in range(n_flips):
            sites = rng.permutation(5)[: rng.integers(1, 5)].tolist()
            terms.append((float(rng.choice([-1, 1])), "X" * len(sites), sites))
        op = Operator.from_terms(terms)
        signs = find_sign_gauge(compile_operator(op, 5))
        possible = any(
            all(c * np.prod(np.array(a)[list(s)]) < 0 for c, _, s in op.terms)
            for a in itertools.product([1, -1], repeat=5)
        )
        assert (signs is not None) == possible
        found += possible
        if signs is not None:
            assert compile_operator(op, 5, signs=signs).is_stoquastic
    assert 5 < found < 55


def test_hidden_gauge_of_many_sites_is_found(rng) -> None:
    n = 150  # several machine words
    hidden = rng.choice([-1, 1], n)
    terms = []
    for _ in range(400):
        sites = rng.permutation(n)[: rng.integers(1, 6)].tolist()
        terms.append((-np.prod(hidden[sites]), "X" * len(sites), sites))
    ham = compile_operator(Operator.from_terms(terms), n)
    signs = find_sign_gauge(ham)
    assert signs is not None and ham.with_signs(signs).is_stoquastic
    wrong = Operator.from_terms([*terms, (np.prod(hidden[[0, 1]]), "XX", (0, 1))])
    singles = [(-hidden[i], "X", [i]) for i in (0, 1)]
    wrong = wrong + Operator.from_terms(singles)
    assert find_sign_gauge(compile_operator(wrong, n)) is None


def test_the_sector_decides_what_is_allowed() -> None:
    # The exchange is positive only where sites 2 and 3 are both up.
    hop = Operator.from_terms([(1, "XX", (0, 1)), (1, "YY", (0, 1))])
    op = -1 * hop @ (1 - 0.7 * sz(2) - 0.7 * sz(3))
    assert find_sign_gauge(compile_operator(op, 4)) is None
    signs = find_sign_gauge(compile_operator(op, 4, total_sz=-1))
    np.testing.assert_array_equal(signs, 1)


def test_marshall_signs_two_colour_the_exchange_graph() -> None:
    ham = compile_operator(exchange(ring(6)), 8, total_sz=0)
    signs = marshall_signs(ham)
    np.testing.assert_array_equal(signs, [1, -1, 1, -1, 1, -1, 1, 1])
    assert ham.with_signs(signs).is_stoquastic
    np.testing.assert_array_equal(
        marshall_signs(ham, edges=[(0, 3), (4, 5)]), [1, 1, 1, -1, 1, -1, 1, 1]
    )
    # A rule, not a solver: it also colours what a solver would leave alone.
    ferro = compile_operator(-1 * exchange(ring(4)), 4)
    np.testing.assert_array_equal(marshall_signs(ferro), [1, -1, 1, -1])


def test_marshall_names_an_odd_cycle() -> None:
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 2), (0, 5)]
    ham = compile_operator(exchange(pairs), 6)
    with pytest.raises(JobError, match=r"\[2, 3, 4\] form a cycle of odd length"):
        marshall_signs(ham)
    with pytest.raises(JobError, match="bipartite"):
        marshall_signs(ham, edges=ring(5))
