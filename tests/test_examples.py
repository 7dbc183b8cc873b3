"""Every example, and every example of the README, does what it says."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import vmc
from vmc import registry

ROOT = Path(__file__).resolve().parents[1]
JOBS = sorted((ROOT / "examples").glob("*.toml"))
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A script runs as a user runs it, except that every job in it is short (and, in the
# fast tier, compiled by the cheap compiler).
SHORT = """
import functools, runpy, sys
import vmc

class Short(vmc.Job):
    def __init__(self, **sections):
        run = sections.pop("run", {}) | {"n_steps": 2}
        small = {"n_chains": 64, "n_samples": 64}
        super().__init__(**sections | {"run": run, "sampler": small,
                                       "measure": {"n_samples": 1024}})

vmc.Job = Short
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def run_short(script: Path, folder: Path) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    mine = "--xla_force_host_platform_device_count"
    flags = env["XLA_FLAGS"].split()
    env["XLA_FLAGS"] = " ".join(f for f in flags if not f.startswith(mine))
    command = [sys.executable, "-c", SHORT, str(script)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_examples() -> None:
    assert ROOT / "examples" / "tfim_chain.toml" in JOBS
    assert ROOT / "examples" / "custom_hamiltonian.py" in SCRIPTS


def families(keys: Mapping[str, Any]) -> set[str]:
    """Names in a section [ansatz], those of parts too."""
    parts = (families(part) for part in keys.get("parts", ()))
    return {keys["name"]}.union(*parts)


@pytest.mark.parametrize("name", sorted(registry.ansatze()))
def test_a_family_has_an_example(name: str) -> None:
    jobs = [tomllib.loads(path.read_text(encoding="utf-8")) for path in JOBS]
    assert any(name in families(job["ansatz"]) for job in jobs), (
        f"no job in examples/ uses {name}"
    )


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_job_builds(path: Path) -> None:
    assert vmc.build(vmc.Job.load(path)).vmc.n_parameters > 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_script_runs(path: Path, tmp_path: Path) -> None:
    said = run_short(path, tmp_path)
    assert re.search(r"-?\d+\.\d+ \+- \d+\.\d+", said), said
    assert not list(tmp_path.iterdir()), "a script without `out` writes nothing"


def test_readme_script_runs(tmp_path: Path) -> None:
    (code,) = (text for text in fences("python") if "vmc.Job" in text)
    script = tmp_path / "readme.py"
    script.write_text(code)
    assert re.search(r"-?\d+\.\d+ \+- \d+\.\d+", run_short(script, tmp_path))


def test_readme_jobs_build(tmp_path: Path) -> None:
    (module,) = (text for text in fences("python") if text.startswith("# ring.py"))
    (tmp_path / "ring.py").write_text(module)
    for number, text in enumerate(fences("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        assert vmc.build(vmc.Job.load(path)).vmc.n_parameters > 0
    assert "ring.py:build" in text
