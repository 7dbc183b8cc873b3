"""Delayed acceptance: a cheap wave function proposes, the expensive one accepts.

Where every ratio of psi costs a full evaluation (deep nets), a sweep costs N of them.
Here a Jastrow factor phi, fitted to log |psi|, walks instead: some moves of |phi|^2
are one proposal, accepted with min(1, w(sigma') / w(sigma)), w = |psi|^2 / |phi|^2, for
one evaluation of psi (J. A. Christen and C. Fox, J. Comput. Graph. Stat. 14, 795
(2005)).

Two things make that exact, whatever the fit is worth.  The moves of a proposal come in
an order that reads the same backwards, so that the walk is reversible with respect to
|phi|^2.  And the walkers are two halves, each of which is moved by the phi that was
fitted to the other one: given those, phi is fixed.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from vmc import distributed
from vmc.base import Key, Moves, Params, Sampler, SamplerInfo, WaveFunction
from vmc.distributed import check_divisible
from vmc.errors import JobError
from vmc.factors import expand_factors
from vmc.keys import Purpose, derive, walker_bits
from vmc.metropolis import Metropolis
from vmc.samplers import check_chain, two_way
from vmc.space import Spins

#: Added to the diagonal of the fit, relative to its mean: parts of phi that the samples
#: do not fix stay small.
RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class _Delayed:
    """Static part; walkers are (B, N), halves are walkers of even and odd number."""

    wavefunction: WaveFunction
    model: WaveFunction
    inner: Metropolis
    n_moves: int
    n_chains: int
    n_draws: int
    n_sweeps: int

    def init(self, key: Key, params: Params) -> Array:
        del params
        n_local = self.n_chains // distributed.n_devices()
        space = self.inner.space
        bits = walker_bits(derive(key, Purpose.INIT, 0), n_local, space.n_sites)
        return space.random(bits)

    def sample(
        self, key: Key, params: Params, chains: Array
    ) -> tuple[Array, Array, SamplerInfo]:
        def one(carry: Any, t: Array) -> tuple[Any, Any]:
            carry, accepted, drift = self._propose(derive(key, t), params, *carry)
            return carry, (carry[0], accepted, drift)

        start = (chains, self.wavefunction.log_psi(params, chains).real)
        n = self.n_draws * self.n_sweeps
        (sigma, log_psi), (all_, accepted, drift) = lax.scan(one, start, jnp.arange(n))
        samples = all_[self.n_sweeps - 1 :: self.n_sweeps]
        info = SamplerInfo(jnp.mean(accepted), jnp.max(drift), log_psi)
        return sigma, samples, info

    def _propose(
        self, key: Key, params: Params, sigma: Array, log_psi: Array
    ) -> tuple[tuple[Array, Array], Array, Array]:
        """One proposal to each half in turn."""
        halves = [sigma[0::2], sigma[1::2]]
        values = [log_psi[0::2], log_psi[1::2]]
        accepted, drifts = [], []
        for mine in 0, 1:
            step = derive(key, Purpose.DIRECT, mine)
            old = halves[mine]
            phi = self.fit(halves[1 - mine], values[1 - mine])
            before = self.model.log_psi(phi, old)
            new, _, drift, after = self.inner.walk(
                step, phi, old, self.n_moves, mirrored=True
            )
            value = self.wavefunction.log_psi(params, new).real
            gain = 2 * (value - values[mine]) - 2 * (after - before)
            word = walker_bits(derive(step, Purpose.ACCEPT, 1), len(new), 1)[0]
            accept = word.astype(gain.dtype) * 2.0**-32 < jnp.exp(gain)
            halves[mine] = jnp.where(accept[:, None], new, old)
            values[mine] = jnp.where(accept, value, values[mine])
            accepted.append(jnp.mean(accept.astype(value.dtype)))
            drifts.append(drift)
        sigma = jnp.stack(halves, axis=1).reshape(sigma.shape)
        log_psi = jnp.stack(values, axis=1).reshape(log_psi.shape)
        return (sigma, log_psi), jnp.mean(jnp.stack(accepted)), jnp.maximum(*drifts)

    def fit(self, sigma: Array, log_psi: Array) -> Params:
        """Parameters of phi, least squares of log |psi| over all devices.

        Walkers where psi vanishes do not count.
        """
        start = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(self.model.init, jax.random.key(0)),
        )
        leaves, structure = jax.tree.flatten(start)
        blocks = structure.flatten_up_to(self.model.scores(start, sigma))
        x = jnp.concatenate([expand_factors(f) for f in blocks], axis=1)
        good = jnp.isfinite(log_psi)
        weight = good.astype(x.dtype)
        y = jnp.where(good, log_psi, 0).astype(x.dtype)
        count, sums, mean = distributed.total((jnp.sum(weight), weight @ x, jnp.sum(y)))
        count = jnp.maximum(count, 1)
        x = (x - (sums / count)[None]) * weight[:, None]
        y = (y - mean / count) * weight
        matrix, force = distributed.total((x.T @ x, x.T @ y))
        shift = RIDGE * jnp.trace(matrix) / len(matrix) + jnp.finfo(x.dtype).tiny
        found = jnp.linalg.solve(matrix + shift * jnp.eye(len(matrix)), force)
        ends = functools.reduce(lambda at, p: [*at, at[-1] + p.size], leaves, [0])
        parts = [found[a:b].reshape(p.shape) for a, b, p in zip(ends, ends[1:], leaves)]
        return structure.unflatten([v.astype(p.dtype) for v, p in zip(parts, leaves)])


def delayed(
    wavefunction: WaveFunction,
    model: WaveFunction,
    space: Spins,
    moves: Moves,
    *,
    n_chains: int,
    n_draws: int = 1,
    n_sweeps: int = 1,
    n_moves: int,
    n_devices: int = 1,
) -> Sampler:
    """Proposals by moves of a fitted phi, one evaluation of psi each.

    Args:
        wavefunction: psi, any.
        model: phi, positive, with log phi linear in its parameters; scores of a few
            hundred parameters at most.
        space: the configurations.
        moves: of the walk of phi.
        n_chains: walkers over all devices; a multiple of twice the devices.
        n_draws: T, samples per walker and call.
        n_sweeps: proposals before each sample.
        n_moves: moves of phi in one proposal.
        n_devices: devices that share the walkers.

    Raises:
        JobError: a number does not fit, or phi is not positive.
    """
    check_divisible(n_chains, n_devices)
    if n_chains // n_devices % 2:
        raise JobError(
            f"n_chains = {n_chains}: delayed acceptance moves one half of the walkers "
            f"of each of {n_devices} devices by what is fitted to the other; give a "
            f"multiple of {2 * n_devices}"
        )
    check_chain(moves, n_draws=n_draws, n_sweeps=n_sweeps, n_moves=n_moves)
    if model.range != "positive":
        raise JobError(f"the surrogate is {model.range}; it has to be positive")
    both_ways = two_way(space, moves)
    inner = Metropolis(model, space, moves, n_chains // 2, 1, 1, 0, both_ways)

    def build(draws: int) -> Sampler:
        static = _Delayed(
            wavefunction, model, inner, n_moves, n_chains, draws, n_sweeps
        )
        return Sampler(static.init, static.sample, n_chains, draws, build)

    return build(n_draws)
