"""Numbers as users write them: Python's, NumPy's, arrays of no dimension."""

from __future__ import annotations

import math
import numbers
from typing import Any


def real_number(value: Any) -> float | None:
    """A real number as Python's own; None for anything else, a bool among it.

    ``numpy.int64(1)``, ``numpy.array(0.5)`` and ``jax.numpy.float32(0.5)`` are
    numbers; a value that JAX traces is none, as it is not known yet.
    """
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        return None
    try:
        return float(plain)
    except OverflowError:
        return math.copysign(math.inf, plain)


def complex_number(value: Any) -> complex | None:
    """A real or complex number as Python's own; see `real_number`."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Number):
        return None
    if (real := real_number(plain)) is not None:
        return complex(real)
    return complex(plain)  # type: ignore[arg-type]  # a number of another library


def whole_number(value: Any) -> int | None:
    """An integer as Python's own; None for anything else, a bool among it."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Integral):
        return None
    return int(plain)


def _plain(value: Any) -> Any:
    """What an array of no dimension holds; anything else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        try:
            return value.item()
        except TypeError:  # a tracer has no value
            return value
    return value
