"""Group-equivariant convolutional network: psi in one sector of any symmetry group.

Features live on the elements of a group of site permutations (of the whole space
group, say).  A lifting layer makes them of the spins, group convolutions mix them:

    y_f(g)  = sum_i w_fi sigma(perm_g(i)) + b_f,
    y'_f(g) = sum_{f', u} W_ff'(u) selu(y_f'(g u)) + b_f,
    psi     = sum_g conj(chi_g) sum_t +-exp(sum_f v_tf selu(y_f(g))),

so that psi(sigma[perm_g]) = chi_g psi(sigma) holds exactly for the characters chi of
a one-dimensional representation (arXiv:2104.05085, arXiv:2211.07749).
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from jax import Array

from ansatze.cuts import trivial
from ansatze.deep_inputs import Stem, check_sizes
from ansatze.grids import equal_dim
from ansatze.layouts import Layout, Leaf, lecun
from ansatze.readouts import Readout, characters_of, network, no_characters
from ansatze.shared_weights import Shared, biased
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.wavefunction import float_dtype

#: Groups of more elements have fewer features by default: cost grows as F^2 G^2.
LARGE_GROUP = 64


def gcnn(
    problem: Problem,
    *,
    features: int | None = None,
    depth: int = 1,
    init_scale: float = 0.5,
) -> WaveFunction:
    """Network equivariant under ``problem.symmetry``, with ``problem.characters``.

    The parameters are one real vector "theta": weights "first.w" (F, 1, N) and biases
    "first.b" (F,) of the lifting layer; "w" (F, F, G) and "b" (F,) of every group
    convolution; "head" (1 or 2, F, F).  Cost of a layer O(F^2 G^2).

    Args:
        problem: see `vmc.base.Problem`; it must hold a symmetry group, all sites of
            the same local dimension.  ``dtype = "complex"`` gives every exponent a
            modulus and a phase.  Where ``problem.spin_flip``, the lifting layer is
            even, without biases.
        features: F; default 8, or 4 for groups of more than 64 elements.
        depth: group convolutions.
        init_scale: spread of the exponents at the start.

    Raises:
        JobError: there is no group, the permutations do not form one, the characters
            are no representation, unequal spins, or sizes that make no sense.
    """
    check_sizes({"depth": depth}, 0)
    equal_dim(problem, "gcnn")
    if problem.symmetry is None:
        raise JobError(
            "gcnn is built on a symmetry group, but none is given: set "
            "[ansatz.symmetry], as momentum = [0, 0] with one entry per direction. "
            "Without a symmetry use cnn or mlp."
        )
    perms = np.asarray(problem.symmetry)
    if features is None:
        features = 8 if len(perms) <= LARGE_GROUP else 4
    check_sizes({"features": features})
    table = multiplication_table(perms)
    characters = characters_of(problem)
    if not np.allclose(characters[table], characters[:, None] * characters[None]):
        raise no_characters()
    lift = Shared(np.asarray(perms.T, np.int32), problem.space.n_sites)
    net = _GCNN(
        Stem(problem, lift, 1, features),
        Shared(np.asarray(table.T, np.int32), len(perms)),
        Readout.of(problem, "sum_exp", characters.conj(), features),
        depth,
        init_scale,
    )
    return network(
        problem,
        Layout(net.leaves(), float_dtype(problem)),
        net.terms,
        net.readout.term_weights,
        depth * net.conv.score_bytes(features),
        trivial(problem.space.local_dims),
        net.lift.even,
    )


def multiplication_table(perms: np.ndarray) -> np.ndarray:
    """Products in a group of permutations, int (G, G).

    Args:
        perms: int (G, N), all different.

    Returns:
        table[g, u] = h with perms[h] = perms[g][perms[u]].

    Raises:
        JobError: a product is not among them, or one is there twice.
    """
    codes = np.random.default_rng(0).integers(2**63, size=perms.shape[1])
    known = perms @ codes  # wraps around: a hash, checked below
    order = np.argsort(known)
    table = np.empty((len(perms), len(perms)), np.int64)
    for g, perm in enumerate(perms):
        products = perm[perms]
        where = np.searchsorted(known, products @ codes, sorter=order)
        table[g] = order[np.minimum(where, len(perms) - 1)]
        closed = np.array_equal(perms[table[g]], products)
        if not closed or len(np.unique(table[g])) < len(perms):
            raise JobError(
                f"the {len(perms)} permutations of the symmetry are no group: a "
                "product of two of them is missing, or one of them is there twice"
            )
    return table


@dataclasses.dataclass(frozen=True, eq=False)
class _GCNN:
    """Everything static about one network."""

    lift: Stem
    conv: Shared
    readout: Readout
    depth: int
    init_scale: float

    def leaves(self) -> dict[str, Leaf]:
        """Variances that selu keeps, arXiv:1706.02515."""
        f = self.lift.channels
        leaves = self.lift.leaves()
        for n in range(self.depth):
            leaves |= {f"{n}.w": lecun(f, f, self.conv.n_weights), f"{n}.b": Leaf((f,))}
        return leaves | {"head": self.readout.leaf(f, self.init_scale)}

    def terms(self, p: dict[str, Array], sigma: Array) -> Array:
        x = self.lift(p, sigma)
        for n in range(self.depth):
            x = biased(self.conv(p[f"{n}.w"], jax.nn.selu(x)), p[f"{n}.b"])
        return self.readout.terms(p["head"], jax.nn.selu(x))
