"""Entanglement entropies of a state vector across any cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from vmc.errors import JobError
from vmc.space import Spins

#: Largest side of a block of the amplitude matrix.
MAX_BLOCK = 2**13


class Cut(NamedTuple):
    """Entanglement of some sites with the rest.

    Attributes:
        region: the sites.
        s1: von Neumann entropy -sum p ln p, in nats.
        s2: Renyi entropy -ln sum p^2, in nats.
        spectrum: eigenvalues p of the reduced density matrix, largest first, those
            below 1e-14 left out.
    """

    region: tuple[int, ...]
    s1: float
    s2: float
    spectrum: np.ndarray


def entanglement(space: Spins, vector: np.ndarray, region: Sequence[int]) -> Cut:
    """Entropies of a normalised vector.

    Args:
        space: the configurations.
        vector: (n_states,), in the order of ``space.all_states()``.
        region: sites of one side.

    Raises:
        JobError: a site is outside or repeated, or the reduced density matrix has a
            block above `MAX_BLOCK`.
    """
    sites = sorted(int(i) for i in region)
    inside = [i for i in sites if 0 <= i < space.n_sites]
    if len(set(inside)) != len(sites):
        raise JobError(
            f"cut {list(region)}: sites are different numbers from 0 to "
            f"{space.n_sites - 1}"
        )
    here, there = _split(space, sites)
    n_a, n_b = int(here.max()) + 1, int(there.max()) + 1
    amplitudes = scipy.sparse.csr_array((vector, (here, there)), shape=(n_a, n_b))
    # Configurations of a sector link only parts of equal charge: separate blocks.
    ones = np.ones(len(here), bool)
    links = scipy.sparse.coo_array((ones, (here, there + n_a)), shape=(n_a + n_b,) * 2)
    n_blocks, label = connected_components(links, directed=False)
    of_a, of_b = label[:n_a], label[n_a:]
    order_a, order_b = np.argsort(of_a, kind="stable"), np.argsort(of_b, kind="stable")
    edges = np.arange(n_blocks + 1)
    starts_a = np.searchsorted(of_a[order_a], edges)
    starts_b = np.searchsorted(of_b[order_b], edges)
    values = []
    for block in range(n_blocks):
        rows = order_a[starts_a[block] : starts_a[block + 1]]
        columns = order_b[starts_b[block] : starts_b[block + 1]]
        if min(len(rows), len(columns)) > MAX_BLOCK:
            raise JobError(
                f"cut {sites}: a block of {len(rows)} x {len(columns)} amplitudes is "
                f"beyond {MAX_BLOCK}; choose a cut with fewer sites on one side"
            )
        values.append(_weights(amplitudes[rows][:, columns].toarray()))
    p = np.sort(np.concatenate(values))[::-1]
    p = p[p > 1e-14] / p.sum()
    s1, s2 = -np.sum(p * np.log(p)), -np.log(np.sum(p**2))
    return Cut(tuple(sites), float(s1), float(s2), p)


def _split(space: Spins, sites: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the configurations of both sides, for every state."""
    codes = space.all_codes()
    here, there = np.zeros_like(codes), np.zeros_like(codes)
    stride_a = stride_b = 1
    for site in range(space.n_sites - 1, -1, -1):
        d = space.local_dims[site]
        codes, index = np.divmod(codes, d)
        if site in sites:
            here, stride_a = here + stride_a * index, stride_a * d
        else:
            there, stride_b = there + stride_b * index, stride_b * d
    numbered = (np.unique(side, return_inverse=True)[1] for side in (here, there))
    first, second = numbered
    return first.reshape(-1), second.reshape(-1)


def _weights(block: np.ndarray) -> np.ndarray:
    """Squared singular values of a matrix."""
    if block.shape[0] > block.shape[1]:
        block = block.T
    return np.maximum(np.linalg.eigvalsh(block @ block.conj().T), 0.0)
