"""Observables of the wave function itself: symmetries and entropies."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from vmc import swap
from vmc.errors import JobError
from vmc.observables_names import Request, sites_of
from vmc.observables_plan import Columns, Finish, Found, Plan, table
from vmc.observables_states import Symmetries
from vmc.swap import Entropy
from vmc.swap_ratio import entropy_by_ratios

#: Elements of a point group that are measured one by one.
MAX_ELEMENTS = 64


# ---- symmetries ------------------------------------------------------------------


def symmetries(plan: Plan, request: Request) -> Finish:
    """<T> of translations by one cell, of the point group and of the spin flip."""
    name = request.text
    elements = _elements(plan, name)
    if not elements:
        raise JobError(
            f"observable {name!r}: there is nothing to measure without a lattice and "
            "in a sector that the flip of all spins leaves"
        )
    inverses = np.array([np.argsort(perm) for _, perm, _ in elements], np.int32)
    flips = np.array([flip for _, _, flip in elements], np.int8)
    plan.once(name, lambda: Symmetries(inverses, flips, plan.signs))

    def finish(found: Found) -> Columns:
        labels: Columns = {
            "element": [text for text, _, _ in elements for _ in range(2)],
            "part": ["real", "imaginary"] * len(elements),
        }
        return table(labels, *found.averages.evaluate([name], lambda parts: parts[0]))

    return finish


def _elements(plan: Plan, name: str) -> list[tuple[str, np.ndarray, int]]:
    """(name, permutation, flip) of what maps the sector onto itself."""
    space, lattice = plan.space, plan.built.system.lattice
    identity = np.arange(space.n_sites)
    listed: list[tuple[str, np.ndarray]] = []
    if lattice is not None:
        for axis, perm in enumerate(_steps(lattice)):
            listed += [] if perm is None else [(f"translation {axis}", perm)]
        group = lattice.point_group[1:]
        if len(group) > MAX_ELEMENTS:
            raise JobError(
                f"observable {name!r}: {lattice!r} has {len(group)} symmetries besides "
                f"the identity, and at most {MAX_ELEMENTS} are measured one by one"
            )
        listed += [(f"point group {g + 1}", perm) for g, perm in enumerate(group)]
    dims = np.asarray(space.local_dims)
    kept: list[tuple[str, np.ndarray, int]] = [
        (text, perm, 1)
        for text, perm in listed
        if np.array_equal(dims[perm], dims) and space.is_invariant(perm)
    ]
    if not space.twice_sz and not space.has_rules:
        kept.append(("spin flip", identity, -1))
    return kept


def _steps(lattice: Any) -> list[np.ndarray | None]:
    """Where a translation by one cell moves every site; None along open directions."""
    cells, basis = lattice.grid.cells(), np.arange(len(lattice.basis))
    known = {tuple(row) for row in np.asarray(lattice.translations).tolist()}
    found: list[np.ndarray | None] = []
    for axis, closed in enumerate(lattice.periodic):
        step = np.eye(len(lattice.periodic), dtype=cells.dtype)[axis]
        perm = lattice.site((cells + step)[:, None], basis).reshape(-1)
        # Features such as dimers may forbid it, and so may an open direction.
        found.append(perm if closed and tuple(perm.tolist()) in known else None)
    return found


# ---- entropies -------------------------------------------------------------------


def renyi2(plan: Plan, request: Request) -> Finish:
    """S2 of regions: exact where psi offers it, else by swaps, or ratios of them."""
    regions = regions_of(request, plan.built.n_sites)
    ratios = request.name == "renyi2_ratio"
    if not ratios:
        _check_chains(plan)
    plan.keeps_samples = True

    def finish(found: Found) -> Columns:
        each = [_entropy(plan, found, region, ratios) for region in regions]
        return entropies(regions, each)

    return finish


def regions_of(request: Request, n_sites: int) -> list[tuple[int, ...]]:
    """The regions that a request names.

    Raises:
        JobError: they are none.
    """
    half = max(n_sites // 2, 1)
    if request.argument == "blocks":
        return [tuple(range(n)) for n in range(1, half + 1)]
    sites = sites_of(request.argument) if request.argument else range(half)
    try:
        return [swap.checked_region(sites, n_sites)]
    except JobError as error:
        raise JobError(f"observable {request.text!r}: {error}") from None


def entropies(regions: list[tuple[int, ...]], found: list[Entropy]) -> Columns:
    """A table of entropies in nats."""
    labels: Columns = {
        "region": [list(region) for region in regions],
        "size": [len(region) for region in regions],
        "method": [one.method for one in found],
        "lower_bound": [one.lower_bound for one in found],
        "purity": [one.purity for one in found],
        "purity_error": [one.purity_error for one in found],
    }
    return labels | {"mean": [e.s2 for e in found], "error": [e.error for e in found]}


def _check_chains(plan: Plan) -> None:
    sampler = plan.built.sampler
    if _purity(plan) is None and not sampler.is_full:
        if sampler.n_chains < swap.MIN_CHAINS:
            swap.chosen(np.zeros((1, sampler.n_chains, 1), np.int8))


def _purity(plan: Plan) -> Any:
    """The exact purity of psi, if it has one in this space."""
    exact = plan.built.wavefunction.exact
    return exact.purity if exact is not None and plan.space.is_free else None


def _entropy(
    plan: Plan, found: Found, region: tuple[int, ...], ratios: bool
) -> Entropy:
    wavefunction, purity = plan.built.wavefunction, _purity(plan)
    if purity is not None:
        try:
            value = float(jax.jit(lambda p: purity(p, region))(found.params))
            return Entropy(-float(np.log(value)), 0.0, None, value, 0.0, "exact")
        except JobError:
            pass  # this region is too hard to contract; samples know no such limit
    if plan.built.sampler.is_full:
        states = plan.space.all_states()
        log_psi = functools.partial(wavefunction.log_psi, found.params)
        logs = np.asarray(jax.jit(log_psi)(states))
        whole = np.exp(logs - np.max(np.real(logs)))
        return swap.entropy_of_state(states, whole, region)
    assert found.samples is not None
    mesh = plan.built.vmc._mesh
    psi = (wavefunction, found.params, plan.space)
    if ratios:
        start = found.samples[-1]
        moves = plan.built.hamiltonian.moves
        return entropy_by_ratios(*psi, moves, start, region, found.key, mesh)
    sigma, chain = swap.chosen(found.samples)
    return swap.entropy_of_samples(*psi, sigma, chain, region, mesh)
