"""Couplings of a model: one number, one per bond or site, or a random distribution."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from hamiltonians.lattices import Bonds, Lattice
from hamiltonians.scalars import real_number
from vmc.errors import JobError

#: A number; a list with one number per bond (order of ``lattice.edges(n)``), site or
#: whatever else the model says (pair of sites, star, ...); or a table:
#: ``{by_color = [x, y, ...]}`` one number per bond colour,
#: ``{by_sublattice = [a, b]}`` one number per sublattice,
#: ``{distribution = "normal", mean = 0, std = 1}``,
#: ``{distribution = "uniform", low = 0, high = 1}``,
#: ``{distribution = "choice", values = [-1, 1]}``, drawn with ``disorder_seed``.
Coupling: TypeAlias = float | Sequence[float] | np.ndarray | Mapping[str, Any]

_DISTRIBUTIONS = {
    "normal": {"mean": 0.0, "std": 1.0},
    "uniform": {"low": 0.0, "high": 1.0},
    "choice": {"values": (-1.0, 1.0)},
}


def number(name: str, value: Any) -> float:
    """A finite real number, or a `JobError` that names the coupling.

    NumPy's and JAX's numbers are as good as Python's; a bool is none.
    """
    real = real_number(value)
    if real is None or not math.isfinite(real):
        raise JobError(f"{name} = {value!r} must be a finite real number")
    return real


def per_bond(
    lattice: Lattice, name: str, value: Coupling, shell: int, seed: int | None
) -> np.ndarray:
    """The coupling of every bond of a shell, float (n_edges,)."""
    bonds = lattice.bonds(shell)
    if isinstance(value, Mapping) and "by_color" in value:
        _only(name, value, {"by_color"})
        n_colors = int(bonds.colors.max(initial=-1)) + 1
        what = f"bond colours of shell {shell}"
        return _list(name, value["by_color"], n_colors, what)[bonds.colors]
    return values(name, value, len(bonds.sites), f"bonds of shell {shell}", seed)


def per_site(
    lattice: Lattice, name: str, value: Coupling, seed: int | None
) -> np.ndarray:
    """The coupling of every site, float (N,)."""
    if isinstance(value, Mapping) and "by_sublattice" in value:
        _only(name, value, {"by_sublattice"})
        if lattice.sublattice is None:
            raise JobError(
                f"{name} is given by sublattice, but {lattice!r} is not bipartite: "
                "give one number per site"
            )
        return _list(name, value["by_sublattice"], 2, "sublattices")[lattice.sublattice]
    return values(name, value, lattice.n_sites, "sites", seed)


def values(
    name: str, value: Coupling, n: int, what: str, seed: int | None
) -> np.ndarray:
    """A coupling as n numbers, float (n,).

    Args:
        name: key of the coupling, for messages and for its own random stream.
        value: see `Coupling`.
        n: how many are needed.
        what: of what, in the plural.
        seed: ``disorder_seed``.

    Raises:
        JobError: not finite, of a wrong length, an unknown distribution, or a
            distribution without a seed.
    """
    if isinstance(value, Mapping):
        return _draw(name, value, n, seed)
    if _is_listed(value):
        return _list(name, value, n, what)
    return np.full(n, number(name, value))


def is_zero(value: Coupling) -> bool:
    """True for a plain 0, which switches a term off altogether."""
    return real_number(value) == 0.0


def random_stream(name: str, seed: int | None) -> np.random.Generator:
    """The random numbers of one coupling; other couplings do not disturb it."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise JobError(
            f"{name} is random: give disorder_seed, a whole number of at least 0 "
            f"(got {seed!r}). It is apart from the seed of the run, so that several "
            "runs can share one realisation."
        )
    return np.random.default_rng([int(seed), zlib.crc32(name.encode())])


