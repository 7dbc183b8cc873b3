"""Space groups of finite lattices: momentum and point group of a state, by name.

A group element g with permutation perm (the site that each site moves to) acts as
T_g psi(sigma) = psi(sigma[perm]), so that T_g T_h = T_gh with perm_gh = perm_g[perm_h].
A state with one-dimensional quantum numbers has T_g psi = chi_g psi.  Translations by r
give exp(-i k r).  Rotations and reflections belong to them only where they leave k as
it is (the little group of k), and multiply by the characters of their own.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hamiltonians import point_groups
from hamiltonians.lattice_symmetry import point_operations
from hamiltonians.lattices import Lattice
from vmc.errors import JobError


class LittleGroup(NamedTuple):
    """Rotations and reflections that keep a momentum, and their representations.

    Attributes:
        name: what messages call the group.
        perms: int (P, N), the site that each operation moves each site to, about the
            centre of `Lattice.point_group`; identity first.
        irreps: name -> characters (P,) of the one-dimensional representations that
            occur on this cluster, see `hamiltonians.point_groups`.
        larger: first letters of the representations of higher dimension.
    """

    name: str
    perms: np.ndarray
    irreps: dict[str, np.ndarray]
    larger: tuple[str, ...]


class SpaceGroup(NamedTuple):
    """Permutations of the sites and a one-dimensional representation of them.

    Attributes:
        perms: int32 (G, N), closed; translations first, identity first of all.
        characters: (G,), psi(sigma[perms[g]]) = characters[g] psi(sigma); real where
            all are.
        generators: int32 (n, N), which generate the group.
        n_steps: how many of them, the first, are translations.
    """

    perms: np.ndarray
    characters: np.ndarray
    generators: np.ndarray
    n_steps: int


def little_group(
    lattice: Lattice, momentum: Sequence[int] | None = None
) -> LittleGroup:
    """The operations of the point group that leave a momentum as it is.

    Args:
        lattice: the lattice.
        momentum: see `space_group`; None: translations are left out, and all of
            the point group is taken.

    Raises:
        JobError: the momentum does not fit the lattice.
    """
    if lattice.graph_edges is not None:
        perms = lattice.point_group
        trivial = {"A1": np.ones(len(perms))}
        return LittleGroup("the group of all automorphisms", perms, trivial, ())
    rotations, perms = point_operations(lattice)
    first = np.argsort(np.abs(rotations - np.eye(rotations.shape[1])).max(axis=(1, 2)))
    order = np.append(first[0], np.delete(np.arange(len(perms)), first[0]))
    rotations, perms = rotations[order], perms[order]
    translations = np.arange(lattice.n_sites, dtype=np.int32)[None]
    phases = np.ones(1)
    if momentum is not None:
        translations, phases = _translations(lattice, momentum)
    place = {row.tobytes(): t for t, row in enumerate(translations)}
    kept = []
    for g, perm in enumerate(perms):
        inverse = np.argsort(perm)
        images = perm[translations[:, inverse]]
        where = [place.get(row.tobytes(), -1) for row in images]
        if min(where) >= 0 and np.allclose(phases[where], phases, atol=1e-9):
            kept.append(g)
    rotations, perms = rotations[kept], perms[kept]
    found = point_groups.irreps(rotations)
    existing = {
        name: characters
        for name, characters in found.items()
        if _merged(translations, phases, perms, characters) is not None
    }
    larger = point_groups.larger_irreps(rotations)
    return LittleGroup(point_groups.group_name(rotations), perms, existing, larger)


def _merged(
    translations: np.ndarray,
    phases: np.ndarray,
    perms: np.ndarray,
    characters: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """All products of translations and operations, each once, with characters.

    None if equal permutations have different characters: on a very small torus
    rotations may be translations, and the representation does not occur.
    """
    every = translations[:, perms].transpose(1, 0, 2).reshape(-1, perms.shape[1])
    factors = (characters[:, None] * phases[None]).reshape(-1)
    _, once, home = np.unique(every, axis=0, return_index=True, return_inverse=True)
    if np.abs(factors - factors[once][home.reshape(-1)]).max() > 1e-9:
        return None
    once = np.sort(once)
    return every[once], factors[once]


def space_group(
    lattice: Lattice | None,
    momentum: Sequence[int] | None = None,
    point_group: str | None = None,
) -> SpaceGroup:
    """Translations, rotations and reflections with given quantum numbers.

    Args:
        lattice: the lattice.
        momentum: integers m_d; translation by one cell along direction d multiplies
            the state by exp(-2 pi i m_d / L_d), with L_d the number of steps that
            lead back.  None leaves translations out.
        point_group: representation of the little group of the momentum (of the whole
            point group without one), by name; None leaves its operations out.

    Raises:
        JobError: there is no lattice, the momentum does not fit it, or there is no
            such representation of dimension one.
    """
    asked = f"point_group = {point_group!r}"
    if lattice is None:
        what = asked if momentum is None else f"momentum = {list(momentum)}"
        raise JobError(
            f"{what}: a quantum number of the lattice needs a [lattice]; the job has "
            "none"
        )
    translations = np.arange(lattice.n_sites, dtype=np.int32)[None]
    phases, group = np.ones(1), None
    if momentum is not None:
        translations, phases = _translations(lattice, momentum)
    perms, characters = translations, phases
    if point_group is not None:
        group = little_group(lattice, momentum)
        _check_irrep(group, momentum, point_group)
        merged = _merged(translations, phases, group.perms, group.irreps[point_group])
        assert merged is not None
        perms, characters = merged
    steps = [] if momentum is None else _steps(translations)
    extra = [] if group is None else list(group.perms[1:])
    generators = np.array([*steps, *extra], np.int32).reshape(-1, lattice.n_sites)
    if np.abs(np.imag(characters)).max() < 1e-13:
        characters = np.rint(np.real(characters))
    check_representation(perms, characters, generators)
    return SpaceGroup(perms.astype(np.int32), characters, generators, len(steps))


def _check_irrep(group: LittleGroup, momentum: Sequence[int] | None, name: str) -> None:
    if name in group.irreps:
        return
    where = group.name
    if momentum is not None:
        where = f"{where}, which leaves the momentum {list(momentum)} as it is,"
    listed = ", ".join(group.irreps) or "none"
    why = f"{where} has no such representation"
    if group.larger and name[:1].upper() in group.larger:
        why = (
            f"in {where} this representation has a dimension above one: its states "
            "come in multiplets that the operations mix, so that psi has no definite "
            "character"
        )
    near = [known for known in group.irreps if name and known.startswith(name)]
    near += difflib.get_close_matches(name, group.irreps, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else "."
    raise JobError(
        f"point_group = {name!r}: {why}. Those of dimension one are: {listed}{hint}"
    )


def check_representation(
    perms: np.ndarray, characters: np.ndarray, generators: np.ndarray
) -> None:
    """Refuse permutations that are no group, or factors that are no characters.

    Args:
        perms: int (G, N).
        characters: (G,), with characters[gh] = characters[g] characters[h].
        generators: int (n, N), rows of ``perms``.

    Raises:
        JobError: a product is missing, or has another character.
    """
    perms = np.asarray(perms, np.int32)
    place = {row.tobytes(): g for g, row in enumerate(perms)}
    for step in np.asarray(generators, np.int32):
        own = place.get(step.tobytes())
        where = [place.get(row.tobytes()) for row in perms[:, step]]
        if own is None or None in where:
            raise JobError(
                "these permutations of the sites are no group: the product of some "
                f"element with {step.tolist()[:16]} is not among them"
            )
        gap = characters[np.array(where)] - characters * characters[own]
        if np.abs(gap).max() > 1e-9:
            raise JobError("these factors are no one-dimensional representation")


def _steps(translations: np.ndarray) -> list[np.ndarray]:
    """A few translations (commuting permutations) that generate all of them."""
    known = {translations[0].tobytes(): translations[0]}
    found: list[np.ndarray] = []
    for perm in translations:
        if perm.tobytes() in known:
            continue
        found.append(perm)
        members = list(known.values())
        while members:
            members = [row[perm] for row in members]
            members = [row for row in members if row.tobytes() not in known]
            known |= {row.tobytes(): row for row in members}
    return found


def _translations(
    lattice: Lattice, momentum: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """All translations, (T, N), and their characters."""
    wanted = list(momentum)
    directions = len(lattice.periodic)
    if len(wanted) != directions:
        raise JobError(
            f"momentum = {wanted}: expected one integer for each of the {directions} "
            f"directions of {lattice!r} (0 along open ones)"
        )
    for m, closed in zip(wanted, lattice.periodic, strict=True):
        if m and not closed:
            raise JobError(f"momentum = {wanted}: {lattice!r} is open there; use 0")
    turns = np.array(wanted) / np.array(orders(lattice))
    around = lattice.grid.spanning @ turns
    if np.any(np.abs(around - np.rint(around))[list(lattice.periodic)] > 1e-9):
        raise JobError(
            f"momentum = {wanted} does not fit the periods "
            f"{lattice.grid.spanning.tolist()} of {lattice!r}: each period times "
            f"{turns.tolist()} must be an integer"
        )
    perms, shifts = lattice._translations
    return perms, np.exp(-2j * np.pi * (shifts @ turns))


def orders(lattice: Lattice) -> list[int]:
    """Steps along each direction that lead back; 1 along open ones."""
    cells = lattice.grid.cells()
    orders = []
    for axis, closed in enumerate(lattice.periodic):
        order = 1
        step = np.eye(len(lattice.periodic), dtype=cells.dtype)[axis]
        while closed and not np.array_equal(
            lattice.site(cells + order * step), lattice.site(cells)
        ):
            order += 1
        orders.append(order)
    return orders
