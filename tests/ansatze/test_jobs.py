"""Jobs that name these families: symmetries that nobody asked for, nested tables."""

import pytest

import vmc
from vmc.errors import JobError

TREES = ("convac", "cp", "ttn", "mps", "rac", "overlapping_convac", "convnet")
MG = {"name": "j1j2", "J2": 0.5}


def built(ansatz: dict, hamiltonian: dict | None = None, **lattice) -> dict:
    job = vmc.Job(
        lattice={"name": "chain", "size": [8]} | lattice,
        hamiltonian=hamiltonian or {"name": "tfim"},
        ansatz=ansatz,
    )
    made = vmc.build(job).job.ansatz
    assert made is not None
    table = made.model_dump(exclude_none=True)
    return made.keys | {"symmetry": table["symmetry"]}


@pytest.mark.parametrize("name", TREES)
def test_symmetry_is_automatic_only_where_it_can_be(name: str) -> None:
    want = {"momentum": [0]} if name == "overlapping_convac" else "none"
    assert built({"name": name})["symmetry"] == want
    table = {"momentum": [0], "spin_flip": 1}
    assert built({"name": name, "symmetry": table})["symmetry"] == table


def test_symmetry_depends_on_the_keys() -> None:
    ring = {"name": "mps", "periodic": True, "translation_invariant": True}
    assert built(ring)["symmetry"] == {"momentum": [0]}
    assert built(ring, periodic=False)["symmetry"] == "none"
    assert built({"name": "overlapping_convac"}, periodic=False)["symmetry"] == "none"
    assert built({"name": "overlapping_convac", "stride": 2})["symmetry"] == "none"
    parts = [{"name": "jastrow"}, {"name": "rbm"}]
    even = {"momentum": [0], "spin_flip": 1}
    assert built({"name": "product", "parts": parts})["symmetry"] == even
    parts[0] = ring
    assert built({"name": "product", "parts": parts})["symmetry"] == {"momentum": [0]}
    parts[0] = {"name": "ttn"}
    assert built({"name": "sum", "parts": parts})["symmetry"] == "none"


def test_nested_tables_are_checked_and_resolved() -> None:
    parts = [{"name": "mps", "bond_dimension": 2}, {"name": "rbm", "dtype": "real"}]
    resolved = built({"name": "product", "parts": parts}, MG)
    assert resolved["parts"][0] == parts[0]
    assert resolved["parts"][1]["alpha"] >= 1, "defaults are recorded"
    for wrong, message in (
        ({"name": "mps", "bond_dimention": 2}, "did you mean 'bond_dimension'"),
        ({"name": "mps", "bond_dimension": "2"}, "parts.1. bond_dimension = '2'"),
        ({"name": "mpss"}, "did you mean 'mps'"),
        ({"bond_dimension": 2}, "needs the key name"),
        ("mps", "parts"),
    ):
        with pytest.raises(JobError, match=message):
            built({"name": "sum", "parts": [{"name": "jastrow"}, wrong]})
