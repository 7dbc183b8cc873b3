"""Dense referees: spin matrices by Kronecker products, a state as one vector."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

import vmc
from tests.engine.helpers import randomise
from vmc.assembly import Built, build
from vmc.base import VMCState

Matrix = NDArray[Any]


def spin_matrices(dim: int) -> dict[str, Matrix]:
    """x, y, z of one spin (dim - 1) / 2, the largest m first."""
    s = (dim - 1) / 2
    m = s - np.arange(dim)
    up = np.diag(np.sqrt(s * (s + 1) - m[1:] * m[:-1]), 1)
    return {"x": (up + up.T) / 2, "y": (up - up.T) / 2j, "z": np.diag(m)}


class Referee:
    """The physical state of a job in the free space, and operators there."""

    def __init__(self, built: Built, state: VMCState) -> None:
        self.space = built.hamiltonian.space
        self.dims = self.space.local_dims
        self.n = len(self.dims)
        states = self.space.all_states()
        logs = np.asarray(jax.jit(built.wavefunction.log_psi)(state.params, states))
        psi = np.exp(logs - np.real(logs).max())
        signs = built.hamiltonian.signs
        index = (np.array(self.dims) - 1 - states.astype(int)) // 2
        if signs is not None:
            psi = psi * np.prod(np.array(signs)[None] ** index, axis=1)
        weights = np.append(np.cumprod(self.dims[:0:-1])[::-1], 1).astype(int)
        self.psi = np.zeros(int(np.prod(self.dims)), complex)
        self.psi[index @ weights] = psi / np.linalg.norm(psi)

    @functools.cache  # noqa: B019
    def spin(self, site: int, axis: str) -> Matrix:
        """S^axis of one site."""
        out = np.ones((1, 1))
        for i, d in enumerate(self.dims):
            out = np.kron(out, spin_matrices(d)[axis] if i == site else np.eye(d))
        return out

    def dot(self, i: int, j: int, axes: str = "xyz") -> Matrix:
        """Sum over axes of S_i S_j."""
        return sum(self.spin(i, a) @ self.spin(j, a) for a in axes)  # type: ignore

    def mean(self, operator: Matrix) -> complex:
        """<psi|O|psi>."""
        return complex(self.psi.conj() @ (operator @ self.psi))

    def permuted(self, perm: Any, flip: bool = False) -> Matrix:
        """T psi, where T moves the state of site i to perm[i]."""
        tensor = self.psi.reshape(self.dims)
        if flip:
            tensor = np.flip(tensor)
        return np.transpose(tensor, np.argsort(perm)).reshape(-1)

    def purity(self, region: Any) -> float:
        """Tr rho_A^2 from the Schmidt values."""
        rest = [i for i in range(self.n) if i not in region]
        tensor = np.transpose(self.psi.reshape(self.dims), [*region, *rest])
        size = int(np.prod([self.dims[i] for i in region]))
        p = np.linalg.svd(tensor.reshape(size, -1), compute_uv=False) ** 2
        return float(np.sum(p**2))


def full(job: vmc.Job, scale: float = 0.3) -> tuple[Built, VMCState, Referee]:
    """A job on all configurations, with random parameters, and its referee."""
    keys = {"name": "full", "n_chains": None, "n_samples": None}
    built = build(job.replace({"sampler": keys}))
    shapes = jax.eval_shape(built.wavefunction.init, jax.random.key(0))
    state = built.vmc.init(randomise(shapes, scale))
    return built, state, Referee(built, state)


def column(table: dict[str, Any], **labels: Any) -> NDArray[Any]:
    """Means of the rows with these labels."""
    n = len(table["mean"])
    rows = [k for k in range(n) if all(table[c][k] == v for c, v in labels.items())]
    return np.array([table["mean"][k] for k in rows], float)
