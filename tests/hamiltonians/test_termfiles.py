"""Hamiltonians as files and lists."""

import json

import numpy as np
import pytest

from hamiltonians.operators import Operator, Sm, Sp, Sx, Sz, spin, sx, sy, sz
from hamiltonians.termfiles import (
    from_openfermion,
    from_quspin,
    load_terms,
    save_terms,
    to_openfermion,
    to_quspin,
)
from tests.hamiltonians.kron import random_operator
from vmc.errors import JobError

GOOD = {"N": 3, "nup": 1, "constant": 0.5, "terms": [[0.25, "XZ", [0, 2]]]}


@pytest.mark.parametrize("total_sz", [None, -0.5, 1.5])
def test_files_round_trip(tmp_path, rng, total_sz) -> None:
    op, _ = random_operator(rng, (2, 2, 2))
    op = op + (0.1 + 0.7j) * sx(0) @ sy(2) + 1j
    path = tmp_path / "model.json"
    save_terms(path, op, 3, total_sz)
    loaded, n_sites, sector = load_terms(path)
    assert loaded.coefficients == op.coefficients
    assert (n_sites, sector) == (3, total_sz)
    assert json.loads(path.read_text())["name"] == "model"


def test_files_add_equal_terms_and_the_constant(tmp_path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(GOOD | {"terms": GOOD["terms"] * 2, "nup": None}))
    assert load_terms(path) == (0.5 * sx(0) @ sz(2) + 0.5, 3, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON.*line 1"),
        ("[]", "an object such as"),
        (GOOD | {"sites": 3}, "unknown key 'sites'"),
        ({"terms": []}, "key 'N' is missing"),
        (GOOD | {"N": 2.5}, "N = 2.5 is not a positive integer"),
        (GOOD | {"nup": 4}, "nup = 4 is neither"),
        (GOOD | {"terms": {}}, "terms is not a list"),
        (GOOD | {"terms": [[1.0, "XX", [1, 1]]]}, "term 0.*repeated"),
        (GOOD | {"terms": [[1.0, "X", [3]]]}, "site 3, but N = 3"),
        (GOOD | {"terms": [[None, "X", [1]]]}, "term 0.*not a number"),
        (GOOD | {"terms": [[float("nan"), "X", [1]]]}, "term 0.*not finite"),
        (GOOD | {"terms": ["X0 X1"]}, "term 0"),
        (GOOD | {"constant": "big"}, "constant = 'big'"),
        (GOOD | {"constant": {}}, "constant = {}"),
        (GOOD | {"constant": True}, "constant = True"),
        (GOOD | {"terms": [[True, "X", [1]]]}, "term 0.*not a number"),
        (GOOD | {"convention": "S = sigma / 2"}, "'S = sigma / 2'.*Pauli"),
        (GOOD | {"convention": None}, "convention = None"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, content, words) -> None:
    path = tmp_path / "model.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(JobError, match=words) as caught:
        load_terms(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path) -> None:
    with pytest.raises(JobError, match="No such file"):
        load_terms(tmp_path / "absent.json")
    path = tmp_path / "binary.json"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(JobError, match="not a text file"):
        load_terms(path)
    for op, n, sz_, words in [
        (sx(3), 3, None, "site 3"),
        (sx(0), 3, 0.0, "total_sz = 0.0 is impossible"),
        (spin(1).Sz(0), 3, None, "spins 1/2 only"),
    ]:
        with pytest.raises(JobError, match=words):
            save_terms(path, op, n, sz_)


@pytest.mark.parametrize(
    ("pauli", "expected"),
    [
        (True, 2 * sz(0) @ sz(1) + 4 * Sp(0) @ Sm(1) + 4 * Sm(0) @ Sp(1) + sx(2)),
        (-1, 2 * sz(0) @ sz(1) + Sp(0) @ Sm(1) + Sm(0) @ Sp(1) + sx(2)),
        (0, 2 * Sz(0) @ Sz(1) + Sp(0) @ Sm(1) + Sm(0) @ Sp(1) + Sx(2)),
    ],
)
def test_quspin_lists(pauli, expected) -> None:
    static = [["zz", [[2.0, 0, 1]]], ["+-", [[1, 0, 1]]], ["-+", [[1, 0, 1]]]]
    static += [["x", [[1.0, 2]]]]
    assert from_quspin(static, pauli=pauli) == expected
    assert from_quspin(to_quspin(expected + 3)) == expected + 3


def test_openfermion_forms(rng) -> None:
    op, _ = random_operator(rng, (2, 2, 2))
    assert from_openfermion(to_openfermion(op)) == op
    text = "0.5 [X0 Z3] +\n(-1+0j) [Y1 Y2] - 0.25 [] + [Z0]"
    expected = 0.5 * sx(0) @ sz(3) - sy(1) @ sy(2) - 0.25 + sz(0)
    assert from_openfermion(text) == expected
    assert from_openfermion({((0, "X"), (3, "Z")): np.float64(0.5)}) == Operator.sum(
        [0.5 * sx(0) @ sz(3)]
    )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: from_quspin([["zz", 3]]), "QuSpin entry"),
        (lambda: from_quspin([["zz", [[1.0, 0, 0]]]]), "repeated"),
        (lambda: from_quspin([], pauli=2), "pauli = 2"),
        (lambda: from_openfermion("0.5 X0"), "is not a sum"),
        (lambda: from_openfermion("0.5 [Q0]"), "is not X0 Y1"),
        (lambda: from_openfermion("a [X0]"), "no number"),
        (
            lambda: from_openfermion(
                {(0, 1): 1.0}  # pyright: ignore[reportArgumentType]
            ),
            "OpenFermion key",
        ),
    ],
)
def test_bad_lists_are_refused(build, words) -> None:
    with pytest.raises(JobError, match=words):
        build()
