"""Which positions of convolutions on top of each other a move changes.

A move of a few sites changes those positions of a convolution that read one of them,
directly or through the convolutions below: its light cone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.deep_inputs import Cells
from ansatze.shared_weights import box_table


@dataclasses.dataclass(frozen=True, eq=False)
class Cones:
    """Which positions of every layer a move changes.

    Attributes:
        cells: the grid.
        kernel: extent of a window along every direction.
        n_layers: convolutions on top of each other.
    """

    cells: Cells
    kernel: tuple[int, ...]
    n_layers: int

    def boxes(self, wider: Sequence[int]) -> list[int]:
        """Positions in the cone of a box of 1 + ``wider`` cells, for every layer."""
        out = []
        for layer in range(1, self.n_layers + 1):
            each = zip(self.kernel, wider, self.cells.shape)
            sides = [min(1 + layer * (k - 1) + w, n) for k, w, n in each]
            out.append(math.prod(sides))
        return out

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Most positions of every layer that one site changes."""
        return self.boxes([0] * len(self.kernel))

    @functools.cached_property
    def tables(self) -> tuple[np.ndarray, ...]:
        """Positions that each site changes, int32 (N + 1, n), for every layer.

        In any order, each once; filled up by P.  The last row, of no site, holds
        nothing else.
        """
        out, cells = [], self.cells
        for layer in range(1, self.n_layers + 1):
            # Who reads a cell sees it in the opposite direction.
            spans = [(-layer * (k // 2), layer * ((k - 1) // 2)) for k in self.kernel]
            table = box_table(cells.shape, cells.periodic, spans).T
            of_site = np.repeat(table, cells.n_basis, axis=0)
            nowhere = ((0, 1), (0, 0))
            out.append(np.pad(of_site, nowhere, constant_values=cells.n_cells))
        return tuple(out)

    def most(self, n_sites: int) -> tuple[int, ...]:
        """Positions that a move of so many sites can change, for every layer."""
        return tuple(min(n_sites * n, self.cells.n_cells) for n in self.sizes)

    def close(self, n_sites: int) -> tuple[int, ...]:
        """The same where the sites are close: three in a row or in a box of two."""
        kinds = [list(row) for row in 2 * np.eye(len(self.kernel), dtype=int)]
        if n_sites > 2:
            kinds.append([1] * len(self.kernel))
        each = zip(self.most(n_sites), *map(self.boxes, kinds))
        return tuple(min(far, max(near)) for far, *near in each)

    def at(self, sites: Array, layer: int, most: int) -> Array:
        """Positions of a layer that moves change, int32 (M, most).

        Args:
            sites: int (M, k), padded with N.
            layer: counted from 0.
            most: the first so many.

        Returns:
            In order, each once, filled up by P.
        """
        found = jnp.asarray(self.tables[layer])[sites].reshape(len(sites), -1)
        found = jnp.sort(found, axis=1)
        if sites.shape[1] > 1:
            again = jnp.pad(found[:, 1:] == found[:, :-1], ((0, 0), (1, 0)))
            found = jnp.sort(jnp.where(again, self.cells.n_cells, found), axis=1)
        return found[:, :most]

    def fit(self, sites: Array, most: tuple[int, ...]) -> Array:
        """Whether no one of M moves, int (M, k), changes more positions than these."""
        far = self.most(sites.shape[1])
        pairs = zip(most, far)
        wide = [self.at(sites, n, b)[:, a:] for n, (a, b) in enumerate(pairs)]
        return jnp.all(jnp.concatenate(wide, axis=1) == self.cells.n_cells)


class Lookup(NamedTuple):
    """Where to find values of a layer after M moves.

    Attributes:
        position: int32, in the old layer.
        slot: int32, of the same shape, among the new values, (M, n) flattened.
        is_new: bool, of the same shape.
    """

    position: Array
    slot: Array
    is_new: Array

    @classmethod
    def of(cls, wanted: Array, changed: Array, n_positions: int) -> Lookup:
        """Of positions wanted, int (..., M, n), where others changed, int (M, m)."""

        def one(wanted: Array, changed: Array) -> tuple[Array, Array]:
            slot = jnp.searchsorted(changed, wanted, method="scan_unrolled")
            slot = jnp.minimum(slot, len(changed) - 1).astype(jnp.int32)
            return slot, changed[slot] == wanted

        axis = wanted.ndim - 2
        slot, is_new = jax.vmap(one, (axis, 0), axis)(wanted, changed)
        first = jnp.arange(len(changed), dtype=jnp.int32) * changed.shape[1]
        slot = slot + first.reshape(-1, 1)[(None,) * axis]
        return cls(jnp.minimum(wanted, n_positions - 1), slot, is_new)

    def __call__(self, old: Array, new: Array) -> Array:
        """Values (C, ..., M, n, B) from old ones (C, P, B) and new ones (C, M m, B)."""
        kept = old.at[:, self.position].get(mode="promise_in_bounds")
        # Read from a copy that is never made: XLA does not recompute the new values,
        # expensive ones, for everyone that reads them.
        copies = jnp.broadcast_to(new[:, None], (len(new), 2, *new.shape[1:]))
        which = self.is_new.astype(jnp.int32)
        fresh = copies.at[:, which, self.slot].get(mode="promise_in_bounds")
        return jnp.where(self.is_new[None, ..., None], fresh, kept)
