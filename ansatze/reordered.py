"""Wave functions whose sites stand in another order than the lattice's.

A chain or a tree holds entanglement best between sites that are neighbours in it, so
that the order of the sites is part of the architecture (arXiv:1704.01552).  `reordered`
makes any wave function see site order[k] as its site k: configurations, moves, regions
and samples are permuted on the way in and out, parameters stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.cuts import CutCapacity
from ansatze.index_graph import IndexGraph, site_name
from ansatze.tree_order import site_order as lattice_order
from vmc.base import Capacity, Exact, Move, Moves, Params, Problem, Space, WaveFunction
from vmc.errors import JobError
from vmc.space import Spins


def checked_order(order: Sequence[int], n_sites: int) -> np.ndarray:
    """A site order as int (N,).

    Args:
        order: the site at each place.
        n_sites: N.

    Raises:
        JobError: it is no permutation of 0 ... N - 1.
    """
    sites = list(order)
    if sorted(sites, key=int) != list(range(n_sites)):
        missing = sorted(set(range(n_sites)) - {int(i) for i in sites})
        raise JobError(
            f"site_order has {len(sites)} entries, {sites[:8]}...; it names each of "
            f"the {n_sites} sites 0 to {n_sites - 1} once"
            + (f", and {missing[0]} is missing" if missing else "")
        )
    return np.array(sites, np.int64)


def leaf_order(
    problem: Problem,
    window: int,
    origin: int | Sequence[int],
    given: Sequence[int] | None,
) -> np.ndarray:
    """Site at each leaf of a tree: the given order, else that of the lattice.

    Raises:
        JobError: it is no permutation, or an origin moves what was given.
    """
    if given is None:
        return lattice_order(problem, window, origin)
    if np.any(np.asarray(origin) != 0):
        raise JobError(
            f"origin = {origin} moves the lattice's own order of sites, and site_order "
            "replaces it: leave one of them out"
        )
    return checked_order(given, problem.space.n_sites)


def reordered(
    problem: Problem,
    order: Sequence[int],
    make: Callable[[Problem], WaveFunction],
) -> WaveFunction:
    """A wave function of the sites in another order.

    Args:
        problem: the problem, see `vmc.base.Problem`.
        order: site at each place of the inner wave function.
        make: problem of the places -> the inner wave function.

    Raises:
        JobError: the order is no permutation, or a lattice symmetry is to be built in.
    """
    sites = checked_order(order, problem.space.n_sites)
    if problem.symmetry is not None:
        raise JobError(
            "site_order takes the sites out of the order of the lattice, so that no "
            'lattice symmetry is built in. Use symmetry = "none", or leave it out.'
        )
    inner = make(problem._replace(space=_placed(problem.space, sites)))
    view = _View(sites, np.append(np.argsort(sites), len(sites)))
    return inner._replace(
        log_psi=lambda params, sigma: inner.log_psi(params, view.sigma(sigma)),
        cache=lambda params, sigma: inner.cache(params, view.sigma(sigma)),
        log_ratios=lambda params, cache, sigma, moves, *wanted: inner.log_ratios(
            params, cache, view.sigma(sigma), view.moves(moves), *wanted
        ),
        try_move=lambda params, cache, sigma, move: inner.try_move(
            params, cache, view.sigma(sigma), view.moves(move)
        ),
        scores=lambda params, sigma: inner.scores(params, view.sigma(sigma)),
        exact=None if inner.exact is None else view.exact(inner.exact),
        capacity=view.capacity(inner.capacity, tuple(problem.space.local_dims)),
    )


def _placed(space: Space, order: np.ndarray) -> Space:
    """The space with its sites in another order."""
    if not isinstance(space, Spins):
        if len(set(space.local_dims)) > 1:
            raise JobError(
                "site_order needs sites of equal local dimension, or a space made by "
                "vmc.space.spins"
            )
        return space
    return space.reordered(order)


@dataclasses.dataclass(frozen=True, eq=False)
class _View:
    """Sites and places.

    Attributes:
        order: site at each place, int (N,).
        place: place of each site, int (N + 1,); padding N stays N.
    """

    order: np.ndarray
    place: np.ndarray

    def sigma(self, sigma: Array) -> Array:
        """Configurations by place, (B, N)."""
        return jnp.asarray(sigma)[:, self.order]

    def moves(self, moves: Any) -> Any:
        """A `Move` or `Moves` by place."""
        kind: Any = Moves if isinstance(moves, Moves) else Move
        if isinstance(moves.sites, np.ndarray):
            sites: Any = self.place[moves.sites].astype(np.int32)
        else:
            sites = jnp.asarray(self.place, jnp.int32)[moves.sites]
        return kind(sites, moves.shift, moves.exchange)

    def region(self, region: Iterable[int]) -> tuple[int, ...]:
        """The places of some sites; sites that do not exist are left to be refused."""
        n = len(self.order)
        return tuple(int(self.place[i]) if 0 <= i < n else int(i) for i in region)

    def exact(self, inner: Exact) -> Exact:
        """The exact tools by site."""
        back = self.place[:-1]

        def allowed(conditions: tuple[Array | None, ...]) -> tuple[Array, ...]:
            return tuple(
                jnp.asarray(c)[self.order] for c in conditions if c is not None
            )

        def sample(params: Params, words: Array, *conditions: Array | None) -> Any:
            assert inner.sample is not None
            sigma, log_prob = inner.sample(params, words, *allowed(conditions))
            return sigma[:, back], log_prob

        def log_norm(params: Params, *conditions: Array | None) -> Array:
            assert inner.log_norm is not None
            return inner.log_norm(params, *allowed(conditions))

        def product_mean(params: Params, sites: Any, matrices: Array) -> Array:
            assert inner.product_mean is not None
            return inner.product_mean(params, self.place[np.asarray(sites)], matrices)

        def of_region(tool: Callable[..., Array] | None) -> Any:
            if tool is None:
                return None
            return lambda params, region: tool(params, self.region(region))

        return Exact(
            sample=None if inner.sample is None else sample,
            log_norm=None if inner.log_norm is None else log_norm,
            purity=of_region(inner.purity),
            spectrum=of_region(inner.spectrum),
            product_mean=None if inner.product_mean is None else product_mean,
        )

    def capacity(
        self, inner: Callable[..., Capacity] | None, local_dims: tuple[int, ...]
    ) -> Any:
        """The capacity by site; physical indices are named after sites."""
        if inner is None:
            return None
        if not isinstance(inner, CutCapacity):
            return lambda region: inner(self.region(region))
        names = {site_name(k): site_name(int(i)) for k, i in enumerate(self.order)}

        def solve(inside: np.ndarray) -> list[Capacity]:
            return [
                c._replace(cut=tuple(names.get(name, name) for name in c.cut))
                for c in inner.solve(inside[:, self.order])
            ]

        def graph() -> IndexGraph:
            assert inner.graph is not None
            raw = inner.graph()
            return IndexGraph(
                {names.get(name, name): d for name, d in raw.dims.items()},
                tuple(tuple(names.get(n, n) for n in t) for t in raw.tensors),
                tuple(site_name(i) for i in range(len(self.order))),
            )

        return CutCapacity(local_dims, solve, None if inner.graph is None else graph)
