"""Capacity of what is no tree: connections between sites, and light cones."""

import itertools
import math

import numpy as np
import pytest

from ansatze import capacity
from ansatze.cuts_pairs import jastrow_capacity, rbm_capacity, rbm_graph
from ansatze.overlapping import overlapping_convac
from tests.ansatze import modp
from tests.ansatze.test_capacity import SLOW, check, random_region, rank_of
from tests.ansatze.test_overlapping import all_bits, grid
from tests.ansatze.test_overlapping import by_definition as overlapping_psi


def boltzmann_psi(linked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """prod_j (B_j prod_i u_ij^v_i + inverse) of integers, v = +-1."""
    n, _ = linked.shape
    bits = all_bits(n)
    total = np.ones(2**n, np.int64)
    for j in range(linked.shape[1]):
        plus, minus = np.ones((2, 2**n), np.int64)
        for i in [-1, *np.flatnonzero(linked[:, j]).tolist()]:
            u = int(rng.integers(2, modp.PRIME))
            inverse = pow(u, -1, modp.PRIME)
            down = bits[i] == 1 if i >= 0 else np.zeros(2**n, bool)
            plus = plus * np.where(down, inverse, u) % modp.PRIME
            minus = minus * np.where(down, u, inverse) % modp.PRIME
        total = total * ((plus + minus) % modp.PRIME) % modp.PRIME
    return total.reshape((2,) * n)


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 110), marks=SLOW)])
def test_sparse_boltzmann_machines(seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        linked = rng.random((8, int(rng.integers(2, 9)))) < rng.uniform(0.1, 0.6)
        region = random_region(rng, 8)
        rank = rank_of(boltzmann_psi(linked, rng), region)
        cut = rbm_graph(linked).min_cut(region)
        assert round(math.exp(cut.value), 6) == rank


def test_dense_boltzmann_machines() -> None:
    """The closed form is the cut of the complete graph."""
    for hidden in (1, 2, 3, 4, 6):
        found = rbm_capacity(8, hidden, tied=False)
        for region in ([0, 1, 2, 3], [1, 5], range(7)):
            one = found(region)
            want = rbm_graph(np.ones((8, hidden), bool)).min_cut(region)
            assert math.isclose(one.ln_upper, want.value)
            assert one.ln_lower == one.ln_upper
    assert round(math.exp(rbm_capacity(8, 3, tied=True)(range(4)).ln_upper)) == 8


@pytest.mark.parametrize(
    ("shape", "periodic", "region", "keys", "rank"),
    [
        ((12,), False, range(6), (2, 2, 1), 2),
        ((12,), False, range(6), (2, 2, 2), 4),
        ((12,), False, range(6), (2, 2, 3), 8),
        ((12,), False, range(6), (2, 3, 2), 8),
        ((12,), False, range(6), (2, 3, 3), 32),
        ((12,), False, range(6), (3, 3, 2), 12),
        ((12,), False, range(6), (2, 5, 2), 32),
        ((12,), True, range(6), (2, 2, 1), 2),
        ((12,), True, range(6), (2, 2, 2), 8),
        ((12,), True, range(6), (2, 2, 3), 32),
        ((12,), True, range(6), (1, 2, 3), 1),
        ((4, 4), False, range(8), (2, 2, 2), 32),
        ((4, 4), False, range(8), (2, 2, 3), 256),
        ((4, 4), False, (0, 1, 4, 5), (2, 2, 2), 16),
    ],
)
def test_known_light_cones(
    shape: tuple, periodic: bool, region: range, keys: tuple, rank: int
) -> None:
    """The ranks are those of test_overlapping."""
    names = ("channels", "kernel_size", "depth")
    wf = overlapping_convac(grid(shape, periodic), **dict(zip(names, keys)))
    found = capacity(wf, region)
    assert math.isclose(found.ln_predicted, math.log(rank), abs_tol=1e-9)
    # 2 * 2^8 is more than half of the lattice can hold.
    assert found.method == ("trivial" if rank == 256 else "light cone")


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 60), marks=SLOW)])
def test_light_cones(seeds: range) -> None:
    """Any region, grid, stride and number of channels; reached without a stride."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        shape = [(8,), (2, 4), (9,), (3, 3)][seed % 4]
        n = math.prod(shape)
        periodic = bool(rng.integers(2))
        stride, depth = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        depth = min(depth, 2) if stride == 2 else depth
        channels = rng.integers(1, 4, depth).tolist()
        kernel = 2
        problem = grid(shape, periodic)
        wf = overlapping_convac(
            problem, channels=channels, kernel_size=kernel, depth=depth, stride=stride
        )
        sizes = [2, *channels]
        weights = [
            rng.integers(1, modp.PRIME, (kernel ** len(shape), b, a))
            for a, b in itertools.pairwise(sizes)
        ]
        params = {"weights": weights, "out": rng.integers(1, modp.PRIME, channels[-1])}
        psi = overlapping_psi(params, all_bits(n), shape, periodic, modp.PRIME, stride)
        region = random_region(rng, n)
        rank = rank_of(psi.reshape((2,) * n), region)
        found = capacity(wf, region)
        check(found, rank, predicted=stride == 1)


def ring_orbits(n: int) -> np.ndarray:
    """Distance on a ring, of every pair."""
    gap = np.abs(np.arange(n)[:, None] - np.arange(n)[None])
    return np.minimum(gap, n - gap)


@pytest.mark.parametrize("n", [4, 6, pytest.param(8, marks=SLOW)])
def test_jastrow_factors_with_tied_couplings(n: int) -> None:
    """Sites with the same couplings count by their sum.

    At n = 8 some cuts, such as [0, 1, 2, 5] of rank 14, are also symmetric under a
    reflection.
    """
    rng = np.random.default_rng(n)
    signs = 1 - 2 * all_bits(n).astype(np.int64)
    for orbits in (ring_orbits(n), None):
        psi = np.ones(2**n, np.int64)
        label = np.arange(n * n).reshape(n, n) if orbits is None else orbits
        strength = {x: int(rng.integers(2, modp.PRIME)) for x in np.unique(label)}
        for i, j in itertools.combinations(range(n), 2):
            u = strength[label[i, j]]
            pair = (u, pow(u, -1, modp.PRIME))
            psi = psi * np.where(signs[i] == signs[j], *pair) % modp.PRIME
        found = jastrow_capacity((2,) * n, orbits)
        for size in range(1, n // 2 + 1):
            for region in itertools.combinations(range(n), size):
                rank = rank_of(psi.reshape((2,) * n), list(region))
                check(found(region), rank, predicted=orbits is None or n < 8)
    if n == 4:
        tied = jastrow_capacity((2,) * 4, ring_orbits(4))([0, 2])
        assert math.isclose(tied.ln_upper, math.log(3))
