"""What every registered ansatz must do; a new one is tested by being in ANSATZE.

The referee is log_psi itself: fast methods against full evaluation, scores against
automatic differentiation.
"""

import functools
import itertools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from ansatze import ANSATZE, symmetries
from vmc.base import Move, Moves, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.space import Spins, spins

N = 6
B = 5
#: Ansatze whose moves must not cost a full evaluation.
FAST = ("rbm", "jastrow")
#: Keys that keep a case small, where the defaults do not.
SMALL = {
    "convac": {"channels": 2},
    "cp": {"rank": 3},
    "ttn": {"bond_dimension": 2},
    "mps": {"bond_dimension": 2},
    "rac": {"width": 3},
    "overlapping_convac": {"channels": 2},
    "convnet": {"channels": 4},
    "cnn": {"channels": 2},
    "convnext": {"channels": 3, "depth": 1},
    "gcnn": {"features": 2},
    "vit": {"patch": 1, "d_model": 4, "heads": 2, "depth": 1},
    "arnn_dense": {"features": 2},
    "arnn_conv": {"features": 2},
    "arnn_rnn": {"features": 3},
    "product": {"parts": [{"name": "jastrow"}, {"name": "rbm", "alpha": 1}]},
    "sum": {"parts": [{"name": "jastrow"}, {"name": "rbm", "alpha": 1}]},
}
#: Ansatze that are even where the global spin flip is a symmetry.
EVEN = (
    *("rbm", "jastrow", "mlp", "product", "sum"),
    *("cnn", "convnext", "gcnn", "vit"),
    *("arnn_dense", "arnn_conv", "arnn_rnn"),
)
#: Ansatze that are invariant under translations, but only where a job names them.
ON_REQUEST = ("arnn_dense", "arnn_conv", "arnn_rnn")
#: Ansatze that are invariant under translations of a ring even if nobody asks.
INVARIANT = ("overlapping_convac", "cnn", "convnext", "vit")
#: Ansatze that exist only with a symmetry.
SYMMETRIC_ONLY = ("gcnn",)
#: Single precision, where amplitudes with signs may cancel and lose digits.
CANCELLING = {"cp": 2e-4}
#: Compiling takes most of the time here; this halves it and changes only rounding.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
TRANSLATIONS = np.array([np.roll(np.arange(N), -g) for g in range(N)])


class Case(NamedTuple):
    """One ansatz for one problem, with parameters of order one.

    Attributes:
        wf: the wave function with its functions jitted: compiled once per shape.
        raw: as the factory made it, to be used inside other transformations.
    """

    problem: Problem
    wf: WaveFunction
    raw: WaveFunction
    params: Params


def case_of(name: str, problem: Problem) -> Case:
    raw = ANSATZE[name](problem, **SMALL.get(name, {}))
    wf = raw._replace(**{f: quick_jit(getattr(raw, f)) for f in raw._fields[:-4]})
    return Case(problem, wf, raw, random_params(raw))


@functools.cache
def build(name: str, dtype: str, kind: str, precision: str = "float64") -> Case:
    symmetric = kind == "symmetric"
    problem = Problem(
        spins(N),
        dtype=dtype,
        precision=precision,
        # With and without biases, at no further case.
        spin_flip=symmetric,
        symmetry=TRANSLATIONS if symmetric else None,
        shape=(N,),
        periodic=(True,),
    )
    return case_of(name, problem)


