"""Warnings of a run: rare, said once, counted, the same however a run is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vmc
from tests.cli.conftest import compiled_once  # noqa: F401
from vmc import runs
from vmc.health import R_HAT_WINDOWS, SETTLING_PART, Alarms, Health, final_warnings
from vmc.stats import Estimate

N_STEPS = 300
SETTLED = int(SETTLING_PART * N_STEPS)


class Heard:
    """An observer, with all that it says and lists."""

    def __init__(self, **keys: Any) -> None:
        self.said: list[str] = []
        self.listed: list[str] = ["known before"]
        alarms = Alarms(self.listed, self.said.append)
        defaults = {"metropolis": True, "precision": "float64", "n_steps": N_STEPS}
        self.health = Health(alarms, **(defaults | keys))

    def after(self, columns: dict[str, np.ndarray], cut: int = N_STEPS) -> list[str]:
        for first in range(0, N_STEPS, cut):
            self.health.look({k: v[first : first + cut] for k, v in columns.items()})
        return self.listed[1:]


def healthy() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "step": np.arange(1, N_STEPS + 1),
        "acceptance": rng.uniform(0.02, 0.6, N_STEPS),
        "r_hat": np.where(
            np.arange(N_STEPS) < 3, np.nan, rng.uniform(0.97, 1.2, N_STEPS)
        ),
        "drift": 10 ** rng.uniform(-14, -9, N_STEPS),
        "variance": np.linspace(1, 9, N_STEPS),
    }


def changed(column: str, first: int, n: int, value: float) -> dict[str, np.ndarray]:
    """A healthy run but for n steps from step ``first`` on."""
    columns = healthy()
    columns["r_hat"] = np.full(N_STEPS, 1.01)
    columns[column][first - 1 : first - 1 + n] = value
    return columns


def test_an_alarm_is_said_once_and_counted() -> None:
    said: list[str] = []
    listed = ["known before"]
    alarms = Alarms(listed, said.append)
    alarms.ring("disk", "no room for step 5")
    listed.append("of somebody else")
    alarms.ring("disk", "no room for step 9")
    alarms.ring("drift", "drifted", "drifted (twice)", say=False)
    assert said == ["no room for step 5"]
    assert listed == [
        "known before",
        "no room for step 9 (2 times)",
        "of somebody else",
        "drifted (twice)",
    ]


@pytest.mark.parametrize("cut", [1, 7, 10, N_STEPS])
def test_what_is_counted_does_not_depend_on_the_looks(cut: int) -> None:
    heard = Heard()
    columns = changed("acceptance", 120, 34, 3e-4)
    columns["acceptance"][140] = 1e-5
    (text,) = heard.after(columns, cut)
    # The mean of 20 steps falls only when all of them are bad.
    assert text.startswith(
        "acceptance fell below 0.001 (first at step 139, in 15 of 300 steps, lowest "
        "1e-05): the walkers hardly move"
    )
    (said,) = heard.said
    assert said.startswith("acceptance fell below 0.001 (step 139: ")
    assert 'sampler.name = "mixed"' in said


@pytest.mark.parametrize(
    ("column", "first", "n", "value", "keys", "message"),
    [
        ("acceptance", 1, 20, 0.0, {}, "in 1 of 300 steps, lowest 0)"),
        ("acceptance", 100, 19, 0.0, {}, None),
        ("acceptance", 1, 300, 0.0, {"metropolis": False}, None),
        ("r_hat", SETTLED + 1, 101, 1.3, {}, "in 2 of 300 steps, highest 1.3)"),
        ("r_hat", SETTLED + 1, 99, 2.0, {}, None),
        ("r_hat", 1, SETTLED + 99, 1.5, {}, None),
        ("r_hat", 1, 300, np.inf, {}, "first at step 200, in 101 of 300"),
        ("r_hat", 1, 300, np.nan, {}, None),
        ("drift", 7, 2, 2e-8, {}, "first at step 7, in 2 of 300 steps, largest 2e-08"),
        ("drift", 7, 2, 2e-4, {"precision": "float32"}, None),
        ("drift", 7, 2, 2e-2, {"precision": "float32"}, "a step is rejected at 0.05"),
    ],
)
def test_limits(
    column: str,
    first: int,
    n: int,
    value: float,
    keys: dict[str, Any],
    message: str | None,
) -> None:
    assert R_HAT_WINDOWS * 20 == 100
    heard = Heard(**keys)
    listed = heard.after(changed(column, first, n, value), 10)
    if message is None:
        assert listed == [] and heard.said == []
    else:
        assert len(listed) == len(heard.said) == 1 and message in listed[0]


def test_a_healthy_run_and_an_old_series_say_nothing() -> None:
    heard = Heard()
    assert heard.after(healthy()) == []
    assert heard.after({"step": np.arange(N_STEPS)}) == []
    assert heard.after({}) == []


@pytest.mark.parametrize(
    ("r_hat", "n_samples", "n"), [(1.03, 6400, 1), (1.01, 6400, 0), (9.0, 6300, 0)]
)
def test_the_final_measurement(r_hat: float, n_samples: int, n: int) -> None:
    estimate = Estimate(-1.0, 0.1, 1.0, 1.0, r_hat, n_samples, 100.0)
    assert len(final_warnings(estimate, 100)) == n
    assert final_warnings(None, 100) == []


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_a_run_whose_walkers_freeze(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once on stderr, in the log and in the report; resumed as in one piece."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "net.py").write_text(
        "from flax import linen as nn\nimport jax.numpy as jnp\n"
        "class Frozen(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, sigma):\n"
        "        g = self.param('g', nn.initializers.constant(9.0), ())\n"
        "        return g * jnp.sum(sigma, axis=-1) ** 2\n"
    )
    job = vmc.Job.from_dict(
        {
            "lattice": {"name": "chain", "size": [4]},
            "hamiltonian": {"name": "tfim"},
            "ansatz": {"name": "net.py:Frozen", "symmetry": "none"},
            "sampler": {"n_chains": 32},
            "optimizer": {"name": "sgd", "learning_rate": 1e-6},
            "run": {"n_steps": 40},
            "measure": {"n_samples": 32},
        },
        folder=tmp_path / "job",
    )
    out = tmp_path / "run"
    for info in runs.iterate(job, out=out):
        if info.step >= 30:
            break
    first = "warning: acceptance fell below 0.001"
    assert capsys.readouterr().err.count(first) == 1
    result = runs.resume(out).run()
    assert first not in capsys.readouterr().err
    (text,) = (w for w in result.report["warnings"] if "acceptance" in w)
    assert "(first at step 20, in 21 of 40 steps, lowest 0)" in text
    log = (out / "run.log").read_text()
    assert log.count("acceptance fell below 0.001 (step 20: 0)") == 1
    assert log.count("in 11 of 30 steps") == 1  # what the second part knew at its start
