"""A drawing of a lattice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vmc.errors import JobError

if TYPE_CHECKING:
    from hamiltonians.lattices import Lattice


def draw(lattice: Lattice, ax: Any, shells: tuple[int, ...]) -> Any:
    """See `Lattice.plot`.  Bonds around the torus are drawn as dotted stubs."""
    points = lattice.positions
    if points.shape[1] == 0:
        raise JobError(
            f"{lattice!r} has no positions: give every node of the graph an attribute "
            "'pos', for example with networkx.set_node_attributes(g, layout, 'pos')"
        )
    try:
        import matplotlib.pyplot as plt  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "drawing a lattice needs matplotlib: pip install 'nqs-vmc[plots]'"
        ) from error
    # Three dimensions are drawn in a fixed oblique projection.
    points = np.pad(points, ((0, 0), (0, max(0, 3 - points.shape[1]))))
    oblique = np.array([[1.0, 0.0], [0.0, 1.0], [0.35, 0.45]])
    if ax is None:
        _, ax = plt.subplots()
    for color, n in enumerate(shells):
        bonds = lattice.bonds(n)
        vectors = np.pad(bonds.vectors, ((0, 0), (0, 3 - bonds.vectors.shape[1])))
        for (i, j), vector in zip(bonds.sites, vectors, strict=True):
            inside = np.allclose(points[i] + vector, points[j], atol=1e-6)
            ends = [(points[i], vector if inside else 0.4 * vector)]
            if not inside:
                ends.append((points[j], -0.4 * vector))
            for origin, delta in ends:
                line = np.stack([origin, origin + delta]) @ oblique
                style = "-" if inside else ":"
                ax.plot(*line.T, style, color=f"C{color}", lw=1, zorder=1)
    flat = points @ oblique
    ax.scatter(*flat.T, color="black", s=18, zorder=2)
    for site, (x, y) in enumerate(flat):
        ax.annotate(str(site), (x, y), textcoords="offset points", xytext=(3, 3))
    ax.set_aspect("equal")
    ax.set_title(f"{lattice.name}, {lattice.n_sites} sites")
    return ax
