"""What the cells of several peers share; NumPy and the standard library only.

A cell is described in `vmc.bench_peers`; energies are in the units of its terms, and
sigma = +1 is "up" in all of them.
"""

from __future__ import annotations

import time

#: Wall time at the start of the process, as near as a module can tell.
BEGAN = time.time()

import itertools  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

#: A product of local operators: coefficient, letters of "XYZ+-", sites.  "+" is
#: |up><down| = (X + iY) / 2, "-" its adjoint.
String = tuple[complex, str, tuple[int, ...]]


def read(path: str) -> dict[str, Any]:
    """The cell in a file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def number(value: Any) -> complex:
    """A coefficient of a cell: a number, or [real, imaginary]."""
    return complex(*value) if isinstance(value, list) else complex(value)


def ladders(terms: list[list[Any]]) -> list[String]:
    """The terms, with XX and YY of a pair of sites in raising and lowering operators.

    a XX + b YY = (a + b) (+- and -+) + (a - b) (++ and --): what would cancel outside
    of a sector of total Sz is not there at all, and everything stays real.

    Args:
        terms: of the cell, [coefficient, "XYZ", [sites]].
    """
    pairs: dict[tuple[int, ...], list[complex]] = {}
    strings: list[String] = []
    for coefficient, ops, sites in terms:
        if ops in ("XX", "YY"):
            both = pairs.setdefault(tuple(sorted(sites)), [0j, 0j])
            both[ops == "YY"] += number(coefficient)
        else:
            strings.append((number(coefficient), ops, tuple(sites)))
    for sites, (a, b) in pairs.items():
        for weight, words in ((a + b, ("+-", "-+")), (a - b, ("++", "--"))):
            if weight != 0:
                strings += [(weight, word, sites) for word in words]
    return strings


def exchanged(cell: dict[str, Any]) -> list[tuple[int, int]]:
    """Pairs that a sampler exchanges: the edges, or all where there is no lattice."""
    n = cell["n_sites"]
    edges = [(int(i), int(j)) for i, j in cell["edges"]]
    return edges or list(itertools.combinations(range(n), 2))


def columns(cell: dict[str, Any]) -> np.ndarray | None:
    """Index of the filter's entry in the full weights of a symmetric RBM.

    theta_(a, g) = sum_i w_(a, i) sigma_(g i) = sum_j w_(a, table[g, j]) sigma_j.

    Returns:
        table (G, N), or None without translations.
    """
    if not cell["translations"]:
        return None
    return np.argsort(np.asarray(cell["translations"]), axis=1)


def initial(cell: dict[str, Any], width: float | None = None) -> dict[str, np.ndarray]:
    """Normally distributed parameters of an RBM.

    Args:
        cell: what was asked for.
        width: of the distribution; None is NetKet's: 0.01, or 0.1 with a symmetry.

    Returns:
        "W" (N, M), "b" (M,), "a" (N,); of a symmetric RBM the filters (alpha, N), their
        biases (alpha,) and one visible bias (1,).
    """
    n, alpha = cell["n_sites"], cell["alpha"]
    if cell["translations"]:
        shapes = {"W": (alpha, n), "b": (alpha,), "a": (1,)}
    else:
        shapes = {"W": (n, alpha * n), "b": (alpha * n,), "a": (n,)}
    if width is None:
        width = 0.1 if cell["translations"] else 0.01
    rng = np.random.default_rng(cell["seed"])
    params = {}
    for name, shape in shapes.items():
        params[name] = width * rng.normal(size=shape)
        if not cell["real"]:
            imaginary = width * rng.normal(size=shape)
            params[name] = (params[name] + 1j * imaginary) / np.sqrt(2)
    return params


def statistics(values: np.ndarray) -> dict[str, float]:
    """Estimate of the mean from chains that are independent of one another.

    Args:
        values: (T, B), T draws of B chains.

    Returns:
        mean, error (from the scatter of the chains), variance of one value, tau =
        T B error^2 / variance of the real part (1 for independent draws) and R-hat
        (not of split chains).
    """
    n_draws, n_chains = values.shape
    chains = values.real.mean(axis=0)
    variance = float(np.mean(np.abs(values - values.mean()) ** 2))
    real = float(values.real.var())
    error = float(chains.std(ddof=1) / np.sqrt(n_chains))
    within = float(values.real.var(axis=0, ddof=1).mean()) if n_draws > 1 else 0.0
    between = float(chains.var(ddof=1))
    r_hat = np.sqrt((n_draws - 1) / n_draws + between / within) if within else 1.0
    return {
        "mean": float(chains.mean()),
        "error": error,
        "variance": variance,
        "tau": values.size * error**2 / real if real else 1.0,
        "r_hat": float(r_hat),
    }


def run(
    cell: dict[str, Any],
    step: Callable[[], tuple[float, float]],
    local: Callable[[], np.ndarray],
    n_parameters: int,
    versions: dict[str, str],
) -> None:
    """Optimise within the budget, measure, and print the line of the result.

    Args:
        cell: what was asked for.
        step: makes a step; mean and variance of its local energies.
        local: draws ``n_samples`` configurations, one of each of as many chains, and
            gives their local energies.
        n_parameters: of the net.
        versions: of the programs.
    """
    constant, n_samples = number(cell["constant"]).real, cell["n_samples"]

    def point() -> tuple[float, float]:
        mean, variance = step()
        return mean + constant, float(np.sqrt(variance / n_samples))

    series = optimise(cell, point)
    began = time.time()
    n_draws = -(-cell["measure_samples"] // n_samples)
    values = np.stack([np.asarray(local()) for _ in range(n_draws)]) + constant
    measured = statistics(values) | {"n_samples": int(values.size)}
    report(series, measured, began, n_parameters, versions)


def optimise(
    cell: dict[str, Any], point: Callable[[], tuple[float, float]]
) -> dict[str, list[float]]:
    """Steps until the budget is spent.

    Args:
        cell: what was asked for.
        point: makes a step; energy of its samples and the standard error.

    Returns:
        energies, errors and times, which count from the start of the process.
    """
    series: dict[str, list[float]] = {"energies": [], "errors": [], "times": []}
    while len(series["times"]) < cell["max_steps"]:
        energy, error = point()
        now = time.time() - BEGAN
        for name, value in zip(series, (energy, error, now), strict=True):
            series[name].append(value)
        if now >= cell["seconds"]:
            break
    return series


def report(
    series: dict[str, list[float]],
    measured: dict[str, Any],
    began: float,
    n_parameters: int,
    versions: dict[str, str],
) -> None:
    """Print the line of the result.

    Args:
        series: from `optimise`.
        measured: final energy and its statistics, n_samples among them.
        began: time at which the measurement did.
        n_parameters: of the net.
        versions: of the programs.
    """
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {
        **measured,
        **series,
        "n_parameters": int(n_parameters),
        "measure_seconds": time.time() - began,
        "seconds": time.time() - BEGAN,
        "peak_memory_mib": memory,
        "versions": versions,
    }
    print("RESULT " + json.dumps(result), flush=True)
