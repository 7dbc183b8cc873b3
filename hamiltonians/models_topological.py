"""Models of commuting or bond-dependent products: Kitaev, toric code, cluster state."""

from __future__ import annotations

import numpy as np

from hamiltonians.couplings import Coupling, is_zero, per_bond, per_site, values
from hamiltonians.lattices import Lattice
from hamiltonians.operators import Operator
from vmc.errors import JobError

#: (coefficient, letters, sites)
Terms = list[tuple[float, str, tuple[int, ...]]]


def kitaev_honeycomb(
    lattice: Lattice,
    Kx: Coupling = 1.0,
    Ky: Coupling = 1.0,
    Kz: Coupling = 1.0,
    J: Coupling = 0.0,
    hx: Coupling = 0.0,
    hy: Coupling = 0.0,
    hz: Coupling = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = -Kx sum_x sx sx - Ky sum_y sy sy - Kz sum_z sz sz, Pauli matrices.

    Kitaev's model (arXiv:cond-mat/0506438); bonds of colour 0, 1, 2 are x, y, z.  Plus
    J sum_<ij> sigma_i . sigma_j - sum_i (hx sx + hy sy + hz sz).

    Args:
        lattice: honeycomb, or any whose sites have at most one bond of each of three
            colours; a torus of at least 2 x 2 unit cells, so that no two bonds join
            the same sites.
        Kx: strength of the x bonds; or one for each of them, in the order of
            ``lattice.edges(1)``.
        Ky: strength of the y bonds, alike.
        Kz: strength of the z bonds, alike.
        J: Heisenberg exchange of Pauli matrices, per bond.
        hx: field along x, per site.
        hy: field along y, per site.
        hz: field along z, per site.
        disorder_seed: for couplings given as a distribution.
    """
    edges, colors = lattice.edges(1), lattice.edge_colors(1)
    if lattice.bonds(1).meets_itself:
        raise JobError(
            f"{lattice!r} is so small a torus that bonds of different kinds join the "
            "same two sites, and only one of them would be kept; kitaev_honeycomb "
            "needs at least 2 x 2 unit cells, as size = [2, 2], or periodic = false"
        )
    ends = np.stack([edges, np.stack([colors, colors], axis=1)], axis=-1).reshape(-1, 2)
    if colors.max(initial=-1) != 2 or len(np.unique(ends, axis=0)) < len(ends):
        raise JobError(
            f"{lattice!r} does not have bonds of three kinds, at most one of each kind "
            "per site; kitaev_honeycomb needs for example the honeycomb lattice"
        )
    terms: Terms = []
    for color, (axis, value) in enumerate((("x", Kx), ("y", Ky), ("z", Kz))):
        bonds = edges[colors == color].tolist()
        each = values(f"K{axis}", value, len(bonds), f"{axis} bonds", disorder_seed)
        pairs = zip(each.tolist(), bonds, strict=True)
        terms += [(-c, axis.upper() * 2, (i, j)) for c, (i, j) in pairs]
    if not is_zero(J):
        each = per_bond(lattice, "J", J, 1, disorder_seed)
        for c, (i, j) in zip(each.tolist(), edges.tolist(), strict=True):
            terms += [(c, letter * 2, (i, j)) for letter in "XYZ"]
    for name, value in (("hx", hx), ("hy", hy), ("hz", hz)):
        terms += _field(lattice, name, value, seed=disorder_seed)
    return Operator.from_terms(terms)


def toric_code(
    lattice: Lattice,
    J_star: Coupling = 1.0,
    J_face: Coupling = 1.0,
    hx: Coupling = 0.0,
    hz: Coupling = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = -J_star sum_v prod sx - J_face sum_f prod sz - hx sum sx - hz sum sz, Pauli.

    Toric code (arXiv:quant-ph/9707021) in a field: spins sit on the links; stars v
    multiply the links at a vertex, faces f those around a face.

    Args:
        lattice: of the family ``square_links``.
        J_star: strength of the stars; or one for each of
            ``lattice.features["stars"]``.
        J_face: strength of the faces; or one for each of
            ``lattice.features["faces"]``.
        hx: field along x, per link.
        hz: field along z, per link.
        disorder_seed: for couplings given as a distribution.
    """
    if not {"stars", "faces"} <= set(lattice.features):
        raise JobError(
            f"{lattice!r} has no stars and faces: spins of toric_code sit on links. "
            'Use the lattice name = "square_links" with the same size (2 L_x L_y spins)'
        )
    terms: Terms = []
    kinds = (("J_star", J_star, "stars", "X"), ("J_face", J_face, "faces", "Z"))
    for name, value, kind, letter in kinds:
        groups = lattice.features[kind]
        each = values(name, value, len(groups), kind, disorder_seed)
        pairs = zip(each.tolist(), groups, strict=True)
        terms += [(-c, letter * len(links), links) for c, links in pairs]
    for name, value in (("hx", hx), ("hz", hz)):
        terms += _field(lattice, name, value, seed=disorder_seed)
    return Operator.from_terms(terms)


def cluster(
    lattice: Lattice,
    J: Coupling = 1.0,
    h: Coupling = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = -sum_i J_i sx_i prod_{j next to i} sz_j - h sum_i sx_i, Pauli matrices.

    Cluster (graph-state) model; on a periodic chain -J sum Z_{i-1} X_i Z_{i+1}.  At
    h = 0 all terms commute and the unique ground state has energy -sum_i |J_i|.

    Args:
        lattice: any.
        J: strength of the stabilisers, per site i.
        h: transverse field, per site.
        disorder_seed: for couplings given as a distribution.
    """
    strength = per_site(lattice, "J", J, disorder_seed).tolist()
    terms: Terms = [
        (-strength[i], "X" + "Z" * len(near), (i, *near))
        for i, near in enumerate(lattice.neighbors)
    ]
    return Operator.from_terms(terms + _field(lattice, "h", h, "X", disorder_seed))


def _field(
    lattice: Lattice,
    name: str,
    value: Coupling,
    letter: str | None = None,
    seed: int | None = None,
) -> Terms:
    """The terms -value * letter on every site; none for a plain 0."""
    if is_zero(value):
        return []
    letter = letter or name[-1].upper()
    each = per_site(lattice, name, value, seed)
    return [(-c, letter, (i,)) for i, c in enumerate(each.tolist())]
