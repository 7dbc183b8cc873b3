"""What all families of trees share: refusals, static part, and `WaveFunction`."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax import Array

from ansatze.cuts_trees import tree_capacity
from ansatze.merges import Bilinear, Merge
from ansatze.scaled import calibrated_start, near_one
from ansatze.tree_exact import exact_of
from ansatze.tree_ratios import log_ratios
from ansatze.tree_tables import cache
from ansatze.trees import Tree
from vmc.base import Key, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.wavefunction import float_dtype


def refuse_symmetry(problem: Problem, name: str) -> None:
    """Trees and symmetry groups do not go together.

    Raises:
        JobError: the problem asks for invariance under a group.
    """
    if problem.symmetry is not None:
        raise JobError(
            f"{name} is a tree: tying its weights cannot make it exactly invariant "
            'under translations or other site permutations. Use symmetry = "none".'
        )


def check_sharing(sharing: str, known: Sequence[str]) -> None:
    """Refuse an unknown way to share weights.

    Raises:
        JobError: it is not one of those known.
    """
    if sharing not in known:
        close = difflib.get_close_matches(str(sharing), known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise JobError(f"sharing is {sharing!r}; it is one of {tuple(known)}{hint}")


def tree_of(
    problem: Problem,
    order: np.ndarray,
    levels: Sequence[Merge],
    *,
    leaf_name: str | None = None,
    leaf_period: int = 1,
) -> Tree:
    """The static part of a tree, for the sites and numbers of a problem.

    Args:
        problem: see `vmc.base.Problem`.
        order: see `Tree`, as are the others.
        levels: the merges.
        leaf_name: key of the leaf table.
        leaf_period: number of different tables.

    Raises:
        JobError: float64 is wanted but JAX runs without it.
    """
    return Tree(
        order=order,
        local_dims=tuple(problem.space.local_dims),
        real=float_dtype(problem),
        is_complex=problem.dtype == "complex",
        leaf_name=leaf_name,
        leaf_period=leaf_period,
        levels=tuple(levels),
    )


def parameter_shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters, from the leaves to the root."""
    shapes: dict[str, tuple[int, ...]] = {}
    if tree.leaf_name is not None:
        leaf = (tree.leaf_period, tree.levels[0].c_in, tree.n_states)
        shapes[tree.leaf_name] = leaf
    for merge in tree.levels:
        if isinstance(merge, Bilinear):
            shapes[merge.name] = (merge.n_out, merge.c_out, merge.c_in, merge.c_in)
        elif merge.name is not None:
            root = merge is tree.levels[-1]
            shape = (merge.period, merge.c_out, merge.c_in)
            shapes[merge.name] = (merge.c_in,) if root else shape
    return shapes


def tree_wavefunction(tree: Tree, problem: Problem) -> WaveFunction:
    """A tree as seen by the engine; it starts from weights 1 + calibrated noise."""
    root = tree.levels[-1].name
    assert root is not None

    def init(key: Key) -> Params:
        shapes = parameter_shapes(tree)
        keys = jax.random.split(key, len(shapes) + 1)
        noise = {
            name: jax.random.normal(k, shape, tree.dtype)
            for k, (name, shape) in zip(keys, shapes.items())
        }

        def at(scale: Array) -> Params:
            return jax.tree.map(lambda x: near_one(x, scale), noise)

        return calibrated_start(tree.log_psi, at, problem, keys[-1], root)

    return WaveFunction(
        init=init,
        log_psi=tree.log_psi,
        cache=functools.partial(cache, tree),
        log_ratios=functools.partial(log_ratios, tree),
        try_move=tree.try_move,
        commit=tree.commit,
        scores=tree.scores,
        range="complex" if tree.is_complex else "real",
        exact=exact_of(tree, problem),
        capacity=tree_capacity(tree),
    )
