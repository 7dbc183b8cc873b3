"""Averages of operators from the structure of an ansatz, against enumeration."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import vmc
from ansatze import ANSATZE, convac, mps, ttn
from hamiltonians import LATTICES, MODELS, Operator, compile_operator
from hamiltonians.matrix import Rows
from hamiltonians.operators import Sz, identity, sx, sy, sz
from tests.ansatze import modp
from tests.ansatze.cases import amplitudes, quick_jit, words
from tests.ansatze.test_mps import aklt_tensor
from tests.contracts import test_ansatze as contract
from tests.hamiltonians import kron
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError, NumericalError
from vmc.estimators import local_energies
from vmc.exact_values import term_means
from vmc.space import Spins, spins

#: Families with exact tools, and keys that make a small case of any spins generic.
KEYS: dict[str, dict] = {
    "convac": {"channels": 3, "sharing": "none"},
    "cp": {"rank": 3},
    "ttn": {"bond_dimension": 3},
    "mps": {"bond_dimension": 3},
    "rac": {"width": 3, "site_dependent": True},
}
#: Other members of these families.
MORE: dict[str, tuple[str, dict]] = {
    "convac-4": ("convac", {"channels": 2, "window": 4}),
    "mps-periodic": ("mps", {"bond_dimension": 2, "periodic": True}),
}
SPACES = {
    "ragged": spins(7),
    "mixed": spins(5, spin=[0.5, 1, 0.5, 1.5, 1]),
    "one": spins(1, spin=1),
}


@pytest.fixture
def quick_compilation() -> Iterator[None]:
    """Compiling takes most of the time here; this changes only rounding."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


def made(
    name: str, dtype: Any, space: Spins
) -> tuple[WaveFunction, Any, np.ndarray, Problem]:
    """A wave function with generic parameters, and its normalised vector."""
    family, keys = MORE.get(name) or (name, KEYS[name])
    problem = Problem(space, dtype=dtype)
    if len(set(space.local_dims)) > 1 and family == "convac":
        keys = keys | {"sharing": "none"}
    if space.n_sites == 1 and family == "ttn":
        keys = {"bond_dimension": 1}
    wf = ANSATZE[family](problem, **keys)
    params = contract.random_params(wf)
    # Around one: products of small numbers would hide what is far from the root.
    params = jax.tree.map(lambda x: x + 0.5, params)
    psi = amplitudes(wf, params, problem).reshape(-1)
    return wf, params, psi / np.linalg.norm(psi), problem


def test_which_families_have_exact_tools() -> None:
    """A new family with exact tools must be listed above, and offer all of them.

    Autoregressive nets offer draws and a norm, and nothing else.
    """
    found = {}
    for name, factory in ANSATZE.items():
        group = np.arange(4)[None] if name in contract.SYMMETRIC_ONLY else None
        problem = Problem(spins(4), symmetry=group)
        tools = factory(problem, **contract.SMALL.get(name, {})).exact
        if tools is not None and name.startswith("arnn_"):
            assert tools.purity is tools.spectrum is tools.product_mean is None
        elif tools is not None:
            found[name] = tools
    assert found.keys() == KEYS.keys()
    assert all(None not in tools for tools in found.values())


def cases() -> list[Any]:
    """Every family with real and complex weights, every space at least once."""
    out = []
    for name in (*KEYS, *MORE):
        for dtype in ("real", "complex"):
            for space in SPACES:
                fast = (dtype == "complex") == (space == "mixed") and space != "one"
                marks = () if fast else pytest.mark.slow
                out.append(pytest.param(name, dtype, space, marks=marks))
    return out


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(("name", "dtype", "kind"), cases())
def test_products_of_any_sites(name: str, dtype: str, kind: str) -> None:
    """A constant and terms of several sites, one by one, then in a sign gauge."""
    space, rng = SPACES[kind], np.random.default_rng(7)
    wf, params, psi, _ = made(name, dtype, space)
    operator, matrix = kron.random_operator(rng, space.local_dims)
    if space.n_sites > 1:
        assert {2, 3} <= {len(sites) for _, _, sites in operator.terms}
    means = term_means(wf, params, operator, space)
    for term, mean in zip(operator.terms, means, strict=True):
        dense = kron.matrix_of(Operator.from_terms([term]), space.local_dims)
        np.testing.assert_allclose(mean, psi.conj() @ dense @ psi, atol=1e-12)
    want = psi.conj() @ matrix @ psi
    np.testing.assert_allclose(np.sum(means), want, atol=1e-11)
    signs = rng.choice([-1, 1], space.n_sites)
    index = (np.array(space.local_dims) - 1 - space.all_states()) // 2
    turned = psi * np.prod(signs**index, axis=1)
    want = turned.conj() @ matrix @ turned
    got = vmc.expectation(wf, params, operator, space, signs=signs)
    np.testing.assert_allclose(got, want, atol=1e-11)


@pytest.mark.parametrize("periodic", [True, False])
def test_aklt(periodic: bool) -> None:
    """The valence-bond state of 64 spins 1: -2/3 per bond, exactly."""
    n = 64
    lattice = LATTICES["chain"](n, periodic=periodic)
    operator = MODELS["aklt"](lattice)
    space = spins(n, spin=1)
    wf = mps(
        Problem(space),
        bond_dimension=2,
        translation_invariant=True,
        periodic=periodic,
    )
    params = {"tensor": aklt_tensor()}
    if not periodic:
        params |= {"left": np.array([1, 0j]), "right": np.array([0j, 1])}
    energy = vmc.expectation(wf, params, operator, space)
    bonds = n if periodic else n - 1
    np.testing.assert_allclose(energy, -2 / 3 * bonds, rtol=1e-13)


