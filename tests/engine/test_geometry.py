"""Lazy products against dense NumPy, on one device and on several."""

import itertools
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.engine.helpers import (
    MeshOf,
    amplitudes,
    flat,
    hamiltonian,
    jacobian,
    made,
    matrix,
    on_mesh,
    randomise,
    twisted,
)
from vmc import distributed
from vmc.blocked import Shared
from vmc.estimators import local_energies
from vmc.factors import expand_factors
from vmc.geometry import Geometry
from vmc.space import spins

B = 16
#: (shape of the parameter, G, sizes of the factors) of one leaf each.
LEAVES = {
    "dense": ((5,), 1, (5,)),
    "groups": ((2, 3), 2, (3,)),
    "outer": ((3, 4), 1, (3, 4)),
    "outer_groups": ((3, 2, 3), 3, (2, 3)),
    "triple": ((12, 2), 2, (2, 3, 2)),
}
#: dtypes of parameters, scores and local energies.
KINDS = {
    "real": ("r", "r", "r"),
    "real-complex-energy": ("r", "r", "c"),
    "stacked": ("r", "c", "c"),
    "stacked-some": ("r", "m", "c"),
    "holomorphic": ("c", "c", "c"),
    "holomorphic-some": ("c", "m", "c"),
    "complex-real-scores": ("c", "r", "c"),
}


class Example(NamedTuple):
    """Made-up scores, and the dense matrix of them, uncentred."""

    params: Any
    factors: Any
    eloc: np.ndarray
    rows: np.ndarray


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    re, im = rng.normal(size=(2, *shape))
    return re + 1j * im if dtype == "c" else re


def example(kind: str) -> Example:
    rng = np.random.default_rng(1)
    of_params, of_scores, of_energy = KINDS[kind]
    params, factors, rows = {}, {}, []
    for number, (name, (shape, groups, sizes)) in enumerate(sorted(LEAVES.items())):
        dtype = of_scores if of_scores != "m" else "rc"[number % 2]
        params[name] = draw(rng, shape, of_params)
        # A mean, so that forgetting to centre shows.
        leaf = tuple(0.5 + draw(rng, (B, groups, n), dtype) for n in sizes)
        factors[name] = leaf
        each = [
            reduce(np.multiply.outer, [f[b, g] for f in leaf]).reshape(-1)
            for b, g in itertools.product(range(B), range(groups))
        ]
        rows.append(np.array(each).reshape(B, -1))
    eloc = draw(rng, (B,), of_energy)
    return Example(params, factors, eloc, np.concatenate(rows, axis=1))


def from_blocks(shared: Shared) -> jax.Array:
    """The matrix from one block of all columns, ordered as `Geometry.t_matrix`."""
    m, count = shared.parts * shared.n_local, distributed.n_devices()
    whole = distributed.gather(shared.block(0, m))
    whole = whole.reshape(2 * (count, shared.parts, shared.n_local))
    return whole.transpose(1, 0, 2, 4, 3, 5).reshape(m * count, m * count)


def uniform(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


def centred(
    rows: np.ndarray, real_params: bool, weights: np.ndarray | None = None
) -> np.ndarray:
    """Centred scaled rows; real and imaginary parts below one another."""
    w = uniform(len(rows)) if weights is None else weights
    out = (rows - w @ rows) * np.sqrt(w)[:, None]
    if real_params:
        return np.concatenate([out.real, out.imag]) if np.any(out.imag) else out.real
    return out


def centred_energies(
    eloc: np.ndarray, rows: np.ndarray, real: bool, weights: np.ndarray | None = None
) -> np.ndarray:
    w = uniform(len(eloc)) if weights is None else weights
    out = (eloc - w @ eloc) * np.sqrt(w)
    if real:
        return np.concatenate([out.real, out.imag]) if np.any(rows.imag) else out.real
    return out


@pytest.mark.parametrize(
    ("kind", "n_devices", "is_full"),
    [
        ("stacked-some", 1, False),
        ("stacked-some", 2, False),
        ("stacked-some", 2, True),
        ("holomorphic", 4, True),
        *[(kind, 4, False) for kind in KINDS],
    ],
)
def test_products(mesh_of: MeshOf, kind: str, n_devices: int, is_full: bool) -> None:
    """With equal weights, or any (a full sum)."""
    params, factors, eloc, rows = example(kind)
    real = not np.iscomplexobj(params["dense"])
    w = np.random.default_rng(4).dirichlet(np.ones(B)) if is_full else uniform(B)
    o = centred(rows, real, w)
    eps = centred_energies(eloc, rows, real, w)
    vector = randomise(params, 1.0, seed=8)
    rng = np.random.default_rng(9)
    x = draw(rng, (len(o),), "r" if real else "c")

    def everything(params, vector, x, factors, eloc, w):
        weights = w if is_full else None
        geometry = Geometry(lambda: factors, params, eloc, weights=weights)
        assert geometry.n_independent == (np.inf if is_full else B)
        return {
            "used": geometry.was_used,
            "energy": geometry.energy,
            "force": geometry.force,
            "apply": geometry.gather_rows(geometry.apply(vector)),
            "adjoint": geometry.adjoint(geometry.scatter_rows(x)),
            "distance2": geometry.distance2(vector),
            "slope": jnp.stack(geometry.slope(vector)),
            "trace": geometry.trace,
            "s": geometry.s_matrix,
            "t": geometry.t_matrix,
            "t in blocks": from_blocks(geometry.t_shared),
            "eps": geometry.gather_rows(geometry.eps),
            "sizes": (geometry.n_samples, geometry.n_rows, geometry.n_parameters),
        }

    mesh = mesh_of(n_devices)
    got = on_mesh(mesh, everything, (params, vector, x), (factors, eloc, w))
    assert not got["used"], "nothing was asked for yet"
    assert tuple(map(int, got["sizes"])) == (B, len(o), rows.shape[1])
    v = flat(vector)
    # Of each sample, real and imaginary part together.
    shares = 2 * (eps.conj() * (o @ v)).real.reshape(-1, B).sum(0)
    spread = 0.0 if is_full else B * np.var(shares)
    want = {
        "energy": w @ eloc,
        "slope": [np.sum(shares), spread],
        "s": o.conj().T @ o,
        "t": o @ o.conj().T,
        "t in blocks": o @ o.conj().T,
        "trace": np.sum(np.abs(o) ** 2),
        "apply": o @ v,
        "distance2": np.sum(np.abs(o @ v) ** 2),
        "eps": eps,
    }
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=1e-12, err_msg=name)
    for name, value in {"force": eps, "adjoint": x}.items():
        tree = got[name]
        assert jax.tree.map(jnp.shape, tree) == jax.tree.map(jnp.shape, params)
        np.testing.assert_allclose(flat(tree), o.conj().T @ value, atol=1e-12)
        assert flat(tree).dtype == v.dtype


