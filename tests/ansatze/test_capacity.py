"""Entanglement capacity against exact ranks modulo a prime, and against itself."""

import math

import numpy as np
import pytest

from ansatze import capacity, index_graph
from ansatze.convac import convac, convac_tree
from ansatze.cp import cp
from ansatze.mps import mps
from ansatze.rac import rac
from ansatze.tree_family import parameter_shapes
from ansatze.ttn import ttn, ttn_tree
from tests.ansatze import modp
from tests.ansatze.test_rac import by_definition as rac_psi
from vmc.base import Capacity, Problem
from vmc.space import spins

SLOW = pytest.mark.slow


def rank_of(psi: np.ndarray, region: list[int]) -> int:
    return modp.rank(modp.cut(psi, region))


def check(found: Capacity, rank: int, *, predicted: bool = True) -> None:
    """Bounds hold for the generic rank, which is the prediction where that is sure."""
    assert math.log(rank) <= found.ln_upper + 1e-9
    assert math.log(rank) >= found.ln_lower - 1e-9
    assert found.ln_lower <= found.ln_predicted + 1e-9 <= found.ln_upper + 2e-9
    if predicted:
        assert round(math.exp(found.ln_predicted), 6) == rank


def random_region(rng: np.random.Generator, n: int) -> list[int]:
    size = rng.integers(1, n)
    return sorted(rng.permutation(n)[:size].tolist())


def integers(shapes: dict, seed: int) -> dict:
    return modp.random_weights(shapes, seed)


# ---- trees -----------------------------------------------------------------------


def convac_case(seed: int, sharing: str, n: int, window: int) -> tuple:
    rng = np.random.default_rng([seed, n, window])
    problem = Problem(spins(n))
    depth = round(math.log(n, window))
    keys = {"channels": rng.integers(1, 10, depth).tolist(), "window": window}
    tree = convac_tree(problem, sharing=sharing, **keys)
    psi = modp.amplitudes(tree, integers(parameter_shapes(tree), seed), window)
    region = random_region(rng, n)
    wf = convac(problem, sharing=sharing, **keys)
    return wf, region, rank_of(psi, region)


@pytest.mark.parametrize(
    ("n", "window", "seeds"),
    [
        (8, 2, range(8)),
        pytest.param(8, 2, range(8, 90), marks=SLOW),
        pytest.param(16, 2, range(40), marks=SLOW),
        pytest.param(16, 4, range(40), marks=SLOW),
    ],
)
@pytest.mark.parametrize("sharing", ["none", "window"])
def test_circuits_have_the_rank_of_the_vertex_cut(
    sharing: str, n: int, window: int, seeds: range
) -> None:
    for seed in seeds:
        wf, region, rank = convac_case(seed, sharing, n, window)
        found = capacity(wf, region)
        check(found, rank)
        graph = index_graph(wf)
        assert graph is not None and graph.separates(found.cut, region)
        assert math.isclose(graph.cut_of(found.cut).value, found.ln_upper, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("n", "window", "seeds"),
    [(8, 2, range(12)), pytest.param(16, 4, range(30), marks=SLOW)],
)
def test_circuits_of_fully_shared_weights(n: int, window: int, seeds: range) -> None:
    """The corrected cut is a bound, and nearly always reached."""
    exact = 0
    for seed in seeds:
        wf, region, rank = convac_case(seed, "full", n, window)
        found = capacity(wf, region)
        check(found, rank, predicted=False)
        exact += round(math.exp(found.ln_predicted), 6) == rank
    assert exact >= 0.95 * len(seeds)