def bond_phases(
    lattice: Lattice, bonds: Bonds, twist: Any, *, spread: bool = True
) -> np.ndarray | None:
    """Phase of S+_i S-_j on every bond (i, j) of a twisted boundary, (n_edges,).

    A path once around period d collects twist[d].  None without a twist.

    Args:
        lattice: the torus.
        bonds: one of its shells.
        twist: an angle (along the first direction), or one per direction.
        spread: True shares it evenly, so that translations stay symmetries: right
            where the exchange is invariant under rotations about z.  False puts it
            on the bonds that cross the boundary, right always.

    Raises:
        JobError: a twist along an open direction, on a graph, or on a torus so small
            that a bond has two equally short images.
    """
    given = list(twist) if _is_listed(twist) else [twist]
    angles = [number("twist", angle) for angle in given]
    if not any(angles):
        return None
    directions = len(lattice.vectors)
    if len(angles) > directions:
        raise JobError(
            f"twist = {twist!r} has {len(angles)} angles, but {lattice!r} has "
            f"{directions} directions"
        )
    theta = np.zeros(directions)
    theta[: len(angles)] = angles
    if np.any(theta[~np.asarray(lattice.periodic, bool)]):
        raise JobError(
            f"twist = {twist!r} along an open direction of {lattice!r} has no effect; "
            "set it to 0 or make that direction periodic"
        )
    if bonds.meets_itself:
        raise JobError(
            f"{lattice!r} is too small for a twist: some bond reaches the same site in "
            "two ways with different phases. Use at least 3 cells per direction."
        )
    turns = np.linalg.pinv(lattice.grid.spanning @ lattice.vectors)
    if spread:
        return bonds.vectors @ turns @ theta
    first, second = lattice.positions[bonds.sites[:, 0]], lattice.positions
    crossed = (first + bonds.vectors - second[bonds.sites[:, 1]]) @ turns
    return np.rint(crossed) @ theta


def _is_listed(value: Any) -> bool:
    """True for a list or an array of at least one dimension."""
    if isinstance(value, Sequence):
        return not isinstance(value, str)
    return getattr(value, "ndim", 0) > 0


def _list(name: str, value: Any, n: int, what: str) -> np.ndarray:
    each = list(value) if _is_listed(value) else [value]
    if len(each) != n:
        raise JobError(
            f"{name} has {len(each)} entries, expected one number or one for each of "
            f"the {n} {what}"
        )
    return np.array([number(f"{name}[{i}]", v) for i, v in enumerate(each)], float)


def _only(name: str, table: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(table) - known):
        raise JobError(
            f"{name} has the unknown key {unknown[0]!r}; expected {sorted(known)}"
        )


def _draw(name: str, table: Mapping[str, Any], n: int, seed: int | None) -> np.ndarray:
    kind = table.get("distribution")
    if not isinstance(kind, str) or kind not in _DISTRIBUTIONS:
        raise JobError(
            f"{name} = {dict(table)!r}: expected a number, a list, or a table with "
            f"distribution = one of {', '.join(_DISTRIBUTIONS)} (for bonds also "
            "by_color, for sites by_sublattice)"
        )
    _only(name, table, {"distribution", *_DISTRIBUTIONS[kind]})
    keys = {**_DISTRIBUTIONS[kind], **table}
    rng = random_stream(name, seed)
    if kind == "choice":
        options = keys["values"] if _is_listed(keys["values"]) else [keys["values"]]
        if len(options) == 0:
            raise JobError(
                f"{name}.values = [] leaves nothing to choose from; give at least one "
                "number, as values = [-1, 1]"
            )
        return rng.choice(_list(f"{name}.values", options, len(options), "values"), n)
    first, second = (number(f"{name}.{k}", keys[k]) for k in _DISTRIBUTIONS[kind])
    if kind == "normal" and second < 0:
        raise JobError(f"{name}.std = {second} must not be negative")
    if kind == "uniform" and second < first:
        raise JobError(f"{name}: high = {second} is below low = {first}")
    draw = rng.normal if kind == "normal" else rng.uniform
    return draw(first, second, n)
