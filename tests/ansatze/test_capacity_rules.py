"""Capacity of every family, rules of composition, the search for cuts, bad input."""

import itertools
import math
import time

import jax
import numpy as np
import pytest

from ansatze import ANSATZE, capacities, capacity, index_graph, light_cone_capacity
from ansatze.capacity import symmetrised_capacity
from ansatze.convac import convac
from ansatze.cp import cp
from ansatze.cuts_dynamic import TreeCuts
from ansatze.index_graph import IndexGraph
from ansatze.mps import mps
from ansatze.rac import rac
from ansatze.ttn import ttn
from tests.ansatze import modp
from tests.ansatze.cases import amplitudes, ring
from tests.ansatze.test_capacity import SLOW, random_region
from tests.contracts import test_ansatze as contract
from vmc.base import Capacity, Problem
from vmc.errors import JobError
from vmc.space import spins

# ---- every registered family -----------------------------------------------------

#: Families of which the fast tier, too, compiles an amplitude here.
FAST = ("convac", "cp", "ttn", "mps", "rac", "overlapping_convac", "jastrow", "sum")
REGIONS = ([0], [0, 1, 2], [0, 2, 4], [1, 2, 5], [0, 1, 3, 4], [3, 4, 5])


def numerical_rank(psi: np.ndarray, region: list[int]) -> int:
    """Of complex amplitudes: never more than the exact one, up to rounding."""
    values = np.linalg.svd(modp.cut(psi, region), compute_uv=False)
    return int(np.sum(values > 1e-11 * values[0]))


def is_fast(name: str, dtype: str, kind: str) -> bool:
    return name in FAST and (dtype, kind) == ("complex", "plain")


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(x, id="-".join(x), marks=() if is_fast(*x) else SLOW)
        for x in contract.NAMES
    ],
)
def test_no_family_exceeds_its_capacity(names: tuple[str, str, str]) -> None:
    case = contract.build(*names)
    psi = amplitudes(case.raw, case.params, case.problem)
    dims = case.problem.space.local_dims
    for region in REGIONS:
        found = capacity(case.raw, region, dims)
        rank = numerical_rank(psi, region)
        assert math.log(rank) <= found.ln_upper + 1e-9
        assert found.ln_upper <= min(len(region), 6 - len(region)) * math.log(2) + 1e-9
        rest = [i for i in range(6) if i not in region]
        assert math.isclose(
            capacity(case.raw, rest, dims).ln_upper, found.ln_upper, abs_tol=1e-9
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("convnet", {"pooling": "mean", "channels": 3}),
        ("convnet", {"pooling": "max", "channels": 3}),
        ("mps", {"bond_dimension": 2, "periodic": True}),
        ("rac", {"width": 2, "depth": 2}),
        ("cp", {"rank": 3, "sharing": "full"}),
        ("convac", {"channels": 2, "sharing": "full"}),
        ("overlapping_convac", {"channels": 2, "depth": 2, "stride": 2}),
        ("overlapping_convac", {"channels": 1, "depth": 3}),
        ("product", {"parts": [{"name": "cp", "rank": 2}, {"name": "marshall"}]}),
        (
            "product",
            {
                "parts": [
                    {"name": "cp", "rank": 2},
                    {"name": "mps", "bond_dimension": 2},
                ]
            },
        ),
        (
            "sum",
            {"parts": [{"name": "cp", "rank": 2}, {"name": "cp", "rank": 3}]},
        ),
        ("rbm", {"alpha": 1}),
    ],
)
def test_no_variant_exceeds_its_capacity(name: str, keys: dict) -> None:
    problem = ring(n=8)
    wf = ANSATZE[name](problem, **keys)
    psi = amplitudes(wf, contract.random_params(wf), problem)
    for region in ([0, 1], [0, 1, 2, 3], [0, 2, 4, 6], [1, 2, 3, 4], [0, 3, 4, 5, 7]):
        rank = numerical_rank(psi, region)
        found = capacity(wf, region)
        assert math.log(rank) <= found.ln_upper + 1e-9
        assert math.log(rank) >= found.ln_lower - 1e-9
        # Rectifiers that are off make fewer terms than could be.
        if name != "convnet":
            assert round(math.exp(found.ln_predicted), 6) == rank


@pytest.mark.slow
def test_a_mean_over_blocks_does_not_entangle_them() -> None:
    problem = ring(n=8)
    for pooling, product in (("mean", True), ("max", False)):
        wf = ANSATZE["convnet"](problem, pooling=pooling, init_scale=2.0)
        psi = amplitudes(wf, wf.init(jax.random.key(1)), problem)
        assert (numerical_rank(psi, [0, 1, 2, 3]) == 1) == product
        assert (capacity(wf, range(4)).ln_upper == 0) == product
        assert numerical_rank(psi, [1, 2, 4]) > 1


# ---- rules -----------------------------------------------------------------------


