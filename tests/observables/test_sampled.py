"""Estimates from Markov chains against full sums: within their errors, and covered."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import vmc
from tests.engine.helpers import MeshOf
from tests.observables.referee import full
from vmc.assembly import Built, build
from vmc.base import VMCState
from vmc.keys import Purpose
from vmc.measurement import DRAWS, Measurement
from vmc.observables_run import measure, plan
from vmc.streaming import Blocks, Stream, Sums

JOB = vmc.Job(
    lattice={"name": "chain", "size": [6]},
    hamiltonian={"name": "heisenberg"},
    ansatz={"name": "jastrow", "dtype": "real", "symmetry": "none"},
    sampler={"n_chains": 64, "n_samples": 64, "n_sweeps": 2},
)
FEW = ["staggered_magnetization", "correlations", "spin_structure_factor", "renyi2"]
NAMES = [*FEW[:-1], "correlation_length", "symmetries", "lanczos", "renyi2:0,1"]


def sampled(state: VMCState) -> tuple[Built, VMCState]:
    """The same parameters with walkers."""
    built = build(JOB)
    return built, built.vmc.init(state.params)


@pytest.mark.parametrize(
    "names", [FEW, pytest.param(NAMES, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_one_pass_agrees_with_full_sums(names: list[str]) -> None:
    exact_built, exact_state, _ = full(JOB, 0.5)
    built, state = sampled(exact_state)
    want = measure(exact_built, exact_state, 1, names)
    got = measure(built, state, 64 * 128, names)
    # The samples do not know what is measured on them.
    assert got.energy == built.vmc.measure(state, 64 * 128)
    assert abs(got.energy.mean - want.energy.mean) < 4 * got.energy.error
    z = []
    for name, table in got.observables.items():
        exact = want.observables[name]
        labels = {k: v for k, v in table.items() if k not in ("mean", "error")}
        if not name.startswith("renyi2"):
            assert labels == {k: exact[k] for k in labels}
        for mean, error, true in zip(
            table["mean"], table["error"], exact["mean"], strict=True
        ):
            if mean is None or abs(error) < 1e-12:
                assert mean is None or abs(mean - true) < 1e-9
            else:
                z.append((mean - true) / error)
    assert len(z) > 15 and np.max(np.abs(z)) < 5
    assert 0.2 < np.mean(np.square(z)) < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("full_sum", [False, True])
def test_devices_do_not_matter(mesh_of: MeshOf, full_sum: bool) -> None:
    exact_built, exact_state, _ = full(JOB, 0.5)
    built, state = exact_built, exact_state
    if not full_sum:
        built, state = sampled(exact_state)
    kernels = plan(built, [n for n in NAMES if "renyi2" not in n]).kernels
    found = []
    for n in (1, 4):
        m = built.vmc._measurement
        sampler = m.sampler
        if full_sum:
            from vmc.samplers import full as full_sampler

            space = built.hamiltonian.space
            sampler = full_sampler(built.wavefunction, space)
        parts = (m.hamiltonian, m.wavefunction, sampler, mesh_of(n), m.precision)
        one = Measurement(*parts, m.chunk)
        chains = np.asarray(state.chains)
        if full_sum:
            states = built.hamiltonian.space.all_states()
            chains = np.resize(states, (sampler.n_chains, 6))
        found.append(one.observe(state._replace(chains=chains), 64 * 40, kernels))
    np.testing.assert_allclose(found[0].energy.mean, found[1].energy.mean, rtol=1e-13)
    for name in kernels:
        one, two = (f.averages.evaluate([name], lambda parts: parts[0]) for f in found)
        np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("n_chains", [64, 8])
def test_error_bars_cover(n_chains: int) -> None:
    """1000 repeats: as many chains as they need, in one measurement."""
    repeats, n_calls = 1000, 2 if n_chains == 64 else 12
    # With 6 sites the Binder ratio of a nearly uniform state happens to be stationary.
    job = JOB.replace({"lattice": {"size": [8]}})
    exact_built, exact_state, _ = full(job, 0.15)
    names = ["staggered_magnetization", "spin_structure_factor", "symmetries"]
    names += ["correlation_length", "lanczos"]
    want = measure(exact_built, exact_state, 1, names)
    n_all = repeats * n_chains
    built = build(job.replace({"sampler": {"n_chains": n_all, "n_samples": n_all}}))
    state = built.vmc.init(exact_state.params)
    made = plan(built, names)
    kernels = dict(sorted(made.kernels.items()))
    kernels = {k: v.near(want.energy.mean) for k, v in kernels.items()}
    sizes = {k: v.n_features for k, v in kernels.items()}
    streams = [Stream(n_chains) for _ in range(repeats)]
    blocks = [Blocks(n_chains, sizes, DRAWS) for _ in range(repeats)]
    m, chains = built.vmc._measurement, state.chains
    program = m.program(kernels, state.params)
    for call in range(n_calls):
        path = np.array([Purpose.MEASURE, 0, call * DRAWS], np.int32)
        args = (state.params, chains, state.key, path, np.int32(DRAWS))
        chains, rows, _, sums, _ = program(m.hamiltonian, kernels, *args)
        rows, sums = np.asarray(rows), np.asarray(sums)
        for i in range(repeats):
            part = slice(i * n_chains, (i + 1) * n_chains)
            streams[i].add(rows[:, 0, part], rows[:, 1, part])
            blocks[i].add(sums[:, part], DRAWS)
    energies = [s.estimate() for s in streams]
    check = {"energy": [(e.mean - want.energy.mean) / e.error for e in energies]}
    for name, finish in made.finish.items():
        exact = want.observables[name]["mean"]
        tables = [finish(found(e, b)) for e, b in zip(energies, blocks, strict=True)]
        for k, true in enumerate(exact):
            errors = [t["error"][k] for t in tables]
            if true is None or max(errors) < 1e-12:
                continue
            check[f"{name} {k}"] = [
                (t["mean"][k] - true) / t["error"][k] for t in tables
            ]
    assert len(check) > 12
    for name, z in check.items():
        within = np.abs(z)
        assert abs(np.mean(within < 1) - 0.6827) < 0.05, (name, np.mean(within < 1))
        assert np.mean(within < 3) >= 0.99, (name, np.mean(within < 3))


def found(energy: Any, averages: Blocks | Sums) -> Any:
    from vmc.observables_plan import Found

    return Found(energy, averages, None, None, jax.random.key(0))
