"""What all families of trees share: refusals, and the `WaveFunction` of a tree."""

from __future__ import annotations

from collections.abc import Callable

from ansatze.trees import Tree
from vmc.base import Exact, Key, Params, Problem, WaveFunction
from vmc.errors import JobError


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


def tree_wavefunction(
    tree: Tree, init: Callable[[Key], Params], exact: Exact | None
) -> WaveFunction:
    """A tree as seen by the engine."""
    return WaveFunction(
        init=init,
        log_psi=tree.log_psi,
        cache=tree.cache,
        log_ratios=tree.log_ratios,
        try_move=tree.try_move,
        commit=tree.commit,
        scores=tree.scores,
        range="complex" if tree.is_complex else "real",
        exact=exact,
    )
