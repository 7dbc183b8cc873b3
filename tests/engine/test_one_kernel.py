"""Walks in one GPU kernel: the interpreter's against XLA's, and the kernel itself."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.rbm import rbm
from tests.engine.helpers import MeshOf, ring
from tests.engine.test_samplers import drawn, p_value
from vmc import Job, build
from vmc import metropolis as metropolis_module
from vmc.base import Moves, Problem, WaveFunction
from vmc.errors import JobError
from vmc.moves import exchanges, join, local_flips
from vmc.one_kernel import in_one_kernel
from vmc.samplers import metropolis
from vmc.space import Spins, spins

#: dtype, precision, N, total Sz, alpha, proposals.
CASES: dict[str, tuple[Any, Any, int, float | None, int, str]] = {
    "flips-real": ("real", "float64", 6, None, 2, "local"),
    "flips-complex": ("complex", "float64", 6, None, 3, "local"),
    "exchange-real": ("real", "float64", 6, 0, 2, "exchange"),
    "exchange-complex": ("complex", "float64", 6, 1, 1, "exchange"),
    "pairs-real": ("real", "float64", 5, None, 2, "mixed"),
    "flips-single": ("real", "float32", 6, None, 2, "local"),
    "exchange-single-complex": ("complex", "float32", 6, 0, 2, "exchange"),
}


#: Every mechanism once; the rest is in the slow tier.
FAST = ("flips-real", "exchange-complex", "pairs-real", "flips-single")


def slow_unless(fast: bool) -> Any:
    return () if fast else pytest.mark.slow


def parts(case: str, group: bool = False) -> tuple[WaveFunction, Spins, Moves]:
    dtype, precision, n, total_sz, alpha, kind = CASES[case]
    space = spins(n, total_sz=total_sz)
    cycles = np.array([np.roll(np.arange(n), g) for g in range(n)])
    problem = Problem(space, dtype, precision, symmetry=cycles if group else None)
    psi = rbm(problem, alpha=alpha, init_scale=0.4)
    pairs = np.array(ring(n))
    if kind == "local":
        return psi, space, local_flips(space)
    if kind == "exchange":
        return psi, space, exchanges(space, pairs)
    flips = Moves(pairs.astype(np.int32), np.ones(pairs.shape, np.int8))
    return psi, space, join(local_flips(space), flips, space)


@pytest.mark.parametrize(
    ("case", "group"),
    [pytest.param(c, False, marks=slow_unless(c in FAST)) for c in CASES]
    + [("flips-complex", True), ("exchange-real", True)],
)
def test_walkers_move_as_in_xla(
    case: str, group: bool, mesh_of: MeshOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number for number, over devices and over several draws of random numbers."""
    psi, space, moves = parts(case, group)
    params = psi.init(jax.random.key(1))
    # 10 moves at a time: the last chunk is filled up.
    monkeypatch.setattr(metropolis_module, "MOVES_PER_DRAW", 96)
    numbers: dict[str, Any] = {
        "n_chains": 16,
        "n_draws": 2,
        "n_sweeps": 3,
        "n_devices": 2,
    }
    plain = metropolis(psi, space, moves, **numbers)
    ours = in_one_kernel(psi, space, moves, **numbers, interpret=True)
    want, got = (drawn(s, params, mesh_of(2)) for s in (plain, ours))
    np.testing.assert_array_equal(got.samples, want.samples)
    assert got.acceptance == want.acceptance
    assert 0.05 < got.acceptance < 1
    close = 1e-12 if "single" not in case else 2e-5
    np.testing.assert_allclose(got.log_psi, want.log_psi, rtol=0, atol=close)
    assert got.drift < close


def test_draws_follow_psi(mesh_of: MeshOf) -> None:
    psi, space, moves = parts("flips-complex")
    params = psi.init(jax.random.key(2))
    numbers = {"n_chains": 512, "n_draws": 8, "n_sweeps": 4, "burn_in": 10}
    ours = in_one_kernel(psi, space, moves, **numbers, interpret=True)
    log_psi = psi.log_psi(params, jnp.asarray(space.all_states())).real
    p = np.exp(2 * np.asarray(log_psi - log_psi.max()))
    samples = drawn(ours, params, mesh_of(1)).samples
    assert p_value(samples, space, p / p.sum()) > 1e-3


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=slow_unless(c in FAST)) for c in CASES]
)
def test_kernel_lowers_for_gpus(case: str) -> None:
    """Triton's form of it, which needs no GPU."""
    psi, space, moves = parts(case)
    assert psi.walk is not None
    params = psi.init(jax.random.key(1))
    n, k = space.n_sites, moves.sites.shape[1]
    arguments = (
        jax.ShapeDtypeStruct((8, n), jnp.int8),
        jax.ShapeDtypeStruct((12, k), jnp.int32),
        jax.ShapeDtypeStruct((12, 8), jnp.uint32),
    )
    keys = {"fixed_sz": space.total_sz is not None, "interpret": False}
    walk = functools.partial(psi.walk, params, **keys)
    target = "__gpu$xla.gpu.triton"
    triton = jax.export.DisabledSafetyCheck.custom_call(target)
    lower = jax.export.export(
        jax.jit(walk), platforms=["cuda"], disabled_checks=[triton]
    )
    text = lower(*arguments).mlir_module()
    assert text.count(f"custom_call @{target}") == 1 and "rbm_walk" in text


def test_refusals() -> None:
    job = {"lattice": {"name": "chain", "size": [6]}, "ansatz": {"name": "rbm"}}
    job["hamiltonian"] = {"name": "tfim"}
    sampler = {"kernel": "pallas", "n_chains": 16}
    with pytest.raises(JobError, match='needs a GPU, and JAX runs on "cpu"'):
        build(Job(**job, sampler=sampler))
    with pytest.raises(JobError, match="no walk in one kernel; the RBM"):
        build(Job(**job | {"ansatz": {"name": "jastrow"}}, sampler=sampler))
    with pytest.raises(JobError, match="plain Metropolis chains, without replicas"):
        Job(**job, sampler=sampler | {"replicas": 4})
    psi, _, moves = parts("flips-real")
    blocked = spins(6, blockade=((0, 1),))
    with pytest.raises(JobError, match="takes spins 1/2"):
        in_one_kernel(psi, blocked, moves, n_chains=8, interpret=True)
