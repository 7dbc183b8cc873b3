"""Where a run comes from: versions, kind of host, revision, time.  No host names."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "h5py")


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def version() -> str:
    """Version of this distribution; "unknown" when it runs from a plain tree."""
    try:
        return metadata.version("nqs-vmc")
    except metadata.PackageNotFoundError:
        return "unknown"


def packages() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    return {name: metadata.version(name) for name in PACKAGES}


def revision(folder: Path) -> str | None:
    """Git revision of a folder, with "-dirty" for changed files; None without git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev"]
    command[-1] += "=40"
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def file_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of the user's own files, by path."""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def changed_files(where: Mapping[str, Any], files: Iterable[Path]) -> list[str]:
    """Warnings about the user's own files that are not what they were.

    Args:
        where: provenance of the run.
        files: those that its job names now.
    """
    now = file_hashes(files)
    return [
        f"{path} has changed since this run was started"
        for path, old in where.get("files", {}).items()
        if now.get(path, old) != old
    ]


def collect(
    *, seed: int, job_folder: Path, files: Iterable[Path], n_devices: int
) -> dict[str, Any]:
    """Provenance of a run that starts now; JAX must be set up.

    Args:
        seed: the run's seed.
        job_folder: folder that relative paths of the job start from.
        files: the user's own files that the job names.
        n_devices: those that the run uses.
    """
    import jax

    devices = jax.devices()
    revisions = {
        "solver": revision(Path(__file__).parent),
        "job": revision(job_folder),
    }
    return {
        "started": now(),
        "seed": seed,
        "version": version(),
        "python": platform.python_version(),
        "packages": packages(),
        "revision": {k: v for k, v in revisions.items() if v is not None},
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "backend": jax.default_backend(),
            "device": devices[0].device_kind,
            "n_devices": n_devices,
            "n_processes": jax.process_count(),
        },
        "openblas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        "job_folder": str(job_folder),
        "files": file_hashes(files),
        "trail": [],
    }
