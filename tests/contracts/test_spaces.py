"""What every space must do: uniform random starts and correct masks of moves."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vmc.base import Moves
from vmc.errors import JobError
from vmc.keys import numbers, root_key
from vmc.space import Spins, spins

SPACES = {
    "spin 1/2": spins(4),
    "spin 1/2, Sz = 0": spins(6, total_sz=0),
    "spin 1/2, Sz = -3/2": spins(5, total_sz=-1.5),
    "spin 1": spins(3, spin=1),
    "spin 1, Sz = 1": spins(4, spin=1, total_sz=1),
    "mixed": spins(3, spin=[0.5, 1.5, 1]),
    "mixed, Sz = 0": spins(4, spin=[0.5, 1, 1.5, 1], total_sz=0),
}


@pytest.fixture(params=SPACES.values(), ids=SPACES.keys())
def space(request: pytest.FixtureRequest) -> Spins:
    return request.param


def brute_force(space: Spins) -> np.ndarray:
    """Configurations in the documented order, by the definition."""
    values = [range(d - 1, -d, -2) for d in space.local_dims]
    states = np.array(list(itertools.product(*values)))
    if space.total_sz is not None:
        states = states[states.sum(axis=1) == 2 * space.total_sz]
    return states


def moved(sigma: np.ndarray, sites: tuple, shift: tuple, space: Spins) -> np.ndarray:
    """One move by the definition: the list of local values, rotated."""
    out = sigma.copy()
    for site, q in zip(sites, shift):
        if site < space.n_sites:
            d = space.local_dims[site]
            values = list(range(d - 1, -d, -2))
            out[site] = values[(values.index(out[site]) + q) % d]
    return out


def test_states_are_listed_in_order(space: Spins) -> None:
    np.testing.assert_array_equal(space.all_states(), brute_force(space))
    assert space.n_states == len(brute_force(space))
    assert space.all_states().dtype == np.int8


def test_random_draws_are_uniform_and_independent(space: Spins) -> None:
    """Chi-square of two walkers together: uniform, and no correlation."""
    states = [tuple(s) for s in brute_force(space)]
    place = {s: i for i, s in enumerate(states)}
    bits = numbers(root_key(11), jnp.arange(10_000), space.n_sites)
    sigma = np.asarray(jax.jit(space.random)(bits))
    assert sigma.shape == (10_000, space.n_sites) and sigma.dtype == np.int8
    index = np.array([place[tuple(s)] for s in sigma])
    for first, second in (index.reshape(-1, 2).T, np.split(index, 2)):
        joint = np.bincount(first * len(states) + second, minlength=len(states) ** 2)
        assert stats.chisquare(joint).pvalue > 1e-3


@pytest.mark.parametrize("x64", [True, False])
def test_extreme_words_stay_in_the_sector(space: Spins, x64: bool) -> None:
    """Also in single precision, where a fraction may round to one."""
    words = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    jax.config.update("jax_enable_x64", x64)
    try:
        bits = jnp.asarray(np.tile(words, (space.n_sites, 1)))
        sigma = np.asarray(jax.jit(space.random)(bits))
    finally:
        jax.config.update("jax_enable_x64", True)
    assert {tuple(s) for s in sigma} <= {tuple(s) for s in brute_force(space)}


def test_allows_is_membership_after_the_move(space: Spins) -> None:
    n = space.n_sites
    rng = np.random.default_rng(5)
    rows = [[*rng.permutation(n)[:3]] for _ in range(40)]
    rows = [row[:k] + [n] * (3 - k) for row, k in zip(rows, itertools.cycle((1, 2, 3)))]
    dims = np.array([*space.local_dims, 1])[np.array(rows)]
    shifts = np.where(
        dims > 1, 1 + rng.integers(0, 6, dims.shape) % (dims - 1 + (dims == 1)), 0
    )
    moves = Moves(np.array(rows, np.int32), shifts.astype(np.int8))
    states = brute_force(space)
    inside = {tuple(s) for s in states}
    expected = [
        [tuple(moved(s, row, shift, space)) in inside for s in states]
        for row, shift in zip(rows, shifts)
    ]
    got = jax.jit(space.allows)(states.astype(np.int8), moves)
    np.testing.assert_array_equal(got, expected)
    if space.total_sz is not None:
        assert 0 < np.mean(expected) < 1, "the test sees only one outcome"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_sites": 0}, "at least one site"),
        ({"n_sites": 4, "total_sz": 0.5}, "nearest sector is total_sz = 0.0"),
        ({"n_sites": 5, "total_sz": 0}, "nearest sector is total_sz = -?0.5"),
        ({"n_sites": 4, "total_sz": 3}, "between -2.0 and 2.0"),
        ({"n_sites": 4, "total_sz": 0.3}, "multiple of 1/2"),
        ({"n_sites": 2, "spin": 0.7}, "spin 0.7"),
        ({"n_sites": 3, "spin": [0.5, 1]}, "2 spins were given for 3 sites"),
    ],
)
def test_impossible_spaces_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        spins(**arguments)


def test_too_many_states_are_refused() -> None:
    with pytest.raises(JobError, match="cannot be|at most"):
        spins(40).all_states()