def test_known_numbers_of_circuits() -> None:
    eight, sixteen = Problem(spins(8)), Problem(spins(16))
    tied = convac(eight, channels=[7, 5, 5], sharing="full")
    free = convac(eight, channels=[7, 5, 5])
    assert math.isclose(capacity(tied, [1, 4, 5]).ln_upper, math.log(6))
    assert math.isclose(capacity(free, [1, 4, 5]).ln_upper, math.log(8))
    assert capacity(tied, [1, 4, 5]).ln_lower == 0
    for k in (1, 3, 9):
        last = capacity(convac(sixteen, channels=[9, 9, 9, k]), range(8))
        assert math.isclose(last.ln_upper, math.log(k), abs_tol=1e-12)
        assert k == 9 or last.cut == (("h3.0",) if k > 1 else ())
    odd = capacity(convac(eight, channels=[2, 5, 5]), range(1, 8, 2))
    assert math.isclose(odd.ln_upper, 4 * math.log(2))
    # Powers of two hold 4 of 6 channels for sure.
    half = capacity(convac(sixteen, channels=6), range(8))
    assert math.isclose(half.ln_lower, math.log(4)) and half.method == "tree"
    ranks = [capacity(cp(eight, rank=5), range(k)).ln_predicted for k in range(1, 5)]
    np.testing.assert_allclose(np.exp(ranks), [2, 4, 5, 5])
    shared = cp(eight, rank=20, sharing="full")
    ranks = [capacity(shared, range(k)).ln_predicted for k in range(1, 5)]
    np.testing.assert_allclose(np.exp(ranks), [2, 3, 4, 5])


def ttn_psi(tree, seed: int) -> np.ndarray:
    """An integer tree tensor network, also with absent children."""
    params = integers(parameter_shapes(tree), seed)
    dims = [tree.local_dims[i] for i in tree.order]
    blocks = [np.eye(tree.n_states, dtype=np.int64)[:, :d] for d in dims]
    for m in tree.levels:
        parents = []
        for j, t in enumerate(params[m.name]):
            pair = blocks[2 * j : 2 * j + 2]
            right = pair[1] if len(pair) == 2 else np.eye(m.c_in, 1, dtype=np.int64)
            half = modp.matmul(t.reshape(-1, m.c_in), right)
            half = half.reshape(m.c_out, m.c_in, -1).swapaxes(0, 1)
            out = modp.matmul(pair[0].T, half.reshape(m.c_in, -1))
            out = out.reshape(pair[0].shape[1], m.c_out, -1).swapaxes(0, 1)
            parents.append(out.reshape(m.c_out, -1))
        blocks = parents
    return blocks[0].reshape(dims).transpose(tree.position())


@pytest.mark.filterwarnings("ignore:bond_dimension")
@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 110), marks=SLOW)])
def test_tree_networks_have_the_rank_of_the_vertex_cut(seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(5, 9))
        spin = rng.choice([0.5, 0.5, 1], n).tolist() if n < 7 else 0.5
        problem, bond = Problem(spins(n, spin=spin)), int(rng.integers(1, 7))
        region = random_region(rng, n)
        psi = ttn_psi(ttn_tree(problem, bond), seed)
        wf = ttn(problem, bond_dimension=bond)
        check(capacity(wf, region), rank_of(psi, region))


# ---- chains ----------------------------------------------------------------------


def mps_psi(tensors: np.ndarray, periodic: bool, ends: np.ndarray) -> np.ndarray:
    """Integer matrices (N, d, D, D): a trace, or between two vectors."""
    n, d, bond, _ = tensors.shape
    rows = np.eye(bond, dtype=np.int64) if periodic else ends[:1]
    states = rows[None]
    for site in tensors:
        stacked = site.transpose(1, 0, 2).reshape(bond, -1)
        new = modp.matmul(states.reshape(-1, bond), stacked)
        new = new.reshape(len(states), len(rows), d, bond).transpose(0, 2, 1, 3)
        states = new.reshape(-1, len(rows), bond)
    last = np.eye(bond, dtype=np.int64) if periodic else ends[1:]
    return ((states * last % modp.PRIME).sum(axis=(1, 2)) % modp.PRIME).reshape(
        (d,) * n
    )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 60), marks=SLOW)])
