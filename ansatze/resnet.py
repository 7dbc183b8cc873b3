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
from collections.abc import Callable

import jax
from jax import Array

from ansatze.cone_moves import ConeMoves, Cones, Layers
from ansatze.deep_inputs import Stem, cells_of, check_sizes, kernel_of
from ansatze.layouts import Layout, Leaf, he
from ansatze.readouts import (
    Readout,
    ReadoutName,
    cell_weights,
    cone_capacity,
    network,
    readout_of,
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
    readout: ReadoutName | None = None,
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

    On a lattice large enough moves recompute their light cone only; not so where psi
    is made of both psi(sigma) and psi(-sigma).

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.
        channels: C, of every layer.
        depth: residual blocks; 0 gives a plain CNN of ``layers`` convolutions.
        kernel_size: extent of a window along every direction; default 5, or the
            extent of the lattice where that is smaller.
        layers: convolutions before the first block.
        readout: "sum_exp", which also carries any momentum, or "product"; default: the
            sum where every position sees the whole lattice or there is a momentum, the
            product elsewhere.
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
    n_layers = layers + 2 * depth
    readout = readout_of(problem, cells, kernel, n_layers, readout)
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
    layout = Layout(net.leaves(), float_dtype(problem))
    made = network(
        problem,
        layout,
        net.terms,
        net.readout.term_weights,
        n_layers * conv.score_bytes(channels),
        cone_capacity(cells, net.readout, kernel, n_layers),
        net.stem.even,
    )
    doubled = problem.spin_flip and not net.stem.even
    moves = ConeMoves(net, Cones(cells, kernel, n_layers), layout)
    return moves.of(made) if moves.is_worthwhile and not doubled else made


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
        return self.readout.terms(p["head"], self.everywhere(p, sigma).last)

    def everywhere(self, p: dict[str, Array], sigma: Array) -> Layers:
        """See `ansatze.cone_moves.Network`."""

        def convolve(number: int, x: Array) -> Array:
            return biased(self.conv(p[f"{number}.w"], x), p[f"{number}.b"])

        return self.features(self.stem(p, sigma), convolve, lambda _, x: x)

    def features(
        self,
        x: Array,
        convolve: Callable[[int, Array], Array],
        stream: Callable[[int, Array], Array],
    ) -> Layers:
        """See `ansatze.cone_moves.Network`."""
        inputs, streams = [], []

        def through(number: int, x: Array) -> Array:
            inputs.append(jax.nn.gelu(x))
            return convolve(number, inputs[-1])

        for n in range(1, self.layers):
            x = through(n, x)
        for block in range(self.depth):
            n = self.layers + 2 * block
            streams.append(x)
            z = through(n, x / math.sqrt(block + 1))
            x = stream(block, x) + through(n + 1, z)
        last = jax.nn.gelu(x / math.sqrt(self.depth + 1))
        return Layers(tuple(inputs), tuple(streams), last)
