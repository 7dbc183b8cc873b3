"""The job: what it accepts, what it says when it refuses, what "auto" decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vmc import registry, resolve, sampling, symmetry
from vmc.assembly import build_system
from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import apply_overrides, read_toml, to_toml
from vmc.sections import seconds

THREE_NAMES: dict[str, Any] = {
    "lattice": {"name": "chain", "size": [8]},
    "hamiltonian": {"name": "tfim"},
    "ansatz": {"name": "rbm"},
}


def job(**sections: Any) -> Job:
    return Job(**{**THREE_NAMES, **sections})


# ---- schema ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ({"seed": "x"}, "seed = 'x': expected an integer from 0"),
        ({"seed": True}, "seed = True: expected an integer"),
        ({"precision": "float16"}, "precision = 'float16': expected"),
        ({"lattice": 3}, "lattice = 3: expected a table"),
        ({"lattice": {"size": [3]}}, r"\[lattice\] the key 'name' is missing"),
        ({"lattice": {"name": "chain", "size": [0]}}, r"size = \[0\]: expected a list"),
        ({"lattice": {"name": "chain", "size": ["a"]}}, r"size\[0\] = 'a'"),
        ({"hamiltonian": {}}, "exactly one of name and terms"),
        ({"hamiltonian": {"name": "a", "terms": "b"}}, "exactly one of name and terms"),
        ({"hamiltonian": {"name": "a", "total_sz": "up"}}, "total_sz = 'up': expected"),
        ({"hamiltonian": {"name": "a", "marshall": [0, 2]}}, "marshall"),
        ({"ansatz": {"name": "rbm", "symmetry": "all"}}, "symmetry = 'all': expected"),
        (
            {"ansatz": {"name": "rbm", "symmetry": {"momentun": [0]}}},
            r"\[ansatz.symmetry\] unknown key 'momentun'; did you mean 'momentum'",
        ),
        ({"sampler": {"n_chain": 3}}, "unknown key 'n_chain'; did you mean 'n_chains'"),
        ({"sampler": {"n_chains": 0}}, "n_chains = 0: expected an integer >= 1"),
        ({"sampler": {"name": "gibbs"}}, "name = 'gibbs': expected"),
        ({"optimizer": {"learning_rate": -1}}, "learning_rate = -1: expected a posit"),
        (
            {"optimizer": {"learning_rate": {"schedule": "cos", "init": 1}}},
            r"\[optimizer.learning_rate\] schedule = 'cos': expected constant, cosine",
        ),
        ({"run": {"n_steps": -3}}, "n_steps = -3: expected an integer >= 0"),
        ({"run": {"n_steps": 2.5}}, "n_steps = 2.5: expected an integer"),
        ({"run": {"max_time": "soon"}}, "max_time = 'soon': expected seconds"),
        (
            {"measure": {"observables": ["spin"]}},
            "unknown observable 'spin'; did you mean",
        ),
    ],
)
def test_bad_values_say_what_was_expected(sections: dict, message: str) -> None:
    with pytest.raises(JobError, match=message) as caught:
        job(**sections)
    assert "pydantic" not in str(caught.value)
    assert "literal[" not in str(caught.value)


def test_a_job_file_is_named_in_front_of_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(to_toml(THREE_NAMES))
    with pytest.raises(JobError) as caught:
        Job.load(path, ["run.n_steps=-1"])
    assert str(caught.value) == (
        f"{path}: [run] n_steps = -1: expected an integer >= 0"
    )


def test_all_findings_are_reported_at_once() -> None:
    with pytest.raises(JobError) as caught:
        job(seed="x", sampler={"n_chains": 0, "foo": 1})
    text = str(caught.value)
    assert all(part in text for part in ("seed", "n_chains", "'foo'"))


def test_defaults_need_three_names_only() -> None:
    made = job()
    assert (made.seed, made.precision) == (1, "float64")
    assert (made.run.n_steps, made.measure.n_samples) == (500, 65536)
    assert made.run.out is None


def test_numpy_numbers_and_tuples_are_welcome() -> None:
    made = Job(
        lattice={"name": "square", "size": (4, np.int64(4)), "periodic": (True, False)},
        hamiltonian={"name": "tfim", "h": np.float32(0.5)},
        sampler={"n_chains": np.int32(8)},
    )
    assert made.lattice is not None and made.lattice.size == [4, 4]
    assert made.hamiltonian.keys == {"h": 0.5}


def test_toml_and_json_give_the_same_job_back(tmp_path: Path) -> None:
    made = job(
        ansatz={"name": "rbm", "symmetry": {"momentum": [0], "spin_flip": 1}},
        optimizer={"learning_rate": {"schedule": "linear", "init": 0.1, "end": 1e-3}},
        hamiltonian={"name": "f.py:b", "text": 'a "b"\n\u00e9', "list": [1, 2.5, True]},
    )
    path = tmp_path / "job.toml"
    path.write_text(made.to_toml(), encoding="utf-8")
    assert Job.load(path).to_dict() == made.to_dict()
    again = Job.from_dict(made.to_dict(), folder=tmp_path)
    assert again.to_dict() == made.to_dict()


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(to_toml(THREE_NAMES))
    overrides = [
        "run.n_steps=7",
        "hamiltonian.h = 0.5",
        "ansatz.symmetry.momentum=[0]",
        "run.out=a b",
        "run.max_time=1:30:00",
        "seed=3",
    ]
    made = Job.load(path, overrides)
    assert made.run.n_steps == 7 and made.run.out == "a b" and made.seed == 3
    assert made.hamiltonian.keys == {"h": 0.5}
    assert made.ansatz is not None
    assert made.to_dict()["ansatz"]["symmetry"] == {"momentum": [0]}
    assert made.run.max_time == "1:30:00"
    assert made.folder == tmp_path and made.stem == "job"


@pytest.mark.parametrize("item", ["n_steps", "=3", "run.=3", "seed.x=1"])
def test_malformed_overrides(item: str) -> None:
    with pytest.raises(JobError, match="--set"):
        apply_overrides({"seed": 1}, [item])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb = = 2\n", ":2:5:"),
        ("[run]\nn_steps = [1,\n", "job.toml:"),
        ("x", ":1"),
    ],
)
def test_syntax_errors_name_file_and_line(
    tmp_path: Path, text: str, place: str
) -> None:
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(JobError, match="not valid TOML") as caught:
        read_toml(path)
    assert str(path) in str(caught.value) and place in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1:30:00", 5400.0), ("2-00:00:01", 172801.0), (90, 90.0), ("8", 8.0), (0.5, 0.5)],
)
def test_times(text: Any, value: float) -> None:
    assert seconds(text) == value


def local_function() -> Any:
    return lambda lattice=None: None


def test_functions_are_written_as_references(tmp_path: Path) -> None:
    made = job(hamiltonian={"name": local_function})
    assert made.to_dict()["hamiltonian"]["name"] == f"{__file__}:local_function"
    with pytest.raises(JobError, match="cannot be written into a run directory"):
        job(hamiltonian={"name": local_function()}).to_dict()


# ---- files of the user ---------------------------------------------------------


def test_an_error_in_a_users_file_keeps_its_own_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def build():\n    return {}['nothing']\n")
    made = Job.from_dict({"hamiltonian": {"name": "mine.py:build"}}, folder=tmp_path)
    with pytest.raises(JobError) as caught:
        build_system(made)
    text = str(caught.value)
    assert 'mine.py", line 2, in build' in text and "KeyError: 'nothing'" in text
    assert "registry.py" not in text


def test_a_users_module_does_not_hide_the_solver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    (tmp_path / "hamiltonians.py").write_text("x = 1\n")
    for name in [n for n in sys.modules if n.partition(".")[0] == "hamiltonians"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(JobError, match=r"hamiltonians\.py hides the solver's package"):
        registry.lattices()


# ---- what auto decides ----------------------------------------------------------


def system(
    size: list[int], model: str, name: str = "chain", periodic: bool = True, **keys: Any
) -> Any:
    lattice = {"name": name, "size": size, "periodic": periodic}
    return build_system(job(lattice=lattice, hamiltonian={"name": model, **keys}))


def test_sector_and_gauge_of_the_heisenberg_ring() -> None:
    made = system([10], "heisenberg")
    assert made.job.hamiltonian.total_sz == 0.0
    assert made.hamiltonian.is_stoquastic
    marshall = made.job.hamiltonian.marshall
    assert isinstance(marshall, list)
    assert all(a != b for a, b in zip(marshall, marshall[1:], strict=False))
    assert system([9], "heisenberg").job.hamiltonian.total_sz == 0.5
    assert system([8], "tfim").job.hamiltonian.total_sz == "free"


def test_the_gauge_is_found_where_marshall_does_not_apply() -> None:
    """A field in the wrong direction is cured by the sign of every down spin."""
    made = system([6], "tfim", h=-1.0)
    assert made.hamiltonian.is_stoquastic
    assert made.job.hamiltonian.marshall == [1] * 6
    assert not made.warnings


def test_a_sign_problem_is_reported_and_makes_the_ansatz_complex() -> None:
    made = system([3, 4], "heisenberg", "triangular")
    assert any("sign problem" in text for text in made.warnings)
    problem, numbers = symmetry.problem(made.job, made.hamiltonian, made.lattice)
    assert problem.dtype == "complex" and numbers == "none"
    assert problem.symmetry is None and not problem.spin_flip


def energy_of_the_best_positive_state(table: Any) -> float:
    """Lowest energy of |psi| >= 0, by making every off-diagonal element negative."""
    from hamiltonians.diagonalise import dense

    matrix = dense(table)
    best = np.diag(np.diag(matrix)) - np.abs(matrix - np.diag(np.diag(matrix)))
    psi = np.abs(np.linalg.eigh(best)[1][:, 0])
    return float((psi @ matrix @ psi).real)


@pytest.mark.parametrize(
    ("size", "name", "model", "keys"),
    [
        ([4, 4], "square", "j1j2", {"J2": 0.5}),
        ([10], "chain", "j1j2", {"J2": 0.3}),
        ([10], "chain", "dm", {"D": 0.5}),
    ],
)
def test_with_a_sign_problem_the_gauge_serves_the_largest_terms(
    size: list[int], name: str, model: str, keys: dict
) -> None:
    made = system(size, model, name, **keys)
    marshall = system(size, model, name, marshall=True, **keys).hamiltonian.signs
    signs = np.array(made.hamiltonian.signs)
    assert np.array_equal(signs * signs[0], np.array(marshall) * marshall[0])
    assert not made.hamiltonian.is_stoquastic and made.warnings


def test_the_nearest_gauge_gets_closer_than_none() -> None:
    made = system([3, 4], "heisenberg", "triangular")
    none = system([3, 4], "heisenberg", "triangular", marshall=False)
    energies = [energy_of_the_best_positive_state(s.hamiltonian) for s in (made, none)]
    assert energies[0] < energies[1] - 1


@pytest.mark.parametrize(
    ("size", "model", "keys"),
    [
        ([10], "heisenberg", {}),
        ([12], "heisenberg", {}),
        ([10], "heisenberg", {"total_sz": 1.0}),
        ([8], "tfim", {}),
        ([8], "tfim", {"h": -1.0}),
        ([2, 4], "heisenberg", {}),
    ],
)
def test_resolved_quantum_numbers_are_those_of_the_ground_state(
    size: list[int], model: str, keys: dict
) -> None:
    """Referee: exact diagonalisation without any gauge."""
    name = "chain" if len(size) == 1 else "square"
    made = system(size, model, name, **keys)
    problem, numbers = symmetry.problem(made.job, made.hamiltonian, made.lattice)
    assert problem.symmetry is not None
    bare = registry.compile_operator(
        made.operator, made.n_sites, total_sz=made.hamiltonian.space.total_sz
    )
    from hamiltonians.diagonalise import ground_states

    levels = ground_states(bare, 1)
    assert levels.degeneracy == 1
    vector, states = levels.vectors[:, 0], bare.space.all_states()
    index = {row.tobytes(): i for i, row in enumerate(states)}

    def phase(moved: np.ndarray) -> float:
        order = [index[row.tobytes()] for row in np.ascontiguousarray(moved)]
        return float(vector @ vector[order])

    for axis, momentum in enumerate(numbers["momentum"]):
        perm = np.array(symmetry._generators(made.lattice)[axis])
        order = symmetry._orders(made.lattice)[axis]
        moved = np.empty_like(states)
        moved[:, perm] = states
        assert phase(moved) == pytest.approx(np.cos(2 * np.pi * momentum / order))
    if "spin_flip" in numbers:
        assert phase(-states) == pytest.approx(numbers["spin_flip"])
    else:
        assert made.hamiltonian.space.total_sz not in (None, 0)


def test_the_odd_half_ring_has_physical_momentum_pi() -> None:
    made = system([10], "heisenberg")
    _, numbers = symmetry.problem(made.job, made.hamiltonian, made.lattice)
    assert numbers == {"momentum": [5], "spin_flip": -1}


def test_a_symmetry_table_works_with_a_sign_problem() -> None:
    made = system([4, 4], "j1j2", "square", J2=0.5, marshall=True)
    table = {"momentum": [0, 0], "spin_flip": 1}
    wanted = made.job.replace({"ansatz": {"symmetry": table}})
    problem, numbers = symmetry.problem(wanted, made.hamiltonian, made.lattice)
    assert problem.symmetry is not None and problem.symmetry.shape == (16, 16)
    assert numbers == table and problem.dtype == "complex"


def test_broken_translations_are_not_built_in() -> None:
    bonds = [1.0, 0.5] * 4
    made = system([8], "heisenberg", J=bonds)
    problem, numbers = symmetry.problem(made.job, made.hamiltonian, made.lattice)
    assert problem.symmetry is None and numbers == {"spin_flip": 1}
    open_chain = system([8], "heisenberg", periodic=False)
    problem, _ = symmetry.problem(
        open_chain.job, open_chain.hamiltonian, open_chain.lattice
    )
    assert problem.symmetry is None and problem.dtype == "real"


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ({}, (1024, 1024)),
        ({"n_samples": 512}, (512, 512)),
        ({"n_chains": 100}, (100, 1100)),
        ({"n_chains": 2048}, (2048, 2048)),
        ({"n_chains": 64, "n_samples": 256}, (64, 256)),
    ],
)
def test_chains_and_samples(keys: dict, numbers: tuple[int, int]) -> None:
    found = sampling.numbers(job(sampler=keys).sampler, 4)
    assert (found["n_chains"], found["n_samples"]) == numbers


def test_chains_and_samples_that_do_not_fit_name_the_nearest() -> None:
    with pytest.raises(JobError, match="100 and 200"):
        keys = job(sampler={"n_chains": 100, "n_samples": 150}).sampler
        sampling.numbers(keys, 4)
    with pytest.raises(JobError, match="nearest valid numbers are 4 and 8"):
        sampling.numbers(job(sampler={"n_chains": 6}).sampler, 4)


@pytest.mark.parametrize("unit", [1.0, 4.0])
def test_learning_rate_is_a_step_in_units_of_the_hamiltonian(unit: float) -> None:
    made = system([8], "tfim", J=unit, h=unit)
    ready = made.job.replace(
        {"optimizer": resolve.optimizer(made.job, made.hamiltonian)}
    )
    rate = resolve.learning_rate(ready, made.hamiltonian)
    values = [float(rate(step)) * unit for step in (0, 333, 499, 500, 900)]
    assert values[:2] == pytest.approx([0.05, 0.05])
    assert values[2] == pytest.approx(0.005, rel=1e-2)
    assert values[3:] == pytest.approx([0.005, 0.005])


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "exponential"])
def test_schedules_hold_change_and_hold(shape: str) -> None:
    keys = {"schedule": shape, "init": 0.1, "end": 0.01, "begin": 10, "steps": 20}
    made = job(optimizer={"learning_rate": keys}).optimizer.learning_rate
    value = resolve.to_optax(made, 100)  # type: ignore[arg-type]
    end = 0.1 if shape == "constant" else 0.01
    assert [float(value(s)) for s in (0, 10)] == pytest.approx([0.1, 0.1])
    assert [float(value(s)) for s in (30, 99)] == pytest.approx([end, end])


def test_schedules_with_steps_and_with_a_warm_up() -> None:
    keys = {"schedule": "piecewise", "init": 0.1, "points": [[10, 0.05], [20, 0.2]]}
    made = job(optimizer={"learning_rate": keys}).optimizer.learning_rate
    value = resolve.to_optax(made, 100, 2.0)  # type: ignore[arg-type]
    steps = (0, 9, 10, 19, 20, 99)
    want = [0.2, 0.2, 0.1, 0.1, 0.4, 0.4]
    assert [float(value(s)) for s in steps] == pytest.approx(want)
    keys = {"schedule": "linear", "init": 0.1, "begin": 10, "end": 0.05, "warmup": 5}
    made = job(optimizer={"learning_rate": keys}).optimizer.learning_rate
    value = resolve.to_optax(made, 20)  # type: ignore[arg-type]
    want = [0.02, 0.04, 0.1, 0.1, 0.075, 0.05]
    assert [float(value(s)) for s in (0, 1, 4, 10, 15, 20)] == pytest.approx(want)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"schedule": "piecewise", "init": 1}, "points go with"),
        ({"init": 1, "points": [[3, 0.1]]}, "points go with"),
        ({"schedule": "piecewise", "init": 1, "points": [[3, 0.0]]}, "a value > 0"),
        (
            {"schedule": "piecewise", "init": 1, "points": [[0, 0.1]]},
            "the steps increase",
        ),
    ],
)
def test_points_of_a_schedule(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        job(optimizer={"learning_rate": keys})


def test_exchange_needs_bonds_that_join_all_sites() -> None:
    made = system([4, 2], "heisenberg", "square")
    with pytest.raises(JobError, match="no bond joins site 2 to site 0"):
        sampling.check_connected(made.hamiltonian.space, np.array([[0, 1], [2, 3]]))
    free = system([4], "heisenberg", total_sz="free")
    with pytest.raises(JobError, match="not in a sector"):
        sampling.check_connected(free.hamiltonian.space, np.array([[0, 1]]))
