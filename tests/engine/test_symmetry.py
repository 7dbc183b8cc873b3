"""Quantum numbers of a job, from the table to the state and its exact energy.

Referees: permutations applied to all amplitudes in the physical frame, and exact
diagonalisation there.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import vmc
from ansatze import symmetrize
from ansatze.scaled import LOG_ZERO
from hamiltonians.diagonalise import to_sparse
from hamiltonians.space_groups import space_group
from tests.ansatze.cases import quick_jit
from tests.contracts import test_ansatze as contract
from vmc import symmetry
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.system import System, build_system

RBM = {"name": "rbm", "alpha": 1}


def system(size: list[int], table: Any, model: str = "heisenberg", **keys) -> System:
    """A job on a chain or square, with a table of quantum numbers."""
    lattice = {"name": "chain" if len(size) == 1 else "square", "size": size}
    ansatz = keys.pop("ansatz", RBM) | {"symmetry": table}
    hamiltonian = {"name": model} | keys
    return build_system(
        vmc.Job(lattice=lattice, hamiltonian=hamiltonian, ansatz=ansatz)
    )


def problem_of(made: System) -> Problem:
    return symmetry.problem(made.job, made.hamiltonian, made.lattice)[0]


def params_of(wf: WaveFunction) -> Any:
    return contract.random_params(wf)


def physical(made: System, wf: WaveFunction) -> np.ndarray:
    """Amplitudes of all configurations, without the gauge, normalised."""
    states = made.hamiltonian.space.all_states()
    log_psi = np.asarray(quick_jit(wf.log_psi)(params_of(wf), states))
    psi = np.exp(log_psi - log_psi.real.max())
    if made.hamiltonian.signs is not None:
        lowered = (states == -1).astype(int)
        psi = psi * np.prod(np.array(made.hamiltonian.signs) ** lowered, axis=1)
    return psi / np.linalg.norm(psi)


def place(states: np.ndarray) -> dict[bytes, int]:
    return {row.tobytes(): i for i, row in enumerate(states)}


def images(made: System, moved: np.ndarray) -> list[int]:
    index = place(made.hamiltonian.space.all_states())
    return [index[row.tobytes()] for row in np.ascontiguousarray(moved)]


#: Size, table, keys of the model and ansatz; with and without sign problem and gauge,
#: real and complex characters, larger spins too.
CASES = {
    "complex": ([6], {"momentum": [1]}, {}),
    "odd half": ([6], {"momentum": [3], "spin_flip": -1}, {}),
    "excited": ([8], {"momentum": [4], "point_group": "A1", "spin_flip": 1}, {}),
    "odd flip": ([6], {"momentum": [2], "spin_flip": -1}, {"model": "tfim", "h": -1.0}),
    "no gauge": ([6], {"momentum": [2], "spin_flip": 1}, {"marshall": False}),
    "reflection": ([6], {"point_group": "A2"}, {"model": "tfim"}),
    "magnet": ([8], {"momentum": [4], "point_group": "A2"}, {"total_sz": 1}),
    "mlp": ([6], {"momentum": [5]}, {"ansatz": {"name": "mlp", "features": [4]}}),
    "mps": (
        *([6], {"momentum": [0], "spin_flip": -1}),
        {"model": "tfim", "ansatz": {"name": "mps", "bond_dimension": 2}},
    ),
    "gcnn": (
        *([6], {"momentum": [3], "point_group": "A1", "spin_flip": -1}),
        {"ansatz": {"name": "gcnn", "features": 1}},
    ),
    "spin one": (
        *([4], {"momentum": [2], "point_group": "A1", "spin_flip": 1}),
        {"model": "aklt", "ansatz": {"name": "jastrow"}},
    ),
    "two dimensions": ([2, 4], {"momentum": [1, 2], "point_group": "A1"}, {}),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=contract.slow_unless(name not in ("spin one", "mlp")))
        for name in CASES
    ],
)
def test_psi_is_an_eigenvector_of_every_element(name: str) -> None:
    """T_g psi = chi_g psi with physical characters, for all amplitudes."""
    size, table, keys = CASES[name]
    made = system(size, table, **keys)
    problem, wanted = problem_of(made), dict(made.job.ansatz.keys)  # type: ignore
    wf = symmetrize(str(made.job.ansatz.name), problem, wanted)  # type: ignore
    psi = physical(made, wf)
    states = made.hamiltonian.space.all_states()
    space = table.get("momentum"), table.get("point_group")
    if space != (None, None):
        group = space_group(made.lattice, *space)
        for perm, chi in zip(group.perms, group.characters, strict=True):
            moved = psi[images(made, states[:, perm])]
            np.testing.assert_allclose(moved, chi * psi, atol=1e-12)
    if "spin_flip" in table:
        flipped = psi[images(made, -states)]
        np.testing.assert_allclose(flipped, table["spin_flip"] * psi, atol=1e-12)
    # H leads out of no sector.
    bare = made.hamiltonian
    bare = bare if bare.signs is None else bare.with_signs(bare.signs)
    again = to_sparse(bare) @ psi
    if "momentum" in table:
        perm = np.asarray(made.lattice.translations[1])
        chi = np.vdot(psi, psi[images(made, states[:, perm])])
        np.testing.assert_allclose(
            again[images(made, states[:, perm])], chi * again, atol=1e-11
        )


@pytest.mark.parametrize(
    ("irrep", "flip", "ansatz"),
    [
        ("B1", 1, RBM),
        pytest.param("A1", -1, RBM, marks=pytest.mark.slow),
        pytest.param("B2", 1, {"name": "cnn", "channels": 2}, marks=pytest.mark.slow),
        pytest.param("A2", 1, {"name": "gcnn", "features": 2}, marks=pytest.mark.slow),
    ],
)
def test_the_square_lattice(irrep: str, flip: int, ansatz: dict) -> None:
    """All 128 elements (and the flip) at a few configurations."""
    keys = {k: v for k, v in ansatz.items() if k != "name"}
    table = {"momentum": [0, 0], "point_group": irrep, "spin_flip": flip}
    problem = problem_of(system([4, 4], table, "j1j2", J2=0.5))
    wf = symmetrize(ansatz["name"], problem, keys)
    assert problem.symmetry is not None and len(problem.symmetry) == 128
    words = np.random.default_rng(1).integers(2**32, size=(16, 6))
    sigma = np.asarray(problem.space.random(jnp.asarray(words, jnp.uint32)))
    moved = np.concatenate([*(sigma[:, p] for p in problem.symmetry), -sigma])
    logs = np.asarray(quick_jit(wf.log_psi)(params_of(wf), moved)).reshape(129, -1)
    alive = logs[0].real > 0.1 * LOG_ZERO
    assert alive.any()
    ratios = np.exp(logs[:, alive] - logs[0, alive])
    characters = np.ones(128) if problem.characters is None else problem.characters
    wanted = np.append(characters, problem.flip_character)[:, None]
    np.testing.assert_allclose(ratios, wanted + 0 * ratios, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "table", "keys", "message"),
    [
        ([6], {"momentum": [0], "point_group": "E"}, {}, "are: A1, A2"),
        ([6], {"momentum": [1], "point_group": "A2"}, {}, r"C1, .*\[1\].* are: A"),
        ([4, 4], {"momentum": [0, 0], "point_group": "E"}, {}, "A1, A2, B1, B2"),
        ([6], {"momentum": [0, 0]}, {}, "one integer for each of the 1 directions"),
        ([6], {"momentum": [0]}, {"J": [1, 1, 1, 2, 1, 1]}, r"bond \(2, 3\)"),
        ([6], {"spin_flip": 1}, {"total_sz": 1}, "not symmetric under the flip"),
        (
            *([6], {"momentum": [1]}, {"marshall": [1, 0, 0, 0, 0, 0]}),
            "in the sign gauge of this job .*marshall = false",
        ),
        (
            *([4], {"momentum": [0], "point_group": "A2", "spin_flip": -1}, {}),
            "no state has all of these",
        ),
    ],
)
def test_refusals(size: list[int], table: dict, keys: dict, message: str) -> None:
    made = system(size, table, **keys)
    with pytest.raises(JobError, match=message) as caught:
        problem_of(made)
    assert str(caught.value).startswith("[ansatz.symmetry]")


def test_open_lattices_have_reflections_only() -> None:
    lattice = {"name": "chain", "size": [6], "periodic": False}
    hamiltonian = {"name": "tfim"}
    for table, words in (
        ({"point_group": "A2"}, None),
        ({"momentum": [0]}, "open in every direction"),
    ):
        job = vmc.Job(
            lattice=lattice, hamiltonian=hamiltonian, ansatz=RBM | {"symmetry": table}
        )
        made = build_system(job)
        if words is None:
            assert problem_of(made).symmetry.tolist()[1] == [5, 4, 3, 2, 1, 0]  # type: ignore
        else:
            with pytest.raises(JobError, match=words):
                problem_of(made)


def test_the_exact_energy_is_that_of_the_sector() -> None:
    """k = 1 of the Heisenberg ring: no sign problem, but not the ground state."""
    table = {"momentum": [1]}
    job = vmc.Job(
        lattice={"name": "chain", "size": [6]},
        hamiltonian={"name": "heisenberg"},
        ansatz=RBM | {"symmetry": table},
        sampler={"n_samples": 32},
    )
    built = vmc.build(job)
    exact = built.exact()
    assert exact is not None and exact["source"].endswith("same symmetry")
    bare = built.hamiltonian.with_signs(built.hamiltonian.signs)
    energies, vectors = np.linalg.eigh(to_sparse(bare).toarray())
    states = bare.space.all_states()
    index = place(states)
    order = [index[row.tobytes()] for row in np.roll(states, -1, axis=1)]
    chi = np.exp(-2j * np.pi / 6)
    powers, whole = np.eye(len(states)), 0
    shift = np.eye(len(states))[order]
    for g in range(6):
        whole = whole + np.conj(chi) ** g * powers / 6
        powers = shift @ powers
    weight = np.linalg.norm(whole @ vectors, axis=0)
    assert exact["energy"] == pytest.approx(energies[np.argmax(weight > 1e-6)])
    assert built.job.ansatz.symmetry.momentum == [1]  # type: ignore
    assert any("costs 6 evaluations" in text for text in built.warnings)
    again = vmc.build(built.job)
    assert again.problem.characters is not None
    np.testing.assert_array_equal(again.problem.characters, built.problem.characters)


RUNS = [
    ({"name": "mps", "bond_dimension": 2}, {"point_group": "A1"}),
    ({"name": "mlp", "features": [4]}, {"point_group": "A1"}),
    ({"name": "mlp", "features": [4]}, {"point_group": "A2", "spin_flip": -1}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("ansatz", "table"), RUNS)
def test_jobs_run(ansatz: dict, table: dict) -> None:
    job = vmc.Job(
        lattice={"name": "chain", "size": [10]},
        hamiltonian={"name": "j1j2", "J2": 0.5},
        ansatz=ansatz | {"symmetry": {"momentum": [0], "spin_flip": 1} | table},
        sampler={"n_chains": 32, "n_samples": 32},
        run={"n_steps": 5},
        measure={"n_samples": 64},
    )
    result = vmc.run(job)
    energy, exact = result.energy, result.report["exact"]
    assert np.isfinite(energy.mean) and energy.mean > exact["energy"] - 5 * energy.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "table", "keys"),
    [
        ([8], {"momentum": [1]}, {"model": "heisenberg"}),
        ([8], {"momentum": [4], "spin_flip": -1}, {"model": "heisenberg"}),
        ([8], {"momentum": [2], "spin_flip": 1}, {"model": "j1j2", "J2": 0.5}),
        ([8], {"momentum": [0], "spin_flip": -1}, {"model": "tfim", "h": 1.0}),
        ([3, 3], {"momentum": [0, 0], "point_group": "B1"}, {"model": "tfim"}),
    ],
)
def test_the_lowest_state_of_a_sector_is_found(size, table, keys) -> None:
    """Full sums have no noise: the energy falls to that of the sector."""
    model = keys.pop("model")
    job = vmc.Job(
        lattice={"name": "chain" if len(size) == 1 else "square", "size": size},
        hamiltonian={"name": model} | keys,
        ansatz={"name": "rbm", "alpha": 2, "dtype": "complex", "symmetry": table},
        sampler={"name": "full"},
        optimizer={"name": "sr", "learning_rate": 0.1},
        run={"n_steps": 400},
        measure={"n_samples": 1},
    )
    result = vmc.run(job)
    exact = result.report["exact"]["energy"]
    assert -1e-9 < (result.energy.mean - exact) / abs(exact) < 2e-3
