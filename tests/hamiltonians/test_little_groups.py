"""Characters by name, and the sectors of space groups, against brute force."""

import itertools

import numpy as np
import pytest

from hamiltonians import LATTICES, MODELS
from hamiltonians.compile import compile_operator
from hamiltonians.diagonalise import dense, ground_states
from hamiltonians.lattice_symmetry import point_operations
from hamiltonians.matrix import SymmetricRows
from hamiltonians.point_groups import group_name, irreps
from hamiltonians.space_groups import (
    check_representation,
    little_group,
    space_group,
)
from hamiltonians.symmetric import symmetry_sector
from vmc.errors import JobError

TILTED = {"cluster": [[3, 1], [-1, 3]]}
#: Lattice and keys of its point group, and the name of that.
GROUPS = {
    "C4v": ("square", {"size": [4, 4]}),
    "C2v": ("square", {"size": [4, 6]}),
    "C4": ("square", TILTED),
    "C6v": ("triangular", {"size": [4, 4]}),
    "C3": ("triangular", {"size": [3, 4], "periodic": False}),
    "Cs": ("chain", {"size": [6]}),
    "cubic": ("cubic", {"size": [3, 3, 3]}),
    "tetragonal": ("cubic", {"size": [4, 4, 3]}),
    "box": ("cubic", {"size": [3, 4, 5]}),
}


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])


def matrices(name: str) -> np.ndarray:
    if name == "C3":
        return np.array([rotation(120 * k) for k in range(3)])
    if name == "C3v":
        turns = matrices("C3")
        return np.concatenate([turns, turns @ np.diag([1.0, -1.0])])
    lattice, keys = GROUPS[name]
    return point_operations(LATTICES[lattice](**keys))[0]


def table(group: np.ndarray) -> np.ndarray:
    """Number of the product of every two matrices."""
    products = np.einsum("aij,bjk->abik", group, group)
    gap = np.abs(products[:, :, None] - group[None, None]).max(axis=(3, 4))
    assert gap.min(axis=2).max() < 1e-9, "these matrices are no group"
    return gap.argmin(axis=2)


@pytest.mark.parametrize("name", [*GROUPS, "C3v"])
def test_character_tables(name: str) -> None:
    """Homomorphisms, orthogonal, and as many as there are: |G| / |[G, G]|."""
    group = matrices(name)
    product, found = table(group), irreps(group)
    for chi in found.values():
        np.testing.assert_allclose(chi[product], np.outer(chi, chi), atol=1e-12)
    rows = np.array(list(found.values()))
    np.testing.assert_allclose(
        rows @ rows.conj().T, len(group) * np.eye(len(rows)), atol=1e-9
    )
    one = int(np.argmin(np.abs(group - np.eye(group.shape[1])).max(axis=(1, 2))))
    inverse = np.argmax(product == one, axis=1)
    commutators = product[product, product[inverse][:, inverse]]
    derived = set(commutators.ravel().tolist())
    while len(
        more := derived | {int(product[a, b]) for a in derived for b in derived}
    ) > len(derived):
        derived = more
    assert len(found) == len(group) // len(derived)


