"""A step of a job cut into programs: what `vmc.profile` measures.

Every program is made of the functions that `vmc.step` and `vmc.precondition` are made
of, and takes what those before it gave, so that together they do one step.  What the
step computes for its records alone is in none of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from vmc import blocked, distributed, precondition, solvers
from vmc.assembly import Built
from vmc.base import Params, VMCState
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.errors import JobError
from vmc.estimators import local_energies
from vmc.geometry import Geometry
from vmc.keys import derive
from vmc.step import _first_order_gradient, carry_specs


class Part(NamedTuple):
    """One part of a step.

    Attributes:
        name: what it does.
        call: the compiled function; its arguments lie on the devices.
        args: of a call.
        element: what its transcendental functions are shared out to.
        n_elements: how many there are in a step.
        dtype: of most of its arithmetic, "float64" or "float32".
        fell_back: True if the solver met a matrix that is not positive definite.
    """

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    element: str
    n_elements: int
    dtype: str
    fell_back: bool = False


class Scored(NamedTuple):
    """Scores and what comes from them, of which the solve and the update are made.

    Attributes:
        factors: `Geometry.factors`.
        moments: `Geometry._moments`.
        matrix: S or T, or the blocks of T that `vmc.blocked` asks for; () where the
            solver needs products only.
        columns: right-hand sides, (n, c).
        shift: on the diagonal.
    """

    factors: Any
    moments: Any
    matrix: tuple[Array, ...]
    columns: Array
    shift: Array


#: Matrices are kept as every device has them.
_SCORED = Scored(BY_WALKER, REPLICATED, BY_WALKER, REPLICATED, REPLICATED)  # pyright: ignore


class _Given(Geometry):
    """A geometry whose scores and matrix are there already."""

    def __init__(self, scored: Scored, *args: Any) -> None:
        super().__init__(lambda: scored.factors, *args)
        known = {"_raw": scored.factors, "factors": scored.factors}
        vars(self).update(known, _moments=scored.moments)
        self._matrix = scored.matrix
        if scored.matrix:
            vars(self)["s_matrix"] = scored.matrix[0]

    @property
    def t_matrix(self) -> Array:
        """T; where only its blocks are there it is computed again."""
        n = (self.n_rows, self.n_rows)
        there = self._matrix and self._matrix[0].shape == n
        return self._matrix[0] if there else super().t_matrix

    @property
    def t_shared(self) -> blocked.Shared:
        """The blocks, in the order in which they were asked for."""
        blocks = iter(self._matrix)
        parts = self.n_rows // self.n_samples
        return blocked.Shared(parts, self.n_local, lambda start, stop: next(blocks))


def refuse_unknown(built: Built) -> None:
    """Refuse a job whose step is not known part by part.

    Raises:
        JobError: the optimiser is march, or the job has penalties.
    """
    if built.job.optimizer.name == "march":
        raise JobError(
            "the parts of a step of march are not profiled one by one; profile "
            "with --set optimizer.name=spring, which has the same parts: march "
            "needs the scores in full besides"
        )
    if built.vmc.penalties:
        raise JobError(
            "the parts of a step with penalties are not profiled one by one: "
            "profile the job without run.orthogonal_to. Each state adds its own "
            "sampling, and two more evaluations of psi and phi per sample"
        )


class Parts:
    """The programs of a job's step; `run` does the step, part by part.

    Args:
        built: the objects of the job.
        state: where the step starts.  At step 0 no shift is known, and it is 0.

    Raises:
        JobError: the optimiser is march, or the job has penalties.
    """

    def __init__(self, built: Built, state: VMCState) -> None:
        self._job, self._vmc, self._state = built.job, built.vmc, state
        self._keys = built.job.optimizer
        refuse_unknown(built)
        run, numbers = built.vmc, built.job.sampler
        self._solve_dtype = "float32" if run.precision == "float32" else "float64"
        self._amplitudes = "float64" if run.precision == "float64" else "float32"
        self._n_samples = run.sampler.n_chains * run.sampler.n_draws
        self.preconditioned = self._keys.name in ("sr", "spring")
        self._links = optax.chain(
            optax.scale_by_learning_rate(run.learning_rate),
            precondition.limit_kl(self._keys.max_kl),
        )
        self._proposal = {"full": "configuration", "direct": "site"}.get(
            numbers.name, "proposal"
        )
        per_sample = built.n_sites * numbers.n_sweeps
        self._n_proposals = self._n_samples * {
            "configuration": 1,
            "site": built.n_sites,
        }.get(self._proposal, per_sample)
        self._n_elements = max(1, built.hamiltonian.moves.n_moves)
        #: "dense" or "kernel", once a matrix was traced.
        self.form: str | None = None

    def run(self, look: Callable[[Part, Any], None]) -> Params:
        """Do one step.

        Args:
            look: called with every part and what it gave.

        Returns:
            The parameters after the step.
        """
        state, hamiltonian = self._state, self._vmc._placed_hamiltonian

        def do(part: Part) -> Any:
            out = jax.block_until_ready(part.call(*part.args))
            if part.name == "solve":
                part = part._replace(fell_back=not jnp.isfinite(out[1]))
            look(part, out)
            return out

        args = (state.params, state.chains, state.key, jnp.int32(state.step))
        specs = (REPLICATED, BY_WALKER, REPLICATED, REPLICATED)
        outs = (BY_WALKER, BY_WALKER, BY_WALKER, REPLICATED)
        name = (self._proposal, self._n_proposals, self._amplitudes)
        _, sigma, weights, _ = do(
            self._part("sampling", self._sample, args, specs, outs, *name)
        )
        args = (hamiltonian, state.params, sigma)
        specs = (REPLICATED, REPLICATED, BY_WALKER)
        name = ("element", self._n_samples * self._n_elements)
        eloc = do(
            self._part(
                "local energies",
                self._energies,
                args,
                specs,
                BY_WALKER,
                *name,
                self._amplitudes,
            )
        )
        samples = (state.params, sigma, eloc, weights)
        if self.preconditioned:
            return self._natural(do, samples)
        return self._first_order(do, samples)

    def _first_order(self, do: Callable[[Part], Any], samples: Any) -> Params:
        params, state = self._state.params, self._state
        score = ("score", self._n_samples * self._vmc.n_parameters, self._amplitudes)
        specs = (REPLICATED, BY_WALKER, BY_WALKER, BY_WALKER)
        gradient = do(
            self._part("gradient", self._gradient, samples, specs, REPLICATED, *score)
        )
        args = (gradient, state.opt_state, params)
        specs, number = (REPLICATED,) * 3, ("parameter", self._vmc.n_parameters)
        update = self._part(
            "update", self._descend, args, specs, REPLICATED, *number, score[-1]
        )
        return do(update)[0]

    def _natural(self, do: Callable[[Part], Any], samples: Any) -> Params:
        params, opt_state = samples[0], self._state.opt_state
        n_scores = self._n_samples * self._vmc.n_parameters
        specs = (REPLICATED, BY_WALKER, BY_WALKER, BY_WALKER, REPLICATED)
        scored = do(
            self._part(
                "scores and matrix",
                self._score,
                (*samples, opt_state),
                specs,
                _SCORED,
                "score",
                n_scores,
                self._solve_dtype,
            )
        )
        data = (params, samples[2], samples[3], opt_state, scored)
        specs = (REPLICATED, BY_WALKER, BY_WALKER, REPLICATED, _SCORED)
        element = ("entry", scored.columns.shape[0] ** 2, self._solve_dtype)
        solved = do(self._part("solve", self._solve, data, specs, REPLICATED, *element))
        update = self._part(
            "update",
            self._update,
            (*data, solved),
            (*specs, REPLICATED),
            REPLICATED,
            "parameter",
            self._vmc.n_parameters,
            self._solve_dtype,
        )
        return do(update)[0]

    def _part(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        specs: Any,
        outs: Any,
        *rest: Any,
    ) -> Part:
        program = distributed.compiled(function, self._vmc._mesh, specs, outs)
        args = distributed.place(args, self._vmc._mesh, specs)
        return Part(name, program.program, args, *rest)

    def whole(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """One step as the driver traces it, to be counted: function and arguments."""
        state, run = self._state, self._vmc
        carry, carries = run._carry(state), carry_specs()
        args = (run._placed_hamiltonian, carry, state.key, jnp.int32(state.step))
        specs = (REPLICATED, carries, REPLICATED, REPLICATED)
        outs = (carries, REPLICATED, REPLICATED)
        step = distributed.compiled(run._step, run._mesh, specs, outs)
        return step.program, args

    # ---- what the programs do, on one device's walkers --------------------------

    def _sample(self, params: Params, chains: Any, root: Array, step: Array) -> Any:
        key = derive(root, step, 0)
        chains, samples, info = self._vmc.sampler.sample(key, params, chains)
        sigma = jnp.swapaxes(samples, 0, 1).reshape(-1, samples.shape[-1])
        weights = None if info.weights is None else info.weights.T.reshape(-1)
        # What nobody asks for would be compiled away.
        return chains, sigma, weights, (info.acceptance, info.drift)

    def _energies(self, hamiltonian: Any, params: Params, sigma: Array) -> Array:
        run = self._vmc
        eloc = local_energies(run.wavefunction, hamiltonian, params, sigma, run.chunk)
        if run.precision == "mixed":
            eloc = eloc.astype(jnp.promote_types(eloc.dtype, jnp.float64))
        return eloc

    def _geometry(
        self, params: Params, sigma: Array, eloc: Array, weights: Array | None
    ) -> Geometry:
        scores = functools.partial(self._vmc.wavefunction.scores, params, sigma)
        return Geometry(scores, params, eloc, self._solve_dtype, weights)

    def _gradient(
        self, params: Params, sigma: Array, eloc: Array, weights: Array | None
    ) -> Params:
        geometry = self._geometry(params, sigma, eloc, weights)
        wavefunction = self._vmc.wavefunction
        return _first_order_gradient(wavefunction, params, sigma, geometry)

    def _descend(self, gradient: Params, opt_state: Any, params: Params) -> Any:
        optimizer = self._vmc.optimizer
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def _through(
        self,
        geometry: Geometry,
        opt_state: Any,
        solver: solvers.Solver,
        shift: Array | None = None,
    ) -> tuple[Params, solvers.Factored, Array]:
        """The natural gradient as `vmc.precondition.sr` has it, with this solver."""
        dense = geometry.n_parameters <= geometry.n_rows
        self.form = "dense" if dense else "kernel"
        if shift is None:
            order = min(geometry.n_parameters, geometry.n_rows)
            last: Array = opt_state[0].diag_shift * geometry.trace / order
            shift = last
        step = precondition._dense_step if dense else precondition._kernel_step
        momentum = self._keys.momentum if self._keys.name == "spring" else 0.0
        return step(geometry, shift, solver, opt_state[0].previous, momentum)

    def _score(
        self,
        params: Params,
        sigma: Array,
        eloc: Array,
        weights: Array | None,
        opt_state: Any,
    ) -> Scored:
        geometry = self._geometry(params, sigma, eloc, weights)
        seen: dict[str, Any] = {}

        def look(system: solvers.System, shift: Array) -> solvers.Factored:
            seen["shift"] = shift
            seen["matrix"] = _asked_for(system, shift, self._keys.solver)

            def solve(columns: Array) -> Array:
                seen["columns"] = columns
                return columns

            return solvers.Factored(solve, shift, shift)

        self._through(geometry, opt_state, look)
        return Scored(geometry.factors, geometry._moments, **seen)

    def _solve(
        self,
        params: Params,
        eloc: Array,
        weights: Array | None,
        opt_state: Any,
        scored: Scored,
    ) -> tuple[Array, Array, Array]:
        geometry = _Given(scored, params, eloc, self._solve_dtype, weights)
        seen: list[Array] = []

        def solver(system: solvers.System, shift: Array) -> solvers.Factored:
            factored = solvers.by_name(self._keys.solver)(system, shift)
            seen.append(factored.solve(scored.columns))
            return factored._replace(solve=lambda columns: seen[0])

        _, factored, _ = self._through(geometry, opt_state, solver, scored.shift)
        return seen[0], factored.condition, factored.rank

    def _update(
        self,
        params: Params,
        eloc: Array,
        weights: Array | None,
        opt_state: Any,
        scored: Scored,
        solved: tuple[Array, Array, Array],
    ) -> Any:
        geometry = _Given(scored, params, eloc, self._solve_dtype, weights)
        solution, condition, rank = solved
        given = solvers.Factored(lambda columns: solution, condition, rank)
        natural, _, d_eff = self._through(
            geometry, opt_state, lambda system, shift: given, scored.shift
        )
        updates, links = self._links.update(
            natural, opt_state[1:], params, geometry=geometry
        )
        return optax.apply_updates(params, updates), links, d_eff


def _asked_for(system: solvers.System, shift: Array, solver: str) -> tuple[Array, ...]:
    """What a solver wants of the matrix: all of it, blocks, or nothing."""
    if solver == "cg":
        return ()
    if solver == "eigh" or system.shared is None:
        return (system.matrix(),)
    shared, blocks = system.shared(), []

    def block(start: int, stop: int) -> Array:
        blocks.append(shared.block(start, stop))
        return blocks[-1]

    # Only to be asked: what it makes of the blocks is not kept, nor then computed.
    blocked.cholesky(shared._replace(block=block), shift)
    return tuple(blocks)
