"""The workloads that both sides of a comparison read; NumPy only.

A worker prints one line ``RESULT {json}`` with ``times`` (milliseconds: sampling,
local_energies, step), ``energy`` (mean, error) at the common parameters, ``settings``
and ``versions``.  Energies are sums of S.S for Heisenberg and of Pauli matrices for
TFIM.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Workload:
    """One step of a ground-state search.

    Attributes:
        model: "tfim" (h = J = 1) or "heisenberg" (Marshall gauge, total Sz = 0).
        shape: extent of the periodic lattice.
        alpha: hidden units per site of an RBM; its biases start at 0.
        dtype: "real" or "complex" weights.
        n_samples: samples of a step; one sweep of N proposals before each.
    """

    model: str
    shape: tuple[int, ...]
    alpha: int
    dtype: str
    n_samples: int = 1024

    @property
    def n_sites(self) -> int:
        """N."""
        return int(np.prod(self.shape))

    @property
    def n_parameters(self) -> int:
        """P."""
        return self.n_sites + self.alpha * self.n_sites * (self.n_sites + 1)

    def weights(self) -> np.ndarray:
        """W (N, M) of both sides, from a fixed seed."""
        rng = np.random.default_rng(1)
        shape = (self.n_sites, self.alpha * self.n_sites)
        w = 0.05 * rng.normal(size=shape)
        if self.dtype == "complex":
            return w + 0.05j * rng.normal(size=shape)
        return w


WORKLOADS = {
    "W1": Workload("tfim", (64,), 4, "real"),
    "W2": Workload("heisenberg", (10, 10), 2, "complex"),
}


def best_ms(function: Callable[[], Any], repeats: int, warm: int = 2) -> float:
    """Smallest wall time of a call, after some that compile and warm caches."""
    times = []
    for number in range(warm + repeats):
        began = time.perf_counter()
        function()
        if number >= warm:
            times.append(1e3 * (time.perf_counter() - began))
    return min(times)


def report(**values: Any) -> None:
    """Print the line that `compare` reads."""
    print("RESULT " + json.dumps(values), flush=True)
