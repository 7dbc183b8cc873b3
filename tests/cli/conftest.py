"""The command line in this process: one invocation, its output and exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from typer.testing import CliRunner

import vmc
from vmc.cli.main import app
from vmc.signals import SIGNALS

#: A job that runs in a second: the shapes are shared by all tests that run one.
TINY = """
[lattice]
name = "chain"
size = [6]
[hamiltonian]
name = "tfim"
[ansatz]
name = "rbm"
alpha = 1
[sampler]
n_chains = 32
[optimizer]
name = "spring"
[run]
n_steps = 30
[measure]
n_samples = 1024
"""


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object and nothing else."""
        return json.loads(self.out)


def invoke(*arguments: str | Path) -> Outcome:
    """Run ``vmc`` with these arguments; a traceback fails the test."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True, scope="module")
def as_found() -> Iterator[None]:
    """Leave no trace in the environment or the signal handlers."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        patch.setenv("JAX_ENABLE_X64", "1")
        # The command would switch its own cache on for every later test.
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "ours, see compiled_once")
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Equal programs of different runs are compiled once."""
    values = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in values}
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def whole(
    compiled_once: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """One uninterrupted run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "job.toml").write_text(TINY)
    with contextlib.chdir(folder):
        outcome = invoke("run", "job.toml", "--set", "run.out=whole", "--json")
    return folder / "whole", outcome


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def job_file(tmp_path: Path) -> Callable[[str], Path]:
    """text -> a job file."""

    def write(text: str = TINY) -> Path:
        path = tmp_path / "job.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def loaded(use: str) -> set[str]:
    """Modules that a fresh interpreter holds after some lines that may use ``app``."""
    script = f"import sys\nfrom vmc.cli.main import app\n{use}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(vmc.__file__).parents[1])},
    )
    return set(done.stdout.splitlines()[-1].split())
