"""Recurrent arithmetic circuits, shallow (a matrix product state) and deep.

h^l_t = (W^{H,l} h^l_{t-1}) * (W^{I,l} h^{l-1}_t),  l = 1 ... L,  h^0_t = one-hot of
sigma_t, psi = <w, h^L_T>, products elementwise (arXiv:1803.09780, arXiv:1710.09431).

Depth 1 is the matrix product state with A_t[s] = diag(W^I[:, s]) W^H, read from the
right: it has the sweeps of `ansatze.chain` and the exact tools.  From depth 2 on the
first layer is used again at every later step, which no tensor network of moderate
size can do: the state is evaluated in full for every move.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.chain import Chain, Sweeps, boundary, chain_of, chain_wavefunction
from ansatze.cuts_chains import rac_capacity
from ansatze.reordered import reordered
from ansatze.scaled import (
    calibrated_start,
    log_amplitude,
    near_one,
    renormalise,
    soft_normal,
    weight_dtype,
)
from vmc.base import Key, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.wavefunction import from_functions


def rac(
    problem: Problem,
    *,
    width: int = 8,
    depth: int = 1,
    site_dependent: bool = False,
    site_order: Sequence[int] | None = None,
) -> WaveFunction:
    """Recurrent arithmetic circuit with R channels and L layers.

    Parameters: "start" (L, R), the h_0 of every layer; "hidden" (L, R, R); "input"
    (R, d) of the first layer; "between" (L - 1, R, R), only from depth 2 on; "out"
    (R,).  With ``site_dependent``, "hidden", "input" and "between" have a leading
    axis N.  Real weights give a real psi of either sign, complex ones a holomorphic
    log psi.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.
        width: R.
        depth: L.  Depth 1 has fast moves and exact tools.
        site_dependent: weights of its own for every site.
        site_order: site at each step, by default 0 ... N-1; see `ansatze.mps.mps`.

    Raises:
        JobError: a number is not positive, sites of different size are to share
            weights, or a symmetry is asked for.
    """
    if site_order is not None:
        keys: dict[str, Any] = {"width": width, "depth": depth}
        keys["site_dependent"] = site_dependent
        return reordered(problem, site_order, lambda inner: rac(inner, **keys))
    circuit = _RAC(problem, width, depth, site_dependent)
    circuit.check()
    if depth > 1:
        made = from_functions(
            circuit.init,
            circuit.log_psi,
            problem=problem,
            range="complex" if problem.dtype == "complex" else "real",
        )
    else:
        made = chain_wavefunction(problem, circuit.parts, circuit.init, circuit.scores)
    dims = tuple(problem.space.local_dims)
    return made._replace(capacity=rac_capacity(dims, width, depth, site_dependent))


def rac_to_mps(params: Params, n_sites: int) -> Params:
    """Parameters of the open matrix product state equal to a RAC of depth 1.

    A_t[s] = W^{H T} diag(W^I[:, s]) acts on row vectors from the left: D = R.

    Args:
        params: of `rac` with depth 1, site dependent or not.
        n_sites: N.

    Raises:
        JobError: the circuit is deeper.
    """
    if "between" in params:
        raise JobError(
            "a recurrent circuit of depth 2 or more is no matrix product state"
        )
    tensors, first, last = _tensors(params, n_sites)
    return {"tensors": tensors, "left": first, "right": last}


def mps_to_rac(params: Params) -> Params:
    """Parameters of the RAC of depth 1 equal to an open matrix product state.

    R = d D: channel (s, b) holds component b of the row vector after a site in state
    s, W^I[(s, b), s'] = delta_ss', W^H[(s, b), (s', a)] = A[s]_ab for every s'.  A
    start that only fills s' = 0 makes the first step right.

    Args:
        params: of `ansatze.mps.mps`, open, one tensor for all sites or one per site.

    Returns:
        Parameters of `rac` with width d D and ``site_dependent`` as the state is.
    """
    tensor = jnp.asarray(params["tensor"] if "tensor" in params else params["tensors"])
    d, bond = tensor.shape[-3], tensor.shape[-1]
    width = d * bond
    lead = tensor.shape[:-3]
    # (..., s, a, b) -> rows (s, b), columns (s', a).
    rows = jnp.swapaxes(tensor, -1, -2).reshape(*lead, width, bond)
    hidden = jnp.tile(rows, (1,) * (len(lead) + 1) + (d,))
    kinds = jnp.repeat(jnp.eye(d, dtype=tensor.dtype), bond, axis=0)
    start = jnp.pad(jnp.asarray(params["left"]), (0, width - bond))
    return {
        "start": start[None],
        "hidden": hidden.reshape(*lead, 1, width, width),
        "input": jnp.broadcast_to(kinds, (*lead, width, d)),
        "out": jnp.tile(jnp.asarray(params["right"]), d),
    }


def _tensors(params: Params, n_sites: int) -> tuple[Array, Array, Array]:
    """A_t[s]_ij = W^I_js W^H_ji, (N, d, R, R), and the boundary vectors (R,)."""
    hidden = jnp.asarray(params["hidden"])[..., 0, :, :]
    kinds = jnp.asarray(params["input"])
    tensors = (
        kinds.swapaxes(-1, -2)[..., :, None, :]
        * hidden.swapaxes(-1, -2)[..., None, :, :]
    )
    if tensors.ndim == 3:
        tensors = jnp.broadcast_to(tensors[None], (n_sites, *tensors.shape))
    return tensors, jnp.asarray(params["start"])[0], jnp.asarray(params["out"])


@dataclasses.dataclass(frozen=True, eq=False)
class _RAC:
    """Everything static about one recurrent circuit."""

    problem: Problem
    width: int
    depth: int
    site_dependent: bool

    @property
    def sweeps(self) -> Sweeps:
        return Sweeps(tuple(self.problem.space.local_dims))

    def check(self) -> None:
        for name, value in (("width", self.width), ("depth", self.depth)):
            if value < 1:
                raise JobError(f"{name} is {value}; it is a positive integer")
        dims = sorted(set(self.problem.space.local_dims))
        if len(dims) > 1 and not self.site_dependent:
            raise JobError(
                "a recurrent circuit with shared weights needs equal sites, but the "
                f"spins have local dimensions {dims}. Use site_dependent = true."
            )
        if self.problem.symmetry is not None:
            raise JobError(
                "a recurrent circuit starts at one site and ends at another, so it has "
                'no lattice symmetry. Use symmetry = "none", or ansatz "mps" with '
                "periodic = true and translation_invariant = true."
            )

    def parts(self, params: Params) -> tuple[Array, Array, Array]:
        """Tensors (N, d, R, R) and boundary rows (1, R) of depth 1."""
        tensors, first, last = _tensors(params, self.problem.space.n_sites)
        return tensors, first[None], last[None]

    def chain(self, params: Params) -> Chain:
        return chain_of(*self.parts(params))

    def init(self, key: Key) -> Params:
        """Noise around weights that pass every channel on and treat states alike."""
        r, dims = self.width, self.problem.space.local_dims
        dtype = weight_dtype(self.problem)
        lead = (len(dims),) if self.site_dependent else ()
        shapes = {
            "start": (self.depth, r),
            "hidden": (*lead, self.depth, r, r),
            "input": (*lead, r, max(dims)),
            "out": (r,),
        }
        if self.depth > 1:
            shapes["between"] = (*lead, self.depth - 1, r, r)
        keys = dict(zip(shapes, jax.random.split(key, len(shapes))))

        def of_scale(scale: Array) -> Params:
            params = {}
            for name, shape in shapes.items():
                if name in ("hidden", "between"):
                    noise = soft_normal(keys[name], shape, dtype)
                    noise = noise * (scale / math.sqrt(r))
                    params[name] = (
                        jnp.broadcast_to(jnp.eye(r, dtype=dtype), shape) + noise
                    )
                else:
                    noise = jax.random.normal(keys[name], shape, dtype)
                    params[name] = near_one(noise, scale)
            return params

        key = jax.random.fold_in(key, 1)
        return calibrated_start(self.log_psi, of_scale, self.problem, key, "out")

    def log_psi(self, params: Params, sigma: Array) -> Array:
        """Log psi, complex (B,), one step per site."""
        index = self.sweeps.indices(sigma)
        start = [boundary(params["start"][k], len(sigma)) for k in range(self.depth)]
        names = [n for n in ("hidden", "input", "between") if n in params]
        if self.site_dependent:
            own = {n: params[n] for n in names}
        else:
            own = {}
        shared = {n: params[n] for n in names if n not in own}

        def body(states: list, x: tuple) -> tuple[list, None]:
            return self.advance(shared | x[0], states, x[1]), None

        states, _ = lax.scan(body, start, (own, index))
        value = jnp.matmul(states[-1][0], params["out"], precision="highest")
        return log_amplitude(value, states[-1][1])

    def advance(self, weights: Params, states: list, index: Array) -> list:
        """One step of all layers; states are scaled vectors (B, R), (B,)."""
        below = weights["input"].T[index]
        below_scale = jnp.zeros_like(states[0][1])
        out = []
        for k, (h, scale) in enumerate(states):
            if k > 0:
                matrix = weights["between"][k - 1]
                below = jnp.matmul(below, matrix.T, precision="highest")
            own = jnp.matmul(h, weights["hidden"][k].T, precision="highest")
            # A layer's scale carries those of all inputs so far.
            below, below_scale = renormalise(own * below, scale + below_scale)
            out.append((below, below_scale))
        return out

    def scores(self, params: Params, sigma: Array) -> Any:
        """Scores of depth 1 from the environments of its matrix product state."""
        left, right, onehot = self.sweeps.gradients(self.chain(params), sigma)
        before, after = left[:, :-1, 0], right[:, 1:, 0]
        contract = functools.partial(jnp.einsum, precision="highest")
        # h_t = (W^H h_{t-1}) * (W^I x_t), before the product with W^I and W^H.
        if self.site_dependent:
            hidden, kinds = params["hidden"][:, 0], params["input"]
            from_input = contract("bts,tjs->btj", onehot, kinds)
            from_hidden = contract("bti,tji->btj", before, hidden)
            return {
                "start": (right[:, 0],),
                "hidden": (from_input * after, before),
                "input": (from_hidden * after, onehot),
                "out": (left[:, -1],),
            }
        hidden, kinds = params["hidden"][0], params["input"]
        from_input = contract("bts,js->btj", onehot, kinds)
        from_hidden = contract("bti,ji->btj", before, hidden)
        rows = sigma.shape[0]
        hidden_scores = contract("btj,bti->bji", from_input * after, before)
        input_scores = contract("btj,bts->bjs", from_hidden * after, onehot)
        return {
            "start": (right[:, 0],),
            "hidden": (hidden_scores.reshape(rows, 1, -1),),
            "input": (input_scores.reshape(rows, 1, -1),),
            "out": (left[:, -1],),
        }


def start_end_log_bounds(
    n_sites: int, local_dim: int, width: int, depth: int
) -> tuple[float, float]:
    """Bounds on ln of the generic Schmidt rank between the two halves of a chain.

    The upper one counts the monomials in the hidden states at the cut through which
    the second half depends on the first: prod_k multichoose(R, D_k), D_k =
    multichoose(N/2, k).  The lower one is a theorem up to depth 2 and a conjecture
    beyond (arXiv:1710.09431).

    Returns:
        (lower, upper), in nats.
    """

    def choose(n: int, k: int) -> int:
        return math.comb(n + k - 1, k)

    half = n_sites // 2
    full = half * math.log(local_dim)
    degrees = [choose(half, k) if k else 1 for k in range(depth)]
    upper = sum(math.log(choose(width, degree)) for degree in degrees)
    q = min(width, local_dim)
    if depth == 1:
        lower = math.log(width)
    elif depth == 2:
        lower = math.log(choose(q, half))
    else:
        lower = math.log(choose(q, choose(half, depth - 1)))
    return float(np.minimum(lower, full)), float(np.minimum(upper, full))
