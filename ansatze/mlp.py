"""Multilayer perceptron on the spins, plain or averaged over a group.

Dense layers x -> f(W x + b) and a linear head.  A positive psi has one head,
ln psi; a complex one has two, ln |psi| and its phase.  All parameters are real.
Every ratio is a full evaluation (see `vmc.wavefunction.from_module`): this is the
ansatz to compare others with, not the fast one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.activations import log_cosh
from ansatze.capacity import symmetrised_capacity
from ansatze.cuts import trivial
from vmc.base import Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.wavefunction import from_functions, from_module

#: Activation functions by name.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": jax.nn.gelu,
    "log_cosh": log_cosh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def mlp(
    problem: Problem,
    *,
    features: Sequence[int] | None = None,
    activation: str = "gelu",
    init_scale: float = 0.1,
) -> WaveFunction:
    """Dense network of the spins.

    With ``problem.symmetry`` psi is averaged over the group,
    psi(sigma) = 1/G sum_g psi_net(sigma[perm_g]), at G times the cost.  With
    ``problem.spin_flip`` the first layer is ln cosh without bias, which makes psi
    exactly even under the global spin flip.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.
        features: widths of the hidden layers, default (2 N, N).
        activation: a key of `ACTIVATIONS`.
        init_scale: about the spread of ln psi at the start.

    Raises:
        JobError: a width is not positive, or the activation is unknown.
    """
    n_sites = problem.space.n_sites
    widths = (2 * n_sites, n_sites) if features is None else tuple(features)
    if not widths or any(int(w) != w or w < 1 for w in widths):
        raise JobError(
            f"features = {list(widths)}; expected the widths of one or more hidden "
            "layers, positive integers such as [64, 64]"
        )
    if activation not in ACTIVATIONS:
        near = difflib.get_close_matches(activation, ACTIVATIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise JobError(
            f"activation {activation!r} is unknown; expected one of "
            f"{sorted(ACTIVATIONS)}.{hint}"
        )
    functions = [ACTIVATIONS[activation]] * len(widths)
    if problem.spin_flip:
        functions[0] = log_cosh
    network = from_module(
        _network_class(),
        problem,
        widths=(n_sites, *widths),
        functions=tuple(functions),
        even=problem.spin_flip,
        n_heads=2 if problem.dtype == "complex" else 1,
        init_scale=init_scale,
    )._replace(capacity=trivial(problem.space.local_dims))
    return network if problem.symmetry is None else averaged(network, problem)


def averaged(network: WaveFunction, problem: Problem) -> WaveFunction:
    """The average of psi over ``problem.symmetry``, by full evaluation.

    Args:
        network: any wave function.
        problem: gives the group, int (G, N).
    """
    perms = np.asarray(problem.symmetry)

    def log_psi(params: Params, sigma: Array) -> Array:
        moved = sigma[:, perms].reshape(-1, perms.shape[1])
        each = network.log_psi(params, moved).reshape(-1, len(perms))
        return jax.scipy.special.logsumexp(each, axis=1) - math.log(len(perms))

    made = from_functions(network.init, log_psi, problem=problem, range=network.range)
    dims = problem.space.local_dims
    return made._replace(capacity=symmetrised_capacity(network.capacity, perms, dims))


def _network_class() -> Any:
    """The network as a flax module; flax is imported when it is first needed."""
    from flax import nnx

    class MLP(nnx.Module):
        def __init__(
            self,
            widths: tuple[int, ...],
            functions: tuple[Callable[[Array], Array], ...],
            even: bool,
            n_heads: int,
            init_scale: float,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            self.functions = functions
            self.n_heads = n_heads
            for n, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
                layer = nnx.Linear(
                    inputs,
                    outputs,
                    use_bias=n > 0 or not even,
                    precision="highest",
                    rngs=rngs,
                )
                setattr(self, f"layer{n}", layer)
            # ln psi and the phase need no constant: it is norm and global phase.
            self.head = nnx.Linear(
                widths[-1],
                n_heads,
                use_bias=False,
                kernel_init=jax.nn.initializers.normal(init_scale / widths[-1] ** 0.5),
                precision="highest",
                rngs=rngs,
            )

        def __call__(self, sigma: Array) -> Array:
            x = sigma
            for n, function in enumerate(self.functions):
                x = function(getattr(self, f"layer{n}")(x))
            out = self.head(x)
            return out[:, 0] if self.n_heads == 1 else lax.complex(out[:, 0], out[:, 1])

    return MLP