def test_products_sums_and_averages() -> None:
    problem = Problem(spins(8))
    parts = [{"name": "cp", "rank": 2}, {"name": "cp", "rank": 3}]
    region = [0, 1, 2, 3]
    found = capacity(ANSATZE["product"](problem, parts=parts), region)
    assert round(math.exp(found.ln_upper), 9) == 6 and found.method == "composition"
    assert found.cut == ("0_cp:h2.0", "1_cp:h2.0") and found.ln_lower == 0
    found = capacity(ANSATZE["sum"](problem, parts=parts), region)
    assert round(math.exp(found.ln_upper), 9) == 5
    assert round(math.exp(found.ln_lower), 9) == 2
    small = capacity(ANSATZE["product"](problem, parts=parts), [5])
    assert small == Capacity(math.log(2), math.log(2), 0.0, "trivial", ("s5",))
    one = cp(problem, rank=3).capacity
    signs = ANSATZE["product"](ring(n=8), parts=[parts[1], {"name": "marshall"}])
    assert one is not None
    assert capacity(signs, region)[:3] == one((0, 1, 2, 3))[:3]
    # Translations of a cut are other cuts: 2 and 4 instead of twice the same.
    chain = mps(problem, bond_dimension=2).capacity
    moves = np.array([np.arange(8), np.roll(np.arange(8), -2)])
    total = symmetrised_capacity(chain, moves, (2,) * 8)
    assert round(math.exp(total(region).ln_upper), 9) == 2 + 4


@pytest.mark.slow
def test_average_of_a_state_over_a_group() -> None:
    """By enumeration: psi(sigma) = sum_g psi_0(sigma[perm_g])."""
    problem, n = Problem(spins(8)), 8
    inner = mps(problem, bond_dimension=2)
    psi = amplitudes(inner, contract.random_params(inner), problem)
    moves = np.array([np.roll(np.arange(n), -2 * g) for g in range(3)])
    # Axis i of psi_0 is read at site perm[i].
    total = sum(psi.transpose(np.argsort(perm)) for perm in moves)
    hook = symmetrised_capacity(inner.capacity, moves, (2,) * n)
    for region in ([0, 1], [0, 1, 2], [0, 1, 2, 3], [2, 3], [6, 7], [0, 7]):
        rank = numerical_rank(total, region)
        assert rank == min(round(math.exp(hook(region).ln_upper)), 2 ** len(region))


def test_more_channels_never_hold_less() -> None:
    rng = np.random.default_rng(2)
    problem = Problem(spins(16))
    regions = [random_region(rng, 16) for _ in range(20)]
    for sharing in ("window", "full"):
        before = np.zeros(len(regions))
        for r in range(1, 7):
            wf = convac(problem, channels=[r, 2 * r, r, r], sharing=sharing)
            values = np.array([c.ln_upper for c in capacities(wf, regions)])
            assert np.all(values >= before - 1e-9)
            before = values
        rests = [[i for i in range(16) if i not in region] for region in regions]
        values = [c.ln_upper for c in capacities(wf, rests)]
        np.testing.assert_allclose(values, before, atol=1e-9)


# ---- the search for cuts ---------------------------------------------------------


def by_force(graph: IndexGraph, region: list[int]) -> float:
    """The least weight of all sets of indices that separate."""
    best = math.inf
    for size in range(len(graph.dims) + 1):
        for names in itertools.combinations(graph.dims, size):
            value = graph.cut_of(names).value
            if value < best and graph.separates(names, region):
                best = value
    return best


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(s, marks=SLOW) for s in range(3, 20))]
)
def test_cuts_by_brute_force(seed: int) -> None:
    """Loops, tensors of any order, dimensions of one."""
    rng = np.random.default_rng(seed)
    names = [f"i{k}" for k in range(9)]
    physical = tuple(f"s{k}" for k in range(4))
    everything = np.array([*physical, *names[:5]])
    dims = {str(n): int(rng.integers(1, 6)) for n in everything}
    tensors = tuple(
        tuple(rng.permutation(everything)[: rng.integers(2, 5)].tolist())
        for _ in range(8)
    )
    graph = IndexGraph(dims, tensors, physical)
    for region in ([0], [0, 1], [0, 2], [1, 2, 3]):
        found = graph.min_cut(region)
        assert math.isclose(found.value, by_force(graph, region), abs_tol=1e-9)
        assert graph.separates(found.names, region)


