"""Light cones of convolutional networks: moves, caches, and where they are followed."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze import cone_moves
from ansatze.cone_moves import ConeCache
from ansatze.cones import Cones
from ansatze.deep_inputs import Cells
from ansatze.resnet import cnn
from ansatze.scaled import LOG_ZERO
from ansatze.shared_weights import windows
from tests.ansatze.cases import case, quick_jit
from tests.contracts import test_ansatze as contract
from vmc.base import Moves, Problem, WaveFunction
from vmc.space import spins

B = 5


def grid(shape: tuple[int, ...], *periodic: bool, **keys: Any) -> Problem:
    """Spins on a grid; ``n_basis`` per cell, of ``spin``."""
    n_sites = math.prod(shape) * keys.pop("n_basis", 1)
    space = spins(n_sites, spin=keys.pop("spin", 0.5))
    return Problem(space, shape=shape, periodic=periodic, **keys)


def table_of(problem: Problem, kind: str) -> Moves:
    """Flips, exchanges near and far, or up to three sites: some padded, all shifts."""
    n, dims = problem.space.n_sites, problem.space.local_dims
    if kind == "flips":
        sites = np.array([[0], [n // 2], [n - 1]], np.int32)
    elif kind == "exchanges":
        sites = np.array([[0, 1], [2, n - 3], [n - 1, 0], [7, 5]], np.int32)
    else:
        rows = [[0, 1, 2], [n - 1, 4, n // 2], [3, n, n], [n, 6, n], [5, n, n - 2]]
        sites = np.array(rows, np.int32)
    shift = np.where(sites < n, 1 + np.arange(sites.shape[1]) % (dims[0] - 1), 0)
    return Moves(sites, shift.astype(np.int8), exchange=kind == "exchanges")


def start_of(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    dims = np.array(problem.space.local_dims)
    index = rng.integers(0, dims, size=(B, len(dims)))
    return (dims - 1 - 2 * index).astype(np.int8)


def follow(
    monkeypatch: pytest.MonkeyPatch,
    problem: Problem,
    *,
    cones: bool = True,
    **keys: Any,
) -> contract.Case:
    """A network that follows its cones, or none, whatever its size."""
    monkeypatch.setattr(cone_moves, "WORTHWHILE", 0 if cones else math.inf)
    return case(cnn, problem, **keys)


def check_moves(one: contract.Case, kinds: tuple[str, ...], tolerance: float) -> None:
    """Against full evaluation, at the start and after 100 moves with random accepts."""
    problem, wf, params = one.problem, one.wf, one.params
    rng = np.random.default_rng(7)
    sigma = start_of(problem, rng)
    for kind in kinds:
        moves = table_of(problem, kind)
        cache = wf.cache(params, sigma)
        assert isinstance(cache, ConeCache), "no light cone is followed"
        contract.check_ratios(one, cache, sigma, moves, tolerance)
        accepted = np.zeros(B, int)
        for m in rng.integers(0, moves.n_moves, 100):
            accept = rng.random(B) < 0.5
            accept = accept & contract.specified(sigma, moves)[m]
            _, pending = wf.try_move(params, cache, sigma, moves[m])
            cache = wf.commit(cache, pending, accept)
            row = Moves(moves.sites[m : m + 1], moves.shift[m : m + 1], moves.exchange)
            after = contract.moved(sigma, row, problem.space.local_dims)[0]
            sigma = np.where(accept[:, None], after, sigma)
            accepted += accept
        assert np.sum(accepted > 5) > 2
        fresh = wf.cache(params, sigma)
        for got, want in zip(jax.tree.leaves(cache), jax.tree.leaves(fresh)):
            np.testing.assert_allclose(got, want, atol=tolerance)
        contract.check_ratios(one, cache, sigma, moves, tolerance)


RING = grid((18,), True, dtype="real", spin_flip=True)
PI = np.array([np.roll(np.arange(18), -g) for g in range(18)])
ALL = ("flips", "exchanges", "mixed")
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("problem", "keys", "kinds"),
    [
        # Channels of both signs; near and far pairs take branches of their own.
        (grid((16,), False), {"channels": 3, "kernel_size": 3}, ("exchanges",)),
        (
            grid((5, 4), True, False, spin_flip=True),
            {"channels": 2, "kernel_size": 2, "readout": "product", "uniform": False},
            ("mixed",),
        ),
        pytest.param(RING, {"channels": 4}, ALL, marks=SLOW),
        pytest.param(
            RING._replace(symmetry=PI, characters=(-1.0) ** np.arange(18)),
            {"channels": 2, "kernel_size": 3},
            ALL,
            marks=SLOW,
        ),
        pytest.param(
            RING._replace(
                symmetry=PI,
                dtype="complex",
                characters=np.exp(2j * np.pi * np.arange(18) / 18),
            ),
            {"channels": 4, "kernel_size": 3, "depth": 2, "layers": 2},
            ALL,
            marks=SLOW,
        ),
        pytest.param(
            grid((12,), True, n_basis=2, spin=1),
            {"channels": 2, "kernel_size": 4, "layers": 3, "depth": 0},
            ("flips", "mixed"),
            marks=SLOW,
        ),
        pytest.param(
            grid((5, 3), False, True, n_basis=3, dtype="real"),
            {"channels": 2, "kernel_size": 3, "uniform": False},
            ALL,
            marks=SLOW,
        ),
        pytest.param(
            grid((3, 4, 3), True, False, True, spin=1.5),
            {"channels": 2, "kernel_size": 2, "readout": "product", "depth": 2},
            ("flips", "mixed"),
            marks=SLOW,
        ),
        pytest.param(
            grid((20,), False, dtype="real"),
            {"channels": 2, "kernel_size": 3, "layers": 1, "depth": 0},
            ALL,
            marks=SLOW,
        ),
    ],
)
def test_moves(
    monkeypatch: pytest.MonkeyPatch,
    problem: Problem,
    keys: dict[str, Any],
    kinds: tuple[str, ...],
) -> None:
    # Characters make terms cancel, and logarithms of what is left lose digits.
    tolerance = 1e-12 if problem.characters is None else 1e-10
    check_moves(follow(monkeypatch, problem, **keys), kinds, tolerance)


def by_walking(cells: Cells, kernel: tuple[int, ...], n_layers: int) -> list[set[int]]:
    """Positions of the last layer that depend on each cell, through the windows."""
    table = windows(cells.shape, cells.periodic, kernel).table
    out = [{cell} for cell in range(cells.n_cells)]
    for _ in range(n_layers):
        out = [{int(p) for p in np.nonzero(np.isin(table, list(s)))[1]} for s in out]
    return out


@pytest.mark.parametrize(
    ("shape", "periodic", "kernel"),
    [
        ((9,), (True,), (4,)),
        ((9,), (False,), (4,)),
        ((5, 3), (False, True), (2, 3)),
        ((3, 2, 4), (True, False, False), (2, 1, 3)),
    ],
)
def test_cones_are_what_windows_reach(
    shape: tuple[int, ...], periodic: tuple[bool, ...], kernel: tuple[int, ...]
) -> None:
    cells = Cells(shape, periodic, 2)
    cones = Cones(cells, kernel, 3)
    nowhere = {cells.n_cells}
    for layer, table in enumerate(cones.tables):
        assert set(table[-1]) == nowhere
        wanted = by_walking(cells, kernel, layer + 1)
        for site, row in enumerate(table[:-1]):
            inside = [p for p in row.tolist() if p not in nowhere]
            assert len(inside) == len(set(inside)) <= cones.sizes[layer]
            assert set(inside) == wanted[site // 2]
    sites = np.array([[0, 1, 2], [3, 7, 2 * cells.n_cells], [9, 4, 17]], np.int32)
    rows = jnp.asarray(sites)
    every = [cones.at(rows, n, most) for n, most in enumerate(cones.most(3))]
    wanted = by_walking(cells, kernel, 3)
    for move, row in zip(sites, np.asarray(every[-1])):
        union = set.union(*(wanted[s // 2] for s in move if s < 2 * cells.n_cells))
        filled = [cells.n_cells] * (len(row) - len(union))
        assert row.tolist() == sorted(union) + filled
    counts = [np.sum(np.asarray(x) < cells.n_cells, axis=1).max() for x in every]
    assert cones.fit(rows, tuple(counts))
    assert not cones.fit(rows, (*counts[:-1], counts[-1] - 1))


@pytest.mark.parametrize(
    ("problem", "keys", "cones"),
    [
        (grid((100,), True), {}, True),
        (grid((100,), True, spin_flip=True), {}, True),
        # psi is made of psi(sigma) and psi(-sigma).
        (grid((100,), True, spin_flip=True, flip_character=-1), {}, False),
        (grid((100,), True), {"depth": 6}, False),
        (grid((20, 20), True, False), {"kernel_size": 3}, True),
        (grid((4, 4), True, True), {"kernel_size": 3}, False),
        (grid((8,), True), {}, False),
        (Problem(spins(80)), {}, True),
    ],
)
def test_where_cones_are_followed(
    problem: Problem, keys: dict[str, Any], cones: bool
) -> None:
    wf = cnn(problem, **keys)
    sigma = jax.ShapeDtypeStruct((3, problem.space.n_sites), jnp.int8)
    params = jax.eval_shape(wf.init, jax.random.key(0))
    cache = jax.eval_shape(wf.cache, params, sigma)
    assert isinstance(cache, ConeCache) == cones
    assert cones or cache.shape == (3,)


@pytest.mark.parametrize("dtype", ["real", "complex"])
def test_single_precision(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    problem = grid((18,), True, dtype=dtype, precision="float32")
    monkeypatch.setattr(cone_moves, "WORTHWHILE", 0)
    wf = cnn(problem, channels=2, kernel_size=3)
    sigma = jax.ShapeDtypeStruct((3, 18), jnp.int8)
    params = jax.eval_shape(wf.init, jax.random.key(0))
    moves = table_of(problem, "exchanges")
    cache = jax.eval_shape(wf.cache, params, sigma)
    ratio, pending = jax.eval_shape(wf.try_move, params, cache, sigma, moves[0])
    after = jax.eval_shape(
        wf.commit, cache, pending, jax.ShapeDtypeStruct((3,), np.bool_)
    )
    ratios = jax.eval_shape(wf.log_ratios, params, cache, sigma, moves)
    floats = jax.tree.leaves((cache, pending.new, after, ratio, ratios))
    found = {x.dtype.name for x in floats}
    assert found == ({"float32"} if dtype == "real" else {"float32", "complex64"})
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(
        lambda x: x.shape, cache
    )


def derivatives(wf: WaveFunction, log_psi: Any, params: Any, sigma: Any) -> Any:
    @quick_jit
    def both(params: Any) -> Any:
        out, pull = jax.vjp(lambda p: log_psi(wf, p, sigma), params)
        return out, pull(jnp.exp(0.3j * jnp.arange(B)).astype(out.dtype))[0]

    return both(params)


def test_the_cached_amplitude_and_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients by the parts of positions, in chunks of walkers too."""
    problem, keys = grid((16,), False), {"channels": 8, "kernel_size": 3}
    one = follow(monkeypatch, problem, **keys)
    plain = follow(monkeypatch, problem, cones=False, **keys)
    sigma = start_of(problem, np.random.default_rng(3))
    rows = one.params, sigma
    full = derivatives(plain.raw, lambda wf, *x: wf.log_psi(*x), *rows)
    cached = derivatives(one.raw, lambda wf, *x: wf.cache(*x).log_psi, *rows)
    for got, want in zip(jax.tree.leaves(cached), jax.tree.leaves(full)):
        np.testing.assert_allclose(got, want, atol=1e-12)
    for got, want in zip(*(jax.tree.leaves(x.wf.scores(*rows)) for x in (one, plain))):
        np.testing.assert_array_equal(got, want)
    whole = one.wf.cache(*rows)
    monkeypatch.setattr(cone_moves, "default_budget", lambda: 20_000)
    program = jax.make_jaxpr(lambda *x: one.raw.cache(*x))(*rows)
    assert "scan" in str(program), "one piece only"
    pieces = quick_jit(lambda *x: one.raw.cache(*x))(*rows)
    for got, want in zip(jax.tree.leaves(pieces), jax.tree.leaves(whole)):
        np.testing.assert_allclose(got, want, atol=1e-13)


def test_zeros_by_symmetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the momentum forbids a configuration, before or after a move."""
    problem = RING._replace(symmetry=PI, characters=(-1.0) ** np.arange(18))
    one = follow(monkeypatch, problem, channels=2, kernel_size=3)
    wf, params = one.wf, one.params
    alike = np.ones((1, 18), np.int8)
    flipped = alike * np.where(np.arange(18) == 4, -1, 1).astype(np.int8)
    moves = Moves(np.array([[4], [9]], np.int32), np.ones((2, 1), np.int8))
    cache = wf.cache(params, alike)
    assert cache.log_psi.real[0] == LOG_ZERO
    assert np.all(wf.log_ratios(params, cache, alike, moves).real == LOG_ZERO)
    cache = wf.cache(params, flipped)
    ratios = np.asarray(wf.log_ratios(params, cache, flipped, moves).real)[:, 0]
    assert ratios[0] < 0.9 * LOG_ZERO and abs(ratios[1]) < 10
    _, pending = wf.try_move(params, cache, flipped, moves[0])
    cache = wf.commit(cache, pending, np.array([True]))
    assert cache.log_psi.real[0] == LOG_ZERO
