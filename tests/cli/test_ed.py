"""``vmc ed``: levels, quantum numbers, entropies, limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import invoke

JobFile = Callable[[str], Path]

RING = """
[lattice]
name = "chain"
size = [10]
[hamiltonian]
name = "heisenberg"
"""


def test_levels_in_the_sector(job_file: JobFile) -> None:
    outcome = invoke("ed", job_file(RING), "--levels", "3", "--json")
    found = outcome.json
    assert found["energies"][0] == pytest.approx(-4.515446354492043, rel=1e-10)
    assert len(found["energies"]) == 3 and found["dimension"] == 252
    assert found["degeneracy"] == 1 and found["total_sz"] == 0
    assert found["gap"] == pytest.approx(found["energies"][1] - found["energies"][0])
    assert "GiB" in outcome.err and "252 states: dense" in outcome.err


def test_momentum_is_that_of_the_physical_frame(job_file: JobFile) -> None:
    path = job_file(RING)
    whole = invoke("ed", path, "--levels", "1", "--json").json["energies"][0]
    at = [
        invoke("ed", path, "-k", "1", "--momentum", str(m), "--json").json
        for m in range(10)
    ]
    lowest = [found["energies"][0] for found in at]
    # N / 2 is odd: the ground state has momentum pi, whatever the sign gauge.
    assert int(np.argmin(lowest)) == 5
    assert lowest[5] == pytest.approx(whole, abs=1e-10)
    assert at[5]["momentum"] == [5]
    flip = invoke("ed", path, "--momentum", "5", "--spin-flip", "-1", "--json").json
    assert flip["energies"][0] == pytest.approx(whole, abs=1e-10)
    found = {
        name: invoke("ed", path, "--momentum=5", "--point-group", name, "--json").json
        for name in ("A1", "A2")
    }
    assert found["A1"]["point_group"] == "A1"
    assert found["A1"]["energies"][0] == pytest.approx(whole, abs=1e-10)
    assert found["A2"]["energies"][0] > whole + 0.1


def test_entropies_of_cuts(job_file: JobFile) -> None:
    text = RING.replace("[10]", "[8]")
    outcome = invoke("ed", job_file(text), "--cut", "0-3", "--cut", "0,2,4,6", "--json")
    half, sublattice = outcome.json["entropies"]
    assert half["region"] == [0, 1, 2, 3]
    assert half["s1"] == pytest.approx(1.05116588, abs=1e-8)
    assert half["s2"] == pytest.approx(0.73701438, abs=1e-8)
    assert sublattice["s1"] == pytest.approx(2.17150293, abs=1e-8)
    assert sublattice["rank"] == 12
    table = invoke("ed", job_file(text), "--cut", "0-3").out
    assert "cut [0, 1, 2, 3]: S1 = 1.05116" in table and "1-fold" in table


def test_a_degenerate_ground_level_has_no_entropies(job_file: JobFile) -> None:
    text = RING.replace("[10]", "[8]").replace('"heisenberg"', '"majumdar_ghosh"')
    found = invoke("ed", job_file(text), "--cut", "0-3", "--json").json
    assert found["degeneracy"] == 2 and found["entropies"][0]["s1"] is None
    assert "2-fold" in invoke("ed", job_file(text)).out


TERMS = '[hamiltonian]\nterms = "terms.json"\n'
CUSTOM = '[hamiltonian]\nname = "mine.py:build"\n'
BUILD = "from hamiltonians import Sx, Sy, Sz\ndef build():\n    return "


@pytest.mark.parametrize(
    ("job", "file", "message"),
    [
        (TERMS, '{"N": 2, "terms": [[1, "XX", [1, 1]]]}', "a site is repeated"),
        (TERMS, '{"N": 2, "terms": [[1, "X", [2]]]}', "acts on site 2, but N = 2"),
        (TERMS, '{"N": 2, "terms": [[NaN, "X", [0]]]}', "nan of an operator is not f"),
        (TERMS, '{"N": 2, "terms": [[[0, 1], "X", [0]]]}', "its term 1j X0 lacks its"),
        (TERMS, '{"n_sites": 2, "terms": []}', "unknown key 'n_sites'; the keys are N"),
        (TERMS, '{"N": 2, "terms": {"XX": 1}}', "terms is not a list of [coefficient"),
        (CUSTOM, BUILD + "Sx(-1)", "site -1 is not an integer from 0 on"),
        (CUSTOM, BUILD + "float('nan') * Sx(0)", "nan of an operator is not finite"),
        (CUSTOM, BUILD + "Sz(0) + Sx(0) @ Sy(0)", "is not Hermitian: its term"),
        (CUSTOM, BUILD + "'XX'", "returned a str; expected a hamiltonians.Operator"),
        (CUSTOM, BUILD + "None", "returned a NoneType; expected a hamiltonians.Op"),
        (RING.replace("10", "9") + "total_sz = 0", "", "nearest sector is total_sz = "),
        (RING.replace("chain", "chian"), "", "did you mean 'chain'?"),
        (RING + "J = nan", "", "J = nan must be a finite real number"),
        (
            CUSTOM + RING.partition("[h")[0],
            BUILD + "Sx(10)",
            "names site 10, but the lattice",
        ),
    ],
)
def test_what_makes_no_hamiltonian(
    job_file: JobFile, job: str, file: str, message: str
) -> None:
    """Every mistake ends in a message before anything large is made."""
    path = job_file(job)
    Path("terms.json" if job == TERMS else "mine.py").write_text(file + "\n")
    outcome = invoke("ed", path)
    assert outcome.code == 2 and outcome.out == ""
    assert message in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--momentum", "x"], "--momentum 'x': expected integers"),
        (["--momentum", "0,0"], "one integer for each of the 1 directions"),
        (["--cut", "0:3"], "--cut '0:3': expected sites"),
        (["--cut", "0-10"], "different numbers from 0 to 9"),
        (["--spin-flip", "3"], "spin_flip = 3 must be 1 or -1"),
        (["--point-group", "A3"], "Those of dimension one are: A1, A2"),
        (["--set", "lattice.size=[40]"], "GiB for the vectors alone"),
        (["--memory", "0.00001"], "the limit is 1e-05 GiB"),
    ],
)
def test_what_does_not_fit(
    job_file: JobFile, arguments: list[str], message: str
) -> None:
    outcome = invoke("ed", job_file(RING), *arguments)
    assert outcome.code == 2 and outcome.out == ""
    assert message in outcome.err
