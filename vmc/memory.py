"""Memory of this process."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

#: Seconds of a compilation that leaves enough behind to be worth the search for it.
LONG = 1.0

#: Parameters of glibc's mallopt and their values: free memory at the top of a heap
#: stays, no block is a map of its own, and a thread's empty heap (of 64 MiB) stays.
_KEEP = {
    "M_TRIM_THRESHOLD": (-1, -1),
    "M_MMAP_MAX": (-4, 0),
    "M_TOP_PAD": (-2, 1 << 26),
}


def keep() -> bool:
    """Let large arrays that are freed be used again, if the C library offers that.

    XLA on CPUs asks for the temporary arrays of a program at every call.  glibc makes
    each large block a map of its own, whose pages come from the system one by one, in
    an interrupt each, and full of zeros: a sixth of a step of 200 ms, and more where
    several devices ask at once.  Kept is what a step needs at once; `give_back` still
    gives back what lies between.  Blocks above 64 MiB, which glibc maps in any case,
    are not helped.

    Returns:
        Whether that is so now; a user's own ``mmap_max`` stays.
    """
    given = os.environ.get("GLIBC_TUNABLES", "")
    if "mmap_max" in given or "MALLOC_MMAP_MAX_" in os.environ:
        return False
    try:
        tell = ctypes.CDLL(None).mallopt
        # Where there is malloc_trim it is glibc: others number these differently.
        ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return all([tell(*pair) for pair in _KEEP.values()])


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


def compiling(compile_: Callable[[], Any]) -> Any:
    """What a compilation returns; its memory is given back if it took long."""
    began = time.perf_counter()
    program = compile_()
    if time.perf_counter() - began > LONG:
        give_back()
    return program
