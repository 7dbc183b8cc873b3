"""Projections of wave functions: moves, scores, zeros, and what need not be summed.

Referees: full evaluation of the projection, and differences of log psi.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze import builds_in, symmetrize
from ansatze.scaled import LOG_ZERO
from ansatze.symmetrized import elements, native
from tests.ansatze.cases import quick_jit
from tests.contracts import test_ansatze as contract
from tests.engine.test_symmetry import params_of, place, problem_of, system
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.estimators import local_energies
from vmc.space import spins


def ring(n: int = 6, **numbers: Any) -> Problem:
    """A ring with the group of some quantum numbers."""
    made = system([n], numbers, "tfim", total_sz="free")
    return problem_of(made)._replace(dtype="complex")


@pytest.mark.parametrize(
    ("name", "keys", "table", "n_native", "n_images"),
    [
        ("rbm", {}, {"momentum": [0], "point_group": "A1", "spin_flip": 1}, 24, 1),
        ("rbm", {}, {"momentum": [0], "point_group": "A1", "spin_flip": -1}, 12, 2),
        ("rbm", {}, {"momentum": [1], "spin_flip": 1}, 2, 6),
        ("rbm", {}, {"momentum": [0], "point_group": "A2"}, 6, 2),
        ("mps", {}, {"momentum": [0], "point_group": "A1", "spin_flip": 1}, 1, 24),
        (
            *("mps", {"periodic": True, "translation_invariant": True}),
            *({"momentum": [0], "point_group": "A1"}, 6, 2),
        ),
        ("cnn", {"channels": 2}, {"momentum": [3], "point_group": "A1"}, 6, 2),
        ("gcnn", {"features": 1}, {"momentum": [3], "point_group": "A1"}, 12, 1),
        ("gcnn", {"features": 1}, {"momentum": [0], "spin_flip": -1}, 12, 1),
        ("convac", {"channels": 2}, {}, 1, 1),
    ],
)
def test_what_is_built_in_is_not_summed_over(
    name: str, keys: dict, table: dict, n_native: int, n_images: int
) -> None:
    problem = ring(**table)
    has = native(name, problem, keys)
    n_elements = 1 if has.symmetry is None else len(has.symmetry)
    assert n_elements * (2 if has.spin_flip else 1) == n_native
    assert len(elements(problem, has).perms) == n_images
    assert (has is problem) == (n_images == 1) == builds_in(name, problem, keys)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["real", "complex"])
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("rbm", {"momentum": [0], "point_group": "A2", "spin_flip": 1}),
        ("rbm", {"momentum": [1], "spin_flip": -1}),
        ("jastrow", {"momentum": [3], "spin_flip": -1}),
        ("mlp", {"momentum": [2]}),
        ("mps", {"momentum": [0], "point_group": "A1"}),
        ("product", {"momentum": [3]}),
    ],
)
def test_moves_and_scores(name: str, table: dict, dtype: str) -> None:
    """Fast moves against full evaluation, scores against automatic differentiation."""
    check_contract(name, ring(10, **table)._replace(dtype=dtype))


def test_moves_and_scores_of_one() -> None:
    check_contract("rbm", ring(**{"momentum": [3], "spin_flip": -1}))


def check_contract(name: str, problem: Problem) -> None:
    keys = contract.SMALL.get(name, {})
    wf = symmetrize(name, problem, keys)
    quick = {f: quick_jit(getattr(wf, f)) for f in wf._fields[:-4]}
    fast, params = wf._replace(**quick), params_of(wf)
    states = problem.space.all_states()
    n = problem.space.n_sites
    logs = np.asarray(fast.log_psi(params, states))
    rng = np.random.default_rng(5)
    alive = np.flatnonzero(logs.real > logs.real.max() - 4)
    sigma = states[rng.choice(alive, 5)]
    moves = contract.ring_table("mixed") if n == contract.N else longer_table(n)
    cache = fast.cache(params, sigma)
    number = place(states)
    here = [number[row.tobytes()] for row in sigma]
    ratios = np.exp(np.asarray(fast.log_ratios(params, cache, sigma, moves)))
    for m in range(moves.n_moves):
        flips = [s for s in np.asarray(moves.sites)[m] if s < n]
        moved = sigma.copy()
        moved[:, flips] *= -1
        there = [number[row.tobytes()] for row in np.ascontiguousarray(moved)]
        wanted = np.exp(logs[there] - logs[here])
        scale = np.abs(wanted).max() + 1
        np.testing.assert_allclose(ratios[m], wanted, atol=1e-9 * scale)
        ratio, pending = fast.try_move(params, cache, sigma, moves[m])
        np.testing.assert_allclose(
            np.exp(np.asarray(ratio)), np.abs(wanted) ** 2, atol=1e-9 * scale**2
        )
        if m % 5 == 0:
            accept = np.arange(5) % 2 == 0
            new = fast.commit(cache, pending, accept)
            after = np.where(accept[:, None], moved, sigma)
            fresh = np.asarray(fast.log_psi(params, after))
            fine = fresh.real > logs.real.max() - 12
            np.testing.assert_allclose(
                np.asarray(new.total).real[fine], fresh.real[fine], atol=1e-9
            )
    check_scores(fast, params, sigma)


def longer_table(n: int) -> Any:
    i = np.arange(n)
    sites = np.stack([i, np.where(i % 2, n, (i + 1) % n)], axis=1).astype(np.int32)
    return contract.Moves(sites, (sites < n).astype(np.int8))


def check_scores(fast: WaveFunction, params: Any, sigma: Any) -> None:
    """Against differences of log psi along random directions."""
    rng, step = np.random.default_rng(3), 1e-6
    leaves, tree = jax.tree.flatten(params)
    found = tree.flatten_up_to(fast.scores(params, sigma))
    for _ in range(2):
        ways = [rng.normal(size=leaf.shape) for leaf in leaves]
        slope = sum(
            contract.dense(f) @ way.ravel() for f, way in zip(found, ways, strict=True)
        )
        ends = [
            np.asarray(
                fast.log_psi(
                    tree.unflatten(
                        [x + h * way for x, way in zip(leaves, ways, strict=True)]
                    ),
                    sigma,
                )
            )
            for h in (step, -step)
        ]
        change = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(np.real(slope), change.real, rtol=1e-5, atol=1e-5)


def test_forbidden_configurations_are_exact_zeros() -> None:
    """Odd under reflection: Neel has no amplitude, finite scores and local energy."""
    made = system([10], {"momentum": [0], "point_group": "A2"}, "j1j2", J2=0.5)
    problem = problem_of(made)
    wf = symmetrize("rbm", problem, {"alpha": 1})
    params = params_of(wf)
    neel = np.resize(np.array([1, -1], np.int8), 10)
    sigma = np.stack([neel, np.array([1, 1, -1, 1, -1, -1, 1, -1, 1, -1], np.int8)])
    logs = np.asarray(quick_jit(wf.log_psi)(params, sigma))
    assert logs[0].real < 0.5 * LOG_ZERO < logs[1].real
    factors = jax.tree.leaves(quick_jit(wf.scores)(params, sigma))
    assert all(np.isfinite(f).all() and not np.any(f[0]) for f in factors)
    assert any(np.any(f[1]) for f in factors)
    ham = made.hamiltonian
    eloc = quick_jit(lambda h, p: local_energies(wf, h, p, sigma))(ham, params)
    assert np.isfinite(eloc).all()
    # A walker leaves such a place.
    one = quick_jit(lambda p: wf.try_move(p, wf.cache(p, sigma), sigma, ham.moves[0]))
    ratio = np.asarray(one(params)[0])
    assert np.isfinite(ratio).all() and ratio[0] >= 0


def test_terms_without_amplitude_do_not_spoil_a_sum() -> None:
    """psi_0 may vanish at some images, or at all of them."""
    problem = Problem(spins(4), symmetry=np.array([[0, 1, 2, 3], [1, 0, 2, 3]]))

    def only_up(problem: Problem) -> WaveFunction:
        from vmc.wavefunction import from_functions

        def log_psi(params: Any, sigma: Any) -> Any:
            dead = sigma[:, 0] < 0
            value = params["a"] * jnp.sum(sigma, axis=1) + 0j
            return jnp.where(dead, -jnp.inf, value)

        init = lambda key: {"a": 0.3 * jax.random.normal(key, ())}  # noqa: E731
        return from_functions(init, log_psi, problem=problem, range="complex")

    wf = symmetrize(only_up, problem)
    params = {"a": np.float64(0.3)}
    sigma = np.array([[1, -1, 1, 1], [1, 1, 1, 1], [-1, -1, 1, 1]], np.int8)
    got = np.asarray(quick_jit(wf.log_psi)(params, sigma))
    np.testing.assert_allclose(np.exp(got[:2]), [np.exp(0.6) / 2, np.exp(1.2)])
    assert got[2].real == LOG_ZERO
    (scores,) = jax.tree.leaves(quick_jit(wf.scores)(params, sigma))
    np.testing.assert_allclose(scores[:, 0, 0], [2, 4, 0], atol=1e-12)


def test_unknown_names_in_python() -> None:
    with pytest.raises(JobError, match="'mpps' is no ansatz; did you mean 'mps'"):
        symmetrize("mpps", Problem(spins(4)))
    assert symmetrize("rbm", Problem(spins(4))).range == "complex"
