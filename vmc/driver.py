"""The search: start, advance by steps, measure."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.sharding import Mesh

from vmc import distributed, healing, measurement, memory, starts, stats
from vmc.base import Hamiltonian, Key, Params, Sampler, VMCState, WaveFunction
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.errors import JobError, NumericalError
from vmc.keys import Purpose, derive, root_key
from vmc.penalties import Penalty, accompanied
from vmc.records import Records, per_step
from vmc.step import (
    DRIFT_LIMIT,
    TRACED,
    Carry,
    Step,
    carry_specs,
    gave_up,
    real_dtype,
)


class Control(NamedTuple):
    """What is carried between steps besides the state itself.

    Attributes:
        window: mean local energy of each chain in the last good steps,
            (at most `vmc.records.WINDOW`, n_chains).
        healing: the last good point and how things went since; see `vmc.healing`.
            None, from a checkpoint that lacks it: see `VMC.completed`.
    """

    window: np.ndarray
    healing: healing.Healing | None


@dataclasses.dataclass(frozen=True, eq=False)
class VMC:
    """A ground-state search, ready to run.

    Example::

        vmc = VMC(hamiltonian, wavefunction, sampler, optimizer, seed=1)
        state = vmc.init()
        state, records = vmc.advance(state, 10)
        energy = vmc.measure(state, 65536)

    Attributes:
        hamiltonian: H, a pytree and an argument of every compiled function.
        wavefunction: psi.
        sampler: draws samples; ``n_chains * n_draws`` per step.
        optimizer: an optax transformation; those of `vmc.precondition` receive the
            lazy geometry of the step, others 2F.
        learning_rate: number, or traceable step -> number, for the records.
        seed: of every random number of the run.
        mesh: devices, default all.
        precision: "float64", "float32" or "mixed".
        steps_per_dispatch: steps between two looks of the host.
        chunk: samples per chunk of the local energies; None takes all at once.
        burn_in: sweeps of the walkers before the first step.
        clip: median absolute deviations beyond which local energies count less in
            gradients; None leaves them as they are.
        penalties: states that psi is to be orthogonal to.  Steps follow, and report,
            the energy with the penalties; measurements know H alone.
    """

    hamiltonian: Hamiltonian
    wavefunction: WaveFunction
    sampler: Sampler
    optimizer: optax.GradientTransformation
    learning_rate: Callable[[Any], Any] | float = math.nan
    seed: int = 0
    mesh: Mesh | None = None
    precision: str = "float64"
    steps_per_dispatch: int = 10
    chunk: int | None = None
    burn_in: int = 20
    clip: float | None = None
    penalties: tuple[Penalty, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a precision that JAX would silently lower.

        On CPUs it also tells the C library to keep freed memory, see `vmc.memory`.

        Raises:
            JobError: 64-bit numbers are needed but off, or an unknown precision.
        """
        if self.precision not in DRIFT_LIMIT:
            raise JobError(
                f'precision is "{self.precision}"; it is float64, mixed or float32'
            )
        if self.precision != "float32" and not jax.config.read("jax_enable_x64"):
            raise JobError(
                f'precision = "{self.precision}" needs 64-bit numbers, but JAX has '
                'them off. Call jax.config.update("jax_enable_x64", True) before any '
                "array is made (the command line does), or set JAX_ENABLE_X64=1."
            )
        if self.steps_per_dispatch < 1:
            raise JobError(
                f"steps_per_dispatch is {self.steps_per_dispatch}; it is at least 1"
            )
        distributed.check_divisible(self.sampler.n_chains, self._mesh.size)
        if self._mesh.devices.flat[0].platform == "cpu":
            memory.keep()

    @functools.cached_property
    def _mesh(self) -> Mesh:
        return self.mesh or distributed.walker_mesh()

    @functools.cached_property
    def _shapes(self) -> list[jax.ShapeDtypeStruct]:
        shapes = jax.eval_shape(self.wavefunction.init, root_key(0))
        return jax.tree.leaves(shapes)

    @property
    def n_parameters(self) -> int:
        """Numbers in the parameters; a complex one counts once."""
        return sum(leaf.size for leaf in self._shapes)

    @property
    def has_complex_parameters(self) -> bool:
        """Whether any of them is complex."""
        return any(jnp.iscomplexobj(leaf) for leaf in self._shapes)

    @functools.cached_property
    def _step(self) -> Step:
        return Step(
            self.wavefunction,
            accompanied(self.sampler, self.penalties),
            self.optimizer,
            self.learning_rate,
            self.precision,
            self.chunk,
            self.clip,
            self.penalties,
        )

    @functools.cached_property
    def _placed_hamiltonian(self) -> Hamiltonian:
        return distributed.place(self.hamiltonian, self._mesh, REPLICATED)

    @functools.cached_property
    def _measurement(self) -> measurement.Measurement:
        return measurement.Measurement(
            self._placed_hamiltonian,
            self.wavefunction,
            self.sampler,
            self._mesh,
            self.precision,
            self.chunk,
        )

    def init(self, params: Params | None = None) -> VMCState:
        """Random (or given) parameters and thermalised walkers."""
        key = root_key(self.seed)
        program = self._random_start if params is None else self._starting(params)
        here = program(key)
        chains = self._measurement.thermalised(here[0], here[2], key, self.burn_in)
        random = params is None and starts.are_random(self.wavefunction.init)
        return self._at_step_0(here[0], here[1], chains, random=random)

    def shapes(self) -> VMCState:
        """What `init` returns, as ``jax.ShapeDtypeStruct`` with their devices."""
        found = jax.eval_shape(self._random_start.program, root_key(self.seed))
        specs = (REPLICATED, REPLICATED, BY_WALKER)
        return self._at_step_0(*distributed.place(found, self._mesh, specs))

    def prepare(self, *, random: bool = True) -> None:
        """Begin to compile what `init` needs, and the step, which it need not wait for.

        For those who mean to call `init` and then `advance`.

        Args:
            random: whether `init` will be called without parameters.
        """
        if random:
            self._random_start.prepare(root_key(self.seed))
        state = self.shapes()
        # The step takes longest.
        self._dispatch.prepare(*self._arguments(state, 1))
        if self.burn_in:
            self._measurement.prepare(state)

    @functools.cached_property
    def _random_start(self) -> distributed.Program:
        return self._starting(None)

    def _starting(self, given: Params | None) -> distributed.Program:
        """Key -> parameters, state of the optimiser, walkers not yet thermalised."""
        if given is not None:
            given = distributed.to_host(given)

        def start(key: Key) -> tuple[Any, ...]:
            # NumPy arrays cannot be indexed by what is traced.
            params = jax.tree.map(jnp.asarray, given)
            if given is None:
                params = self.wavefunction.init(derive(key, Purpose.PARAMS))
            # Unlike nodes may differ in the last bit; devices of one process do not.
            # (A sum over devices of constants makes XLA:CPU abort.)
            if jax.process_count() > 1:
                params = distributed.from_first(params)
            chains = self._step.sampler.init(key, params)
            return params, self.optimizer.init(params), chains

        specs = (REPLICATED, REPLICATED, BY_WALKER)
        return distributed.compiled(start, self._mesh, (REPLICATED,), specs, once=True)

    def _at_step_0(
        self, params: Params, opt_state: Any, chains: Any, *, random: bool = False
    ) -> VMCState:
        window = np.zeros((0, self.sampler.n_chains))
        step, control = np.zeros((), np.int32), Control(window, None)
        key = root_key(self.seed)
        state = VMCState(step, params, opt_state, chains, key, control)
        return self.trusting(state, random=random)

    def trusting(self, state: VMCState, *, random: bool = False) -> VMCState:
        """The state as one that is good, which a bad step will return to.

        ``random`` parameters may be made smaller first, see `vmc.starts`.
        """
        dtype = np.dtype(real_dtype(self.precision))
        here = (state.params, state.opt_state, state.chains)
        known = healing.start(*here, dtype, random=random)
        return state._replace(control=state.control._replace(healing=known))

    def completed(self, state: VMCState) -> VMCState:
        """The state with what a checkpoint of an earlier version lacks."""
        if state.control.healing is None:
            return self.trusting(state)
        whole = healing.completed(state.control.healing)
        return state._replace(control=state.control._replace(healing=whole))

    def advance(self, state: VMCState, n_steps: int) -> tuple[VMCState, Records]:
        """Up to ``n_steps`` steps in one dispatch, which ends at a fixed step.

        Dispatches end at multiples of `steps_per_dispatch`, whatever ``n_steps`` is.

        Args:
            state: where to start.
            n_steps: at most this many steps.

        Returns:
            The new state and one record per step.  Rejected steps count: they have
            the bad numbers that were seen, and 1 in "rejected".

        Raises:
            JobError: n_steps is not positive.
            NumericalError: several bad steps in a row, see `vmc.healing`; it carries
                ``state`` (the last good one) and ``records``.
        """
        if n_steps < 1:
            raise JobError(f"n_steps is {n_steps}; a dispatch has at least one step")
        step = int(state.step)
        # It never changes: once on the mesh, it stays there.
        key = distributed.place(state.key, self._mesh, REPLICATED)
        state = state._replace(key=key)
        n = min(n_steps, -step % self.steps_per_dispatch or self.steps_per_dispatch)
        started = time.perf_counter()
        out = self._dispatch(*self._arguments(state, n))
        carry, table, chain_means, agree = jax.block_until_ready(out)
        seconds = (time.perf_counter() - started) / n
        table = np.asarray(table, np.float64)[:n]
        rows = {name: table[:, c] for c, name in enumerate(TRACED)}
        done = n if bool(carry.good) else int(rows["ok"].argmin())
        means = np.asarray(chain_means)[:done]
        records, window = per_step(step, state.control.window, rows, means, seconds)
        here = (carry.params, carry.opt_state, carry.chains)
        now, control = np.asarray(step + done, np.int32), Control(window, carry.healing)
        state = VMCState(now, *here, state.key, control)
        if not bool(agree):
            raise NumericalError(
                f"after step {step + done} the parameters differ between devices: "
                "their linear algebra does not round alike. Give every rank the same "
                "OPENBLAS_NUM_THREADS and the same kind of node.",
                None,
                records,
            )
        if done < n:
            failed = {name: float(column[done]) for name, column in rows.items()}
            raise gave_up(step + done, failed, state, records, self.precision)
        return state, records

    def _carry(self, state: VMCState) -> Carry:
        """What the first step of a dispatch starts from."""
        point = (state.params, state.opt_state, state.chains)
        known = self.completed(state).control.healing
        assert known is not None
        return Carry(*point, known, self._good)

    @functools.cached_property
    def _good(self) -> Array:
        return distributed.place(np.asarray(True), self._mesh, REPLICATED)

    @functools.cached_property
    def _dispatch(self) -> distributed.Program:
        """Compiled loop over the steps of one dispatch."""
        step_of = self._step

        def run(
            hamiltonian: Hamiltonian, carry: Carry, key: Key, numbers: Array
        ) -> tuple[Carry, Array, Array, Array]:
            first, n = numbers

            def body(i: Array, loop: Any) -> Any:
                carry, rows, means = loop
                carry, row, mean = step_of(hamiltonian, carry, key, first + i)
                return carry, rows.at[i].set(row), means.at[i].set(mean)

            size, dtype = self.steps_per_dispatch, real_dtype(self.precision)
            rows = jnp.zeros((size, len(TRACED)), dtype)
            means = jnp.zeros((size, self.sampler.n_chains), dtype)
            carry, rows, means = lax.fori_loop(0, n, body, (carry, rows, means))
            return carry, rows, means, distributed.agree(carry.params)

        carry_spec = carry_specs()
        return distributed.compiled(
            run,
            self._mesh,
            (REPLICATED, carry_spec, REPLICATED, REPLICATED),
            (carry_spec, REPLICATED, REPLICATED, REPLICATED),
        )

    def lowered(self, state: VMCState) -> Any:
        """The program of a dispatch, lowered for ``state``, to look at its cost."""
        return self._dispatch.lower(*self._arguments(state, 1))

    def _arguments(self, state: VMCState, n: int) -> tuple[Any, ...]:
        """Of a dispatch of n steps."""
        numbers = np.array([state.step, n], np.int32)
        return self._placed_hamiltonian, self._carry(state), state.key, numbers

    def settled(self, state: VMCState) -> VMCState:
        """The state, or the last good point if new samples say that it is bad.

        Of the last update of a run no later step is the judge.
        """
        step = int(state.step)
        carry, table = self._dispatch(*self._arguments(state, 1))[:2]
        if not np.asarray(table)[0, TRACED.index("rejected")]:
            return state
        return state._replace(
            params=carry.params,
            opt_state=healing.counted(carry.opt_state, np.int32(step)),
            chains=carry.chains,
            control=state.control._replace(healing=carry.healing),
        )

    def measure(
        self,
        state: VMCState,
        n_samples: int,
        *,
        to_error: float | None = None,
        progress: Callable[[stats.Estimate], None] | None = None,
    ) -> stats.Estimate:
        """Energy of the frozen parameters, on fresh random numbers.

        Args:
            state: parameters and starting walkers; it is not changed.
            n_samples: samples over all devices, rounded up to whole draws.
            to_error: go on beyond ``n_samples`` (up to 64 times as many) until the
                error is below this fraction of the energy.
            progress: called with the estimate so far.

        Returns:
            The estimate of the total energy.

        Raises:
            NumericalError: an energy was not finite.
        """
        return self._measurement.energy(
            state, n_samples, to_error=to_error, progress=progress
        )
