"""Linear solvers for (A + shift) x = b with A Hermitian and positive.

Each follows factor -> solve: the expensive part once, several right-hand sides.
All run redundantly on every device; the caller takes the first device's result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import Array, lax

from vmc.errors import JobError


class Factored(NamedTuple):
    """A factorised matrix.

    Attributes:
        solve: b (n, m) -> x (n, m).
        condition: estimate of the condition number of A + shift.
        rank: eigenvalues kept (n where the method keeps all).
    """

    solve: Callable[[Array], Array]
    condition: Array
    rank: Array


Solver = Callable[[Array, Array], Factored]


def cholesky(matrix: Array, shift: Array) -> Factored:
    """Cholesky; where it fails, the eigendecomposition takes over.

    The condition number is estimated by the diagonal of the factor.
    """
    n = matrix.shape[0]
    factor = jnp.linalg.cholesky(_shifted(matrix, shift), symmetrize_input=False)
    diagonal = jnp.abs(jnp.diagonal(factor))
    failed = ~jnp.all(jnp.isfinite(diagonal))

    def by_cholesky(b: Array) -> Array:
        return jsl.cho_solve((factor, True), b)

    def by_eigh(b: Array) -> Array:
        return eigh(matrix, shift).solve(b)

    def solve(b: Array) -> Array:
        return lax.cond(failed, by_eigh, by_cholesky, b)

    ratio = (jnp.max(diagonal) / jnp.min(diagonal)) ** 2
    return Factored(solve, jnp.where(failed, jnp.inf, ratio), jnp.asarray(n))


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


def cg(matrix: Array, shift: Array, tolerance: float = 1e-10) -> Factored:
    """Conjugate gradients, one right-hand side at a time; at most 10 n iterations."""
    from jax.scipy.sparse.linalg import cg as jax_cg

    n = matrix.shape[0]
    finite = jnp.all(jnp.isfinite(matrix)) & jnp.isfinite(shift)

    def solve(b: Array) -> Array:
        def column(rhs: Array) -> Array:
            x = jax_cg(lambda v: matrix @ v + shift * v, rhs, tol=tolerance)[0]
            # The iteration stops at once, at zero, if a number is not finite.
            return jnp.where(finite, x, jnp.nan)

        return lax.map(column, b.T).T

    bound = (jnp.trace(matrix).real + shift) / shift
    return Factored(solve, bound, jnp.asarray(n))


def _shifted(matrix: Array, shift: Array) -> Array:
    n = matrix.shape[0]
    return matrix + shift.astype(matrix.dtype) * jnp.eye(n, dtype=matrix.dtype)


def by_name(name: str) -> Solver:
    """The solver of a job file: auto (cholesky), cholesky, eigh or cg.

    Raises:
        JobError: there is no solver of that name.
    """
    table: dict[str, Solver] = {
        "auto": cholesky,
        "cholesky": cholesky,
        "eigh": eigh,
        "cg": cg,
    }
    if name not in table:
        raise JobError(f'solver "{name}" is unknown; there are {", ".join(table)}')
    return table[name]
