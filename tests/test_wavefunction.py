"""Flax modules and plain functions as wave functions."""

import functools
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from vmc import chunking, wavefunction
from vmc.base import WALKERS, Move, Moves, Problem, WaveFunction
from vmc.errors import JobError
from vmc.space import spins
from vmc.wavefunction import apply_move, from_functions, from_module

N = 4
PROBLEM = Problem(spins(N))
SIGMA = spins(N).all_states()[:7]
KEY = jax.random.key(5)


def log_cosh(z: Array) -> Array:
    return jnp.log(jnp.cosh(z))


class Net(nnx.Module):
    """A positive wave function."""

    def __init__(self, n_sites: int, width: int = 3, *, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(n_sites, width, rngs=rngs)

    def __call__(self, sigma: Array) -> Array:
        return log_cosh(self.dense(sigma)).sum(axis=1)


class LinenNet(nn.Module):
    """The same in linen."""

    width: int = 3

    @nn.compact
    def __call__(self, sigma: Array) -> Array:
        return log_cosh(nn.Dense(self.width, name="dense")(sigma)).sum(axis=1)


class ComplexNet(nnx.Module):
    """Complex weights; ``head`` decides whether log psi is holomorphic in them."""

    def __init__(self, head: str, *, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.normal(0.2)
        self.dense = nnx.Linear(
            N, 3, use_bias=False, param_dtype=complex, kernel_init=init, rngs=rngs
        )
        self.shift = nnx.Param(jnp.zeros(3, float if head == "mixed" else complex))
        self.head = head

    def __call__(self, sigma: Array) -> Array:
        z = self.dense(sigma) + self.shift[...][None, :]
        if self.head == "real":
            return jnp.sum(jnp.abs(z), axis=1)
        if self.head == "kink":
            # Holomorphic almost everywhere on either side of Re z = 0 only.
            z = jnp.where(z.real > 0, z, -jnp.conj(z))
        return jnp.sum(log_cosh(z), axis=1)


def same(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=tolerance)
    jax.tree.map(close, got, want)


def jitted(wf: WaveFunction) -> WaveFunction:
    """Every function compiled as one: eager operations compile one by one."""
    return wf._replace(**{name: jax.jit(getattr(wf, name)) for name in wf._fields[:-4]})


MODULES = {
    "nnx class": (Net, {"width": 3}),
    "nnx instance": (Net(N, 3, rngs=nnx.Rngs(5)), {}),
    "linen class": (LinenNet, {"width": 3}),
    "linen instance": (LinenNet(3), {}),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_a_positive_wave_function(name: str) -> None:
    module, keys = MODULES[name]
    wf = jitted(from_module(module, PROBLEM, **keys))
    params, again = wf.init(KEY), wf.init(KEY)
    assert {k: x.shape for k, x in params.items()} == {
        "dense.kernel": (N, 3),
        "dense.bias": (3,),
    }
    assert {x.dtype.name for x in params.values()} == {"float64"}
    same(params, again, 0)
    kernel, bias = (np.asarray(params[f"dense.{x}"]) for x in ("kernel", "bias"))
    want = np.log(np.cosh(SIGMA @ kernel + bias[None, :]))
    same(wf.log_psi(params, SIGMA), want.sum(axis=1))
    assert wf.range == "positive" and wf.exact is None
    if "instance" in name and "nnx" in name:
        # The parameters are those of the instance, and not its own buffers.
        same(params["dense.kernel"], module.dense.kernel[...], 0)
        jax.tree.map(lambda x: x.delete(), params)
        same(wf.init(KEY), again, 0)


@pytest.mark.parametrize("head", ["holomorphic", "mixed", "kink", "real"])
def test_complex_parameters(head: str) -> None:
    """Complex only where log psi is holomorphic; nobody needs to say so."""
    wf = from_module(ComplexNet, PROBLEM, head=head)
    params = wf.init(KEY)
    kinds = {x.dtype.name for x in jax.tree.leaves(params)}
    assert kinds == ({"complex128"} if head == "holomorphic" else {"float64"})
    assert wf.range == ("positive" if head == "real" else "complex")
    if head == "mixed":
        assert params["shift"].shape == (3,)
    if head != "holomorphic":
        assert set(params["dense.kernel"]) == {"re", "im"}
    # Every leaf ends in an axis of three.
    ramp = 0.1 * np.arange(1, 4)
    params = jax.tree.map(lambda x: np.asarray(x) + ramp, params)

    def parts(p: Any) -> tuple[Array, Array]:
        out = wf.log_psi(p, SIGMA)
        return out.real, out.imag

    if head == "holomorphic":
        slope = jax.jacrev(lambda p: wf.log_psi(p, SIGMA), holomorphic=True)
        want = jax.jit(slope)(params)
    else:
        real, imag = jax.jit(jax.jacrev(parts))(params)
        want = real if head == "real" else jax.tree.map(lax.complex, real, imag)
    want = jax.tree.map(lambda x: (x.reshape(len(SIGMA), 1, -1),), want)
    same(jax.jit(wf.scores)(params, SIGMA), want)


class FastNet(nnx.Module):
    """log psi = sum_i a_i sigma_i with all fast methods; for single flips."""

    def __init__(self, n_sites: int) -> None:
        self.a = nnx.Param(jnp.arange(1.0, n_sites + 1))

    def __call__(self, sigma: Array) -> Array:
        return sigma @ self.a[...]

    def cache(self, sigma: Array) -> Array:
        return -2 * sigma.T * self.a[...][:, None]

    def log_ratios(self, cache: Array, sigma: Array, moves: Moves) -> Array:
        return cache[moves.sites[:, 0]]

    def try_move(self, cache: Array, sigma: Array, move: Move) -> tuple:
        return 2 * cache[move.sites[0]], move.sites[0]

    @staticmethod
    def commit(cache: Array, pending: Array, accept: Array) -> Array:
        return cache.at[pending].mul(jnp.where(accept, -1, 1))

    def scores(self, sigma: Array) -> dict:
        # A mark: twice the truth, to see that it is used.
        return {"a": (2.0 * sigma[:, None, :],)}


class FastLinen(nn.Module):
    """The same in linen, without scores."""

    def setup(self) -> None:
        self.a = self.param("a", lambda key: jnp.arange(1.0, N + 1))

    def __call__(self, sigma: Array) -> Array:
        return sigma @ self.a

    def cache(self, sigma: Array) -> Array:
        return -2 * sigma.T * self.a[:, None]

    def log_ratios(self, cache: Array, sigma: Array, moves: Moves) -> Array:
        return cache[moves.sites[:, 0]]

    def try_move(self, cache: Array, sigma: Array, move: Move) -> tuple:
        return 2 * cache[move.sites[0]], move.sites[0]

    commit = staticmethod(FastNet.commit)


@pytest.mark.parametrize("module", [FastNet, FastLinen])
def test_fast_methods_are_used(module: type) -> None:
    wf = jitted(from_module(module, PROBLEM))
    params = {"a": np.arange(1.0, N + 1)}
    same(wf.init(KEY), params, 0)
    moves = Moves(np.arange(N, dtype=np.int32)[:, None], np.ones((N, 1), np.int8))
    slow_wf = from_functions(wf.init, wf.log_psi, problem=PROBLEM, range="positive")
    plain = jitted(slow_wf)
    cache, slow = wf.cache(params, SIGMA), plain.cache(params, SIGMA)
    assert cache.shape == (N, len(SIGMA)), "the module's own cache is used"
    same(
        wf.log_ratios(params, cache, SIGMA, moves),
        plain.log_ratios(params, slow, SIGMA, moves),
    )
    accept = np.arange(len(SIGMA)) % 2 == 0
    ratio, pending = wf.try_move(params, cache, SIGMA, moves[1])
    same(ratio, plain.try_move(params, slow, SIGMA, moves[1])[0])
    after = np.where(accept[:, None], apply_move(SIGMA, moves[1], (2,) * N), SIGMA)
    same(wf.commit(cache, pending, accept), wf.cache(params, after))
    factor = 2 if module is FastNet else 1
    same(wf.scores(params, SIGMA)["a"][0][:, 0], factor * SIGMA.astype(float))


class Table(nnx.Module):
    """Holds plain arrays, NumPy's and JAX's, as constants."""

    def __init__(self, n_sites: int, *, rngs: nnx.Rngs) -> None:
        self.neighbour = np.roll(np.arange(n_sites), 1)
        self.weight = jnp.linspace(0.0, 1.0, n_sites)
        self.w = nnx.Param(jax.random.normal(rngs.params(), (n_sites,)))

    def __call__(self, sigma: Array) -> Array:
        return (sigma * sigma[:, self.neighbour] * self.weight[None, :]) @ self.w[...]


@pytest.mark.parametrize("module", [Table, Table(N, rngs=nnx.Rngs(0))])
def test_plain_arrays_are_constants(module: Any) -> None:
    wf = from_module(module, PROBLEM)
    params = jax.jit(wf.init)(KEY)
    assert list(params) == ["w"]
    bonds = SIGMA * np.roll(SIGMA, 1, axis=1) * np.linspace(0, 1, N)
    same(wf.log_psi(params, SIGMA), bonds @ params["w"])


class Broken(nnx.Module):
    """One fault at a time."""

    def __init__(self, fault: str, *, rngs: nnx.Rngs) -> None:
        self.fault = fault
        self.w = nnx.Param(jnp.ones(N, int if fault == "integer" else float))
        if fault == "batch norm":
            self.norm = nnx.BatchNorm(N, rngs=rngs)
        if fault == "dropout":
            self.drop = nnx.Dropout(0.5, rngs=rngs)
        if fault == "random constant":
            self.phases = jax.random.normal(rngs.params(), (N,))

    def __call__(self, sigma: Array) -> Array:
        if self.fault == "per site":
            return sigma * self.w[...][None, :]
        if self.fault == "scalar":
            return jnp.sum(sigma @ self.w[...])
        if self.fault == "single":
            return (sigma @ self.w[...]).astype(jnp.float32)
        if self.fault == "crash":
            return sigma @ jnp.ones(N + 1)
        return sigma @ self.w[...]


class LinenBroken(nn.Module):
    fault: str

    @nn.compact
    def __call__(self, sigma: Array) -> Array:
        x = nn.Dense(2)(sigma)
        if self.fault == "batch norm":
            x = nn.BatchNorm(use_running_average=False)(x)
        if self.fault == "dropout":
            x = nn.Dropout(0.5, deterministic=False)(x)
        return x.sum(axis=1)


class HalfFast(Net):
    def cache(self, sigma: Array) -> Array:
        return sigma


class BoundCommit(FastNet):
    def commit(self, cache: Array, pending: Array, accept: Array) -> Array:  # type: ignore
        return cache


class SplitScores(ComplexNet):
    def scores(self, sigma: Array) -> dict:
        return {}


@pytest.mark.parametrize(
    ("module", "keys", "message"),
    [
        (Broken, {"fault": "batch norm"}, r"norm.mean \(BatchStat\)"),
        (Broken, {"fault": "dropout"}, r"drop.*RngKey.*deterministic"),
        (Broken("dropout", rngs=nnx.Rngs(0)), {}, "not nnx.Param"),
        (Broken, {"fault": "random constant"}, "depend on rngs"),
        (Broken, {"fault": "integer"}, r"\['w'\] are not floating"),
        (Broken, {"fault": "per site"}, r"returns \(5, 4\).*expected.*\(5,\)"),
        (Broken, {"fault": "scalar"}, r"returns \(\) "),
        (Broken, {"fault": "single"}, "returns float32.*expected float64 or complex"),
        (Broken, {"fault": "crash"}, r"Broken failed on a batch.*\(5, 4\)"),
        (LinenBroken, {"fault": "batch norm"}, "batch_stats.*LayerNorm"),
        (LinenBroken, {"fault": "dropout"}, "LinenBroken failed.*dropout"),
        (Net, {"widht": 3}, r"no constructor key 'widht'.*Did you mean 'width'"),
        (LinenNet, {"widht": 3}, "Did you mean 'width'"),
        (Broken, {}, r"needs the constructor keys \['fault'\]"),
        (Net, {"width": "three"}, "constructing Net with .*three.*failed"),
        (MODULES["nnx instance"][0], {"width": 3}, "already constructed"),
        (log_cosh, {}, "not a flax module.*from_functions"),
        (HalfFast, {}, r"defines \['cache'\] but not \['log_ratios'"),
        (BoundCommit, {}, "must be a static method"),
        (SplitScores, {"head": "kink"}, "defines scores.*real pairs"),
    ],
)
def test_modules_that_do_not_fit_are_refused(
    module: Any, keys: dict, message: str
) -> None:
    with pytest.raises(JobError, match=f"(?s){message}"):
        from_module(module, PROBLEM, **keys)


@pytest.mark.parametrize(
    ("leaf", "range_", "message"),
    [
        (jnp.ones(N), "complex", 'returns float64, but its range is "complex"'),
        (1j * jnp.ones(N), "positive", 'returns complex128, but its range is "pos'),
        ((jnp.ones(N), 1j * jnp.ones(N)), "complex", "two real arrays"),
    ],
)
def test_functions_that_do_not_fit_are_refused(
    leaf: Any, range_: Any, message: str
) -> None:
    def log_psi(params: Any, sigma: Array) -> Array:
        return sum(sigma @ x for x in jax.tree.leaves(params))

    with pytest.raises(JobError, match=message):
        from_functions(lambda key: leaf, log_psi, problem=PROBLEM, range=range_)


def test_float64_without_64_bit_numbers_is_refused() -> None:
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(JobError, match="jax_enable_x64.*float32"):
            from_module(Net, PROBLEM)
        single = from_module(Net, PROBLEM._replace(precision="float32"))
        assert single.log_psi(single.init(KEY), SIGMA).dtype == jnp.float32
    finally:
        jax.config.update("jax_enable_x64", True)


def test_apply_move_is_a_rotation_of_local_values() -> None:
    dims = (2, 3, 4, 2)
    sigma = spins(4, spin=[0.5, 1, 1.5, 0.5]).all_states()
    for sites, shift in itertools.product(
        [(0, 4), (1, 4), (4, 2), (2, 1)], [(1, 1), (1, 2), (0, 1)]
    ):
        move = Move(np.array(sites, np.int32), np.array(shift, np.int8))
        want = sigma.copy()
        for site, q in zip(sites, shift):
            if site < N:
                values = np.arange(dims[site] - 1, -dims[site], -2)
                old = np.searchsorted(-values, -sigma[:, site])
                want[:, site] = values[(old + q) % dims[site]]
        got = apply_move(sigma, move, dims)
        assert got.dtype == jnp.int8
        np.testing.assert_array_equal(got, want)


def test_small_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny budget: the same numbers, from batches that stay small."""
    rows = []

    def log_psi(params: Any, sigma: Array) -> Array:
        rows.append(sigma.shape[0])
        theta = sigma @ params["w"]
        return jnp.sum(lax.complex(jnp.cos(theta), theta**2), axis=1)

    wf = from_functions(
        lambda key: {"w": jnp.arange(20.0).reshape(N, 5) / 20},
        log_psi,
        problem=PROBLEM,
        range="complex",
    )
    params = wf.init(KEY)
    i = np.arange(N, dtype=np.int32)
    moves = Moves(np.stack([i, (i + 1) % N], axis=1), np.ones((N, 2), np.int8))

    def everything(params: Any) -> tuple:
        cache = wf.cache(params, SIGMA)
        ratios = wf.log_ratios(params, cache, SIGMA, moves)
        force = jax.grad(lambda p: jnp.sum(wf.log_psi(p, SIGMA).imag))(params)
        return cache, ratios, force, wf.scores(params, SIGMA)

    want = jax.jit(everything)(params)
    rows.clear()
    # Room for three rows: seven walkers go in threes, moves one at a time.
    row_bytes = chunking.bytes_per_row(
        log_psi, params, jax.ShapeDtypeStruct((N,), jnp.int8)
    )
    assert row_bytes >= 8 * 20
    rows.clear()
    monkeypatch.setattr(wavefunction, "default_budget", lambda: 3 * row_bytes)
    same(jax.jit(lambda p: everything(p))(params), want)
    assert max(rows) == 3


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("n_devices", [1, 2, 4])
def test_scores_do_not_mix_devices(
    mesh_of: Callable[[int], Mesh], n_devices: int, check_vma: bool
) -> None:
    wf = from_module(ComplexNet, PROBLEM, head="mixed")
    params, sigma = wf.init(KEY), spins(N).all_states()
    by_walker = PartitionSpec(WALKERS)
    sharded = jax.shard_map(
        wf.scores,
        mesh=mesh_of(n_devices),
        in_specs=(PartitionSpec(), by_walker),
        out_specs=by_walker,
        check_vma=check_vma,
    )
    same(jax.jit(sharded)(params, sigma), wf.scores(params, sigma))


def test_built_in_fast_ansatze_do_not_import_flax() -> None:
    code = (
        "import sys, jax; jax.config.update('jax_enable_x64', True)\n"
        "from ansatze import ANSATZE; from vmc.base import Problem\n"
        "from vmc.space import spins; import vmc.wavefunction\n"
        "for name in ('rbm', 'jastrow'): ANSATZE[name](Problem(spins(4)))\n"
        "assert 'flax' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