def test_factors_expand_in_the_order_of_the_parameter() -> None:
    _, factors, _, rows = example("holomorphic")
    got = [expand_factors(jax.tree.map(jnp.asarray, f)) for f in factors.values()]
    np.testing.assert_allclose(np.concatenate(got, axis=1), rows, atol=1e-14)


def test_a_geometry_that_nobody_asks_costs_no_scores(mesh_of: MeshOf) -> None:
    def scores():
        raise AssertionError("scores were traced")

    def energy(params, eloc):
        geometry = Geometry(scores, params, eloc)
        return geometry.energy, geometry.centred.sum()

    mean, _ = on_mesh(mesh_of(2), energy, ({"w": jnp.ones(2)},), (jnp.arange(4.0),))
    assert mean == 1.5


@pytest.mark.parametrize(
    ("kind", "n_devices"),
    [("rbm-real", 1), ("rbm-complex", 2), ("jastrow-complex", 4)]
    + [("split", 1), ("split", 4)],
)
def test_wave_functions(mesh_of: MeshOf, kind: str, n_devices: int) -> None:
    """The trap: in shard_map a gradient may hide a sum over devices."""
    space = spins(4)
    wf, params = made(kind, space)
    sigma = space.all_states()
    rows = jacobian(wf, params, sigma)
    ham = hamiltonian(space, twisted(4))
    psi = amplitudes(wf, params, space)
    eloc = (matrix(space, twisted(4)) @ psi) / psi
    real = not np.iscomplexobj(flat(params))
    o, eps = centred(rows, real), centred_energies(eloc, rows, real)

    def run(ham, params, sigma):
        eloc = local_energies(wf, ham, params, sigma)
        geometry = Geometry(lambda: wf.scores(params, sigma), params, eloc)
        return geometry.s_matrix, geometry.t_matrix, geometry.force, geometry.trace

    s, t, force, trace = on_mesh(mesh_of(n_devices), run, (ham, params), (sigma,))
    np.testing.assert_allclose(s, o.conj().T @ o, atol=1e-12)
    np.testing.assert_allclose(t, o @ o.conj().T, atol=1e-12)
    np.testing.assert_allclose(flat(force), o.conj().T @ eps, atol=1e-12)
    np.testing.assert_allclose(trace, np.trace(s).real, rtol=1e-12)


def test_float32_amplitudes_with_float64_solves(mesh_of: MeshOf) -> None:
    params, factors, eloc, rows = example("holomorphic")
    small = jax.tree.map(lambda x: x.astype(np.complex64), (params, factors))
    o = centred(rows, False)

    def run(params, factors, eloc):
        geometry = Geometry(lambda: factors, params, eloc, "float64")
        return geometry.s_matrix, geometry.t_matrix, geometry.force, geometry.trace

    s, t, force, trace = on_mesh(mesh_of(2), run, small[:1], (small[1], eloc))
    assert s.dtype == t.dtype == np.complex128 and trace.dtype == np.float64
    assert flat(force).dtype == np.complex64
    np.testing.assert_allclose(s, o.conj().T @ o, atol=3e-6)
    np.testing.assert_allclose(t, o @ o.conj().T, atol=3e-6)
