"""Many named parameters in one vector.

Deep networks have dozens of small arrays of parameters.  Everything downstream of a
network works leaf by leaf, and compiles leaf by leaf: one vector halves the time until
the first step and makes products with the scores one large product.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc.base import Key, Params


class Leaf(NamedTuple):
    """One array of parameters: its shape, and mean and spread at the start.

    Attributes:
        shape: of the array.
        spread: standard deviation; 0 starts at the mean.
        mean: mean.
    """

    shape: tuple[int, ...]
    spread: float = 0.0
    mean: float = 0.0

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


def he(*shape: int) -> Leaf:
    """Weights (C, ...) that keep the size of gelu features, arXiv:1502.01852."""
    return Leaf(shape, math.sqrt(2 / math.prod(shape[1:])))


def lecun(*shape: int) -> Leaf:
    """Weights (C, ...) that keep the size of selu or linear features."""
    return Leaf(shape, math.sqrt(1 / math.prod(shape[1:])))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where every named array lies in the vector "theta": in order, row-major.

    Attributes:
        leaves: the arrays by name.
        dtype: real.
    """

    leaves: Mapping[str, Leaf]
    dtype: np.dtype

    def init(self, key: Key) -> Params:
        """Random parameters, {"theta": (P,)}."""
        noise = jax.random.normal(
            key, (sum(leaf.size for leaf in self.leaves.values()),), self.dtype
        )
        parts = self.unpack({"theta": noise})
        drawn = [x.mean + x.spread * parts[n].ravel() for n, x in self.leaves.items()]
        return {"theta": jnp.concatenate(drawn)}

    def unpack(self, params: Params) -> dict[str, Array]:
        """The arrays by name."""
        sizes = [leaf.size for leaf in self.leaves.values()]
        # Not slices: the gradient of a split is one concatenation.
        parts = lax.split(params["theta"], sizes)
        each = zip(self.leaves.items(), parts)
        return {name: x.reshape(leaf.shape) for (name, leaf), x in each}
