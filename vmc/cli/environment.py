"""What has to be set before NumPy, SciPy or JAX are imported, and right after."""

from __future__ import annotations

import atexit
import gc
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmc.cli.console import warn
from vmc.launch import Launch, launch

if TYPE_CHECKING:
    from vmc.cluster import Layout

THREADS = "OPENBLAS_NUM_THREADS"
#: Linear systems up to this size are solved fastest by one thread.
ONE_THREAD = 2000


#: New objects between two looks for cycles; Python's own number is 700.
NEW_OBJECTS = 100_000


def collect_rarely() -> None:
    """Let Python look for cyclic garbage rarely, and not at the end of the process.

    While modules are imported and JAX traces, hardly anything is garbage, and every
    look visits all of it: a sixth of a start with compiled programs at hand, and a
    quarter of a second when the process ends.  For the command line, which owns its
    process.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def set_threads(n_samples: int | None, recorded: str | None = None) -> None:
    """Threads of OpenBLAS, unless the user has set them.

    Their number changes speed and the last bits of linear solves; JAX solves with
    SciPy's OpenBLAS, which reads the variable when it is loaded.

    Args:
        n_samples: samples per step, a bound on the size of linear systems.
        recorded: what a run that is resumed used.
    """
    if recorded:
        os.environ[THREADS] = recorded
    elif THREADS not in os.environ:
        cores = len(os.sched_getaffinity(0)) // launch().local_size
        small = (n_samples or 0) <= ONE_THREAD
        os.environ[THREADS] = "1" if small else str(max(1, min(8, cores)))


def start_jax(*, by_all: bool = False) -> Layout:
    """JAX with 64-bit numbers and a persistent compilation cache.

    Args:
        by_all: together with the other ranks of this job, if there are any.

    Raises:
        JobError: the ranks of this job cannot join; see `vmc.cluster.start`.
    """
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    from vmc import cluster

    layout = cluster.start(launch() if by_all else Launch())
    _set_cache()
    return layout


def _set_cache() -> None:
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return  # the user's own
    folder = cache_folder(jax.__version__, jax.default_backend())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is not writable")
    except OSError as error:
        warn([f"no compilation cache ({error}): every run compiles anew"])
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def cache_folder(version: str, backend: str) -> Path:
    """Folder of compiled programs for this JAX, backend and kind of CPU.

    Home folders are shared by unlike machines, and a program compiled for one CPU
    may not run on another.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    digest = hashlib.sha256(cpu_flags().encode()).hexdigest()[:12]
    return Path(base) / "nqs-vmc" / f"jax-{version}-{backend}-{digest}"


def cpu_flags() -> str:
    """The instruction sets of this CPU."""
    import platform

    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return platform.processor() + platform.machine()
    lines = [x for x in text.splitlines() if x.startswith(("flags", "Features"))]
    return lines[0] if lines else platform.machine()
