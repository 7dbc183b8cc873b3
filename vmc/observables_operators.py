"""Averages of operators: means, energies of bonds, products of two of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vmc.base import Moves
from vmc.observables import STATIC, Kernel, Sample, Table, class_means, ratios_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Operators:
    """L Hermitian operators, compiled, in the sign gauge of the Hamiltonian.

    Attributes:
        groups: compiled operators of equal structure, their leaves stacked.
        order: int (L,), row of every operator in the concatenation of the groups.
    """

    groups: tuple[Any, ...]
    order: Table

    @property
    def n_operators(self) -> int:
        """L."""
        return self.order.shape[0]

    def local_values(self, sample: Sample) -> Array:
        """Local values, (L, B); complex where psi or an operator is."""
        parts = [_local_values(group, sample) for group in self.groups]
        dtype = jnp.result_type(*parts)
        return jnp.concatenate([p.astype(dtype) for p in parts])[self.order]


def stacked(tables: list[Any]) -> Operators:
    """Compiled operators, of which those of equal structure share one program."""
    found: dict[Any, list[int]] = {}
    for number, table in enumerate(tables):
        leaves, tree = jax.tree.flatten(table)
        shapes = tuple((np.shape(x), np.asarray(x).dtype.str) for x in leaves)
        found.setdefault((tree, shapes), []).append(number)
    groups = tuple(
        jax.tree.map(lambda *leaves: np.stack(leaves), *[tables[i] for i in numbers])
        for numbers in found.values()
    )
    order = np.argsort(np.concatenate([np.array(n) for n in found.values()]))
    return Operators(groups, order.astype(np.int32))


def _local_values(group: Any, sample: Sample) -> Array:
    """Local values of the operators of one group, (L, B)."""
    sigma = sample.sigma
    total = jax.vmap(lambda one: one.diagonal(sigma))(group)
    n, n_moves, width = group.moves.sites.shape
    if n_moves == 0:
        return total
    sites = jnp.asarray(group.moves.sites).reshape(n * n_moves, width)
    shift = jnp.asarray(group.moves.shift).reshape(n * n_moves, width)
    moves = Moves(sites, shift, group.moves.exchange)
    elements = jax.vmap(lambda one: one.elements(sigma))(group)
    elements = elements.reshape(n * n_moves, -1)
    # psi vanishes outside its sector, whatever the network says there.
    elements = jnp.where(sample.space.allows(sigma, moves), elements, 0)
    ratios = ratios_of(sample, moves, elements)
    return total + jnp.sum((elements * ratios).reshape(n, n_moves, -1), axis=1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OperatorMeans(Kernel):
    """Averages of operators, summed over classes with weights.

    Attributes:
        operators: L of them.
        labels: int (L,).
        weights: float (L,).
        n_classes: F.
    """

    operators: Operators
    labels: Table
    weights: Table
    n_classes: int = dataclasses.field(metadata=STATIC)

    @property
    def n_features(self) -> int:
        """Classes."""
        return self.n_classes

    def __call__(self, sample: Sample) -> Array:
        """See `Kernel`."""
        values = self.operators.local_values(sample).real
        return class_means(values, self.labels, self.weights, self.n_classes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OperatorProducts(Kernel):
    """Averages of products D_a D_b of Hermitian operators, and of the D_a.

    <psi|D_a D_b|psi> is the average of conj(D_a) D_b with the local values of both:
    no operator on more sites is needed.

    Attributes:
        operators: L of them.
        pairs: int (P, 2), (a, b).
        labels: int (P,), class of each pair.
        weights: float (P,).
        n_classes: F without the L operators, which come last.
    """

    operators: Operators
    pairs: Table
    labels: Table
    weights: Table
    n_classes: int = dataclasses.field(metadata=STATIC)

    @property
    def n_features(self) -> int:
        """Classes and operators."""
        return self.n_classes + self.operators.n_operators

    def __call__(self, sample: Sample) -> Array:
        """See `Kernel`."""
        values, pairs = self.operators.local_values(sample), jnp.asarray(self.pairs)
        products = (jnp.conj(values[pairs[:, 0]]) * values[pairs[:, 1]]).real
        means = class_means(products, self.labels, self.weights, self.n_classes)
        return jnp.concatenate([means, values.real])
