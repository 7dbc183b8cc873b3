"""Trees that fit a state: pairs, costs, scrambled chains."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import vmc
from vmc.design_geometry import best_tree, mutual_information
from vmc.design_spectra import required_exactly
from vmc.errors import JobError
from vmc.space import spins
from vmc.system import build_system


def ground(n: int):
    job = vmc.Job(
        lattice={"name": "chain", "size": [n]}, hamiltonian={"name": "heisenberg"}
    )
    system = build_system(job)
    found = required_exactly(system.hamiltonian, [(0, 1), (0, 2)])
    assert found.vector is not None
    return system.hamiltonian.space, found


@pytest.mark.slow
def test_pairs_of_the_ring_of_16() -> None:
    """Neighbours share the most; the contiguous tree is already the best."""
    space, found = ground(16)
    assert [round(c.s1, 3) for c in found.cuts] == [0.947, 1.267]
    information = mutual_information(space, found.vector)
    near = 2 * np.log(2) - found.cuts[0].s1
    assert information[3, 4] == information[4, 3] == pytest.approx(near, abs=1e-9)
    assert information.max() == pytest.approx(near, abs=1e-9)
    tree = best_tree(space, found.vector)
    assert tree.cost == pytest.approx(tree.contiguous_cost, abs=1e-9)
    assert len(tree.pairs) == 3 and len(tree.pairs[0]) == 8
    assert all((b - a) % 16 in (1, 15) for a, b in tree.pairs[0])
    assert [len(b) for level in tree.pairs for b in level] == [2] * 8 + [4] * 4 + [
        8
    ] * 2


def test_a_scrambled_chain_is_put_in_order(rng) -> None:
    """Relabelled sites of a ring of 8: the search undoes most of it."""
    space, found = ground(8)
    perm = rng.permutation(8)
    whole = np.zeros((2,) * 8)
    whole.reshape(-1)[space.all_codes()] = found.vector
    scrambled = whole.transpose(perm).reshape(-1)[space.all_codes()]
    tree = best_tree(space, scrambled)
    straight = best_tree(space, found.vector)
    assert tree.cost == pytest.approx(straight.cost, abs=1e-9)
    assert tree.cost < tree.contiguous_cost - 0.1
    # Leaf k holds the old site perm[order[k]]: neighbours on the ring again.
    old = perm[list(tree.order)]
    assert all((old[2 * k] - old[2 * k + 1]) % 8 in (1, 7) for k in range(4))


def test_misaligned_dimers_move_into_the_windows() -> None:
    """Singlets (1 2)(3 4)(5 6)(7 0): no block of the best tree is entangled."""
    singlet = np.array([[0, 1], [-1, 0]]) / np.sqrt(2)
    state = functools.reduce(np.multiply.outer, [singlet] * 4)
    state = np.moveaxis(state, range(8), [(i + 1) % 8 for i in range(8)])
    space = spins(8)
    tree = best_tree(space, state.reshape(-1))
    assert tree.cost == pytest.approx(0, abs=1e-9)
    # Four pairs of two cut singlets each, two blocks of four and the half cut alike.
    assert tree.contiguous_cost == pytest.approx(10 * np.log(2), abs=1e-9)
    assert {frozenset(p) for p in tree.pairs[0]} == {
        frozenset(p) for p in [(1, 2), (3, 4), (5, 6), (0, 7)]
    }


def test_only_powers_of_two() -> None:
    with pytest.raises(JobError, match="2, 4, 8, 16 ... sites, not 6"):
        best_tree(spins(6), np.ones(64) / 8)
