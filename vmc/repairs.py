"""How often a run was repaired: steps rejected, walkers replaced, parameters shrunk.

Loads neither JAX nor NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

#: Columns of the series that count what was repaired.
REPAIRS = ("rejected", "replaced", "shrunk")


def repairs(series: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Repairs of each kind in a part of a series.

    Args:
        series: per-step columns; those of older runs do not count them.
    """
    return {name: int(sum(series.get(name, ()))) for name in REPAIRS}


def repairs_text(counts: Mapping[str, Any]) -> str:
    """Repairs of each kind, where there are any, in a few words."""
    shown = {
        "rejected": "rejected steps",
        "replaced": "replaced walkers",
        "shrunk": "halved first parameters",
    }
    parts = [f"{shown[name]} {counts[name]}" for name in REPAIRS if counts.get(name)]
    return ", ".join(parts)
