"""Cores as devices: how many a job takes, and that they are there in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import jax
import pytest

import vmc
from vmc import spread

LATTICE, MODEL = {"name": "chain", "size": [12]}, {"name": "tfim"}


def job(**sampler: Any) -> vmc.Job:
    return vmc.Job(
        lattice=LATTICE, hamiltonian=MODEL, ansatz={"name": "rbm"}, sampler=sampler
    )


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the four devices of the tests were cores that were offered."""
    monkeypatch.setattr(spread, "offered", lambda: True)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("n_chains", "work", "memory", "n_devices"),
    [
        (64, 0.0, 1.0, 4),
        (63, 0.0, 1.0, 3),  # 4 do not divide the walkers
        (61, 0.0, 1.0, 1),
        (64, 1.0, 1.0, 1),  # a step of one device's work at most
        (64, 2.5, 1.0, 2),
        (64, 0.0, 0.0, 1),  # no memory for copies
    ],
)
def test_as_many_as_pay(
    monkeypatch: pytest.MonkeyPatch,
    n_chains: int,
    work: float,
    memory: float,
    n_devices: int,
) -> None:
    built = vmc.build(job(n_chains=8, n_samples=8))
    each = spread.operations(built.wavefunction, 12)
    # A sum and a log cosh of 12 terms for each hidden unit, at least.
    assert each >= 2 * 12 * built.wavefunction.init(jax.random.key(0))["W"].shape[1]
    all_of_it = n_chains * each
    monkeypatch.setattr(spread, "WORK", all_of_it / work if work else 1e-300)
    monkeypatch.setattr(spread, "MEMORY", memory)
    assert vmc.build(job(n_chains=n_chains, n_samples=n_chains)).vmc._mesh.size == (
        n_devices
    )


def test_devices_that_the_user_made_are_all_used() -> None:
    """The tests' own come from XLA_FLAGS."""
    assert vmc.build(job(n_chains=8, n_samples=8)).vmc._mesh.size == len(jax.devices())
    with pytest.raises(vmc.JobError, match="cannot be split over 4 devices"):
        vmc.build(job(n_chains=9, n_samples=9))


SCRIPT = """
import json, os, sys
os.sched_getaffinity = lambda pid: {0, 1, 2}  # whatever this machine has
from vmc.cli.environment import start_jax
layout = start_jax()
import jax, vmc
from vmc import spread
keys = json.loads(sys.argv[1])
def size(work):
    spread.WORK = work
    return vmc.build(vmc.Job(**keys)).vmc._mesh.size
print(layout.n_devices, size(1.0), size(1e12))
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "3 3 1"),
        ({"VMC_CORES": "2"}, "2 2 1"),
        ({"JAX_NUM_CPU_DEVICES": "2"}, "2 2 2"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, "2 2 2"),
    ],
    ids=["offered", "limited", "number", "forced"],
)
def test_in_a_new_process(given: dict[str, str], found: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | given
    keys = job(n_chains=6, n_samples=6).to_dict()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(keys)],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == found.split()


def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMC_CORES", "two")
    monkeypatch.delenv("XLA_FLAGS")
    with pytest.raises(vmc.JobError, match="VMC_CORES='two': expected a number"):
        spread.offer_cores()
