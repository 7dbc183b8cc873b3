"""Runs of the whole engine against exact diagonalisation, and on exact eigenstates."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from ansatze import rbm
from hamiltonians import (
    LATTICES,
    MODELS,
    TermHamiltonian,
    compile_operator,
    find_sign_gauge,
    ground_states,
)
from vmc.base import Problem, VMCState, WaveFunction
from vmc.driver import VMC
from vmc.moves import exchanges, local_flips
from vmc.optimizers import make_optimizer
from vmc.resolve import nearest_signs
from vmc.samplers import metropolis
from vmc.space import spins

# ---- exact eigenstates ---------------------------------------------------------


def fixed(n_sites: int, hidden: list[dict[int, complex]], visible: Any) -> WaveFunction:
    """A complex RBM that starts from given hidden units, without biases on them."""
    alpha = -(-len(hidden) // n_sites)
    wf = rbm(Problem(spins(n_sites)), alpha=alpha)
    weights = np.zeros((n_sites, alpha * n_sites), complex)
    for j, unit in enumerate(hidden):
        for site, w in unit.items():
            weights[site, j] += w

    def init(key: Array) -> dict[str, Array]:
        return {
            "W": jnp.asarray(weights),
            "a": jnp.broadcast_to(jnp.asarray(visible, complex), (n_sites,)),
            "b": jnp.zeros(alpha * n_sites, complex),
        }

    return wf._replace(init=init)


def cluster(n: int) -> tuple[WaveFunction, TermHamiltonian, float]:
    w = (math.asinh(1) + 0.5j * math.pi) / 2
    wf = fixed(n, [{i: w, (i + 1) % n: w} for i in range(n)], -0.5j * math.pi)
    ham = compile_operator(MODELS["cluster"](LATTICES["chain"]([n])), n)
    return wf, ham, -float(n)


def toric_code() -> tuple[WaveFunction, TermHamiltonian, float]:
    operator = MODELS["toric_code"](LATTICES["square_links"]([2, 2]))
    plaquettes = [sites for _, letters, sites in operator.terms if letters == "ZZZZ"]
    hidden = [dict.fromkeys(sites, 0.25j * math.pi) for sites in plaquettes]
    return fixed(8, hidden, 0.5j * math.pi), compile_operator(operator, 8), -8.0


@pytest.mark.parametrize(
    "case",
    [pytest.param(lambda: cluster(6), marks=pytest.mark.slow), toric_code],
    ids=["cluster", "toric"],
)
def test_a_run_on_an_eigenstate_has_no_variance_and_stays(case: Any) -> None:
    """Local energies without noise, forces without force, from sampled walkers.

    In the toric code every single flip leads to zero amplitude: walkers reach the
    loops by themselves and then stay.
    """
    wf, ham, energy = case()
    sampler = metropolis(wf, ham.space, local_flips(ham.space), n_chains=64)
    tx = make_optimizer("sr", learning_rate=0.05, n_steps=10, diag_shift=1e-2)
    vmc = VMC(ham, wf, sampler, tx, seed=4)
    state, records = vmc.advance(vmc.init(), 3)
    np.testing.assert_allclose(records["energy"], energy, atol=1e-10)
    assert np.all(records["variance"] < 1e-20)
    assert np.all(records["update_norm"] < 1e-8)
    e = vmc.measure(state, 1024)
    np.testing.assert_allclose(e.mean, energy, atol=1e-8)
    assert e.variance < 1e-14 and e.error < 1e-8


# ---- ground states -------------------------------------------------------------


class Case(NamedTuple):
    """A model on a ring, and how its RBM is made."""

    model: str
    n_sites: int
    keys: dict[str, Any]
    total_sz: float | None = None
    symmetric: bool = True
    dtype: str = "real"
    tolerance: float = 1e-3
    n_steps: int = 120


CASES = {
    "heisenberg-8": Case("heisenberg", 8, {}, 0.0),
    # N / 2 odd: the ground state has momentum pi, and k = 0 in the sign gauge.
    "heisenberg-10": Case("heisenberg", 10, {}, 0.0),
    "heisenberg-12": Case("heisenberg", 12, {}, 0.0),
    "heisenberg-8-sz-1": Case("heisenberg", 8, {}, 1.0, symmetric=False),
    "xxz-8": Case("xxz", 8, {"delta": 2.0}, 0.0),
    "tfim-10": Case("tfim", 10, {"h": 1.0}),
    "tfim-ordered": Case("tfim", 8, {"h": 0.5}),
    "tfim-plain": Case("tfim", 8, {"h": 1.0}, symmetric=False),
    "j1j2-8": Case(
        "j1j2", 8, {"J2": 0.4}, 0.0, False, "complex", tolerance=1e-3, n_steps=300
    ),
    "dm-6": Case("dm", 6, {}, None, False, "complex", tolerance=1e-2, n_steps=300),
}
QUICK = ("heisenberg-8",)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[] if name in QUICK else pytest.mark.slow)
        for name, case in CASES.items()
    ],
)
def test_ground_state_energy(case: Case) -> None:
    n = case.n_sites
    lattice = LATTICES["chain"]([n])
    operator = MODELS[case.model](lattice, **case.keys)
    ham = compile_operator(operator, n, total_sz=case.total_sz)
    exact = float(ground_states(ham).energies[0])
    gauge = find_sign_gauge(ham)
    assert (gauge is None) == (case.dtype == "complex")
    ham = ham.with_signs(nearest_signs(ham) if gauge is None else gauge)
    np.testing.assert_allclose(ground_states(ham).energies[0], exact, rtol=1e-10)
    optimizer = "sr" if gauge is None else "spring"  # as a job chooses
    problem = Problem(
        ham.space,
        case.dtype,  # type: ignore[arg-type]
        spin_flip=ham.conserves_spin_flip and case.total_sz in (None, 0),
        symmetry=np.asarray(lattice.translations) if case.symmetric else None,
    )
    vmc = driver(rbm(problem), ham, lattice.edges(1), case.n_steps, optimizer)
    state = trained(vmc, case.n_steps)
    e = vmc.measure(state, 16384)
    relative = (e.mean - exact) / abs(exact)
    print(f"{relative:+.1e} +- {e.error / abs(exact):.1e}")
    assert abs(relative) < case.tolerance
    # Close to an eigenstate the variance sits in states so rare that a measurement
    # may miss them all: no error bar knows of these last 2e-6.
    slack = 4 * e.error + 2e-6 * abs(exact)
    assert e.mean > exact - slack, "below the exact energy"
    assert e.r_hat < 1.15


def driver(
    wf: WaveFunction,
    ham: TermHamiltonian,
    edges: np.ndarray,
    n_steps: int,
    optimizer: str,
) -> VMC:
    space = ham.space
    moves = local_flips(space) if space.total_sz is None else exchanges(space, edges)
    scale = max(1.0, float(np.max(np.abs(ham.constants))) / 0.5)
    rate = 0.05 / scale
    tx = make_optimizer(optimizer, learning_rate=rate, n_steps=n_steps)
    sampler = metropolis(wf, space, moves, n_chains=512)
    return VMC(ham, wf, sampler, tx, learning_rate=rate, seed=1)


def trained(vmc: VMC, n_steps: int) -> VMCState:
    state = vmc.init()
    while int(state.step) < n_steps:
        state, _ = vmc.advance(state, n_steps - int(state.step))
    return state


def test_all_devices_are_used_by_default() -> None:
    """The runs above were on four."""
    wf, ham, _ = cluster(4)
    sampler = metropolis(wf, ham.space, local_flips(ham.space), n_chains=8)
    vmc = VMC(ham, wf, sampler, make_optimizer("sgd", learning_rate=0.1, n_steps=1))
    assert vmc._mesh.size == len(jax.devices()) == 4
