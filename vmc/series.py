"""Per-step columns of a run, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Series:
    """Rows of named columns, appended in parts and joined when they are read."""

    def __init__(self, columns: Mapping[str, np.ndarray] | None = None) -> None:
        """Start with some columns, or with none.

        Args:
            columns: one array per column.
        """
        self._parts = [dict(columns)] if columns else []

    def append(self, records: Mapping[str, Any]) -> None:
        """Add rows.

        Args:
            records: one array per column, of equal length; step is an integer
                column, the others are real.
        """
        rows = {name: _column(name, values) for name, values in records.items()}
        if n_rows(rows):
            self._parts.append(rows)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All rows so far, one array per column."""
        if len(self._parts) > 1:
            names = self._parts[0]
            self._parts = [
                {n: np.concatenate([p[n] for p in self._parts]) for n in names}
            ]
        return dict(self._parts[0]) if self._parts else {}

    def __len__(self) -> int:
        return sum(n_rows(part) for part in self._parts)


def n_rows(columns: Mapping[str, np.ndarray]) -> int:
    """Rows of a set of columns."""
    return min((len(v) for v in columns.values()), default=0)


def _column(name: str, values: Any) -> np.ndarray:
    return np.atleast_1d(np.asarray(values, np.int64 if name == "step" else np.float64))
