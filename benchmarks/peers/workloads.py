"""The workloads that both sides of a comparison read; NumPy only.

A worker prints one line ``RESULT {json}`` with ``times`` (milliseconds of the parts of
the workload), ``energy`` (mean, error) at the common parameters, ``settings`` and
``versions``.  Energies are sums of S.S for Heisenberg and of Pauli matrices for
TFIM.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Workload:
    """A step of a ground-state search, or some of its parts.

    Attributes:
        model: "tfim" (h = J = 1) or "heisenberg" (Marshall gauge, total Sz = 0).
        shape: extent of the periodic lattice.
        alpha: hidden units per site of an RBM; its biases start at 0.  0 is no RBM but
            a residual network, see `resnet`.
        dtype: "real" or "complex" weights.
        n_samples: samples of a step; one sweep of N proposals before each.
        parts: what is timed; the last one is compared: "sampling", "local_energies",
            "step".
    """

    model: str
    shape: tuple[int, ...]
    alpha: int
    dtype: str
    n_samples: int = 1024
    parts: tuple[str, ...] = ("sampling", "local_energies", "step")

    @property
    def n_sites(self) -> int:
        """N."""
        return int(np.prod(self.shape))

    def weights(self) -> np.ndarray:
        """W (N, M) of both sides, from a fixed seed."""
        rng = np.random.default_rng(1)
        shape = (self.n_sites, self.alpha * self.n_sites)
        w = 0.05 * rng.normal(size=shape)
        if self.dtype == "complex":
            return w + 0.05j * rng.normal(size=shape)
        return w

    def resnet(self) -> dict[str, np.ndarray]:
        """Parameters of both sides' residual network, from a fixed seed.

        Convolutions of `CHANNELS` channels over periodic windows of K = `KERNEL`^2
        sites: "first" (C, 1, K), whose outputs x become sqrt(1 + x^2) - 1, then of one
        block "inner" and "outer" (C, C, K) with biases (C,), x + outer(gelu(inner(
        gelu(x)))); "head" (C, C) of gelu(x / sqrt(2)) at every site; psi is the mean of
        the exponentials.
        """
        rng, c, k = np.random.default_rng(1), CHANNELS, KERNEL**2
        he = math.sqrt(2 / (c * k))
        return {
            "first": math.sqrt(2 / k) * rng.normal(size=(c, 1, k)),
            "inner": he * rng.normal(size=(c, c, k)),
            "inner_bias": np.zeros(c),
            "outer": he * rng.normal(size=(c, c, k)),
            "outer_bias": np.zeros(c),
            "head": 0.5 / math.sqrt(c) * rng.normal(size=(c, c)),
        }


#: Of the residual network.
CHANNELS, KERNEL = 8, 5
SAMPLER, ENERGIES = ("sampling",), ("local_energies",)
WORKLOADS = {
    "W1": Workload("tfim", (64,), 4, "real"),
    "W2": Workload("heisenberg", (10, 10), 2, "complex"),
    "W3-complex-128": Workload("tfim", (128,), 4, "complex", parts=SAMPLER),
    "W3-real-256": Workload("tfim", (256,), 1, "real", parts=SAMPLER),
    "W4-tfim-real-64": Workload("tfim", (64,), 4, "real", parts=ENERGIES),
    "W4-tfim-complex-64": Workload("tfim", (64,), 4, "complex", parts=ENERGIES),
    "W4-tfim-real-256": Workload("tfim", (256,), 1, "real", 256, ENERGIES),
    "W4-heisenberg-real-128": Workload(
        "heisenberg", (128,), 4, "real", 512, parts=ENERGIES
    ),
    "W4-heisenberg-complex-64": Workload(
        "heisenberg", (64,), 4, "complex", parts=ENERGIES
    ),
    "W4-heisenberg-complex-128": Workload(
        "heisenberg", (128,), 1, "complex", parts=ENERGIES
    ),
    "W6": Workload("heisenberg", (6, 6), 0, "real", 512),
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


def mean_of(estimates: Sequence[float]) -> dict[str, float]:
    """Mean of estimates of the energy, and its standard error."""
    return {
        "mean": float(np.mean(estimates)),
        "error": float(np.std(estimates, ddof=1) / np.sqrt(len(estimates))),
    }


def serve(
    setting: str,
    every: Sequence[Any],
    measure: Callable[[Any, bool], dict[str, Any]],
    versions: dict[str, str],
) -> None:
    """A peer's side: measure one setting.

    Args:
        setting: its number; "3-quick" is number 3 without an energy.
        every: all settings.
        measure: the row of a setting; whether the energy is asked for.
        versions: of the programs.
    """
    number, _, quick = setting.partition("-")
    one = every[int(number)]
    try:
        row = measure(one, not quick)
    except Exception as error:  # a setting that the peer cannot do is a row too
        row = {"settings": str(one), "error": f"{type(error).__name__}: {error}"}
    report(rows=[row], n_settings=len(every), versions=versions)
