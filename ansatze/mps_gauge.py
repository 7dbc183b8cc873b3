"""Canonical form and truncation of open matrix product states.

On the parameters of `ansatze.mps.mps` with a tensor per site: "tensors" (N, d, D, D),
"left" and "right" (D,).  On the host, in NumPy (arXiv:1008.3477).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vmc.base import Params
from vmc.errors import JobError


class Truncated(NamedTuple):
    """Result of `truncate`.

    Attributes:
        params: with the smaller bond dimension.
        weights: discarded Schmidt weight at every bond, (N - 1,); the infidelity of
            the truncated state is at most their sum.
    """

    params: Params
    weights: np.ndarray


def _open_chain(params: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if set(params) != {"tensors", "left", "right"}:
        raise JobError(
            f"parameters {sorted(params)} are not those of an open chain with a tensor "
            "per site (left, right, tensors). Build the state with periodic = false "
            "and translation_invariant = false."
        )
    tensors, left, right = (np.asarray(params[k]) for k in ("tensors", "left", "right"))
    return tensors, left, right


def canonicalise(params: Params) -> Params:
    """The same psi with sum_s A_i[s] A_i[s]^H = 1 at every site (right-canonical).

    The norm of the state is then that of "left"; "right" is a unit vector.  Entries
    for local states that a site does not have must be zero (`site_tensors`).

    Raises:
        JobError: the parameters are not those of an open chain.
    """
    tensors, left, right = _open_chain(params)
    n_sites, d, bond, _ = tensors.shape
    out = np.empty_like(tensors)
    # Column 0 carries the boundary vector; the others start empty.
    carry = np.zeros((bond, bond), tensors.dtype)
    carry[:, 0] = right
    for i in range(n_sites - 1, -1, -1):
        block = (tensors[i] @ carry).transpose(1, 0, 2).reshape(bond, d * bond)
        q, r = np.linalg.qr(block.conj().T)
        out[i] = q.conj().T.reshape(bond, d, bond).transpose(1, 0, 2)
        carry = r.conj().T
    unit = np.zeros_like(right)
    unit[0] = 1
    return {"tensors": out, "left": left @ carry, "right": unit}


def truncate(params: Params, bond_dimension: int) -> Truncated:
    """The state with the largest Schmidt values at every bond kept, by SVD.

    Args:
        params: of an open chain with a tensor per site.
        bond_dimension: D of the result.  If it is larger than the present one, the
            state is only brought into canonical form and padded with zeros.

    Raises:
        JobError: the parameters are not those of an open chain, or D < 1.
    """
    if bond_dimension < 1:
        raise JobError(f"bond_dimension is {bond_dimension}; it is a positive integer")
    start = canonicalise(params)
    tensors, left, right = _open_chain(start)
    n_sites, d, _, _ = tensors.shape
    size = np.linalg.norm(left)
    carry = left[None] / (size if size > 0 else 1.0)
    new = np.zeros((n_sites, d, bond_dimension, bond_dimension), tensors.dtype)
    discarded = np.zeros(max(n_sites - 1, 0))
    for i in range(n_sites):
        block = np.einsum("aj,sjk->ask", carry, tensors[i])
        rows = len(carry)
        if i == n_sites - 1:
            new[i, :, :rows, 0] = (block @ right).T
            break
        u, values, vh = np.linalg.svd(block.reshape(rows * d, -1), full_matrices=False)
        keep = min(bond_dimension, len(values))
        discarded[i] = np.sum(values[keep:] ** 2)
        new[i, :, :rows, :keep] = u[:, :keep].reshape(rows, d, keep).swapaxes(0, 1)
        carry = values[:keep, None] * vh[:keep]
    unit = np.zeros(bond_dimension, tensors.dtype)
    unit[0] = 1
    return Truncated({"tensors": new, "left": size * unit, "right": unit}, discarded)
