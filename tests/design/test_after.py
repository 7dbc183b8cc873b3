"""After training: what was realised, what limits it, and how to go on."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.flatten_util
import numpy as np
import pytest
from scipy.optimize import minimize

import vmc
from tests.design.trained import train
from vmc import registry
from vmc.design_after import After, after
from vmc.design_after_report import as_json, headline, job_toml, lines, table
from vmc.design_growth import levels_of
from vmc.design_realised import amplitudes, captured, realised
from vmc.design_sector_rank import sector_least_energy
from vmc.design_spectra import required_exactly
from vmc.design_verdict import (
    CHANNELS,
    OPTIMISATION,
    REACHED,
    UNDECIDED,
    Evidence,
    decide,
    fall,
)
from vmc.errors import JobError
from vmc.system import build_system

HALF = (0, 1, 2, 3)


def evidence(**numbers: Any) -> Evidence:
    return Evidence(**{"error": 1.0, "noise": 0.0, "target": 0.01} | numbers)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({"error": 0.009}, REACHED),
        ({"error": 0.02, "noise": 0.006}, REACHED),
        # Most of the error is out of reach, whatever else.
        ({"certified": 0.6, "captured": 0.9}, CHANNELS),
        ({"fixed_rank": 0.6, "captured": 0.0}, CHANNELS),
        # At rest, and the bonds explain the error.
        ({"fixed_rank": 0.1, "captured": 0.01, "expected": 0.8}, CHANNELS),
        ({"captured": 0.01, "limited": True}, CHANNELS),
        # At rest although there is room.
        ({"fixed_rank": 0.0, "captured": 0.01, "expected": 0.01}, OPTIMISATION),
        ({"captured": 0.01, "limited": False}, OPTIMISATION),
        ({"captured": 0.01}, UNDECIDED),
        # Moving.
        ({"fixed_rank": 0.01, "captured": 0.6, "expected": 3.0}, OPTIMISATION),
        ({"fixed_rank": 0.3, "captured": 0.6, "expected": 0.4}, OPTIMISATION),
        ({"fixed_rank": 0.3, "captured": 0.6, "expected": 3.0}, UNDECIDED),
        # Only the series tells whether it moves.
        ({"falling": 0.5, "expected": 0.05}, OPTIMISATION),
        ({"falling": 1e-3, "expected": 0.6}, CHANNELS),
        ({"expected": 0.6}, UNDECIDED),
        # Without E0: entropies.
        ({"error": None}, UNDECIDED),
        ({"error": None, "narrow": 0.95, "missing": 0.3}, CHANNELS),
        ({"error": None, "narrow": 0.3, "missing": 0.5}, OPTIMISATION),
        ({"error": None, "narrow": 0.3, "missing": 0.05}, UNDECIDED),
    ],
)
def test_what_some_evidence_says(numbers: dict[str, Any], verdict: str) -> None:
    found = decide(evidence(**numbers))
    assert found.verdict == verdict and all(found.reasons)


def test_the_fall_of_a_series() -> None:
    assert fall([5.0, 5, 4, 4, 3, 3, 2, 2, 1, 1]) == pytest.approx(1.0)
    assert fall([1.0] * 9) is None


def test_levels_of_a_cut() -> None:
    assert levels_of(["h2.0", "h2.1", "h0.3", "s4"]) == [0, 2]
    assert levels_of(["b1.0", "s2"]) == []


@functools.cache
def ring(model: str) -> tuple[Any, Any, Any]:
    job = vmc.Job(lattice={"name": "chain", "size": [8]}, hamiltonian={"name": model})
    system = build_system(job)
    return (
        system,
        registry.to_sparse(system.hamiltonian),
        required_exactly(system.hamiltonian, [HALF]),
    )


@pytest.mark.parametrize("model", ["heisenberg", "tfim"])
def test_the_least_energy_of_a_rank_as_it_is_sampled(model: str, rng: Any) -> None:
    """Against gradient descent on P (A B); between the floor and E0 + nothing."""
    system, matrix, needed = ring(model)
    space, rank = system.hamiltonian.space, 2
    best = sector_least_energy(matrix, needed.vector, space, HALF, rank)
    states = space.all_states()
    codes = ((1 - states) // 2) @ (1 << np.arange(8)[::-1])
    a, b = codes // 16, codes % 16

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        left, right = x[: 16 * rank].reshape(16, rank), x[16 * rank :].reshape(rank, 16)
        psi = (left @ right)[a, b]
        norm = psi @ psi
        applied = matrix @ psi
        energy = psi @ applied / norm
        force = np.zeros((16, 16))
        force[a, b] = 2 * (applied - energy * psi) / norm
        pair = (force @ right.T).ravel(), (left.T @ force).ravel()
        return energy, np.concatenate(pair)

    ends = [
        minimize(loss, rng.normal(size=32 * rank), jac=True, method="L-BFGS-B").fun
        for _ in range(4)
    ]
    assert best.energy <= min(ends) + 1e-6
    assert min(ends) == pytest.approx(best.energy, abs=2e-3)
    floor = needed.cuts[0].blocks
    assert floor is not None and best.infidelity > 0
    full = sector_least_energy(matrix, needed.vector, space, HALF, 16)
    assert full.energy == pytest.approx(needed.energy, abs=1e-9)
    assert best.energy > needed.energy


def circuit(channels: list[int], **keys: Any) -> Any:
    tables = {
        "lattice": {"name": "chain", "size": [8]},
        "hamiltonian": {"name": "heisenberg"},
        "ansatz": {"name": "convac", "channels": channels},
        "sampler": {"name": "full"},
    }
    return vmc.Job(**tables | keys)


@pytest.mark.slow
def test_amplitudes_and_what_parameters_can_follow() -> None:
    """Energy, variance and entropies against the engine; the tangent space dense."""
    built = vmc.build(circuit([2, 2, 2]))
    params = built.wavefunction.init(jax.random.key(3))
    found = amplitudes(built, params)
    assert found is not None
    estimate = built.vmc.measure(built.vmc.init(params), 64)
    assert found.energy == pytest.approx(estimate.mean, abs=1e-10)
    assert found.variance == pytest.approx(estimate.variance, rel=1e-8)
    cut = realised(built, params, [HALF], found)[0]
    space = built.hamiltonian.space
    whole = np.zeros(256, complex)
    whole[space.all_codes()] = found.vector
    p = np.linalg.svd(whole.reshape(16, 16), compute_uv=False) ** 2
    assert cut.s2 == pytest.approx(-math.log(np.sum(p**2)), abs=1e-10)
    assert cut.label == "exact"

    part = captured(built.wavefunction, params, found)
    assert part is not None
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    jacobian = jax.jacrev(
        lambda x: built.wavefunction.log_psi(unravel(x), found.states).real
    )(flat)
    tangent = np.asarray(jacobian) * found.vector[:, None]
    tangent -= np.outer(found.vector, found.vector.conj() @ tangent)
    basis, values, _ = np.linalg.svd(tangent, full_matrices=False)
    basis = basis[:, values > 1e-4 * values[0]]
    want = np.sum(np.abs(basis.conj().T @ found.residual) ** 2) / found.variance
    assert part[0] == pytest.approx(want, rel=1e-6)
    assert part[1] == basis.shape[1] and 0 < part[0] < 1


def trained(folder: Path, channels: list[int], n_steps: int) -> After:
    run = {"n_steps": n_steps, "out": str(folder)}
    vmc.run(circuit(channels, run=run, measure={"n_samples": 1024}))
    return after(folder, target=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "where"), [([2, 2, 2], "levels 0, 1"), ([4, 10, 2], "level 2")]
)
def test_too_few_channels_trained_to_the_end(
    tmp_path: Path, channels: list[int], where: str
) -> None:
    """At its best energy: the verdict is channels, and growing them helps."""
    found = trained(tmp_path / "narrow", channels, 400)
    best = train(vmc.build(circuit(channels)), n_starts=3)
    assert found.energy == pytest.approx(best.energy, rel=2e-3)
    assert found.decision.verdict == CHANNELS
    assert found.evidence.captured is not None and found.evidence.captured < 0.1
    assert found.evidence.error is not None
    assert 0 < (found.evidence.certified or 0) <= found.evidence.error
    assert (found.evidence.fixed_rank or 0) <= found.evidence.error
    assert found.growth is not None and found.growth.where == where
    assert headline(found).startswith(f"channel-limited: grow {where} (channels = ")
    # The larger one starts from the same psi, and has somewhere to go.
    assert (
        found.after_growth is not None
        and found.after_growth > 10 * found.evidence.captured
    )
    same = amplitudes(found.built, found.built.vmc.init().params)
    assert same is not None
    text = job_toml(found)
    assert text is not None
    (tmp_path / "next.toml").write_text(text)
    job = vmc.Job.load(tmp_path / "next.toml")
    grown = job.replace({"run": {"n_steps": 300}})
    first = vmc.build(grown)
    before = amplitudes(first, first.first_state().params)
    assert before is not None
    assert before.energy == pytest.approx(found.energy, abs=1e-9)
    result = vmc.run(grown)
    assert result.energy is not None
    error = result.energy.mean - (found.required.energy or 0.0)
    assert error < 0.3 * found.evidence.error
    json.dumps(as_json(found))


@pytest.mark.slow
def test_enough_channels_stopped_early(tmp_path: Path) -> None:
    """The same ring with the channels it needs, after a few steps."""
    found = trained(tmp_path / "early", [4, 12, 8], 8)
    assert found.decision.verdict == OPTIMISATION
    assert found.evidence.captured is not None and found.evidence.captured > 0.1
    assert headline(found) == "optimisation-limited"
    data = as_json(found)
    half = next(c for c in data["cuts"] if c["region"] == list(HALF))
    assert half["realised_s2"] != pytest.approx(half["s2"], abs=1e-3)
    assert data["energy"]["mean"] - data["ground_energy"] == pytest.approx(
        data["evidence"]["error"]
    )


@pytest.mark.slow
def test_a_chain_with_exact_entropies_and_one_with_samples(tmp_path: Path) -> None:
    """A free MPS says its entropies at any size; an RBM is sampled."""
    tables: dict[str, Any] = {
        "lattice": {"name": "chain", "size": [10]},
        "hamiltonian": {"name": "tfim", "h": 1.5, "total_sz": "free"},
        "run": {"n_steps": 60},
        "measure": {"n_samples": 4096},
    }
    for ansatz in ({"name": "mps", "bond_dimension": 2}, {"name": "rbm", "alpha": 1}):
        job = vmc.Job(**tables | {"ansatz": ansatz})
        result = vmc.run(job)
        built, params = result.built, result.state.params
        found = amplitudes(built, params)
        regions = [(0, 1, 2, 3, 4), (0, 2, 4, 6, 8)]
        exact = realised(built, params, regions, found)
        other = realised(built, params, regions, None)
        for one, true in zip(other, exact, strict=True):
            assert true.s2 is not None and one.s2 is not None
            if ansatz["name"] == "mps":
                assert one.label == "exact"
                assert one.s2 == pytest.approx(true.s2, abs=1e-9)
            else:
                assert one.label == "mc" and one.error is not None
                assert abs(one.s2 - true.s2) < 4.5 * one.error


@pytest.mark.slow
def test_an_ansatz_that_cannot_grow(tmp_path: Path) -> None:
    """No growth and no bonds: the table and the reasons are still there."""
    job = circuit([2, 2, 2], run={"n_steps": 30, "out": str(tmp_path / "cnn")})
    cnn = {"name": "cnn", "channels": 2, "kernel_size": 3}
    job = vmc.Job(**job.to_dict() | {"ansatz": cnn})
    vmc.run(job)
    found = after(tmp_path / "cnn")
    assert found.growth is None and job_toml(found) is None
    assert found.evidence.expected is None
    head, rows = table(found)
    assert len(rows) == len(found.verdicts) and len(head) == len(rows[0])
    assert lines(found)[-1] == headline(found)


def test_bad_targets(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="between 0 and 1"):
        after(tmp_path, target=2.0)
