"""Frozen parameters: walkers go on, the wave function stays, averages accumulate.

Energy and observables come from one pass over the samples, in memory that does not
grow with their number.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from vmc import distributed, observables, stats
from vmc.base import Hamiltonian, Key, Params, Sampler, VMCState, WaveFunction
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.errors import NumericalError
from vmc.estimators import local_energies
from vmc.keys import Purpose, derive
from vmc.observables import Kernel
from vmc.penalties import own, with_own
from vmc.step import DRIFT_LIMIT, real_dtype
from vmc.streaming import Averages, Blocks, Stream, Sums

#: Draws of one call, and sweeps discarded before the first that counts.
DRAWS = 16
DISCARD = 10
#: Configurations that are kept for what needs pairs of them.
KEPT = 1 << 15

Kernels = Mapping[str, Kernel]
Progress = Callable[[stats.Estimate], None]


class Measured(NamedTuple):
    """What a measurement found.

    Attributes:
        energy: the total energy.
        averages: of the features of the kernels.
        samples: int8 (n, C, N), some configurations of every chain, evenly spread over
            the measurement, of all chains at the same time; None if not asked for.
    """

    energy: stats.Estimate
    averages: Averages
    samples: np.ndarray | None = None


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
        progress: Progress | None = None,
    ) -> stats.Estimate:
        """Energy of the frozen parameters; see `vmc.driver.VMC.measure`."""
        return self.observe(
            state, n_samples, {}, to_error=to_error, progress=progress
        ).energy

    def observe(
        self,
        state: VMCState,
        n_samples: int,
        kernels: Kernels,
        *,
        keep: bool = False,
        to_error: float | None = None,
        progress: Progress | None = None,
    ) -> Measured:
        """Energy and observables of the frozen parameters, from the same samples.

        Args:
            state: parameters and starting walkers; it is not changed.
            n_samples: samples over all devices, rounded up to whole draws.
            kernels: what is averaged, by name.  The samples, and so the energy, do
                not depend on it.
            keep: whether configurations are wanted, see `Measured`.
            to_error: go on beyond ``n_samples`` (up to 64 times as many) until the
                error is below this fraction of the energy.
            progress: called with the estimate so far.

        Raises:
            NumericalError: an energy or a feature was not finite.
        """
        # In the order in which JAX sees a dictionary.
        kernels = dict(sorted(kernels.items()))
        state = state._replace(chains=own(state.chains))
        if self.sampler.is_full:
            return self._sum(state, kernels)
        pass_ = _Pass(self, state, kernels, keep)
        pass_.thermalise()
        target = -(-n_samples // self.sampler.n_chains)
        limit = target * (64 if to_error else 1)
        while True:
            result = pass_.go_on(min(DRAWS, target - pass_.stream.n_draws))
            if progress:
                progress(result)
            if pass_.stream.n_draws < target:
                continue
            wanted = to_error and result.error > to_error * abs(result.mean)
            if not wanted or target >= limit:
                return pass_.measured(result)
            target = min(target + max(target // 2, 1), limit)

    def _sum(self, state: VMCState, kernels: Kernels) -> Measured:
        """Energy and features as sums over all configurations."""
        wf, params = self.wavefunction, state.params
        n_local = self.sampler.n_chains // self.mesh.size
        chunk = self._features_at_once(kernels, params, n_local)

        def moments(
            hamiltonian: Hamiltonian, params: Params, chains: Any, key: Key
        ) -> Any:
            _, samples, info = self.sampler.sample(key, params, chains)
            eloc = local_energies(wf, hamiltonian, params, samples[0], self.chunk)
            weights = info.weights[0]  # pyright: ignore[reportOptionalSubscript]
            mean = distributed.total(jnp.sum(weights * eloc))
            squares = weights * jnp.abs(eloc - mean) ** 2
            return mean.real, distributed.total(jnp.sum(squares))

        def averages(
            hamiltonian: Hamiltonian, kernels: Any, params: Params, chains: Any
        ) -> Array:
            key = jax.random.key(0)  # not used by a full sum
            _, samples, info = self.sampler.sample(key, params, chains)
            values = observables.features(
                kernels, wf, hamiltonian, params, samples[0], chunk
            )
            weights = info.weights[0]  # pyright: ignore[reportOptionalSubscript]
            # Repetitions that fill up the devices have weight 0.
            values = jnp.where(weights[None] > 0, weights[None] * values, 0)
            return distributed.total(jnp.sum(values, axis=1))

        specs = (REPLICATED, REPLICATED, BY_WALKER, REPLICATED)
        program = distributed.compiled(
            moments, self.mesh, specs, (REPLICATED, REPLICATED)
        )
        mean, variance = map(
            float, program(self.hamiltonian, params, state.chains, state.key)
        )
        n = self.sampler.n_chains
        if not math.isfinite(mean + variance):
            raise NumericalError(f"the energy is {mean}, its variance {variance}")
        energy = stats.Estimate(mean, 0.0, variance, 1.0, 1.0, n, float(n), 0.0, 0.0)
        sizes = {name: kernel.n_features for name, kernel in kernels.items()}
        if not kernels:
            return Measured(energy, Sums(sizes, np.zeros(0)))
        near = {name: kernel.near(mean) for name, kernel in kernels.items()}
        specs = (REPLICATED, REPLICATED, REPLICATED, BY_WALKER)
        program = distributed.compiled(averages, self.mesh, specs, REPLICATED)
        means = program(self.hamiltonian, near, params, state.chains)
        return Measured(energy, Sums(sizes, _finite(np.asarray(means, np.float64))))

    def thermalised(self, params: Params, chains: Any, key: Key, n_sweeps: int) -> Any:
        """Chains after so many draws that nobody looks at."""
        for done in range(0, n_sweeps, DRAWS):
            path = np.array([Purpose.INIT, 1, done], np.int32)
            n = min(DRAWS, n_sweeps - done)
            new = self.walk(params, own(chains), key, path, n)[0]
            chains = with_own(chains, new)
        return chains

    def prepare(self, state: VMCState) -> None:
        """Begin to compile `walk` for a state, or its shapes."""
        path, n = np.zeros(3, np.int32), np.int32(1)
        psi = (self.hamiltonian, {}, state.params)
        self._program.prepare(*psi, own(state.chains), state.key, path, n)

    def walk(
        self, params: Params, chains: Any, key: Key, path: np.ndarray, n: int
    ) -> tuple[Any, Array, Array]:
        """``n`` draws at frozen parameters, at most `DRAWS`.

        Args:
            params: parameters of psi.
            chains: walkers of psi, as its sampler keeps them.
            key: root key of the run.
            path: (purpose, number, draws before these), int32 (3,).
            n: how many.

        Returns:
            Chains, real and imaginary parts of the local energies (`DRAWS`, 2,
            n_chains), of which the first ``n`` rows count, and the cache drift.
        """
        out = self._program(
            self.hamiltonian, {}, params, chains, key, path, np.int32(n)
        )
        return out[0], out[1], out[2]

    def _features_at_once(self, kernels: Kernels, params: Params, n_local: int) -> int:
        if not kernels:
            return n_local
        return observables.samples_at_once(
            kernels, self.wavefunction, self.hamiltonian, params, n_local
        )

    @functools.cached_property
    def _program(self) -> distributed.Program:
        """Draws and energies alone: the program of burn-in and of most runs."""
        return self.program({}, None, False)

    def program(
        self, kernels: Kernels, params: Params, observed: bool = True
    ) -> distributed.Program:
        """A compiled loop over draws that also adds up the features of kernels.

        Its arguments are the Hamiltonian, the kernels, and those of `walk`; its
        results those of `walk` and, if ``observed``, sums of features (F, n_chains)
        and the last draw, int8 (n_chains, N).
        """
        sampler = self.sampler.with_draws(1)
        dtype = real_dtype(self.precision)
        n_local = self.sampler.n_chains // self.mesh.size
        n_features = sum(kernel.n_features for kernel in kernels.values())
        chunk = self._features_at_once(kernels, params, n_local)

        def run(
            hamiltonian: Hamiltonian,
            kernels: Any,
            params: Params,
            chains: Any,
            root: Key,
            path: Array,
            n: Array,
        ) -> Any:
            key = derive(root, path[0], path[1])
            psi = (self.wavefunction, hamiltonian, params)

            def body(i: Array, loop: Any) -> Any:
                chains, rows, drift, *more = loop
                t = path[2] + i
                chains, samples, info = sampler.sample(derive(key, t), params, chains)
                eloc = local_energies(*psi, samples[0], self.chunk)
                pair = jnp.stack([eloc.real, eloc.imag]).astype(dtype)
                rows = rows.at[i].set(pair)
                drift = jnp.maximum(drift, info.drift.astype(dtype))
                if observed:
                    values = observables.features(kernels, *psi, samples[0], chunk)
                    more = [more[0] + values.astype(dtype), samples[0]]
                return chains, rows, drift, *more

            rows = jnp.zeros((DRAWS, 2, n_local), dtype)
            more = []
            if observed:
                shape = (n_local, hamiltonian.space.n_sites)
                sums = jnp.zeros((n_features, n_local), dtype)
                more = [sums, jnp.zeros(shape, jnp.int8)]
            loop = (chains, rows, jnp.zeros((), dtype), *more)
            chains, rows, drift, *more = lax.fori_loop(0, n, body, loop)
            # Once for all draws: a collective costs more than what it carries.
            gathered = [distributed.gather(x, axis=1 - k) for k, x in enumerate(more)]
            rows = distributed.gather(rows, axis=2)
            return chains, rows, distributed.largest(drift), *gathered

        specs = (REPLICATED,) * 3 + (BY_WALKER,) + (REPLICATED,) * 3
        outs = (BY_WALKER,) + (REPLICATED,) * (4 if observed else 2)
        return distributed.compiled(run, self.mesh, specs, outs)


class _Pass:
    """One pass over the samples: walkers and what has accumulated."""

    def __init__(
        self,
        measurement: Measurement,
        state: VMCState,
        kernels: Kernels,
        keep: bool,
    ) -> None:
        self._m = measurement
        self._state = state
        self._kernels = dict(kernels)
        self._keeps = keep
        self._chains, self._drawn = state.chains, 0
        n_chains = measurement.sampler.n_chains
        sizes = {name: kernel.n_features for name, kernel in kernels.items()}
        self.stream = Stream(n_chains)
        self._blocks = Blocks(n_chains, sizes, DRAWS)
        self._samples: list[np.ndarray] = []
        self._every, self._calls = 1, 0
        self._program: Callable[..., Any] | None = None

    def thermalise(self) -> None:
        """Draws that do not count; then the kernels learn about the energy."""
        rows = self._call(DISCARD)[:DISCARD, 0]
        if self._kernels or self._keeps:
            energy = float(np.mean(rows))
            self._kernels = {k: v.near(energy) for k, v in self._kernels.items()}
            self._program = self._m.program(self._kernels, self._state.params)

    def go_on(self, n: int) -> stats.Estimate:
        """Further draws; the estimate so far."""
        rows = self._call(n)
        self.stream.add(rows[:, 0], rows[:, 1])
        return self.stream.estimate(left_out=DISCARD)

    def measured(self, energy: stats.Estimate) -> Measured:
        """The result."""
        self._blocks.leave_out(self.stream.settled())
        samples = np.stack(self._samples) if self._samples else None
        return Measured(energy, self._blocks, samples)

    def _call(self, n: int) -> np.ndarray:
        """``n`` draws: their local energies (n, 2, C)."""
        state, m = self._state, self._m
        path = np.array([Purpose.MEASURE, int(state.step), self._drawn], np.int32)
        args = (state.params, self._chains, state.key, path)
        if self._program is None:
            self._chains, rows, drift = m.walk(*args, n)
        else:
            self._chains, rows, drift, sums, last = self._program(
                m.hamiltonian, self._kernels, *args, np.int32(n)
            )
            self._blocks.add(_finite(np.asarray(sums, np.float64)), n)
            if self._keeps:
                self._keep(np.asarray(last))
        self._drawn += n
        rows = np.asarray(rows, np.float64)[:n]
        drift = float(drift)
        if not (np.all(np.isfinite(rows)) and drift <= DRIFT_LIMIT[m.precision]):
            raise NumericalError(
                "the measurement met a local energy of "
                f"{np.max(np.abs(rows))} (cache drift {drift:.1e}). The "
                "parameters are not usable: resume from an earlier checkpoint with "
                "a smaller learning_rate."
            )
        return rows

    def _keep(self, sigma: np.ndarray) -> None:
        """Keep this draw of all chains, every second one when there are too many."""
        if self._calls % self._every == 0:
            self._samples.append(sigma)
            if len(self._samples) > max(1, KEPT // len(sigma)):
                self._samples = self._samples[::2]
                self._every *= 2
        self._calls += 1


def _finite(values: np.ndarray) -> np.ndarray:
    """Refuse features that are not numbers."""
    if not np.all(np.isfinite(values)):
        raise NumericalError(
            "an observable is not a finite number for some configuration: psi almost "
            "vanishes there. Measure fewer observables to find which, or train with "
            'precision = "float64".'
        )
    return values
