"""Lattices against closed formulas and brute force over positions."""

import itertools

import numpy as np
import pytest

from hamiltonians import LATTICES, Lattice, from_unit_cell
from hamiltonians.clusters import hermite_normal_form, nearest_image, shortest_basis
from vmc.errors import JobError

R2, R3, R5, R7 = np.sqrt([2, 3, 5, 7])

# Distance and number of neighbours of the first shells of the infinite lattices.
SHELLS = {
    "chain": [(1, 2), (2, 2), (3, 2)],
    "ladder": [(1, 3), (R2, 2), (2, 2), (R5, 2)],
    "square": [(1, 4), (R2, 4), (2, 4), (R5, 8), (2 * R2, 4), (3, 4)],
    "triangular": [(1, 6), (R3, 6), (2, 6), (R7, 12), (3, 6)],
    "honeycomb": [(1, 3), (R3, 6), (2, 3), (R7, 6)],
    "kagome": [(1, 4), (R3, 4), (2, 6), (R7, 8)],
    "shuriken": [(1, 4)],
    "cubic": [(1, 6), (R2, 12), (R3, 8), (2, 6)],
    "pyrochlore": [(1, 6), (R3, 12), (2, 12)],
    "shastry_sutherland": [(1, 4), (R2, 4)],
    "square_links": [(1, 4), (R2, 4)],
}
LARGE = {
    name: LATTICES[name](size)
    for name, size in {
        **{"chain": 8, "ladder": 8, "square": 8, "triangular": 8, "honeycomb": 6},
        **{"kagome": 5, "shuriken": 3, "cubic": 5, "pyrochlore": 3},
        **{"shastry_sutherland": 6, "square_links": 4},
    }.items()
}

TILTED = {
    "square 20": ("square", [[4, 2], [-2, 4]], 20, 4),
    "square 26": ("square", [[5, 1], [-1, 5]], 26, 4),
    "square 32": ("square", [[4, 4], [-4, 4]], 32, 8),
    "square 36": ("square", [[6, 0], [0, 6]], 36, 8),
    "square 40": ("square", [[6, 2], [-2, 6]], 40, 4),
    "triangular 36": ("triangular", [[6, 0], [0, 6]], 36, 12),
    "triangular 48": ("triangular", [[8, 4], [4, 8]], 48, 12),
    "triangular 108": ("triangular", [[12, 6], [6, 12]], 108, 12),
    "kagome 27": ("kagome", [[3, 0], [0, 3]], 27, 12),
    "kagome 36": ("kagome", [[2, 2], [-2, 4]], 36, 12),
    "kagome 48": ("kagome", [[4, 0], [0, 4]], 48, 12),
}
SMALL = {
    "open square": LATTICES["square"]([3, 4], False),
    "cylinder": LATTICES["triangular"]([4, 3], [True, False]),
    "open kagome": LATTICES["kagome"]([2, 3], False),
    "two by four": LATTICES["square"]([2, 4]),
    "one by five": LATTICES["square"]([1, 5]),
    "three by three": LATTICES["triangular"](3),
    "kagome 12": LATTICES["kagome"](2),
    "wide ladder": LATTICES["ladder"]([3, 5], False),
    "one link cell": LATTICES["square_links"](1),
    "two link cells": LATTICES["square_links"]([1, 2]),
    "one tetrahedron": LATTICES["pyrochlore"](1),
    "slab": LATTICES["cubic"]([3, 3, 2], [True, True, False]),
    "cubic pyrochlore": LATTICES["pyrochlore"](
        cluster=[[-1, 1, 1], [1, -1, 1], [1, 1, -1]]
    ),
    "oblique": from_unit_cell(
        [3, 4], vectors=[[1.0, 0.0], [0.3, 1.1]], positions=[[0, 0], [0.45, 0.2]]
    ),
}
ALL = {
    **LARGE,
    **SMALL,
    **{k: LATTICES[f](cluster=m) for k, (f, m, _, _) in TILTED.items()},
}
every_lattice = pytest.mark.parametrize("lattice", ALL.values(), ids=ALL.keys())


def bond_set(edges: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in edges.tolist()}


# ---- bonds


@pytest.mark.parametrize("name", SHELLS)
def test_shells_have_the_closed_form_distances_and_coordination(name: str) -> None:
    lattice = LARGE[name]
    for n, (distance, neighbours) in enumerate(SHELLS[name], start=1):
        bonds = lattice.bonds(n)
        lengths = np.linalg.norm(bonds.vectors, axis=1)
        np.testing.assert_allclose(lengths, distance, rtol=1e-12)
        degree = np.bincount(bonds.sites.reshape(-1), minlength=lattice.n_sites)
        np.testing.assert_array_equal(degree, neighbours)
    np.testing.assert_array_equal(lattice.coordination, SHELLS[name][0][1])


