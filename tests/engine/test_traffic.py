"""The formulas for what a step sends, against the collectives of compiled programs."""

from collections.abc import Callable
from typing import Any

import pytest
from jax.sharding import Mesh

import vmc
from benchmarks.scaling import traffic
from benchmarks.scaling_model import Machine, Step

MeshOf = Callable[[int], Mesh]

RBM = {"name": "rbm", "alpha": 2, "dtype": "complex", "symmetry": "none"}
MLP = {"name": "mlp", "features": [32], "symmetry": "none", "dtype": "real"}


def model(ansatz: dict[str, Any], p: int, n_samples: int) -> Step:
    if ansatz["name"] == "mlp":
        return Step("columns", n_samples, p, word=8)
    if p <= n_samples:
        return Step("dense", n_samples, p)
    # Visible units are real numbers, half as long as hidden ones.
    return Step("factored", n_samples, p, factors=16 // 2 + 32)


@pytest.mark.parametrize(
    ("ansatz", "n_samples"),
    [
        pytest.param(RBM, 256, marks=pytest.mark.slow),
        pytest.param(RBM, 1024, marks=pytest.mark.slow),
        (MLP, 256),
    ],
)
def test_bytes_of_a_step(ansatz: dict[str, Any], n_samples: int) -> None:
    job = vmc.Job(
        lattice={"name": "chain", "size": [16]},
        hamiltonian={"name": "tfim"},
        ansatz=ansatz,
        sampler={"n_chains": n_samples, "n_samples": n_samples},
        optimizer={"name": "sr"},
    )
    run = vmc.build(job).vmc
    devices = run._mesh.size
    found = traffic(run.lowered(run.init()).compile().as_text())
    want = model(ansatz, run.n_parameters, n_samples).received(devices)
    assert found.pop("count") < 30
    # What the model leaves out: energies by chain, weights, single numbers.
    small = 40 * n_samples + 2000
    for kind, size in want.items():
        assert found.pop(kind) == pytest.approx(size, rel=0.1, abs=small), kind
    assert all(size < small for size in found.values()), found


def test_one_device_sends_nothing_and_many_lose() -> None:
    step = Step("factored", 4096, 10_000, factors=300, sampling=1e9)
    assert step.received(1) == {"all-reduce": 0.0}
    assert step.efficiency(1, Machine()) == 1
    values = [step.efficiency(d, Machine()) for d in (2, 16, 128)]
    assert 1 > values[0] > values[1] > values[2] > 0
