"""Growth keeps log psi and can be learnt from; truncation keeps the fidelity."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze import ANSATZE
from ansatze.growth import change, grow, truncate
from tests.ansatze.cases import amplitudes, quick_jit, ring, schmidt
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.space import Spins, spins

N = 6
PLAIN = Problem(spins(N))
REAL = Problem(spins(N), dtype="real")
RAGGED = Problem(spins(7))
SPIN_1 = Problem(spins(5, spin=1))
TURNS = np.array([np.roll(np.arange(N), -g) for g in range(N)])
RING = ring(n=N)._replace(symmetry=TURNS)
TEN = np.array([np.roll(np.arange(10), -g) for g in range(10)])
FILTERS = ring(n=10)._replace(symmetry=TEN, spin_flip=True)
#: One chain, one tree and one sum over hidden units; the others repeat them.
FAST = ("mps", "convac", "rbm")

CASES = {
    "mps": ("mps", PLAIN, {"bond_dimension": 2}, {"bond_dimension": 3}),
    "mps ring": (
        "mps",
        RING,
        {"bond_dimension": 2, "periodic": True, "translation_invariant": True},
        {"bond_dimension": 5},
    ),
    "mps shared": (
        "mps",
        SPIN_1,
        {"bond_dimension": 2, "translation_invariant": True},
        {"bond_dimension": 6},
    ),
    "ttn": ("ttn", RAGGED, {"bond_dimension": 2}, {"bond_dimension": 4}),
    "convac": (
        "convac",
        REAL,
        {"channels": 2, "window": 2},
        {"channels": [4, 3, 5]},
    ),
    "convac 4": (
        "convac",
        RAGGED,
        {"channels": [2, 3], "window": 4, "sharing": "none"},
        {"channels": 7},
    ),
    "cp": ("cp", RAGGED, {"rank": 2}, {"rank": 5}),
    "rac": ("rac", PLAIN, {"width": 2}, {"width": 4, "depth": 1}),
    "rac deep": (
        "rac",
        SPIN_1,
        {"width": 2, "depth": 2, "site_dependent": True},
        {"width": 3},
    ),
    "rbm": ("rbm", RAGGED, {"alpha": 1}, {"alpha": 2}),
    "rbm filters": ("rbm", FILTERS, {"alpha": 1}, {"alpha": 2}),
    "rbm three": ("rbm", FILTERS, {"alpha": 1}, {"alpha": 4}),
}


def grown(
    name: str, problem: Problem, old: dict, new: dict
) -> tuple[WaveFunction, Any, WaveFunction, Any]:
    """The wave function and its parameters, before and after."""
    new = old | new
    small, large = ANSATZE[name](problem, **old), ANSATZE[name](problem, **new)
    params = quick_jit(small.init)(jax.random.key(2))
    assert change(name, problem, old, new) == "grow"
    more = grow(name, problem, old, new, params, jax.random.key(3))
    want = jax.eval_shape(large.init, jax.random.key(0))
    same = jax.tree.map(
        lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), more, want
    )
    assert all(jax.tree.leaves(same))
    return small, params, large, more


def logs(wf: WaveFunction, params: Any, space: Spins) -> np.ndarray:
    return np.asarray(quick_jit(wf.log_psi)(params, space.all_states()))


def jacobian(wf: WaveFunction, params: Any, space: Spins) -> dict[str, np.ndarray]:
    """Centred derivatives of log psi on all configurations, (2^N, *leaf)."""
    out = {}
    for leaf, factors in quick_jit(wf.scores)(params, space.all_states()).items():
        rows = factors[0]
        for factor in factors[1:]:
            rows = np.einsum("bg...,bgi->bg...i", rows, factor)
        rows = np.asarray(rows).reshape(len(rows), *params[leaf].shape)
        out[leaf] = rows - rows.mean(axis=0)
    return out


def rank(columns: list[np.ndarray]) -> int:
    flat = np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1)
    values = np.linalg.svd(flat, compute_uv=False)
    return int(np.sum(values > 1e-4 * values[0]))


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c not in FAST)) for c in CASES]
)
def test_log_psi_is_kept_and_the_new_channels_can_learn(case: str) -> None:
    name, problem, old, new = CASES[case]
    small, params, large, more = grown(name, problem, old, new)
    space = problem.space
    before, after = logs(small, params, space), logs(large, more, space)
    turn = 2 * np.pi * np.round((after - before).imag / (2 * np.pi))
    np.testing.assert_allclose(after - 1j * turn, before, rtol=0, atol=1e-12)
    # The tangent space is larger: the new directions are not those of the old ones.
    columns = jacobian(large, more, space)
    old_columns = [
        rows[(slice(None), *map(slice, params[leaf].shape))]
        for leaf, rows in columns.items()
    ]
    assert rank(list(columns.values())) > rank(old_columns)


def test_a_positive_rbm_keeps_its_state() -> None:
    """Each real unit adds a constant: log psi moves, psi does not."""
    small, params, large, more = grown("rbm", REAL, {"alpha": 1}, {"alpha": 2})
    moved = logs(large, more, REAL.space) - logs(small, params, REAL.space)
    np.testing.assert_allclose(moved, moved[0], rtol=0, atol=1e-12)
    weights = jacobian(large, more, REAL.space)["W"]
    old = weights[:, :, : params["W"].shape[1]]
    assert rank([weights]) > rank([old])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mps", "ttn", "cp", "rac"])
def test_one_step_raises_the_rank(case: str) -> None:
    """A gradient step towards a random state: the Schmidt rank passes the old limit."""
    name, problem, old, new = CASES[case]
    small, params, large, more = grown(name, problem, old, new)
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=len(problem.space.all_states())))

    def overlap(p: Any) -> jax.Array:
        log_psi = large.log_psi(p, problem.space.all_states())
        return jnp.sum(weights * log_psi.real)

    force = jax.tree.map(jnp.conj, quick_jit(jax.grad(overlap))(more))
    moved = jax.tree.map(lambda p, f: p + 0.05 * f, more, force)
    ranks = []
    for wf, p in ((small, params), (large, more), (large, moved)):
        ranks.append(
            int(np.sum(schmidt(amplitudes(wf, p, problem), [0, 1, 2, 3]) > 1e-14))
        )
    assert ranks[0] == ranks[1] < ranks[2]


TRUNCATIONS = {
    "mps": ("mps", PLAIN, 5, 2),
    "mps spin 1": ("mps", SPIN_1._replace(dtype="real"), 4, 3),
    "ttn": ("ttn", Problem(spins(8)), 4, 2),
    "ttn ragged": ("ttn", RAGGED._replace(dtype="real"), 4, 3),
    "ttn mixed spins": ("ttn", Problem(Spins((3, 2, 2, 3, 2))), 4, 2),
}


def normalised(psi: np.ndarray) -> np.ndarray:
    return psi.reshape(-1) / np.linalg.norm(psi)


@pytest.mark.slow
@pytest.mark.parametrize("case", TRUNCATIONS)
def test_truncation_keeps_what_it_says(case: str) -> None:
    name, problem, many, few = TRUNCATIONS[case]
    old, new = {"bond_dimension": many}, {"bond_dimension": few}
    large, small = (ANSATZE[name](problem, **keys) for keys in (old, new))
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype),
        jax.eval_shape(large.init, jax.random.key(0)),
    )
    assert change(name, problem, old, new) == "truncate"
    less, weights = truncate(name, problem, old, new, params)
    psi, cut = amplitudes(large, params, problem), amplitudes(small, less, problem)
    fidelity = abs(np.vdot(normalised(psi), normalised(cut))) ** 2
    lost = float(np.sum(weights))
    assert 1e-3 < lost < 0.9
    assert 1 - lost - 1e-12 <= fidelity < 1 - lost / 20
    # The weights are tails of the Schmidt spectra of the dense state; in the mps, which
    # is cut in one sweep, only the first is.
    if case == "mps":
        tail = schmidt(psi, [0, 1])[few:].sum()
        np.testing.assert_allclose(weights[:2], [0, tail], atol=1e-12)
    if problem.space.n_sites == 8:
        blocks = [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1], [2, 3], [4, 5], [6, 7]]
        tails = [schmidt(psi, block)[few:].sum() for block in blocks]
        np.testing.assert_allclose(np.sort(weights), np.sort(tails), atol=1e-12)


@pytest.mark.parametrize("case", ["mps", pytest.param("ttn", marks=pytest.mark.slow)])
def test_nothing_is_lost_where_nothing_is_discarded(case: str) -> None:
    name, problem, old, new = CASES[case]
    small, params, _, more = grown(name, problem, old, new)
    back, weights = truncate(name, problem, new, old, more)
    assert np.sum(weights) < 1e-28
    psi, again = amplitudes(small, params, problem), amplitudes(small, back, problem)
    np.testing.assert_allclose(again, psi, atol=1e-13 * np.abs(psi).max())


def test_refusals() -> None:
    key = jax.random.key(0)
    two, four = {"bond_dimension": 2}, {"bond_dimension": 4}
    params = quick_jit(ANSATZE["mps"](PLAIN, **four).init)(key)
    with pytest.raises(JobError, match="bond_dimension = 4 .* use truncate"):
        grow("mps", PLAIN, four, two, params, key)
    with pytest.raises(JobError, match="enlarge it, use grow"):
        truncate("mps", PLAIN, four, {"bond_dimension": 5}, params)
    with pytest.raises(JobError, match="only bond_dimension may change"):
        grow("mps", PLAIN, four, {"bond_dimension": 5, "periodic": True}, params, key)
    with pytest.raises(JobError, match="the old keys of mps make"):
        grow("mps", PLAIN, two, four, params, key)
    with pytest.raises(JobError, match="only an open mps"):
        ring_keys = {"bond_dimension": 4, "periodic": True}
        truncate("mps", PLAIN, ring_keys, ring_keys | two, {})
    with pytest.raises(JobError, match="grow knows mps, .*'mlp' is none of them"):
        grow("mlp", PLAIN, {}, {}, {}, key)
    with pytest.raises(JobError, match="truncate knows mps, ttn"):
        truncate("cp", PLAIN, {"rank": 3}, {"rank": 2}, {})
    assert change("cp", PLAIN, {"rank": 3}, {"rank": 2}) == "other"
    assert change("convac", PLAIN, {"channels": 3}, {"channels": [2, 3, 4]}) == "other"
    assert change("convac", PLAIN, {"channels": 3}, {"channels": [3, 3, 3]}) == "none"
