"""Recurrent arithmetic circuits: matrix product states, generic ranks, depth."""

import math

import jax
import numpy as np
import pytest

from ansatze.mps import mps
from ansatze.rac import mps_to_rac, rac, rac_to_mps, start_end_log_bounds
from tests.ansatze import modp
from tests.ansatze.cases import amplitudes, case, check_contract, check_exact, ring
from tests.contracts import test_ansatze as contract
from vmc.base import Problem
from vmc.errors import JobError
from vmc.space import spins


@pytest.mark.slow
def test_contract_with_weights_of_every_site() -> None:
    check_contract(rac, ring("real"), width=3, site_dependent=True)


@pytest.mark.slow
def test_exact_tools() -> None:
    problem = Problem(spins(6))
    wf = rac(problem, width=4)
    check_exact(wf, contract.random_params(wf), problem)
    assert rac(problem, width=2, depth=2).exact is None
    assert rac(Problem(spins(6, total_sz=0))).exact is None


@pytest.mark.parametrize("keys", [{}, {"site_dependent": True}], ids=["shared", "own"])
def test_a_shallow_circuit_is_a_matrix_product_state(keys: dict) -> None:
    problem = Problem(spins(8))
    wf = rac(problem, width=3, **keys)
    params = contract.random_params(wf)
    psi = amplitudes(wf, params, problem)
    state = mps(problem, bond_dimension=3)
    same = amplitudes(state, rac_to_mps(params, 8), problem)
    np.testing.assert_allclose(same, psi, atol=1e-12 * np.abs(psi).max())


@pytest.mark.parametrize("shared", [True, False])
def test_a_matrix_product_state_is_a_wider_circuit(shared: bool) -> None:
    problem = Problem(spins(7))
    state = mps(problem, bond_dimension=3, translation_invariant=shared)
    params = contract.random_params(state)
    psi = amplitudes(state, params, problem)
    wf = rac(problem, width=6, site_dependent=not shared)
    wide = mps_to_rac(params)
    shapes = jax.eval_shape(wf.init, jax.random.key(0))
    assert jax.tree.map(np.shape, wide) == jax.tree.map(lambda x: x.shape, shapes)
    same = amplitudes(wf, wide, problem)
    np.testing.assert_allclose(same, psi, atol=1e-14 * np.abs(psi).max())


def by_definition(params: dict, n: int, d: int, *, prime: int | None) -> np.ndarray:
    """psi by the recurrence, all configurations, exact modulo a prime if given."""

    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a @ b if prime is None else modp.matmul(a, b)

    def reduce(x: np.ndarray) -> np.ndarray:
        return x if prime is None else x % prime

    depth = len(params["start"])
    # Rows: channels; columns: configurations so far.
    states = [params["start"][k][:, None] for k in range(depth)]
    for t in range(n):
        own = {
            name: params[name][t] if params["input"].ndim == 3 else params[name]
            for name in ("hidden", "input", "between")
            if name in params
        }
        below = np.tile(own["input"], states[0].shape[1])
        new = []
        for k, state in enumerate(states):
            if k > 0:
                below = matmul(own["between"][k - 1], below)
            past = matmul(own["hidden"][k], state).repeat(d, axis=1)
            below = reduce(past * below)
            new.append(below)
        states = new
    return matmul(params["out"][None], states[-1]).reshape((d,) * n)


@pytest.mark.parametrize(
    ("depth", "site_dependent"), [(1, False), (2, False), (3, True)]
)
def test_amplitudes_by_definition(depth: int, site_dependent: bool) -> None:
    problem = Problem(spins(5, spin=1))
    wf = rac(problem, width=3, depth=depth, site_dependent=site_dependent)
    params = contract.random_params(wf)
    want = by_definition(params, 5, 3, prime=None)
    got = amplitudes(wf, params, problem)
    np.testing.assert_allclose(got, want, atol=1e-13 * np.abs(want).max())


def start_end_rank(n: int, width: int, depth: int, d: int = 2) -> int:
    problem = Problem(spins(n, spin=(d - 1) / 2))
    wf = rac(problem, width=width, depth=depth)
    shapes = jax.eval_shape(wf.init, jax.random.key(0))
    params = modp.random_weights({k: x.shape for k, x in shapes.items()}, 3)
    psi = by_definition(params, n, d, prime=modp.PRIME)
    return modp.rank(modp.cut(psi, range(n // 2)))


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 20])
def test_rank_of_shallow_circuits(width: int) -> None:
    assert start_end_rank(8, width, 1) == min(width, 16)
    lower, upper = start_end_log_bounds(8, 2, width, 1)
    assert math.isclose(lower, math.log(min(width, 16))) and lower == upper


@pytest.mark.parametrize(
    ("n", "width", "depth", "d", "rank", "lower", "upper"),
    [
        (8, 2, 2, 2, 10, 5, 10),
        (10, 2, 2, 2, 12, 6, 12),
        pytest.param(12, 2, 2, 2, 14, 7, 14, marks=pytest.mark.slow),
        pytest.param(14, 2, 2, 2, 16, 8, 16, marks=pytest.mark.slow),
        pytest.param(14, 3, 2, 2, 105, 8, 108, marks=pytest.mark.slow),
        (6, 2, 2, 3, 8, 4, 8),
        (8, 1, 2, 2, 1, 1, 1),
        (8, 2, 3, 2, 16, 11, 16),
    ],
)
def test_rank_of_deep_circuits(
    n: int, width: int, depth: int, d: int, rank: int, lower: int, upper: int
) -> None:
    assert start_end_rank(n, width, depth, d) == rank
    bounds = np.exp(start_end_log_bounds(n, d, width, depth))
    np.testing.assert_allclose(bounds, [lower, upper], rtol=1e-12)


def test_deep_circuits_are_stable_at_1024_sites() -> None:
    """The scale of layer 2 adds up those of layer 1: a quarter of a million."""
    n = 1024
    wf = rac(Problem(spins(n), dtype="real"), width=3, depth=2)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(wf.init, jax.random.key(0))
    params = jax.tree.map(lambda x: rng.uniform(0.2, 0.6, x.shape), shapes)
    sigma = rng.choice(np.array([-1, 1], np.int8), (1, n))
    got = complex(jax.jit(wf.log_psi)(params, sigma)[0])
    logs = [np.log(x.astype(np.longdouble)) for x in params["start"]]
    for s in (1 - sigma[0].astype(int)) // 2:
        below = np.log(params["input"][:, s].astype(np.longdouble))
        new = []
        for k, log in enumerate(logs):
            if k > 0:
                below = log_matvec(params["between"][k - 1], below)
            below = below + log_matvec(params["hidden"][k], log)
            new.append(below)
        logs = new
    want = log_matvec(params["out"][None], logs[-1])[0]
    assert want < -1e5
    assert abs(got.real / float(want) - 1) < 1e-13 and got.imag == 0


def log_matvec(matrix: np.ndarray, log: np.ndarray) -> np.ndarray:
    """ln(matrix e^log) for positive numbers."""
    return np.log(matrix.astype(np.longdouble) @ np.exp(log - log.max())) + log.max()


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"width": 0}, "width"), ({"depth": 0}, "depth")],
)
def test_refusals(keys: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        rac(ring(), **keys)
    with pytest.raises(JobError, match="symmetry"):
        rac(ring()._replace(symmetry=contract.TRANSLATIONS))
    with pytest.raises(JobError, match="spins have"):
        rac(Problem(spins(2, spin=[0.5, 1])))
    deep = case(rac, ring(), width=2, depth=2)
    with pytest.raises(JobError, match="depth 2"):
        rac_to_mps(deep.params, 6)
