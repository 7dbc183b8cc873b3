"""The registered lattices: factories ``(size, periodic, **keys) -> Lattice``.

Nearest neighbours are at distance 1.  ``size`` counts unit cells along each lattice
vector; ``periodic`` is one flag, or one per direction.  Every two- and
three-dimensional family takes ``cluster``, an integer spanning matrix, instead of
``size``: row i is the i-th period of the torus in units of the lattice vectors, as in
``square(cluster=[[4, 2], [-2, 4]])`` for the tilted square lattice of 20 sites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hamiltonians.lattice_graphs import complete, graph
from hamiltonians.lattice_keys import (
    Cluster,
    Periodic,
    Size,
    cell_grid,
    lengths,
    points,
)
from hamiltonians.lattices import Lattice
from vmc.errors import JobError

_ROOT3 = 3.0**0.5
_TRIANGULAR = np.array([[1.0, 0.0], [-0.5, _ROOT3 / 2]])
_HEXAGONAL = np.array([[1.0, 0.0], [0.5, _ROOT3 / 2]])
_ORIGIN2 = np.zeros((1, 2))


def chain(size: Size = None, periodic: Periodic = True) -> Lattice:
    """Chain of L sites, site = x, bonds (x, x + 1).

    A periodic chain of 2 sites has one bond, not two.

    Args:
        size: [L].
        periodic: one flag.
    """
    grid = cell_grid("chain", 1, size, periodic, None)
    return Lattice("chain", np.eye(1), np.zeros((1, 1)), grid)


def ladder(size: Size = None, periodic: Periodic = True) -> Lattice:
    """Ladder, site = n_legs * rung + leg; legs are bonds of colour 0, rungs of 1.

    Args:
        size: [n_legs, n_rungs], or [n_rungs] with two legs.
        periodic: along the legs; the rungs are always open.
    """
    sizes = lengths("ladder", size, (1, 2), "[n_legs, n_rungs], or [n_rungs]")
    legs, rungs = sizes if len(sizes) == 2 else (2, sizes[0])
    if isinstance(periodic, Sequence) and len(periodic) == 2:
        across, periodic = periodic
        if across:
            raise JobError(
                "a ladder is open across its rungs; with periodic rungs it is a tube: "
                f'use name = "square", size = [{rungs}, {legs}]'
            )
    grid = cell_grid("ladder", 1, rungs, periodic, None)
    basis = np.stack([np.zeros(legs), np.arange(float(legs))], axis=1)
    return Lattice("ladder", np.array([[1.0, 0.0]]), basis, grid)


def square(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Square lattice, site = x * L_y + y.

    Args:
        size: [L_x, L_y]; one number L means L x L.
        periodic: one flag, or [along x, along y].
        cluster: spanning matrix of a tilted torus, instead of ``size``.
    """
    grid = cell_grid("square", 2, size, periodic, cluster, one_means_all=True)
    return Lattice("square", np.eye(2), _ORIGIN2, grid)


