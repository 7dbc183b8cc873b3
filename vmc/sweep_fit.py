"""Energies of several sizes, extrapolated to the infinite system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from vmc.errors import JobError
from vmc.sweep import SIZE
from vmc.sweep_grid import text_of
from vmc.sweep_table import Row, grouped

#: Relative error below which an energy counts as free of noise (a full sum).
NOISELESS = 1e-12
#: Chance of a worse chi^2 below which the fit is doubted.
DOUBT = 0.01


class Fit(NamedTuple):
    """E/N = e_inf + slope / N^power, fitted to several sizes.

    Attributes:
        e_inf: energy per site of the infinite system.
        e_inf_error: its standard error, from those of the energies.
        slope: coefficient of 1 / N^power.
        slope_error: its standard error.
        chi2_per_dof: chi^2 per degree of freedom, None for energies without noise.
        dof: degrees of freedom, number of sizes - 2.
        chance: probability of a larger chi^2 if the formula holds, or None.
    """

    e_inf: float
    e_inf_error: float
    slope: float
    slope_error: float
    chi2_per_dof: float | None
    dof: int
    chance: float | None


def fit_sizes(
    n_sites: Sequence[int],
    energies: Sequence[float],
    errors: Sequence[float],
    power: float = 1.0,
) -> Fit:
    """Weighted least squares of E/N = e_inf + slope / N^power.

    The weights are 1 / error^2, and the errors of the result follow from them alone:
    a large chi^2 is reported, it does not widen them.  Energies without noise are
    weighted equally, and the errors of the result come from the residuals.

    Args:
        n_sites: N, at least three different ones.
        energies: E/N.
        errors: of E/N, one standard error each.
        power: of 1/N.

    Raises:
        JobError: too few sizes, or some energies have an error and others none.
    """
    sizes, e, s = (np.asarray(x, float) for x in (n_sites, energies, errors))
    if len(set(n_sites)) < 3:
        raise JobError(
            f"a fit over sizes needs at least 3 of them that are done; there are "
            f"{len(set(n_sites))}: N = {', '.join(map(str, n_sites)) or 'none'}"
        )
    noiseless = s <= NOISELESS * np.abs(e)
    if noiseless.any() and not noiseless.all():
        known = ", ".join(str(n) for n, no in zip(n_sites, noiseless) if no)
        raise JobError(
            f"the energies of N = {known} have no error bar and the others have one: "
            "they cannot be weighted; sample all sizes or none"
        )
    exact = bool(noiseless.all())
    weights = np.ones_like(s) if exact else 1 / s
    # Of the order of one, so that the normal equations are well conditioned.
    unit = sizes.min() ** power
    matrix = np.stack([np.ones_like(sizes), unit / sizes**power], axis=1)
    matrix *= weights[:, None]
    solution, *_ = np.linalg.lstsq(matrix, e * weights)
    covariance = np.linalg.inv(matrix.T @ matrix)
    chi2 = float(np.sum((matrix @ solution - e * weights) ** 2))
    dof = len(sizes) - 2
    if exact:
        covariance = covariance * chi2 / dof
    deviations = np.sqrt(np.diag(covariance))
    return Fit(
        e_inf=float(solution[0]),
        e_inf_error=float(deviations[0]),
        slope=float(solution[1]) * unit,
        slope_error=float(deviations[1]) * unit,
        chi2_per_dof=None if exact else chi2 / dof,
        dof=dof,
        chance=None if exact else float(special.chdtrc(dof, chi2)),
    )


def extrapolate(
    means: Sequence[Row], keys: Sequence[str], power: float = 1.0
) -> list[dict[str, Any]]:
    """A fit over the sizes for every combination of the other keys.

    Args:
        means: see `vmc.sweep_table.averages`.
        keys: of the grid.
        power: of 1/N.

    Returns:
        Rows with the other keys, "power", "sizes" (N of the fit) and the fields of
        `Fit`.

    Raises:
        JobError: ``lattice.size`` is not in the grid, or a fit is not possible.
    """
    if SIZE not in keys:
        raise JobError(
            f"--extrapolate: {SIZE} is not in the grid of this sweep; sweep it, as "
            f"--grid {SIZE}=8,12,16"
        )
    if not math.isfinite(power) or power <= 0:
        raise JobError(f"--power {power:g}: expected a positive number")
    others = [k for k in keys if k != SIZE and (not means or k in means[0])]
    found = []
    for group in grouped(means, others) or [[]]:
        where = ", ".join(f"{k} = {text_of(group[0][k])}" for k in others if group)
        sizes = [one["n_sites"] for one in group]
        if any(one["error_per_site"] is None for one in group):
            raise JobError(
                f"--extrapolate{' at ' if where else ''}{where}: a size has only one "
                "disorder sample, which has no sample-to-sample error"
            )
        pairs = [(one["energy_per_site"], one["error_per_site"]) for one in group]
        try:
            fit = fit_sizes(sizes, [e for e, _ in pairs], [s for _, s in pairs], power)
        except JobError as error:
            at = f" at {where}" if where else ""
            raise JobError(f"--extrapolate{at}: {error}") from None
        values = {k: group[0][k] for k in others}
        found.append(values | {"power": power, "sizes": sizes} | fit._asdict())
    return found


def doubts(fits: Sequence[Row]) -> list[str]:
    """Warnings about fits whose formula does not hold within the errors."""
    return [
        f"chi^2 per degree of freedom is {fit['chi2_per_dof']:.3g} (chance "
        f"{fit['chance']:.1e}): the energies do not follow e_inf + a / "
        f"N^{fit['power']:g} within their errors, and the error of e_inf is too small; "
        "leave out small sizes or try another --power"
        for fit in fits
        if fit["chance"] is not None and fit["chance"] < DOUBT
    ]