def job_of(name: str, dtype: str, keys: dict, **more: Any) -> vmc.Job:
    return vmc.Job(
        lattice={"name": "chain", "size": [8]},
        hamiltonian={"name": "heisenberg", "total_sz": "free"},
        ansatz={"name": name, "dtype": dtype, **keys},
        sampler={"name": "full"},
        **more,
    )


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("ttn", "real"), pytest.param("mps", "complex", marks=pytest.mark.slow)],
)
def test_a_job_in_the_marshall_gauge(name: str, dtype: str) -> None:
    """The energy is that of the job's own table, and the entropies those of psi."""
    built = vmc.build(job_of(name, dtype, KEYS[name]))
    signs = built.hamiltonian.signs
    assert signs is not None and set(signs) == {-1, 1}
    params = contract.random_params(built.wavefunction)
    psi = amplitudes(built.wavefunction, params, built.problem)
    values = vmc.measure_exactly(built, params)
    table = Rows(built.hamiltonian)
    data, target = table.rows(0, table.dim)
    vector = psi.reshape(-1) / np.linalg.norm(psi)
    want = np.sum(vector.conj()[:, None] * data * vector[target])
    np.testing.assert_allclose(values.energy, want, rtol=1e-12)
    bare = vmc.expectation(
        built.wavefunction,
        params,
        built.system.operator,
        built.hamiltonian.space,
    )
    assert abs(bare - want) > 0.1
    np.testing.assert_allclose(values.log_norm, np.log(np.sum(np.abs(psi) ** 2)))
    p = np.linalg.svd(modp.cut(psi, range(4)), compute_uv=False) ** 2
    p = p / p.sum()
    np.testing.assert_allclose(values.s1, -np.sum(p * np.log(p)), rtol=1e-10)
    np.testing.assert_allclose(values.s2, -np.log(np.sum(p**2)), rtol=1e-10)
    assert values.region == (0, 1, 2, 3) and values.notes == ()
    assert values.exact is not None
    exact = values.exact["energy"]
    np.testing.assert_allclose(exact, -3.6510934089, rtol=1e-10)
    np.testing.assert_allclose(values.relative_error, (want.real - exact) / -exact)
    # Two sites far apart are no block of a tree, and no block of a chain.
    apart = vmc.measure_exactly(built, params, region=[1, 4, 6])
    assert apart.s1 is None and "block" in apart.notes[0]
    p = np.linalg.svd(modp.cut(psi / np.linalg.norm(psi), [1, 4, 6]))[1] ** 2
    np.testing.assert_allclose(apart.s2, -np.log(np.sum(p**2)), rtol=1e-10)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    ("factory", "keys"),
    [
        (ttn, {"bond_dimension": 4}),
        (mps, {"bond_dimension": 4}),
        pytest.param(convac, {"channels": 4}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_256_sites_against_samples(factory: Any, keys: dict) -> None:
    n, count = 256, 64
    space = spins(n)
    terms = [0.7 * sz(i) @ sz((i + 1) % n) + 0.5 * sx(i) for i in range(n)]
    terms += [0.3 * sx(i) @ sz(i + 1) @ sx(i + 2) for i in range(0, n - 2, 32)]
    terms += [0.2 * sy(i) @ sx(i + 1) for i in range(n - 1)]
    operator = Operator.sum(terms)
    wf = factory(Problem(space), **keys)
    params = jax.tree.map(lambda x: 1 + 0.6 * x, contract.random_params(wf))
    assert wf.exact is not None and wf.exact.sample is not None
    sigma, _ = quick_jit(wf.exact.sample)(params, words(Problem(space), count))
    energies = functools.partial(local_energies, wf)
    eloc = quick_jit(energies)(compile_operator(operator, n), params, sigma)
    eloc = np.asarray(eloc)
    exact = vmc.expectation(wf, params, operator, space)
    assert abs(exact.imag) < 1e-10
    error = np.std(eloc.real) / np.sqrt(count)
    assert 0 < error < 0.05 * abs(exact)
    assert abs(np.mean(eloc.real) - exact.real) < 4 * error


def test_what_has_no_exact_values() -> None:
    space = spins(4)
    rbm = ANSATZE["rbm"](Problem(space))
    with pytest.raises(JobError, match=r"no exact tools.*mps, ttn, convac"):
        vmc.expectation(rbm, {}, sz(0), space)
    sector = spins(4, total_sz=0)
    state = mps(Problem(sector))
    with pytest.raises(JobError, match='total_sz = "free"'):
        vmc.expectation(state, {}, sz(0), sector)
    state = mps(Problem(space), bond_dimension=2)
    params = contract.random_params(state)
    with pytest.raises(JobError, match="site 4"):
        vmc.expectation(state, params, sz(4), space)
    with pytest.raises(JobError, match="site 1 for a spin 0.5"):
        mixed = spins(2, spin=[0.5, 1])
        vmc.expectation(mps(Problem(mixed)), {}, Sz(0) @ Sz(1), mixed)
    with pytest.raises(JobError, match="lack product_mean"):
        assert state.exact is not None
        bare = state._replace(exact=state.exact._replace(product_mean=None))
        vmc.expectation(bare, params, sz(0), space)
    assert vmc.expectation(state, params, 3 * identity(), space) == pytest.approx(3)
    built = vmc.build(job_of("mps", "real", {"bond_dimension": 2}))
    zero = jax.tree.map(np.zeros_like, contract.random_params(built.wavefunction))
    with pytest.raises(NumericalError, match="no state"):
        vmc.measure_exactly(built, zero)
