"""One problem of a benchmark suite in quantax, in an environment of its own.

``python quantax_cell.py CELL.json`` does what ``netket_cell.py`` does, with quantax's
sampler (its own default of 2 N proposals between samples) and its SR, which takes the
smaller of the matrices of parameters and samples.  quantax's own RBM has no visible
bias and no symmetry that is not projected; the one here has both and is updated locally
through quantax's `RefModel`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cells  # noqa: I001  first: it keeps the time
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import quantax as qtx

#: NetKet's Sgd(0.05), with diag_shift 0.01: its forces contain the factor 2 of the
#: gradient, those of quantax do not.
LEARNING_RATE, DIAG_SHIFT = 2 * 0.05, 0.01
#: Connected configurations at a time, in units of the samples: their number varies from
#: step to step in a sector, and every new one would be compiled for.
CHUNK = 4


class RBM(qtx.nn.RefModel):
    """ln psi = a . sigma + sum_j ln cosh theta_j, theta = W^T sigma + b.

    Attributes:
        kernel: W (N, M), or filters (alpha, N).
        hidden: b (M,) or (alpha,).
        visible: a (N,) or (1,).
        table: (G, N) of `cells.columns`, or None.
        holomorphic: complex weights.
    """

    kernel: jax.Array
    hidden: jax.Array
    visible: jax.Array
    table: Any
    holomorphic: bool = eqx.field(static=True)

    def __init__(self, params: dict[str, np.ndarray], table: Any = None) -> None:
        """Args: parameters as of `cells.initial`, and the table of the symmetry."""
        self.kernel, self.hidden, self.visible = (
            jnp.asarray(params[name]) for name in ("W", "b", "a")
        )
        self.table = None if table is None else jnp.asarray(table)
        self.holomorphic = bool(np.iscomplexobj(params["W"]))

    def _full(self) -> tuple[jax.Array, jax.Array]:
        """W (N, M) and b (M,)."""
        if self.table is None:
            return self.kernel, self.hidden
        n_sites = self.table.shape[1]
        weights = self.kernel[:, self.table].reshape(-1, n_sites).T
        return weights, jnp.repeat(self.hidden, self.table.shape[0])

    def _psi(self, sigma: jax.Array, theta: jax.Array) -> Any:
        """psi from the angles."""
        y = jnp.where(theta.real < 0, -theta, theta)
        log_cosh = y + jnp.log1p(jnp.exp(-2 * y)) - np.log(2)
        return qtx.nn.exp_by_log(jnp.sum(self.visible * sigma) + jnp.sum(log_cosh))

    def init_internal(self, s: jax.Array) -> tuple[Any, jax.Array]:
        """Psi, and the angles that `ref_forward` updates."""
        weights, hidden = self._full()
        theta = s.astype(weights.dtype) @ weights + hidden
        return self._psi(s, theta), theta

    def __call__(self, s: jax.Array) -> Any:
        """Psi of one configuration (N,)."""
        return self.init_internal(s)[0]

    @property
    def required_update_modes(self) -> tuple[str, ...]:
        """The number of flipped spins."""
        return ("nflips",)

    def ref_forward(
        self,
        s: jax.Array,
        s_old: jax.Array,
        update_mode: dict[str, Any],
        internal: jax.Array,
        return_update: bool = False,
    ) -> Any:
        """The same from the angles of another configuration."""
        weights, _ = self._full()
        # Fewer flips than announced are filled up with a site that does not change.
        size = update_mode["nflips"]
        (flipped,) = jnp.nonzero(s != s_old, size=size, fill_value=s.size)
        change = (s - s_old).at[flipped].get(mode="fill", fill_value=0)
        theta = internal + change.astype(weights.dtype) @ weights[flipped]
        psi = self._psi(s, theta)
        return (psi, theta) if return_update else psi


class Graph(qtx.sites.Sites):
    """Sites whose neighbours are given pairs."""

    def __init__(self, n_sites: int, particles: Any, pairs: Any) -> None:
        """Args: N, (up, down) or None, and the pairs that are exchanged."""
        super().__init__(n_sites, Nparticles=particles)
        self._pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)

    def get_neighbor(self, n_neighbor: Any = 1, return_sign: bool = False) -> Any:
        """The pairs, whatever the distance that is asked for."""
        return self._pairs if isinstance(n_neighbor, int) else [self._pairs]


def hamiltonian(cell: dict[str, Any]) -> Any:
    """The operator without its constant; quantax writes spins, not Pauli matrices."""
    grouped: dict[str, tuple[list[Any], list[list[int]]]] = {}
    for weight, word, sites in cells.ladders(cell["terms"]):
        strengths, indices = grouped.setdefault(word.lower(), ([], []))
        weight *= 2 ** sum(letter in "XYZ" for letter in word)
        strengths.append(weight if weight.imag else weight.real)
        indices.append(list(sites))
    return qtx.operator.Operator(
        [qtx.operator.OpTerm(word, *both) for word, both in grouped.items()]
    )


def define(cell: dict[str, Any]) -> None:
    """Define the process's sites, number type and seed."""
    qtx.set_default_dtype(jnp.float64 if cell["real"] else jnp.complex128)
    qtx.set_random_seed(cell["seed"])
    n, particles = cell["n_sites"], None
    if cell["total_sz"] is not None:
        up = round(n / 2 + cell["total_sz"])
        particles = (up, n - up)
    Graph(n, particles, cells.exchanged(cell))


def main(path: str) -> None:
    """Optimise within the budget, measure, print."""
    cell = cells.read(path)
    define(cell)
    operator, n_samples = hamiltonian(cell), cell["n_samples"]
    state = qtx.state.Variational(
        RBM(cells.initial(cell), cells.columns(cell)),
        max_parallel=(CHUNK * n_samples, n_samples, n_samples),
    )
    flip, exchange = qtx.sampler.LocalFlip, qtx.sampler.SpinExchange
    sampler = (flip if cell["total_sz"] is None else exchange)(state, n_samples)
    solver = qtx.optimizer.auto_shift_eig(rshift=0.0, ashift=DIAG_SHIFT)
    optimizer = qtx.optimizer.SR(state, operator, solver=solver)

    def step() -> tuple[float, float]:
        state.update(LEARNING_RATE * optimizer.get_step(sampler.sweep()))
        jax.block_until_ready(state.get_params_flatten())
        return float(optimizer.energy), float(optimizer.VarE)

    def local() -> np.ndarray:
        return np.asarray(operator.Oloc(state, sampler.sweep()))

    versions = {"quantax": qtx.__version__, "jax": jax.__version__}
    cells.run(cell, step, local, state.nparams, versions)


if __name__ == "__main__":
    main(sys.argv[1])
