"""Which sampler a job gets, and whether its moves reach everything."""

from typing import Any

import numpy as np
import pytest

import vmc
from hamiltonians import Operator, Sx, Sy, Sz, sx, sz
from tests.engine.helpers import MeshOf
from vmc import sampling
from vmc.base import Moves
from vmc.distributed import to_host
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


def bonds(pairs: list[tuple[int, int]]) -> Operator:
    return Operator.sum(s(i) @ s(j) for i, j in pairs for s in (Sx, Sy, Sz))


@pytest.mark.parametrize(
    "pairs",
    [
        [(2 * i, 2 * i + 1) for i in range(10)],
        [(12 * r + i, 12 * r + (i + 1) % 12) for r in range(2) for i in range(12)],
    ],
    ids=["dimers", "rings"],
)
def test_a_large_sector_that_falls_apart_is_refused(pairs: Any) -> None:
    """Beyond enumeration: the parts of the sites keep their charges."""
    ham = {"name": lambda: bonds(pairs)}
    with pytest.raises(JobError, match="no move joins site .* to site 0"):
        vmc.build(job(ham, None))
    n_sites = 1 + max(max(pair) for pair in pairs)
    charges = [
        {"weights": [int(part == i // (n_sites // 2)) for i in range(n_sites)]}
        for part in range(2)
    ]
    for charge in charges:
        charge["value"] = n_sites // 4
    split = job(ham | {"charges": charges}, None)
    if len(pairs) == n_sites:
        assert vmc.build(split).job.sampler.name == "mixed"
    else:
        with pytest.raises(JobError, match="no move joins"):
            vmc.build(split)


def test_a_diagonal_hamiltonian_is_sampled_by_single_flips() -> None:
    def diagonal() -> Operator:
        return sz(0) @ sz(1) + 0.5 * sz(1) @ sz(2)

    built = vmc.build(job(diagonal, None))
    assert built.job.sampler.name == "local"
    assert built.job.hamiltonian.total_sz == "free"


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ({"name": "xxz", "delta": -2.0}, 8, "its energy is -4, the lowest here -2.31"),
        ({"name": "heisenberg", "h": 5.0}, 8, "lies in another sector"),
        ({"name": "heisenberg", "h": 0.01}, 20, "tell up from down"),
        ({"name": "heisenberg"}, 8, None),
        ({"name": "heisenberg"}, 20, None),
        ({"name": "heisenberg", "h": 5.0, "total_sz": 1}, 8, None),
    ],
)
def test_a_lower_sector_is_pointed_out(
    model: dict, size: int, message: str | None
) -> None:
    said = [w for w in vmc.build(job(model, [size])).warnings if "sector" in w]
    assert len(said) == (message is not None)
    assert message is None or message in said[0]


def test_the_exact_energy_counts_the_ground_states() -> None:
    exact = vmc.build(job("heisenberg", [7])).exact()
    assert exact is not None and exact["degeneracy"] == 2
    assert exact["source"].endswith("two ground states")
    exact = vmc.build(job({"name": "xy"}, [7])).exact()
    assert exact is not None and exact["source"].endswith(", 2 ground states")


def test_full_sums_choose_their_own_numbers() -> None:
    def field() -> Operator:
        return Operator.sum(sx(i) for i in range(3))

    built = vmc.build(job(field, None, sampler={"name": "full"}))
    assert built.sampler.is_full and built.job.sampler.n_chains == 8
    with pytest.raises(JobError, match="has all 8 states"):
        vmc.build(job(field, None, sampler={"name": "full", "n_chains": 16}))


# ---- sectors of more than total Sz ---------------------------------------------


def test_a_blockade_is_kept_by_single_flips() -> None:
    keys = {"name": "pxp", "blockade": True}
    built = vmc.build(job("pxp", [8], hamiltonian=keys))
    space = built.hamiltonian.space
    assert space.n_states == 47  # the Lucas number L_8
    assert built.job.sampler.name == "local"
    moves = sampling.proposals("local", built.hamiltonian, built.system.lattice)
    assert reachable(space, moves) == (47, 47)
    assert built.exact() is not None


def test_a_parity_is_kept_by_the_moves_of_the_hamiltonian() -> None:
    parity = {"weights": [1] * 6, "value": 0, "modulus": 2}
    keys = {"name": "xyz", "Jx": 0.5, "charges": [parity]}
    built = vmc.build(job("xyz", [6], hamiltonian=keys))
    assert built.hamiltonian.space.n_states == 32
    assert built.job.sampler.name == "mixed"
    with pytest.raises(JobError, match="local flips leave the sector"):
        again = job("xyz", [6], hamiltonian=keys, sampler={"name": "local"})
        vmc.build(again)
    with pytest.raises(JobError, match="does not conserve"):
        vmc.build(job("tfim", [6], hamiltonian={"name": "tfim", "charges": [parity]}))


def test_the_exact_energy_is_that_of_the_symmetry_of_psi() -> None:
    """J1-J2 on a ring of six at J2 = 0.5: two ground states, momenta 0 and pi."""
    keys = {"name": "j1j2", "J2": 0.7, "marshall": True}
    symmetry = {"momentum": [3], "spin_flip": -1}
    ansatz = {"name": "rbm", "symmetry": symmetry}
    built = vmc.build(job("j1j2", [6], hamiltonian=keys, ansatz=ansatz))
    exact = built.exact()
    assert exact is not None and "same symmetry" in exact["source"]
    lowest = built.system.exact()
    assert lowest is not None and exact["energy"] >= lowest["energy"] - 1e-12


RING = ("heisenberg", [8])


def test_a_full_sum_of_few_states_is_built_again(mesh_of: MeshOf) -> None:
    """Two states become eight rows: as a run that is opened later has it."""
    named = job("heisenberg", [2], sampler={"name": "full"})
    found = vmc.build(named, mesh_of(1))
    assert found.hamiltonian.space.n_states == 2
    again = vmc.build(found.job, mesh_of(1))
    assert again.job.sampler.n_chains == found.job.sampler.n_chains == 8


@pytest.mark.parametrize("given", [None, 72])
def test_a_full_sum_is_the_same_on_other_devices(
    mesh_of: MeshOf, given: int | None
) -> None:
    """70 states, which four devices cannot share evenly."""
    named = job(*RING, sampler={"name": "full", "n_chains": given})
    found = vmc.build(named, mesh_of(4))
    assert found.job.sampler.n_chains == found.vmc.sampler.n_chains == 72
    state, _ = found.vmc.advance(found.first_state(), 2)
    before = found.vmc.advance(state, 3)[1]["energy"]
    for again in (named, found.job):
        alone = vmc.build(again, mesh_of(1))
        assert alone.vmc.sampler.n_chains == 72
        after = alone.vmc.advance(to_host(state), 3)[1]["energy"]
        np.testing.assert_allclose(after, before, rtol=1e-10)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"n_chains": 69}, "n_chains = 69: .* has all 70 states; leave the key out"),
        ({"n_samples": 1024}, "n_samples = 1024: .* has all 70 states"),
        ({"n_chains": 70, "n_samples": 72}, "n_chains = 70, n_samples = 72: "),
        ({"n_chains": 71}, "n_chains = 71 cannot be split over 2 devices"),
    ],
)
def test_a_full_sum_of_other_numbers(
    mesh_of: MeshOf, keys: dict[str, int], said: str
) -> None:
    with pytest.raises(JobError, match=said):
        vmc.build(job(*RING, sampler={"name": "full"} | keys), mesh_of(2))
