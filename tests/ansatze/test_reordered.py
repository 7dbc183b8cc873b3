"""Sites in another order: the same state as without it, with its sites renamed.

The referee is the same family without ``site_order`` and with the same parameters, on
the system whose sites have been renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vmc
from ansatze import capacity, index_graph
from ansatze.convac import convac
from ansatze.mps import mps
from ansatze.rac import rac
from ansatze.ttn import ttn
from tests.ansatze.cases import amplitudes, check_contract, ring, schmidt, words
from tests.contracts.test_ansatze import random_params
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.sectors import Charge
from vmc.space import spins

ORDER = [3, 0, 5, 1, 4, 2]

Factory = Callable[..., WaveFunction]
FAMILIES: dict[str, tuple[Factory, dict[str, Any]]] = {
    "mps": (mps, {"bond_dimension": 2}),
    "mps-ring": (mps, {"bond_dimension": 2, "periodic": True}),
    "convac": (convac, {"channels": [2, 3, 2], "sharing": "none"}),
    "ttn": (ttn, {"bond_dimension": 3}),
    "rac": (rac, {"width": 3, "site_dependent": True}),
    "deep-rac": (rac, {"width": 2, "depth": 2}),
}


def both(name: str, problem: Problem) -> tuple[WaveFunction, WaveFunction]:
    factory, keys = FAMILIES[name]
    return factory(problem, **keys, site_order=ORDER), factory(problem, **keys)


def generic(wf: WaveFunction) -> Any:
    """Parameters of order one, as JAX arrays."""
    return jax.tree.map(jnp.asarray, random_params(wf))


def regions(n: int) -> list[list[int]]:
    return [[0, 3], [0, 1], [1, 2, 5], [2], [0, 1, 3, 5][: n - 1]]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name", ["mps", pytest.param("convac", marks=SLOW), pytest.param("ttn", marks=SLOW)]
)
def test_amplitudes_and_exact_tools(name: str) -> None:
    """psi, norm, purities, spectra, draws and averages are those of renamed sites."""
    problem = ring()
    wf, plain = both(name, problem)
    params = generic(plain)
    psi, inner = (amplitudes(x, params, problem) for x in (wf, plain))
    # Axis k of the plain state is site ORDER[k].
    np.testing.assert_allclose(psi, np.moveaxis(inner, range(6), ORDER), atol=1e-12)
    norm = np.sum(np.abs(psi) ** 2)
    tools = wf.exact
    assert tools is not None and tools.sample is not None
    assert tools.log_norm is not None and tools.product_mean is not None
    assert tools.purity is not None and tools.spectrum is not None
    np.testing.assert_allclose(tools.log_norm(params), np.log(norm), atol=1e-12)
    for region in regions(6)[:3]:
        want = np.sum(schmidt(psi, region) ** 2)
        np.testing.assert_allclose(tools.purity(params, region), want, atol=1e-12)
    # Neighbours of the chain, or a pair of leaves.
    want = schmidt(psi, [0, 3])
    got = np.asarray(tools.spectrum(params, [0, 3]))
    keep = min(len(got), len(want))
    np.testing.assert_allclose(got[:keep], want[:keep], atol=1e-12)
    # Site 2 is up and site 4 down in every draw.
    clamped = jnp.ones((6, 2), bool).at[2, 1].set(False).at[4, 0].set(False)
    sigma, log_prob = tools.sample(params, words(problem, 400), clamped)
    sigma = np.asarray(sigma, int)
    assert np.all(sigma[:, 2] == 1) and np.all(sigma[:, 4] == -1)
    part = np.zeros_like(psi)
    part[:, :, 0, :, 1] = psi[:, :, 0, :, 1]
    p = np.abs(part) ** 2 / np.sum(np.abs(part) ** 2)
    np.testing.assert_allclose(
        log_prob, np.log(p[tuple((1 - sigma.T) // 2)]), atol=1e-9
    )
    # <Z_1 X_5> against the vector.
    z, x = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
    mean = tools.product_mean(
        params,
        np.array([[1, 5, 6, 6]]),
        jnp.stack([jnp.stack([jnp.asarray(m) for m in (z, x, np.eye(2), np.eye(2))])]),
    )
    applied = np.einsum("ab,cbdefg->cadefg", z, psi)
    applied = np.einsum("ab,cdefgb->cdefga", x, applied)
    np.testing.assert_allclose(mean[0], np.vdot(psi, applied) / norm, atol=1e-11)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_capacity_follows_the_order(name: str) -> None:
    problem = ring()
    wf, plain = both(name, problem)
    place = {site: k for k, site in enumerate(ORDER)}
    for region in regions(6):
        one = capacity(wf, region)
        other = capacity(plain, [place[i] for i in region])
        assert one.ln_upper == pytest.approx(other.ln_upper)
        assert one.ln_lower == pytest.approx(other.ln_lower)
        sites = [int(c[1:]) for c in one.cut if c[0] == "s"]
        assert [place[i] for i in sites] == [
            int(c[1:]) for c in other.cut if c[0] == "s"
        ] or one.method == "trivial"
        graph = index_graph(wf)
        if graph is not None and one.method != "trivial":
            assert graph.separates(one.cut, region)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("dtype", ["real", "complex"])
def test_moves_and_scores_of_every_family(name: str, dtype: str) -> None:
    factory, keys = FAMILIES[name]
    check_contract(factory, ring(dtype), **keys, site_order=ORDER)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rac", "deep-rac", "mps-ring"])
def test_amplitudes_of_the_others(name: str) -> None:
    problem = ring()
    wf, plain = both(name, problem)
    params = generic(plain)
    psi, inner = (amplitudes(x, params, problem) for x in (wf, plain))
    np.testing.assert_allclose(psi, np.moveaxis(inner, range(6), ORDER), atol=1e-12)


@pytest.mark.parametrize("factory", [mps, convac])
def test_sites_of_different_size(factory: Factory) -> None:
    """Every place has the local states of the site that stands there."""
    space = spins(4, spin=[0.5, 1.0, 0.5, 1.5])
    order = [3, 0, 2, 1]
    keys: dict[str, Any] = {"bond_dimension": 3} if factory is mps else {"channels": 3}
    wf = factory(Problem(space), **keys, site_order=order)
    places = spins(4, spin=[1.5, 0.5, 0.5, 1.0])
    plain = factory(Problem(places), **keys)
    params = generic(plain)
    psi = amplitudes(wf, params, Problem(space))
    inner = amplitudes(plain, params, Problem(places))
    np.testing.assert_allclose(psi, np.moveaxis(inner, range(4), order), atol=1e-12)
    assert capacity(wf, [0, 3]).ln_upper == capacity(plain, [0, 1]).ln_upper


TABLES: dict[str, Any] = {
    "hamiltonian": {"name": "tfim", "h": 0.7, "total_sz": "free"},
    "ansatz": {"name": "mps", "bond_dimension": 3, "symmetry": "none"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mps", "convac"])
def test_energies_of_a_permuted_hamiltonian(name: str, tmp_path: Any) -> None:
    """E of the ordered state = E of the plain one under the renamed Hamiltonian."""
    rng = np.random.default_rng(5)
    bonds, fields = rng.uniform(0.5, 1.5, 6), rng.normal(size=6)
    (tmp_path / "ham.py").write_text(
        "from hamiltonians import Operator, sx, sz\n\n\n"
        "def build(bonds, fields, names):\n"
        "    n = len(names)\n"
        "    links = [(names[i], names[(i + 1) % n]) for i in range(n)]\n"
        "    terms = [-b * (sz(i) @ sz(j)) for b, (i, j) in zip(bonds, links)]\n"
        "    terms += [-f * sx(names[i]) for i, f in enumerate(fields)]\n"
        "    return Operator.sum(terms)\n"
    )

    def built(names: list[int], **keys: Any) -> Any:
        factory_keys = {k: v for k, v in FAMILIES[name][1].items()}
        tables = {
            "hamiltonian": {
                "name": "ham.py:build",
                "bonds": bonds.tolist(),
                "fields": fields.tolist(),
                "names": names,
                "total_sz": "free",
                "marshall": False,
            },
            "ansatz": {"name": name, "dtype": "complex", **factory_keys, **keys},
        }
        return vmc.build(vmc.Job.from_dict(tables, folder=tmp_path))

    # The ring runs along the places of the chain: names[k] is the site at place k.
    ordered, plain = built(ORDER, site_order=ORDER), built(list(range(6)))
    params = generic(plain.wavefunction)
    values = [vmc.measure_exactly(b, params) for b in (ordered, plain)]
    assert values[0].energy == pytest.approx(values[1].energy, abs=1e-11)
    states = ordered.hamiltonian.space.all_states()
    psi = np.exp(np.asarray(ordered.wavefunction.log_psi(params, states)))
    from vmc import registry

    matrix = registry.to_sparse(ordered.hamiltonian)
    dense = np.vdot(psi, matrix @ psi).real / np.vdot(psi, psi).real
    assert values[0].energy == pytest.approx(dense, abs=1e-11)


@pytest.mark.slow
def test_samplers_and_jobs_know_the_key() -> None:
    """A run of exact draws and one of a Markov chain measure the same state."""
    energies = []
    for sampler in ("full", "direct", "local"):
        tables = TABLES | {"lattice": {"name": "chain", "size": [6]}}
        tables["ansatz"] = TABLES["ansatz"] | {"site_order": ORDER}
        sizes = {} if sampler == "full" else {"n_chains": 256, "n_samples": 256}
        tables["sampler"] = {"name": sampler} | sizes
        tables |= {"run": {"n_steps": 0}, "measure": {"n_samples": 32768}}
        job = vmc.Job(**tables)
        energies.append(vmc.run(job).energy)
    exact = energies[0]
    assert exact is not None
    for one in energies[1:]:
        assert one is not None and one.error > 0
        assert abs(one.mean - exact.mean) < 4.5 * one.error


def test_sectors_move_with_their_sites() -> None:
    """Weights of charges and pairs of a blockade are those of the places."""
    charge = Charge((1, 2, 0, 1), 2)
    space = spins(4, charges=[charge], blockade=[(0, 3)])
    seen: list[Any] = []

    def make(inner: Problem) -> WaveFunction:
        seen.append(inner.space)
        return mps(inner, bond_dimension=1)

    from ansatze.reordered import reordered

    reordered(Problem(space), [3, 0, 2, 1], make)
    assert seen[0].charges[0].weights == (1, 1, 0, 2)
    assert seen[0].blockade == ((0, 1),)
    states = space.all_states()[:, [3, 0, 2, 1]]
    assert {tuple(s) for s in states} == {tuple(s) for s in seen[0].all_states()}


@pytest.mark.parametrize("factory", [mps, convac, ttn, rac])
def test_orders_that_are_none(factory: Factory) -> None:
    with pytest.raises(JobError, match="names each of the 6 sites 0 to 5 once"):
        factory(ring(), site_order=[0, 1, 2, 3, 4, 4])
    with pytest.raises(JobError, match="5 is missing"):
        factory(ring(), site_order=[0, 1, 2, 3, 4])


def test_what_an_order_excludes() -> None:
    with pytest.raises(JobError, match="origin = 1 moves"):
        convac(ring(), channels=2, origin=1, site_order=ORDER)
    group = np.array([np.roll(np.arange(6), -g) for g in range(6)])
    keys: dict[str, Any] = {"periodic": True, "translation_invariant": True}
    with pytest.raises(JobError, match="no lattice symmetry is built in"):
        mps(ring()._replace(symmetry=group), **keys, site_order=ORDER)
