"""Observables of the spins: magnetisations, correlations, structure factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vmc import observables_correlations as correlations
from vmc import registry
from vmc.errors import JobError
from vmc.observables import Kernel, Moments, PairProducts
from vmc.observables_operators import OperatorMeans, OperatorProducts
from vmc.observables_plan import Columns, Finish, Found, Plan, table
from vmc.stats import Series
from vmc.streaming import Derived

# ---- magnetisations --------------------------------------------------------------


def magnetization(plan: Plan, name: str) -> Finish:
    """M, |M|, M^2, M^4 and the Binder ratio 1 - <M^4> / (3 <M^2>^2)."""
    n = plan.built.n_sites
    weights = np.ones((1, n))
    if name == "staggered_magnetization":
        lattice = plan.lattice(name)
        if lattice.sublattice is None:
            raise JobError(
                f"observable {name!r}: {lattice!r} is not bipartite, its bonds admit "
                'no two sublattices; measure "structure_factor", whose peak shows the '
                "order that there is"
            )
        weights = 1.0 - 2 * np.asarray(lattice.sublattice)[None]
    plan.once(name, lambda: Moments(weights))

    def moments(parts: Sequence[Series]) -> Series:
        # The sums themselves are exact: 0 / 0 where M is always 0.
        square, fourth = parts[0][..., 2], parts[0][..., 3]
        binder = 1 - fourth / (3 * square**2)
        powers = parts[0] / np.array([n, n, n**2, n**4], float)
        return np.concatenate([powers, binder[..., None]], axis=-1)

    def finish(found: Found) -> Columns:
        labels: Columns = {"quantity": ["M", "|M|", "M^2", "M^4", "binder"]}
        return table(labels, *found.averages.evaluate([name], moments))

    return finish


# ---- correlations of spins -------------------------------------------------------


def site_classes(plan: Plan, name: str) -> correlations.Classes:
    """Classes of pairs of sites; without a lattice: equal ones and others."""
    if plan.built.system.lattice is not None or name != "total_spin":
        return correlations.site_classes(plan.lattice(name))
    first, second = np.triu_indices(plan.built.n_sites)
    labels = (first != second).astype(np.int32)
    sizes = np.bincount(labels, minlength=2)
    weights = 1.0 / sizes[labels]
    pairs = np.stack([first, second], axis=1).astype(np.int32)
    counts = np.array([sizes[0], 2 * sizes[1]])
    places = ["0-0", "0-1"]
    return correlations.Classes(
        pairs, labels, weights, counts, np.zeros((2, 0)), places
    )


def zz(plan: Plan, name: str) -> tuple[correlations.Classes, Derived]:
    """Classes, and the function that picks <S^z S^z> of the kernel "zz"."""
    found = site_classes(plan, name)
    n_classes, n_sites = found.n_classes, plan.built.n_sites
    plan.once(
        "zz",
        lambda: PairProducts(
            found.pairs, found.labels, found.weights, n_classes, n_sites
        ),
    )
    return found, lambda parts: parts[0][..., :n_classes]


def exchange(plan: Plan, i: int, j: int) -> Any:
    """S^x_i S^x_j + S^y_i S^y_j."""
    dims = plan.space.local_dims
    a, b = registry.spin_operators(dims[i]), registry.spin_operators(dims[j])
    return 0.5 * (a.Sp(i) @ b.Sm(j) + a.Sm(i) @ b.Sp(j))


def scalar_product(plan: Plan, i: int, j: int) -> Any:
    """S_i . S_j."""
    dims = plan.space.local_dims
    a, b = registry.spin_operators(dims[i]), registry.spin_operators(dims[j])
    return exchange(plan, i, j) + a.Sz(i) @ b.Sz(j)


def xy(plan: Plan, name: str) -> tuple[correlations.Classes, list[str], Derived]:
    """Classes, kernels, and the function that gives <S^x S^x + S^y S^y>."""
    found, of_zz = zz(plan, name)
    apart = found.pairs[:, 0] != found.pairs[:, 1]

    def make() -> Kernel:
        pairs = found.pairs[apart].tolist()
        operators = plan.compiled((exchange(plan, i, j) for i, j in pairs), name)
        labels, weights = found.labels[apart], found.weights[apart]
        return OperatorMeans(operators, labels, weights, found.n_classes)

    kernels = ["zz", plan.once("xy", make)]
    # On one site xx + yy + zz = S (S + 1).
    s = (np.asarray(plan.space.local_dims) - 1) / 2
    own = np.bincount(
        found.labels[~apart],
        (s * (s + 1))[found.pairs[~apart, 0]] * found.weights[~apart],
        found.n_classes,
    )
    same = np.bincount(found.labels[~apart], minlength=found.n_classes) > 0

    def plane(parts: Sequence[Series]) -> Series:
        return np.where(same, own - of_zz(parts), parts[1])

    return found, kernels, plane


def zz_correlations(plan: Plan, name: str) -> Finish:
    """C(r) and the connected C(r) - <S^z_i> <S^z_j>."""
    found, plain = zz(plan, name)
    connected = subtracted(found)

    def both(parts: Sequence[Series]) -> Series:
        means = parts[0][..., found.n_classes :]
        return np.concatenate([plain(parts), connected(plain(parts), means)], axis=-1)

    def finish(seen: Found) -> Columns:
        labels = repeated(found.columns(), ["zz", "zz_connected"], found.n_classes)
        return table(labels, *seen.averages.evaluate(["zz"], both))

    return finish


def subtracted(found: correlations.Classes) -> Callable[[Series, Series], Series]:
    """(C by class, means of the members) -> C minus the product of means."""
    order = np.argsort(found.labels, kind="stable")
    starts = np.searchsorted(found.labels[order], np.arange(found.n_classes))
    first, second = found.pairs[order].T
    weights = found.weights[order]

    def connected(values: Series, means: Series) -> Series:
        products = means[..., first] * means[..., second] * weights
        return values - np.add.reduceat(products, starts, axis=-1)

    return connected


def repeated(labels: Columns, components: Sequence[str], n: int) -> Columns:
    """Labels of n rows, once for every component."""
    column = [c for c in components for _ in range(n)]
    return {"component": column} | {
        key: values * len(components) for key, values in labels.items()
    }


def spin_correlations(plan: Plan, name: str) -> Finish:
    """<S_i . S_j> by displacement and its parts."""
    found, kernels, plane = xy(plan, name)

    def all_three(parts: Sequence[Series]) -> Series:
        z, p = parts[0][..., : found.n_classes], plane(parts)
        return np.concatenate([z + p, z, p], axis=-1)

    def finish(seen: Found) -> Columns:
        labels = repeated(found.columns(), ["ss", "zz", "xx+yy"], found.n_classes)
        return table(labels, *seen.averages.evaluate(kernels, all_three))

    return finish


def total_spin(plan: Plan, name: str) -> Finish:
    """<S^2> = sum_ij <S_i . S_j>, which is S (S + 1) in a state of spin S."""
    found, kernels, plane = xy(plan, name)

    def total(parts: Sequence[Series]) -> Series:
        both = parts[0][..., : found.n_classes] + plane(parts)
        return (both @ found.counts)[..., None]

    def finish(seen: Found) -> Columns:
        return table({"quantity": ["S^2"]}, *seen.averages.evaluate(kernels, total))

    return finish


def structure_factor(plan: Plan, name: str) -> Finish:
    """S(q) on the allowed momenta."""
    lattice = plan.lattice(name)
    momenta = correlations.momenta_of(lattice)
    found, plain = zz(plan, name)
    kernels, plane = ["zz"], None
    if name == "spin_structure_factor":
        _, kernels, plane = xy(plan, name)

    def by_class(parts: Sequence[Series]) -> Series:
        return plain(parts) if plane is None else plain(parts) + plane(parts)

    matrix = correlations.transform(found, momenta, lattice.n_sites)

    def finish(seen: Found) -> Columns:
        q = [[round(x, 9) + 0.0 for x in row] for row in momenta.tolist()]
        means = seen.averages.evaluate(kernels, lambda parts: by_class(parts) @ matrix)
        return table({"q": q}, *means)

    return finish


def correlation_length(plan: Plan, name: str) -> Finish:
    """Second-moment length at the peak of S(q)."""
    lattice = plan.lattice(name)
    momenta = correlations.momenta_of(lattice)
    shifts = np.asarray(lattice.translation_vectors)
    found, plain = zz(plan, name)
    matrix = correlations.transform(found, momenta, lattice.n_sites)
    correlations.peak(np.zeros(len(momenta)), momenta)  # refuse now, not at the end

    def finish(seen: Found) -> Columns:
        def factor(parts: Sequence[Series]) -> Series:
            return plain(parts) @ matrix

        structure, _ = seen.averages.evaluate(["zz"], factor)
        top, near = correlations.peak(structure, momenta)
        beside = [correlations.shifted(momenta, shifts, top, q) for q, _ in near]

        def length(parts: Sequence[Series]) -> Series:
            return correlations.correlation_length(
                factor(parts), top, beside, near[0][1]
            )

        q = [round(x, 9) + 0.0 for x in momenta[top].tolist()]
        labels: Columns = {"quantity": ["xi"], "q": [q]}
        return table(labels, *seen.averages.evaluate(["zz"], length))

    return finish


# ---- correlations of bonds and triangles -----------------------------------------


def field_correlations(plan: Plan, name: str) -> Finish:
    """<D_a D_b> by displacement, plain and connected, and the mean of D."""
    lattice = plan.lattice(name)
    make = _dimers if name == "dimer_correlations" else _triangles
    operators, positions, kinds = make(plan, lattice, name)
    periods = lattice.periods
    if lattice.graph_edges is not None:
        positions, periods = np.zeros((len(kinds), 0)), np.zeros((0, 0))
        kinds = np.arange(len(kinds))
    found = correlations.classes(positions, periods, kinds)
    plan.once(
        name,
        lambda: OperatorProducts(
            plan.compiled(operators, name),
            found.pairs,
            found.labels,
            found.weights,
            found.n_classes,
        ),
    )
    connected = subtracted(found)

    def both(parts: Sequence[Series]) -> Series:
        plain = parts[0][..., : found.n_classes]
        means = parts[0][..., found.n_classes :]
        average = np.mean(means, axis=-1, keepdims=True)
        return np.concatenate([average, plain, connected(plain, means)], axis=-1)

    def finish(seen: Found) -> Columns:
        rows = repeated(found.columns(), ["plain", "connected"], found.n_classes)
        first: Columns = {key: [None] for key in rows} | {"component": ["mean"]}
        labels = {key: first[key] + rows[key] for key in rows}
        return table(labels, *seen.averages.evaluate([name], both))

    return finish


def _dimers(
    plan: Plan, lattice: Any, name: str
) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """S_i . S_j of the bonds, their middles, and their directions."""
    bonds = lattice.bonds(1)
    if len(bonds.sites) == 0:
        raise JobError(f"observable {name!r}: {lattice!r} has no bonds")
    operators = [scalar_product(plan, i, j) for i, j in bonds.sites.tolist()]
    middles = lattice.positions[bonds.sites[:, 0]] + bonds.vectors / 2
    start = bonds.sites[:, 0] % len(lattice.basis)
    kinds = bonds.colors * len(lattice.basis) + start
    return operators, middles, kinds


def _triangles(
    plan: Plan, lattice: Any, name: str
) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """S_i . (S_j x S_k) of the triangles, their middles, and their shapes."""
    triangles = np.asarray(lattice.triangles)
    if len(triangles) == 0:
        raise JobError(
            f"observable {name!r}: {lattice!r} has no triangles of nearest neighbours; "
            'measure an operator of your own ("file.py:name") on the sites you mean'
        )
    operators = [chirality(plan, *row) for row in triangles.tolist()]
    corners = lattice.positions[triangles]
    legs = corners[:, 1:] - corners[:, :1]
    if len(lattice.periods):
        turns = np.rint(legs @ np.linalg.pinv(lattice.periods))
        legs = legs - turns @ lattice.periods
    middles = corners[:, 0] + np.sum(legs, axis=1) / 3
    places = triangles % len(lattice.basis)
    shape = np.rint(np.concatenate([places, legs.reshape(len(legs), -1)], axis=1) * 1e4)
    return operators, middles, np.unique(shape, axis=0, return_inverse=True)[1]


def chirality(plan: Plan, i: int, j: int, k: int) -> Any:
    """S_i . (S_j x S_k)."""
    dims = plan.space.local_dims
    a, b, c = (registry.spin_operators(dims[x]) for x in (i, j, k))
    return (
        a.Sx(i) @ (b.Sy(j) @ c.Sz(k) - b.Sz(j) @ c.Sy(k))
        + a.Sy(i) @ (b.Sz(j) @ c.Sx(k) - b.Sx(j) @ c.Sz(k))
        + a.Sz(i) @ (b.Sx(j) @ c.Sy(k) - b.Sy(j) @ c.Sx(k))
    )


#: Observables of the spins by name.
SPINS: Mapping[str, Callable[[Plan, str], Finish]] = {
    "magnetization": magnetization,
    "staggered_magnetization": magnetization,
    "correlations": zz_correlations,
    "spin_correlations": spin_correlations,
    "structure_factor": structure_factor,
    "spin_structure_factor": structure_factor,
    "correlation_length": correlation_length,
    "dimer_correlations": field_correlations,
    "chiral_correlations": field_correlations,
    "total_spin": total_spin,
}
