"""Moves of residual networks that recompute only their light cone.

Where a move changes few positions (`ansatze.cones`), the cache keeps every layer, and a
move costs its cone and one exponential per position:

- what each convolution reads, activated, and the residual stream ahead of each block;
- the terms of psi of every position, added up (`ansatze.readouts.Readout.parts`).

Nothing drifts: new values are computed from values, never from differences.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.activations import signed
from ansatze.cones import Cones, Lookup
from ansatze.deep_inputs import Stem, scaled_spins
from ansatze.layouts import Layout
from ansatze.readouts import Readout
from ansatze.scaled import LOG_ZERO
from ansatze.shared_weights import Shared, biased, gathered
from vmc.base import Move, Moves, Params, WaveFunction
from vmc.chunking import chunk_size, default_budget, map_chunks
from vmc.space import moved_values

#: Light cones are followed where that of one site saves more than this factor of work,
#: in weights read.  A move of two sites has two, and also sums over all positions.
WORTHWHILE = 4
#: Moves of sites close to each other have room of their own where their cones together
#: are at most this fraction of those of sites far apart.
TOGETHER = 0.8
#: On CPUs a chunk of moves takes as much memory, which with many walkers is one move:
#: two at a time took 1.5 to 2 times as long per move (chains and squares, 64 and 256
#: walkers).
CHUNK_BYTES = 1 << 20


class Layers(NamedTuple):
    """Features of a residual network, (C, P, B) or at some positions (C, n, B).

    Attributes:
        inputs: of every convolution but the first, activated.
        streams: x in front of every residual block.
        last: what the readout takes.
    """

    inputs: tuple[Array, ...]
    streams: tuple[Array, ...]
    last: Array


class Network(Protocol):
    """A residual network whose layers can be evaluated at some positions only."""

    @property
    def conv(self) -> Shared:
        """What every convolution reads."""
        ...

    @property
    def stem(self) -> Stem:
        """The first layer."""
        ...

    @property
    def readout(self) -> Readout:
        """From the last features to log psi."""
        ...

    @property
    def layers(self) -> int:
        """Convolutions before the first block."""
        ...

    @property
    def depth(self) -> int:
        """Blocks, of two convolutions each."""
        ...

    def everywhere(self, p: dict[str, Array], sigma: Array) -> Layers:
        """All layers of sigma (B, N)."""
        ...

    def features(
        self,
        x: Array,
        convolve: Callable[[int, Array], Array],
        stream: Callable[[int, Array], Array],
    ) -> Layers:
        """All layers.

        Args:
            x: output of the first.
            convolve: (number, its input) -> output.
            stream: (block, x in front of it) -> the same where its output is needed.
        """
        ...


class ConeCache(NamedTuple):
    """Every layer of every walker.

    Attributes:
        layers: `Layers.inputs` and `Layers.streams`, each (C, P, B).
        parts: `Readout.parts`, each (P, B).
        log_psi: (B,).
    """

    layers: tuple[Array, ...]
    parts: tuple[Array, ...]
    log_psi: Array


class ConePending(NamedTuple):
    """The new values of a cache.

    Attributes:
        at: for every entry of ``layers`` and ``parts`` where it changes, int32 (n,),
            in order, each once; filled up by P.
        new: `ConeCache` at these positions, (C, n, B) and (n, B).
    """

    at: tuple[Array, ...]
    new: ConeCache


@dataclasses.dataclass(frozen=True, eq=False)
class ConeMoves:
    """The functions of a `WaveFunction` that follow light cones.

    Attributes:
        net: the network; psi is not a sum over the global spin flip.
        cones: of its convolutions.
        layout: of the parameters.
    """

    net: Network
    cones: Cones
    layout: Layout

    @property
    def is_worthwhile(self) -> bool:
        """Whether following the cone of a site saves enough work."""
        stem, conv = self.net.stem, self.net.conv
        first = stem.channels * stem.n_basis * conv.n_weights
        other = stem.channels**2 * conv.n_weights
        work = [first] + [other] * (self.cones.n_layers - 1)
        cone = sum(n * w for n, w in zip(self.cones.sizes, work, strict=True))
        return conv.n_out * sum(work) > WORTHWHILE * cone

    def of(self, made: WaveFunction) -> WaveFunction:
        """The same wave function with moves by light cones."""
        return made._replace(
            cache=self.cache,
            log_ratios=self.log_ratios,
            try_move=self.try_move,
            commit=self.commit,
        )

    def cache(self, params: Params, sigma: Array) -> ConeCache:
        """See `WaveFunction`; in bounded memory."""
        sigma = jnp.asarray(sigma)
        per_row = self._bytes(self.net.conv.n_out)
        chunk = chunk_size(len(sigma), per_row, default_budget())
        if chunk >= len(sigma):
            return self._cache(params, sigma)

        def last_first(cache: ConeCache) -> ConeCache:
            return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), cache)

        rows = map_chunks(lambda s: last_first(self._cache(params, s)), sigma, chunk)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), rows)

    def _cache(self, params: Params, sigma: Array) -> ConeCache:
        p = self.layout.unpack(params)
        layers = self.net.everywhere(p, sigma)
        parts = self.net.readout.parts(p["head"], layers.last)
        log_psi = self.net.readout.joined(parts)
        return ConeCache((*layers.inputs, *layers.streams), parts, log_psi)

    def _bytes(self, n_positions: int) -> int:
        """Memory that one walker needs for so many positions of every layer."""
        stem = self.net.stem
        # What a convolution reads, and several times what it returns.
        each = stem.channels * (self.net.conv.n_weights + 4)
        return n_positions * each * self.layout.dtype.itemsize

    @functools.cached_property
    def entry_layers(self) -> tuple[int, ...]:
        """The layer, from 0 on, at whose positions each entry of a cache changes."""
        n_plain, last = self.net.layers, self.cones.n_layers - 1
        streams = [n_plain + 2 * block - 1 for block in range(self.net.depth)]
        n_parts = 1 if self.net.readout.kind == "product" else 2
        return (*range(last), *streams, *[last] * n_parts)

    def after(
        self,
        params: Params,
        cache: ConeCache,
        sigma: Array,
        moves: Moves,
        most: tuple[int, ...],
    ) -> ConePending:
        """What M moves change.

        Args:
            params: the parameters.
            cache: of sigma.
            sigma: (B, N).
            moves: M of them.
            most: positions of each layer that one of them changes at most.

        Returns:
            Positions (M, n), values (C, M n, B), parts (M n, B), log psi (M, B).
        """
        p, conv = self.layout.unpack(params), self.net.conv
        sites, n_out = jnp.asarray(moves.sites), conv.n_out
        at = [self.cones.at(sites, layer, n) for layer, n in enumerate(most)]
        # Entries that fill up a list read nothing; their values are dropped.
        padded = np.pad(conv.table, ((0, 0), (0, 1)), constant_values=n_out)
        table = jnp.asarray(padded)

        def convolve(number: int, x: Array) -> Array:
            reads = table[:, at[number]]  # (K, M, n)
            find = Lookup.of(reads, at[number - 1], n_out)
            values = find(cache.layers[number - 1], x)
            if conv.has_gaps:
                values = jnp.where((reads < n_out)[None, ..., None], values, 0)
            values = values.reshape(*values.shape[:2], -1, values.shape[-1])
            return biased(gathered(p[f"{number}.w"], values), p[f"{number}.b"])

        def stream(block: int, x: Array) -> Array:
            before = self.net.layers + 2 * block - 1
            find = Lookup.of(at[before + 2], at[before], n_out)
            old = cache.layers[self.cones.n_layers - 1 + block]
            return find(old, x).reshape(len(x), -1, x.shape[-1])

        first = self._first(p, sigma, moves, at[0], table[:, at[0]])
        layers = self.net.features(first, convolve, stream)
        parts = self.net.readout.parts(p["head"], layers.last)
        everywhere = jnp.arange(n_out, dtype=jnp.int32)[None]
        everywhere = jnp.broadcast_to(everywhere, (len(sites), n_out))
        find = Lookup.of(everywhere, at[-1], n_out)
        whole = [find(o[None], n[None])[0] for o, n in zip(cache.parts, parts)]
        log_psi = self.net.readout.joined(whole)
        values = ConeCache((*layers.inputs, *layers.streams), parts, log_psi)
        return ConePending(tuple(at[n] for n in self.entry_layers), values)

    def _first(
        self, p: dict[str, Array], sigma: Array, moves: Moves, at: Array, reads: Array
    ) -> Array:
        """The first layer at (M, n) from the spins at cells (K, M, n): (C, M n, B)."""
        stem, sites = self.net.stem, jnp.asarray(moves.sites)
        problem, n_sites = stem.problem, sigma.shape[1]
        basis = jnp.arange(stem.n_basis, dtype=jnp.int32).reshape(-1, 1, 1, 1)
        site = reads[None] * stem.n_basis + basis
        # Beyond the edge there is no spin: 0, in place of site N.
        site = jnp.minimum(site, n_sites)
        read = jnp.pad(sigma.T, ((0, 1), (0, 0)))[site]
        new = moved_values(sigma, moves, problem.space.local_dims, before=False)
        for j in range(sites.shape[1]):
            hit = site == sites[None, None, :, j, None]
            value = new[None, None, :, j, None, :].astype(read.dtype)
            read = jnp.where(hit[..., None], value, read)
        read = read.reshape(stem.n_basis, len(reads), -1, len(sigma))
        x = gathered(p["first.w"], scaled_spins(problem, read))
        at = jnp.minimum(at.reshape(-1), self.net.conv.n_out - 1)
        return stem.activated(p, x, at)

    def _by_distance(
        self, after: Callable[[tuple[int, ...]], Any], moves: Moves
    ) -> Any:
        """``after`` (most) with room for the moves at hand."""
        n_sites = moves.sites.shape[1]
        far, near = self.cones.most(n_sites), self.cones.close(n_sites)
        if sum(near) > TOGETHER * sum(far):
            return after(far)
        fits = self.cones.fit(jnp.asarray(moves.sites), near)
        return lax.cond(fits, lambda: after(near), lambda: after(far))

    def try_move(
        self, params: Params, cache: ConeCache, sigma: Array, move: Move
    ) -> tuple[Array, ConePending]:
        """See `WaveFunction`."""
        sites, shift = jnp.asarray(move.sites), jnp.asarray(move.shift)
        moves = Moves(sites[None], shift[None], move.exchange)
        far = self.cones.most(len(sites))

        def after(most: tuple[int, ...]) -> ConePending:
            found = self.after(params, cache, sigma, moves, most)
            return self._filled(found, far)

        found = self._by_distance(after, moves)
        new = found.new.log_psi
        return 2 * (new - cache.log_psi).real, found

    def _filled(self, found: ConePending, far: tuple[int, ...]) -> ConePending:
        """One move, with all entries filled up to ``far`` positions."""

        def fill(x: Array, layer: int, value: int) -> Array:
            width = [(0, 0)] * x.ndim
            width[-2] = (0, far[layer] - x.shape[-2])
            return jnp.pad(x, width, constant_values=value)

        which, new, n = self.entry_layers, found.new, len(found.new.layers)
        at = [fill(a.T, k, self.net.conv.n_out)[:, 0] for a, k in zip(found.at, which)]
        layers = tuple(fill(x, k, 0) for x, k in zip(new.layers, which))
        parts = tuple(fill(x, k, 0) for x, k in zip(new.parts, which[n:]))
        return ConePending(tuple(at), ConeCache(layers, parts, new.log_psi[0]))

    def commit(
        self, cache: ConeCache, pending: ConePending, accept: Array
    ) -> ConeCache:
        """See `WaveFunction`."""

        def put(old: Array, new: Array, at: Array) -> Array:
            kept = old.at[..., at, :].get(mode="clip")
            chosen = jnp.where(accept, new, kept)
            return old.at[..., at, :].set(chosen, mode="drop")

        n, new = len(cache.layers), pending.new
        layers = map(put, cache.layers, new.layers, pending.at[:n])
        parts = map(put, cache.parts, new.parts, pending.at[n:])
        log_psi = jnp.where(accept, new.log_psi, cache.log_psi)
        return ConeCache(tuple(layers), tuple(parts), log_psi)

    def log_ratios(
        self,
        params: Params,
        cache: ConeCache,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        """See `WaveFunction`; in bounded memory, chunks of moves."""
        sigma = jnp.asarray(sigma)

        def some(table: tuple[Array, Array]) -> Array:
            part = Moves(*table, moves.exchange)

            def after(most: tuple[int, ...]) -> Array:
                return self.after(params, cache, sigma, part, most).new.log_psi

            return self._by_distance(after, part) - cache.log_psi[None]

        n_positions = max(self.cones.most(moves.sites.shape[1]))
        per_move = len(sigma) * self._bytes(n_positions)
        on_cpu = jax.default_backend() == "cpu"
        budget = CHUNK_BYTES if on_cpu else default_budget()
        chunk = chunk_size(moves.n_moves, per_move, budget)
        ratios = map_chunks(some, (moves.sites, moves.shift), chunk)
        if not signed(self.net.readout.term_weights):
            return ratios
        # As in `ansatze.readouts.network`.
        empty = cache.log_psi.real <= 0.1 * LOG_ZERO
        return jnp.where(empty[None], jnp.full_like(ratios, LOG_ZERO), ratios)
