"""Memory of this process."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

#: Seconds of a compilation that leaves enough behind to be worth the search for it.
LONG = 1.0
#: Of glibc's malloc.h.
M_ARENA_MAX = -8


def give_back() -> bool:
    """Give memory that was freed back to the system, if the C library offers that.

    glibc keeps what a compiler has used, which is half of a small job's memory, and
    the next compilation takes more instead.

    Returns:
        Whether anything was given back.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or none to ask
        return False
    return bool(trim(ctypes.c_size_t(0)))


def share_arenas(n_cores: int) -> bool:
    """One more pool of memory than cores, where the C library has one for every thread.

    Call it before threads are started.  What one thread of a compiler has freed is of
    no use to the others as long as each has a pool of its own.  With fewer pools than
    threads that compile at a time these wait for each other.

    Args:
        n_cores: cores of this process.

    Returns:
        Whether it was done; the user's own MALLOC_ARENA_MAX stays.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if os.environ.get("MALLOC_ARENA_MAX") or "arena_max" in tunables:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_ARENA_MAX, n_cores + 1))


def compiling(compile_: Callable[[], Any]) -> Any:
    """What a compilation returns; its memory is given back if it took long."""
    began = time.perf_counter()
    program = compile_()
    if time.perf_counter() - began > LONG:
        give_back()
    return program
