"""Matrix product states: sweeps, exact tools, gauge, known states."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.mps import mps
from ansatze.mps_exact import exact_bond_dimension
from ansatze.mps_gauge import canonicalise, truncate
from hamiltonians.compile import compile_operator
from hamiltonians.operators import spin
from tests.ansatze import modp
from tests.ansatze.cases import (
    amplitudes,
    case,
    check_contract,
    check_exact,
    ring,
    schmidt,
    words,
)
from tests.contracts import test_ansatze as contract
from vmc.base import Problem
from vmc.errors import JobError
from vmc.estimators import local_energies
from vmc.moves import local_flips
from vmc.space import spins


@pytest.mark.parametrize(
    ("dtype", "keys"),
    [
        pytest.param(
            "real", {"periodic": True, "bond_dimension": 3}, marks=pytest.mark.slow
        ),
        pytest.param(
            "complex",
            {"periodic": True, "translation_invariant": True},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_contract_of_periodic_chains(dtype: str, keys: dict) -> None:
    check_contract(mps, ring(dtype), **keys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flips", "exchanges"])
def test_moves_of_open_chains(kind: str) -> None:
    contract.test_moves(case(mps, ring(), bond_dimension=4), kind)


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_shortest_chains(n: int) -> None:
    problem = Problem(spins(n, spin=1), dtype="complex")
    one = case(mps, problem, bond_dimension=2)
    sigma = problem.space.all_states()
    cache = one.wf.cache(one.params, sigma)
    contract.check_ratios(one, cache, sigma, local_flips(problem.space), 1e-12)


@pytest.mark.parametrize(
    ("dtype", "keys"),
    [
        ("complex", {"bond_dimension": 3}),
        pytest.param(
            "real", {"bond_dimension": 2, "periodic": True}, marks=pytest.mark.slow
        ),
    ],
)
def test_exact_tools(dtype: str, keys: dict) -> None:
    problem = Problem(spins(6, spin=[0.5, 1, 0.5, 0.5, 1, 0.5]), dtype=dtype)
    wf = mps(problem, **keys)
    check_exact(wf, contract.random_params(wf), problem)


def ghz_and_w() -> dict:
    unit = np.eye(2)
    raising = np.array([[0.0, 1.0], [0.0, 0.0]])
    return {
        "ghz": {
            "tensor": jnp.array([np.outer(v, v) for v in unit], complex),
            "left": jnp.ones(2, complex),
            "right": jnp.ones(2, complex),
        },
        "w": {
            "tensor": jnp.array([unit, raising], complex),
            "left": jnp.array([1, 0], complex),
            "right": jnp.array([0, 1], complex),
        },
    }


@pytest.mark.parametrize("name", [pytest.param("ghz", marks=pytest.mark.slow), "w"])
def test_known_entropies(name: str) -> None:
    problem = Problem(spins(8))
    wf = mps(problem, bond_dimension=2, translation_invariant=True)
    params = ghz_and_w()[name]
    psi = amplitudes(wf, params, problem)
    assert wf.exact is not None
    norm = 2 if name == "ghz" else 8
    assert np.sum(psi != 0) == norm
    np.testing.assert_allclose(psi[psi != 0], 1, atol=1e-14)
    np.testing.assert_allclose(wf.exact.log_norm(params), np.log(norm), atol=1e-14)
    for region in ([0], [0, 1, 2, 3], [2, 3], [0, 2, 5]):
        part = len(region) / 8
        want = 0.5 if name == "ghz" else part**2 + (1 - part) ** 2
        np.testing.assert_allclose(wf.exact.purity(params, region), want, atol=1e-13)
    p = np.asarray(wf.exact.spectrum(params, [0]))
    s1 = math.log(2) if name == "ghz" else 0.37677016
    np.testing.assert_allclose(-np.sum(p * np.log(p)), s1, atol=1e-8)


def aklt_tensor() -> jax.Array:
    """The valence-bond tensor of a spin 1."""
    up = np.array([[0, 1], [0, 0]]) * math.sqrt(2 / 3)
    middle = np.diag([-1, 1]) * math.sqrt(1 / 3)
    return jnp.asarray(np.array([up, middle, -up.T]), complex)


def aklt_chain(n: int, *, periodic: bool):
    """The Hamiltonian of `n` spins 1, and the valence-bond tensors."""
    s, bonds = spin(1), n if periodic else n - 1
    total = None
    for i in range(bonds):
        j = (i + 1) % n
        dot = s.Sx(i) @ s.Sx(j) + s.Sy(i) @ s.Sy(j) + s.Sz(i) @ s.Sz(j)
        term = dot + (1 / 3) * (dot @ dot)
        total = term if total is None else total + term
    assert total is not None
    return compile_operator(total, n), aklt_tensor()


def test_aklt() -> None:
    ham, tensor = aklt_chain(6, periodic=True)
    problem = Problem(spins(6, spin=1), dtype="complex")
    wf = mps(problem, bond_dimension=2, periodic=True, translation_invariant=True)
    params = {"tensor": tensor}
    psi = amplitudes(wf, params, problem)
    sigma = problem.space.all_states()[np.abs(psi.reshape(-1)) > 0]
    eloc = np.asarray(jax.jit(local_energies, static_argnums=0)(wf, ham, params, sigma))
    np.testing.assert_allclose(np.mean(eloc), -4, atol=1e-12)
    assert np.var(eloc) < 1e-16 * 6**2
    assert wf.exact is not None
    half = np.asarray(wf.exact.spectrum(params, [0, 1, 2]))
    np.testing.assert_allclose(half, schmidt(psi, [0, 1, 2])[:4], atol=1e-14)
    entropy = -np.sum(half * np.log(half))
    np.testing.assert_allclose(entropy, 1.98848865 * math.log(2), atol=1e-8)


def test_dimers_on_256_sites() -> None:
    """The Majumdar-Ghosh chain: exact energy, samples and entropies, no enumeration."""
    n, s = 256, spin(0.5)
    total = None
    for step, coupling in ((1, 1.0), (2, 0.5)):
        for i in range(n - step):
            for a in (s.Sx, s.Sy, s.Sz):
                term = coupling * (a(i) @ a(i + step))
                total = term if total is None else total + term
    ham = compile_operator(total, n)
    even, odd = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    even[[0, 1], 0, [0, 1]] = 1
    odd[[1, 0], [0, 1], 0] = [1, -1]
    unit = jnp.array([1.0, 0.0], complex)
    tensors = jnp.asarray(np.stack([even, odd] * (n // 2)), complex)
    params = {"tensors": tensors, "left": unit, "right": unit}
    wf = mps(Problem(spins(n)), bond_dimension=2)
    assert wf.exact is not None
    np.testing.assert_allclose(
        wf.exact.log_norm(params), n / 2 * math.log(2), rtol=1e-14
    )
    sigma, log_prob = wf.exact.sample(params, words(Problem(spins(n)), 16))
    assert len(np.unique(sigma, axis=0)) == 16
    np.testing.assert_allclose(log_prob, -n / 2 * math.log(2), rtol=1e-13)
    eloc = np.asarray(jax.jit(local_energies, static_argnums=0)(wf, ham, params, sigma))
    np.testing.assert_allclose(eloc, -3 * n / 8, atol=1e-10)
    log_purity = np.log(wf.exact.purity(params, range(0, n, 2)))
    np.testing.assert_allclose(-log_purity, n / 2 * math.log(2), rtol=1e-12)
    np.testing.assert_allclose(wf.exact.purity(params, range(128)), 1, rtol=1e-12)


@pytest.mark.parametrize("periodic", [False, True])
def test_clamped_sites(periodic: bool) -> None:
    """Draws of the rest given two fixed spins, and the weight of these."""
    space = spins(6)
    wf = mps(Problem(space, dtype="complex"), bond_dimension=3, periodic=periodic)
    params = contract.random_params(wf)
    assert wf.exact is not None
    allowed = np.ones((6, 2), bool)
    allowed[2], allowed[5] = [False, True], [True, False]
    sigma, log_prob = map(
        np.asarray, wf.exact.sample(params, words(Problem(space), 500), allowed)
    )
    assert np.all(sigma[:, 2] == -1) and np.all(sigma[:, 5] == 1)
    assert len(np.unique(sigma, axis=0)) > 4
    states = space.all_states()
    p = np.exp(2 * np.asarray(wf.log_psi(params, states)).real)
    p /= p.sum()
    weight = np.sum(p[(states[:, 2] == -1) & (states[:, 5] == 1)])
    row = {tuple(s): i for i, s in enumerate(states.tolist())}
    which = [row[tuple(s)] for s in sigma.tolist()]
    np.testing.assert_allclose(np.exp(log_prob), p[which] / weight, rtol=1e-11)
    got = wf.exact.log_norm(params, allowed) - wf.exact.log_norm(params)
    np.testing.assert_allclose(np.exp(got), weight, rtol=1e-11)


def test_gauge_and_truncation() -> None:
    problem = Problem(spins(8), dtype="complex")
    wf = mps(problem, bond_dimension=4)
    params = jax.tree.map(np.asarray, contract.random_params(wf))
    psi = amplitudes(wf, params, problem)
    scale = np.abs(psi).max()
    rng = np.random.default_rng(2)
    gauge = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    turned = params["tensors"].copy()
    turned[3] = turned[3] @ gauge
    turned[4] = np.linalg.inv(gauge) @ turned[4]
    same = amplitudes(wf, params | {"tensors": turned}, problem)
    np.testing.assert_allclose(same, psi, atol=1e-12 * scale)
    canonical = canonicalise(params)
    np.testing.assert_allclose(
        amplitudes(wf, canonical, problem), psi, atol=1e-12 * scale
    )
    a = canonical["tensors"]
    defect = np.einsum("nsij,nskj->nik", a, a.conj()) - np.eye(4)
    assert np.abs(defect).max() < 1e-13
    np.testing.assert_allclose(
        np.linalg.norm(canonical["left"]), np.linalg.norm(psi), rtol=1e-13
    )
    small, weights = truncate(params, 2)
    cut = amplitudes(mps(problem, bond_dimension=2), small, problem)
    overlap = np.abs(np.vdot(cut, psi)) / np.linalg.norm(cut) / np.linalg.norm(psi)
    assert 1e-6 < 1 - overlap**2 <= weights.sum() + 1e-14
    wide, nothing = truncate(params, 6)
    wide_psi = amplitudes(mps(problem, bond_dimension=6), wide, problem)
    np.testing.assert_allclose(wide_psi, psi, atol=1e-12 * scale)
    assert nothing.sum() < 1e-28


def test_a_loop_is_below_its_minimal_cut() -> None:
    """Periodic chain of 4 spins 1, D = 2, opposite sites: rank 8, cut 9."""
    rng = np.random.default_rng(0)
    tensors = rng.integers(1, modp.PRIME, (4, 3, 2, 2))
    psi = np.eye(2, dtype=np.int64)[None]
    for a in tensors:
        psi = np.stack([modp.matmul(v, a[s]) for v in psi for s in range(3)])
    psi = np.trace(psi, axis1=1, axis2=2) % modp.PRIME
    assert modp.rank(modp.cut(psi.reshape(3, 3, 3, 3), [0, 2])) == 8
    # The same contraction as the wave function's.
    problem = Problem(spins(4, spin=1), dtype="real")
    wf = mps(problem, bond_dimension=2, periodic=True)
    params = contract.random_params(wf)
    want = np.einsum("aij,bjk,ckl,dli->abcd", *params["tensors"])
    got = amplitudes(wf, params, problem)
    np.testing.assert_allclose(got, want, atol=1e-13 * np.abs(want).max())


@pytest.mark.slow
def test_4096_sites_in_extended_precision() -> None:
    rng = np.random.default_rng(1)
    noise = 0.1 * rng.normal(size=(2, 2, 4, 4))
    tensor = 0.5 * np.eye(4) + noise[0] + 1j * noise[1]
    ends = np.ones(4, complex)
    wf = mps(Problem(spins(4096)), bond_dimension=4, translation_invariant=True)
    sigma = rng.choice(np.array([-1, 1], np.int8), (1, 4096))
    params = {"tensor": tensor, "left": ends, "right": ends}
    got = complex(jax.jit(wf.log_psi)(params, sigma)[0])
    v = ends.astype(np.clongdouble)
    scale = np.longdouble(0)
    for s in (1 - sigma[0].astype(int)) // 2:
        v = v @ tensor[s].astype(np.clongdouble)
        size = np.abs(v).max()
        v, scale = v / size, scale + np.log(size)
    value = v.sum()
    want = scale + np.log(np.abs(value))
    assert abs(want) > 800, "the amplitude itself would fit into a float"
    assert abs(got.real - float(want)) < 1e-9
    turn = np.exp(1j * (got.imag - float(np.angle(value))))
    assert abs(turn - 1) < 1e-9


@pytest.mark.parametrize(
    ("keys", "symmetric", "message"),
    [
        ({"bond_dimension": 0}, False, "positive"),
        ({}, True, "no lattice symmetry"),
        ({"translation_invariant": True}, True, "no lattice symmetry"),
    ],
)
def test_refusals(keys: dict, symmetric: bool, message: str) -> None:
    perms = contract.TRANSLATIONS if symmetric else None
    with pytest.raises(JobError, match=message):
        mps(ring()._replace(symmetry=perms), **keys)


def test_symmetry_is_honoured_or_refused() -> None:
    keys = {"periodic": True, "translation_invariant": True, "bond_dimension": 2}
    one = case(mps, ring()._replace(symmetry=contract.TRANSLATIONS), **keys)
    psi = amplitudes(one.raw, one.params, one.problem)
    np.testing.assert_allclose(psi.transpose(1, 2, 3, 4, 5, 0), psi, atol=1e-13)
    assert np.std(np.abs(psi)) > 1e-3
    with pytest.raises(JobError, match="translations only"):
        mps(ring()._replace(symmetry=np.arange(6)[None, ::-1]), **keys)


def test_a_sector_has_no_exact_tools() -> None:
    assert mps(Problem(spins(6, total_sz=0))).exact is None


def test_exact_bond_dimension() -> None:
    assert exact_bond_dimension((2,) * 8) == 16
    assert exact_bond_dimension((3, 2, 2)) == 3
    assert exact_bond_dimension((2,)) == 1
