"""Convolutional network with residual blocks, on a lattice of any dimension.

Plain layers first, x = conv(sigma) and x <- conv(gelu(x)); then blocks with their
activations ahead of the convolutions,

    x <- x + conv(gelu(conv(gelu(x / sqrt(n + 1))))),  n = 0, 1, ...

and a readout of gelu(x / sqrt(depth + 1)) that makes psi a sum of exponentials over
positions and channels, or a product over positions (ResNets for quantum spins:
arXiv:2302.01941; psi of a translation-invariant CNN: arXiv:1903.06713).
"""

from __future__ import annotations

import dataclasses
import math

import jax
from jax import Array

from ansatze.deep_inputs import Stem, cells_of, check_sizes, kernel_of
from ansatze.layouts import Layout, Leaf, he
from ansatze.readouts import (
    Readout,
    ReadoutName,
    cell_weights,
    cone_capacity,
    network,
)
from ansatze.shared_weights import Shared, biased, windows
from vmc.base import Problem, WaveFunction
from vmc.wavefunction import float_dtype


def cnn(
    problem: Problem,
    *,
    channels: int = 8,
    depth: int = 1,
    kernel_size: int | None = None,
    layers: int = 1,
    readout: ReadoutName = "sum_exp",
    uniform: bool = True,
    init_scale: float = 0.5,
) -> WaveFunction:
    """Convolutional network: plain layers, then residual blocks of two convolutions.

    Periodic directions wrap around, open ones are padded with zeros; the sites of a
    unit cell are input channels.  ``dtype = "complex"`` gives every term a modulus and
    a phase.  Where ``problem.spin_flip``, the first layer is even, without bias.

    The parameters are one real vector "theta": those of `ansatze.deep_inputs.Stem`;
    "w" (C, C, K) and "b" (C,) of every further convolution, K = kernel_size^d, the
    inner one of a block first; "head" (1 or 2, terms, C).  Their number does not
    depend on the size of the lattice.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.
        channels: C, of every layer.
        depth: residual blocks; 0 gives a plain CNN of ``layers`` convolutions.
        kernel_size: extent of a window along every direction; default 5, or the
            extent of the lattice where that is smaller.
        layers: convolutions before the first block.
        readout: "sum_exp", which also carries any momentum, or "product".
        uniform: on a periodic lattice psi is invariant under translations, whatever
            the Hamiltonian.  False breaks this by a learned number per position and
            channel.
        init_scale: spread of the exponents at the start.

    Raises:
        JobError: sizes that make no sense, a window larger than the lattice, an
            unknown readout, or a symmetry beyond translations.
    """
    check_sizes({"channels": channels, "layers": layers})
    check_sizes({"depth": depth}, 0)
    cells = cells_of(problem, "cnn")
    kernel = kernel_of(cells, kernel_size, 5)
    weights = cell_weights(problem, cells, readout, "cnn")
    conv = windows(cells.shape, cells.periodic, kernel)
    net = _ResNet(
        conv,
        Stem(problem, conv, cells.n_basis, channels, uniform),
        Readout.of(problem, readout, weights, channels),
        layers,
        depth,
        init_scale,
    )
    return network(
        problem,
        Layout(net.leaves(), float_dtype(problem)),
        net.terms,
        net.readout.term_weights,
        (layers + 2 * depth) * conv.score_bytes(channels),
        cone_capacity(cells, net.readout, kernel, layers + 2 * depth),
        net.stem.even,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _ResNet:
    """Everything static about one network."""

    conv: Shared
    stem: Stem
    readout: Readout
    layers: int
    depth: int
    init_scale: float

    def leaves(self) -> dict[str, Leaf]:
        c = self.stem.channels
        leaves = self.stem.leaves()
        for n in range(1, self.layers + 2 * self.depth):
            leaves |= {f"{n}.w": he(c, c, self.conv.n_weights), f"{n}.b": Leaf((c,))}
        return leaves | {"head": self.readout.leaf(c, self.init_scale)}

    def terms(self, p: dict[str, Array], sigma: Array) -> Array:
        def convolve(n: int, x: Array) -> Array:
            return biased(self.conv(p[f"{n}.w"], jax.nn.gelu(x)), p[f"{n}.b"])

        x = self.stem(p, sigma)
        for n in range(1, self.layers):
            x = convolve(n, x)
        for block in range(self.depth):
            n = self.layers + 2 * block
            z = convolve(n, x / math.sqrt(block + 1))
            x = x + convolve(n + 1, z)
        x = jax.nn.gelu(x / math.sqrt(self.depth + 1))
        return self.readout.terms(p["head"], x)
