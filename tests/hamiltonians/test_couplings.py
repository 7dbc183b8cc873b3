"""Couplings as numbers, lists, tables and random distributions, of every model."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hamiltonians import LATTICES, MODELS, Lattice, Operator
from vmc.errors import JobError

RING = LATTICES["chain"](8)
#: Where a model does not live on a chain.
HOMES = {
    "shastry_sutherland": LATTICES["shastry_sutherland"](4),
    "scalar_chirality": LATTICES["triangular"](4),
    "kitaev_honeycomb": LATTICES["honeycomb"](3),
    "toric_code": LATTICES["square_links"](3),
}
#: Couplings that are random unless they are given.
GIVEN = {"sk_glass": {"J": [1.0] * 28}, "ea_glass": {"J": [1.0] * 8}}
#: Numbers that are no couplings.
NUMBERS = {"alpha", "power", "spin", "twist"}
BOX = {"distribution": "uniform", "low": 0.5, "high": 1.5}


def couplings_of(model: str) -> list[str]:
    """Keys that take a coupling; D of dm takes vectors too."""
    parameters = inspect.signature(MODELS[model]).parameters.values()
    named = [p.name for p in parameters if p.annotation == "Coupling"]
    return [*named, "D"] if model == "dm" else named


COUPLINGS = [(model, name) for model in MODELS for name in couplings_of(model)]


def built(model: str, **couplings) -> Operator:
    keys = GIVEN.get(model, {}) | couplings
    return MODELS[model](HOMES.get(model, RING), **keys)


def constant(value: float) -> dict:
    return {"distribution": "uniform", "low": value, "high": value}


@pytest.mark.parametrize("model", MODELS)
def test_every_number_of_a_model_is_a_coupling(model: str) -> None:
    parameters = inspect.signature(MODELS[model]).parameters.values()
    numbers = {p.name for p in parameters if isinstance(p.default, int | float)}
    assert numbers - NUMBERS <= set(couplings_of(model))
    assert "disorder_seed" in inspect.signature(MODELS[model]).parameters


@pytest.mark.parametrize(("model", "name"), COUPLINGS)
def test_every_coupling_takes_a_distribution(model: str, name: str) -> None:
    first = built(model, **{name: BOX}, disorder_seed=1)
    assert first == built(model, **{name: BOX}, disorder_seed=1)
    assert first != built(model, **{name: BOX}, disorder_seed=2)
    with pytest.raises(JobError, match=f"{name} is random: give disorder_seed"):
        built(model, **{name: BOX})
    # H is linear in the coupling: what each term got lies in the box, and differs.
    none = built(model, **{name: constant(0.0)}, disorder_seed=1)
    unit = built(model, **{name: constant(1.0)}, disorder_seed=1) - none
    drawn = (first - none).coefficients
    assert set(drawn) == set(unit.coefficients)
    shares = np.array([drawn[key] / c for key, c in unit.coefficients.items()])
    assert np.all(np.imag(shares) == 0)
    shares = np.real(shares)
    assert np.all((0.5 < shares) & (shares < 1.5))
    assert len(set(np.round(shares, 9))) >= 4


@pytest.mark.parametrize(("model", "name"), COUPLINGS)
def test_a_constant_distribution_is_the_number(model: str, name: str) -> None:
    number = 0.7
    if name in GIVEN.get(model, {}):  # a number is a scale of randomness there
        number = [0.7 * c for c in GIVEN[model][name]]
    drawn = built(model, **{name: constant(0.7)}, disorder_seed=3)
    assert drawn == built(model, **{name: number})


def coefficients(model: str, lattice: Lattice, **couplings) -> dict:
    op = MODELS[model](lattice, **couplings)
    return {(letters, sites): c for c, letters, sites in op.terms}


ONES = [1, np.int64(1), np.float32(1), np.array(1.0), jnp.float64(1), jnp.int32(1)]


@pytest.mark.parametrize("one", ONES, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("model", ["sk_glass", "ea_glass", "tfim", "dm"])
def test_a_number_of_any_library_is_that_number(model: str, one) -> None:
    name = {"dm": "D"}.get(model, "J")
    op = MODELS[model](RING, **{name: one}, disorder_seed=1)
    assert op == MODELS[model](RING, **{name: 1.0}, disorder_seed=1)
    assert MODELS["tfim"](RING, h=0 * one) == MODELS["tfim"](RING, h=0)
    each = jnp.full(8, one) if isinstance(one, jax.Array) else [one] * 8
    assert MODELS["tfim"](RING, h=each) == MODELS["tfim"](RING)


@pytest.mark.parametrize(
    "value", [True, False, np.True_, jnp.bool_(1), 1j, "1", [True] * 8, ["1"] * 8, {}]
)
@pytest.mark.parametrize("model", ["sk_glass", "ea_glass", "tfim", "dm"])
def test_what_is_no_number_is_refused(model: str, value) -> None:
    with pytest.raises(JobError, match=r"number|entries, expected"):
        name = {"dm": "D"}.get(model, "J")
        MODELS[model](RING, **{name: value}, disorder_seed=1)


def test_a_traced_number_is_refused() -> None:
    with pytest.raises(JobError, match="J = .* must be a finite real number"):
        jax.jit(lambda j: len(MODELS["tfim"](RING, J=j).terms))(1.0)


def test_couplings_per_bond_and_site_keep_their_order() -> None:
    chain = LATTICES["chain"](4)
    op = MODELS["tfim"](chain, J=[1.0, 2.0, 3.0, 4.0], h=[5.0, 6.0, 7.0, 8.0])
    bonds = [(-1.0, "ZZ", (0, 1)), (-2.0, "ZZ", (1, 2)), (-3.0, "ZZ", (2, 3))]
    fields = [(-5.0 - i, "X", (i,)) for i in range(4)]
    assert op == Operator.from_terms([*bonds, (-4.0, "ZZ", (3, 0)), *fields])


@pytest.mark.parametrize("model", ["haldane_shastry", "tfim_long_range", "rydberg"])
def test_couplings_per_pair_keep_their_order(model: str) -> None:
    name = "V" if model == "rydberg" else "J"
    chain = LATTICES["chain"](4)
    unit = coefficients(model, chain, **{name: 1.0})
    each = coefficients(model, chain, **{name: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for factor, pair in enumerate(pairs, start=1):
        assert each["ZZ", pair] == pytest.approx(factor * unit["ZZ", pair])


def test_couplings_per_site_of_the_majumdar_ghosh_chain() -> None:
    ring = coefficients("majumdar_ghosh", LATTICES["chain"](6), J=[1, 2, 3, 4, 5, 6])
    for i in range(6):
        for step in (1, 2):
            pair = tuple(sorted((i, (i + step) % 6)))
            assert ring["ZZ", pair] == pytest.approx((i + 1) / step / 4)
    chain = LATTICES["chain"](4, False)
    line = coefficients("majumdar_ghosh", chain, J=[1, 2, 3, 4])
    values = {sites: 4 * c for (letters, sites), c in line.items() if letters == "ZZ"}
    assert values == {(0, 1): 1, (1, 2): 2, (2, 3): 3, (0, 2): 0.5, (1, 3): 1}


def test_couplings_of_kinds_of_bonds_and_stabilisers() -> None:
    honeycomb = HOMES["kitaev_honeycomb"]
    listed = [float(k) for k in range(1, 10)]
    kitaev = coefficients("kitaev_honeycomb", honeycomb, Ky=listed)
    y_bonds = honeycomb.edges(1)[honeycomb.edge_colors(1) == 1]
    for value, pair in zip(listed, y_bonds.tolist(), strict=True):
        assert kitaev["YY", tuple(sorted(pair))] == -value
    links = HOMES["toric_code"]
    toric = coefficients("toric_code", links, J_face=listed)
    for value, face in zip(listed, links.features["faces"], strict=True):
        assert toric["ZZZZ", tuple(sorted(face))] == -value
    with pytest.raises(JobError, match="9 y bonds"):
        MODELS["kitaev_honeycomb"](honeycomb, Ky=[1.0, 2.0])


def test_couplings_by_color_and_sublattice() -> None:
    ladder = LATTICES["ladder"](3, False)
    op = MODELS["heisenberg"](
        ladder, J={"by_color": [1.0, 0.25]}, h={"by_sublattice": [0.5, -0.5]}
    )
    values = {(letters, sites): c for c, letters, sites in op.terms}
    assert values["ZZ", (0, 2)] == values["ZZ", (3, 5)] == 0.25
    assert values["ZZ", (0, 1)] == values["ZZ", (4, 5)] == 0.0625
    assert values["Z", (0,)] == values["Z", (3,)] == -values["Z", (1,)] == -0.25


def test_disorder_belongs_to_its_seed_and_coupling() -> None:
    chain = LATTICES["chain"](200)

    def drawn(h, seed: int) -> np.ndarray:
        op = MODELS["tfim"](chain, J=BOX, h=h, disorder_seed=seed)
        return np.array([c for c, letters, _ in op.terms if letters == "ZZ"])

    first = drawn(1.0, 3)
    np.testing.assert_array_equal(first, drawn(BOX, 3))
    assert np.all((-1.5 <= first) & (first <= -0.5)) and first.std() > 0.2
    assert np.all(first != drawn(1.0, 4))


def test_glasses_draw_the_couplings_that_they_name() -> None:
    sk = MODELS["sk_glass"](LATTICES["complete"](80), J=2.0, h=0.0, disorder_seed=1)
    values = np.array([c for c, _, _ in sk.terms])
    assert len(values) == 80 * 79 // 2
    assert values.std() == pytest.approx(2 / np.sqrt(80), rel=0.05)
    square = LATTICES["square"](10)
    ea = MODELS["ea_glass"](square, J=0.5, h=0.0, disorder_seed=1)
    values = np.array([c for c, _, _ in ea.terms])
    assert set(values) == {0.5, -0.5} and abs(values.sum()) < 30
    given = MODELS["sk_glass"](LATTICES["chain"](3), J=[1.0, 2.0, 3.0], h=0.0)
    pairs = [(-1.0, "ZZ", (0, 1)), (-2.0, "ZZ", (0, 2)), (-3.0, "ZZ", (1, 2))]
    assert given == Operator.from_terms(pairs)
