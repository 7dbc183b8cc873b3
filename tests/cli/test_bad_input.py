"""Bad input gets a clear error, exit code 2, no traceback, and loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import jax
import pytest

from tests.cli.conftest import TINY, invoke
from vmc.errors import JobError

JobFile = Callable[[str], Path]

CUSTOM = """
[hamiltonian]
name = "mine.py:build"
[ansatz]
name = "rbm"
"""

TERMS = """
[hamiltonian]
terms = "terms.json"
[ansatz]
name = "rbm"
"""


def refused(*arguments: str | Path) -> str:
    """The message of a refusal."""
    outcome = invoke(*arguments)
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()[0]) < 600, outcome.err
    return outcome.err


def test_a_missing_file_suggests_its_neighbour(job_file: JobFile) -> None:
    path = job_file(TINY)
    assert "did you mean 'job.toml'?" in refused("run", path.with_name("jbo.toml"))
    assert "vmc resume" in refused("run", path.parent)


def test_malformed_toml_names_file_and_line(job_file: JobFile) -> None:
    path = job_file("[lattice]\nname = chain\n")
    message = refused("run", path)
    assert f"{path}:2:8: not valid TOML" in message
    assert "name = chain\n         ^" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler.n_chain=4", "unknown key 'n_chain'; did you mean 'n_chains'?"),
        ("optimiser.name=sr", "unknown key 'optimiser'; did you mean 'optimizer'?"),
        (
            "lattice.name=chian",
            "name = 'chian' is not registered; did you mean 'chain'",
        ),
        ("hamiltonian.name=tfmi", "'tfmi' is not registered; did you mean 'tfim'?"),
        ("ansatz.name=rmb", "name = 'rmb' is not registered; did you mean 'rbm'?"),
        ("hamiltonian.g=1", "[hamiltonian] unknown key 'g' for 'tfim'"),
        ("lattice.sise=[4]", "[lattice] unknown key 'sise' for 'chain'; did you mean"),
        ("ansatz.alhpa=1", "unknown key 'alhpa' for 'rbm'; did you mean 'alpha'?"),
        ("ansatz.alpha=two", "[ansatz] alpha = 'two': expected int"),
        ("ansatz.alpha=0", "alpha is 0; it is a positive integer"),
        ("hamiltonian.h=up", "h = 'up'"),
        ("lattice.size=[2.5]", "size[0] = 2.5: expected a list of integers"),
        ("lattice.size=[4, 4]", "size = [4, 4]"),
        ("sampler.n_chains=0", "n_chains = 0: expected an integer >= 1"),
        ("sampler.n_chains=6", "split over 4 devices evenly; the nearest valid"),
        ("sampler.n_samples=40", "the nearest valid numbers are 32 and 64"),
        ("run.n_steps=-1", "n_steps = -1: expected an integer >= 0"),
        ("run.max_time=soon", "max_time = 'soon': expected seconds"),
        ("hamiltonian.total_sz=0", "do not conserve total Sz"),
        ("run.out=job.toml/x", "job.toml is not a folder"),
        ("run.out=/proc/x", "cannot create the run directory /proc/x"),
        ("precision", "--set precision: expected section.key=value"),
    ],
)
def test_bad_keys_and_values(job_file: JobFile, override: str, message: str) -> None:
    assert message in refused("run", job_file(TINY), "--set", override)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["total_sz=0.5"], "total_sz = 0.5 is impossible for 6 sites"),
        (["total_sz=4"], "total_sz = 4.0 is impossible for 6 sites"),
        (["total_sz=0", "sampler=local"], "local flips leave the sector"),
        (["total_sz=free", "sampler=exchange"], "exchange moves keep total Sz"),
        (["size=[5]", "marshall=true"], "cycle of odd length"),
        (["marshall=[0, 1]"], "marshall has 2 entries; expected one 0 or 1 for each"),
        (["total_sz=1", "spin_flip=1"], "[ansatz.symmetry] spin_flip = 1: the Ham"),
        (["point_group=A3"], "Cs has no such representation. Those of dimension one"),
    ],
)
def test_physics_that_does_not_fit(
    job_file: JobFile, overrides: list[str], message: str
) -> None:
    homes = {
        "sampler": "sampler.name",
        "size": "lattice.size",
        "spin_flip": "ansatz.symmetry.spin_flip",
        "point_group": "ansatz.symmetry.point_group",
    }
    arguments = ["run", job_file(TINY), "--set", "hamiltonian.name=heisenberg"]
    for item in overrides:
        key, _, value = item.partition("=")
        arguments += ["--set", f"{homes.get(key, 'hamiltonian.' + key)}={value}"]
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("terms", "extra", "message"),
    [
        ([[1.0, "XX", [0, 4]]], {}, "acts on site 4, but N = 4"),
        ([[1.0, "XQ", [0, 1]]], {}, "unknown letter 'Q'"),
        ([[[0.0, 1.0], "XX", [0, 1]]], {}, "not Hermitian"),
        ([[1.0, "ZZ", [0, 1]]], {"nup": 2}, "exchange moves need pairs of sites"),
        ([[1.0, "", []]], {}, "acts on no site"),
        ([[1.0, "ZZ", [0, 1]]], {"nup": 9}, "nup = 9"),
        ([[True, "ZZ", [0, 1]]], {}, "the coefficient is not a number"),
        ([[1.0, "ZZ", [0, 1]]], {"convention": "spin"}, "convention = 'spin'"),
    ],
)
def test_terms_that_make_no_hamiltonian(
    job_file: JobFile, terms: list, extra: dict, message: str
) -> None:
    Path("terms.json").write_text(json.dumps({"N": 4, "terms": terms, **extra}))
    assert message in refused("run", job_file(TERMS))


def test_a_missing_terms_file(job_file: JobFile) -> None:
    assert "terms.json: No such file" in refused("check", job_file(TERMS))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file"),
        ("def biuld(): pass\n", "defines no 'build'; did you mean 'biuld'?"),
        ("def build(:\n", 'mine.py", line 1'),
        ("raise RuntimeError('at import')\n", "RuntimeError: at import"),
        ("import nothing_like_this\n", "ModuleNotFoundError"),
        ("def build():\n    raise ValueError('inside')\n", "line 2, in build"),
        ("import sys\nsys.exit(1)\n", "SystemExit: 1"),
        ("build = 3\n", "[hamiltonian] 'mine.py:build' is a int, 3; expected a func"),
        ("import math as build\n", "is a module, <module 'math'"),
        ("def build(x):\n    pass\n", "'mine.py:build' needs the key 'x'"),
        ("def build():\n    return 3\n", "returned a int; expected a hamiltonians."),
        (
            "from hamiltonians import Sx, Sy\n"
            "def build():\n    return Sx(0) @ Sy(0) + Sx(1)\n",
            "not Hermitian",
        ),
    ],
)
def test_a_users_file(job_file: JobFile, text: str | None, message: str) -> None:
    """Its own traceback is shown, and none of ours."""
    if text is not None:
        Path("mine.py").write_text(text)
    shown = refused("check", job_file(CUSTOM))
    assert message in shown
    assert "site-packages" not in shown and "registry.py" not in shown


def test_a_users_operator_becomes_the_same_class_as_a_named_model(
    job_file: JobFile,
) -> None:
    from hamiltonians.compile import TermHamiltonian
    from vmc.job import Job
    from vmc.system import build_system

    Path("mine.py").write_text(
        "from hamiltonians import Operator\n"
        "def build(lattice):\n"
        "    return Operator.from_terms([(1.0, 'ZZ', e) for e in lattice.edges()])\n"
    )
    path = job_file(TINY)
    for name in ("tfim", "mine.py:build"):
        job = Job.load(path, [f"hamiltonian.name={name}"])
        assert type(build_system(job).hamiltonian) is TermHamiltonian


def test_what_a_users_file_prints_does_not_spoil_json(job_file: JobFile) -> None:
    Path("mine.py").write_text(
        "from hamiltonians import Sx\nprint('hello')\ndef build():\n    return Sx(0)\n"
    )
    outcome = invoke("ed", job_file(CUSTOM), "--json")
    assert outcome.json["energies"] == pytest.approx([-0.5, 0.5])
    assert "hello" in outcome.err


def test_the_ansatz_is_needed_to_run_but_not_to_diagonalise(job_file: JobFile) -> None:
    path = job_file(TINY.replace('[ansatz]\nname = "rbm"\nalpha = 1\n', ""))
    assert "[ansatz] is missing" in refused("run", path)
    assert invoke("ed", path, "--json").json["dimension"] == 64
    check = invoke("check", path, "--json").json
    assert any("[ansatz]" in text for text in check["warnings"])


def test_an_existing_run_is_never_overwritten(job_file: JobFile) -> None:
    Path("taken").mkdir()
    Path("taken/precious").write_text("x")
    message = refused("run", job_file(TINY), "--set", "run.out=taken")
    assert "never overwritten" in message and "--out NAME" in message
    assert [p.name for p in Path("taken").iterdir()] == ["precious"]


@pytest.mark.parametrize("command", ["show", "resume", "measure"])
def test_files_that_are_no_run(command: str) -> None:
    assert "there is no run directory nowhere" in refused(command, "nowhere")
    Path("empty").mkdir()
    assert "not a run directory" in refused(command, "empty")
    with h5py.File("empty/run.h5", "w") as file:
        file["x"] = 1
    assert "not a run of this program" in refused(command, "empty")
    Path("empty/run.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    assert "damaged" in refused(command, "empty")


def test_float64_needs_64_bit_numbers(job_file: JobFile) -> None:
    from vmc.assembly import build
    from vmc.job import Job

    job = Job.load(job_file(TINY))
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(JobError, match="jax_enable_x64"):
            build(job)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_a_users_graph_must_become_a_lattice(job_file: JobFile) -> None:
    Path("mine.py").write_text(
        "import networkx\ndef lat():\n    return networkx.path_graph(4)\n"
    )
    job = '[lattice]\nname = "mine.py:lat"\n[hamiltonian]\nname = "heisenberg"\n'
    assert "hamiltonians.from_graph" in refused("check", job_file(job))
