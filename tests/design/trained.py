"""States that are really trained: exact energies of all amplitudes, by L-BFGS."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from vmc import registry
from vmc.assembly import Built


class Trained(NamedTuple):
    """The best state of some starts.

    Attributes:
        energy: <H> in the job's sector.
        vector: psi, (D,), normalised.
        params: its parameters.
    """

    energy: float
    vector: np.ndarray
    params: Any


def train(
    built: Built,
    *,
    n_starts: int = 1,
    n_steps: int = 600,
    enough: float | None = None,
    start: Any = None,
    tol: float = 1e-10,
) -> Trained:
    """Minimise the energy of a wave function over all its parameters.

    Args:
        built: the objects of a job.
        n_starts: random starts.
        n_steps: iterations of each.
        enough: an energy at which no further start is made.
        start: parameters of the first start.
        tol: relative fall of the energy at which a start ends.
    """
    space, psi = built.hamiltonian.space, built.wavefunction
    states, matrix = space.all_states(), registry.to_sparse(built.hamiltonian)
    template = jax.eval_shape(psi.init, jax.random.key(0))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), template)
    is_complex = any(jnp.iscomplexobj(x) for x in jax.tree.leaves(zero))
    size = ravel_pytree(zero)[0].size
    unravel = ravel_pytree(zero)[1]

    def params_of(x: Any) -> Any:
        return unravel(x[:size] + 1j * x[size:] if is_complex else x)

    def logs(x: Any) -> tuple[Any, Any]:
        out = psi.log_psi(params_of(x), states)
        return jnp.real(out), jnp.imag(out)

    forward = jax.jit(logs)
    backward = jax.jit(lambda x, cotangents: jax.vjp(logs, x)[1](cotangents)[0])

    def amplitudes(x: np.ndarray) -> np.ndarray:
        size_of, phase = (np.asarray(y) for y in forward(jnp.asarray(x)))
        vector = np.exp(size_of - size_of.max() + 1j * phase)
        vector = vector / np.linalg.norm(vector)
        return vector if psi.range == "complex" else vector.real

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        vector = amplitudes(x)
        applied = matrix @ vector
        energy = float(np.vdot(vector, applied).real)
        force = 2 * vector.conj() * (applied - energy * vector)
        pair = jnp.asarray(force.real), jnp.asarray(np.imag(force))
        return energy, np.asarray(backward(jnp.asarray(x), pair), float)

    best: tuple[float, np.ndarray] | None = None
    for seed in range(n_starts):
        params = psi.init(jax.random.key(seed)) if start is None or seed else start
        flat = np.asarray(ravel_pytree(params)[0])
        x = np.concatenate([np.real(flat), np.imag(flat)]) if is_complex else flat
        found = minimize(
            loss,
            x,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": n_steps, "maxfun": 2 * n_steps, "ftol": tol}
            | {"gtol": 1e-9, "maxcor": 30},
        )
        if best is None or found.fun < best[0]:
            best = float(found.fun), found.x
        if enough is not None and best[0] <= enough:
            break
    assert best is not None
    return Trained(best[0], amplitudes(best[1]), params_of(jnp.asarray(best[1])))
