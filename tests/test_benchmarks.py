"""Scripts of the benchmarks load: what they use of the packages is still there.

Those of peers (`*_cell.py`, `*_side.py`) need the peers and are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
OF_PEERS = ("_cell.py", "_side.py")
SCRIPT = """
import importlib, json, sys
sys.path[:0] = json.loads(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def test_scripts_load() -> None:
    scripts = [p for p in FOLDER.rglob("*.py") if not p.name.endswith(OF_PEERS)]
    assert len(scripts) > 8
    paths = [str(FOLDER), str(FOLDER / "peers"), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(paths), *[p.stem for p in scripts]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
