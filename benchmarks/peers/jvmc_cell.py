"""One problem of a benchmark suite in jVMC, in an environment of its own.

``python jvmc_cell.py CELL.json`` does what ``netket_cell.py`` does, with jVMC's sampler
and proposals, and its TDVP equation where there are fewer parameters than samples, else
its MinSR.  jVMC's own RBMs have no visible bias and no symmetry that is not averaged
over; the one here has both.  jVMC's proposals conserve total Sz only in the sector 0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cells  # noqa: I001  first: it keeps the time
import flax.linen as nn
import jax
import jax.numpy as jnp
import jVMC
import numpy as np
from jVMC.nets.activation_functions import log_cosh
from jVMC.operator import branch_free

#: NetKet's Sgd(0.05): its forces contain the factor 2 of the gradient, those of jVMC do
#: not.  jVMC's TDVP scales its shift with the diagonal of S, its MinSR does not.
TIME_STEP, DIAG_SHIFT = 2 * 0.05, 0.01
#: Relative cut-off of the pseudo-inverse; the complex MinSR of jVMC has no shift.
PINV_TOL = 1e-2
#: Sweeps of N proposals before every batch of samples, as NetKet discards them.
DISCARDED = 5
#: Configurations that are evaluated at a time.
BATCH = 16384


class RBM(nn.Module):
    """ln psi = a . sigma + sum_j ln cosh theta_j, theta = W^T sigma + b.

    Attributes:
        shapes: of the parameters of `cells.initial`.
        cpx: complex weights.
        table: rows of `cells.columns`, or None.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    cpx: bool
    table: tuple[tuple[int, ...], ...] | None = None

    @nn.compact
    def __call__(self, s: jax.Array) -> jax.Array:
        """Of one configuration of 0 and 1."""
        dtype = jVMC.global_defs.tCpx if self.cpx else jVMC.global_defs.tReal
        zeros = nn.initializers.zeros
        p = {name: self.param(name, zeros, shape, dtype) for name, shape in self.shapes}
        weights, hidden = p["W"], p["b"]
        sigma = (2 * s.ravel() - 1).astype(dtype)
        if self.table is not None:
            table = np.asarray(self.table)
            weights = weights[:, table].reshape(-1, table.shape[1]).T
            hidden = jnp.repeat(hidden, len(table))
        theta = sigma @ weights + hidden
        return jnp.sum(p["a"] * sigma) + jnp.sum(log_cosh(theta))


def wave_function(params: dict[str, np.ndarray], table: Any, n_sites: int) -> Any:
    """jVMC's state with given parameters; configurations are (1, N)."""
    shapes = tuple((name, x.shape) for name, x in params.items())
    rows = None if table is None else tuple(map(tuple, np.asarray(table).tolist()))
    cpx = bool(np.iscomplexobj(params["W"]))
    psi = jVMC.vqs.NQS(RBM(shapes, cpx, rows), batchSize=BATCH)
    devices = jVMC.global_defs.device_count()
    psi(jnp.zeros((devices, 1, 1, n_sites), dtype=np.int32))
    psi.params = {name: jnp.asarray(x) for name, x in params.items()}
    return psi


def operator(strings: list[cells.String]) -> Any:
    """The operator; the weights are in the elements, not in functions of time."""
    local = {
        "X": branch_free.Sx,
        "Y": branch_free.Sy,
        "Z": branch_free.Sz,
        "+": branch_free.Sp,
        "-": branch_free.Sm,
    }
    total = branch_free.BranchFreeOperator()
    for weight, word, sites in strings:
        factors = [local[o](i) for o, i in zip(word, sites, strict=True)]
        factors[0]["matEls"] = weight * factors[0]["matEls"]
        total.add(branch_free.OpStr(*factors))
    return total


def sampler(
    psi: Any,
    shape: tuple[int, ...],
    zero_sz: bool,
    n_samples: int,
    discarded: int,
    seed: int = 1,
) -> Any:
    """A chain per sample, one sweep of N proposals between samples.

    Args:
        psi: the state.
        shape: (1, N), or (L, L).
        zero_sz: in the sector of total Sz = 0.
        n_samples: per batch.
        discarded: sweeps before every batch.
        seed: of the chains.
    """
    n_sites = int(np.prod(shape))
    propose = jVMC.sampler.propose_spin_flip
    start = jnp.zeros(shape, dtype=np.int32)
    if zero_sz:
        propose = jVMC.sampler.propose_spin_flip_zeroMag
        start = (jnp.arange(n_sites, dtype=np.int32) % 2).reshape(shape)
    return jVMC.sampler.MCSampler(
        psi,
        shape,
        jax.random.PRNGKey(seed),
        updateProposer=propose,
        numChains=n_samples // jVMC.global_defs.device_count(),
        numSamples=n_samples,
        sweepSteps=n_sites,
        thermalizationSweeps=discarded,
        initState=start,
    )


def equation(psi: Any, chains: Any, n_samples: int) -> Any:
    """The right-hand side of jVMC's equation of motion in imaginary time."""
    size = psi.get_parameters().size
    if size > n_samples:
        tol = PINV_TOL if psi.holomorphic else 1e-14
        return jVMC.util.minsr.MinSR(chains, pinvTol=tol, diagonalShift=DIAG_SHIFT)
    return jVMC.util.tdvp.TDVP(
        chains,
        rhsPrefactor=1.0,
        pinvTol=1e-8,
        makeReal="real",
        diagonalShift=DIAG_SHIFT,
    )


def start(cell: dict[str, Any]) -> dict[str, np.ndarray]:
    """Parameters as jVMC's real RBM starts: weights of width 1 / sqrt(N), no biases.

    Where NetKet starts the diagonal of S is tiny, and a shift relative to it does not
    keep the first steps small.
    """
    params = cells.initial(cell, cell["n_sites"] ** -0.5)
    return params | {name: 0 * params[name] for name in ("a", "b")}


def main(path: str) -> None:
    """Optimise within the budget, measure, print."""
    cell = cells.read(path)
    if cell["total_sz"] not in (None, 0):
        raise SystemExit(
            f"jVMC has no proposals for total Sz = {cell['total_sz']}: only for 0, and "
            "for a free total Sz"
        )
    n_sites, n_samples = cell["n_sites"], cell["n_samples"]
    ham = operator(cells.ladders(cell["terms"]))
    psi = wave_function(start(cell), cells.columns(cell), n_sites)
    zero = cell["total_sz"] is not None
    chains = sampler(psi, (1, n_sites), zero, n_samples, DISCARDED, cell["seed"])
    right = equation(psi, chains, n_samples)
    euler = jVMC.util.stepper.Euler(timeStep=TIME_STEP)

    def step() -> tuple[float, float]:
        keys = {"hamiltonian": ham, "psi": psi, "numSamples": None}
        params, _ = euler.step(0, right, psi.get_parameters(), **keys)
        psi.set_parameters(params)
        jax.block_until_ready(params)
        mean, var = right.ElocMean0, right.ElocVar0
        return float(np.real(mean)), float(np.real(var))

    def local() -> np.ndarray:
        configs, log_psi, _ = chains.sample()
        return np.asarray(ham.get_O_loc(configs, psi, log_psi, 0)).ravel()

    versions = {"jvmc": jVMC.__version__, "jax": jax.__version__}
    cells.run(cell, step, local, int(psi.numParameters), versions)


if __name__ == "__main__":
    main(sys.argv[1])
