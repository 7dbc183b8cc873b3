"""Names of observables: grammar, suggestions, and what is refused with a cure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vmc
from tests.observables.referee import full
from vmc.assembly import build
from vmc.errors import JobError
from vmc.observables_names import OBSERVABLES, parse, sites_of, split
from vmc.observables_run import measure, plan

TEXT = "correlations,renyi2:0-3,8,derivatives:J,h,op.py:f,t.json,energy"


def test_lists_keep_the_commas_of_arguments() -> None:
    assert split(TEXT) == [
        *("correlations", "renyi2:0-3,8", "derivatives:J,h"),
        *("op.py:f", "t.json", "energy"),
    ]
    assert parse("renyi2:0-3,8").argument == "0-3,8"
    assert parse("op.py:f").name == parse("t.json").name == "operator"
    assert sites_of("0-3,8,5-5") == [0, 1, 2, 3, 8, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corelations", "did you mean 'correlations'"),
        ("total_spin:3", "takes no argument"),
        ("renyi2:", "nothing follows"),
    ],
)
def test_unknown_names(text: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        vmc.Job(hamiltonian={"name": "tfim"}, measure={"observables": [text]})


@pytest.mark.parametrize(
    ("text", "message"), [("a-b", "no list of sites"), ("5-3", "backwards")]
)
def test_lists_of_sites(text: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        sites_of(text)


JOBS = {
    "triangle": vmc.Job(
        lattice={"name": "triangular", "size": [3, 3]},
        hamiltonian={"name": "heisenberg"},
        ansatz={"name": "rbm"},
        sampler={"n_chains": 4, "n_samples": 4},
    ),
    "open": vmc.Job(
        lattice={"name": "chain", "size": [4], "periodic": False},
        hamiltonian={"name": "heisenberg"},
        ansatz={"name": "rbm"},
    ),
}


@pytest.mark.parametrize(
    ("job", "name", "message"),
    [
        ("triangle", "staggered_magnetization", "not bipartite.*structure_factor"),
        ("triangle", "renyi2:0-20", "site 9"),
        ("triangle", "renyi2", "at least 8.*n_chains is 4"),
        ("triangle", "derivatives:K", "no coupling 'K'"),
        ("open", "structure_factor", "not periodic.*correlations"),
        ("open", "chiral_correlations", "no triangles"),
        ("open", "nothing.json", "nothing.json"),
        ("bare", "correlations", "no \\[lattice\\].*file.py:name"),
    ],
)
def test_what_cannot_be_measured(
    job: str, name: str, message: str, tmp_path: Path
) -> None:
    if job == "bare":
        vmc_terms = '{"N": 2, "nup": 1, "terms": [[0.5, "XX", [0, 1]], '
        (tmp_path / "m.json").write_text(vmc_terms + '[0.5, "YY", [0, 1]]]}')
        keys = {"hamiltonian": {"terms": "m.json"}, "ansatz": {"name": "rbm"}}
        built = build(vmc.Job.from_dict(keys, folder=tmp_path))
    else:
        built = build(JOBS[job])
    with pytest.raises(JobError, match=message):
        plan(built, [name])


OWN = """
from hamiltonians import Sx, Sy, Sz, sx, sy

def pairs(lattice):
    return {str(b): Sz(int(b[0])) @ Sz(int(b[1])) for b in lattice.edges(1)}

single = sx(0) + 2 * sy(1) @ sx(0)
lopsided = sx(0) + 1j * sy(0)
far = Sz(9)
number = 3
"""


@pytest.mark.slow
def test_operators_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    terms = '{"N": 4, "nup": null, "terms": [[0.5, "XYZ", [0, 1, 3]]]}'
    (tmp_path / "own.json").write_text(terms)
    job = {
        "lattice": {"name": "chain", "size": [4]},
        "hamiltonian": {"name": "tfim", "marshall": [0, 1, 0, 1]},
        "ansatz": {"name": "jastrow", "dtype": "complex", "symmetry": "none"},
    }
    built, state, referee = full(vmc.Job.from_dict(job, folder=tmp_path), 0.5)
    names = ["own.py:pairs", "own.py:single", "own.json"]
    found = measure(built, state, 1, names).observables
    assert len(found["own.py:pairs"]["operator"]) == 4
    want = [
        referee.mean(referee.spin(i, "z") @ referee.spin((i + 1) % 4, "z"))
        for i in range(4)
    ]
    np.testing.assert_allclose(found["own.py:pairs"]["mean"], np.real(want))
    x, y, z = (lambda i, a=a: 2 * referee.spin(i, a) for a in "xyz")
    want = referee.mean(x(0) + 2 * y(1) @ x(0)).real
    np.testing.assert_allclose(found["own.py:single"]["mean"], [want], atol=1e-13)
    want = referee.mean(0.5 * x(0) @ y(1) @ z(3)).real
    np.testing.assert_allclose(found["own.json"]["mean"], [want], atol=1e-13)
    for name, message in (
        ("own.py:lopsided", "not Hermitian"),
        ("own.py:far", "site 9"),
        ("own.py:number", "expected a hamiltonians.Operator"),
        ("own.py:sinlge", "did you mean 'single'"),
    ):
        with pytest.raises(JobError, match=message):
            plan(built, [name])


def test_every_name_is_known_to_the_plan() -> None:
    built = build(JOBS["open"].replace({"sampler": {"n_chains": 8, "n_samples": 8}}))
    refused = {"structure_factor", "spin_structure_factor", "correlation_length"}
    refused |= {"chiral_correlations"}
    names = [n for n in OBSERVABLES if n not in refused]
    made = plan(built, names)
    assert list(made.finish) == [n for n in names if n != "energy"]
