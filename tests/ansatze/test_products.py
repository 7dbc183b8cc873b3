"""Products and sums of other families: amplitudes, moves, scores, refusals."""

import jax
import numpy as np
import pytest

import ansatze
from ansatze.products import product, sum_
from tests.ansatze.cases import amplitudes, case, check_contract, ring
from tests.contracts import test_ansatze as contract
from vmc.base import Moves, Problem
from vmc.errors import JobError
from vmc.space import spins

MIXED = [
    {"name": "mps", "bond_dimension": 2},
    {"name": "jastrow", "dtype": "real"},
]


@pytest.mark.slow
def test_contract_of_a_product_with_real_and_complex_weights() -> None:
    check_contract(product, ring(), parts=[*MIXED, {"name": "marshall"}])


@pytest.mark.slow
def test_contract_of_a_sum_with_signs() -> None:
    check_contract(sum_, ring("real"), parts=[MIXED[0], {"name": "rbm"}])


def amplitudes_of_parts(params: dict, factors: list) -> list[np.ndarray]:
    """psi of every factor of `MIXED`, on its own."""
    out = []
    for k, table in enumerate(factors):
        keys = {x: y for x, y in table.items() if x not in ("name", "dtype")}
        problem = ring(table.get("dtype", "complex"))
        own = params[f"{k}_{table['name']}"]
        if "re" in own:
            own = jax.tree.map(lambda x, y: x + 1j * y, own["re"], own["im"])
        wf = ansatze.ANSATZE[table["name"]](problem, **keys)
        out.append(amplitudes(wf, own, problem))
    return out


def test_amplitudes() -> None:
    for factory in (product, sum_):
        problem = ring()
        wf = factory(problem, parts=MIXED)
        params = contract.random_params(wf)
        first, second = amplitudes_of_parts(params, MIXED)
        got = amplitudes(wf, params, problem)
        if factory is product:
            want = first * second
        else:
            a, b = np.exp(params["log_weights"])
            want = a * first + b * second
        np.testing.assert_allclose(got / want, 1, atol=1e-11)


def test_a_sum_of_products() -> None:
    inner = {"name": "product", "parts": [{"name": "jastrow"}, {"name": "rbm"}]}
    wf = sum_(ring("real"), parts=[inner, {"name": "jastrow"}])
    assert wf.range == "positive"
    params = jax.eval_shape(wf.init, jax.random.key(0))
    assert set(params) == {"0_product", "1_jastrow", "log_weights"}
    assert set(params["0_product"]) == {"0_jastrow", "1_rbm"}


def test_marshall_sign() -> None:
    """Minus one for every lowered spin on the odd sublattice, also under moves."""
    problem = Problem(
        spins(4, spin=1), dtype="real", shape=(2, 2), periodic=(False, False)
    )
    one = case(product, problem, parts=[{"name": "jastrow"}, {"name": "marshall"}])
    assert one.wf.range == "real"
    psi = amplitudes(one.raw, one.params, problem)
    index = np.indices(psi.shape)
    sign = (-1.0) ** (index[1] + index[2])
    assert np.all(np.sign(psi.real) == sign)
    np.testing.assert_allclose(psi.imag, 0, atol=1e-14 * np.abs(psi).max())
    sigma = problem.space.all_states()[::5]
    moves = Moves(
        np.array([[0, 4], [1, 4], [1, 2], [3, 1]], np.int32),
        np.array([[1, 0], [1, 0], [2, 1], [1, 2]], np.int8),
    )
    cache = one.wf.cache(one.params, sigma)
    contract.check_ratios(one, cache, sigma, moves, 1e-11)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "list of tables"),
        ({"name": "rbm"}, "list of tables"),
        ([{"alpha": 2}], "needs the key name"),
        ([{"name": "jastrov"}], "did you mean 'jastrow'"),
        ([{"name": "rbm", "dtype": "float"}], "dtype of part rbm"),
    ],
)
def test_refusals(parts: list, message: str) -> None:
    for factory in (product, sum_):
        with pytest.raises(JobError, match=message):
            factory(ring(), parts=parts)


def test_refusals_of_the_marshall_sign() -> None:
    sign = [{"name": "marshall"}, {"name": "jastrow"}]
    with pytest.raises(JobError, match="bipartite"):
        product(ring(n=5), parts=sign)
    with pytest.raises(JobError, match="two sublattices"):
        product(ring()._replace(symmetry=contract.TRANSLATIONS), parts=sign)
