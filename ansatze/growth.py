"""More channels for the same psi, and fewer by optimal truncation.

Growing writes new channels as noisy copies of old ones and gives them outgoing weights
zero: log psi stays what it was, and the outgoing weights, whose derivatives are the
amplitudes of the new channels, are the first to learn.  Copies keep the magnitude of
the old channels through products of any length.

A restricted Boltzmann machine has no outgoing weights.  Its new hidden units see one
site each: ln cosh(w sigma_i) does not depend on sigma_i, but its derivatives with
respect to the other weights, tanh(w) sigma_i sigma_k, do.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze import ANSATZE, mps_gauge
from ansatze.mps_exact import site_tensors
from ansatze.mps_gauge import Truncated
from ansatze.ttn import truncate_bonds
from vmc.base import Key, Params, Problem
from vmc.errors import JobError

#: The key of each family that says how large it is.
SIZES: Mapping[str, str] = MappingProxyType(
    {
        "mps": "bond_dimension",
        "ttn": "bond_dimension",
        "convac": "channels",
        "cp": "rank",
        "rac": "width",
        "rbm": "alpha",
    }
)
#: Families that `truncate` knows.
TRUNCATED = ("mps", "ttn")

#: Axis along which new channels are written, by family and first letters of the leaf.
#: What grows along any other axis is an outgoing weight, zero.
_WRITTEN: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "mps": {"tensor": -2, "right": -1},
        "ttn": {"T": -3},
        "convac": {"W": -2},
        "cp": {"A": -2},
        "rac": {"start": -1, "hidden": -2, "input": -2, "between": -2},
    }
)

#: Relative deviation of a new channel from the one that it copies.
NOISE = 0.3

Change = Literal["none", "grow", "truncate", "other"]


def change(
    name: str,
    problem: Problem,
    old_keys: Mapping[str, Any],
    new_keys: Mapping[str, Any],
) -> Change:
    """What leads from one set of keys of an ansatz to another.

    Args:
        name: a family; unregistered or fixed ones give "none" or "other".
        problem: see `vmc.base.Problem`, the same for both.
        old_keys: keys of [ansatz] now.
        new_keys: keys wanted.

    Returns:
        "none" if the parameters fit as they are; "grow" if every size is at least
        the old one and the rest is the same; "truncate" if every size is at most the
        old one and the family can be truncated; else "other".

    Raises:
        JobError: the keys do not fit the problem.
    """
    if name not in SIZES:
        return "none" if dict(old_keys) == dict(new_keys) else "other"
    if _structure(name, old_keys) != _structure(name, new_keys):
        return "other"
    old, new = (_shapes(name, problem, keys) for keys in (old_keys, new_keys))
    pairs = [
        (a, b)
        for leaf in old
        for a, b in zip(old[leaf].shape, new[leaf].shape, strict=True)
    ]
    if all(a == b for a, b in pairs):
        return "none"
    if all(a <= b for a, b in pairs):
        return "grow"
    if all(a >= b for a, b in pairs) and _can_truncate(name, old_keys):
        return "truncate"
    return "other"


def grow(
    name: str,
    problem: Problem,
    old_keys: Mapping[str, Any],
    new_keys: Mapping[str, Any],
    params: Params,
    key: Key,
    noise: float = NOISE,
) -> Params:
    """Parameters of a larger ansatz of the same family with the same log psi.

    The log psi of a positive rbm moves by a constant, the same for all
    configurations: every real hidden unit whose derivatives do not vanish adds
    to it.  A complex rbm that gains at least two units keeps it (modulo 2 pi i).

    Args:
        name: mps, ttn, convac, cp, rac or rbm.
        problem: see `vmc.base.Problem`.
        old_keys: keys of [ansatz] that ``params`` belong to.
        new_keys: keys of [ansatz] wanted; only sizes may differ.
        params: the parameters.
        key: of the noise.
        noise: relative deviation of a new channel from the old one that it copies;
            for rbm the weight of a new unit to its site.

    Raises:
        JobError: a size shrinks, another key changes, or the family cannot grow.
    """
    _check_family(name, tuple(SIZES), "grow")
    kind = change(name, problem, old_keys, new_keys)
    if kind not in ("none", "grow"):
        raise JobError(
            f"{name} cannot grow from {_said(name, old_keys)} to "
            f"{_said(name, new_keys)}: only {SIZES[name]} may change, and no size may "
            "shrink. To shrink an mps or ttn, use truncate."
        )
    shapes = _shapes(name, problem, new_keys)
    _check_params(name, params, _shapes(name, problem, old_keys))
    if name == "rbm":
        return _more_units(problem, params, shapes, key, noise)
    if name == "cp":
        # A term is a product over all sites, whose deviations add up.
        noise = noise / math.sqrt(problem.space.n_sites)
    out = {}
    for leaf, k in zip(sorted(params), jax.random.split(key, len(params))):
        axes = [a for start, a in _WRITTEN[name].items() if leaf.startswith(start)]
        axis = axes[0] if axes else None
        w = jnp.asarray(params[leaf])
        out[leaf] = _widen(w, shapes[leaf].shape, axis, k, noise)
    return out


def truncate(
    name: str,
    problem: Problem,
    old_keys: Mapping[str, Any],
    new_keys: Mapping[str, Any],
    params: Params,
) -> Truncated:
    """The largest Schmidt values of every bond kept, in canonical form.

    Args:
        name: mps (open, a tensor per site) or ttn.
        problem: see `vmc.base.Problem`.
        old_keys: keys of [ansatz] that ``params`` belong to.
        new_keys: keys of [ansatz] wanted; only sizes may differ.
        params: the parameters.

    Returns:
        Parameters and the discarded weight of every bond.  The fidelity of the new
        state is at least one minus their sum; where that is 0, psi is unchanged.

    Raises:
        JobError: another key changes, a size grows, or the family or its form has no
            canonical form.
    """
    _check_family(name, TRUNCATED, "truncate")
    if not _can_truncate(name, old_keys):
        raise JobError(
            "only an open mps with a tensor per site has a canonical form; leave out "
            "periodic and translation_invariant to truncate"
        )
    if change(name, problem, old_keys, new_keys) not in ("none", "truncate"):
        raise JobError(
            f"{name} cannot be truncated from {_said(name, old_keys)} to "
            f"{_said(name, new_keys)}: only {SIZES[name]} may change, and no size may "
            "grow. To enlarge it, use grow."
        )
    _check_params(name, params, _shapes(name, problem, old_keys))
    if name == "ttn":
        bond, origin = new_keys.get("bond_dimension"), new_keys.get("origin", 0)
        order = new_keys.get("site_order")
        return truncate_bonds(params, problem, bond, origin, order)
    dims = problem.space.local_dims
    order = new_keys.get("site_order") or range(len(dims))
    tensors = site_tensors(
        jnp.asarray(params["tensors"]), tuple(dims[int(i)] for i in order)
    )
    bond = _shapes(name, problem, new_keys)["left"].shape[0]
    return mps_gauge.truncate(params | {"tensors": tensors}, bond)


# ---- checks ------------------------------------------------------------------


def _shapes(name: str, problem: Problem, keys: Mapping[str, Any]) -> dict[str, Any]:
    init = ANSATZE[name](problem, **keys).init
    return jax.eval_shape(init, jax.random.key(0))


def _structure(name: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys, defaults included, that no growth may change."""
    parameters = inspect.signature(ANSATZE[name]).parameters.items()
    full = {k: p.default for k, p in parameters if k != "problem"} | dict(keys)
    # init_scale only says how a state starts.
    return {k: v for k, v in full.items() if k not in (SIZES[name], "init_scale")}


