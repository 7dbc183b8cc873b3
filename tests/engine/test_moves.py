"""Move tables against a Python loop over single configurations."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.engine.helpers import ring
from vmc.base import Moves
from vmc.errors import JobError
from vmc.keys import root_key, shared_integers
from vmc.moves import (
    apply_move,
    exchanges,
    inverse,
    join,
    local_flips,
    reachable,
)
from vmc.space import Spins, moved_values, spins

MIXED = spins(4, spin=[1, 0.5, 1.5, 0.5])
SPACES = {
    "half": spins(5),
    "half-sector": spins(6, total_sz=1),
    "one": spins(3, spin=1),
    "one-sector": spins(4, spin=1, total_sz=-1),
    "mixed": MIXED,
    "mixed-sector": spins(4, spin=[1, 0.5, 1.5, 0.5], total_sz=0.5),
}


def table(space: Spins) -> Moves:
    if space.total_sz is None:
        return local_flips(space)
    return exchanges(space, np.array(ring(space.n_sites)))


def after(state: np.ndarray, sites: np.ndarray, shift: np.ndarray, dims) -> np.ndarray:
    """The definition: the index (d - 1 - value) / 2 moves on by the shift, mod d."""
    out = state.astype(int).copy()
    for site, q in zip(sites, shift):
        if site < len(dims):
            d = dims[site]
            index = ((d - 1 - out[site]) // 2 + int(q)) % d
            out[site] = d - 1 - 2 * index
    return out


@pytest.fixture(params=SPACES.values(), ids=SPACES.keys())
def space(request: pytest.FixtureRequest) -> Spins:
    return request.param


def test_moves_follow_their_definition(space: Spins) -> None:
    moves, states = table(space), space.all_states()
    sites, shift = np.asarray(moves.sites), np.asarray(moves.shift)
    allowed = np.asarray(space.allows(jnp.asarray(states), moves))
    new = np.asarray(
        moved_values(jnp.asarray(states), moves, space.local_dims, before=False)
    )
    accept = jnp.arange(len(states)) % 3 != 0
    for m in range(moves.n_moves):
        want = np.array(
            [after(s, sites[m], shift[m], space.local_dims) for s in states]
        )
        np.testing.assert_array_equal(new[m].T, want[:, sites[m]])
        if space.twice_sz is not None:
            stays = want.sum(axis=1) == space.twice_sz
            np.testing.assert_array_equal(allowed[m], stays)
        else:
            assert allowed[m].all()
        got = apply_move(jnp.asarray(states.T), moves[m], accept, space.local_dims)
        kept = np.where(np.asarray(accept)[:, None], want, states)
        np.testing.assert_array_equal(got.T, kept)
        assert got.dtype == np.int8


def test_proposals_are_symmetric_and_reach_everything(space: Spins) -> None:
    moves, states = table(space), space.all_states()
    place = {tuple(s): i for i, s in enumerate(states.tolist())}
    n = len(states)
    counts = np.zeros((n, n), int)
    for (i, s), (sites, shift) in itertools.product(
        enumerate(states), zip(moves.sites, moves.shift)
    ):
        target = tuple(after(s, sites, shift, space.local_dims).tolist())
        if target in place:
            counts[i, place[target]] += 1
    np.testing.assert_array_equal(counts, counts.T)
    assert np.all(np.diag(counts) == 0)
    assert np.all(np.linalg.matrix_power(np.eye(n) + counts, 12) > 0)
    assert reachable(space, moves) == (n, n)


def test_the_inverse_takes_a_move_back(space: Spins) -> None:
    moves, states = table(space), space.all_states()
    everyone = jnp.ones(len(states), bool)
    for m in range(moves.n_moves):
        back = inverse(moves[m], space.local_dims)
        there = apply_move(jnp.asarray(states.T), moves[m], everyone, space.local_dims)
        again = apply_move(there, back, everyone, space.local_dims)
        np.testing.assert_array_equal(again.T, states)
        assert np.any(np.asarray(there.T) != states)


def test_joined_tables_hold_each_move_once() -> None:
    space = spins(4)
    flips = local_flips(space)
    own = Moves(
        np.array([[2, 4, 4], [3, 1, 0], [1, 0, 4]], np.int32),
        np.array([[1, 0, 0], [1, 1, 1], [1, 1, 0]], np.int8),
    )
    both = join(flips, own, space)
    found = {tuple(i for i in row if i < 4) for row in both.sites.tolist()}
    assert found == {(0,), (1,), (2,), (3,), (0, 1), (0, 1, 3)}
    assert both.n_moves == 6 and not both.exchange
    np.testing.assert_array_equal(both.shift, both.sites < 4)
    pairs = exchanges(spins(4, total_sz=0), np.array([(0, 1), (2, 3)]))
    assert join(pairs, pairs, space).exchange
    assert not join(pairs, flips, space).exchange


def test_reachable_sees_what_is_cut_off() -> None:
    space = spins(4, total_sz=0)
    # Each half keeps its own magnetisation: (1, 1) has 4 states, (2, 0) one.
    assert reachable(space, exchanges(space, np.array([(0, 1), (2, 3)]))) == (4, 6)
    free = spins(3, spin=1)
    # Shifts by 1 on one site: its orbit of 3.
    one = Moves(jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), jnp.int8))
    assert reachable(free, one) == (3, 27)


def test_only_exchanges_of_spins_half_claim_to_be_exchanges() -> None:
    edges = np.array([(0, 1)])
    assert exchanges(spins(2, total_sz=0), edges).exchange
    assert not exchanges(spins(2, spin=1, total_sz=0), edges).exchange
    assert not local_flips(spins(2)).exchange


def test_moves_that_make_no_sense_are_refused() -> None:
    space = spins(4, total_sz=0)
    with pytest.raises(JobError, match="leave the sector .total Sz 0"):
        local_flips(space)
    with pytest.raises(JobError, match="need pairs of sites"):
        exchanges(space, np.zeros((0, 2), int))
    with pytest.raises(JobError, match="names site 4"):
        exchanges(space, np.array([(0, 4)]))
    with pytest.raises(JobError, match="names site -1"):
        exchanges(space, np.array([(-1, 2)]))


def test_proposed_moves_are_uniform() -> None:
    sequence = np.asarray(shared_integers(root_key(2), 7, 70_000))
    counts = np.bincount(sequence, minlength=7)
    assert len(counts) == 7
    assert np.sum((counts - 1e4) ** 2 / 1e4) < 27.9  # chi-square, 6 d.o.f., 1e-4