@pytest.mark.parametrize("seeds", [range(15), pytest.param(range(15, 150), marks=SLOW)])
def test_trees_against_max_flow(seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 20))
        problem = Problem(spins(n, spin=rng.choice([0.5, 1], n).tolist()))
        wf = [
            convac(problem, channels=int(rng.integers(1, 9)), window=2),
            convac(problem, channels=int(rng.integers(1, 9)), window=4),
            ttn(problem, bond_dimension=2),
            mps(problem, bond_dimension=int(rng.integers(1, 9))),
            rac(problem, width=3, depth=2, site_dependent=True),
            cp(problem, rank=int(rng.integers(1, 99))),
        ][seed % 6]
        region, graph = random_region(rng, n), index_graph(wf)
        assert graph is not None
        found, want = capacity(wf, region), graph.min_cut(region)
        assert math.isclose(found.ln_upper, want.value, abs_tol=1e-9)
        assert graph.separates(found.cut, region)
        assert math.isclose(graph.cut_of(found.cut).value, want.value, abs_tol=1e-9)


def test_a_loop_is_no_tree() -> None:
    graph = index_graph(mps(Problem(spins(4)), bond_dimension=2, periodic=True))
    assert graph is not None
    with pytest.raises(ValueError, match="not a tree"):
        TreeCuts(graph, "b0").cuts(np.eye(4, dtype=bool))
    with pytest.raises(JobError, match="no dimension for"):
        IndexGraph({"s0": 2}, (("s0", "x"),), ("s0",))


# ---- what comes in ---------------------------------------------------------------


def test_boxes_see_what_they_should() -> None:
    """Light cones of a network of unknown inside, as the formula counts sites."""
    hook = light_cone_capacity((4, 4), (False, False), (2,) * 16, 1)
    assert math.isclose(hook(range(8)).ln_upper, 4 * math.log(2))
    assert hook(range(8)).cut in (
        tuple(f"s{i}" for i in r) for r in [range(4, 8), range(8, 12)]
    )
    hook = light_cone_capacity((12,), (True,), (2,) * 12, 2)
    assert math.isclose(hook(range(6)).ln_upper, 4 * math.log(2))
    # A boundary next to the end needs only the one site there.
    hook = light_cone_capacity((12,), (False,), (2,) * 12, 3)
    assert math.isclose(hook([0, 6, 7, 8, 9, 10]).ln_upper, 5 * math.log(2))
    # Three windows of the sum lie across, of one or two sites on the smaller side.
    hook = light_cone_capacity((12,), (False,), (2,) * 12, 3, pooling="sum")
    assert math.isclose(hook(range(6)).ln_upper, math.log(2 + 2 + 4 + 2))
    assert light_cone_capacity((6,), (True,), (2,) * 6, 9)([0, 1]).ln_upper == (
        pytest.approx(2 * math.log(2))
    )
    for keys in ({"reach": -1}, {"reach": (1, 1)}, {"reach": 1, "channels": 0}):
        with pytest.raises(JobError, match="expected"):
            light_cone_capacity((6,), (True,), (2,) * 6, **keys)
    with pytest.raises(JobError, match="not one site"):
        light_cone_capacity((5,), (True,), (2,) * 6, 1)


def test_regions() -> None:
    problem = Problem(spins(6))
    wf = convac(problem, channels=2)
    zero = Capacity(0.0, 0.0, 0.0, "trivial")
    assert capacity(wf, []) == capacity(wf, range(6)) == zero
    assert capacity(wf, np.array([2, 0])) == capacity(wf, {0, 2})
    for region, message in (
        ([0, 6], "site 6.*6 sites"),
        ([-1], "site -1.*from 0 to 5"),
        ([1, 3, 1], r"sites \[1\] more than once"),
        ([0.5], "0.5.*integers"),
        ([True], "True"),
        (3, "3.*collection"),
        ("01", "'0'"),
    ):
        with pytest.raises(JobError, match=message):
            capacity(wf, region)


def test_wave_functions_that_say_nothing() -> None:
    wf = convac(Problem(spins(4, spin=[0.5, 1, 0.5, 1])), channels=2)
    silent = wf._replace(capacity=None)
    assert index_graph(silent) is None
    with pytest.raises(JobError, match="local_dims"):
        capacity(silent, [0])
    found = capacity(silent, [0, 1], (2, 3, 2, 3))
    ln6 = pytest.approx(math.log(6))
    assert found == Capacity(ln6, ln6, 0.0, "trivial", ("s0", "s1"))
    # A hook of a user is checked and capped all the same.
    own = wf._replace(capacity=lambda region: Capacity(9.0, 8.0, 7.0, "max-flow"))
    assert capacity(own, [1], (2, 3, 2, 3)).ln_lower == pytest.approx(math.log(3))
    with pytest.raises(JobError, match="site 4"):
        capacity(own, [4], (2, 3, 2, 3))


@pytest.mark.slow
def test_speed() -> None:
    """All blocks of contiguous sites and 100 random ones of a large circuit."""
    rng = np.random.default_rng(0)
    wf = convac(Problem(spins(256)), channels=8)
    cuts = [range(k) for k in range(1, 256)] + [random_region(rng, 256)] * 100
    start = time.perf_counter()
    assert len([capacity(wf, region) for region in cuts]) == 355
    assert time.perf_counter() - start < 5