def random_params(wf: WaveFunction) -> Params:
    """Generic numbers for every leaf: nothing about the start is tested with them."""
    rng = np.random.default_rng(8)

    def draw(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        re, im = 0.25 * rng.normal(size=(2, *shape.shape))
        is_complex = np.issubdtype(shape.dtype, np.complexfloating)
        return np.asarray(re + 1j * im if is_complex else re, shape.dtype)

    return jax.tree.map(draw, jax.eval_shape(wf.init, jax.random.key(0)))


#: Families of which the fast tier, too, compiles every variant.
THOROUGH = ("rbm", "jastrow", "mlp")
DTYPES = ("real", "complex")
#: Families that evaluate moves as cnn does, and read larger spins in the same way.
ALIKE = ("convnext", "gcnn", "vit")


def slow_unless(fast: bool) -> Any:
    return () if fast else pytest.mark.slow


def variant(*values: str) -> Any:
    """A case; the fast tier takes one variant of the other families."""
    usual = {"complex", plainest(values[0])}
    fast = values[0] in THOROUGH or usual.issuperset(values[1:])
    return pytest.param(values, id="-".join(values), marks=slow_unless(fast))


def kinds(name: str) -> tuple[str, ...]:
    """A family says itself whether it can be symmetric; that it is right is a test."""
    ring = Problem(spins(N), shape=(N,), periodic=(True,))
    honoured = "translations" in symmetries(name, ring, SMALL.get(name, {}))
    if name in SYMMETRIC_ONLY:
        return ("symmetric",)
    both = honoured or name in ON_REQUEST
    return ("plain", "symmetric") if both else ("plain",)


def plainest(name: str) -> str:
    """The kind without a symmetry, if there is one."""
    return kinds(name)[0]


NAMES = [(n, d, k) for n in ANSATZE for d in DTYPES for k in kinds(n)]
#: Starts are calibrated by the same code for all circuits: one of them is enough.
PLAIN = [
    pytest.param(
        *names,
        marks=slow_unless(names[0] in THOROUGH or names == ("convac", "complex")),
    )
    for names in itertools.product(ANSATZE, DTYPES)
]


@pytest.fixture(params=[variant(*names) for names in NAMES])
def case(request: pytest.FixtureRequest) -> Case:
    return build(*request.param)


def ring_table(kind: str) -> Moves:
    """Moves on the ring of N sites; "mixed" changes one, two or three of them."""
    i = np.arange(N)
    if kind == "flips":
        sites = i[:, None]
    elif kind == "exchanges":
        sites = np.stack([i, (i + 2) % N], axis=1)
    else:
        sites = np.stack([(i + 3) % N, i, (i + 1) % N], axis=1)
        sites[0, 1:] = sites[3, 2] = sites[4, 1] = N
    shift = (sites < N).astype(np.int8)
    return Moves(sites.astype(np.int32), shift, exchange=kind == "exchanges")


def random_sigma(kind: str) -> np.ndarray:
    rng = np.random.default_rng(21)
    if kind == "exchanges":
        half = np.repeat([1, -1], N // 2)
        return np.array([rng.permutation(half) for _ in range(B)], np.int8)
    return rng.choice(np.array([-1, 1], np.int8), size=(B, N))


def moved(sigma: np.ndarray, moves: Moves, dims: tuple[int, ...]) -> np.ndarray:
    """Configurations after every move, by the definition: (K, B, N)."""
    out = np.repeat(sigma[None], moves.n_moves, axis=0)
    for m in range(moves.n_moves):
        for site, q in zip(moves.sites[m], moves.shift[m]):
            if site < len(dims):
                d = dims[site]
                index = ((d - 1 - sigma[:, site].astype(int)) // 2 + int(q)) % d
                out[m, :, site] = d - 1 - 2 * index
    return out


def specified(sigma: np.ndarray, moves: Moves) -> np.ndarray:
    """Where ratios are specified: an exchange needs antiparallel spins, (K, B)."""
    if not moves.exchange:
        return np.ones((moves.n_moves, len(sigma)), bool)
    pair = sigma.T[moves.sites]
    return pair[:, 0] != pair[:, 1]


def on_host(tree: Any) -> Any:
    """As NumPy arrays: indexing those compiles nothing."""
    return jax.tree.map(np.asarray, tree)


def same_logs(got: Any, want: Any, tolerance: float) -> None:
    """Equal up to multiples of 2 pi i."""
    gap = np.asarray(got) - np.asarray(want)
    turns = 2j * np.pi * np.round(gap.imag / (2 * np.pi)) if np.iscomplexobj(gap) else 0
    np.testing.assert_allclose(gap - turns, 0, atol=tolerance)


def check_ratios(
    case: Case, cache: Any, sigma: np.ndarray, moves: Moves, tolerance: float
) -> None:
    """log_ratios and try_move, from a given cache, against full evaluation."""
    wf, params = case.wf, case.params
    after = moved(sigma, moves, case.problem.space.local_dims)
    rows = np.concatenate([sigma[None], after]).reshape(-1, sigma.shape[1])
    full = np.asarray(wf.log_psi(params, rows)).reshape(-1, len(sigma))
    full = full[1:] - full[:1]
    # Every third one is not asked for.
    shape = (moves.n_moves, len(sigma))
    ok = specified(sigma, moves)
    wanted = ok & (np.arange(ok.size).reshape(shape) % 3 > 0)
    ratios = np.asarray(wf.log_ratios(params, cache, sigma, moves, wanted))
    tried = np.array(
        [wf.try_move(params, cache, sigma, moves[m])[0] for m in range(moves.n_moves)]
    )
    assert ratios.shape == tried.shape == full.shape
    assert ratios.dtype == full.dtype and tried.dtype == full.real.dtype
    assert np.all(np.isfinite(tried)) and np.all(np.isfinite(ratios))
    same_logs(ratios[wanted], full[wanted], tolerance)
    np.testing.assert_allclose(tried[ok], 2 * full.real[ok], atol=2 * tolerance)


def moves_of_cases() -> list[Any]:
    """Moves know nothing of the symmetry: it is tested with one kind of them."""
    out = []
    for names in NAMES:
        base = variant(*names)
        for kind in ("mixed", "flips", "exchanges"):
            fast = not base.marks and (names[0] in THOROUGH or kind == "mixed")
            fast = fast and names[0] not in ALIKE
            if kind == "mixed" or names[2] == plainest(names[0]):
                marks = slow_unless(fast)
                out.append(
                    pytest.param(names, kind, id=f"{base.id}-{kind}", marks=marks)
                )
    return out


@pytest.mark.parametrize(("case", "kind"), moves_of_cases(), indirect=["case"])
def test_moves(case: Case, kind: str) -> None:
    """At random walkers, and after 200 moves made by try_move and commit."""
    wf, raw, params, moves = case.wf, case.raw, case.params, ring_table(kind)
    rng = np.random.default_rng(4)
    sequence = rng.integers(0, N, 200)
    coins = rng.random((200, B)) < 0.6
    start = random_sigma(kind)
    cache = wf.cache(params, start)
    check_ratios(case, cache, start, moves, 1e-11)

    @quick_jit
    def walk(params: Params, sigma: Array, cache: Any, moves: Moves) -> tuple:
        def step(carry: tuple, x: tuple) -> tuple:
            sigma, cache = carry
            move, accept = moves[x[0]], x[1]
            if moves.exchange:
                pair = sigma[:, move.sites]
                accept = accept & (pair[:, 0] != pair[:, 1])
            _, pending = raw.try_move(params, cache, sigma, move)
            hit = jnp.isin(jnp.arange(N), move.sites)
            sigma = jnp.where(accept[:, None] & hit[None, :], -sigma, sigma)
            return (sigma, raw.commit(cache, pending, accept)), accept

        return lax.scan(step, (sigma, cache), (sequence, coins))

    (end, cache), accepted = walk(params, start, cache, moves)
    end, accepted = np.asarray(end), np.asarray(accepted)
    assert 0.2 < np.mean(accepted) < 0.7
    assert len(np.unique(end, axis=0)) > 1 and np.any(end != start)
    check_ratios(case, cache, end, moves, 1e-10)


def dense(factors: tuple[np.ndarray, ...]) -> np.ndarray:
    """Rows of one leaf from its factors, one outer product at a time."""
    rows = []
    for b, g in itertools.product(*map(range, factors[0].shape[:2])):
        vectors = [f[b, g] for f in factors]
        rows.append(functools.reduce(np.multiply.outer, vectors).reshape(-1))
    return np.array(rows).reshape(factors[0].shape[0], -1)


def test_scores_are_the_jacobian(case: Case) -> None:
    wf, raw, params = case.wf, case.raw, case.params
    sigma = random_sigma("flips")
    leaves, tree = jax.tree.flatten(params)

    @quick_jit
    def jacobian(params: Params) -> Any:
        if np.iscomplexobj(leaves[0]):
            return jax.jacrev(lambda p: raw.log_psi(p, sigma), holomorphic=True)(params)
        real = jax.jacrev(lambda p: raw.log_psi(p, sigma).real)(params)
        if wf.range == "positive":
            return real
        imag = jax.jacrev(lambda p: raw.log_psi(p, sigma).imag)(params)
        return jax.tree.map(lax.complex, real, imag)

    scores = tree.flatten_up_to(on_host(wf.scores(params, sigma)))
    wanted = jax.tree.leaves(on_host(jacobian(params)))
    for leaf, factors, want in zip(leaves, scores, wanted, strict=True):
        assert isinstance(factors, tuple) and len({f.shape[:2] for f in factors}) == 1
        rows = dense(factors)
        assert rows.shape == (B, leaf.size)
        assert rows.dtype in (want.dtype, want.real.dtype)
        np.testing.assert_allclose(rows, want.reshape(B, -1), atol=1e-9)


@pytest.mark.parametrize("name", ANSATZE)
def test_symmetries_are_honoured_or_refused(name: str) -> None:
    """What `symmetries` leaves out is refused, and nothing else."""
    problem = Problem(spins(N), dtype="real", shape=(N,), periodic=(True,))
    keys = SMALL.get(name, {})
    honoured = symmetries(name, problem, keys)
    assert honoured <= {"translations", "spin_flip"}
    assert ("spin_flip" in honoured) == (name in EVEN)
    problem = problem._replace(symmetry=TRANSLATIONS)
    if "translations" in honoured or name in ON_REQUEST:
        ANSATZE[name](problem, **keys)
    else:
        with pytest.raises(JobError, match='symmetry = "none"'):
            ANSATZE[name](problem, **keys)


@pytest.mark.parametrize(("name", "dtype"), PLAIN)
def test_start(name: str, dtype: str) -> None:
    wf = build(name, dtype, plainest(name)).wf
    first, again, other = (on_host(wf.init(jax.random.key(s))) for s in (3, 3, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(other))
    assert any(np.any(x != y) for x, y in pairs)
    kinds = {x.dtype.name for x in jax.tree.leaves(first)}
    assert kinds in ({"float64"}, {"complex128"})
    log_psi = np.asarray(wf.log_psi(first, random_sigma("flips")))
    assert 0 < np.std(log_psi) < 1, "the start is flat, or far from uniform"


def test_output_symmetry_and_spin_flip(
    case: Case, request: pytest.FixtureRequest
) -> None:
    wf, problem = case.wf, case.problem
    sigma = random_sigma("flips")
    images = [sigma, *(sigma[:, perm] for perm in TRANSLATIONS[1:]), -sigma]
    symmetric = problem.symmetry is not None
    out = np.asarray(wf.log_psi(case.params, np.concatenate(images)))
    assert (wf.range == "complex") == (problem.dtype == "complex")
    assert out.shape == ((N + 1) * B,)
    assert out.dtype.name == ("float64" if wf.range == "positive" else "complex128")
    ratios = np.exp(out.reshape(-1, B) - out[None, :B])
    *translated, flipped = [np.allclose(r, 1, atol=1e-12) for r in ratios]
    name = request.node.callspec.params["case"][0]
    # Without symmetry generic parameters break every one of them.
    invariant = symmetric or name in INVARIANT
    assert translated == [True] + [invariant] * (N - 1)
    if not symmetric or name in EVEN:
        assert flipped == problem.spin_flip


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(
            *p.values, marks=slow_unless(n in (*THOROUGH, "convac") and not p.marks)
        )
        for p in PLAIN
        for n in p.values[:1]
    ],
)
def test_float32_is_float32_throughout(name: str, dtype: str) -> None:
    kind = plainest(name)
    large, small = (build(name, dtype, kind, p) for p in ("float64", "float32"))
    params = jax.tree.map(lambda x, y: x.astype(y.dtype), large.params, small.params)
    sigma, moves = random_sigma("mixed"), ring_table("mixed")

    def everything(wf: WaveFunction, params: Params) -> tuple:
        cache = wf.cache(params, sigma)
        ratio, pending = wf.try_move(params, cache, sigma, moves[0])
        cache = wf.commit(cache, pending, np.zeros(B, bool))
        ratios = wf.log_ratios(params, cache, sigma, moves)
        return ratios, ratio, wf.log_psi(params, sigma), wf.scores(params, sigma)

    text = str(jax.make_jaxpr(functools.partial(everything, small.raw))(params))
    # Scalars such as the limits of a clip may be written as 64-bit numbers.
    assert re.findall(r"(?:f64|c128)\[\d", text) == []
    want = on_host(everything(large.wf, large.params))
    got = on_host(everything(small.wf, params))
    assert {x.dtype.name for x in jax.tree.leaves(got)} <= {"float32", "complex64"}
    tolerance = CANCELLING.get(name, 2e-5)
    same_logs(got[0], want[0], tolerance)
    same_logs(got[2], want[2], tolerance)
    close = functools.partial(
        np.testing.assert_allclose, atol=tolerance, rtol=tolerance
    )
    jax.tree.map(close, (got[1], got[3]), (want[1], want[3]))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=slow_unless(n not in ALIKE)) for n in ANSATZE]
)
def test_larger_spins(name: str) -> None:
    """Right for any local dimensions, or refused by name."""
    problem = Problem(spins(4, spin=[1, 0.5, 1.5, 0.5]), dtype="complex")
    try:
        case = case_of(name, problem)
    except JobError as error:
        assert "spin" in str(error)
        return
    sites = np.array([[0, 4], [0, 4], [1, 4], [2, 0], [1, 2], [3, 0]], np.int32)
    shift = np.array([[1, 0], [2, 0], [1, 0], [3, 2], [1, 2], [1, 2]], np.int8)
    sigma = Spins.all_states(problem.space)[::7]
    cache = case.wf.cache(case.params, sigma)
    check_ratios(case, cache, sigma, Moves(sites, shift), 1e-11)


