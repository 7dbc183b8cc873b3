"""From a job to its sampler: kind, numbers, and moves that reach every state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vmc import registry
from vmc.base import Moves, Params, Problem, Sampler, WaveFunction
from vmc.design_cuts import symmetry_group
from vmc.distributed import check_divisible
from vmc.errors import JobError
from vmc.independent import independent
from vmc.job import Job
from vmc.moves import exchanges, join, local_flips, reachable
from vmc.one_kernel import in_one_kernel
from vmc.samplers import direct, full, metropolis
from vmc.sections import Sampler as Keys
from vmc.space import Spins
from vmc.surrogate import delayed
from vmc.tempering import exponents, tempered

#: Samples per step if the job does not say.
N_SAMPLES = 1024
#: Largest space whose connectedness under the moves is found by enumeration.
ENUMERATED = 1 << 12
#: Rows of the sampler "full" are a multiple of this; so many may be repetitions.
FILLED, MOST_FILLED = 8, 64


def resolved(
    job: Job, hamiltonian: Any, wavefunction: WaveFunction, lattice: Any, n_devices: int
) -> dict[str, Any]:
    """Keys of [sampler] with name, n_chains and n_samples decided.

    Raises:
        JobError: samples are no multiple of chains, or chains of devices.
    """
    name = job.sampler.name
    if name == "auto":
        name = _automatic(hamiltonian, wavefunction, lattice)
    keys = job.sampler
    extras = keys.replicas > 1 or keys.global_flip or keys.surrogate_moves
    if name == "direct" and extras:
        raise JobError(
            "[sampler] replicas, global_flip and surrogate_moves: this wave function "
            "is drawn from exactly, without a Markov chain. Leave them out."
        )
    if (
        name == "exchange"
        and not hamiltonian.space.is_free
        and _can_be_drawn(wavefunction)
    ):
        raise JobError(
            '[sampler] name = "exchange": this wave function is drawn from exactly, '
            "inside the sector; a Markov chain of exchanges would give the same "
            'samples with correlations, at a higher cost. Use name = "direct" (or '
            '"auto", which takes it).'
        )
    if name == "full":
        n_rows = _rows(job.sampler, hamiltonian.space.n_states, n_devices)
        return {"name": name, "n_chains": n_rows, "n_samples": n_rows}
    return {"name": name, **numbers(job.sampler, n_devices)}


def _rows(keys: Keys, n_states: int, n_devices: int) -> int:
    """Rows of the sampler "full": all states, and some again with weight 0.

    Their number enters the diagonal shift: it does not depend on the devices if these
    are 1, 2, 4 or 8, and a run keeps what it began with.
    """
    given = {"n_chains": keys.n_chains, "n_samples": keys.n_samples}
    grain = math.lcm(FILLED, n_devices)
    most = n_states + max(min(MOST_FILLED, n_states), grain)
    rows = {x for x in given.values() if x is not None}
    if len(rows) > 1 or any(not n_states <= x < most for x in rows):
        named = ", ".join(f"{k} = {x}" for k, x in given.items() if x is not None)
        raise JobError(
            f'[sampler] {named}: the sampler "full" has all {n_states} states; leave '
            "the key out"
        )
    n_rows = rows.pop() if rows else -(-n_states // grain) * grain
    check_divisible(n_rows, n_devices)
    return n_rows


def _automatic(hamiltonian: Any, wavefunction: WaveFunction, lattice: Any) -> str:
    """Direct where psi offers it, else moves that do not freeze.

    What is drawn directly stays inside the sector: psi offers nothing otherwise.  In a
    sector exchanges along bonds, if these connect all sites.  Single flips where
    the Hamiltonian itself makes nothing else; otherwise also the Hamiltonian's own
    moves: where it flips pairs or more, psi may vanish, or nearly, one flip away.
    """
    space = hamiltonian.space
    if _can_be_drawn(wavefunction):
        return "direct"
    if space.total_sz is not None:
        n_parts = _parts(space.n_sites, _edges(hamiltonian, lattice))[0]
        own = hamiltonian.moves.n_moves
        return "mixed" if n_parts > 1 and own else "exchange"
    if space.charges:
        return "mixed"
    sites = np.asarray(hamiltonian.moves.sites)
    single = np.all(np.sum(sites < space.n_sites, axis=1) <= 1)
    return "local" if single else "mixed"


def _can_be_drawn(wavefunction: WaveFunction) -> bool:
    """Whether psi offers independent draws of |psi|^2."""
    exact = wavefunction.exact
    return exact is not None and exact.sample is not None and exact.log_norm is not None


def numbers(keys: Keys, n_devices: int) -> dict[str, int]:
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


def build(
    job: Job,
    hamiltonian: Any,
    wavefunction: WaveFunction,
    lattice: Any,
    n_devices: int,
    proposal: tuple[WaveFunction, Params] | None = None,
) -> Sampler:
    """The sampler of a job whose [sampler] is `resolved`.

    ``proposal`` is what "independent" draws from.

    Raises:
        JobError: the moves do not fit the space, or cannot reach all of it; or psi
            cannot be drawn from directly.
    """
    keys, space = job.sampler, hamiltonian.space
    assert keys.n_chains is not None and keys.n_samples is not None
    n_draws = keys.n_samples // keys.n_chains
    numbers: dict[str, Any] = {"n_chains": keys.n_chains, "n_draws": n_draws}
    numbers["n_devices"] = n_devices
    if keys.name == "full":
        return full(wavefunction, space, n_rows=keys.n_chains)
    if keys.name == "direct":
        return direct(wavefunction, space, **numbers)
    numbers["n_sweeps"] = keys.n_sweeps
    if keys.name == "independent":
        assert proposal is not None
        return independent(wavefunction, *proposal, space, **numbers)
    moves = proposals(keys.name, hamiltonian, lattice)
    if keys.surrogate_moves:
        model = _surrogate(job.precision, hamiltonian, lattice)
        return delayed(
            wavefunction, model, space, moves, **numbers, n_moves=keys.surrogate_moves
        )
    if keys.kernel == "pallas":
        return in_one_kernel(wavefunction, space, moves, **numbers)
    if keys.replicas == 1 and not keys.global_flip:
        return metropolis(wavefunction, space, moves, **numbers)
    return tempered(
        wavefunction,
        space,
        moves,
        **numbers,
        betas=exponents(keys.replicas, keys.beta_min),
        global_flip=keys.global_flip,
    )


def _surrogate(precision: str, hamiltonian: Any, lattice: Any) -> WaveFunction:
    """A Jastrow factor with one parameter per orbit of pairs of sites."""
    problem = Problem(
        hamiltonian.space,
        "real",
        "float32" if precision == "float32" else "float64",
        symmetry=symmetry_group(hamiltonian, lattice),
    )
    return registry.ansatze()["jastrow"](problem)


def proposals(name: str, hamiltonian: Any, lattice: Any) -> Moves:
    """The moves of a Metropolis sampler, "local", "exchange" or "mixed".

    Raises:
        JobError: they leave the space or do not reach all of it.
    """
    space = hamiltonian.space
    if name == "local":
        moves = local_flips(space)
    elif name == "exchange":
        edges = _edges(hamiltonian, lattice)
        check_connected(space, edges)
        moves = exchanges(space, edges)
    elif space.charges:
        moves = hamiltonian.moves
    elif space.total_sz is None:
        moves = join(local_flips(space), hamiltonian.moves, space)
    else:
        edges = _edges(hamiltonian, lattice)
        own = hamiltonian.moves
        moves = join(exchanges(space, edges), own, space) if len(edges) else own
    if name == "mixed" and space.total_sz is not None or space.has_rules:
        _check_reachable(space, moves)
    return moves


def _edges(hamiltonian: Any, lattice: Any) -> np.ndarray:
    """Pairs of sites that exchange moves act on, int (E, 2)."""
    if lattice is not None:
        return np.asarray(lattice.edges(1))
    return exchange_edges(hamiltonian)


def exchange_edges(hamiltonian: Any) -> np.ndarray:
    """Pairs of sites that some element of the Hamiltonian flips, int (E, 2)."""
    sites = np.asarray(hamiltonian.moves.sites)
    n_sites = hamiltonian.space.n_sites
    pairs = np.sort(sites[np.sum(sites < n_sites, axis=1) == 2], axis=1)[:, :2]
    return np.unique(pairs, axis=0)


def _parts(n_sites: int, edges: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of connected parts of the sites, and the part of each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), bool)
    ends = tuple(np.asarray(edges, np.int64).reshape(-1, 2).T)
    return connected_components(
        coo_array((ones, ends), shape=(n_sites, n_sites)), directed=False
    )


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
    if len(edges) == 0:
        return  # moves.exchanges has the better message
    n_parts, part = _parts(space.n_sites, edges)
    if n_parts > 1:
        cut_off = np.flatnonzero(part != part[0])
        raise JobError(
            f"[sampler] exchange moves cannot reach the whole sector: no bond joins "
            f"site {cut_off[0]} to site 0. Choose a lattice whose bonds connect all "
            'sites, or total_sz = "free" with the local sampler.'
        )


def _check_reachable(space: Spins, moves: Moves) -> None:
    """Refuse moves that provably fall short: by enumeration, or by conserved charges.

    Raises:
        JobError: some states cannot be reached.
    """
    if space.n_states > ENUMERATED:
        return _check_joined(space, moves)
    largest, n_states = reachable(space, moves)
    if largest < n_states:
        raise JobError(
            f"[sampler] the moves connect at most {largest} of the {n_states} states "
            f"of the sector ({space.label}): each walker would stay where it starts. "
            'Use total_sz = "free", or fix every charge that the terms conserve.'
        )


def _check_joined(space: Spins, moves: Moves) -> None:
    """Refuse moves that never join two parts of the sites.

    Whatever charge the space fixes, each part then keeps its own share, which only
    other charges of the space can account for.

    Raises:
        JobError: the share of some part is frozen and nothing fixes it.
    """
    n_sites = space.n_sites
    fixed = [charge.weights for charge in space.charges]
    if space.total_sz is not None:
        fixed.append((1,) * n_sites)
    if not fixed:
        return
    sites = np.sort(np.asarray(moves.sites), axis=1)  # padding, N, goes last
    links = np.stack(np.broadcast_arrays(sites[:, :1], sites), axis=2).reshape(-1, 2)
    n_parts, part = _parts(n_sites, links[np.all(links < n_sites, axis=1)])
    rows = np.array(fixed, float)
    inside = part == np.arange(n_parts)[:, None]
    shares = (rows[:, None] * inside).reshape(-1, n_sites)
    rank = np.linalg.matrix_rank
    if rank(np.concatenate([rows, shares])) > rank(rows):
        alone = np.flatnonzero(part != part[0])[0]
        raise JobError(
            f"[sampler] no move joins site {alone} to site 0: the charge of each part "
            f"would stay that of the random start ({space.label}). "
            'Use total_sz = "free", or fix every charge that the terms conserve.'
        )
