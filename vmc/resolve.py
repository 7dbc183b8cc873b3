"""The rules behind every "auto" of a job.

No rule looks at the name of a model or lattice: only at measured properties, such as
size, sector, stoquasticity, invariance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from vmc import registry
from vmc.errors import JobError
from vmc.job import Job
from vmc.sections import Schedule

#: Default learning rates: imaginary-time steps, and Adam's own number.
RATES = {"sr": 0.05, "spring": 0.05, "march": 0.05, "sgd": 0.05, "adam": 0.005}
#: Random configurations that the size of a term is averaged over.
GAUGE_SAMPLES = 512
#: Largest space, in states, in which the sectors are compared.
COMPARED = 1 << 12


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
        if free.moves.n_moves == 0:
            return None  # every state is an eigenstate: no sector is the natural one
        return 0.5 * (sum(d - 1 for d in free.space.local_dims) % 2)
    if not free.conserves_sz:
        raise JobError(
            f"[hamiltonian] total_sz = {wanted}: the terms do not conserve total Sz, "
            'so there is no such sector; use total_sz = "auto" or "free"'
        )
    return float(wanted)


def other_sectors(free: Any, table: Any) -> list[str]:
    """Warnings that the ground state may lie outside an automatically chosen sector.

    Small systems are diagonalised; in larger ones a field along z is seen.

    Args:
        free: the Hamiltonian on the whole space.
        table: the Hamiltonian in the sector.
    """
    sector = f'[hamiltonian] total_sz = "auto" chose {table.space.total_sz:g}'
    cure = 'Set total_sz to the sector you want, or to "free".'
    if free.space.n_states <= COMPARED:
        lowest, here = registry.ground_energy(free), registry.ground_energy(table)
        if here - lowest > 1e-9 * max(1.0, abs(lowest)):
            return [
                f"{sector}, but the ground state lies in another sector: its energy is "
                f"{lowest:.9g}, the lowest here {here:.9g}. {cure}"
            ]
    elif not free.conserves_spin_flip:
        return [
            f"{sector}, but the terms tell up from down: the ground state may lie in "
            f"another sector. {cure}"
        ]
    return []


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
        if signs is None:
            signs = nearest_signs(table)
    if signs is not None and np.all(signs == 1):
        signs = None
    gauged = table if signs is None else table.with_signs(signs)
    if not gauged.is_stoquastic:
        warnings.append(
            "sign problem: off-diagonal elements are not all known to be <= 0 ("
            f"{gauged.offdiagonal_sign_structure})"
            + (", and no site signs make all so" if wanted == "auto" else "")
            + "; the wave function has to find its own signs or phases"
        )
    return gauged, warnings


def nearest_signs(table: Any) -> np.ndarray:
    """Site signs that make the largest off-diagonal elements negative, where not all.

    The equations of the exact gauge, one per move with the sign of its mean real part
    over random configurations, are taken in the order of that part's size; those that
    contradict earlier ones are left out.  A complex ansatz starts near the ground
    state of the largest terms: for J1 > J2 > 0 that is the Marshall rule.

    Returns:
        int (N,) of +1 and -1.
    """
    n_sites = table.space.n_sites
    words = np.random.default_rng(0).integers(
        0, 2**32, (n_sites, GAUGE_SAMPLES), np.uint32
    )
    elements = table.elements(table.space.random(jnp.asarray(words)))
    means = np.asarray(jnp.mean(elements.real, axis=1))
    # Rounded, so that equal terms keep their order on every machine.
    sizes = np.round(np.abs(means) / max(np.abs(means).max(initial=0.0), 1e-300), 1)
    pivots: dict[int, int] = {}
    for move in np.argsort(-sizes, kind="stable"):
        if sizes[move] == 0:
            break
        sites = np.asarray(table.moves.sites)[move]
        row = sum(1 << int(i) for i in sites if i < n_sites)
        row |= int(means[move] > 0) << n_sites
        while (low := row & -row) in pivots:
            row ^= pivots[low]
        if 0 < low < 1 << n_sites:
            pivots[low] = row
    bits = np.zeros(n_sites, np.int64)
    for low in sorted(pivots, reverse=True):
        row, site = pivots[low], low.bit_length() - 1
        others = sum(bits[i] for i in range(site + 1, n_sites) if row >> i & 1)
        bits[site] = ((row >> n_sites) + others) % 2
    return 1 - 2 * bits


def gauge_bits(hamiltonian: Any) -> list[int] | None:
    """The sign gauge as one 0 or 1 per site; None without one."""
    if hamiltonian.signs is None:
        return None
    return [(1 - sign) // 2 for sign in hamiltonian.signs]


# ---- optimiser ---------------------------------------------------------------


def optimizer(job: Job, hamiltonian: Any) -> dict[str, Any]:
    """Keys of [optimizer] with the method chosen and the default schedule written."""
    keys, n_steps = job.optimizer, job.run.n_steps
    name: str = keys.name
    if name == "auto":
        name = "spring" if hamiltonian.is_stoquastic else "sr"
    rate = keys.learning_rate
    if not isinstance(rate, Schedule):
        init = RATES[name] if rate == "auto" else float(rate)
        begin = 2 * n_steps // 3
        rate = Schedule(
            schedule="cosine",
            init=init,
            end=init / 10,
            begin=begin,
            steps=max(1, n_steps - begin),
        )
    return {"name": name, "learning_rate": complete(rate, n_steps)}


def complete(schedule: Schedule, n_steps: int) -> Schedule:
    """The schedule with its end and length written out."""
    end = schedule.init / 10 if schedule.end is None else schedule.end
    if schedule.schedule == "constant":
        end = schedule.init
    if schedule.schedule == "piecewise":
        end = schedule.points[-1][1]
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
    shape, warmup = _shape(schedule, unit), schedule.warmup
    if warmup == 0:
        return shape
    return lambda count: shape(count) * jnp.minimum((count + 1) / warmup, 1.0)


def _shape(schedule: Schedule, unit: float) -> Callable[[Any], Any]:
    """A complete schedule without its warm-up."""
    assert schedule.end is not None and schedule.steps is not None
    init, end = schedule.init * unit, schedule.end * unit
    if schedule.schedule == "constant":
        return optax.constant_schedule(init)
    if schedule.schedule == "piecewise":
        values = [init, *(value * unit for _, value in schedule.points)]
        parts = [optax.constant_schedule(value) for value in values]
        return optax.join_schedules(parts, [int(step) for step, _ in schedule.points])
    if schedule.schedule == "cosine":
        tail = optax.cosine_decay_schedule(init, schedule.steps, end / init)
    elif schedule.schedule == "linear":
        tail = optax.linear_schedule(init, end, schedule.steps)
    else:
        tail = optax.exponential_decay(init, schedule.steps, end / init, end_value=end)
    if schedule.begin == 0:
        return tail
    return optax.join_schedules([optax.constant_schedule(init), tail], [schedule.begin])
