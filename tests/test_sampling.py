"""Which sampler a job gets, and whether its moves reach everything."""

from typing import Any

import numpy as np
import pytest

import vmc
from hamiltonians import Operator, Sx, Sy, Sz, sx, sz
from vmc import sampling
from vmc.base import Moves
from vmc.errors import JobError
from vmc.moves import reachable


def job(
    model: Any, size: list[int] | None, lattice: str = "chain", **sections: Any
) -> vmc.Job:
    named = model if isinstance(model, dict) else {"name": model}
    keys: dict[str, Any] = {"hamiltonian": named, "ansatz": {"name": "rbm"}}
    if size is not None:
        keys["lattice"] = {"name": lattice, "size": size}
    return vmc.Job(**keys | sections)


@pytest.mark.parametrize(
    ("model", "lattice", "size", "ansatz", "name"),
    [
        ("tfim", "chain", [6], "rbm", "local"),
        ("heisenberg", "chain", [6], "rbm", "exchange"),
        ("heisenberg", "chain", [6], "mps", "exchange"),
        ("tfim", "chain", [6], "mps", "direct"),
        ({"name": "xyz", "Jx": 0.5}, "chain", [6], "rbm", "mixed"),
        ("kitaev_honeycomb", "honeycomb", [2, 2], "rbm", "mixed"),
        ("toric_code", "square_links", [2, 2], "rbm", "mixed"),
        ("cluster", "chain", [6], "rbm", "local"),
    ],
)
def test_the_automatic_choice(
    model: Any, lattice: str, size: list[int], ansatz: str, name: str
) -> None:
    built = vmc.build(job(model, size, lattice, ansatz={"name": ansatz}))
    assert built.job.sampler.name == name
    if name in ("exchange", "mixed", "local"):
        moves = sampling.proposals(name, built.hamiltonian, built.system.lattice)
        assert not np.any(np.all(np.asarray(moves.shift) == 0, axis=1))
        if built.hamiltonian.space.n_states <= 4096:
            n_states = built.hamiltonian.space.n_states
            assert reachable(built.hamiltonian.space, moves) == (n_states, n_states)
    if name == "mixed":
        own = built.hamiltonian.moves
        assert rows(own) <= rows(moves), "a move of the Hamiltonian is missing"


def rows(moves: Moves) -> set[frozenset[tuple[int, int]]]:
    pairs = zip(np.asarray(moves.sites).tolist(), np.asarray(moves.shift).tolist())
    return {frozenset((i, q) for i, q in zip(*row) if q) for row in pairs}


def dimers() -> Operator:
    """Two pairs that do not know of each other."""
    return Operator.sum(s(i) @ s(i + 1) for i in (0, 2) for s in (Sx, Sy, Sz))


def test_a_sector_that_falls_apart_is_refused() -> None:
    with pytest.raises(JobError, match="connect at most 4 of the 6 states"):
        vmc.build(job(dimers, None))
    with pytest.raises(JobError, match="no bond joins"):
        vmc.build(job(dimers, None, sampler={"name": "exchange"}))
    whole = vmc.build(job(dimers, None, hamiltonian=dict(name=dimers, total_sz="free")))
    assert whole.job.sampler.name == "mixed"


def test_a_diagonal_hamiltonian_is_sampled_by_single_flips() -> None:
    def diagonal() -> Operator:
        return sz(0) @ sz(1) + 0.5 * sz(1) @ sz(2)

    free = {"name": diagonal, "total_sz": "free"}
    assert vmc.build(job(diagonal, None, hamiltonian=free)).job.sampler.name == "local"


def test_full_sums_choose_their_own_numbers() -> None:
    def field() -> Operator:
        return Operator.sum(sx(i) for i in range(3))

    built = vmc.build(job(field, None, sampler={"name": "full"}))
    assert built.sampler.is_full and built.job.sampler.n_chains == 8
    with pytest.raises(JobError, match="has all 8 states"):
        vmc.build(job(field, None, sampler={"name": "full", "n_chains": 16}))