@pytest.mark.parametrize("dtype", ["real", "complex"])
@pytest.mark.parametrize("name", FAST)
def test_moves_cost_no_full_evaluation(name: str, dtype: str) -> None:
    """Twice the sites: a move costs twice, a full evaluation four times as much."""
    fast, full = [], []
    for n in (128, 256):
        wf = ANSATZE[name](Problem(spins(n), dtype=dtype, spin_flip=True))
        sigma = jax.ShapeDtypeStruct((16, n), jnp.int8)
        params = jax.eval_shape(wf.init, jax.random.key(0))
        cache = jax.eval_shape(wf.cache, params, sigma)
        site = jax.ShapeDtypeStruct((1,), jnp.int32)

        def one(params, cache, sigma, site, wf=wf):
            move = Move(site, np.ones(1, np.int8))
            ratio, pending = wf.try_move(params, cache, sigma, move)
            return wf.commit(cache, pending, ratio > 0)

        fast.append(flops(one, params, cache, sigma, site))
        full.append(flops(wf.log_psi, params, sigma))
    assert fast[1] < 2.5 * fast[0]
    assert full[1] > 3 * full[0]
    assert fast[1] < full[1] / 4


def flops(fn: Any, *shapes: Any) -> float:
    cost = jax.jit(fn).lower(*shapes).compile().cost_analysis()
    assert cost is not None
    return cost["flops"]
