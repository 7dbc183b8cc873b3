"""Tree tensor network: a dense binary tree of tensors of order three.

Bond dimension D needs O(N D^3) numbers and operations per amplitude, and holds ln D
of entanglement across every bond of the tree (Y.-Y. Shi, L.-M. Duan, G. Vidal,
arXiv:quant-ph/0511070).  A convolutional arithmetic circuit with windows of two and
D channels is the special case of tensors in CP form (arXiv:1704.01552).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.merges import Bilinear, contract
from ansatze.mps_gauge import Truncated
from ansatze.reordered import leaf_order
from ansatze.scaled import largest
from ansatze.tree_family import refuse_symmetry, tree_of, tree_wavefunction
from ansatze.tree_order import block_bounds, level_sizes
from ansatze.trees import Tree
from vmc.base import Params, Problem, WaveFunction
from vmc.errors import JobError

#: Bond dimension if a job names none.
DEFAULT_BOND = 8


def ttn(
    problem: Problem,
    *,
    bond_dimension: int | None = None,
    origin: int | Sequence[int] = 0,
    site_order: Sequence[int] | None = None,
) -> WaveFunction:
    """Binary tree tensor network with dense tensors.

    Parameters: "T0", "T1", ... from the leaves to the root, of shape
    (nodes, upper bond, left bond, right bond).  Bonds near the leaves and the root
    are smaller than ``bond_dimension`` where the space is.  A node without a right
    child (N no power of two) uses only T[..., 0].  In more than one dimension the
    leaves follow a Z-order curve.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.  For dtype "real" the
            weights are real and psi has signs.
        bond_dimension: D, by default 8.
        origin: cell of the first leaf, see `ansatze.convac`.
        site_order: site at each leaf, see `ansatze.convac`.

    Raises:
        JobError: the bond dimension is not positive, or a symmetry is asked for.
    """
    refuse_symmetry(problem, "ttn")
    tree = ttn_tree(problem, bond_dimension, origin, site_order)
    return tree_wavefunction(tree, problem)


def ttn_tree(
    problem: Problem,
    bond_dimension: int | None = None,
    origin: int | Sequence[int] = 0,
    site_order: Sequence[int] | None = None,
) -> Tree:
    """The static part of `ttn`; same arguments."""
    order = leaf_order(problem, 2, origin, site_order)
    dims = [problem.space.local_dims[i] for i in order]
    sizes, bounds = level_sizes(len(dims), 2), block_bounds(dims, 2)
    wanted = DEFAULT_BOND if bond_dimension is None else bond_dimension
    if wanted < 1:
        raise JobError(f"bond_dimension is {wanted}; it is a positive integer")
    if bond_dimension is not None and wanted > max(bounds):
        warnings.warn(
            f"bond_dimension is {wanted}, but no bond of this tree of {len(dims)} "
            f"sites needs more than {max(bounds)}; the rest would be wasted and is "
            "left out",
            stacklevel=3,
        )
    bonds = [max(dims), *(min(wanted, b) for b in bounds[1:]), 1]
    levels = [Bilinear(n, bonds[i], bonds[i + 1], f"T{i}") for i, n in enumerate(sizes)]
    return tree_of(problem, order, levels)


def canonicalise(params: Params, n_sites: int) -> tuple[Params, Array]:
    """The same state in isometric form, by QR decompositions from the leaves up.

    Every tensor but the root's becomes an isometry from its upper bond to its lower
    ones, sum_lr conj(T[e, l, r]) T[f, l, r] = delta_ef, and the root has norm one:
    then <psi|psi> = 1.

    Args:
        params: of `ttn`, for sites of equal dimension.
        n_sites: N.  Where it is no power of two, tensors with an absent child are
            isometries in the directions that their parents use.

    Returns:
        (canonical, log_norm): psi = exp(log_norm) times the canonical psi, exactly.
        Where an upper bond exceeds the product of the lower ones, it shrinks to it.
    """
    names = sorted(params, key=lambda name: int(name[1:]))
    out, log_norm = {}, jnp.zeros((), params[names[0]].real.dtype)
    carried, n_in = None, n_sites
    for name in names:
        t = params[name]
        if n_in % 2:
            # An absent child is the first basis vector: nothing else of T is used.
            t = t.at[-1, :, :, 1:].set(0)
        n_in = t.shape[0]
        if carried is not None:
            if len(carried) % 2:
                absent = jnp.zeros_like(carried[:1]).at[:, 0, 0].set(1)
                carried = jnp.concatenate([carried, absent])
            left, right = carried[0::2], carried[1::2]
            t = contract("nelr,nla,nrb->neab", t, left, right)
        n, e, a, b = t.shape
        if name == names[-1]:
            norm = jnp.sqrt(jnp.sum(jnp.abs(t) ** 2))
            out[name], log_norm = t / norm, log_norm + jnp.log(norm)
            break
        q, r = jnp.linalg.qr(jnp.swapaxes(t.reshape(n, e, a * b), 1, 2))
        out[name] = jnp.swapaxes(q, 1, 2).reshape(n, -1, a, b)
        # T[e, lr] = sum_k Q[lr, k] R[k, e]: the parent's leg e becomes k.
        size = largest(r.reshape(n, -1))
        carried = jnp.swapaxes(r, 1, 2) / size[..., None]
        log_norm = log_norm + jnp.sum(jnp.log(size))
    return out, log_norm


def insert_gauge(params: Params, level: int, node: int, matrix: Array) -> Params:
    """The same psi with X and its inverse inserted on one bond.

    Args:
        params: of `ttn`.
        level: of the node below the bond, not the root's.
        node: its number.
        matrix: X, invertible (D, D).

    Returns:
        New parameters.

    Raises:
        JobError: there is no bond above that node.
    """
    lower, upper = f"T{level}", f"T{level + 1}"
    if upper not in params or not 0 <= node < params[lower].shape[0]:
        raise JobError(f"the tree has no bond above node {node} of level {level}")
    inverse = jnp.linalg.inv(matrix)
    below = contract("ef,flr->elr", matrix, params[lower][node])
    parent, spec = node // 2, ("elr,lm->emr", "elr,rm->elm")[node % 2]
    above = contract(spec, params[upper][parent], inverse)
    return params | {
        lower: params[lower].at[node].set(below),
        upper: params[upper].at[parent].set(above),
    }


def truncate_bonds(
    params: Params,
    problem: Problem,
    bond_dimension: int | None,
    origin: int | Sequence[int] = 0,
    site_order: Sequence[int] | None = None,
) -> Truncated:
    """Smaller bonds, by SVD at every bond of the canonical form.

    With the centre of orthogonality moved to a bond, the singular values there are
    the Schmidt values between the leaves below it and all others; the largest are
    kept.  The projections of all bonds are those of the full state, so that the
    infidelity is at most the sum of the discarded weights (L. Grasedyck, SIAM J.
    Matrix Anal. Appl. 31, 2029 (2010)).

    Args:
        params: of `ttn` for this problem.
        problem: see `ttn`.
        bond_dimension: the new D, see `ttn`.
        origin: see `ttn`.
        site_order: see `ttn`.

    Returns:
        Parameters, padded with zeros where fewer values exist than the new bonds
        hold, and the discarded weight of every bond, (nodes below the root,).
    """
    tree = ttn_tree(problem, bond_dimension, origin, site_order)
    n_sites = problem.space.n_sites
    # Entries for local states that a site does not have are never read, but count.
    states = np.ones(2 * len(params["T0"]), int)
    states[:n_sites] = np.asarray(tree.local_dims)[tree.order]
    has = np.arange(tree.n_states)[None] < states[:, None]
    has = has[0::2, None, :, None] & has[1::2, None, None, :]
    first = jnp.where(has, jnp.asarray(params["T0"]), 0)
    canonical, log_norm = canonicalise(params | {"T0": first}, n_sites)
    tensors = [np.asarray(canonical[m.name]) for m in _bilinear(tree)]
    # psi = exp(log_norm) <canonical>, spread over all nodes so that none overflows.
    factor = np.exp(float(log_norm) / sum(len(t) for t in tensors))
    discarded: list[float] = []
    #: For the upper bond of each node: full square root of its density, projection.
    above = [(np.ones((1, 1)), np.ones((1, 1)))]
    out: dict[str, Array] = {}
    for merge, t in zip(_bilinear(tree)[::-1], tensors[::-1]):
        new = np.zeros((len(t), merge.c_out, merge.c_in, merge.c_in), t.dtype)
        below: list[tuple[np.ndarray, np.ndarray]] = []
        for j, (root, project) in enumerate(above):
            node = np.tensordot(project.T, t[j], 1)
            if merge is not tree.levels[0]:
                full = np.tensordot(root.T, t[j], 1)
                present = min(2, merge.n_in - 2 * j)
                for side in range(present):
                    rows = np.moveaxis(full, 1 + side, 0)
                    u, values, _ = np.linalg.svd(
                        rows.reshape(len(rows), -1), full_matrices=False
                    )
                    discarded.append(float(np.sum(values[merge.c_in :] ** 2)))
                    kept = u[:, : merge.c_in]
                    below.append((u * values, kept))
                    turned = np.tensordot(node, kept.conj(), (1 + side, 0))
                    node = np.moveaxis(turned, -1, 1 + side)
            # An absent child is the first basis vector: the rest is not used.
            node = node[:, : merge.c_in, : merge.c_in]
            e, a, b = node.shape
            new[j, :e, :a, :b] = factor * node
        out[merge.name] = jnp.asarray(new)
        above = below
    return Truncated(out, np.array(discarded))


def _bilinear(tree: Tree) -> list[Bilinear]:
    return [m for m in tree.levels if isinstance(m, Bilinear)]


def isometry_defect(params: Params) -> float:
    """Largest deviation of a canonical tree from isometries, see `canonicalise`."""
    names = sorted(params, key=lambda name: int(name[1:]))
    worst = abs(float(jnp.sum(jnp.abs(params[names[-1]]) ** 2)) - 1)
    for name in names[:-1]:
        t = params[name]
        gram = contract("nelr,nflr->nef", jnp.conj(t), t)
        eye = jnp.eye(t.shape[1], dtype=t.dtype)[None]
        worst = max(worst, float(np.max(np.abs(gram - eye))))
    return worst
