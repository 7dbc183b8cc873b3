"""The lowest levels of a Hamiltonian with all that is asked of them, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hamiltonians.diagonalise import MEMORY_LIMIT, ground_states, plan
from hamiltonians.entropies import entanglement
from hamiltonians.lattices import Lattice
from hamiltonians.symmetric import symmetry_sector
from hamiltonians.tables import TermHamiltonian


def spectrum(
    ham: TermHamiltonian,
    k: int = 1,
    *,
    lattice: Lattice | None = None,
    momentum: Sequence[int] | None = None,
    spin_flip: int | None = None,
    point_group: str | None = None,
    cuts: Sequence[Sequence[int]] = (),
    memory_limit: int = MEMORY_LIMIT,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Diagonalise; see `hamiltonians.diagonalise.ground_states`.

    Args:
        ham: the Hamiltonian; its sign gauge is taken off, so that quantum numbers are
            those of the physical frame.
        k: levels wanted, at most all of the sector.
        lattice: for a momentum or point group.
        momentum: see `hamiltonians.symmetric.symmetry_sector`.
        spin_flip: see there.
        point_group: see there.
        cuts: regions whose entanglement with the rest is wanted.
        memory_limit: bytes.
        note: called with the plan (method, dimension, memory) before any work.

    Returns:
        energies (ascending), dimension, method, memory_bytes (estimate), degeneracy,
        gap (None if not among the levels), momentum, spin_flip, point_group, and
        entropies: region, s1, s2 and rank of every cut.  A degenerate ground level has
        no state of its own: its s1, s2 and rank are None.

    Raises:
        JobError: memory is short, or a symmetry or cut does not fit.
    """
    if ham.signs is not None:
        ham = ham.with_signs(ham.signs)
    symmetry = None
    if any(x is not None for x in (momentum, spin_flip, point_group)):
        symmetry = symmetry_sector(ham, lattice, momentum, spin_flip, point_group)
    k = min(k, ham.space.n_states)
    chosen = plan(ham, k, symmetry=symmetry, memory_limit=memory_limit)
    if note is not None:
        note(
            f"{ham.space.n_sites} sites, {'about ' if symmetry else ''}"
            f"{chosen.dimension} states: {chosen.method}, up to "
            f"{chosen.n_bytes / 2**30:.3g} GiB"
        )
    levels = ground_states(ham, k, symmetry=symmetry, memory_limit=memory_limit)
    entropies = []
    for region in cuts:
        cut = entanglement(ham.space, levels.vectors[:, 0], region)
        own = levels.degeneracy == 1
        entropies.append(
            {
                "region": list(cut.region),
                "s1": cut.s1 if own else None,
                "s2": cut.s2 if own else None,
                "rank": len(cut.spectrum) if own else None,
            }
        )
    return {
        "energies": np.asarray(levels.energies, float).tolist(),
        "dimension": ham.space.n_states if symmetry is None else chosen.dimension,
        "method": chosen.method,
        "memory_bytes": chosen.n_bytes,
        "degeneracy": levels.degeneracy,
        "gap": levels.gap,
        "momentum": None if momentum is None else [int(m) for m in momentum],
        "spin_flip": spin_flip,
        "point_group": point_group,
        "entropies": entropies,
    }
