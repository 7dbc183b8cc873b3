"""Linear solvers for (A + shift) x = b with A Hermitian and positive.

Each follows factor -> solve: the expensive part once, several right-hand sides.  The
direct ones ask for the matrix, conjugate gradients only for its products with a
vector.  All run redundantly on every device, and end with the first device's result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import Array, lax

from vmc import blocked
from vmc.errors import JobError


class Factored(NamedTuple):
    """A factorised matrix.

    Attributes:
        solve: b (n, m) -> x (n, m), the same on every device.
        condition: estimate of the condition number of A + shift.
        rank: eigenvalues kept (n where the method keeps all).
    """

    solve: Callable[[Array], Array]
    condition: Array
    rank: Array


class System(NamedTuple):
    """A Hermitian positive matrix A, in full or by its products.

    Attributes:
        matrix: () -> A, (n, n), equal on every device.
        product: v (n,) -> A v.
        trace: Tr A.
        size: n.
        decide: takes an array and gives that of the first device: iterations must end
            on all of them together, and solutions must not drift apart.
        shared: () -> A in parts on several devices; None: it is in one place.
    """

    matrix: Callable[[], Array]
    product: Callable[[Array], Array]
    trace: Array
    size: int
    decide: Callable[[Array], Array] = lambda x: x
    shared: Callable[[], blocked.Shared] | None = None

    @classmethod
    def of(cls, matrix: Array) -> System:
        """A matrix that is there, on one device."""
        trace = jnp.trace(matrix).real
        return cls(lambda: matrix, lambda v: matrix @ v, trace, matrix.shape[0])


Solver = Callable[[System, Array], Factored]

#: Conjugate gradients stop at this residual, relative to the right-hand side, ...
CG_TOLERANCE = 1e-10
#: ... or after this many iterations, whichever of the two and 10 n comes first.
CG_ITERATIONS = 2000


def cholesky(system: System, shift: Array) -> Factored:
    """Cholesky; where it fails, the eigendecomposition takes over.

    The condition number is estimated by the diagonal of the factor.
    """
    if system.shared is None:
        factor = jnp.linalg.cholesky(
            _shifted(system.matrix(), shift), symmetrize_input=False
        )
        diagonal = jnp.abs(jnp.diagonal(factor))
        substitute: Callable[[Array], Array] = functools.partial(
            jsl.cho_solve, (factor, True)
        )
    else:
        diagonal, substitute = blocked.cholesky(system.shared(), shift)

    def by_eigh(b: Array, _: Array) -> Array:
        return system.decide(eigh(system.matrix(), shift).solve(b))

    def solve(b: Array) -> Array:
        # Where the decomposition fails, no number is left finite: the solution itself
        # tells all devices alike, and needs no message besides its own.
        x = system.decide(substitute(b))
        failed = ~jnp.all(jnp.isfinite(x))
        # Outside the branches, whose arguments XLA:CPU transposes and copies.
        return lax.cond(failed, by_eigh, lambda b, x: x, b, x)

    ratio = (jnp.max(diagonal) / jnp.min(diagonal)) ** 2
    condition = jnp.where(jnp.isfinite(ratio), ratio, jnp.inf)
    return Factored(solve, condition, jnp.asarray(system.size))


def eigh(matrix: Array, shift: Array, cutoff: float = 1e-14) -> Factored:
    """Eigendecomposition; directions below cutoff * largest eigenvalue are dropped."""
    values, vectors = jnp.linalg.eigh(matrix)
    values = jnp.maximum(values, 0)
    keep = values + shift > cutoff * jnp.max(values)
    inverse = jnp.where(keep, 1 / jnp.where(keep, values + shift, 1), 0)

    def solve(b: Array) -> Array:
        return vectors @ (inverse[:, None] * (jnp.conj(vectors).T @ b))

    smallest = jnp.min(jnp.where(keep, values + shift, jnp.inf))
    condition = (jnp.max(values) + shift) / smallest
    return Factored(solve, condition, jnp.sum(keep))


def cg(system: System, shift: Array) -> Factored:
    """Conjugate gradients, one right-hand side at a time, without the matrix.

    After `CG_ITERATIONS` the best that was reached is taken: it is a descent
    direction at any stage.
    """
    limit = min(10 * system.size, CG_ITERATIONS)

    def column(b: Array) -> Array:
        def norm2(r: Array) -> Array:
            return system.decide(jnp.vdot(r, r).real)

        goal = CG_TOLERANCE**2 * norm2(b)

        def go_on(state: tuple[Array, ...]) -> Array:
            _, _, _, rr, i = state
            return (rr > goal) & (i < limit)

        def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
            x, r, p, rr, i = state
            ap = system.product(p) + shift * p
            step = rr / system.decide(jnp.vdot(p, ap).real)
            x, r = x + step * p, r - step * ap
            new = norm2(r)
            return x, r, r + (new / rr) * p, new, i + 1

        start = (jnp.zeros_like(b), b, b, norm2(b), jnp.zeros((), jnp.int32))
        x, _, _, rr, _ = lax.while_loop(go_on, advance, start)
        # A number that is not finite ends the iteration at once.
        return jnp.where(jnp.isfinite(rr) & jnp.isfinite(goal), x, jnp.nan)

    def solve(b: Array) -> Array:
        return system.decide(lax.map(column, b.T).T)

    bound = (system.trace + shift) / shift
    return Factored(solve, bound, jnp.asarray(system.size))


def _shifted(matrix: Array, shift: Array) -> Array:
    n = matrix.shape[0]
    return matrix + shift.astype(matrix.dtype) * jnp.eye(n, dtype=matrix.dtype)


def by_name(name: str) -> Solver:
    """The solver of a job file: auto (cholesky), cholesky, eigh or cg (matrix-free).

    Raises:
        JobError: there is no solver of that name.
    """

    def in_full(system: System, shift: Array) -> Factored:
        found = eigh(system.matrix(), shift)
        return found._replace(solve=lambda b: system.decide(found.solve(b)))

    table: dict[str, Solver] = {
        "auto": cholesky,
        "cholesky": cholesky,
        "eigh": in_full,
        "cg": cg,
    }
    if name not in table:
        raise JobError(f'solver "{name}" is unknown; there are {", ".join(table)}')
    return table[name]
