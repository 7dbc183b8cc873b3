"""Matrix product states: open or periodic chains, one tensor per site or shared.

psi(sigma) = l A_1[sigma_1] ... A_N[sigma_N] r   (open; l and r are parameters)
psi(sigma) = Tr A_1[sigma_1] ... A_N[sigma_N]    (periodic)

(arXiv:1008.3477; as variational Monte Carlo states arXiv:0708.2221.)  Sites are
taken in their order 0 ... N-1, whatever the lattice, or in a given one.  A_i[s] is
a D x D matrix of the leaf "tensors" (N, d, D, D), or of "tensor" (d, D, D) when all
sites share it; d is the largest local dimension, and entries for states that a site
does not have are never read.  The sweeps are those of `ansatze.chain`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.chain import Chain, Sweeps, chain_of, chain_wavefunction
from ansatze.cuts_chains import mps_capacity
from ansatze.reordered import reordered
from ansatze.scaled import calibrated_start, near_one, soft_normal, weight_dtype
from vmc.base import Key, Params, Problem, WaveFunction
from vmc.errors import JobError


def mps(
    problem: Problem,
    *,
    bond_dimension: int = 8,
    periodic: bool = False,
    translation_invariant: bool = False,
    site_order: Sequence[int] | None = None,
) -> WaveFunction:
    """Matrix product state with D x D matrices.

    Parameters: "tensors" (N, d, D, D), or "tensor" (d, D, D) if translation
    invariant, and for open chains "left" (D,) and "right" (D,).  Real weights give
    a real psi of either sign, complex ones a holomorphic log psi.  D larger than
    `ansatze.mps_exact.exact_bond_dimension` adds parameters and no states.

    With q = 1 (open) or D (periodic): log psi, all single flips together and one
    set of scores cost O(N q d D^2); an exchange O(q d D^2) per site between its
    two, for which sites far apart on the chain are dear.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.
        bond_dimension: D.
        periodic: trace instead of boundary vectors; D times the cost.
        translation_invariant: one tensor for all sites; with ``periodic`` psi is
            invariant under translations of the ring.
        site_order: site at each place of the chain, by default 0 ... N-1; what the
            state entangles most belongs close together.

    Raises:
        JobError: D is not positive, sites of different size are to share a tensor,
            or a symmetry is asked for that the state does not have.
    """
    if site_order is not None:
        keys: dict[str, Any] = {
            "bond_dimension": bond_dimension,
            "periodic": periodic,
            "translation_invariant": translation_invariant,
        }
        return reordered(problem, site_order, lambda inner: mps(inner, **keys))
    shape = _MPS(problem, bond_dimension, periodic, translation_invariant)
    shape.check()
    wave_function = chain_wavefunction(problem, shape.parts, shape.init, shape.scores)
    dims = tuple(problem.space.local_dims)
    return wave_function._replace(
        capacity=mps_capacity(dims, bond_dimension, periodic, translation_invariant)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _MPS:
    """Everything static about one matrix product state."""

    problem: Problem
    bond: int
    periodic: bool
    shared: bool

    @property
    def sweeps(self) -> Sweeps:
        return Sweeps(tuple(self.problem.space.local_dims))

    def check(self) -> None:
        dims = self.problem.space.local_dims
        if self.bond < 1:
            raise JobError(f"bond_dimension is {self.bond}; it is a positive integer")
        if self.shared and len(set(dims)) > 1:
            raise JobError(
                "translation_invariant = true gives every site the same tensor, but "
                f"the sites have spins of local dimensions {sorted(set(dims))}. Leave "
                "it out."
            )
        cure = (
            "Use periodic = true with translation_invariant = true, or "
            'symmetry = "none".'
        )
        if self.problem.symmetry is None:
            return
        if not (self.periodic and self.shared):
            raise JobError(f"this matrix product state has no lattice symmetry. {cure}")
        check_translations(
            self.problem, (len(dims),), "a translation-invariant MPS", cure
        )

    def parts(self, params: Params) -> tuple[Array, Array, Array]:
        """Tensors (N, d, D, D) and boundary rows (q, D)."""
        n_sites = self.problem.space.n_sites
        if self.shared:
            one = params["tensor"]
            tensors = jnp.broadcast_to(one[None], (n_sites, *one.shape))
        else:
            tensors = params["tensors"]
        if self.periodic:
            first = last = jnp.eye(self.bond, dtype=tensors.dtype)
        else:
            first, last = params["left"][None], params["right"][None]
        return tensors, first, last

    def chain(self, params: Params) -> Chain:
        return chain_of(*self.parts(params))

    def init(self, key: Key) -> Params:
        """Noise around identity matrices, of a strength that keeps psi broad."""
        dtype, dims = weight_dtype(self.problem), self.problem.space.local_dims
        site = (max(dims), self.bond, self.bond)
        name, shape = "tensor", site
        if not self.shared:
            name, shape = "tensors", (len(dims), *site)
        keys = jax.random.split(key, 4)

        def of_scale(scale: Array) -> Params:
            noise = soft_normal(keys[0], shape, dtype)
            eye = jnp.eye(self.bond, dtype=dtype)
            noise = noise * (scale / math.sqrt(self.bond))
            params = {name: jnp.broadcast_to(eye, shape) + noise}
            if not self.periodic:
                for side, k in zip(("left", "right"), keys[1:]):
                    noise = jax.random.normal(k, (self.bond,), dtype)
                    params[side] = near_one(noise, scale)
            return params

        def log_psi(params: Params, sigma: Array) -> Array:
            return self.sweeps.log_psi(self.chain(params), sigma)

        leaf, power = (name, len(dims)) if self.periodic else ("left", 1)
        return calibrated_start(log_psi, of_scale, self.problem, keys[3], leaf, power)

    def scores(self, params: Params, sigma: Array) -> Any:
        left, right, onehot = self.sweeps.gradients(self.chain(params), sigma)
        n_batch = sigma.shape[0]
        contract = functools.partial(jnp.einsum, precision="highest")
        before, after = left[:, :-1], right[:, 1:]
        if not self.shared and not self.periodic:
            factors = (onehot, before[:, :, 0], after[:, :, 0])
        elif not self.shared:
            pair = contract("bnqj,bnqk->bnjk", before, after)
            factors = (onehot, pair.reshape(*onehot.shape[:2], -1))
        else:
            # One matrix product per state, over sites and rows together.
            chosen = onehot.transpose(2, 0, 1)[:, :, :, None, None] * before[None]
            total = contract("sbnqj,bnqk->bsjk", chosen, after)
            factors = (total.reshape(n_batch, 1, -1),)
        scores: dict[str, Any] = {"tensor" if self.shared else "tensors": factors}
        if not self.periodic:
            scores |= {"left": (right[:, 0],), "right": (left[:, -1],)}
        return scores


def check_translations(
    problem: Problem, shape: Sequence[int], family: str, cure: str
) -> None:
    """Refuse a symmetry group that holds more than translations of a grid.

    Args:
        problem: with a symmetry group.
        shape: extent of the grid, one site per cell, row-major.
        family: what to call the ansatz in the message.
        cure: what to write instead.

    Raises:
        JobError: a permutation is not a translation.
    """
    assert problem.symmetry is not None
    grid = np.arange(math.prod(shape)).reshape(shape)
    for perm in np.asarray(problem.symmetry):
        moved = np.unravel_index(int(perm[0]), shape)
        shift = tuple(-int(x) for x in moved)
        if not np.array_equal(np.roll(grid, shift, range(len(shape))).ravel(), perm):
            raise JobError(
                f"{family} is invariant under translations only, but the symmetry "
                f"group has a permutation that is none: {perm.tolist()[:16]}. {cure}"
            )
