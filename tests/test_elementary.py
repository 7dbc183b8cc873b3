"""Complex functions of our own against those of NumPy, and their derivatives."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vmc import elementary

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan])
PRECISIONS = [("float64", 2), ("float32", 2)]
COMPLEX = {"float64": "complex128", "float32": "complex64"}


def sample(dtype: str, *sizes: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.concatenate([s * rng.normal(size=4000) for s in sizes]).astype(dtype)


def rounding(dtype: str) -> float:
    return float(np.finfo(dtype).eps)


def wide(x: np.ndarray) -> np.ndarray:
    """The same numbers in a precision that is good enough for a referee."""
    return x.astype(np.result_type(x.dtype, np.longdouble))


@pytest.mark.parametrize(("dtype", "ulps"), PRECISIONS)
def test_cosine_and_sine(dtype: str, ulps: int) -> None:
    quarter = np.arange(-40, 41) * np.pi / 4
    sizes = (1e-8, 1, 30, 1e3) + ((1e6,) if dtype == "float64" else ())
    x = np.concatenate([sample(dtype, *sizes), quarter.astype(dtype)])
    got = jax.jit(elementary.cos_sin)(x)
    for found, function in zip(got, (np.cos, np.sin)):
        assert found.dtype == dtype
        limit = ulps * rounding(dtype) / 2
        np.testing.assert_allclose(wide(np.asarray(found)), function(wide(x)), 0, limit)
    assert all(np.isnan(f).all() for f in elementary.cos_sin(jnp.array(SPECIAL[4:])))


@pytest.mark.parametrize("dtype", COMPLEX)
def test_large_angles_are_right_to_the_rounding_of_the_argument(dtype: str) -> None:
    x = sample(dtype, 1e5, 1e9, 1e18)
    for found, function in zip(elementary.cos_sin(jnp.asarray(x)), (np.cos, np.sin)):
        error = np.abs(wide(np.asarray(found)) - function(wide(x)))
        eps = rounding(dtype)
        assert np.all(error <= np.minimum(2, 2 * eps + eps * np.abs(x)))


@pytest.mark.parametrize(("dtype", "ulps"), PRECISIONS)
def test_arctangent(dtype: str, ulps: int) -> None:
    y, x = sample(dtype, 1, 1e-6, 1), sample(dtype, 1, 1, 1e-6)[::-1]
    found = np.asarray(jax.jit(elementary.arctan2)(y, x))
    eps = ulps * rounding(dtype)
    np.testing.assert_allclose(wide(found), np.arctan2(wide(y), wide(x)), eps, 0)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_arctangent_of_zeros_and_infinities(dtype: str) -> None:
    y, x = (a.astype(dtype) for a in np.meshgrid(SPECIAL, SPECIAL))
    found, expected = np.asarray(elementary.arctan2(y, x)), np.arctan2(y, x)
    np.testing.assert_allclose(found, expected, 2 * rounding(dtype))
    known = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
@pytest.mark.parametrize(("dtype", "ulps"), [("float64", 6), ("float32", 6)])
def test_complex_functions(name: str, dtype: str, ulps: int) -> None:
    re, im = sample(dtype, 1, 1e-5, 20), sample(dtype, 3, 1e-5, 1e-3)[::-1]
    z = complex_of(re, im)
    found = np.asarray(jax.jit(getattr(elementary, name))(z))
    expected = getattr(np, name)(wide(z))
    size = np.abs(expected)
    eps = ulps * rounding(dtype)
    # Next to 1 the modulus of the logarithm is that of a difference.
    floor = eps / 4 if name == "log" else 0
    assert found.dtype == COMPLEX[dtype]
    assert np.all(np.abs(wide(found) - expected) <= eps * size + floor)


def complex_of(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    z = np.empty(re.shape, COMPLEX[re.dtype.name])
    z.real, z.imag = re, im
    return z


def test_tanh_far_out_and_next_to_a_pole() -> None:
    z = np.array([800 + 1j, -800 - 2j, 1e-9 + 1j * (np.pi / 2 + 1e-9), 0, 1e-300j])
    np.testing.assert_allclose(elementary.tanh(jnp.asarray(z)), np.tanh(z), 1e-14)


def test_exponential_and_logarithm_of_zero() -> None:
    assert elementary.exp(jnp.asarray(-1e30 + 1j * np.pi)) == 0
    zero = elementary.log(jnp.zeros((), jnp.complex128))
    assert np.isneginf(zero.real) and zero.imag == 0


def test_real_logarithm() -> None:
    near, far = 1 + sample("float64", 1e-6), sample("float64", 3, 200)
    x = np.concatenate([near, np.exp(np.clip(far, -700, 700))])
    found = np.asarray(jax.jit(elementary.log)(x))
    np.testing.assert_allclose(wide(found), np.log(wide(x)), rounding("float64"), 0)
    special = jnp.asarray(SPECIAL)
    np.testing.assert_array_equal(elementary.log(special), jnp.log(special))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_bits_of_numbers_are_taken_on_cpus_alone(platform: str) -> None:
    x = jax.ShapeDtypeStruct((8,), jnp.float64)
    program = jax.export.export(jax.jit(elementary.log), platforms=[platform])(x)
    text = program.mlir_module()
    assert ("bitcast_convert" in text) == (platform == "cpu")
    assert ("stablehlo.log " in text) == (platform != "cpu")


@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_real_arrays_stay_real(name: str) -> None:
    x = jnp.asarray([0.3, 2.0])
    found = getattr(elementary, name)(x)
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found, getattr(jnp, name)(x), 1e-15)


def both(function: Callable) -> Callable:
    """Value, derivative along a direction, and the derivative of that."""
    first = lambda z, d: jax.jvp(function, (z,), (d,))[1]  # noqa: E731
    return lambda z, d: (first(z, d), jax.jvp(lambda y: first(y, d), (z,), (d,))[1])


@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_derivatives(name: str) -> None:
    z, d = jnp.asarray([0.4 + 2j, -1.3 - 0.2j]), jnp.asarray([1 - 0.3j, 0.2 + 1j])
    ours, theirs = getattr(elementary, name), getattr(jnp, name)
    for a, b in zip(both(ours)(z, d), both(theirs)(z, d)):
        np.testing.assert_allclose(a, b, 1e-13)
    ours, theirs = (
        jax.grad(lambda z, f=f: f(z).sum(), holomorphic=True)(z) for f in (ours, theirs)
    )
    np.testing.assert_allclose(ours, theirs, 1e-13)


def test_derivatives_of_angles() -> None:
    x, d = jnp.asarray([0.4, -2.3, 7.0]), jnp.asarray([1.0, 0.2, -0.5])
    for k, function in enumerate((jnp.cos, jnp.sin)):
        ours = both(lambda x, k=k: elementary.cos_sin(x)[k])(x, d)
        np.testing.assert_allclose(ours, both(function)(x, d), 1e-13)
    y = x[::-1]
    ours = jax.vjp(elementary.arctan2, y, x)[1](d)
    np.testing.assert_allclose(ours, jax.vjp(jnp.arctan2, y, x)[1](d), 1e-13)