@every_lattice
def test_bonds_are_the_pairs_at_their_distance(lattice: Lattice) -> None:
    # All images within two periods, none of the reduction that the code relies on.
    rows = lattice.grid.spanning[np.array(lattice.periodic, bool)] @ lattice.vectors
    span = np.array(list(itertools.product(range(-2, 3), repeat=len(rows))))
    delta = lattice.positions[None] - lattice.positions[:, None]
    images = delta[:, :, None] + (span @ rows)[None, None]
    distance = np.linalg.norm(images, axis=-1).min(axis=2)
    np.testing.assert_allclose(lattice.distances, distance, atol=1e-9)
    for n in (1, 2):
        try:
            bonds = lattice.bonds(n)
        except JobError:
            continue
        length = np.linalg.norm(bonds.vectors[0])
        want = np.argwhere(np.triu(np.abs(distance - length) < 1e-6))
        assert bond_set(bonds.sites) == bond_set(want)
        assert len(bonds.sites) == len(want)


@every_lattice
def test_bond_vectors_lead_from_site_to_site(lattice: Lattice) -> None:
    bonds = lattice.bonds(1)
    i, j = bonds.sites.T
    miss = lattice.positions[i] + bonds.vectors - lattice.positions[j]
    np.testing.assert_allclose(nearest_image(miss, lattice.periods), 0, atol=1e-9)


def test_site_and_bond_order_is_the_documented_one() -> None:
    chain, square = LATTICES["chain"](4), LATTICES["square"]([4, 4])
    assert chain.edges().tolist() == [[0, 1], [1, 2], [2, 3], [3, 0]]
    rows = [[0, 4], [0, 1], [1, 5], [1, 2], [2, 6], [2, 3], [3, 7], [3, 0]]
    assert square.edges()[:8].tolist() == rows
    assert square.edge_colors()[:4].tolist() == [0, 1, 0, 1]
    triangular = LATTICES["triangular"]([3, 4])
    assert triangular.edges()[:3].tolist() == [[0, 4], [0, 1], [0, 5]]
    ladder = LATTICES["ladder"]([2, 3], False)
    assert ladder.edges().tolist() == [
        *([0, 1], [0, 2], [1, 3], [2, 3], [2, 4], [3, 5], [4, 5]),
    ]
    assert ladder.edge_colors().tolist() == [1, 0, 0, 1, 0, 0, 1]
    kagome = LATTICES["kagome"](2)
    assert bond_set(kagome.edges()) >= {
        frozenset(p) for p in [(0, 1), (0, 2), (1, 2), (1, 6), (2, 3), (1, 11)]
    }


def test_honeycomb_colors_are_the_bonds_of_kitaev() -> None:
    lattice = LATTICES["honeycomb"]([3, 3])
    colored = list(zip(lattice.edges(), lattice.edge_colors(), strict=True))
    x, y, z = ({frozenset(e.tolist()) for e, c in colored if c == k} for k in range(3))
    assert frozenset((0, 13)) in x and frozenset((6, 1)) in x
    assert frozenset((0, 5)) in y and frozenset((2, 1)) in y
    assert z == {frozenset((2 * c, 2 * c + 1)) for c in range(9)}


@every_lattice
def test_bonds_of_one_color_are_parallel(lattice: Lattice) -> None:
    bonds = lattice.bonds(1)
    vectors = [bonds.vectors[bonds.colors == c] for c in sorted(set(bonds.colors))]
    for same in vectors:
        assert np.linalg.matrix_rank(same, tol=1e-6) == 1
    for a, b in itertools.combinations(vectors, 2):
        assert np.linalg.matrix_rank(np.stack([a[0], b[0]]), tol=1e-6) == 2


def test_small_tori_count_every_pair_once() -> None:
    assert LATTICES["chain"](2).edges().tolist() == [[0, 1]]
    assert LATTICES["chain"](1).edges().shape == (0, 2)
    assert len(LATTICES["chain"](4).edges(2)) == 2
    assert len(LATTICES["chain"](6).edges(3)) == 3
    assert len(LATTICES["square"](2).edges()) == 4
    assert len(LATTICES["square"](4).edges(3)) == 16
    assert LATTICES["chain"](4).bonds(2).meets_itself
    assert not LATTICES["chain"](5).bonds(2).meets_itself


