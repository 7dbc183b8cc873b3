"""Vision transformer with factored attention, for periodic and open lattices.

Patches of b^d cells are embedded linearly.  In every layer positions attend to each
other with weights that depend on their distance only, not on what they hold:

    x_i <- x_i + W sum_j alpha^h_(i-j) V^h norm(x)_j,
    x_i <- x_i + FFN(norm(x)_i),

and log psi = sum_a ln cosh(b_a + w_a . z), z = norm(sum_i x_i), with complex w and b
(arXiv:2310.05715; factored attention: arXiv:2405.18874).
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.activations import layer_norm, log_cosh
from ansatze.cuts import trivial
from ansatze.deep_inputs import Cells, cells_of, check_sizes, spin_values
from ansatze.layouts import Layout, Leaf, he, lecun
from ansatze.readouts import cell_weights, network
from ansatze.shared_weights import Shared, biased, dense, windows
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.wavefunction import float_dtype


def vit(
    problem: Problem,
    *,
    patch: int | None = None,
    d_model: int = 16,
    heads: int = 4,
    depth: int = 2,
    init_scale: float = 0.3,
) -> WaveFunction:
    """Vision transformer with translation-invariant attention.

    On a periodic lattice psi is invariant under translations by a patch; with
    ``problem.symmetry`` it is the mean over all others, at patch^d times the cost.

    The parameters are one real vector "theta": "first.w" (D, sites per patch),
    "first.b" (D,); for every layer "scale1", "shift1" (D,),
    "values" (D, D), "alpha" (heads, distances), "mix" (D, D), "scale2", "shift2" (D,),
    "w1" (2 D, D), "b1" (2 D,), "w2" (D, 2 D), "b2" (D,); "scale" and "shift" (D,) of
    the last norm; "head" (1 or 2, D, D) and "bias" (1 or 2, D), real and imaginary
    parts.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.  ``dtype = "real"``
            gives a positive psi.
        patch: b; default 2 if that divides the lattice, else 1.
        d_model: D, numbers per patch.
        heads: of the attention; divides D.
        depth: layers.
        init_scale: spread of the arguments of ln cosh at the start.

    Raises:
        JobError: sizes that do not divide or make no sense, or a symmetry beyond
            translations with momentum 0.
    """
    check_sizes({"d_model": d_model, "heads": heads, "depth": depth})
    cells = cells_of(problem, "vit")
    if d_model % heads:
        raise JobError(f"d_model = {d_model} is no multiple of heads = {heads}")
    if patch is None:
        patch = 1 if any(n % 2 for n in cells.shape) else 2
    patches = _Patches.of(cells, patch)
    if problem.symmetry is not None:
        if np.any(cell_weights(problem, cells, "sum_exp", "vit") != 1):
            raise JobError(
                "vit has momentum 0 (in the sign gauge), but another one is asked "
                'for: use cnn, or symmetry = "none"'
            )
        patches = dataclasses.replace(patches, shifts=patches.all_shifts(cells))
    # Every distance between two patches has a weight of its own.
    extent = [n if p else 2 * n - 1 for n, p in zip(patches.shape, cells.periodic)]
    attention = windows(patches.shape, cells.periodic, extent)
    net = _ViT(problem, patches, attention, d_model, heads, depth, init_scale)
    return network(
        problem,
        Layout(net.leaves(), float_dtype(problem)),
        net.terms,
        np.ones(len(patches.shifts)),
        depth * attention.score_bytes(heads),
        trivial(problem.space.local_dims),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Patches:
    """How cells are grouped.

    Attributes:
        shape: grid of patches.
        sites: int (sites per patch, patches).
        shifts: int (S, N), site permutations that psi is averaged over.
    """

    shape: tuple[int, ...]
    sites: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(cls, cells: Cells, b: int) -> _Patches:
        check_sizes({"patch": b})
        if any(n % b for n in cells.shape):
            divisor = math.gcd(*cells.shape)
            fits = [k for k in range(1, divisor + 1) if divisor % k == 0]
            raise JobError(
                f"patch = {b} does not divide the lattice, a grid of "
                f"{' x '.join(map(str, cells.shape))} cells; it may be {fits}"
            )
        shape = tuple(n // b for n in cells.shape)
        split = [x for n in shape for x in (n, b)]
        inside = [*range(1, len(split), 2), len(split), *range(0, len(split), 2)]
        n_sites = cells.n_cells * cells.n_basis
        grid = np.arange(n_sites).reshape(*split, cells.n_basis).transpose(inside)
        sites = grid.reshape(-1, math.prod(shape))
        return cls(shape, sites, np.arange(n_sites)[None])

    def all_shifts(self, cells: Cells) -> np.ndarray:
        """Translations by less than a patch along periodic directions."""
        extents = [
            range(n // m if closed else 1)
            for n, m, closed in zip(cells.shape, self.shape, cells.periodic)
        ]
        grid = np.arange(self.sites.size).reshape(*cells.shape, cells.n_basis)
        axes = range(len(cells.shape))
        moved = [np.roll(grid, by, axes) for by in itertools.product(*extents)]
        return np.array(moved).reshape(len(moved), -1)


@dataclasses.dataclass(frozen=True, eq=False)
class _ViT:
    """Everything static about one network."""

    problem: Problem
    patches: _Patches
    attention: Shared
    width: int
    heads: int
    depth: int
    init_scale: float

    def leaves(self) -> dict[str, Leaf]:
        d = self.width
        leaves = {"first.w": lecun(d, len(self.patches.sites)), "first.b": Leaf((d,))}
        for n in range(self.depth):
            layer = {
                "scale1": Leaf((d,), mean=1),
                "shift1": Leaf((d,)),
                "values": lecun(d, d),
                "alpha": lecun(self.heads, self.attention.n_weights),
                "mix": lecun(d, d),
                "scale2": Leaf((d,), mean=1),
                "shift2": Leaf((d,)),
                "w1": he(2 * d, d),
                "b1": Leaf((2 * d,)),
                "w2": he(d, 2 * d),
                "b2": Leaf((d,)),
            }
            leaves |= {f"{n}.{name}": leaf for name, leaf in layer.items()}
        n_parts = 2 if self.problem.dtype == "complex" else 1
        return leaves | {
            "scale": Leaf((d,), mean=1),
            "shift": Leaf((d,)),
            "head": Leaf((n_parts, d, d), self.init_scale / math.sqrt(d)),
            "bias": Leaf((n_parts, d)),
        }

    def attend(self, p: dict[str, Array], n: int, x: Array) -> Array:
        """Attention of layer n, (D, P, B)."""
        v = dense(p[f"{n}.values"], x)
        # Channels and walkers of one head share its weights.
        n_batch = v.shape[-1]
        v = v.reshape(self.heads, -1, *v.shape[1:]).transpose(0, 2, 1, 3)
        v = v.reshape(self.heads, v.shape[1], -1)
        v = self.attention.depthwise(p[f"{n}.alpha"], v)
        v = v.reshape(self.heads, v.shape[1], -1, n_batch).transpose(0, 2, 1, 3)
        return dense(p[f"{n}.mix"], v.reshape(self.width, -1, n_batch))

    def terms(self, p: dict[str, Array], sigma: Array) -> Array:
        spins = spin_values(self.problem, sigma)
        # (sites per patch, patches, shifts and walkers)
        where = self.patches.shifts[:, self.patches.sites].transpose(1, 2, 0)
        x = spins[where].reshape(*self.patches.sites.shape, -1)
        x = biased(dense(p["first.w"], x), p["first.b"])
        for n in range(self.depth):
            z = layer_norm(x, p[f"{n}.scale1"], p[f"{n}.shift1"])
            x = x + self.attend(p, n, z)
            z = layer_norm(x, p[f"{n}.scale2"], p[f"{n}.shift2"])
            z = jax.nn.gelu(biased(dense(p[f"{n}.w1"], z), p[f"{n}.b1"]))
            x = x + biased(dense(p[f"{n}.w2"], z), p[f"{n}.b2"])
        z = layer_norm(jnp.sum(x, axis=1), p["scale"], p["shift"])
        theta = jnp.matmul(p["head"], z, precision="highest") + p["bias"][:, :, None]
        theta = theta[0] if len(theta) == 1 else lax.complex(theta[0], theta[1])
        return jnp.sum(log_cosh(theta), axis=0).reshape(-1, sigma.shape[0])
