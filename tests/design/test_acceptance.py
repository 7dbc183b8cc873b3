"""What the design promises, against states that are really trained.

Every state here minimises the exact energy over all its parameters (`train`), so that
neither noise nor a bad optimiser stands between a promise and its test.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

import vmc
from tests.design.trained import Trained, train
from vmc.design import design
from vmc.design_cuts import symmetry_group
from vmc.design_floors import Certificate, certificate
from vmc.design_growth import levels_of
from vmc.design_needs import default_order, specs_of
from vmc.design_recommend import bottleneck, build_ansatz, capacities_of, verdicts_of
from vmc.design_spectra import Required, required_exactly
from vmc.system import System, build_system

TARGET = 1e-3
_CHAIN = {"name": "chain", "size": [12]}
_FIELDS = {"distribution": "uniform", "low": -0.5, "high": 0.5}
#: Ten problems: lattice and Hamiltonian.
PROBLEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tfim 0.5": (_CHAIN, {"name": "tfim", "h": 0.5}),
    "tfim 1": (_CHAIN, {"name": "tfim", "h": 1.0}),
    "tfim 2": (_CHAIN, {"name": "tfim", "h": 2.0}),
    "heisenberg": (_CHAIN, {"name": "heisenberg"}),
    "xxz 0.5": (_CHAIN, {"name": "xxz", "delta": 0.5}),
    "j1j2 0.2": (_CHAIN, {"name": "j1j2", "J2": 0.2}),
    "j1j2 0.4": (_CHAIN, {"name": "j1j2", "J2": 0.4}),
    "random field": (
        _CHAIN,
        {"name": "heisenberg", "h": _FIELDS, "disorder_seed": 3},
    ),
    "ladder": ({"name": "ladder", "size": [2, 6]}, {"name": "heisenberg"}),
    "open ladder": (
        {"name": "ladder", "size": [2, 6], "periodic": False},
        {"name": "heisenberg"},
    ),
}


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        name: of the problem.
        channels: recommended.
        n_parameters: of that ConvAC.
        predicted: relative error promised.
        reached: relative error of the trained state.
        halved: channels with half the bottleneck.
        floor: certified relative error of those, or None.
        below: relative error of the state trained with those, if the floor exceeds
            the target.
    """

    name: str
    channels: list[int]
    n_parameters: int
    predicted: float
    reached: float
    halved: list[int]
    floor: float | None
    below: float | None


def job_of(problem: str, ansatz: Mapping[str, Any] | None = None) -> vmc.Job:
    lattice, hamiltonian = PROBLEMS[problem]
    keys = {"ansatz": dict(ansatz)} if ansatz else {}
    return vmc.Job(lattice=lattice, hamiltonian=hamiltonian, **keys)


def certain(
    job: vmc.Job, system: System, needed: Required, ansatz: dict[str, Any]
) -> Certificate:
    """The certificate of an ansatz, from spectra that are known."""
    dims = system.hamiltonian.space.local_dims
    carry = capacities_of(build_ansatz(job, system, ansatz), dims)
    group = symmetry_group(system.hamiltonian, system.lattice)
    return certificate(needed, verdicts_of(needed, carry, group, dims, TARGET))


def run_error(job: vmc.Job, enough: float, n_seeds: int = 3) -> float:
    """The least relative error of runs with every configuration and several seeds."""
    errors = []
    for seed in range(1, n_seeds + 1):
        steps = {"sampler": {"name": "full"}, "run": {"n_steps": 400}}
        result = vmc.run(
            job.replace(steps | {"measure": {"n_samples": 64}, "seed": seed})
        )
        errors.append(float(result.report["relative_error"]))
        if errors[-1] <= enough:
            break
    return min(errors)


