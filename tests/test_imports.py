"""Importing a package decides nothing: no device, no MPI, no flag, no output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("vmc", "hamiltonians", "ansatze")

# Third-party packages come first, since JAX itself sets an environment variable;
# the report goes to a file, so that any output at all is an import's own.
SCRIPT = """
import json, os, pathlib, sys
import vmc
lazy = "jax" not in sys.modules
import flax.linen, flax.nnx, h5py, jax, networkx, numpy, optax, pydantic
import rich, scipy.sparse.linalg, typer
before, x64 = dict(os.environ), jax.config.jax_enable_x64
numpy_state = str(numpy.random.get_state())
names = json.loads(sys.argv[2])
for name in names:
    __import__(name)
from jax._src import xla_bridge
pathlib.Path(sys.argv[1]).write_text(json.dumps({
    "loaded": [name for name in names if name in sys.modules],
    "import vmc loads jax": not lazy,
    "a backend started": xla_bridge.backends_are_initialized(),
    "mpi4py was imported": "mpi4py" in sys.modules,
    "x64 changed": jax.config.jax_enable_x64 != x64,
    "the environment changed": dict(os.environ) != before,
    "the global seed was used": str(numpy.random.get_state()) != numpy_state,
}))
"""


def modules() -> list[str]:
    paths = (p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))
    dotted = (".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths)
    names = (name.removesuffix(".__init__") for name in dotted)
    return sorted(name for name in names if not name.endswith("__main__"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("imports") / "report.json"
    hidden = ("JAX_", "XLA_", "OPENBLAS_", "OMP_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    env["PYTHONPATH"] = str(ROOT)
    names = modules()
    command = [sys.executable, "-c", SCRIPT, str(out), json.dumps(names)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = {"asked for": names, "output": done.stdout + done.stderr}
    return json.loads(out.read_text()) | said


def test_every_module_imports_silently(report: dict) -> None:
    assert report["loaded"] == report["asked for"]
    assert report["output"] == ""


@pytest.mark.parametrize(
    "effect",
    [
        "import vmc loads jax",
        "a backend started",
        "mpi4py was imported",
        "x64 changed",
        "the environment changed",
        "the global seed was used",
    ],
)
def test_import_has_no_side_effect(report: dict, effect: str) -> None:
    assert report[effect] is False
