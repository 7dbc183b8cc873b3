"""Memory of this process."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

#: Seconds of a compilation that leaves enough behind to be worth the search for it.
LONG = 1.0


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
