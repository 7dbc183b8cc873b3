"""Products with score factors of one leaf, the building blocks of `vmc.geometry`.

The score matrix O of a parameter leaf is kept in factors (`vmc.base.ScoreFactors`);
none of these functions builds it, but `expand_factors`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from vmc.base import ScoreFactors
from vmc.blocked import times_adjoint

_LETTERS = "ijklmnop"


def expand_factors(factors: ScoreFactors) -> Array:
    """Dense rows (B, G * n_1 * n_2 * ...) of one leaf."""
    letters = _LETTERS[: len(factors)]
    terms = ",".join(f"bg{c}" for c in letters)
    out = jnp.einsum(f"{terms}->bg{letters}", *factors)
    return out.reshape(out.shape[0], -1)


def _real_one(factors: ScoreFactors) -> int | None:
    """A real factor beside complex ones: the large product is best made with it."""
    real = [c for c, f in enumerate(factors) if not jnp.iscomplexobj(f)]
    return real[0] if real and len(real) < len(factors) else None


def times_vector(factors: ScoreFactors, vector: Array) -> Array:
    """O v for one leaf: (B,)."""
    groups = factors[0].shape[1]
    sizes = tuple(f.shape[2] for f in factors)
    out = vector.reshape(groups, *sizes)
    found = _real_one(factors)
    first = len(factors) - 1 if found is None else found
    order = [first, *(c for c in reversed(range(len(factors))) if c != first)]
    before, batch = _LETTERS[: len(factors)], ""
    for c in order:
        after = before.replace(_LETTERS[c], "")
        spec = f"{batch}g{before},bg{_LETTERS[c]}->bg{after}"
        out, before, batch = _einsum(spec, out, factors[c]), after, "b"
    return jnp.sum(out, axis=1)


def times_rows(factors: ScoreFactors, rows: Array, shape: tuple[int, ...]) -> Array:
    """O^H x of one leaf for several x, rows (c, B): (c, *shape of the leaf)."""
    letters = _LETTERS[: len(factors)]
    terms = [jnp.conj(f) for f in factors]
    if len(terms) == 1:
        out = _einsum("zb,bgi->zgi", rows, terms[0])
    else:
        # The rows, often complex, go to a factor that is complex anyway.
        first = int(_real_one(factors) == 0)
        terms[first] = rows[:, :, None, None] * terms[first][None]
        named = [f"bg{c}" for c in letters]
        named[first] = "z" + named[first]
        out = _einsum(f"{','.join(named)}->zg{letters}", *terms)
    return out.reshape(len(rows), *shape)


def _einsum(spec: str, *terms: Array) -> Array:
    """``jnp.einsum``; a complex and a real array as one real product, half the work."""
    is_complex = [jnp.iscomplexobj(x) for x in terms]
    if len(terms) != 2 or sum(is_complex) != 1:
        return jnp.einsum(spec, *terms)
    inputs, output = spec.split("->")
    letters = inputs.split(",")
    split = is_complex.index(True)
    arrays = list(terms)
    arrays[split] = jnp.stack([terms[split].real, terms[split].imag])
    letters[split] = "y" + letters[split]
    re, im = jnp.einsum(f"{','.join(letters)}->y{output}", *arrays)
    return lax.complex(re, im)


def norms(factors: ScoreFactors) -> Array:
    """Squared norms of the rows of one leaf, (B,)."""
    squares = (jnp.sum(jnp.abs(f) ** 2, axis=2) for f in factors)
    return jnp.sum(functools.reduce(jnp.multiply, squares), axis=1)


def gram(left: ScoreFactors, right: ScoreFactors, conjugate: bool) -> Array:
    """sum_g prod_f L_f R_f^H (or L_f R_f^T): (B, Ns)."""

    def one(pairs: list[tuple[Array, Array]]) -> Array:
        out = None
        for x, y in pairs:
            part = times_transposed(x, y, conjugate)
            out = part if out is None else out * part
        assert out is not None
        return out

    groups = left[0].shape[1]
    if groups == 1:
        return one([(x[:, 0], y[:, 0]) for x, y in zip(left, right)])

    def add(total: Array, pairs: Any) -> tuple[Array, None]:
        return total + one(pairs), None

    swapped = [
        (jnp.swapaxes(x, 0, 1), jnp.swapaxes(y, 0, 1)) for x, y in zip(left, right)
    ]
    dtype = jnp.result_type(*left, *right)
    zero = jnp.zeros((left[0].shape[0], right[0].shape[0]), dtype)
    return lax.scan(add, zero, swapped)[0]


def times_transposed(x: Array, y: Array, conjugate: bool) -> Array:
    """X Y^H, or X Y^T."""
    if jnp.iscomplexobj(x) and jnp.iscomplexobj(y):
        return times_adjoint(x, y if conjugate else jnp.conj(y))
    return x @ (jnp.conj(y) if conjugate else y).T
