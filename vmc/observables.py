"""What is measured besides the energy: functions of the samples, traced and jitted.

A kernel maps configurations to features, real numbers whose averages over |psi|^2 are
wanted.  It is a pytree: its tables are arguments of the compiled measurement.  All
kernels of a measurement see the same samples in one pass.

An operator between configurations is measured by its local value,
sum_sigma' <sigma|O|sigma'> psi(sigma') / psi(sigma).  psi lives in the sign gauge of
the Hamiltonian, and so do the tables that a kernel is given.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from vmc import elementary
from vmc.base import Moves, Params, WaveFunction
from vmc.chunking import bytes_per_row, chunk_size, default_budget, map_chunks
from vmc.space import Spins

STATIC: Any = {"static": True}
#: Arrays of a kernel may be NumPy's, as built, or traced.
Table = Any


class Sample(NamedTuple):
    """What a kernel sees.

    Attributes:
        wavefunction: psi, in the sign gauge.
        hamiltonian: H, in the sign gauge.
        params: parameters of psi.
        sigma: int8 (B, N).
        cache: cache of psi for sigma.
    """

    wavefunction: WaveFunction
    hamiltonian: Any
    params: Params
    sigma: Array
    cache: Any

    @property
    def space(self) -> Spins:
        """The configurations."""
        return self.hamiltonian.space

    @property
    def m(self) -> Array:
        """Eigenvalues m_i of S^z, float (N, B)."""
        return self.sigma.T.astype(float) / 2


class Kernel(abc.ABC):
    """Features of configurations; subclasses are pytrees."""

    @property
    @abc.abstractmethod
    def n_features(self) -> int:
        """F."""

    @abc.abstractmethod
    def __call__(self, sample: Sample) -> Array:
        """Features, real (F, B)."""

    def near(self, energy: float) -> Kernel:
        """The kernel for a state of about this energy; most do not care."""
        del energy
        return self


def features(
    kernels: Mapping[str, Kernel],
    wavefunction: WaveFunction,
    hamiltonian: Any,
    params: Params,
    sigma: Array,
    chunk: int,
) -> Array:
    """All features of some samples.

    Args:
        kernels: by name.
        wavefunction: psi.
        hamiltonian: H.
        params: parameters of psi.
        sigma: int8 (B, N).
        chunk: samples at a time, see `samples_at_once`.

    Returns:
        Real (F, B), the features of the kernels one after the other.
    """
    if not kernels:
        return jnp.zeros((0, sigma.shape[0]))

    def some(sigma: Array) -> Array:
        return _rows(kernels, wavefunction, hamiltonian, params, sigma)

    return map_chunks(some, sigma, chunk).T


def samples_at_once(
    kernels: Mapping[str, Kernel],
    wavefunction: WaveFunction,
    hamiltonian: Any,
    params: Params,
    n_local: int,
) -> int:
    """Samples of one device whose features fit into the memory budget."""

    def rows(fixed: Any, sigma: Array) -> Array:
        return _rows(fixed[0], wavefunction, fixed[1], fixed[2], sigma)

    row = jax.ShapeDtypeStruct((hamiltonian.space.n_sites,), jnp.int8)
    each = bytes_per_row(rows, (kernels, hamiltonian, params), row)
    return chunk_size(n_local, each, default_budget())


def _rows(
    kernels: Mapping[str, Kernel],
    wavefunction: WaveFunction,
    hamiltonian: Any,
    params: Params,
    sigma: Array,
) -> Array:
    """Features of samples, real (B, F)."""
    cache = wavefunction.cache(params, sigma)
    sample = Sample(wavefunction, hamiltonian, params, sigma, cache)
    rows = [kernel(sample).astype(float) for kernel in kernels.values()]
    return jnp.concatenate(rows).T


# ---- diagonal --------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments(Kernel):
    """M, |M|, M^2 and M^4 of M = sum_i w_i m_i, one after the other for every w.

    Attributes:
        weights: float (W, N).
    """

    weights: Table

    @property
    def n_features(self) -> int:
        """4 W."""
        return 4 * self.weights.shape[0]

    def __call__(self, sample: Sample) -> Array:
        """See `Kernel`."""
        total = jnp.asarray(self.weights) @ sample.m
        square = total * total
        moments = [total, jnp.abs(total), square, square * square]
        return jnp.stack(moments, axis=1).reshape(self.n_features, -1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairProducts(Kernel):
    """Means of m_i m_j over classes of pairs, and m_i of every site.

    Attributes:
        pairs: int (P, 2).
        labels: int (P,), class of each pair.
        weights: float (P,), 1 / pairs of its class.
        n_classes: F without the N sites, which come last.
    """

    pairs: Table
    labels: Table
    weights: Table
    n_classes: int = dataclasses.field(metadata=STATIC)
    n_sites: int = dataclasses.field(metadata=STATIC)

    @property
    def n_features(self) -> int:
        """Classes and sites."""
        return self.n_classes + self.n_sites

    def __call__(self, sample: Sample) -> Array:
        """See `Kernel`."""
        m, pairs = sample.m, jnp.asarray(self.pairs)
        products = m[pairs[:, 0]] * m[pairs[:, 1]]
        means = class_means(products, self.labels, self.weights, self.n_classes)
        return jnp.concatenate([means, m])


def class_means(values: Array, labels: Table, weights: Table, n: int) -> Array:
    """Weighted sums (n, B) of rows (P, B) with equal labels."""
    weighted = values * jnp.asarray(weights)[:, None]
    return jax.ops.segment_sum(weighted, jnp.asarray(labels), num_segments=n)


# ---- off-diagonal ----------------------------------------------------------------


def ratios_of(sample: Sample, moves: Moves, elements: Array) -> Array:
    """psi(moved) / psi (K, B), where the element is not 0."""
    wf = sample.wavefunction
    wanted = elements != 0
    rows = sample.cache, sample.sigma, moves, wanted
    log_ratios = wf.log_ratios(sample.params, *rows)
    zero = jnp.zeros((), log_ratios.dtype)
    return elementary.exp(jnp.where(wanted, log_ratios, zero))
