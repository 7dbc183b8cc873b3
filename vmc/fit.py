"""Born machines: fit |psi|^2 to samples by exact maximum likelihood.

A wave function with a known norm is a normalised distribution, so the negative log
likelihood <log norm - 2 Re log psi> is exact, and so is its gradient: no Markov chain
is involved (arXiv:1709.01662).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from vmc.base import Key, Params, WaveFunction
from vmc.errors import JobError


class Fit(NamedTuple):
    """A fitted wave function.

    Attributes:
        params: fitted parameters.
        nll: negative log likelihood per configuration in nats, of each step's batch
            before the step, (n_steps,).
    """

    params: Params
    nll: np.ndarray


def log_likelihood(wavefunction: WaveFunction, params: Params, sigma: Array) -> Array:
    """ln p(sigma) of the normalised |psi|^2, real (B,).

    Args:
        wavefunction: psi, with ``exact.log_norm``.
        params: its parameters.
        sigma: int8 (B, N).

    Raises:
        JobError: the norm of psi is not known.
    """
    exact = wavefunction.exact
    if exact is None or exact.log_norm is None:
        raise JobError(
            "a likelihood needs the norm of the wave function, which this ansatz does "
            "not give; mps, ttn, convac, cp and rac of depth 1 do"
        )
    log_psi = wavefunction.log_psi(params, sigma)
    return 2 * log_psi.real - exact.log_norm(params)


def fit(
    wavefunction: WaveFunction,
    sigma: Array | np.ndarray,
    key: Key,
    *,
    params: Params | None = None,
    n_steps: int = 500,
    batch: int = 256,
    learning_rate: float = 0.02,
) -> Fit:
    """Maximum likelihood by Adam on minibatches, the rate falling along a cosine.

    Args:
        wavefunction: psi, with ``exact.log_norm``.
        sigma: int8 (n, N), samples of the distribution to learn.
        key: of the start and of the batches.
        params: where to start; None takes ``wavefunction.init``.
        n_steps: Adam steps.
        batch: samples per step, drawn with replacement.
        learning_rate: of the first step.

    Returns:
        The last parameters and the likelihood on the way.

    Raises:
        JobError: the norm is not known, there are no samples, or a number is not
            positive.
    """
    sigma = np.asarray(sigma, np.int8)
    if sigma.ndim != 2 or len(sigma) == 0:
        raise JobError(f"samples have shape {sigma.shape}; expected (n, N) with n > 0")
    for name, value in (("n_steps", n_steps), ("batch", batch)):
        if value < 1:
            raise JobError(f"{name} is {value}; it is at least 1")
    start, batches = jax.random.split(key)
    if params is None:
        params = wavefunction.init(start)
    schedule = optax.cosine_decay_schedule(learning_rate, n_steps)
    run = functools.partial(_run, wavefunction, optax.adam(schedule), batch, n_steps)
    params, nll = jax.jit(run)(params, jnp.asarray(sigma), batches)
    return Fit(params, np.asarray(nll))


def _run(
    wavefunction: WaveFunction,
    adam: optax.GradientTransformation,
    batch: int,
    n_steps: int,
    params: Params,
    sigma: Array,
    key: Key,
) -> tuple[Params, Array]:
    def loss(params: Params, rows: Array) -> Array:
        return -jnp.mean(log_likelihood(wavefunction, params, rows))

    def step(carry: tuple[Params, optax.OptState], t: Array) -> tuple:
        params, state = carry
        picked = jax.random.randint(
            jax.random.fold_in(key, t), (batch,), 0, sigma.shape[0]
        )
        value, gradient = jax.value_and_grad(loss)(params, sigma[picked])
        # JAX gives the conjugate of the direction of steepest ascent.
        gradient = jax.tree.map(jnp.conj, gradient)
        updates, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    carry = (params, adam.init(params))
    (params, _), nll = lax.scan(step, carry, jnp.arange(n_steps))
    return params, nll
