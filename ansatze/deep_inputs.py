"""From spins to the features of deep networks: grids of cells and the first layer.

Features have the walkers on the last axis: (C channels, P positions, B walkers).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from jax import Array

from ansatze.activations import soft_abs
from ansatze.layouts import Leaf, he
from ansatze.shared_weights import Shared, biased
from vmc.base import Problem
from vmc.errors import JobError
from vmc.wavefunction import float_dtype


@dataclasses.dataclass(frozen=True)
class Cells:
    """The grid of unit cells that a convolution runs over.

    Attributes:
        shape: extent of the grid.
        periodic: of each direction.
        n_basis: sites per cell, which are the input channels.
    """

    shape: tuple[int, ...]
    periodic: tuple[bool, ...]
    n_basis: int

    @property
    def n_cells(self) -> int:
        """P."""
        return math.prod(self.shape)


def cells_of(problem: Problem, family: str) -> Cells:
    """The grid of unit cells; an open chain without a lattice.

    Raises:
        JobError: the lattice has no rectangular grid of cells.
    """
    n_sites = problem.space.n_sites
    if problem.shape is None:
        if any(problem.periodic):
            raise JobError(
                f"{family} needs a rectangular grid of unit cells, but this lattice is "
                "tilted. Choose another size, or gcnn, which needs only a group."
            )
        return Cells((n_sites,), (False,), 1)
    shape = tuple(int(n) for n in problem.shape)
    if n_sites % math.prod(shape):
        raise JobError(
            f"{family} needs as many sites in every cell, but {n_sites} sites do not "
            f"fill the {math.prod(shape)} cells of the grid {shape}."
        )
    periodic = tuple(bool(p) for p in problem.periodic) or (False,) * len(shape)
    return Cells(shape, periodic, n_sites // math.prod(shape))


def spin_values(problem: Problem, sigma: Array) -> Array:
    """Spins as numbers between -1 and 1, walkers last: (N, B)."""
    return scaled_spins(problem, sigma.T)


def scaled_spins(problem: Problem, values: Array) -> Array:
    """Values of spins, of any shape, as numbers between -1 and 1."""
    largest = max(problem.space.local_dims) - 1
    return values.astype(float_dtype(problem)) / largest


def check_sizes(sizes: Mapping[str, int], least: int = 1) -> None:
    """Refuse sizes of a network that are no integers or too small.

    Raises:
        JobError: with the name of the first such size.
    """
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise JobError(f"{name} is {value!r}; it is an integer of at least {least}")


def kernel_of(cells: Cells, kernel_size: int | None, default: int) -> tuple[int, ...]:
    """Extent of a window along every direction.

    Args:
        cells: the grid.
        kernel_size: what the job says, or None for the default, cut down to the grid.
        default: the default.

    Raises:
        JobError: a window does not fit into the grid.
    """
    if kernel_size is None:
        return tuple(min(default, n) for n in cells.shape)
    check_sizes({"kernel_size": kernel_size})
    if kernel_size > min(cells.shape):
        raise JobError(
            f"kernel_size {kernel_size} is larger than the lattice, a grid of "
            f"{' x '.join(map(str, cells.shape))} cells; it is at most "
            f"{min(cells.shape)}"
        )
    return (kernel_size,) * len(cells.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Stem:
    """The first layer: a shared linear map of the spins, even if psi is to be.

    Its parameters are "first.w" (C, n_basis, K) and, unless it is even, "first.b"
    (C,); where positions are told apart, "positions" (C, P).

    Attributes:
        problem: gives the spin flip and the precision.
        shared: of the spins of n_basis sites per position.
        n_basis: input channels.
        channels: C.
        uniform: False tells positions apart.
    """

    problem: Problem
    shared: Shared
    n_basis: int
    channels: int
    uniform: bool = True

    def __post_init__(self) -> None:
        """Refuse a symmetry that positions would break."""
        if not self.uniform and self.problem.symmetry is not None:
            raise JobError(
                "uniform = false breaks translations, but a symmetry is asked for: use "
                'symmetry = "none" in [ansatz], or leave uniform out.'
            )

    @property
    def even(self) -> bool:
        """Whether features do not change if all spins turn over.

        Then those of every window do not either, if its spins turn over alone.
        Nothing else is lost as long as windows overlap.
        """
        wanted = self.problem.spin_flip and self.problem.flip_character == 1
        return wanted and self.shared.n_weights > 1

    def leaves(self) -> dict[str, Leaf]:
        """The parameters."""
        c = self.channels
        leaves = {"first.w": he(c, self.n_basis, self.shared.n_weights)}
        if not self.even:
            leaves["first.b"] = Leaf((c,))
        if not self.uniform:
            leaves["positions"] = Leaf((c, self.shared.n_out), 0.1)
        return leaves

    def __call__(self, p: Mapping[str, Array], sigma: Array) -> Array:
        """Features (C, P, B) of sigma (B, N)."""
        spins = spin_values(self.problem, sigma)
        spins = spins.reshape(self.shared.n_in, self.n_basis, -1).transpose(1, 0, 2)
        return self.activated(p, self.shared(p["first.w"], spins))

    def activated(
        self, p: Mapping[str, Array], x: Array, at: Array | None = None
    ) -> Array:
        """Features from linear ones (C, P, B), or from those (C, n, B) at positions."""
        x = soft_abs(x) if self.even else biased(x, p["first.b"])
        if self.uniform:
            return x
        shift = p["positions"] if at is None else p["positions"][:, at]
        return x + shift[:, :, None]
