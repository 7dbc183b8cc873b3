"""Suite files: cells, overlays, fingerprints, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vmc import bench
from vmc.bench_ansatze import LARGEST, SIZES, choose_size, settings
from vmc.bench_run import share, stale_because
from vmc.bench_suite import Plan, Suite, load, overlay, plan
from vmc.errors import JobError
from vmc.registry import ansatze
from vmc.sweep import write_text

SUITES = Path(__file__).resolve().parents[2] / "benchmarks" / "suites"
OWN = {
    "label": "ring",
    "lattice": {"name": "chain", "size": [4]},
    "hamiltonian": {"name": "tfim", "h": 0.5},
}


def made(folder: Path = Path(), changes: tuple[str, ...] = (), **keys: Any) -> Plan:
    tables: dict[str, Any] = {"name": "s", "problems": [OWN], "ansatze": ["rbm"]}
    return plan(Suite(**(tables | keys)), folder, changes)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.toml")), ids=lambda p: p.stem)
def test_the_suites_of_the_repository(path: Path) -> None:
    suite, rest = load(path)
    assert suite.name == path.stem and rest == []
    cells = plan(suite, path.parent).cells
    assert len({cell.fingerprint for cell in cells}) == len(cells)
    if path.stem == "acceptance":
        assert len(cells) == 36 and suite.budget is None
    if path.stem == "full":
        assert set(suite.ansatze) == set(SIZES), "every family with a size"


def test_every_registered_family_is_a_label() -> None:
    for name in ansatze():
        assert settings(name)["ansatz"] == {"name": name}
    assert set(SIZES) == set(ansatze()) - {"jastrow", "product", "sum"}


def test_cells_come_seed_by_seed() -> None:
    cells = made(seeds=2, ansatze=["rbm", "jastrow"]).cells
    assert [cell.name for cell in cells] == [
        "ring/rbm/seed1",
        "ring/jastrow/seed1",
        "ring/rbm/seed2",
        "ring/jastrow/seed2",
    ]
    assert [cell.job["seed"] for cell in cells] == [1, 1, 2, 2]


def test_later_tables_win() -> None:
    own = {"label": "a", "ansatz": {"name": "rbm", "alpha": 1}, "run": {"n_steps": 5}}
    (cell,) = made(
        ansatze=[own],
        settings={"run": {"n_steps": 6, "stuck_minutes": 3.0}},
    ).cells
    assert cell.job["run"] == {"n_steps": 6, "stuck_minutes": 3.0}
    over = {"problem": "r*", "ansatz": "a", "settings": {"run": {"n_steps": 7}}}
    over["settings"]["ansatz"] = {"alpha": 3}  # pyright: ignore
    tables = {"name": "s", "problems": [OWN], "ansatze": [own], "overrides": [over]}
    suite = Suite(**tables)  # pyright: ignore
    (cell,) = plan(suite, Path()).cells
    assert cell.job["run"]["n_steps"] == 7
    assert cell.job["ansatz"] == {"name": "rbm", "alpha": 3}
    (cell,) = plan(suite, Path(), ["run.n_steps=8"]).cells
    assert cell.job["run"]["n_steps"] == 8
    other = overlay(cell.job, {"ansatz": {"name": "mps"}})
    assert other["ansatz"] == {"name": "mps"}, "another family: none of its keys"


def test_documented_settings_are_those_of_the_problem() -> None:
    problems = ["j1j2_chain_32_O_J2_0.5", "VarBench"]
    with pytest.raises(JobError, match="unknown problem 'VarBench'"):
        made(problems=problems, ansatze=["documented"])
    (cell,) = made(problems=problems[:1], ansatze=["documented"]).cells
    assert cell.job["ansatz"]["name"] == "convac"
    assert cell.job["hamiltonian"]["total_sz"] == "free"
    assert cell.job["hamiltonian"]["J2"] == 0.5
    with pytest.raises(JobError, match="ring has no settings of its own"):
        made(ansatze=["documented"])


def test_excluded_cells_are_said() -> None:
    out = {"problem": "ri*", "ansatz": "mps", "reason": "why not"}
    found = made(ansatze=["rbm", "mps"], exclude=[out])
    assert [cell.ansatz for cell in found.cells] == ["rbm"]
    assert found.excluded == [{"problem": "ring", "ansatz": "mps", "reason": "why not"}]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"problems": ["heis_chain_40P"]}, "did you mean 'heis_chain_40_P'"),
        ({"problems": ["group:smokes"]}, "did you mean 'smoke'"),
        ({"ansatze": ["rbn"]}, "did you mean 'rbm'"),
        ({"ansatze": ["rbm", "rbm"]}, "two ansatze have the label rbm"),
        ({"problems": [OWN, OWN | {"n_sites": 4}]}, "two problems have the label"),
        ({"exclude": [{"ansatz": "mp", "reason": ""}]}, "matches nothing"),
        ({"exclude": [{"reason": ""}]}, "all are excluded"),
        (
            {"ansatze": [{"label": "a", "ansatz": {"name": "rbm", "alpa": 1}}]},
            "ring/a cannot run: .*did you mean 'alpha'",
        ),
        ({"settings": {"run": {"n_step": 1}}}, "did you mean 'n_steps'"),
        ({"settings": {"run": {"out": "x"}}}, "belong to the suite"),
        ({"ansatze": ["jastrow"], "parameters": 9}, "no single key"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        made(**keys)


def test_a_bad_file_says_where(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(JobError, match=r"there is no suite file .*s\.toml"):
        load(path)
    (tmp_path / "pyproject.toml").touch()
    with pytest.raises(JobError, match=r"as benchmarks/suites/quick\.toml") as caught:
        load(tmp_path / "quick")
    assert "pyproject" not in str(caught.value)
    path.write_text('name = "s"\nproblem = ["a"]\nansatze = ["rbm"]\n')
    with pytest.raises(JobError, match="problems") as caught:
        load(path)
    assert "did you mean 'problems'" in str(caught.value)
    path.write_text('name = "../s"\nproblems = ["a"]\nansatze = ["rbm"]\n')
    with pytest.raises(JobError, match="cannot name a folder"):
        load(path)
    path.write_text('name = "s"\nproblems = ["a"]\nansatze = ["rbm"]\n')
    suite, rest = load(path, ["seeds=3", "run.n_steps=4", "budget.seconds=5"])
    assert suite.seeds == [1, 2, 3] and rest == ["run.n_steps=4"]
    assert suite.budget is not None and suite.budget.seconds == 5


def test_the_fingerprint_is_of_all_that_matters() -> None:
    base = made().cells[0]
    assert made().cells[0].fingerprint == base.fingerprint
    assert made(settings={"run": {"n_steps": 500}}).cells[0].fingerprint == (
        base.fingerprint
    ), "a default that is said is the same job"
    others = [
        made(settings={"run": {"n_steps": 501}}),
        made(seeds=[2]),
        made(budget={"samples": 100}),
        made(parameters=100),
        made(entropy=[1]),
        made(Path(), ("measure.n_samples=8",)),
    ]
    assert base.fingerprint not in {p.cells[0].fingerprint for p in others}
    assert made(profile=True).cells[0].fingerprint == base.fingerprint


def test_code_of_the_user_counts(tmp_path: Path) -> None:
    source = tmp_path / "h.py"
    text = "from hamiltonians import sx\ndef build():\n    return sx(0) + sx(1)\n"
    source.write_text(text)
    problem = {"label": "mine", "hamiltonian": {"name": "h.py:build"}}
    first = made(tmp_path, problems=[problem]).cells[0]
    assert first.job["hamiltonian"]["name"] == f"{source}:build"
    source.write_text(text + "# another\n")
    assert made(tmp_path, problems=[problem]).cells[0].fingerprint != first.fingerprint


def test_what_is_stale_says_why(tmp_path: Path) -> None:
    (old,) = made().cells
    (new,) = made(settings={"run": {"n_steps": 7}}).cells
    at = tmp_path / old.name
    assert stale_because(at, new) is None, "nothing there"
    at.mkdir(parents=True)
    assert "nothing says" in str(stale_because(at, new))
    write_text(at.with_name("seed1.cell.json"), json.dumps(old.spec()))
    assert stale_because(at, old) is None
    text = stale_because(at, new)
    assert text == "unfinished run of run.n_steps = 500 (now 7)"
    write_text(at / "result.json", json.dumps({"fingerprint": old.fingerprint}))
    assert str(stale_because(at, new)).startswith("result of run.n_steps = 500")


def test_only_and_a_foreign_folder(tmp_path: Path) -> None:
    found = made(ansatze=["rbm", "jastrow"], seeds=2)
    assert len(bench.select(found, ["*/rbm"])) == 2
    assert len(bench.select(found, ["ring/*/seed2", "jastrow"])) == 3
    with pytest.raises(JobError, match="--only jastro: no cell; did you mean"):
        bench.select(found, ["jastro"])
    (tmp_path / "x").touch()
    with pytest.raises(JobError, match="holds no suite"):
        bench.check_folder(tmp_path, found)
    bench.write_suite(found, tmp_path, [])
    bench.check_folder(tmp_path, found)
    with pytest.raises(JobError, match="holds the suite 's', not 't'"):
        bench.check_folder(tmp_path, made(name="t"))
    with pytest.raises(JobError, match="no suite folder with results"):
        bench.read(tmp_path)


def test_sizes_and_shares() -> None:
    for wanted, size in ((1, 1), (50, 7), (57, 8), (10**9, LARGEST)):
        assert choose_size(lambda n: n * n, wanted, 1) == size
    assert choose_size(lambda n: n, 10, 4) == 12  # nearer than 8, as a ratio
    assert choose_size(lambda n: n, 9, 4) == 8
    assert share([0, 1, 4, 5], 2, 1) == [4, 5]
    assert share([0, 1], 1, 0) == [] and share([0], 2, 1) == []
