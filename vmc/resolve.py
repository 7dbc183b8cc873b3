"""The rules behind every "auto" of a job.

No rule looks at the name of a model or lattice: only at measured properties, such as
size, sector, stoquasticity, invariance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optax

from vmc import registry
from vmc.base import Problem, WaveFunction
from vmc.distributed import check_divisible
from vmc.errors import JobError
from vmc.job import Job
from vmc.sections import Sampler as SamplerKeys
from vmc.sections import Schedule, Symmetry
from vmc.space import Spins

#: Default learning rates: imaginary-time steps, and Adam's own number.
RATES = {"sr": 0.05, "spring": 0.05, "sgd": 0.05, "adam": 0.005}
#: Samples per step if the job does not say.
N_SAMPLES = 1024


# ---- sector and gauge --------------------------------------------------------


def sector(wanted: Any, free: Any, default: float | None) -> float | None:
    """Total Sz of the sector, or None for all of them.

    Args:
        wanted: "auto", "free" or a number.
        free: the Hamiltonian on the whole space.
        default: sector that a terms file asks for.

    Raises:
        JobError: a sector is asked for that the Hamiltonian does not conserve.
    """
    if wanted == "free":
        return None
    if wanted == "auto":
        if not free.conserves_sz:
            return None
        if default is not None:
            return default
        return 0.5 * (sum(d - 1 for d in free.space.local_dims) % 2)
    if not free.conserves_sz:
        raise JobError(
            f"[hamiltonian] total_sz = {wanted}: the terms do not conserve total Sz, "
            'so there is no such sector; use total_sz = "auto" or "free"'
        )
    return float(wanted)


def gauge(wanted: Any, table: Any, lattice: Any) -> tuple[Any, list[str]]:
    """The Hamiltonian in its sign gauge, and warnings.

    Args:
        wanted: "auto", True, False, or one 0 or 1 per site.
        table: the Hamiltonian in its sector, ungauged.
        lattice: the lattice, or None.

    Raises:
        JobError: Marshall signs without two sublattices, or a list of wrong length.
    """
    warnings: list[str] = []
    n_sites = table.space.n_sites
    if isinstance(wanted, list):
        if len(wanted) != n_sites:
            raise JobError(
                f"[hamiltonian] marshall has {len(wanted)} entries; expected one 0 or "
                f"1 for each of the {n_sites} sites"
            )
        signs = 1 - 2 * np.asarray(wanted, np.int64)
    elif wanted is True:
        edges = None if lattice is None else lattice.edges(1).tolist()
        signs = registry.marshall_signs(table, edges)
    elif wanted is False or table.is_stoquastic:
        signs = None
    else:
        signs = registry.find_sign_gauge(table)
    if signs is not None and np.all(signs == 1):
        signs = None
    gauged = table if signs is None else table.with_signs(signs)
    if not gauged.is_stoquastic:
        warnings.append(
            "sign problem: off-diagonal elements are not all known to be <= 0 ("
            f"{gauged.offdiagonal_sign_structure})"
            + (", and no site signs make them so" if wanted == "auto" else "")
            + "; the wave function has to find its own signs or phases"
        )
    return gauged, warnings


def gauge_bits(hamiltonian: Any) -> list[int] | None:
    """The sign gauge as one 0 or 1 per site; None without one."""
    if hamiltonian.signs is None:
        return None
    return [(1 - sign) // 2 for sign in hamiltonian.signs]


def exchange_edges(hamiltonian: Any) -> np.ndarray:
    """Pairs of sites that some element of the Hamiltonian flips, int (E, 2)."""
    sites = np.asarray(hamiltonian.moves.sites)
    n_sites = hamiltonian.space.n_sites
    pairs = np.sort(sites[np.sum(sites < n_sites, axis=1) == 2], axis=1)[:, :2]
    return np.unique(pairs, axis=0)


def check_connected(space: Spins, edges: np.ndarray) -> None:
    """Refuse exchange moves that cannot reach the whole sector.

    Raises:
        JobError: the bonds fall apart, so that the numbers of up spins in the parts
            would be frozen; or the space is no sector.
    """
    if space.total_sz is None:
        raise JobError(
            "[sampler] exchange moves keep total Sz, but the job is not in a sector of "
            'it: they would never leave that of the random start. Use name = "local", '
            "or fix hamiltonian.total_sz."
        )
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(edges) == 0:
        return  # moves.exchanges has the better message
    ones = np.ones(len(edges), bool)
    graph = coo_array((ones, tuple(np.asarray(edges).T)), shape=(space.n_sites,) * 2)
    n_parts, part = connected_components(graph, directed=False)
    if n_parts > 1:
        cut_off = np.flatnonzero(part != part[0])
        raise JobError(
            f"[sampler] exchange moves cannot reach the whole sector: no bond joins "
            f"site {cut_off[0]} to site 0. Choose a lattice whose bonds connect all "
            'sites, or total_sz = "free" with the local sampler.'
        )


# ---- wave function -----------------------------------------------------------


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
    group, flip = None, False
    resolved: dict[str, Any] = {}
    bits = gauge_bits(hamiltonian) or [0] * hamiltonian.space.n_sites
    if wanted != "none" and not registry.is_user_code(job.ansatz.name):
        group, momentum = _translations(wanted, hamiltonian, lattice, bits)
        flip, parity = _spin_flip(wanted, hamiltonian, bits)
        resolved |= {"momentum": momentum} if group is not None else {}
        resolved |= {"spin_flip": parity} if flip else {}
    elif isinstance(wanted, Symmetry):
        raise JobError(
            "[ansatz] a symmetry table needs a registered ansatz; a module of your own "
            'builds in its own symmetries: use symmetry = "none"'
        )
    problem = Problem(
        space=hamiltonian.space,
        dtype=dtype,
        precision="float64" if job.precision == "float64" else "float32",
        spin_flip=flip,
        symmetry=group,
        shape=None if lattice is None else lattice.shape,
        periodic=() if lattice is None else tuple(lattice.periodic),
    )
    return problem, resolved or "none"


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
        if tuple(perm) not in known or not hamiltonian.is_invariant(np.array(perm)):
            return "the (gauged) Hamiltonian is not invariant under translations"
        change = {bits[image] ^ bits[site] for site, image in enumerate(perm)}
        if len(change) > 1 or (change == {1} and hamiltonian.space.total_sz is None):
            return "the sign gauge has no definite momentum"
    return None


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
    possible = hamiltonian.conserves_spin_flip and not hamiltonian.space.twice_sz
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


# ---- sampler -----------------------------------------------------------------


def sampler_name(wanted: str, space: Spins) -> str:
    """Exchange in a fixed sector, else local."""
    if wanted != "auto":
        return wanted
    return "local" if space.total_sz is None else "exchange"


def sampler_numbers(keys: SamplerKeys, n_devices: int) -> dict[str, int]:
    """n_chains and n_samples.

    Raises:
        JobError: samples are no multiple of chains, or chains of devices.
    """
    chains, samples = keys.n_chains, keys.n_samples
    if chains is None:
        chains = min(N_SAMPLES, samples or N_SAMPLES)
    if samples is None:
        samples = -(-N_SAMPLES // chains) * chains
    check_divisible(chains, n_devices)
    if samples % chains:
        below = samples // chains * chains
        near = " and ".join(str(n) for n in (below, below + chains) if n > 0)
        raise JobError(
            f"[sampler] n_samples = {samples} is no multiple of n_chains = {chains}; "
            f"the nearest valid numbers are {near}"
        )
    return {"n_chains": chains, "n_samples": samples}


# ---- optimiser ---------------------------------------------------------------


def optimizer(job: Job) -> dict[str, Any]:
    """Keys of [optimizer] with the default schedule written out."""
    keys, n_steps = job.optimizer, job.run.n_steps
    rate = keys.learning_rate
    if not isinstance(rate, Schedule):
        init = RATES[keys.name] if rate == "auto" else float(rate)
        begin = 2 * n_steps // 3
        rate = Schedule(
            schedule="cosine",
            init=init,
            end=init / 10,
            begin=begin,
            steps=max(1, n_steps - begin),
        )
    return {"learning_rate": complete(rate, n_steps)}


def complete(schedule: Schedule, n_steps: int) -> Schedule:
    """The schedule with its end and length written out."""
    end = schedule.init / 10 if schedule.end is None else schedule.end
    if schedule.schedule == "constant":
        end = schedule.init
    steps = schedule.steps or max(1, n_steps - schedule.begin)
    return schedule.model_copy(update={"end": end, "steps": steps})


def learning_rate(job: Job, hamiltonian: Any) -> Callable[[Any], Any]:
    """Step -> learning rate, in the units of the Hamiltonian.

    The job's number is a step in units of the inverse mean |off-diagonal element|;
    Adam, whose steps have no energy scale, takes it as it is.
    """
    rate = job.optimizer.learning_rate
    assert isinstance(rate, Schedule)
    scale = float(hamiltonian.mean_offdiagonal)
    unit = 1.0 if job.optimizer.name == "adam" or scale == 0 else 1 / scale
    return to_optax(rate, job.run.n_steps, unit)


def schedule_or(value: Any, n_steps: int) -> Any:
    """A key that may be a schedule: an optax schedule, or the value itself."""
    return to_optax(value, n_steps) if isinstance(value, Schedule) else value


def to_optax(
    schedule: Schedule, n_steps: int, unit: float = 1.0
) -> Callable[[Any], Any]:
    """An optax schedule, times a unit."""
    schedule = complete(schedule, n_steps)
    assert schedule.end is not None and schedule.steps is not None
    init, end = schedule.init * unit, schedule.end * unit
    if schedule.schedule == "constant":
        return optax.constant_schedule(init)
    if schedule.schedule == "cosine":
        tail = optax.cosine_decay_schedule(init, schedule.steps, end / init)
    elif schedule.schedule == "linear":
        tail = optax.linear_schedule(init, end, schedule.steps)
    else:
        tail = optax.exponential_decay(init, schedule.steps, end / init, end_value=end)
    if schedule.begin == 0:
        return tail
    return optax.join_schedules([optax.constant_schedule(init), tail], [schedule.begin])
