"""Small exact referees: dense matrices and full bases, in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from numpy.typing import NDArray

from ansatze.jastrow import jastrow
from ansatze.mps import mps
from ansatze.rbm import rbm
from hamiltonians.compile import TermHamiltonian, compile_operator
from hamiltonians.operators import Operator
from vmc.base import Params, Problem, WaveFunction
from vmc.distributed import BY_WALKER, REPLICATED, per_walker
from vmc.space import Spins
from vmc.wavefunction import from_functions

MeshOf = Callable[[int], Mesh]
#: (coefficient, {site: X, Y or Z})
Terms = list[tuple[float, dict[int, str]]]

PAULI = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


# ---- Hamiltonians --------------------------------------------------------------


def dense(n_sites: int, terms: Terms) -> NDArray[Any]:
    """A sum of Pauli products by Kronecker products; up first, site 0 slowest."""
    out = np.zeros((2**n_sites, 2**n_sites), complex)
    for coefficient, ops in terms:
        part = np.ones((1, 1))
        for i in range(n_sites):
            part = np.kron(part, PAULI[ops.get(i, "I")])
        out = out + coefficient * part
    return out if np.any(out.imag) else out.real


def matrix(space: Spins, terms: Terms) -> NDArray[Any]:
    """The dense Hamiltonian in the order of ``space.all_states()``."""
    bits = (1 - space.all_states().astype(np.int64)) // 2
    rows = bits @ 2 ** np.arange(space.n_sites - 1, -1, -1)
    return dense(space.n_sites, terms)[np.ix_(rows, rows)]


def hamiltonian(space: Spins, terms: Terms) -> TermHamiltonian:
    """The same Hamiltonian as the engine sees it."""
    listed = [(c, "".join(ops.values()), tuple(ops)) for c, ops in terms]
    operator = Operator.from_terms(listed)
    return compile_operator(operator, space.n_sites, total_sz=space.total_sz)


def ring(n: int) -> list[tuple[int, int]]:
    return [(i, (i + 1) % n) for i in range(n)]


def tfim(n: int, h: float = 1.0) -> Terms:
    """- sum Z Z - h sum X on a ring."""
    bonds: Terms = [(-1.0, {i: "Z", j: "Z"}) for i, j in ring(n)]
    return bonds + [(-h, {i: "X"}) for i in range(n)]


def heisenberg(n: int) -> Terms:
    """Sum S_i . S_j on a ring of even length, after the two-sublattice rotation."""
    signs = {"X": -0.25, "Y": -0.25, "Z": 0.25}
    return [(c, {i: p, j: p}) for i, j in ring(n) for p, c in signs.items()]


def twisted(n: int) -> Terms:
    """A ring with Dzyaloshinskii-Moriya and three-spin terms: complex elements."""
    out: Terms = []
    for i, j in ring(n):
        out += [(0.7, {i: "X", j: "X"}), (0.3, {i: "Z", j: "Z"}), (0.4, {i: "Y"})]
        out += [(0.5, {i: "X", j: "Y"}), (-0.5, {i: "Y", j: "X"})]
    return [*out, (0.6, {0: "X", 1: "Y", 2: "Z"}), (0.2, {1: "Y", 2: "Y", 3: "Y"})]


# ---- wave functions ------------------------------------------------------------


def randomise(params: Params, scale: float, seed: int = 5) -> Params:
    """Parameters of the same shapes and dtypes, normal with the given scale."""
    rng = np.random.default_rng(seed)

    def draw(x: Array) -> Array:
        re, im = rng.normal(size=(2, *x.shape)) * scale
        values = re + 1j * im if np.issubdtype(x.dtype, np.complexfloating) else re
        return jnp.asarray(values, x.dtype)

    return jax.tree.map(draw, params)


def made(
    kind: str, space: Spins, scale: float = 0.3, precision: Any = "float64", **keys: Any
) -> tuple[WaveFunction, Params]:
    """A wave function and random parameters.

    Kinds: "rbm-real" (positive), "rbm-complex" (holomorphic), "jastrow-real",
    "jastrow-complex" (complex parameters, real scores), "split" (real parameters,
    complex psi).
    """
    name, _, dtype = kind.partition("-")
    if name == "split":
        wf = split_rbm(space)
    else:
        factory = {"rbm": rbm, "jastrow": jastrow, "mps": mps}[name]
        problem = Problem(space, "real" if dtype == "real" else "complex", precision)
        wf = factory(problem, **keys)
    return wf, randomise(jax.eval_shape(wf.init, jax.random.key(0)), scale)


def split_rbm(space: Spins) -> WaveFunction:
    """The RBM of alpha = 1 with complex weights held as real and imaginary parts."""
    n = space.n_sites

    def init(key: Array) -> Params:
        zeros = {"W": jnp.zeros((n, n)), "a": jnp.zeros(n), "b": jnp.zeros(n)}
        return {"re": zeros, "im": zeros}

    def log_psi(params: Params, sigma: Array) -> Array:
        p = jax.tree.map(jax.lax.complex, params["re"], params["im"])
        s = sigma.astype(p["W"].dtype)
        hidden = jnp.log(jnp.cosh(s @ p["W"] + p["b"][None, :]))
        return s @ p["a"] + jnp.sum(hidden, axis=1)

    return from_functions(init, log_psi, problem=Problem(space), range="complex")


def amplitudes(wf: WaveFunction, params: Params, space: Spins) -> NDArray[Any]:
    """psi on the full basis, normalised."""
    log_psi = np.asarray(jax.jit(wf.log_psi)(params, space.all_states()))
    psi = np.exp(log_psi - log_psi.real.max())
    return psi / np.linalg.norm(psi)


def jacobian(wf: WaveFunction, params: Params, sigma: Any) -> NDArray[Any]:
    """d log psi / d theta by automatic differentiation, (B, P), leaves in order."""
    leaves, tree = jax.tree.flatten(params)
    sigma = jnp.asarray(sigma)

    def part(take: Callable[[Array], Array], holomorphic: bool) -> NDArray[Any]:
        def value(flat: list[Array]) -> Array:
            return take(wf.log_psi(tree.unflatten(flat), sigma))

        out = jax.jit(jax.jacrev(value, holomorphic=holomorphic))(leaves)
        rows = [np.asarray(x).reshape(sigma.shape[0], -1) for x in out]
        return np.concatenate(rows, axis=1)

    if jnp.iscomplexobj(leaves[0]):
        return part(lambda x: x, True)
    if wf.range == "positive":
        return part(lambda x: x, False)
    return part(jnp.real, False) + 1j * part(jnp.imag, False)


def flat(tree: Params) -> NDArray[Any]:
    """All leaves as one vector."""
    return np.concatenate([np.asarray(x).reshape(-1) for x in jax.tree.leaves(tree)])


# ---- devices -------------------------------------------------------------------


def program(
    mesh: Mesh, function: Callable[..., Any], replicated: int, sharded: int = 0
) -> Callable[..., Any]:
    """A compiled function of so many arguments of either kind; replicated results."""
    specs = (REPLICATED,) * replicated + (BY_WALKER,) * sharded
    return jax.jit(per_walker(function, mesh, specs, REPLICATED))


def on_mesh(
    mesh: Mesh,
    function: Callable[..., Any],
    replicated: tuple[Any, ...],
    sharded: tuple[Any, ...],
) -> Any:
    """Run ``function(*replicated, *sharded)`` over walkers; replicated results."""
    run = program(mesh, function, len(replicated), len(sharded))
    return run(*replicated, *sharded)