@functools.cache
def row(name: str) -> Row:
    """Design, train what is recommended, halve the bottleneck, train again."""
    found = design(
        job_of(name), target=TARGET, families=["convac"], calibrate=False, n_random=2
    )
    best, needed = found.recommendation, found.required
    assert best is not None and needed.energy is not None
    scale = abs(needed.energy)
    reached = run_error(job_of(name, best.ansatz), TARGET)

    narrow = bottleneck(best.verdicts)
    levels = levels_of(narrow.indices if narrow else ())
    channels = list(best.keys["channels"])
    wide = levels or [int(np.argmax(channels))]
    halved = [max(1, r // 2) if i in wide else r for i, r in enumerate(channels)]
    ansatz = best.ansatz | {"channels": halved}
    floor = certain(job_of(name), found.system, needed, ansatz).energy
    below = None
    if floor is not None and floor > TARGET * scale:
        below = run_error(job_of(name, ansatz), 0.0, n_seeds=1)
    return Row(
        name=name,
        channels=channels,
        n_parameters=best.n_parameters,
        predicted=best.predicted or 0.0,
        reached=reached,
        halved=halved,
        floor=None if floor is None else floor / scale,
        below=below,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROBLEMS))
def test_no_state_is_below_its_floor(name: str) -> None:
    one = row(name)
    print(one)
    assert one.predicted <= TARGET
    assert one.reached > -1e-10
    if one.below is not None:
        assert one.floor is not None and one.below >= one.floor


@pytest.mark.slow
def test_recommendations_reach_their_target() -> None:
    """In at least eight of ten problems."""
    rows = [row(name) for name in PROBLEMS]
    for one in rows:
        print(one)
    assert sum(one.reached <= TARGET for one in rows) >= 8
    # The floors of halved bottlenecks say something: not all of them allow the target.
    assert any(one.below is not None for one in rows) or all(
        one.floor is None or one.floor <= TARGET for one in rows
    )


# ---- twenty trained circuits on the ring of 16 ---------------------------------------


@functools.cache
def ring() -> tuple[vmc.Job, System, Required]:
    job = vmc.Job(
        lattice={"name": "chain", "size": [16]}, hamiltonian={"name": "heisenberg"}
    )
    system = build_system(job)
    group = symmetry_group(system.hamiltonian, system.lattice)
    specs = specs_of(system, group, [default_order(system)], [], 2)
    return job, system, required_exactly(system.hamiltonian, specs)


def trained_circuit(seed: int) -> tuple[list[int], str, float, Trained]:
    """Channels, sharing, certified E - E0 and a trained state of a random circuit."""
    job, system, needed = ring()
    rng = np.random.default_rng(1000 + seed)
    channels = [int(r) for r in rng.integers(1, 13, 4)]
    sharing = ("window", "none")[seed % 2]
    ansatz = {"name": "convac", "channels": channels, "sharing": sharing}
    floor = certain(job, system, needed, ansatz)
    assert floor.energy is not None
    built = vmc.build(vmc.Job(**job.to_dict() | {"ansatz": ansatz | {"dtype": "real"}}))
    return channels, sharing, floor.energy, train(built, n_steps=260, tol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 5, 10, 15])
def test_twenty_trained_circuits_respect_their_floors(first: int) -> None:
    """E - E0 is never below the certificate, which is not trivial for most."""
    _, _, needed = ring()
    assert needed.energy is not None
    floors = []
    for seed in range(first, first + 5):
        channels, sharing, floor, state = trained_circuit(seed)
        above = state.energy - needed.energy
        print(f"{channels} {sharing}: certified {floor:.3g}, trained {above:.3g}")
        assert above >= floor
        floors.append(floor)
    assert max(floors) > 1e-4


@pytest.mark.slow
def test_floors_of_a_random_ring_from_dense_matrices(tmp_path: Any) -> None:
    """Certificate and recommendation for couplings that stand in no document."""
    rng = np.random.default_rng(77)
    couplings = rng.uniform(0.4, 1.6, 8)
    keys = {"name": "heisenberg", "J": couplings.tolist()}
    job = vmc.Job(lattice={"name": "chain", "size": [8]}, hamiltonian=keys)
    system = build_system(job)
    edges = np.asarray(system.lattice.bonds(1).sites)
    dense = np.zeros((256, 256))
    bits = np.array([[(code >> (7 - i)) & 1 for i in range(8)] for code in range(256)])
    for (i, j), c in zip(edges.tolist(), couplings, strict=True):
        same = bits[:, i] == bits[:, j]
        dense[np.arange(256), np.arange(256)] += c * np.where(same, 0.25, -0.25)
        flipped = np.arange(256) ^ (1 << (7 - i)) ^ (1 << (7 - j))
        dense[np.arange(256)[~same], flipped[~same]] += c / 2
    sector = np.flatnonzero(bits.sum(1) == 4)
    energies, vectors = np.linalg.eigh(dense[np.ix_(sector, sector)])
    psi = np.zeros(256)
    psi[sector] = vectors[:, 0]

    ansatz = {"name": "convac", "channels": [4, 3, 3], "sharing": "none"}
    own = vmc.Job(**job.to_dict() | {"ansatz": ansatz | {"dtype": "real"}})
    found = design(own, target=TARGET, families=["convac"], calibrate=False, n_random=1)
    assert found.required.energy == pytest.approx(energies[0], abs=1e-9)
    worst = 0.0
    for verdict in found.verdicts:
        assert verdict.capacity is not None
        region = list(verdict.region)
        rest = [i for i in range(8) if i not in region]
        m = psi.reshape((2,) * 8).transpose([*region, *rest])
        m = m.reshape(2 ** len(region), -1)
        rows = np.array([bin(code).count("1") for code in range(len(m))])
        k = round(np.exp(verdict.capacity.ln_upper))
        kept = sum(
            np.sum(np.linalg.svd(m[rows == n], compute_uv=False)[:k] ** 2)
            for n in np.unique(rows)
        )
        worst = max(worst, 1 - kept)
    gap = energies[1] - energies[0]
    assert found.certificate.energy == pytest.approx(gap * worst, abs=1e-9)
    assert train(vmc.build(own)).energy - energies[0] >= gap * worst

    best = found.recommendation
    assert best is not None and best.reaches
    built = vmc.build(
        vmc.Job(**job.to_dict() | {"ansatz": best.ansatz | {"dtype": "real"}})
    )
    scale = abs(energies[0])
    state = train(built, n_starts=3, enough=energies[0] + TARGET * scale)
    assert state.energy - energies[0] <= TARGET * scale
