"""What an ansatz is told of the problem: arithmetic, symmetries, quantum numbers.

A network is invariant in the sign gauge; the gauge turns that into quantum numbers of
the physical state, which are what a job may ask for and what is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vmc import factories, registry, resolve
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.job import Job
from vmc.sections import Symmetry
from vmc.space import Spins


def problem(job: Job, hamiltonian: Any, lattice: Any) -> tuple[Problem, Any]:
    """What the ansatz may know, and the resolved value of ``ansatz.symmetry``.

    Raises:
        JobError: a quantum number is asked for that psi cannot have.
    """
    assert job.ansatz is not None
    wanted = job.ansatz.symmetry
    dtype = job.ansatz.dtype
    if dtype == "auto":
        dtype = "real" if hamiltonian.is_stoquastic else "complex"
    made = Problem(
        space=hamiltonian.space,
        dtype=dtype,
        precision="float64" if job.precision == "float64" else "float32",
        shape=None if lattice is None else lattice.shape,
        periodic=() if lattice is None else tuple(lattice.periodic),
    )
    resolved: dict[str, Any] = {}
    bits = resolve.gauge_bits(hamiltonian) or [0] * hamiltonian.space.n_sites
    if wanted != "none" and not factories.is_user_code(job.ansatz.name):
        name = str(job.ansatz.name)
        honoured = registry.ansatz_symmetries(name, made, job.ansatz.keys)
        # What a job asks for by name is passed on: the family says why it refuses.
        if "translations" in honoured or isinstance(wanted, Symmetry):
            group, momentum = _translations(wanted, hamiltonian, lattice, bits)
            made = made._replace(symmetry=group)
            resolved |= {"momentum": momentum} if group is not None else {}
        if "spin_flip" in honoured:
            flip, parity = _spin_flip(wanted, hamiltonian, bits)
            made = made._replace(spin_flip=flip)
            resolved |= {"spin_flip": parity} if flip else {}
        elif isinstance(wanted, Symmetry) and wanted.spin_flip is not None:
            raise JobError(
                f"[ansatz.symmetry] spin_flip = {wanted.spin_flip}: {name!r} cannot be "
                "built even or odd under the spin flip. Leave spin_flip out."
            )
    elif isinstance(wanted, Symmetry):
        raise JobError(
            "[ansatz] a symmetry table needs a registered ansatz; a module of your own "
            'builds in its own symmetries: use symmetry = "none"'
        )
    return made, resolved or "none"


def _translations(
    wanted: Any, hamiltonian: Any, lattice: Any, bits: list[int]
) -> tuple[np.ndarray | None, list[int]]:
    """Translation group to build in, and its physical momentum.

    The network is invariant in the gauge; the gauge adds a momentum of 0 or pi.
    """
    table = isinstance(wanted, Symmetry)
    asked = wanted.momentum if table else None
    if table and asked is None:
        return None, []
    reason = _no_translations(hamiltonian, lattice, bits)
    if reason is None and not table and not hamiltonian.is_stoquastic:
        return None, []
    if reason is not None:
        if asked is not None:
            raise JobError(f"[ansatz.symmetry] momentum = {asked}: {reason}")
        return None, []
    lowered = _n_lowered(hamiltonian.space)
    momentum = []
    for perm, order in zip(_generators(lattice), _orders(lattice), strict=True):
        odd = perm is not None and bits[perm[0]] != bits[0]
        momentum.append(order // 2 if odd and lowered % 2 else 0)
    if asked is not None and asked != momentum:
        raise JobError(
            f"[ansatz.symmetry] momentum = {asked}: in this sign gauge the ansatz has "
            f'momentum {momentum}. Take that, another hamiltonian.marshall, or "none".'
        )
    return np.asarray(lattice.translations), momentum


def _no_translations(hamiltonian: Any, lattice: Any, bits: list[int]) -> str | None:
    """Why translations cannot be built in, or None if they can."""
    if lattice is None:
        return "there is no lattice to translate"
    if len(lattice.translations) < 2:
        return "the lattice is open in every direction"
    generators = [perm for perm in _generators(lattice) if perm is not None]
    known = {tuple(row) for row in np.asarray(lattice.translations).tolist()}
    for perm in generators:
        if tuple(perm) not in known or not _invariant(hamiltonian, perm):
            return "the (gauged) Hamiltonian is not invariant under translations"
        change = {bits[image] ^ bits[site] for site, image in enumerate(perm)}
        if len(change) > 1 or (change == {1} and hamiltonian.space.total_sz is None):
            return "the sign gauge has no definite momentum"
    return None


def _invariant(hamiltonian: Any, perm: list[int]) -> bool:
    images = np.array(perm)
    return hamiltonian.is_invariant(images) and hamiltonian.space.is_invariant(images)


def _generators(lattice: Any) -> list[list[int] | None]:
    """Translation by one cell along each direction; None where it is open.

    ``perm[i]`` is the site that site i moves to.
    """
    cells = lattice.grid.cells()
    basis = np.arange(len(lattice.basis))
    generators: list[list[int] | None] = []
    for axis, closed in enumerate(lattice.periodic):
        step = np.eye(len(lattice.periodic), dtype=cells.dtype)[axis]
        perm = lattice.site((cells + step)[:, None], basis).reshape(-1)
        generators.append(perm.tolist() if closed else None)
    return generators


def _orders(lattice: Any) -> list[int]:
    """How often each generator has to be applied to give the identity."""
    orders = []
    for perm in _generators(lattice):
        image, order = perm, 1
        while image is not None and image != list(range(len(image))):
            image, order = [perm[i] for i in image], order + 1  # type: ignore[index]
        orders.append(order)
    return orders


def _n_lowered(space: Spins) -> int:
    """Sum of the local indices (d - 1 - sigma) / 2 in a sector: down spins; or 0."""
    if space.twice_sz is None:
        return 0
    return (sum(d - 1 for d in space.local_dims) - space.twice_sz) // 2


def _spin_flip(wanted: Any, hamiltonian: Any, bits: list[int]) -> tuple[bool, int]:
    """Whether psi is even under the spin flip in the gauge; its physical parity.

    Without a sign problem the ground state is positive, hence even.  Otherwise the
    parity of the ground state is not known, and is fixed only if the job says so.
    """
    asked = wanted.spin_flip if isinstance(wanted, Symmetry) else None
    if isinstance(wanted, Symmetry) and asked is None:
        return False, 1
    space = hamiltonian.space
    possible = hamiltonian.conserves_spin_flip and not space.twice_sz
    possible = possible and not space.has_rules
    dims = hamiltonian.space.local_dims
    parity = -1 if sum(b * (d - 1) for b, d in zip(bits, dims)) % 2 else 1
    if asked is None:
        return possible and hamiltonian.is_stoquastic, parity
    if not possible:
        raise JobError(
            f"[ansatz.symmetry] spin_flip = {asked}: the Hamiltonian (or its sector) "
            "is not symmetric under the global spin flip"
        )
    if asked != parity:
        raise JobError(
            f"[ansatz.symmetry] spin_flip = {asked}: in this sign gauge the ansatz has "
            f"spin_flip = {parity}. Take that, or leave spin_flip out."
        )
    return True, parity


def check_range(wavefunction: WaveFunction, hamiltonian: Any) -> list[str]:
    """Warn about a positive psi for a Hamiltonian with a sign problem."""
    if wavefunction.range == "positive" and not hamiltonian.is_stoquastic:
        return [
            "the wave function is positive in this gauge, but the Hamiltonian has a "
            "sign problem there: the energy stays above the ground state by a fixed "
            'amount. Use ansatz.dtype = "complex".'
        ]
    return []