def triangular(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Triangular lattice, site = x * L_y + y; bonds along x, y and (1, 1).

    Args:
        size: [L_x, L_y]; one number L means L x L.
        periodic: one flag, or one per direction.
        cluster: spanning matrix; the lattice vectors enclose 120 degrees.
    """
    grid = cell_grid("triangular", 2, size, periodic, cluster, one_means_all=True)
    return Lattice("triangular", _TRIANGULAR, _ORIGIN2, grid)


def honeycomb(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Honeycomb lattice, site = 2 (x L_y + y) + {A, B}; colours x, y, z of Kitaev.

    A(x, y) is bonded to B(x - 1, y) (colour 0), B(x, y - 1) (1) and B(x, y) (2).

    Args:
        size: [L_x, L_y] unit cells; one number L means L x L.
        periodic: one flag, or one per direction.
        cluster: spanning matrix; the lattice vectors enclose 60 degrees.
    """
    grid = cell_grid("honeycomb", 2, size, periodic, cluster, one_means_all=True)
    vectors = _ROOT3 * _HEXAGONAL
    basis = np.stack([np.zeros(2), vectors.sum(axis=0) / 3])
    return Lattice("honeycomb", vectors, basis, grid)


def kagome(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Kagome lattice, site = 3 (x L_y + y) + {A, B, C}.

    Args:
        size: [L_x, L_y] unit cells; one number L means L x L.
        periodic: one flag, or one per direction.
        cluster: spanning matrix; the lattice vectors enclose 60 degrees
            (36 sites: [[2, 2], [-2, 4]]).
    """
    grid = cell_grid("kagome", 2, size, periodic, cluster, one_means_all=True)
    basis = np.concatenate([_ORIGIN2, _HEXAGONAL])
    return Lattice("kagome", 2 * _HEXAGONAL, basis, grid)


def shuriken(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Shuriken (square-kagome) lattice, site = 6 (x L_y + y) + b.

    b = 0 to 3 is a square, 4 and 5 the tips between neighbouring squares.

    Args:
        size: [L_x, L_y] unit cells; one number L means L x L.
        periodic: one flag, or one per direction.
        cluster: spanning matrix.
    """
    grid = cell_grid("shuriken", 2, size, periodic, cluster, one_means_all=True)
    a = 1.0 + _ROOT3
    corners = [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]
    basis = np.array([*corners, [a / 2, 0.0], [0.0, a / 2]])
    return Lattice("shuriken", a * np.eye(2), basis, grid)


def cubic(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Simple cubic lattice, site = (x L_y + y) L_z + z.

    Args:
        size: [L_x, L_y, L_z]; one number L means L x L x L.
        periodic: one flag, or one per direction.
        cluster: spanning matrix of three rows.
    """
    grid = cell_grid("cubic", 3, size, periodic, cluster, one_means_all=True)
    return Lattice("cubic", np.eye(3), np.zeros((1, 3)), grid)


def pyrochlore(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Pyrochlore lattice on primitive fcc cells, site = 4 cell + {0, 1, 2, 3}.

    Args:
        size: [L_1, L_2, L_3] primitive cells; one number L means L x L x L.
        periodic: one flag, or one per direction.
        cluster: spanning matrix; [[-1, 1, 1], [1, -1, 1], [1, 1, -1]] is the cubic
            cell of 16 sites.
    """
    grid = cell_grid("pyrochlore", 3, size, periodic, cluster, one_means_all=True)
    vectors = 2.0**0.5 * (np.ones((3, 3)) - np.eye(3))
    basis = np.concatenate([np.zeros((1, 3)), vectors / 2])
    return Lattice("pyrochlore", vectors, basis, grid)


def shastry_sutherland(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Square lattice, site = x * L_y + y, with orthogonal dimers (feature ``dimers``).

    Dimers join (x, y)-(x+1, y+1) for x, y even and (x+1, y)-(x, y+1) for x, y odd.

    Args:
        size: [L_x, L_y] *sites*, even along periodic directions.
        periodic: one flag, or one per direction.
        cluster: spanning matrix in units of sites, all entries even.
    """
    grid = cell_grid(
        "shastry_sutherland", 2, size, periodic, cluster, one_means_all=True
    )
    if np.any(grid.periods[np.array(grid.periodic, bool)] % 2):
        given = f"cluster = {cluster}" if cluster is not None else f"size = {size}"
        raise JobError(
            f"shastry_sutherland with {given} does not close: its dimers repeat after "
            "2 sites, so every periodic length must be even"
        )
    cells = grid.cells()
    even = np.all(cells % 2 == 0, axis=1)
    odd = np.all(cells % 2 == 1, axis=1)
    first = np.concatenate([cells[even], cells[odd] + [1, 0]])
    second = np.concatenate([cells[even] + [1, 1], cells[odd] + [0, 1]])
    dimers = np.stack([grid.index(first), grid.index(second)], axis=1)
    inside = dimers[np.all(dimers >= 0, axis=1)]
    features = {"dimers": tuple(tuple(pair) for pair in inside.tolist())}
    return Lattice("shastry_sutherland", np.eye(2), _ORIGIN2, grid, features)


def square_links(
    size: Size = None, periodic: Periodic = True, *, cluster: Cluster = None
) -> Lattice:
    """Links of the square lattice, site = 2 (x L_y + y) + d, for the toric code.

    d = 0 is the link from vertex (x, y) to (x + 1, y), d = 1 to (x, y + 1).  The
    feature ``stars`` lists the links at every vertex, ``faces`` those around every
    face; open boundaries keep the links that exist.

    Args:
        size: [L_x, L_y] vertices; one number L means L x L.
        periodic: one flag, or one per direction.
        cluster: spanning matrix.
    """
    grid = cell_grid("square_links", 2, size, periodic, cluster, one_means_all=True)
    side = 2.0**0.5
    basis = np.array([[side / 2, 0.0], [0.0, side / 2]])
    bare = Lattice("square_links", side * np.eye(2), basis, grid)
    kind = np.array([0, 0, 1, 1])
    features = {}
    for name, offsets in (
        ("stars", [[0, 0], [-1, 0], [0, 0], [0, -1]]),
        ("faces", [[0, 0], [0, 1], [0, 0], [1, 0]]),
    ):
        links = bare.site(grid.cells()[:, None] + np.array(offsets), kind)
        # On a torus of width 1 a link meets itself and squares to 1.
        features[name] = tuple(
            tuple(s for s in row if s >= 0 and row.count(s) == 1)
            for row in links.tolist()
        )
    return Lattice(bare.name, bare.vectors, basis, grid, features)


def from_unit_cell(
    size: Size = None,
    periodic: Periodic = True,
    *,
    vectors: Sequence[Sequence[float]],
    positions: Sequence[Sequence[float]] | None = None,
    cluster: Cluster = None,
    name: str = "unit_cell",
) -> Lattice:
    """Any lattice from its vectors and the sites of its cell; bonds by distance.

    Site = b * cell + position index, cells row by row.

    Args:
        size: number of cells along each vector; one number means all.
        periodic: one flag, or one per vector.
        vectors: (D, d) lattice vectors, D <= d <= 3.
        positions: (b, d) sites of the cell; one site at the origin by default.
        cluster: spanning matrix, instead of ``size``.
        name: what error messages call it.
    """
    rows = points("vectors", vectors)
    if len(rows) > rows.shape[1] or np.linalg.matrix_rank(rows) < len(rows):
        raise JobError(f"the lattice vectors {vectors!r} are linearly dependent")
    d = rows.shape[1]
    basis = np.zeros((1, d)) if positions is None else points("positions", positions)
    if basis.shape[1] != d:
        raise JobError(
            f"positions have {basis.shape[1]} coordinates, the vectors {d}; give equal"
        )
    delta = basis[:, None] - basis[None]
    cells = np.rint(delta @ np.linalg.pinv(rows))
    gap = np.linalg.norm(delta - cells @ rows, axis=-1) + np.eye(len(basis))
    if gap.min() < 1e-6:
        raise JobError("two positions of the unit cell are the same site")
    grid = cell_grid(name, len(rows), size, periodic, cluster, one_means_all=True)
    return Lattice(name, rows, basis, grid)


#: Short name -> factory; what ``[lattice] name`` may say.
LATTICES: dict[str, Callable[..., Lattice]] = {
    "chain": chain,
    "ladder": ladder,
    "square": square,
    "rectangular": square,
    "triangular": triangular,
    "honeycomb": honeycomb,
    "kagome": kagome,
    "shuriken": shuriken,
    "cubic": cubic,
    "pyrochlore": pyrochlore,
    "shastry_sutherland": shastry_sutherland,
    "square_links": square_links,
    "unit_cell": from_unit_cell,
    "graph": graph,
    "complete": complete,
}
