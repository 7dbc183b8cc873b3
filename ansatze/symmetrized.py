"""Projection of any wave function on quantum numbers, at the cost of a sum.

psi(sigma) = 1/|G| sum_g conj(chi_g) psi_0(g sigma),    g sigma = +- sigma[perm_g],

has psi(sigma[perm_g]) = chi_g psi(sigma) for every element of the group, whatever
psi_0 is (arXiv:1807.03325, arXiv:2009.14777).  An amplitude costs |G| of psi_0.  What
psi_0 has by construction needs no sum: g runs over representatives of its cosets.

The sum is taken with the largest modulus divided out.  It may cancel, and does so for
configurations that the quantum numbers forbid: what is left of rounding counts as an
exact zero, Re log psi = `LOG_ZERO`, with derivatives 0.  From such a configuration
every move has the amplitude ratio 0, so that its local energy is finite; its weight is
0, and a Markov chain that starts there leaves it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.capacity import symmetrised_capacity
from ansatze.scaled import LOG_ZERO, log_amplitude
from vmc import elementary
from vmc.base import Move, Moves, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.wavefunction import from_functions

#: Sums below eps to this power, relative to their largest term, are zero: 2e-12 in
#: double and 6e-6 in single precision, a few times the noise of log psi_0.
_ROUNDING = 0.75


class Elements(NamedTuple):
    """Group elements that a projection sums over.

    Attributes:
        perms: int32 (R, N), g sigma = +- sigma[perms[g]].
        flips: bool (R,), whether g also turns all spins over.
        weights: (R,), conj(chi_g); real where all are.
    """

    perms: np.ndarray
    flips: np.ndarray
    weights: np.ndarray


def symmetrize(
    ansatz: str | Callable[..., WaveFunction],
    problem: Problem,
    keys: Mapping[str, Any] | None = None,
) -> WaveFunction:
    """An ansatz with all symmetries of a problem, built in as far as it can be.

    ``symmetrize("mps", problem, {"bond_dimension": 8})`` is the projected matrix
    product state; ``symmetrize("rbm", problem)`` is the RBM with shared filters if the
    problem has trivial characters, and its projection otherwise.

    Args:
        ansatz: a name of `ansatze.ANSATZE`, or factory(problem, **keys); a factory is
            told of no symmetry, and its psi is projected.
        problem: space, ``symmetry``, ``characters``, ``spin_flip`` and
            ``flip_character``, see `vmc.base.Problem`.
        keys: the other arguments of the factory.

    Raises:
        JobError: the name is unknown, or the family refuses the problem.
    """
    from ansatze import ANSATZE

    keys = dict(keys or {})
    if not isinstance(ansatz, str):
        bare = without_symmetry(problem)
        return symmetrized(ansatz(bare, **keys), problem, bare)
    if ansatz not in ANSATZE:
        close = difflib.get_close_matches(ansatz, ANSATZE, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise JobError(f"{ansatz!r} is no ansatz{hint}. Known: {', '.join(ANSATZE)}")
    inner = native(ansatz, problem, keys)
    return symmetrized(ANSATZE[ansatz](inner, **keys), problem, inner)


def without_symmetry(problem: Problem) -> Problem:
    """The problem without any symmetry."""
    return problem._replace(
        symmetry=None, characters=None, spin_flip=False, flip_character=1
    )


def native(name: str, problem: Problem, keys: Mapping[str, Any]) -> Problem:
    """The problem with the symmetries that a family builds in itself.

    Args:
        name: a key of `ansatze.ANSATZE`; other names build nothing in.
        problem: the problem.
        keys: keys of the family.

    Returns:
        ``problem`` itself if the family has all of it, else one with a subgroup: the
        whole space group or its translations, with or without the spin flip.
    """
    from ansatze import builds_in

    parts = sorted(_parts(problem), key=group_order, reverse=True)
    for part in parts[:-1]:
        if builds_in(name, part, keys):
            return part
    return parts[-1]


def _parts(problem: Problem) -> Iterator[Problem]:
    """Problems with less and less symmetry; the first is the problem itself."""
    spaces: list[tuple[Any, Any]] = [(problem.symmetry, problem.characters)]
    if problem.symmetry is not None:
        kept = is_translation(problem)
        if kept.any() and not kept.all():
            chi = problem.characters
            chi = None if chi is None else np.asarray(chi)[kept]
            chi = None if chi is None or np.all(chi == 1) else chi
            spaces.append((np.asarray(problem.symmetry)[kept], chi))
        spaces.append((None, None))
    for number, (perms, chi) in enumerate(spaces):
        part = problem._replace(symmetry=perms, characters=chi)
        yield part if number else problem
        if problem.spin_flip:
            yield part._replace(spin_flip=False, flip_character=1)


def is_translation(problem: Problem) -> np.ndarray:
    """Which permutations of ``problem.symmetry`` translate the cells of its grid.

    Returns:
        bool (G,); all False without a rectangular grid.
    """
    assert problem.symmetry is not None
    perms, shape = np.asarray(problem.symmetry), problem.shape
    n_sites = problem.space.n_sites
    if shape is None or n_sites % math.prod(shape):
        return np.zeros(len(perms), bool)
    cells = np.arange(n_sites).reshape(*shape, -1)
    per_cell = cells.shape[-1]
    kept = np.zeros(len(perms), bool)
    for g, perm in enumerate(perms):
        corner = np.unravel_index(int(perm[0]) // per_cell, shape)
        moved = np.roll(cells, [-int(x) for x in corner], range(len(shape)))
        kept[g] = np.array_equal(moved.ravel(), perm)
    return kept


def group_order(problem: Problem) -> int:
    """Elements of the group, spin flip included."""
    n = 1 if problem.symmetry is None else len(problem.symmetry)
    return n * (2 if problem.spin_flip else 1)


def elements(problem: Problem, has: Problem | None = None) -> Elements:
    """Representatives of the group of a problem modulo what psi_0 has already.

    Args:
        problem: gives the group.
        has: gives a subgroup; None for nothing.
    """
    n_sites = problem.space.n_sites
    perms = np.arange(n_sites)[None]
    if problem.symmetry is not None:
        perms = np.asarray(problem.symmetry)
    chi = np.ones(len(perms))
    if problem.characters is not None:
        chi = np.asarray(problem.characters)
    if has is not None and has.symmetry is not None:
        # The coset {g h} of g holds perms g[h]; its smallest row stands for it.
        inside = np.asarray(has.symmetry)
        least = [min(map(bytes, g[inside].astype(">i4"))) for g in perms]
        once = np.sort(np.unique(least, return_index=True)[1])
        perms, chi = perms[once], chi[once]
    flips = np.zeros(len(perms), bool)
    if problem.spin_flip and not (has is not None and has.spin_flip):
        perms, flips = np.concatenate([perms, perms]), np.append(flips, ~flips)
        chi = np.append(chi, problem.flip_character * chi)
    return Elements(perms.astype(np.int32), flips, np.conj(chi))


def symmetrized(
    inner: WaveFunction, problem: Problem, has: Problem | None = None
) -> WaveFunction:
    """The projection of a wave function on the symmetries of a problem.

    Every amplitude costs as many of ``inner`` as there are elements to sum over (see
    `elements`); moves stay as fast as those of ``inner`` are.  Parameters are those of
    ``inner``.

    Args:
        inner: psi_0, any wave function of the problem's space.
        problem: see `symmetrize`.
        has: the part of the symmetries that psi_0 has by construction.

    Returns:
        A wave function; ``inner`` itself where nothing is left to be done.
    """
    group = elements(problem, has)
    if len(group.perms) == 1:
        return inner
    shape = _Projection(inner, problem, group)
    plain = from_functions(
        inner.init, shape.log_psi, problem=problem, range=shape.range
    )
    return plain._replace(
        cache=shape.cache,
        log_ratios=shape.log_ratios,
        try_move=shape.try_move,
        commit=shape.commit,
        capacity=symmetrised_capacity(
            inner.capacity, group.perms, problem.space.local_dims
        ),
    )


class ProjectionCache(NamedTuple):
    """What is kept between moves.

    Attributes:
        caches: those of psi_0 at the images of every walker, leading axis R.
        logs: log psi_0 of the images, (R, B).
        total: log psi, (B,).
    """

    caches: Any
    logs: Array
    total: Array


@dataclasses.dataclass(frozen=True, eq=False)
class _Projection:
    """Everything static about one projection."""

    inner: WaveFunction
    problem: Problem
    group: Elements

    @property
    def range(self) -> Literal["positive", "real", "complex"]:
        if self.inner.range == "complex" or np.iscomplexobj(self.group.weights):
            return "complex"
        trivial = np.all(self.group.weights == 1)
        return self.inner.range if trivial else "real"

    def images(self, sigma: Array) -> Array:
        """All images g sigma, (R, B, N)."""
        moved = jnp.moveaxis(jnp.asarray(sigma)[:, self.group.perms], 1, 0)
        return jnp.where(self.group.flips[:, None, None], -moved, moved)

    def moves(self) -> tuple[Array, Array]:
        """Where each site is found in the images, (R, N + 1), and the flips, (R,)."""
        inverse = np.argsort(self.group.perms, axis=1)
        n_sites = inverse.shape[1]
        padded = np.pad(inverse, ((0, 0), (0, 1)), constant_values=n_sites)
        return jnp.asarray(padded, jnp.int32), jnp.asarray(self.group.flips)

    def moved(self, moves: Moves, places: Array, flip: Array) -> Moves:
        """The moves as they act on one image, arrays (K, k)."""
        dims = jnp.asarray((*self.problem.space.local_dims, 1), jnp.int32)
        sites, shift = jnp.asarray(moves.sites), jnp.asarray(moves.shift)
        back = jnp.mod(-shift.astype(jnp.int32), dims[sites]).astype(shift.dtype)
        return Moves(places[sites], jnp.where(flip, back, shift), moves.exchange)

    def weights(self, dtype: Any) -> Array:
        """conj(chi), (R,), in the precision of a dtype."""
        if np.iscomplexobj(self.group.weights):
            return jnp.asarray(
                self.group.weights, jnp.result_type(dtype, jnp.complex64)
            )
        return jnp.asarray(self.group.weights, jnp.finfo(dtype).dtype)

    def log(self, value: Array, top: Array) -> Array:
        """Log of value e^top / R; a value that is rounding gives `LOG_ZERO`.

        The largest term in value has modulus one.
        """
        top = top - math.log(len(self.group.weights))
        if self.range == "positive":
            return elementary.log(value) + top
        cut = float(jnp.finfo(top.dtype).eps) ** _ROUNDING
        value = value.real if self.range == "real" else value
        value = jnp.where(jnp.abs(value) > cut, value, jnp.zeros_like(value))
        return log_amplitude(value, top)

    def total(self, logs: Array) -> Array:
        """Log psi from log psi_0 of the images, (R, B) -> (B,)."""
        top = lax.stop_gradient(jnp.max(logs.real, axis=0))
        top = jnp.maximum(top, LOG_ZERO)
        terms = elementary.exp(logs - top[None])
        return self.log(jnp.sum(self.weights(top.dtype)[:, None] * terms, axis=0), top)

    def log_psi(self, params: Params, sigma: Array) -> Array:
        images = self.images(sigma)
        logs = self.inner.log_psi(params, images.reshape(-1, images.shape[-1]))
        return self.total(logs.reshape(images.shape[:2]))

    def cache(self, params: Params, sigma: Array) -> ProjectionCache:
        def one(image: Array) -> tuple[Any, Array]:
            return self.inner.cache(params, image), self.inner.log_psi(params, image)

        caches, logs = lax.map(one, self.images(sigma))
        return ProjectionCache(caches, logs, self.total(logs))

    def log_ratios(
        self,
        params: Params,
        cache: ProjectionCache,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        """See `WaveFunction`: the images one after the other, their sum on the way."""
        real = cache.total.real.dtype
        dtype = jnp.result_type(cache.logs.dtype, self.weights(real).dtype)
        shape = (moves.n_moves, sigma.shape[0])

        def add(carry: tuple[Array, Array], row: Any) -> tuple[Any, None]:
            value, top = carry
            image, inner, log, places, flip, weight = row
            own = self.moved(moves, places, flip)
            ratios = self.inner.log_ratios(params, inner, image, own, wanted)
            new = log[None] + ratios
            higher = jnp.maximum(top, new.real)
            term = weight * elementary.exp(new - higher)
            return (value * jnp.exp(top - higher) + term, higher), None

        rows = (self.images(sigma), cache.caches, cache.logs, *self.moves())
        start = (jnp.zeros(shape, dtype), jnp.full(shape, LOG_ZERO, real))
        (value, top), _ = lax.scan(add, start, (*rows, self.weights(real)))
        ratios = self.log(value, top) - cache.total[None]
        if self.range == "positive":
            return ratios
        empty = (cache.total.real <= 0.1 * LOG_ZERO)[None]
        return jnp.where(empty, jnp.full_like(ratios, LOG_ZERO), ratios)

    def try_move(
        self, params: Params, cache: ProjectionCache, sigma: Array, move: Move
    ) -> tuple[Array, tuple]:
        table = Moves(move.sites[None], move.shift[None], move.exchange)

        def one(row: Any) -> tuple[Any, Array]:
            image, inner, log, places, flip = row
            own = self.moved(table, places, flip)
            ratio, pending = self.inner.try_move(params, inner, image, own[0])
            if self.inner.range == "positive":
                return pending, log + 0.5 * ratio
            if self.inner.cache is self.inner.log_psi:
                # The cache is log psi_0 itself, and what is committed the new one.
                yes = jnp.ones(image.shape[:1], bool)
                return pending, self.inner.commit(inner, pending, yes)
            # A proposal gives moduli only, and terms interfere.
            return pending, log + self.inner.log_ratios(params, inner, image, own)[0]

        rows = (self.images(sigma), cache.caches, cache.logs, *self.moves())
        pending, logs = lax.map(one, rows)
        total = self.total(logs)
        return 2 * (total - cache.total).real, (pending, logs, total)

    def commit(
        self, cache: ProjectionCache, pending: tuple, accept: Array
    ) -> ProjectionCache:
        inner, logs, total = pending
        commit = jax.vmap(self.inner.commit, (0, 0, None))
        return ProjectionCache(
            commit(cache.caches, inner, accept),
            jnp.where(accept[None], logs, cache.logs),
            jnp.where(accept, total, cache.total),
        )
