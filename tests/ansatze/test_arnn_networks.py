"""Networks of autoregressive families: causality, receptive field, cache and cost."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from ansatze import ANSATZE
from ansatze.arnn_conv import conv_network, default_depth
from ansatze.arnn_dense import DenseNetwork
from ansatze.arnn_recurrent import recurrent_network
from ansatze.autoregressive import Network, Sites
from tests.ansatze.cases import quick_jit
from tests.ansatze.test_autoregressive import FAMILIES, chain, on_grid
from vmc.base import Problem
from vmc.space import spins


def dense_network(problem: Problem) -> Network:
    return DenseNetwork(Sites(problem, np.arange(problem.space.n_sites), ""), 2, 2, 1)


NETWORKS: dict[str, Callable[[Problem], Network]] = {
    "dense": dense_network,
    "conv": lambda p: conv_network(p, 2, default_depth(p, 2), 2),
    "wide": lambda p: conv_network(p, 2, default_depth(p, 3), 3),
    "rnn": lambda p: recurrent_network(p, 3, 2),
}
GRIDS = {
    "chain": lambda: chain(spins(20)),
    "wrapped": lambda: on_grid(spins(20), 4, 5),
    "open": lambda: on_grid(spins(20), 4, 5, wraps=False),
}


def weights_of(network: Network) -> Any:
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda x: 0.4 * rng.normal(size=x.shape), network.scales())
    return network.prepare(jax.tree.map(jnp.asarray, params))


@pytest.mark.parametrize(
    ("net", "grid"),
    [
        pytest.param(
            net,
            grid,
            marks=() if (net, grid) == ("conv", "open") else pytest.mark.slow,
        )
        for net in NETWORKS
        for grid in GRIDS
    ],
)
def test_outputs_know_all_earlier_sites_and_no_later_ones(net: str, grid: str) -> None:
    """By the Jacobian at generic inputs; and site by site they are the same."""
    network = NETWORKS[net](GRIDS[grid]())
    weights = weights_of(network)
    x = np.random.default_rng(5).normal(size=(20, 1))
    jacobian = quick_jit(jax.jacobian(lambda x: network.outputs(weights, x[None])[0]))
    size = np.abs(np.asarray(jacobian(x))).sum(axis=(1, 2, 4))
    earlier = np.tril(np.ones((20, 20), bool), -1)
    assert np.all(size[~earlier] == 0)
    assert np.all(size[earlier] > 1e-12), np.argwhere(earlier & (size == 0))

    @quick_jit
    def one_by_one(x: Array) -> Array:
        columns = 20 // network.rows
        cache, out = network.start(weights, 1), []
        for i in range(20):
            y, c = jnp.asarray(i // columns), jnp.asarray(i % columns)
            cache = network.row(weights, cache, y) if i % columns == 0 else cache
            here, cache = network.column(weights, cache, y, c)
            cache = network.feed(cache, y, c, x[None, i])
            out.append(here[0])
        return jnp.stack(out)

    np.testing.assert_allclose(
        one_by_one(x), network.outputs(weights, x[None])[0], atol=1e-13
    )


@pytest.mark.slow
@pytest.mark.parametrize("kernel_size", [2, 3, 4])
@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("shape", [(9,), (27,), (2, 7), (7, 2), (5, 5), (1, 6)])
def test_the_default_depth_leaves_no_blind_spot(
    shape: tuple[int, ...], wraps: bool, kernel_size: int
) -> None:
    n = int(np.prod(shape))
    problem = on_grid(spins(n), *shape, wraps=wraps)
    network = conv_network(problem, 2, default_depth(problem, kernel_size), kernel_size)
    weights = weights_of(network)
    x = np.random.default_rng(5).normal(size=(n, 1))
    jacobian = quick_jit(jax.jacobian(lambda x: network.outputs(weights, x[None])[0]))
    size = np.abs(np.asarray(jacobian(x))).sum(axis=(1, 2, 4))
    assert np.array_equal(size > 0, np.tril(np.ones((n, n), bool), -1))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("shape", [pytest.param((7,), marks=pytest.mark.slow), (3, 4)])
def test_the_recurrent_net_is_its_formula(shape: tuple[int, ...]) -> None:
    """On the grid, by coordinates: no rows, no scans."""
    n, f = int(np.prod(shape)), 3
    problem = on_grid(spins(n), *shape)
    network = recurrent_network(problem, f, 1)
    params = weights_of(network)
    w = jax.tree.map(np.asarray, params)
    sigma = np.random.default_rng(2).choice([-1.0, 1.0], size=(n,))
    height, width = shape if len(shape) == 2 else (1, n)
    at = sigma.reshape(height, width)
    states: dict[tuple[int, int], np.ndarray] = {}
    layer, want = w["layers"][0], []
    for y in range(height):
        step = 1 if y % 2 == 0 else -1
        for x in range(width)[::step]:
            near = [(y, x - step)] + ([(y - 1, x)] if height > 1 else [])
            h = np.concatenate([states.get(s, np.zeros(f)) for s in near])
            s = np.array([at[i] if i in states else 0.0 for i in near])
            h = h @ layer["merge"] if height > 1 else h
            below, across = s @ layer["x"] + layer["bias"], h @ layer["h"]
            below[2 * f :] += w["place"][len(want)]
            u, r = np.split(sigmoid(below[: 2 * f] + across[: 2 * f]), 2)
            new = np.tanh(below[2 * f :] + r * across[2 * f :])
            states[y, x] = (1 - u) * h + u * new
            c = np.einsum("f,fhd->hd", states[y, x], w["out"])
            want.append(c + w["out_bias"][len(want)])
    order = network.sites.order
    got = network.outputs(params, sigma[order][None, :, None])[0]
    np.testing.assert_allclose(got, want, atol=1e-13)


# ---- cost ----------------------------------------------------------------------


def products(jaxpr: Any) -> float:
    """Multiplications in matrix products, those in loops as often as they run."""
    total = 0.0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            inner = np.prod([shape[i] for i in contracted])
            total += float(np.prod(eqn.outvars[0].aval.shape) * inner)
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += eqn.params.get("length", 1) * products(inner)
    return total


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", [(24,), (4, 6)])
def test_a_draw_costs_one_evaluation(name: str, shape: tuple[int, ...]) -> None:
    """With cached activations; without them it would be as many as sites."""
    space = spins(24, total_sz=0)
    for flip, most in ((False, 1.05), (True, 1.55)):
        problem = on_grid(space, *shape, spin_flip=flip)
        wf = ANSATZE[name](problem)
        assert wf.exact is not None
        params = jax.eval_shape(wf.init, jax.random.key(0))
        sigma = jax.ShapeDtypeStruct((16, 24), jnp.int8)
        bits = jax.ShapeDtypeStruct((24, 16), jnp.uint32)
        one = products(jax.make_jaxpr(wf.log_psi)(params, sigma).jaxpr)
        draw = products(jax.make_jaxpr(wf.exact.sample)(params, bits).jaxpr)
        # An even psi takes two evaluations, and a draw of it one more.
        assert 0.4 * one < draw < most * one