def test_matrix_product_states(periodic: bool, shared: bool, seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        d, n = [(2, 8), (2, 7), (3, 5)][seed % 3]
        bond, region = int(rng.integers(1, 6)), random_region(rng, n)
        shape = (1 if shared else n, d, bond, bond)
        tensors = rng.integers(1, modp.PRIME, shape) * np.ones((n, 1, 1, 1), int)
        ends = rng.integers(1, modp.PRIME, (2, bond))
        psi = mps_psi(tensors, periodic, ends)
        wf = mps(
            Problem(spins(n, spin=(d - 1) / 2)),
            bond_dimension=bond,
            periodic=periodic,
            translation_invariant=shared,
        )
        check(capacity(wf, region), rank_of(psi, region), predicted=not periodic)


@pytest.mark.parametrize(
    ("d", "bond", "shared", "rank", "cut"),
    [(3, 2, False, 8, 9), (2, 2, True, 3, 4), (3, 3, True, 8, 9)],
)
def test_loops_miss_the_cut(
    d: int, bond: int, shared: bool, rank: int, cut: int
) -> None:
    rng = np.random.default_rng(0)
    tensors = rng.integers(1, modp.PRIME, (1 if shared else 4, d, bond, bond))
    psi = mps_psi(tensors * np.ones((4, 1, 1, 1), int), True, np.zeros((2, bond)))
    assert rank_of(psi, [0, 2]) == rank
    found = capacity(
        mps(
            Problem(spins(4, spin=(d - 1) / 2)),
            bond_dimension=bond,
            periodic=True,
            translation_invariant=shared,
        ),
        [0, 2],
    )
    check(found, rank, predicted=False)
    assert math.isclose(found.ln_upper, math.log(cut)) and found.method == "max-flow"


@pytest.mark.parametrize(
    ("n", "width", "depth", "d", "rank", "upper", "lower"),
    [
        (8, 3, 1, 2, 3, 3, 3),
        (8, 20, 1, 2, 16, 16, 16),
        (8, 2, 2, 2, 10, 10, 5),
        (10, 2, 2, 2, 12, 12, 6),
        (12, 2, 2, 2, 14, 14, 7),
        (14, 2, 2, 2, 16, 16, 8),
        (14, 3, 2, 2, 105, 108, 8),
        (6, 2, 2, 3, 8, 8, 4),
        (8, 2, 3, 2, 16, 16, 1),
        (8, 1, 2, 2, 1, 1, 1),
    ],
)
def test_recurrent_circuits_from_start_to_end(
    n: int, width: int, depth: int, d: int, rank: int, upper: int, lower: int
) -> None:
    """The ranks are those of test_rac."""
    wf = rac(Problem(spins(n, spin=(d - 1) / 2)), width=width, depth=depth)
    found = capacity(wf, range(n // 2))
    check(found, rank, predicted=rank == upper)
    np.testing.assert_allclose(np.exp([found.ln_upper, found.ln_lower]), [upper, lower])
    assert found.method == ("tree" if depth == 1 else "monomials")


@pytest.mark.parametrize("site_dependent", [False, True])
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 40), marks=SLOW)])
def test_recurrent_circuits(seeds: range, site_dependent: bool) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        depth, width = 1 + seed % 3, int(rng.integers(1, 4))
        n, lead = 8, (8,) if site_dependent else ()
        shapes = {
            "start": (depth, width),
            "hidden": (*lead, depth, width, width),
            "input": (*lead, width, 2),
            "out": (width,),
        }
        if depth > 1:
            shapes["between"] = (*lead, depth - 1, width, width)
        psi = rac_psi(integers(shapes, seed), n, 2, prime=modp.PRIME)
        wf = rac(
            Problem(spins(n)), width=width, depth=depth, site_dependent=site_dependent
        )
        regions = [random_region(rng, n), list(range(int(rng.integers(1, n))))]
        for region in regions:
            rank = rank_of(psi, region)
            check(capacity(wf, region), rank)