@pytest.mark.parametrize(
    ("lattice", "n"), [(LATTICES["chain"](3), 2), (LATTICES["square"](3), 3)]
)
def test_a_shell_that_meets_a_nearer_image_is_refused(lattice, n: int) -> None:
    with pytest.raises(JobError, match=f"no bonds of shell {n}"):
        lattice.edges(n)


# ---- tilted clusters


@pytest.mark.parametrize("name", TILTED)
def test_tilted_clusters(name: str) -> None:
    family, matrix, n_sites, order = TILTED[name]
    lattice = ALL[name]
    assert lattice.n_sites == n_sites
    np.testing.assert_array_equal(lattice.coordination, SHELLS[family][0][1])
    assert len(lattice.edges(2)) == n_sites * SHELLS[family][1][1] // 2
    assert lattice.point_group.shape == (order, n_sites)
    cells = abs(round(np.linalg.det(np.array(matrix))))
    assert lattice.translations.shape == (cells, n_sites)
    tilted = np.array(matrix)[0, 1] != 0 or np.array(matrix)[1, 0] != 0
    assert (lattice.shape is None) == tilted


def test_the_same_torus_from_another_basis_is_the_same_lattice() -> None:
    a = LATTICES["square"](cluster=[[4, 2], [-2, 4]])
    b = LATTICES["square"](cluster=[[2, 6], [-2, 4]])
    np.testing.assert_array_equal(a.edges(), b.edges())
    whole = LATTICES["triangular"](cluster=[[4, 4], [0, 4]])
    np.testing.assert_array_equal(whole.edges(), LATTICES["triangular"](4).edges())
    assert whole.shape == (4, 4)


def test_hermite_normal_form_keeps_the_row_lattice(rng: np.random.Generator) -> None:
    for _ in range(50):
        matrix = rng.integers(-6, 7, (3, 3))
        if round(np.linalg.det(matrix)) == 0:
            continue
        form = hermite_normal_form(matrix)
        steps = form @ np.linalg.inv(matrix)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
        assert abs(round(np.linalg.det(steps))) == 1
        assert not np.tril(form, -1).any() and np.all(np.diag(form) > 0)
        assert np.all(form >= 0) and np.all(np.triu(form, 1) <= np.diag(form) - 1)


def test_nearest_image_of_skew_periods(rng: np.random.Generator) -> None:
    periods = np.array([[5.0, 0.2, 0.1], [9.3, 1.0, 0.4], [14.0, 2.0, 3.0]])
    basis = shortest_basis(periods)
    assert abs(np.linalg.det(basis)) == pytest.approx(abs(np.linalg.det(periods)))
    delta = rng.uniform(-2, 2, size=(40, 3))
    span = np.array(list(itertools.product(range(-8, 9), repeat=3)))
    images = delta[:, None] + span @ basis
    want = np.linalg.norm(images, axis=-1).min(axis=1)
    found = np.linalg.norm(nearest_image(delta, basis), axis=-1)
    np.testing.assert_allclose(found, want, atol=1e-9)


# ---- sublattices and loops


def test_bipartite_exactly_where_all_loops_are_even() -> None:
    bipartite = {name for name, lattice in LARGE.items() if lattice.is_bipartite}
    families = {"chain", "ladder", "square", "honeycomb"}
    assert bipartite == families | {"shastry_sutherland", "square_links"}
    assert not LATTICES["chain"](5).is_bipartite
    assert LATTICES["chain"](5, False).is_bipartite
    assert not LATTICES["square"]([4, 3]).is_bipartite
    for lattice in (ALL["square 26"], LARGE["honeycomb"], SMALL["open square"]):
        i, j = lattice.edges().T
        sublattice = lattice.sublattice
        assert sublattice is not None and sublattice[0] == 0
        assert np.all(sublattice[i] != sublattice[j])


TRIANGLES_PER_CELL = {"triangular": 2, "kagome": 2, "pyrochlore": 8, "shuriken": 4}
FACES_PER_CELL = {
    "square": {4: 1},
    "triangular": {3: 2},
    "honeycomb": {6: 1},
    "kagome": {3: 2, 6: 1},
    "shuriken": {3: 4, 4: 1, 8: 1},
    "cubic": {4: 3},
    "square_links": {4: 2},
    "ladder": {4: 1},
    "chain": {},
}


@pytest.mark.parametrize("name", LARGE)
def test_triangles_and_plaquettes_per_cell(name: str) -> None:
    lattice, cells = LARGE[name], LARGE[name].grid.n_cells
    assert len(lattice.triangles) == TRIANGLES_PER_CELL.get(name, 0) * cells
    if name in FACES_PER_CELL:
        sizes = [len(p) for p in lattice.plaquettes]
        found = {k: sizes.count(k) for k in set(sizes)}
        assert found == {k: n * cells for k, n in FACES_PER_CELL[name].items()}
    bonds = bond_set(lattice.edges())
    for loop in (*lattice.plaquettes, *lattice.triangles.tolist()):
        assert all(frozenset(p) in bonds for p in itertools.pairwise((*loop, loop[0])))


