"""Large Renyi-2 entropies: the swap of a region, a few sites at a time.

With W_A(x, y) = psi*(x) psi*(y) psi(x') psi(y'), x' and y' with the sites of A
exchanged, Tr rho_A^2 is the sum of W_A over the sum of W of the empty region
(arXiv:1001.2335).  Along nested regions k = 0, 1, ... the ratio of neighbouring sums
of |W_k| is of order one.  It follows from Markov chains of pairs with the weights
|W_k| by a geometric bridge,

    Z_k+1 / Z_k = < |W_k+1 / W_k|^(1/2) >_k / < |W_k / W_k+1|^(1/2) >_k+1,

whose terms have finite variance whatever psi is.  The average of cos arg W_A in the
last of them gives the sign, where psi is not positive.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from vmc import distributed
from vmc.base import Key, Move, Moves, Params, WaveFunction
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.errors import JobError, NumericalError
from vmc.keys import derive, shared_integers, walker_bits
from vmc.moves import exchanges, inverse, join, local_flips
from vmc.space import Spins
from vmc.swap import RESOLVED, Entropy, checked_region
from vmc.wavefunction import apply_move

#: Sites by which one region exceeds the one before.
STEP = 2
#: Chains of every region, draws of each, and draws before these.
CHAINS, DRAWS, DISCARD = 128, 128, 64
#: Standard errors by which the halves of a measurement may differ.
SETTLED = 4.0


def proposals(space: Spins, own: Moves) -> Moves:
    """Moves of one replica that reach the whole space.

    Args:
        space: the configurations.
        own: moves of the Hamiltonian, for spaces with more rules than total Sz.
    """
    if space.charges or space.blockade:
        if space.total_sz is None and not space.charges:
            return join(local_flips(space), own, space)
        return own
    if space.total_sz is None:
        return local_flips(space)
    return exchanges(space, np.argwhere(np.triu(np.ones((space.n_sites,) * 2), 1)))


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """Markov chains of pairs of configurations; static part."""

    wavefunction: WaveFunction
    space: Spins
    moves: Moves
    n_draws: int

    def log_weight(
        self, params: Params, pairs: Array, mask: Array
    ) -> tuple[Array, Array]:
        """log |W| and arg W, real (B,), of pairs (B, 2, N) and regions (B, N)."""
        x, y = pairs[:, 0], pairs[:, 1]
        swapped = [jnp.where(mask, y, x), jnp.where(mask, x, y)]
        logs = self.wavefunction.log_psi(params, jnp.concatenate([x, y, *swapped]))
        logs = logs.reshape(4, -1)
        inside = in_sector(self.space, swapped[0]) & in_sector(self.space, swapped[1])
        size = jnp.sum(logs.real, axis=0)
        phase = jnp.sum(logs[2:].imag, axis=0) - jnp.sum(logs[:2].imag, axis=0)
        return jnp.where(inside, size, -jnp.inf), phase

    def _moved(self, sigma: Array, move: Move, back: Array) -> tuple[Array, Array]:
        """Configurations after a move or its inverse, and whether it is allowed."""
        dims = self.space.local_dims
        other = inverse(move, dims)
        moved = jnp.where(
            back[:, None],
            apply_move(sigma, other, dims),
            apply_move(sigma, move, dims),
        )
        rows = [Moves(m.sites[None], m.shift[None], m.exchange) for m in (move, other)]
        allowed = [self.space.allows(sigma, row)[0] for row in rows]
        return moved, jnp.where(back, allowed[1], allowed[0])

    def run(self, params: Params, pairs: Array, masks: Array, key: Key) -> Array:
        """Draws of |W_next / W|^(1/2), |W_before / W|^(1/2) and cos arg W, (T, 3, B).

        Args:
            params: parameters of psi.
            pairs: int8 (B, 2, N), starts of weight above 0.
            masks: bool (B, 3, N), the region of each chain, the next, the one before.
            key: random key.
        """
        n, n_local = self.space.n_sites, pairs.shape[0]
        mask = masks[:, 0]
        table = jax.tree.map(jnp.asarray, self.moves)

        def propose(i: Array, loop: Any) -> Any:
            pairs, log_w, chosen, words = loop
            accept_word, back = words[2 * i], words[2 * i + 1]
            news, allowed = [], jnp.ones(n_local, bool)
            for r in (0, 1):
                move = table[chosen[0, i] if r == 0 else chosen[1, i]]
                new, ok = self._moved(pairs[:, r], move, (back >> r) % 2 == 1)
                moves = (chosen[2, i] == r) | (chosen[2, i] == 2)
                news.append(jnp.where(moves, new, pairs[:, r]))
                allowed = allowed & (ok | ~moves)
            proposed = jnp.stack(news, axis=1)
            new_w = self.log_weight(params, proposed, mask)[0]
            uniform = accept_word.astype(new_w.dtype) * 2.0**-32
            accept = allowed & (uniform < jnp.exp(new_w - log_w))
            pairs = jnp.where(accept[:, None, None], proposed, pairs)
            return pairs, jnp.where(accept, new_w, log_w), chosen, words

        def draw(pairs: Array, t: Array) -> tuple[Array, Array]:
            step = derive(key, t)
            counts = (table.n_moves, table.n_moves, 3)
            chosen = jnp.stack(
                [
                    shared_integers(derive(step, 1, k), counts[k], 2 * n)
                    for k in range(3)
                ]
            )
            words = walker_bits(derive(step, 2), n_local, 4 * n)
            log_w = self.log_weight(params, pairs, mask)[0]
            loop = (pairs, log_w, chosen, words)
            pairs = lax.fori_loop(0, 2 * n, propose, loop)[0]
            log_w, phase = self.log_weight(params, pairs, mask)
            others = [self.log_weight(params, pairs, masks[:, k])[0] for k in (1, 2)]
            roots = [jnp.exp((other - log_w) / 2) for other in others]
            return pairs, jnp.stack([*roots, jnp.cos(phase)])

        _, rows = lax.scan(draw, pairs, jnp.arange(self.n_draws))
        return distributed.gather(rows, axis=2)


def in_sector(space: Spins, sigma: Array) -> Array:
    """Whether configurations (B, N) belong to the space, bool (B,)."""
    inside = jnp.ones(sigma.shape[0], bool)
    values = sigma.astype(jnp.int32)
    if space.total_sz is not None:
        inside = jnp.sum(values, axis=1) == space.twice_sz
    lowered = (jnp.asarray(space.local_dims, jnp.int32)[None] - 1 - values) // 2
    for charge in space.charges:
        total = lowered @ jnp.asarray(charge.weights, jnp.int32)
        inside = inside & charge.fits(total - charge.value)
    for i, j in space.blockade:
        inside = inside & ~((lowered[:, i] > 0) & (lowered[:, j] > 0))
    return inside


def entropy_by_ratios(
    wavefunction: WaveFunction,
    params: Params,
    space: Spins,
    own: Moves,
    start: np.ndarray,
    region: Sequence[int],
    key: Key,
    mesh: Mesh,
) -> Entropy:
    """The Renyi-2 entropy of a region from Markov chains of pairs.

    Args:
        wavefunction: psi.
        params: its parameters.
        space: the configurations.
        own: moves of the Hamiltonian.
        start: int8 (n, N), samples of |psi|^2: both members of a pair start there.
            The chains then approach their own weights for `DISCARD` draws.
        region: sites of A.
        key: random key.
        mesh: devices that share the chains.

    Raises:
        JobError: the region is none, or there is nothing to start from.
        NumericalError: an amplitude is not finite.
    """
    sites = checked_region(region, space.n_sites)
    if len(start) == 0:
        raise JobError("the chains of pairs need samples to start from")
    ends = [*range(0, len(sites), STEP), len(sites)]
    regions = np.array([np.isin(np.arange(space.n_sites), sites[:k]) for k in ends])
    n_levels = len(regions)
    level = np.arange(n_levels)
    around = [level, np.minimum(level + 1, n_levels - 1), np.maximum(level - 1, 0)]
    n = -(-CHAINS // mesh.size) * mesh.size
    masks = np.repeat(np.stack([regions[k] for k in around], axis=1), n, axis=0)
    first = np.resize(start, (len(masks), space.n_sites))
    pairs = np.stack([first, first], axis=1)
    chains = _Pairs(wavefunction, space, proposals(space, own), DISCARD + DRAWS)
    specs = (REPLICATED, BY_WALKER, BY_WALKER, REPLICATED)
    program = distributed.compiled(chains.run, mesh, specs, REPLICATED)
    rows = np.asarray(program(params, pairs, masks, key), np.float64)[DISCARD:]
    if not np.all(np.isfinite(rows)):
        raise NumericalError("an amplitude of a pair of configurations is not finite")
    signed = wavefunction.range != "positive"
    found, *halves = (
        _combined(np.mean(part, axis=0).reshape(3, n_levels, n), signed)
        for part in (rows, rows[: DRAWS // 2], rows[DRAWS // 2 :])
    )
    return _judged(found, halves)


def _judged(found: Entropy, halves: list[Entropy]) -> Entropy:
    """An entropy whose error knows of a drift between the halves of its draws."""
    first, second = halves
    if found.error is None or first.s2 is None or second.s2 is None:
        return found
    drift = abs(first.s2 - second.s2)
    if drift <= SETTLED * 2 * found.error:
        return found
    return found._replace(error=drift, purity_error=found.purity * drift)


def _combined(means: np.ndarray, signed: bool) -> Entropy:
    """-ln of the product of all ratios, with its error.

    Args:
        means: of the chains: towards the next region, to the one before, and of the
            cosine, (3, levels, chains).
        signed: whether the cosine counts.
    """
    up, down = means[0, :-1], means[1, 1:]
    factors = [*((x, 1) for x in up), *((x, -1) for x in down)]
    # The chains of a level give several factors, which fluctuate together.
    levels = [*range(len(up)), *range(1, len(up) + 1)]
    if signed:
        factors.append((means[2, -1], 1))
        levels.append(len(up))
    n = means.shape[2]
    values = np.array([np.mean(x) for x, _ in factors])
    errors = np.array([np.std(x, ddof=1) for x, _ in factors]) / math.sqrt(n)
    signs = np.array([sign for _, sign in factors])
    unresolved = values <= RESOLVED * errors
    purity = float(np.prod(np.where(values > 0, values, 0.0)[signs > 0]))
    purity = purity / float(np.prod(np.maximum(values, 1e-300)[signs < 0]))
    noise = np.zeros((len(up) + 1, n))
    for (x, sign), value, k in zip(factors, values, levels, strict=True):
        noise[k] += sign * x / max(value, 1e-300)
    relative = math.sqrt(np.sum(np.var(noise, axis=1, ddof=1)) / n)
    if unresolved[signs < 0].any():
        # No bridge leads back: neighbouring regions have nothing in common.
        return Entropy(None, None, 0.0, purity, purity * relative, "ratios")
    if unresolved.any():
        least = np.where(unresolved, RESOLVED * np.maximum(errors, 1e-300), values)
        bound = max(-float(np.sum(signs * np.log(least))), 0.0)
        return Entropy(None, None, bound, purity, purity * relative, "ratios")
    # ln of a noisy mean is too small by half its relative variance.
    logs = np.log(values) + 0.5 * (errors / values) ** 2
    s2 = -float(np.sum(signs * logs))
    return Entropy(s2, relative, None, purity, purity * relative, "ratios")
