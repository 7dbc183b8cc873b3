"""What the wheel holds is what the tree shows, and nothing else."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {"vmc", "hamiltonians", "ansatze"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    assert path.name == f"nqs_vmc-{PROJECT['version']}-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_wheel_holds_the_three_packages_whole(wheel: zipfile.ZipFile) -> None:
    info = f"nqs_vmc-{PROJECT['version']}.dist-info"
    files = {n for n in wheel.namelist() if not n.startswith(info + os.sep)}
    on_disk = {
        p.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for p in (ROOT / name).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert files == on_disk
    assert {n.partition("/")[0] for n in files} == PACKAGES
    assert {f"{name}/py.typed" for name in PACKAGES} <= files
    assert any(n.endswith("licenses/LICENSE") for n in wheel.namelist())


def test_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    lines = wheel.read(name).decode().split("\n")
    assert "vmc = vmc.cli.main:main" in lines
    assert "vmc/cli/main.py" in wheel.namelist()


def test_one_version_everywhere() -> None:
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()
