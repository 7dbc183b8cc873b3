"""The swap estimator against exact purities."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from tests.engine.helpers import MeshOf, amplitudes, made
from vmc import swap
from vmc.base import Problem
from vmc.errors import JobError
from vmc.moves import local_flips
from vmc.sectors import Charge
from vmc.space import Spins, spins
from vmc.swap_ratio import entropy_by_ratios
from vmc.wavefunction import from_functions


def exact_purity(space: Spins, psi: np.ndarray, region: tuple[int, ...]) -> float:
    """From the Schmidt values of the state in the free space."""
    index = (np.array(space.local_dims) - 1 - space.all_states().astype(int)) // 2
    whole = np.zeros(space.local_dims, complex)
    whole[tuple(index.T)] = psi
    rest = [i for i in range(space.n_sites) if i not in region]
    size = int(np.prod([space.local_dims[i] for i in region]))
    matrix = np.transpose(whole, [*region, *rest]).reshape(size, -1)
    return float(np.sum(np.linalg.svd(matrix, compute_uv=False) ** 4))


SPACES = {
    "free": spins(5),
    "sector": spins(6, total_sz=0),
    "parity": spins(5, charges=(Charge((1,) * 5, 1, 2),)),
    "blockade": spins(6, blockade=[(i, (i + 1) % 6) for i in range(6)]),
    "spin one": spins(3, spin=1, total_sz=0),
}


@pytest.mark.parametrize(
    "name", ["sector", *(pytest.param(n, marks=pytest.mark.slow) for n in SPACES)]
)
def test_all_pairs_of_all_configurations(name: str, mesh_of: MeshOf) -> None:
    """sum_ij p_i p_j R_ij = Tr rho^2; what leaves the sector is left out."""
    space, region = SPACES[name], (0, 2)
    wf, params = made("jastrow-complex", space, 0.5)
    states = space.all_states()
    psi = amplitudes(wf, params, space)
    first, second = np.indices((len(states), len(states))).reshape(2, -1)
    inside = np.isin(np.arange(space.n_sites), region)
    keep = swap.allowed(space, states, inside, first, second)
    known = {tuple(row) for row in states.tolist()}
    for i, j, ok in zip(first[:400], second[:400], keep[:400], strict=True):
        swapped = np.where(inside, states[i], states[j])
        other = np.where(inside, states[j], states[i])
        assert ok == (tuple(swapped) in known and tuple(other) in known)
    ratios = np.zeros(len(first))
    pairs = first[keep], second[keep]
    mesh = mesh_of(2)
    ratios[keep] = swap._swapped(wf, params, states, inside, *pairs, mesh)
    p = np.abs(psi) ** 2
    want = exact_purity(space, psi, region)
    np.testing.assert_allclose(np.sum(p[first] * p[second] * ratios), want, rtol=1e-11)
    found = swap.entropy_of_state(states, psi, region)
    np.testing.assert_allclose(found.purity, want, rtol=1e-11)
    other = tuple(i for i in range(space.n_sites) if i not in region)
    np.testing.assert_allclose(
        swap.entropy_of_state(states, psi, other).purity, want, rtol=1e-11
    )


def test_the_jackknife_leaves_out_chains() -> None:
    rng = np.random.default_rng(0)
    chain = np.repeat(np.arange(5), 3)
    pairs = [
        (i, j) for i, j in itertools.combinations(range(15), 2) if chain[i] != chain[j]
    ]
    one, other = np.array(pairs).T
    shared = rng.normal(0.0, 0.1, size=5)
    ratios = rng.normal(0.5, 0.02, size=len(pairs))
    ratios += shared[chain[one]] + shared[chain[other]]
    found = swap._jackknife(ratios, chain[one], chain[other])
    means = []
    for c in range(5):
        keep = (chain[one] != c) & (chain[other] != c)
        means.append(ratios[keep].mean())
    error = np.sqrt(4 / 5 * np.sum((np.array(means) - np.mean(means)) ** 2))
    assert error > np.std(ratios) / np.sqrt(len(ratios)), "not the noise of pairs"
    np.testing.assert_allclose(found.purity, ratios.mean())
    np.testing.assert_allclose(found.purity_error, error)
    pseudo = -5 * np.log(ratios.mean()) + 4 * np.log(means)
    assert found.s2 is not None and found.error is not None
    np.testing.assert_allclose(found.s2, np.mean(pseudo))
    want = max(np.std(pseudo, ddof=1) / np.sqrt(5), error / ratios.mean())
    np.testing.assert_allclose(found.error, want)


def test_a_product_state_has_no_entropy(mesh_of: MeshOf) -> None:
    """R = 1 for every pair: no noise either."""
    space = spins(6)
    wf, params = made("rbm-complex", space, 0.0)
    rng = np.random.default_rng(1)
    sigma = rng.choice([-1, 1], size=(40, 6)).astype(np.int8)
    found = swap.entropy_of_samples(
        wf, params, space, sigma, np.arange(40), (0, 1, 4), mesh_of(1)
    )
    assert abs(found.s2 or 0) < 1e-12 and (found.error or 0) < 1e-12
    # Far too few samples of a state that is not one: a bound instead of a number.
    few = swap._jackknife(
        np.array([1.0, 0, 0]), np.array([0, 0, 1]), np.array([1, 2, 2])
    )
    assert few.s2 is None and few.error is None and few.lower_bound is not None
    none = swap._jackknife(np.zeros(45), *np.triu_indices(10, 1))
    assert none.s2 is None and none.lower_bound is not None
    np.testing.assert_allclose(none.lower_bound, np.log(45 / 3))


def test_singlets_across_the_cut(mesh_of: MeshOf) -> None:
    """n singlets that cross the cut: R is 0 or 1, and S2 = n ln 2."""

    def log_psi(params: Any, sigma: Array) -> Array:
        left, right = sigma[:, :3], sigma[:, 3:]
        sign = jnp.sum(left < 0, axis=1) * jnp.pi + params["zero"]
        paired = jnp.all(left == -right, axis=1)
        return jax.lax.complex(jnp.where(paired, 0.0, -jnp.inf), sign)

    space = spins(6)
    problem = Problem(space, "complex")
    wf = from_functions(
        lambda key: {"zero": jnp.zeros(())}, log_psi, problem=problem, range="complex"
    )
    rng = np.random.default_rng(2)
    left = rng.choice([-1, 1], size=(300, 3))
    sigma = np.concatenate([left, -left], axis=1).astype(np.int8)
    params, chain = {"zero": jnp.zeros(())}, np.arange(300)
    for region, n in (((0, 1, 2), 3), ((0, 3, 4), 1), ((1, 4), 0)):
        found = swap.entropy_of_samples(
            wf, params, space, sigma, chain, region, mesh_of(1)
        )
        assert found.s2 is not None and found.error is not None
        assert abs(found.s2 - n * np.log(2)) < 4 * found.error + 1e-12
        assert (found.error > 1e-3) == (n > 0)


@pytest.mark.slow
def test_error_bars_of_entropies_cover(mesh_of: MeshOf) -> None:
    """Singlets across the cut: R is 0 or 1, S2 = 2 ln 2; and a random state."""
    rng = np.random.default_rng(7)
    space = spins(6)
    wf, params = made("rbm-complex", space, 0.5)
    psi = amplitudes(wf, params, space)
    states, p = space.all_states(), np.abs(psi) ** 2
    want = swap.entropy_of_state(states, psi, (0, 1, 2)).s2
    assert want is not None and want > 0.3
    hits, z = [], []
    inside = np.arange(6) < 3
    first, second = np.indices((64, 64)).reshape(2, -1)
    table = swap._swapped(wf, params, states, inside, first, second, mesh_of(1))
    one, other = np.triu_indices(128, 1)
    for _ in range(1000):
        drawn = rng.choice(64, size=128, p=p)
        ratios = table[drawn[one] * 64 + drawn[other]]
        found = swap._jackknife(ratios, one, other)
        assert found.s2 is not None and found.error is not None
        z.append((found.s2 - want) / found.error)
        hits.append(abs(z[-1]) < 1)
    assert 0.63 < np.mean(hits) < 0.73
    assert np.mean(np.abs(z) < 3) >= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("name", ["free", "sector", "blockade", "spin one", "positive"])
def test_ratios_of_nested_regions(name: str, mesh_of: MeshOf) -> None:
    kind = "rbm-real" if name == "positive" else "jastrow-complex"
    space = SPACES.get(name, spins(6, total_sz=0))
    region = (0, 1, 2)[: space.n_sites - 1]
    wf, params = made(kind, space, 0.4)
    states = space.all_states()
    psi = amplitudes(wf, params, space)
    want = swap.entropy_of_state(states, psi, region)
    rng = np.random.default_rng(4)
    start = states[rng.choice(len(states), size=256, p=np.abs(psi) ** 2)]
    moves = local_flips(spins(6))  # those of a Hamiltonian
    key, mesh = jax.random.key(3), mesh_of(2)
    found = entropy_by_ratios(wf, params, space, moves, start, region, key, mesh)
    assert found.s2 is not None and found.error is not None and want.s2 is not None
    assert 0 < found.error < 0.1 and want.s2 > 0.02
    assert abs(found.s2 - want.s2) < 4 * found.error
    assert found.method == "ratios"


def test_samples_are_spread_over_chains_and_time() -> None:
    kept = np.arange(6 * 16)[:, None].repeat(3, 1).reshape(6, 16, 3).astype(np.int8)
    sigma, chain = swap.chosen(kept, 32)
    assert len(sigma) == 32 and np.bincount(chain).tolist() == [2] * 16
    assert sigma[0, 0] == 5 * 16, "the last draw is among them"
    sigma, chain = swap.chosen(kept, 8)
    assert len(sigma) == 8 == len(set(chain))
    with pytest.raises(JobError, match="n_chains is 4"):
        swap.chosen(kept[:, :4])


@pytest.mark.parametrize(
    ("region", "message"),
    [([], "1 to 5"), (range(6), "1 to 5"), ([1, 1], "repeats"), ([7], "site 7")],
)
def test_what_is_no_region(region: list[int], message: str) -> None:
    with pytest.raises(JobError, match=message):
        swap.checked_region(region, 6)
