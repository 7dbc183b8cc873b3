"""Canonical polyadic form: the formula, its ranks, the GHZ state, growth."""

import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.cp import cp, cp_tree
from ansatze.tree_family import parameter_shapes
from tests.ansatze import modp
from tests.ansatze.cases import quick_jit
from vmc.base import Problem
from vmc.errors import JobError
from vmc.space import spins


@pytest.mark.parametrize(
    "sharing", ["none", pytest.param("full", marks=pytest.mark.slow)]
)
def test_formula_and_norm(rng: np.random.Generator, sharing: str) -> None:
    problem = Problem(spins(5, spin=1))
    wf = cp(problem, rank=3, sharing=sharing)
    a = rng.normal(size=3) + 1j * rng.normal(size=3)
    rows = 5 if sharing == "none" else 1
    factors = rng.normal(size=(rows, 3, 3)) + 1j * rng.normal(size=(rows, 3, 3))
    params = {"A": jnp.asarray(factors), "a": jnp.asarray(a)}
    states = problem.space.all_states()
    index = (2 - states.astype(int)) // 2
    terms = [factors[i % rows][:, index[:, i]] for i in range(5)]
    want = a @ np.prod(terms, axis=0)
    got = np.exp(np.asarray(quick_jit(wf.log_psi)(params, states)))
    np.testing.assert_allclose(got, want, rtol=1e-11)
    norm = np.exp(wf.exact.log_norm(params))
    np.testing.assert_allclose(norm, np.sum(np.abs(want) ** 2), rtol=1e-12)


@pytest.mark.parametrize(
    ("sharing", "rank", "want"), [("none", 5, [2, 4, 5, 5]), ("full", 20, [2, 3, 4, 5])]
)
def test_ranks(sharing: str, rank: int, want: list[int]) -> None:
    tree = cp_tree(Problem(spins(8)), rank, sharing)
    psi = modp.amplitudes(tree, modp.random_weights(parameter_shapes(tree), 1), 2)
    got = [modp.rank(modp.cut(psi, range(n))) for n in (1, 2, 3, 4)]
    assert got == want
    if sharing == "full":
        assert np.array_equal(
            psi, psi.transpose(np.random.default_rng(0).permutation(8))
        )


@pytest.mark.slow
def test_ghz_state() -> None:
    wf = cp(Problem(spins(8), dtype="real"), rank=2)
    params = {"A": jnp.broadcast_to(jnp.eye(2), (8, 2, 2)), "a": jnp.ones(2)}
    np.testing.assert_allclose(wf.exact.log_norm(params), np.log(2))
    for region in ([0], [0, 1, 2, 3], [1, 4, 6]):
        np.testing.assert_allclose(wf.exact.purity(params, region), 0.5)


def test_wrong_keys() -> None:
    with pytest.raises(JobError, match="positive"):
        cp(Problem(spins(4)), rank=0)
    with pytest.raises(JobError, match="sharing"):
        cp(Problem(spins(4)), sharing="window")