@pytest.mark.parametrize("name", ["open square", "open kagome"])
def test_faces_of_open_drawings_obey_euler_and_run_counterclockwise(name: str) -> None:
    lattice = SMALL[name]
    # Bonds that bound no face (dangling tips) leave V - E + F = 1 all the same.
    assert lattice.n_sites - len(lattice.edges()) + len(lattice.plaquettes) == 1
    for loop in (*lattice.plaquettes, *lattice.triangles.tolist()):
        x, y = lattice.positions[list(loop)].T
        assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0.5


def test_loops_around_the_torus_are_no_triangles() -> None:
    assert len(LATTICES["chain"](3).triangles) == 0
    assert len(LATTICES["triangular"](3).triangles) == 18
    assert len(LATTICES["square"](3).triangles) == 0


@pytest.mark.parametrize(
    ("family", "size", "n_triangles", "n_plaquettes"),
    [("pyrochlore", 1, 4, 0), ("pyrochlore", 3, 216, 0), ("cubic", 2, 0, 6)],
)
def test_loops_in_space_count_once(
    family: str, size: int, n_triangles: int, n_plaquettes: int
) -> None:
    lattice = LATTICES[family](size)
    assert len(lattice.triangles) == n_triangles
    assert len({frozenset(t) for t in lattice.triangles.tolist()}) == n_triangles
    assert len(lattice.plaquettes) == n_plaquettes


# ---- symmetries


@every_lattice
def test_permutations_are_groups_that_preserve_all_shells(lattice: Lattice) -> None:
    shells = [1, 2] if lattice.n_sites > 9 else [1]
    for table in (lattice.translations, lattice.point_group):
        np.testing.assert_array_equal(table[0], np.arange(lattice.n_sites))
        rows = {tuple(p) for p in table.tolist()}
        assert len(rows) == len(table)
        assert {tuple(a[b]) for a in table for b in table} == rows
        for n in shells:
            bonds = bond_set(lattice.edges(n))
            assert all(bond_set(p[lattice.edges(n)]) == bonds for p in table)


@every_lattice
def test_characters_of_translations_are_orthogonal(lattice: Lattice) -> None:
    phases = np.exp(1j * lattice.momenta @ lattice.translation_vectors.T)
    size = len(lattice.translations)
    np.testing.assert_allclose(phases @ phases.conj().T, size * np.eye(size), atol=1e-8)
    assert not lattice.momenta[0].any()
    moved = lattice.positions[lattice.translations] - lattice.positions[None]
    miss = nearest_image(moved - lattice.translation_vectors[:, None], lattice.periods)
    np.testing.assert_allclose(miss, 0, atol=1e-9)


ORDERS = {
    **{"chain": 2, "ladder": 4, "square": 8, "triangular": 12, "honeycomb": 12},
    **{"kagome": 12, "shuriken": 8, "cubic": 48, "pyrochlore": 24},
    **{"shastry_sutherland": 4, "square_links": 8, "open square": 4, "slab": 16},
    **{"cylinder": 4, "open kagome": 1, "oblique": 2, "cubic pyrochlore": 24},
}


@pytest.mark.parametrize("name", ORDERS)
def test_point_groups_have_the_known_order(name: str) -> None:
    assert len(ALL[name].point_group) == ORDERS[name]


@pytest.mark.parametrize("name", ["shastry_sutherland", "square_links"])
def test_symmetries_preserve_features(name: str) -> None:
    lattice = LARGE[name]
    for groups in lattice.features.values():
        home = {frozenset(g) for g in groups}
        for p in (*lattice.translations, *lattice.point_group):
            assert {frozenset(p[list(g)].tolist()) for g in groups} == home


def test_features() -> None:
    lattice = LATTICES["shastry_sutherland"](4)
    assert len(lattice.translations) == 4  # two sites along each direction
    dimers = {frozenset(d) for d in lattice.features["dimers"]}
    assert len(dimers) == 8 and frozenset().union(*dimers) == set(range(16))
    assert {frozenset((0, 5)), frozenset((9, 6))} <= dimers
    links = LATTICES["square_links"](2)
    assert links.features["stars"][0] == (0, 4, 1, 3)
    assert links.features["faces"][0] == (0, 2, 1, 5)
