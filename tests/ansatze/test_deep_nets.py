"""Deep networks: exact symmetries, refusals, small ground states."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vmc
from ansatze import ANSATZE, symmetries
from ansatze.gcnn import multiplication_table
from ansatze.shared_weights import Shared, windows
from tests.ansatze.cases import check_contract, quick_jit, ring
from tests.contracts.test_ansatze import TRANSLATIONS, random_params, ring_table
from vmc.base import Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.space import spins

SIDE = 4
SQUARE = (SIDE, SIDE)
GRID = np.arange(SIDE * SIDE).reshape(SQUARE)


def shifts(shape: tuple[int, ...], n_basis: int = 1) -> np.ndarray:
    """All translations of a torus of cells, (G, N)."""
    grid = np.arange(math.prod(shape) * n_basis).reshape(*shape, n_basis)
    axes = tuple(range(len(shape)))
    moved = [np.roll(grid, [-x for x in d], axes) for d in np.ndindex(*shape)]
    return np.array(moved).reshape(len(moved), -1)


def space_group() -> tuple[np.ndarray, np.ndarray]:
    """The 4 x 4 torus: 128 elements, and their characters of k = 0, B1."""
    perms, characters = [], []
    for turn in range(4):
        for mirror in (False, True):
            image = np.rot90(GRID, turn)
            image = image[:, ::-1] if mirror else image
            perms += [image.ravel()[t] for t in shifts(SQUARE)]
            # B1 is x^2 - y^2: odd under quarter turns, even under this mirror.
            characters += [(-1) ** turn] * SIDE**2
    return np.array(perms), np.array(characters)


def momentum(shape: tuple[int, ...], k: tuple[int, ...]) -> np.ndarray:
    """Characters exp(2 pi i k . d / L) of `shifts`."""
    d = np.array(list(np.ndindex(*shape)))
    return np.exp(2j * np.pi * d @ (np.array(k) / np.array(shape)))


def square(**changes: Any) -> Problem:
    problem = Problem(spins(SIDE**2), shape=SQUARE, periodic=(True, True))
    return problem._replace(**changes)


def random_spins(n_sites: int, n_rows: int = 6) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.choice(np.array([-1, 1], np.int8), (n_rows, n_sites))


def psi(wf: WaveFunction, params: Params, sigma: np.ndarray) -> np.ndarray:
    """Amplitudes up to a common factor."""
    logs = np.asarray(quick_jit(wf.log_psi)(params, sigma))
    return np.exp(logs - np.real(logs).max())


# ---- exact symmetries -------------------------------------------------------------

TINY = {
    "cnn": {"channels": 2},
    "convnext": {"channels": 3, "depth": 1},
    "gcnn": {"features": 2},
    "vit": {"d_model": 4, "heads": 2, "depth": 1},
}
PERMS, B1 = space_group()
SECTORS = {
    "gcnn": {"symmetry": PERMS, "characters": B1, "flip_character": -1},
    "cnn": {"symmetry": shifts(SQUARE), "characters": momentum(SQUARE, (1, 2))},
    "convnext": {"symmetry": shifts(SQUARE), "characters": momentum(SQUARE, (2, 0))},
    "vit": {"symmetry": shifts(SQUARE)},
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("gcnn", "complex"),
        ("cnn", "real"),
        *(pytest.param(n, "complex", marks=pytest.mark.slow) for n in SECTORS),
        *(pytest.param(n, "real", marks=pytest.mark.slow) for n in SECTORS),
    ],
)
def test_sectors_are_exact(name: str, dtype: str) -> None:
    """psi(sigma[perm_g]) = chi_g psi(sigma) and psi(-sigma) = +- psi(sigma)."""
    problem = square(dtype=dtype, spin_flip=True, **SECTORS[name])
    wf = ANSATZE[name](problem, **TINY[name])
    perms, characters = problem.symmetry, problem.characters
    assert perms is not None
    if characters is None:
        characters = np.ones(len(perms))
    kinds = {"real": "positive" if np.all(characters == 1) else "real"}
    if np.iscomplexobj(characters) and np.any(abs(np.imag(characters)) > 0.1):
        kinds["real"] = "complex"
    assert wf.range == kinds.get(dtype, "complex")
    sigma = random_spins(SIDE**2, 2)
    images = np.concatenate([sigma, *(sigma[:, p] for p in perms), -sigma])
    values = psi(wf, random_params(wf), images).reshape(-1, len(sigma))
    first, *moved = values / np.abs(values).max()
    assert np.all(np.abs(first) > 1e-3)
    np.testing.assert_allclose(moved[:-1], characters[:, None] * first, atol=1e-11)
    np.testing.assert_allclose(moved[-1], problem.flip_character * first, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "parity"),
    [
        ("vit", 1),
        *(pytest.param(n, 1, marks=pytest.mark.slow) for n in ("cnn", "convnext")),
        *(pytest.param(n, -1, marks=pytest.mark.slow) for n in ("cnn", "gcnn")),
    ],
)
def test_only_what_the_symmetries_relate_is_equal(name: str, parity: int) -> None:
    """As many amplitudes on a ring as orbits of configurations: nothing is lost."""
    problem = ring("real")._replace(
        symmetry=TRANSLATIONS, spin_flip=True, flip_character=parity
    )
    keys = TINY[name] | ({"patch": 1} if name == "vit" else {})
    # Every position sees the whole ring.
    keys |= {"cnn": {"kernel_size": 2}, "convnext": {"kernel_size": 4}}.get(name, {})
    wf = ANSATZE[name](problem, **keys)
    sigma = problem.space.all_states()  # pyright: ignore
    values = np.abs(psi(wf, random_params(wf), sigma))
    orbits = {
        min(bytes(s * row[p] + 1) for s in (1, -1) for p in TRANSLATIONS)
        for row in np.asarray(sigma)
        if parity == 1 or not any(np.array_equal(-row, row[p]) for p in TRANSLATIONS)
    }
    found = np.sort(values[values > 1e-12])
    assert 1 + np.sum(np.diff(found) > 1e-9 * found[1:]) == len(orbits)


AT_PI = ring()._replace(symmetry=TRANSLATIONS, characters=momentum((6,), (3,)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "gcnn"])
def test_moves_and_scores_of_a_sector(name: str) -> None:
    check_contract(ANSATZE[name], AT_PI, **TINY[name])


def test_a_forbidden_configuration_has_no_weight() -> None:
    """All spins up has momentum 0: psi = 0 there, and finite ratios."""
    wf = ANSATZE["gcnn"](AT_PI, **TINY["gcnn"])
    params = random_params(wf)
    sigma = jnp.ones((2, 6), jnp.int8).at[1, :2].set(-1)
    moves = ring_table("flips")
    cache = wf.cache(params, sigma)
    assert np.real(cache)[0] == -1e30 and np.abs(np.real(cache))[1] < 10
    ratios = quick_jit(wf.log_ratios)(params, cache, sigma, moves)
    assert np.all(np.exp(ratios[:, 0]) == 0) and np.all(np.abs(ratios[:, 1]) < 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "convnext", "vit"])
def test_what_breaks_translations(name: str) -> None:
    """Open edges do, and positions that are told apart."""
    sigma = random_spins(SIDE**2, 1)
    images = sigma[0, shifts(SQUARE)]

    def invariant(problem: Problem, **keys: Any) -> bool:
        wf = ANSATZE[name](problem, **TINY[name], **keys)
        values = psi(wf, random_params(wf), images)
        return bool(np.allclose(values / values[0], 1, atol=1e-10))

    patch = {"patch": 1} if name == "vit" else {}
    assert invariant(square(), **patch)
    assert not invariant(square(periodic=(True, False)), **patch)
    assert not invariant(square(), **(patch and {"patch": 2} or {"uniform": False}))


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_large_parameters_stay_finite(name: str) -> None:
    problem = square(symmetry=shifts(SQUARE), precision="float32")
    wf = ANSATZE[name](problem, **TINY[name])
    params = jax.tree.map(lambda x: np.float32(300) * x, random_params(wf))
    out = quick_jit(wf.log_psi)(params, random_spins(SIDE**2))
    assert out.dtype == np.complex64 and np.all(np.isfinite(out))
    assert np.abs(np.real(out)).max() > 100
    scores = jax.tree.leaves(quick_jit(wf.scores)(params, random_spins(SIDE**2)))
    assert {x.dtype.name for x in scores} == {"complex64"}
    assert all(np.all(np.isfinite(x)) for x in scores)


# ---- refusals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keys", "changes", "message"),
    [
        ("cnn", {"kernel_size": 5}, {}, "kernel_size 5 is larger than the lattice"),
        ("cnn", {"channels": 0}, {}, "channels is 0; it is an integer of at least 1"),
        ("cnn", {"readout": "sumexp"}, {}, "Did you mean 'sum_exp'"),
        ("cnn", {"depth": -1}, {}, "depth is -1; it is an integer of at least 0"),
        ("cnn", {"uniform": False}, {"symmetry": shifts(SQUARE)}, "uniform = false"),
        ("cnn", {}, {"symmetry": PERMS}, "A gcnn takes any group"),
        (
            "cnn",
            {},
            {"symmetry": shifts(SQUARE), "periodic": (True, False)},
            "translations along periodic directions",
        ),
        (
            "convnext",
            {"readout": "product"},
            {"symmetry": shifts(SQUARE), "characters": momentum(SQUARE, (1, 0))},
            'Use readout = "sum_exp"',
        ),
        (
            "cnn",
            {},
            {"symmetry": shifts(SQUARE), "characters": np.array([1, -1] + [1] * 14)},
            "no one-dimensional representation",
        ),
        ("convnext", {}, {"shape": (3,)}, "16 sites do not fill the 3 cells"),
        ("convnext", {}, {"shape": None}, "tilted"),
        ("gcnn", {}, {}, r"set \[ansatz.symmetry\]"),
        ("gcnn", {}, {"symmetry": PERMS[:17]}, "a product of two of them is missing"),
        ("gcnn", {}, {"symmetry": PERMS[[0, 0]]}, "there twice"),
        (
            "gcnn",
            {},
            {"symmetry": PERMS, "characters": np.array([1] * 127 + [-1])},
            "no one-dimensional representation",
        ),
        ("vit", {"patch": 3}, {}, r"patch = 3 does not divide .* \[1, 2, 4\]"),
        ("vit", {"d_model": 6, "heads": 4}, {}, "no multiple of heads = 4"),
        (
            "vit",
            {},
            {"symmetry": shifts(SQUARE), "characters": momentum(SQUARE, (2, 0))},
            "vit has momentum 0",
        ),
    ],
)
def test_refusals(name: str, keys: dict, changes: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        ANSATZE[name](square(**changes), **keys)


def test_tables() -> None:
    """Group products against composition; windows centred, with gaps at an edge."""
    table = multiplication_table(PERMS)
    rng = np.random.default_rng(2)
    for g, u in rng.integers(len(PERMS), size=(20, 2)):
        np.testing.assert_array_equal(PERMS[table[g, u]], PERMS[g][PERMS[u]])
    np.testing.assert_array_equal(B1[table], np.multiply.outer(B1, B1))
    assert set(symmetries("gcnn", square(), {})) == {"translations", "spin_flip"}
    layer = windows((4,), (False,), (3,))
    assert isinstance(layer, Shared)
    np.testing.assert_array_equal(
        layer.table, [[4, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4]]
    )


def test_capacity_is_that_of_the_light_cone() -> None:
    """Two windows of three reach two sites to each side of a cut in the middle."""
    problem = Problem(spins(12), shape=(12,), periodic=(False,))
    half = tuple(range(6))
    keys = {"kernel_size": 3, "readout": "product"}
    wf = ANSATZE["cnn"](problem, **keys, layers=2, depth=0)
    assert wf.capacity is not None
    assert math.isclose(wf.capacity(half).ln_upper, 4 * math.log(2))
    wide = ANSATZE["cnn"](problem, **keys, layers=3, depth=1)
    assert wide.capacity is not None
    assert math.isclose(wide.capacity(half).ln_upper, 6 * math.log(2))


@pytest.mark.parametrize(
    ("name", "n_sites", "changes", "readout"),
    [
        # Three convolutions of windows of three see seven sites.
        ("cnn", 7, {}, "sum_exp"),
        ("cnn", 8, {}, "product"),
        ("convnext", 8, {}, "product"),
        ("cnn", 8, {"symmetry": shifts((8,)), "characters": momentum((8,), (1,))}, ""),
    ],
)
def test_the_readout_fits_the_lattice(
    name: str, n_sites: int, changes: dict[str, Any], readout: str
) -> None:
    keys = {"shape": (n_sites,), "periodic": (True,)} | changes
    problem = Problem(spins(n_sites), dtype="complex", **keys)
    found = ANSATZE[name](problem, kernel_size=3)
    want = ANSATZE[name](problem, kernel_size=3, readout=readout or "sum_exp")
    other = {"sum_exp": "product", "product": "sum_exp"}.get(readout)
    key = jax.random.key(1)
    params, expected = found.init(key), want.init(key)
    np.testing.assert_array_equal(params["theta"], expected["theta"])
    sigma = problem.space.random(jax.random.bits(key, (n_sites, 5)))
    logs = want.log_psi(params, sigma)
    np.testing.assert_allclose(found.log_psi(params, sigma), logs, rtol=1e-12)
    if other is not None:
        wf = ANSATZE[name](problem, kernel_size=3, readout=other)
        assert wf.init(key)["theta"].shape != params["theta"].shape


# ---- ground states ----------------------------------------------------------------

J1J2 = {"name": "j1j2", "J2": 0.5}
TFIM = {"name": "tfim", "h": 3.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "hamiltonian", "symmetry", "steps", "tolerance"),
    [
        # No psi with the signs of J2 = 0 is closer than 4.5e-3.
        ("cnn", 4, J1J2, {"momentum": [0, 0], "spin_flip": 1}, 250, 4e-3),
        *((name, 3, TFIM, "auto", 120, 1e-4) for name in TINY),
    ],
)
def test_ground_states(
    name: str,
    side: int,
    hamiltonian: dict,
    symmetry: Any,
    steps: int,
    tolerance: float,
) -> None:
    job = vmc.Job(
        seed=2,
        precision="mixed",
        lattice={"name": "square", "size": [side, side]},
        hamiltonian=hamiltonian,
        ansatz={"name": name, "symmetry": symmetry},
        sampler={"n_chains": 256, "n_samples": 512},
        run={"n_steps": steps},
        measure={"n_samples": 16384},
    )
    result = vmc.run(job)
    assert result.energy is not None and result.report is not None
    exact = result.report["exact"]["energy"]
    error = (result.energy.mean - exact) / abs(exact)
    assert -4 * result.energy.error / abs(exact) < error < tolerance
