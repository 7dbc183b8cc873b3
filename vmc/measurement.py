"""Energies at frozen parameters: walkers go on, the wave function stays."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from vmc import distributed, stats
from vmc.base import Hamiltonian, Key, Params, Sampler, VMCState, WaveFunction
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.errors import NumericalError
from vmc.estimators import local_energies
from vmc.keys import Purpose, derive
from vmc.step import DRIFT_LIMIT, real_dtype

#: Draws of one call, and sweeps discarded before the first that counts.
DRAWS = 16
DISCARD = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Measurement:
    """What a `vmc.driver.VMC`, whose attributes these are, does between steps."""

    hamiltonian: Hamiltonian
    wavefunction: WaveFunction
    sampler: Sampler
    mesh: Mesh
    precision: str
    chunk: int | None

    def energy(
        self,
        state: VMCState,
        n_samples: int,
        *,
        to_error: float | None = None,
        progress: Callable[[stats.Estimate], None] | None = None,
    ) -> stats.Estimate:
        """Energy of the frozen parameters; see `vmc.driver.VMC.measure`."""
        if self.sampler.is_full:
            return self._sum(state)
        n_chains = self.sampler.n_chains
        target = -(-n_samples // n_chains)
        limit = target * (64 if to_error else 1)
        chains, drawn = state.chains, 0
        energies: list[np.ndarray] = []
        imaginary: list[np.ndarray] = []
        result = None
        while result is None or drawn < target + DISCARD:
            discard = drawn < DISCARD
            left = (DISCARD if discard else target + DISCARD) - drawn
            n = min(DRAWS, left)
            path = np.array([Purpose.MEASURE, int(state.step), drawn], np.int32)
            chains, rows, drift = self.walk(state.params, chains, state.key, path, n)
            drawn += n
            rows = np.asarray(rows, np.float64)[:n]
            drift = float(drift)
            fine = np.all(np.isfinite(rows)) and drift <= DRIFT_LIMIT[self.precision]
            if not fine:
                raise NumericalError(
                    "the measurement met a local energy of "
                    f"{np.max(np.abs(rows))} (cache drift {drift:.1e}). The "
                    "parameters are not usable: resume from an earlier checkpoint with "
                    "a smaller learning_rate."
                )
            if discard:
                continue
            energies.append(rows[:, 0])
            imaginary.append(rows[:, 1])
            x = np.concatenate(energies)
            variance = float(np.var(x) + np.var(np.concatenate(imaginary)))
            result = stats.estimate(x, variance)
            if progress:
                progress(result)
            wanted = to_error and result.error > to_error * abs(result.mean)
            if wanted and drawn >= target + DISCARD:
                target = min(target + max(target // 2, 1), limit)
        return result

    def _sum(self, state: VMCState) -> stats.Estimate:
        """The energy as a sum over all configurations."""

        def run(hamiltonian: Hamiltonian, params: Params, chains: Any, key: Key) -> Any:
            _, samples, info = self.sampler.sample(key, params, chains)
            eloc = local_energies(
                self.wavefunction, hamiltonian, params, samples[0], self.chunk
            )
            weights = info.weights[0]  # pyright: ignore[reportOptionalSubscript]
            mean = distributed.total(jnp.sum(weights * eloc))
            squares = weights * jnp.abs(eloc - mean) ** 2
            return mean.real, distributed.total(jnp.sum(squares))

        specs = (REPLICATED, REPLICATED, BY_WALKER, REPLICATED)
        program = distributed.compiled(run, self.mesh, specs, (REPLICATED, REPLICATED))
        mean, variance = map(
            float, program(self.hamiltonian, state.params, state.chains, state.key)
        )
        n = self.sampler.n_chains
        if not math.isfinite(mean + variance):
            raise NumericalError(f"the energy is {mean}, its variance {variance}")
        return stats.Estimate(mean, 0.0, variance, 1.0, 1.0, n, float(n))

    def walk(
        self, params: Params, chains: Any, key: Key, path: np.ndarray, n: int
    ) -> tuple[Any, Array, Array]:
        """``n`` draws at frozen parameters, at most `DRAWS`.

        Args:
            params: parameters of psi.
            chains: walkers, as the sampler keeps them.
            key: root key of the run.
            path: (purpose, number, draws before these), int32 (3,).
            n: how many.

        Returns:
            Chains, real and imaginary parts of the local energies (`DRAWS`, 2,
            n_chains), of which the first ``n`` rows count, and the cache drift.
        """
        return self._program(self.hamiltonian, params, chains, key, path, np.int32(n))

    @functools.cached_property
    def _program(self) -> Callable[..., Any]:
        sampler = self.sampler.with_draws(1)

        def run(
            hamiltonian: Hamiltonian,
            params: Params,
            chains: Any,
            root: Key,
            path: Array,
            n: Array,
        ) -> tuple[Any, Array, Array]:
            key = derive(root, path[0], path[1])

            def body(i: Array, loop: Any) -> Any:
                chains, rows, drift = loop
                t = path[2] + i
                chains, samples, info = sampler.sample(derive(key, t), params, chains)
                eloc = local_energies(
                    self.wavefunction, hamiltonian, params, samples[0], self.chunk
                )
                pair = jnp.stack([eloc.real, eloc.imag]).astype(dtype)
                rows = rows.at[i].set(pair)
                return chains, rows, jnp.maximum(drift, info.drift.astype(dtype))

            dtype = real_dtype(self.precision)
            n_local = self.sampler.n_chains // distributed.n_devices()
            rows = jnp.zeros((DRAWS, 2, n_local), dtype)
            loop = (chains, rows, jnp.zeros((), dtype))
            chains, rows, drift = lax.fori_loop(0, n, body, loop)
            # Once for all draws: a collective costs more than what it carries.
            return chains, distributed.gather(rows, axis=2), distributed.largest(drift)

        specs = (REPLICATED, REPLICATED, BY_WALKER, REPLICATED, REPLICATED, REPLICATED)
        return distributed.compiled(
            run, self.mesh, specs, (BY_WALKER, REPLICATED, REPLICATED)
        )
