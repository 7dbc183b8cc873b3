"""A network of one's own: any flax module whose call returns log psi.

As a script, ``python examples/flax_module.py``; as a job, ``vmc run
examples/flax_module.toml``, which names the class.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

import vmc


class Pairs(nnx.Module):
    """log psi = sum of log cosh of linear features of neighbouring pairs."""

    def __init__(self, n_sites: int, features: int = 4, *, rngs: nnx.Rngs) -> None:
        """Weights of one site and of its product with the next one."""
        self.own = nnx.Linear(n_sites, features * n_sites, rngs=rngs)
        self.pairs = nnx.Linear(n_sites, features * n_sites, rngs=rngs)

    def __call__(self, sigma: Array) -> Array:
        """Spins +1, -1 of one configuration or many, (..., N) -> log psi, (...)."""
        neighbours = sigma * jnp.roll(sigma, 1, axis=-1)
        hidden = self.own(sigma) + self.pairs(neighbours)
        return jnp.sum(jnp.logaddexp(hidden, -hidden), axis=-1)


def main() -> None:
    """Find the ground state and compare it with exact diagonalisation."""
    jax.config.update("jax_enable_x64", True)
    job = vmc.Job(
        lattice={"name": "chain", "size": [10]},
        hamiltonian={"name": "tfim", "h": 1.0},
        ansatz={"name": Pairs, "features": 2},
        run={"n_steps": 150},
    )
    result = vmc.run(job)
    assert result.energy is not None
    print(f"energy  {result.energy.mean:.5f} +- {result.energy.error:.5f}")
    print(f"exact   {result.report['exact']['energy']:.5f}")


if __name__ == "__main__":
    main()
