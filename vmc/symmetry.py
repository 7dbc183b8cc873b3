"""What an ansatz is told of the problem: arithmetic, symmetries, quantum numbers.

An ansatz lives in the sign gauge, psi_physical = prod_i a_i^n_i psi with n_i the local
index.  A permutation of the sites, or the spin flip, multiplies the gauge factor by a
sign; the characters of psi are the physical ones, which a job asks for and which are
recorded, times that sign.
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

#: Largest space, in states, in which the states of a symmetry are counted.
LISTED = 1 << 12


def problem(job: Job, hamiltonian: Any, lattice: Any) -> tuple[Problem, Any]:
    """What the ansatz may know, and the resolved value of ``ansatz.symmetry``.

    Raises:
        JobError: a quantum number is asked for that psi cannot have.
    """
    assert job.ansatz is not None
    wanted = job.ansatz.symmetry
    dtype = job.ansatz.dtype
    # A positive psi is orthogonal to nothing positive, and need not be invariant.
    excited = bool(job.run.orthogonal_to)
    if dtype == "auto":
        positive = hamiltonian.is_stoquastic and not excited
        dtype = "real" if positive else "complex"
    made = Problem(
        space=hamiltonian.space,
        dtype=dtype,
        precision="float64" if job.precision == "float64" else "float32",
        shape=None if lattice is None else lattice.shape,
        periodic=() if lattice is None else tuple(lattice.periodic),
    )
    bits = resolve.gauge_bits(hamiltonian) or [0] * hamiltonian.space.n_sites
    resolved: dict[str, Any] = {}
    if isinstance(wanted, Symmetry):
        try:
            made, resolved = _asked(wanted, made, hamiltonian, lattice, bits)
        except JobError as error:
            raise JobError(f"[ansatz.symmetry] {error}") from error
    elif wanted == "auto" and not (excited or factories.is_user_code(job.ansatz.name)):
        name = str(job.ansatz.name)
        honoured = registry.ansatz_symmetries(name, made, job.ansatz.keys)
        if "translations" in honoured:
            group, momentum = _translations(hamiltonian, lattice, bits)
            made = made._replace(symmetry=group)
            resolved |= {"momentum": momentum} if group is not None else {}
        if "spin_flip" in honoured:
            flip, parity = _spin_flip(hamiltonian, bits)
            made = made._replace(spin_flip=flip)
            resolved |= {"spin_flip": parity} if flip else {}
    return made, resolved or "none"


def _asked(
    wanted: Symmetry, made: Problem, hamiltonian: Any, lattice: Any, bits: list[int]
) -> tuple[Problem, dict[str, Any]]:
    """The problem with the quantum numbers of a job, and these without gaps.

    Raises:
        JobError: the lattice, the Hamiltonian or the sign gauge does not have them.
    """
    momentum, irrep, parity = wanted.momentum, wanted.point_group, wanted.spin_flip
    if momentum is not None and lattice is not None and len(lattice.translations) < 2:
        raise JobError(
            f"momentum = {momentum}: the lattice is open in every direction, so there "
            "are no translations. Leave momentum out."
        )
    if momentum is not None or irrep is not None:
        perms, physical = registry.space_group(hamiltonian, lattice, momentum, irrep)
        signs = _gauge_signs(np.asarray(perms), bits, hamiltonian.space)
        characters = physical * signs
        trivial = np.all(characters == 1)
        made = made._replace(
            symmetry=np.asarray(perms), characters=None if trivial else characters
        )
    if parity is not None:
        registry.check_flip(hamiltonian, parity)
        sign = _flip_sign(hamiltonian.space, bits)
        made = made._replace(spin_flip=True, flip_character=parity * sign)
    numbers = wanted.model_dump(exclude_none=True)
    if numbers and hamiltonian.space.n_states <= LISTED:
        parts = (hamiltonian, lattice, momentum, parity, irrep)
        if registry.sector_dimension(*parts) == 0:
            raise JobError(
                f"{numbers}: no state has all of these quantum numbers (in the space "
                f"{hamiltonian.space.label or 'of all configurations'}): psi would "
                "vanish everywhere. Ask for others."
            )
    return made, numbers


def _gauge_signs(perms: np.ndarray, bits: list[int], space: Spins) -> np.ndarray:
    """What the gauge factor of sigma[perm] is of that of sigma, +1 or -1, (G,).

    Raises:
        JobError: it depends on the configuration.
    """
    gauge = np.asarray(bits)
    change = gauge[perms] ^ gauge[None]
    odd = change[:, 0] == 1
    mixed = np.any(change != change[:, :1], axis=1)
    if space.total_sz is None:
        mixed |= odd
    if np.any(mixed):
        perm = perms[np.argmax(mixed)].tolist()
        moves = ", ".join(f"{i} to {p}" for i, p in enumerate(perm[:4]))
        raise JobError(
            "in the sign gauge of this job (hamiltonian.marshall) the operation that "
            f"moves site {moves}, ... is no permutation of amplitudes: it changes "
            "signs that depend on the configuration. Set hamiltonian.marshall = false, "
            "or ask for fewer symmetries."
        )
    return np.where(odd & (_n_lowered(space) % 2 == 1), -1.0, 1.0)


def _flip_sign(space: Spins, bits: list[int]) -> int:
    """What the gauge factor of -sigma is of that of sigma, +1 or -1."""
    return -1 if sum(b * (d - 1) for b, d in zip(bits, space.local_dims)) % 2 else 1


def _translations(
    hamiltonian: Any, lattice: Any, bits: list[int]
) -> tuple[np.ndarray | None, list[int]]:
    """Translations under which a positive psi is invariant, and its momentum.

    The network is invariant in the gauge; the gauge adds a momentum of 0 or pi.
    """
    if not hamiltonian.is_stoquastic or not _are_built_in(hamiltonian, lattice, bits):
        return None, []
    lowered = _n_lowered(hamiltonian.space)
    momentum = []
    for perm, order in zip(_generators(lattice), _orders(lattice), strict=True):
        odd = perm is not None and bits[perm[0]] != bits[0]
        momentum.append(order // 2 if odd and lowered % 2 else 0)
    return np.asarray(lattice.translations), momentum


def _are_built_in(hamiltonian: Any, lattice: Any, bits: list[int]) -> bool:
    """Whether translations are symmetries, with a definite momentum in the gauge."""
    if lattice is None or len(lattice.translations) < 2:
        return False
    known = {tuple(row) for row in np.asarray(lattice.translations).tolist()}
    for perm in _generators(lattice):
        if perm is None:
            continue
        if tuple(perm) not in known or not _invariant(hamiltonian, perm):
            return False
        change = {bits[image] ^ bits[site] for site, image in enumerate(perm)}
        if len(change) > 1 or (change == {1} and hamiltonian.space.total_sz is None):
            return False
    return True


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


def _spin_flip(hamiltonian: Any, bits: list[int]) -> tuple[bool, int]:
    """Whether psi is even under the spin flip in the gauge; its physical parity.

    Without a sign problem the ground state is positive, hence even.  Otherwise the
    parity of the ground state is not known, and is fixed only if the job says so.
    """
    space = hamiltonian.space
    possible = hamiltonian.conserves_spin_flip and not space.twice_sz
    possible = possible and not space.has_rules
    return possible and hamiltonian.is_stoquastic, _flip_sign(space, bits)


def check_range(wavefunction: WaveFunction, hamiltonian: Any) -> list[str]:
    """Warn about a positive psi for a Hamiltonian with a sign problem."""
    if wavefunction.range == "positive" and not hamiltonian.is_stoquastic:
        return [
            "the wave function is positive in this gauge, but the Hamiltonian has a "
            "sign problem there: the energy stays above the ground state by a fixed "
            'amount. Use ansatz.dtype = "complex".'
        ]
    return []
