"""ConvNext blocks for quantum spins: wide windows per channel, then mixing of channels.

x = conv(sigma), then in every block

    x <- x + W' gelu(W norm(depthwise conv(x)) + b) + b'

with a layer norm over the channels (arXiv:2201.03545; for spins arXiv:2505.03466), and
the readouts of `ansatze.readouts`.
"""

from __future__ import annotations

import dataclasses

import jax
from jax import Array

from ansatze.activations import layer_norm
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
from ansatze.shared_weights import Shared, biased, dense, windows
from vmc.base import Problem, WaveFunction
from vmc.wavefunction import float_dtype


def convnext(
    problem: Problem,
    *,
    channels: int = 12,
    depth: int = 2,
    kernel_size: int | None = None,
    expansion: int = 2,
    readout: ReadoutName | None = None,
    uniform: bool = True,
    init_scale: float = 0.5,
) -> WaveFunction:
    """Network of ConvNext blocks: depthwise convolution, norm, two dense layers, gelu.

    Padding, input, spin flip and output are those of `ansatze.resnet.cnn`.  The
    parameters are one real vector "theta", of a length that does not depend on the
    size of the lattice: those of `ansatze.deep_inputs.Stem`; for every block "window"
    (C, K), "scale" and "shift" (C,), "w1" (E, C), "b1" (E,), "w2" (C, E), "b2" (C,)
    with E = expansion * C; "scale" and "shift" (C,) of the last norm; "head" (1 or 2,
    terms, C).

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.
        channels: C.
        depth: blocks.
        kernel_size: extent of a window along every direction; default 5, or the
            extent of the lattice where that is smaller.
        expansion: channels between the two dense layers, in units of C.
        readout: see `ansatze.resnet.cnn`.
        uniform: see `ansatze.resnet.cnn`.
        init_scale: spread of the exponents at the start.

    Raises:
        JobError: as `ansatze.resnet.cnn`.
    """
    check_sizes({"channels": channels, "depth": depth, "expansion": expansion})
    cells = cells_of(problem, "convnext")
    kernel = kernel_of(cells, kernel_size, 5)
    readout = readout_of(problem, cells, kernel, 1 + depth, readout)
    weights = cell_weights(problem, cells, readout, "convnext")
    conv = windows(cells.shape, cells.periodic, kernel)
    net = _ConvNext(
        conv,
        Stem(problem, conv, cells.n_basis, channels, uniform),
        Readout.of(problem, readout, weights, channels),
        depth,
        expansion * channels,
        init_scale,
    )
    return network(
        problem,
        Layout(net.leaves(), float_dtype(problem)),
        net.terms,
        net.readout.term_weights,
        (1 + depth) * conv.score_bytes(channels),
        cone_capacity(cells, net.readout, kernel, 1 + depth),
        net.stem.even,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _ConvNext:
    """Everything static about one network; ``inner`` channels inside a block."""

    conv: Shared
    stem: Stem
    readout: Readout
    depth: int
    inner: int
    init_scale: float

    def leaves(self) -> dict[str, Leaf]:
        c, e = self.stem.channels, self.inner
        leaves = self.stem.leaves()
        for n in range(self.depth):
            leaves |= {
                f"{n}.window": he(c, self.conv.n_weights),
                f"{n}.scale": Leaf((c,), mean=1),
                f"{n}.shift": Leaf((c,)),
                f"{n}.w1": he(e, c),
                f"{n}.b1": Leaf((e,)),
                f"{n}.w2": he(c, e),
                f"{n}.b2": Leaf((c,)),
            }
        return leaves | {
            "scale": Leaf((c,), mean=1),
            "shift": Leaf((c,)),
            "head": self.readout.leaf(c, self.init_scale),
        }

    def terms(self, p: dict[str, Array], sigma: Array) -> Array:
        x = self.stem(p, sigma)
        for n in range(self.depth):
            z = self.conv.depthwise(p[f"{n}.window"], x)
            z = layer_norm(z, p[f"{n}.scale"], p[f"{n}.shift"])
            z = jax.nn.gelu(biased(dense(p[f"{n}.w1"], z), p[f"{n}.b1"]))
            x = x + biased(dense(p[f"{n}.w2"], z), p[f"{n}.b2"])
        x = layer_norm(x, p["scale"], p["shift"])
        return self.readout.terms(p["head"], x)
