"""Peers without the peers: what their scripts share, and cells of a fake program."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import cells, workloads
from vmc import bench_peers
from vmc.assembly import build
from vmc.bench_peers import PEERS, cell_of
from vmc.bench_problems import Problem, find
from vmc.bench_suite import Plan, Suite, plan
from vmc.job import Job

MATRICES = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
    "+": np.array([[0, 1], [0, 0]]),
    "-": np.array([[0, 0], [1, 0]]),
}


def dense(n_sites: int, strings: list[Any]) -> np.ndarray:
    total = np.zeros((2**n_sites, 2**n_sites), complex)
    for weight, word, sites in strings:
        ops = dict(zip(sites, word, strict=True))
        factors = [MATRICES[ops.get(i, "I")] for i in range(n_sites)]
        total += cells.number(weight) * functools.reduce(np.kron, factors)
    return total


def test_ladder_operators_are_the_same_hamiltonian() -> None:
    rng = np.random.default_rng(1)
    terms: list[list[Any]] = [
        [rng.normal(), word, [i, j]]
        for i, j in ((0, 1), (2, 1), (3, 0))
        for word in ("XX", "YY", "ZZ", "XY")
    ]
    terms += [[[0.3, 0.7], "X", [2]], [0.4, "XYYZ", [3, 1, 0, 2]], [0.2, "YY", [1, 2]]]
    strings = cells.ladders(terms)
    np.testing.assert_allclose(dense(4, strings), dense(4, terms), atol=1e-14)
    assert not {"XX", "YY"} & {word for _, word, _ in strings}
    # Equal weights: nothing leaves the sector of total Sz.
    even = cells.ladders([[0.25, "XX", [0, 1]], [0.25, "YY", [1, 0]]])
    assert even == [(0.5, "+-", (0, 1)), (0.5, "-+", (0, 1))]


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_net_of_a_peer(symmetric: bool, real: bool) -> None:
    """As many parameters as our own RBM, and angles that move with the lattice."""
    problem = find("heis_chain_8_P")
    cell = cell_of(problem, 5.0, 100) | {"seed": 1, "real": real}
    if not symmetric:
        cell["translations"] = []
    params, table = cells.initial(cell), cells.columns(cell)
    size, alpha = sum(x.size for x in params.values()), cell["alpha"]
    width = 0.1 if symmetric else 0.01
    assert np.sqrt(np.mean(abs(params["W"]) ** 2)) == pytest.approx(width, rel=0.3)
    assert all(np.iscomplexobj(x) != real for x in params.values())
    if not symmetric:
        tables = {"lattice": problem.lattice, "hamiltonian": problem.hamiltonian}
        ansatz = {"name": "rbm", "alpha": alpha, "symmetry": "none"}
        ours = build(Job(**tables, ansatz=ansatz))  # pyright: ignore
        assert table is None and size == ours.vmc.n_parameters
        return
    assert size == 8 * alpha + alpha + 1, "those of NetKet's RBMSymm"
    assert table is not None
    sigma = np.random.default_rng(2).choice([-1, 1], 8)
    angles = params["W"][:, table] @ sigma
    by_hand = [params["W"] @ sigma[perm] for perm in cell["translations"]]
    np.testing.assert_allclose(angles.T, by_hand, atol=1e-14)
    moved = params["W"][:, table] @ np.roll(sigma, 3)
    np.testing.assert_allclose(np.sort(moved), np.sort(angles), atol=1e-14)


def test_statistics_of_chains_that_forget_slowly() -> None:
    rng = np.random.default_rng(3)
    values = np.empty((400, 512), complex)
    values[0] = rng.normal(size=512)
    for t in range(1, 400):
        values[t] = 0.8 * values[t - 1] + 0.6 * rng.normal(size=512)
    found = cells.statistics(values - 7)
    assert abs(found["mean"] + 7) < 5 * found["error"]
    assert found["variance"] == pytest.approx(1.0, rel=0.05)
    # (1 + 0.8) / (1 - 0.8), known to sqrt(2 / 512).
    assert found["tau"] == pytest.approx(9.0, rel=0.25)
    assert 1.0 < found["r_hat"] < 1.03
    assert cells.statistics(np.full((4, 8), 1.5))["tau"] == 1.0


def test_the_loop_ends_with_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    cell = {"constant": 2.0, "n_samples": 4, "max_steps": 3, "measure_samples": 7}
    for seconds, n_steps in ((1e9, 3), (0.0, 1)):
        cells.run(
            cell | {"seconds": seconds},
            lambda: (-5.0, 16.0),
            lambda: np.arange(4.0),
            17,
            {"peer": "1"},
        )
        line = capsys.readouterr().out.strip()
        said = json.loads(line.removeprefix("RESULT "))
        assert said["energies"] == [-3.0] * n_steps
        assert said["errors"] == [2.0] * n_steps
        assert said["mean"] == 3.5 and said["n_samples"] == 8
        assert said["n_parameters"] == 17


# ---- a program that is not there -----------------------------------------------------


def made(problem: Problem, tmp_path: Path) -> Plan:
    tables: dict[str, Any] = {"name": "s", "ansatze": ["rbm"]}
    tables |= {"problems": [problem.label], "budget": {"seconds": 5}}
    return plan(Suite(**tables), tmp_path)


def program(at: Path, lines: str) -> Path:
    at.write_text(f"#!/bin/sh\n{lines}\n")
    at.chmod(0o755)
    return at


@pytest.mark.parametrize("name", sorted(PEERS))
def test_a_cell_of_a_peer(name: str, tmp_path: Path) -> None:
    said = {"mean": -3.65, "error": 1e-3, "variance": 0.02, "tau": 1.0, "r_hat": 1.0}
    said |= {"n_parameters": 16, "n_samples": 4096, "measure_seconds": 2.0}
    said |= {"seconds": 12.0, "peak_memory_mib": 300.0, "versions": {name: "1"}}
    said |= {"energies": [-3.0, -3.65], "errors": [0.01] * 2, "times": [8.0, 9.0]}
    script, label = PEERS[name]
    works = program(
        tmp_path / "works",
        f"test -f $2 || exit 1\necho noise\necho 'RESULT {json.dumps(said)}'",
    )
    fails = program(tmp_path / "fails", "echo 'it has no such term' >&2; exit 1")
    problem = find("heis_chain_8_P")
    suite = made(problem, tmp_path)
    at = tmp_path / problem.label / label / "seed1"
    told: list[str] = []

    bench_peers.run(suite, tmp_path, name, fails, told.append)
    result = json.loads((at / "result.json").read_text())
    assert result["status"] == "failed" and result["error"] == "it has no such term"
    bench_peers.run(suite, tmp_path, name, works, told.append)
    result = json.loads((at / "result.json").read_text())
    assert result["status"] == "done" and result["source"] == name
    assert result["ansatz"] == label and result["energy"] == -3.65
    bench_peers.run(suite, tmp_path, name, fails, told.append)
    assert [line.split(": ")[1] for line in told] == ["failed", "done", "done (before)"]
    assert (bench_peers.SCRIPTS / script).is_file()


def test_a_setting_that_fails_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(one: int, energy: bool) -> dict[str, Any]:
        if one == 1:
            raise MemoryError("too much")
        found = workloads.mean_of([1.0, 3.0]) if energy else None
        return {"settings": one, "energy": found}

    def served(setting: str) -> dict[str, Any]:
        workloads.serve(setting, [0, 1, 2], measure, {"peer": "1"})
        said = capsys.readouterr().out.strip().removeprefix("RESULT ")
        return json.loads(said)

    found = served("2")
    assert found["rows"] == [{"settings": 2, "energy": {"mean": 2.0, "error": 1.0}}]
    assert found["n_settings"] == 3
    assert served("0-quick")["rows"] == [{"settings": 0, "energy": None}]
    row = {"settings": "1", "error": "MemoryError: too much"}
    assert served("1-quick")["rows"] == [row]


def test_a_setting_that_takes_too_long_is_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(bench_peers.SCRIPTS))
    compare = importlib.import_module("compare")
    slow = {1}

    def worker(*command: str, limit: float | None = None) -> dict[str, Any]:
        number = int(command[-1].removesuffix("-quick"))
        if number in slow:
            raise subprocess.TimeoutExpired(list(command), limit or 0.0)
        rows = [{"settings": number}]
        return {"rows": rows, "versions": {"peer": "1"}, "n_settings": 3}

    monkeypatch.setattr(compare, "worker", worker)
    keys = argparse.Namespace(
        setting=None, peer="netket", peer_python="python", limit=7.0
    )
    rows, versions = compare.sweep("W6", keys)
    late = {"error": "setting 1 took over 7 s"}
    assert rows == [{"settings": 0}, late, {"settings": 2}]
    assert versions == {"peer": "1"}
    slow.add(0)
    with pytest.raises(SystemExit, match="setting 0 took over 7 s: raise --limit"):
        compare.sweep("W6", keys)
