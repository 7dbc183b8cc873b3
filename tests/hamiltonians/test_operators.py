"""The operator algebra against matrices."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from hamiltonians.operators import (
    Operator,
    Sm,
    Sp,
    Sx,
    Sy,
    Sz,
    identity,
    spin,
    sx,
    sy,
    sz,
)
from hamiltonians.spin_algebra import SpinLabel
from tests.hamiltonians.kron import (
    embed,
    matrix_of,
    random_operator,
    spin_matrices,
)
from vmc.errors import JobError

DIMS = [(2, 2, 2), (3, 3), (2, 3, 2), (4, 2, 3), (5,)]


@pytest.mark.parametrize("dims", DIMS)
def test_algebra_is_that_of_the_matrices(dims, rng) -> None:
    a, dense_a = random_operator(rng, dims)
    b, dense_b = random_operator(rng, dims)
    c = complex(*rng.normal(size=2))
    pairs = [
        (a, dense_a),
        (a + b, dense_a + dense_b),
        (a - c * b / 3, dense_a - c * dense_b / 3),
        (2 - a, 2 * np.eye(len(dense_a)) - dense_a),
        (a @ b, dense_a @ dense_b),
        (a**3, dense_a @ dense_a @ dense_a),
        ((a @ b).dagger(), (dense_a @ dense_b).conj().T),
        (a.commutator(b), dense_a @ dense_b - dense_b @ dense_a),
        (
            np.float64(0.5) * a * np.int64(2),  # pyright: ignore[reportOperatorIssue]
            dense_a,
        ),
        (Operator.sum([a, b, a]), 2 * dense_a + dense_b),
    ]
    for op, dense in pairs:
        size = np.abs(dense).max()
        np.testing.assert_allclose(matrix_of(op, dims), dense, atol=1e-12 * size)
    assert a.is_hermitian and not (a @ b).is_hermitian
    flip = np.fliplr(np.eye(len(dense_a)))
    np.testing.assert_allclose(
        matrix_of(a.spin_flipped(), dims), flip @ dense_a @ flip, atol=1e-11
    )


@pytest.mark.parametrize("s", [0.5, 1, 1.5, 2, 2.5])
def test_spin_algebra_is_canonical(s) -> None:
    local = spin(s)
    x, y, z = local.Sx(3), local.Sy(3), local.Sz(3)
    casimir = x @ x + y @ y + z @ z
    assert casimir.terms == ((s * (s + 1), "", ()),)
    assert x.commutator(y) == 1j * z
    assert local.Sp(3) == x + 1j * y and local.Sm(3) == local.Sp(3).dagger()
    values = np.arange(-s, s + 1)
    projectors = [local.projector(3, m) for m in values]
    assert Operator.sum(projectors) == 1 + 0 * z
    assert (
        Operator.sum([float(m) * p for m, p in zip(values, projectors, strict=True)])
        == z
    )
    assert projectors[0] @ projectors[-1] == 0 * z
    dense = spin_matrices(local.dim)
    for name in ("Sx", "Sy", "Sz", "Sp", "Sm"):
        op = getattr(local, name)(0)
        np.testing.assert_allclose(matrix_of(op, (local.dim,)), dense[name], atol=1e-15)
        assert local.matrix(0, dense[name]) == op


def test_matrix_gives_any_local_operator(rng) -> None:
    for dim in (2, 3, 5):
        dense = rng.normal(size=(dim, dim)) + 1j * rng.normal(size=(dim, dim))
        op = spin((dim - 1) / 2).matrix(1, dense)
        got = matrix_of(op, (2, dim))
        np.testing.assert_allclose(got, embed(dense, 1, (2, dim)), atol=1e-12)


def test_spin_half_reduces_to_pauli_strings() -> None:
    assert (sx(0) @ sy(0)).terms == ((1j, "Z", (0,)),)
    dot = Sx(0) @ Sx(4) + Sy(0) @ Sy(4) + Sz(0) @ Sz(4)
    assert dot.terms == (
        (0.25, "XX", (0, 4)),
        (0.25, "YY", (0, 4)),
        (0.25, "ZZ", (0, 4)),
    )
    assert dot == 0.5 * (Sp(0) @ Sm(4) + Sm(0) @ Sp(4)) + spin(0.5).Sz(0) @ Sz(4)
    shifted = 3 - 2 * dot
    assert shifted.constant == 3 and shifted.terms[-1] == (3.0, "", ())
    assert shifted.sites == (0, 4) and shifted.max_site == 4
    # Rounding does not leave a term behind.
    assert (0.1 * sz(1) + 0.2 * sz(1) - 0.3 * sz(1)).terms == ()


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (0.5 * sx(0) @ sx(1) + 0.25 * sz(0) @ sz(1), "0.5 X0 X1 + 0.25 Z0 Z1"),
        (1 - sz(2) @ sx(0), "-X0 Z2 + 1"),
        (2j * sy(1) - 0.5j * sx(1), "2j Y1 - 0.5j X1"),
        ((1 + 2j) * sx(0), "(1+2j) X0"),
        (sx(0) - sx(0), "0"),
        (spin(1).Sz(0) @ spin(1).Sz(0) @ spin(1).Sp(3), "Sz0^2 Sp3"),
    ],
)
def test_repr_reads_like_the_formula(op, text) -> None:
    assert repr(op) == text


def test_from_terms_takes_lists_of_letters() -> None:
    op = Operator.from_terms(
        [(1.0, "XYZ", (2, 0, 5)), (2, "zi", [1, 2]), (np.float64(0.5), "+-", (0, 1))]
    )
    assert op == sx(2) @ sy(0) @ sz(5) + 2 * sz(1) + 0.5 * Sp(0) @ Sm(1)
    assert Operator.from_terms(op.terms) == op
    assert Operator.from_terms([(1, "X", [0]), (-1, "X", [0])]).terms == ()


@pytest.mark.parametrize("dims", DIMS)
def test_from_terms_takes_back_the_terms_of_any_spin(dims, rng) -> None:
    op, _ = random_operator(rng, dims)
    back = Operator.from_terms(op.terms)
    assert back.coefficients == op.coefficients and back.local_dims == op.local_dims


@pytest.mark.parametrize(
    "two", [2, np.int8(2), np.array(2.0), jnp.float32(2), jnp.complex128(2)]
)
def test_numbers_of_any_library_scale_an_operator(two) -> None:
    expected = sx(0) + sx(0)
    assert two * sx(0) == expected == sx(0) * two
    assert sx(0) / two + two == 0.5 * sx(0) + 2 == two + 0.5 * sx(0)
    assert two - sx(0) == 2 - sx(0)
    assert Operator.from_terms([(two, "X", [0])]) == expected


def test_permuted_renames_sites() -> None:
    op = sx(0) @ sz(1) + spin(1).Sz(2)
    assert op.permuted([3, 0, 1, 2]) == sx(3) @ sz(0) + spin(1).Sz(1)
    assert op.permuted(np.array([3, 0, 1, 2])).local_dims == {3: 2, 0: 2, 1: 3}
    for perm in ([0, 1], [0, 0, 1]):
        with pytest.raises(JobError, match="permutation of at least 3"):
            op.permuted(perm)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([(1.0, "X", [0]), (2.0, "XX", (3, 3))], r"term 1, \(2.0, 'XX'.*repeated"),
        ([(1.0, "X", [-1])], "term 0.*site -1"),
        ([(1.0, "XQ", [0, 1])], "term 0.*unknown letter 'Q'"),
        ([(float("nan"), "X", [0])], "term 0.*nan.*not finite"),
        ([(1.0, "XX", [0])], "one letter is needed per site"),
        ([("J", "X", [0])], "coefficient is not a number"),
        ([(1.0, "X", [0.5])], "site 0.5 is not an integer"),
        ([(1.0, "X")], "is not .coefficient"),
        ([(True, "X", [0])], "coefficient is not a number"),
        ([(jnp.ones(2), "X", [0])], "coefficient is not a number"),
        ([(1.0, (["X"],), [0])], "unknown letter"),
        ([(1.0, (SpinLabel(3, 2, 1),), [0])], "unknown letter SpinLabel"),
        ([(1.0, (SpinLabel(2, 1, 0),), [0])], "unknown letter SpinLabel"),
        ([(1.0, (SpinLabel(3, 1, 0),), [0]), (1, "X", [0])], "site 0 .* spin 0.5"),
    ],
)
def test_bad_terms_are_named(terms, words) -> None:
    with pytest.raises(JobError, match=words):
        Operator.from_terms(terms)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: sx(-1), "site -1"),
        (lambda: sx(True), "site True"),
        (
            lambda: sx(0) * sz(1),  # pyright: ignore[reportOperatorIssue]
            "written a @ b",
        ),
        (lambda: sx(0) * float("inf"), "not finite"),
        (lambda: sx(0) / 0, "divided by zero"),
        (lambda: sx(0) ** -1, "power -1"),
        (lambda: sx(0) + spin(1).Sz(0), r"site 0 .* spin 0.5 and with spin 1.0"),
        (lambda: spin(1).Sz(2) @ spin(1.5).Sz(2), "site 2 .* has one spin"),
        (lambda: spin(0.7), "multiple of 1/2"),
        (
            lambda: Operator.sum([1, 2]),  # pyright: ignore[reportArgumentType]
            "Operator.sum takes operators; 1 of type int came",
        ),
        (lambda: spin(1).projector(0, 0.5), "no state m = 0.5; m is 1.0, 0.0, -1.0"),
        (lambda: spin(1).matrix(0, np.eye(2)), r"shape \(3, 3\)"),
    ],
)
def test_bad_operators_are_refused(build, words) -> None:
    with pytest.raises(JobError, match=words):
        build()


def test_operators_are_immutable_and_sums_are_linear() -> None:
    op = sx(0) + identity()
    op.coefficients.clear()  # pyright: ignore[reportAttributeAccessIssue]
    _ = op + sz(1), 2 * op, op.dagger()
    assert op == 1 + sx(0)
    n = 20_000
    total = Operator.sum(sz(i % 100) @ sx(100 + i // 100) for i in range(n))
    assert len(total.terms) == n
    assert sum([sx(0), sx(1)]) == sx(0) + sx(1)


def test_structure_constants_are_exact() -> None:
    # Sp^2 Sm^2 of spin 3/2 has integer eigenvalues, which floats would only nearly hit.
    local = spin(Fraction(3, 2))  # pyright: ignore[reportArgumentType]
    op = local.Sp(0) @ local.Sp(0) @ local.Sm(0) @ local.Sm(0)
    values = np.linalg.eigvalsh(matrix_of(op, (4,)))
    np.testing.assert_allclose(values, [0, 0, 12, 12], atol=1e-12)
    assert all(
        c.imag == 0 and c.real == Fraction(c.real).limit_denominator(64)
        for c, _, _ in op.terms
    )