def _can_truncate(name: str, keys: Mapping[str, Any]) -> bool:
    shared = keys.get("periodic") or keys.get("translation_invariant")
    return name in TRUNCATED and not shared


def _said(name: str, keys: Mapping[str, Any]) -> str:
    said = ", ".join(f"{k} = {v}" for k, v in keys.items())
    return said or f"the default {SIZES[name]}"


def _check_family(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise JobError(f"{what} knows {', '.join(known)}; {name!r} is none of them")


def _check_params(name: str, params: Params, shapes: dict[str, Any]) -> None:
    given = {leaf: tuple(np.shape(x)) for leaf, x in params.items()}
    wanted = {leaf: x.shape for leaf, x in shapes.items()}
    if given != wanted:
        raise JobError(
            f"the parameters have the shapes {given}, but the old keys of {name} "
            f"make {wanted}"
        )


# ---- growing -----------------------------------------------------------------


def _widen(
    w: Array, shape: tuple[int, ...], axis: int | None, key: Key, noise: float
) -> Array:
    """A leaf with noisy copies along one axis, and zeros along the others."""
    if axis is not None and (more := shape[axis] - w.shape[axis]):
        rows = jnp.take(w, np.arange(more) % w.shape[axis], axis=axis)
        size = jnp.sqrt(jnp.mean(jnp.abs(w) ** 2)).astype(w.real.dtype)
        rows = rows + noise * size * jax.random.normal(key, rows.shape, w.dtype)
        w = jnp.concatenate([w, rows], axis=axis)
    return jnp.pad(w, [(0, b - a) for a, b in zip(w.shape, shape)])


def _more_units(
    problem: Problem, params: Params, shapes: dict[str, Any], key: Key, noise: float
) -> Params:
    """An rbm with new hidden units that see one site each."""
    weights = np.asarray(params["W"])
    filters = problem.symmetry is not None
    features = 0 if filters else 1
    old, new = weights.shape[features], shapes["W"].shape[features]
    copies = 1 if problem.symmetry is None else len(problem.symmetry)
    spread = np.asarray(jax.random.uniform(key, (new - old,)), np.float64)
    grown = np.zeros(shapes["W"].shape, weights.dtype)
    kept = (slice(old), slice(None)) if filters else (slice(None), slice(old))
    grown[kept] = weights
    units = np.arange(old, new)
    sites = (units - old) % problem.space.n_sites
    value = _neutral(noise * (1 + spread), copies, bool(np.iscomplexobj(weights)))
    grown[(units, sites) if filters else (sites, units)] = value
    out = {**params, "W": jnp.asarray(grown)}
    if "b" in params:
        out["b"] = jnp.pad(jnp.asarray(params["b"]), (0, new - old))
    return out


def _neutral(sizes: np.ndarray, copies: int, is_complex: bool) -> np.ndarray:
    """Weights w of about these sizes; if complex, the product of cosh(w) is 1.

    Complex weights have cosh(w) = exp(i phi), so that no amplitude changes, with phi
    about w^2 / 2 and the sum over all units, each in so many copies, 0 modulo 2 pi.
    """
    n = len(sizes)
    if not is_complex or n == 0:
        return sizes
    phase = sizes**2 / 2
    pairs = n - n % 2
    phase[1:pairs:2] = -phase[:pairs:2]
    if n % 2 and n > 1:
        # The last three: one opposes the other two.
        phase[-2], phase[-1] = -2 * phase[-3], phase[-3]
    elif n == 1 and copies > 2:
        phase[:] = 2 * math.pi / copies
    return np.arccosh(np.exp(1j * phase))