#: Functions of the coordinates that transform as the name says.
FUNCTIONS = {
    "C4v": {
        "A1": lambda x, y: x**2 + y**2,
        "A2": lambda x, y: x * y * (x**2 - y**2),
        "B1": lambda x, y: x**2 - y**2,
        "B2": lambda x, y: x * y,
    },
    "C2v": {
        "A1": lambda x, y: x**2,
        "A2": lambda x, y: x * y,
        "B1": lambda x, y: x,
        "B2": lambda x, y: y,
    },
    "C6v": {
        "A1": lambda x, y: x**2 + y**2,
        "A2": lambda x, y: x * y * (x**2 - 3 * y**2) * (3 * x**2 - y**2),
        "B1": lambda x, y: x * (x**2 - 3 * y**2),
        "B2": lambda x, y: y * (3 * x**2 - y**2),
    },
    "C3v": {"A1": lambda x, y: x**2 + y**2, "A2": lambda x, y: y * (3 * x**2 - y**2)},
    "C4": {
        "A": lambda x, y: x**2 + y**2,
        "B": lambda x, y: x * y,
        "E1+": lambda x, y: x + 1j * y,
        "E1-": lambda x, y: x - 1j * y,
    },
    "C3": {
        "A": lambda x, y: 1,
        "E1+": lambda x, y: x + 1j * y,
        "E1-": lambda x, y: x - 1j * y,
    },
    "Cs": {"A1": lambda x: x**2, "A2": lambda x: x},
    "cubic": {
        "A1g": lambda x, y, z: x**2 + y**2 + z**2,
        "A2g": lambda x, y, z: (x**2 - y**2) * (y**2 - z**2) * (z**2 - x**2),
        "A1u": lambda x, y, z: (
            x * y * z * (x**2 - y**2) * (y**2 - z**2) * (z**2 - x**2)
        ),
        "A2u": lambda x, y, z: x * y * z,
    },
    "tetragonal": {
        "A1g": lambda x, y, z: z**2,
        "A2g": lambda x, y, z: x * y * (x**2 - y**2),
        "B1g": lambda x, y, z: x**2 - y**2,
        "B2g": lambda x, y, z: x * y,
        "A1u": lambda x, y, z: x * y * z * (x**2 - y**2),
        "A2u": lambda x, y, z: z,
        "B1u": lambda x, y, z: x * y * z,
        "B2u": lambda x, y, z: z * (x**2 - y**2),
    },
    "box": {
        "Ag": lambda x, y, z: x**2,
        "B1g": lambda x, y, z: x * y,
        "B2g": lambda x, y, z: x * z,
        "B3g": lambda x, y, z: y * z,
        "Au": lambda x, y, z: x * y * z,
        "B1u": lambda x, y, z: z,
        "B2u": lambda x, y, z: y,
        "B3u": lambda x, y, z: x,
    },
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_names_are_those_of_the_textbooks(name: str, rng: np.random.Generator) -> None:
    group = matrices(name)
    found = irreps(group)
    assert set(found) == set(FUNCTIONS[name])
    points = rng.normal(size=(group.shape[1],))
    for label, f in FUNCTIONS[name].items():
        ratios = [f(*(g.T @ points)) / f(*points) for g in group]
        np.testing.assert_allclose(found[label], ratios, atol=1e-9)
    if group.shape[1] < 3:
        assert group_name(group) == name


#: Lattices whose little groups are all abelian: nothing is left over.
WHOLE = {
    "ring": ("chain", {"size": [6]}, "heisenberg", {}),
    "ladder": ("ladder", {"size": [3]}, "heisenberg", {}),
    "rectangle": ("square", {"size": [2, 4]}, "tfim", {}),
    "open": ("chain", {"size": [5], "periodic": False}, "tfim", {}),
    "tilted": ("square", TILTED, "heisenberg", {"total_sz": 2}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_sectors_share_out_the_whole_spectrum(name: str) -> None:
    kind, keys, model, sector = WHOLE[name]
    lattice = LATTICES[kind](**keys)
    ham = compile_operator(MODELS[model](lattice), lattice.n_sites, **sector)
    flips = (1, -1) if ham.conserves_spin_flip and not ham.space.twice_sz else (None,)
    found, dimension = [], 0
    for momentum in every_momentum(lattice):
        for irrep in little_group(lattice, momentum).irreps:
            for flip in flips:
                group = symmetry_sector(ham, lattice, momentum, flip, irrep)
                rows = SymmetricRows(ham, group)
                dimension += rows.dim
                if rows.dim:
                    levels = ground_states(ham, rows.dim, symmetry=group)
                    found.append(levels.energies)
    assert dimension == ham.space.n_states
    whole = np.linalg.eigvalsh(dense(ham))
    np.testing.assert_allclose(np.sort(np.concatenate(found)), whole, atol=1e-9)


def every_momentum(lattice) -> list:
    if not any(lattice.periodic):
        return [None]
    found = []
    for momentum in itertools.product(
        range(lattice.n_sites), repeat=len(lattice.shape or (0, 0))
    ):
        try:
            chi = space_group(lattice, momentum).characters
        except JobError:
            continue
        if not any(np.allclose(chi, other) for _, other in found):
            found.append((momentum, chi))
    assert len(found) == len(lattice.translations)
    return [momentum for momentum, _ in found]


@pytest.mark.parametrize(
    ("kind", "size", "momentum"),
    [
        ("square", [3, 3], [0, 0]),
        ("square", [3, 3], [1, 1]),
        ("square", [2, 2], [1, 1]),
        ("triangular", [3, 3], [1, 1]),
        ("honeycomb", [2, 2], [0, 1]),
        ("kagome", [2, 2], [0, 0]),
        ("cubic", [2, 2, 2], [1, 1, 1]),
    ],
)
def test_dimensions_are_traces_of_projectors(kind, size, momentum) -> None:
    """dim = 1/|G| sum_g conj(chi_g) Tr T_g, Tr T_g = 2^(cycles of g)."""
    lattice = LATTICES[kind](size)
    ham = compile_operator(MODELS["tfim"](lattice), lattice.n_sites)
    for irrep in little_group(lattice, momentum).irreps:
        group = space_group(lattice, momentum, irrep)
        check_representation(group.perms, group.characters, group.perms)
        traces = [2.0 ** n_cycles(perm) for perm in group.perms]
        want = np.mean(group.characters.conj() * traces)
        sector = symmetry_sector(ham, lattice, momentum, point_group=irrep)
        assert SymmetricRows(ham, sector).dim == pytest.approx(want)


def n_cycles(perm: np.ndarray) -> int:
    left, count = set(range(len(perm))), 0
    while left:
        count, site = count + 1, left.pop()
        while (site := int(perm[site])) in left:
            left.remove(site)
    return count


def test_levels_of_the_frustrated_square() -> None:
    """J1-J2 on 4x4: singlet ground state with k = 0, A1; the next has k = (pi, pi)."""
    lattice = LATTICES["square"]([4, 4])
    ham = compile_operator(MODELS["j1j2"](lattice, J2=0.5), 16, total_sz=0)
    energies = {
        (m, irrep): ground_states(
            ham,
            symmetry=symmetry_sector(ham, lattice, m, 1, irrep),
            copies=False,
        ).energies[0]
        for m in ((0, 0), (2, 2))
        for irrep in ("A1", "B1")
    }
    assert energies[(0, 0), "A1"] == pytest.approx(-8.45792335, abs=5e-9)
    assert min(energies, key=lambda key: energies[key]) == ((0, 0), "A1")


#: One vector per bond, the last shorter.
DM = [[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0.5]]


def refusal(text: str, *args, **keys) -> None:
    with pytest.raises(JobError, match=text):
        space_group(*args, **keys)


def test_representations_that_do_not_exist_are_listed() -> None:
    square, ring = LATTICES["square"]([4, 4]), LATTICES["chain"](6)
    refusal(r"'A3': C4v, .* has no such .* are: A1, A2, B1, B2", square, [0, 0], "A3")
    refusal(r"C4v.* dimension above one.* are: A1, A2, B1, B2", square, [0, 0], "E")
    refusal(r"Cs, which leaves the momentum \[1, 0\]", square, [1, 0], "B1")
    refusal(r"are: A1, A2\. Did you mean 'A1'", ring, [0], "A")
    # Where a reflection is the identity there are no odd states.
    refusal(r"dimension one are: A1\.", LATTICES["chain"](2), None, "A2")
    graph = LATTICES["graph"](edges=[[0, 1], [1, 2]])
    assert space_group(graph, None, "A1").perms.shape == (2, 3)
    refusal(r"all automorphisms has no such .* A1", graph, None, "B1")
    refusal(r"needs a \[lattice\]", None, None, "A1")


def test_no_group_and_no_characters() -> None:
    ring = space_group(LATTICES["chain"](6), [1], None)
    with pytest.raises(JobError, match="no group"):
        check_representation(ring.perms[:3], ring.characters[:3], ring.perms[1:2])
    with pytest.raises(JobError, match="no one-dimensional representation"):
        check_representation(ring.perms, ring.characters.real, ring.perms[1:2])


@pytest.mark.parametrize(
    ("kind", "size", "model", "keys", "asked", "message"),
    [
        (
            *("chain", [6], "heisenberg", {"J": [1, 1, 1, 2, 1, 1]}, {"momentum": [0]}),
            r"translations.* on bond \(2, 3\) to bond \(3, 4\)",
        ),
        (
            *("chain", [6], "dm", {"D": 0.5}, {"point_group": "A1"}),
            r"rotations and reflections .* on bond \(0, 1\) to bond \(0, 5\)",
        ),
        (
            *("chain", [4], "tfim", {"h": [1, 1, 2, 1]}, {"momentum": [0]}),
            r"on site 1 to site 2, where",
        ),
        (
            *("chain", [4], "tfim", {"hz": 0.1}, {"spin_flip": 1}),
            r"flip of all spins: the term on site 0 changes sign",
        ),
        (
            *("chain", [4], "dm", {"D": DM}, {"momentum": [0]}),
            r"on bond \(0, 3\) to bond \(0, 1\)",
        ),
    ],
)
def test_what_the_hamiltonian_breaks(kind, size, model, keys, asked, message) -> None:
    lattice = LATTICES[kind](size)
    ham = compile_operator(MODELS[model](lattice, **keys), lattice.n_sites)
    with pytest.raises(JobError, match=message):
        symmetry_sector(ham, lattice, **asked)


def test_what_the_space_breaks() -> None:
    lattice = LATTICES["chain"](4)
    pairs = [(0, 1), (1, 2), (2, 3)]
    ham = compile_operator(MODELS["tfim"](lattice, h=0.0), 4, blockade=pairs)
    with pytest.raises(JobError, match="the space .*blockade of 3 pairs.* leads out"):
        symmetry_sector(ham, lattice, [0])
