"""NetKet's side of a comparison, in an environment of its own; see `workloads`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import netket as nk
from workloads import CHANNELS, KERNEL, WORKLOADS, Workload, best_ms, mean_of, serve

#: Settings that are tried: chunk of the local energies, Hamiltonian in the form that
#: its constructor gives or as Pauli strings, SR in sample space computed from a stored
#: Jacobian or on the fly, number of chains.
CHUNKS = (None, 128)
#: Of a network whose evaluations are more than a product.
CHUNKS_OF_NETS = (None, 32)
FORMS = ("constructor", "pauli strings")
ON_THE_FLY = (False, True)
CHAINS = (1024, 16)
#: Sweeps before the energy is estimated, and estimates of all samples.
BURN_IN, ESTIMATES = 20, 8


def settings(work: Workload) -> list[tuple[Any, ...]]:
    """All that matter for what is timed: (chunk, form, on the fly, chains)."""
    local, step = "local_energies" in work.parts, "step" in work.parts
    # More chains than samples would give more samples.
    chains = [min(number, work.n_samples) for number in CHAINS]
    return list(
        itertools.product(
            (CHUNKS if work.alpha else CHUNKS_OF_NETS) if local else CHUNKS[:1],
            FORMS if local and not step else FORMS[:1],
            ON_THE_FLY if step else ON_THE_FLY[:1],
            chains if step or "sampling" in work.parts else chains[:1],
        )
    )


def problem(work: Workload, form: str) -> tuple[Any, Any, float]:
    """Hamiltonian, graph of exchanges and the factor of energies."""
    graph = nk.graph.Grid(work.shape, pbc=True)
    if work.model == "tfim":
        space = nk.hilbert.Spin(0.5, work.n_sites)
        if form == "constructor":
            return nk.operator.IsingJax(space, graph, h=1.0, J=-1.0), None, 1.0
        ising = nk.operator.Ising(space, graph, h=1.0, J=-1.0)
        strings = ising.to_local_operator().to_pauli_strings()
        return strings.to_jax_operator(), None, 1.0
    space = nk.hilbert.Spin(0.5, work.n_sites, total_sz=0)
    signs = [True] * len(set(graph.edge_colors))
    hamiltonian = nk.operator.Heisenberg(space, graph, J=1.0, sign_rule=signs)
    if form != "constructor":
        hamiltonian = hamiltonian.to_pauli_strings()
    # Sums of Pauli matrices: four times those of spins.
    return hamiltonian.to_jax_operator(), graph, 0.25


class ResNet(nn.Module):
    """The residual network of `Workload.resnet`, as flax builds it.

    Attributes:
        shape: of the lattice.
    """

    shape: tuple[int, int]

    @nn.compact
    def __call__(self, sigma: Any) -> Any:
        """Log psi (B,) of sigma (B, N)."""

        def conv(name: str, bias: bool) -> Any:
            keys = {"padding": "CIRCULAR", "param_dtype": float, "use_bias": bias}
            return nn.Conv(CHANNELS, (KERNEL, KERNEL), name=name, **keys)

        x = sigma.reshape(-1, *self.shape, 1).astype(float)
        x = conv("first", False)(x)
        x = jnp.sqrt(1 + x * x) - 1
        x = x + conv("outer", True)(nn.gelu(conv("inner", True)(nn.gelu(x))))
        x = nn.gelu(x / jnp.sqrt(2.0))
        y = nn.Dense(CHANNELS, use_bias=False, param_dtype=float, name="head")(x)
        y = y.reshape(len(y), -1)
        return jax.nn.logsumexp(y, axis=1) - jnp.log(y.shape[1])


def model_of(work: Workload) -> tuple[Any, dict[str, Any]]:
    """The network, and its common parameters."""
    dtype = complex if work.dtype == "complex" else float
    n, m = work.n_sites, work.alpha * work.n_sites
    if work.alpha:
        biases = {"visible_bias": jnp.zeros(n, dtype)}
        layer = {"kernel": jnp.asarray(work.weights(), dtype), "bias": jnp.zeros(m)}
        layer["bias"] = layer["bias"].astype(dtype)
        model = nk.models.RBM(alpha=work.alpha, param_dtype=dtype)
        return model, {"Dense": layer} | biases
    p = work.resnet()
    params: dict[str, Any] = {"head": {"kernel": jnp.asarray(p["head"].T)}}
    for name in ("first", "inner", "outer"):
        kernel = p[name].transpose(2, 1, 0)
        kernel = kernel.reshape(KERNEL, KERNEL, *kernel.shape[1:])
        params[name] = {"kernel": jnp.asarray(kernel)}
        if name != "first":
            params[name]["bias"] = jnp.asarray(p[f"{name}_bias"])
    return ResNet(work.shape), params


def prepared(
    work: Workload, hamiltonian: Any, graph: Any, chunk: Any, chains: int
) -> Any:
    """NetKet's state at the common weights."""
    space = hamiltonian.hilbert
    keys = {"n_chains": chains, "sweep_size": work.n_sites}
    if graph is None:
        sampler = nk.sampler.MetropolisLocal(space, **keys)
    else:
        sampler = nk.sampler.MetropolisExchange(space, graph=graph, d_max=1, **keys)
    model, params = model_of(work)
    state = nk.vqs.MCState(
        sampler,
        model,
        n_samples=work.n_samples,
        n_discard_per_chain=0,
        chunk_size=chunk,
        seed=1,
    )
    shapes = [
        jax.tree.map(lambda x: (x.shape, x.dtype), p)
        for p in (state.parameters, params)
    ]
    if shapes[0] != shapes[1]:
        raise SystemExit(f"parameters {shapes[0]}, expected {shapes[1]}")
    state.parameters = params
    return state


def timed(
    work: Workload, state: Any, hamiltonian: Any, fly: bool, repeats: int
) -> dict[str, float]:
    """Milliseconds of the parts of a workload."""
    driver = nk.driver.VMC_SR(
        hamiltonian,
        nk.optimizer.Sgd(1e-4),
        variational_state=state,
        diag_shift=1e-2,
        use_ntk=True,
        on_the_fly=fly,
    )

    def sampling() -> None:
        state.reset()
        jax.block_until_ready(state.sample())

    def local() -> None:
        jax.block_until_ready(state.local_estimators(hamiltonian))

    def step() -> None:
        driver.run(1, out=None, show_progress=False)
        jax.block_until_ready(state.parameters)

    parts = {
        "sampling": (sampling, repeats),
        "local_energies": (local, repeats),
        "step": (step, max(3, repeats // 2)),
    }
    return {part: best_ms(*parts[part]) for part in work.parts}


def estimated(state: Any, hamiltonian: Any, factor: float, n: int) -> dict[str, float]:
    """Mean of n estimates of the energy, and its standard error."""
    means = []
    for _ in range(n):
        state.reset()
        means.append(factor * state.expect(hamiltonian).mean.real)
    return mean_of(means)


def measure(
    work: Workload,
    repeats: int,
    chunk: Any,
    form: str,
    fly: bool,
    chains: int,
    energies: int,
) -> dict[str, Any]:
    """All times at one setting, and the mean of some estimates of the energy."""
    hamiltonian, graph, factor = problem(work, form)
    state = prepared(work, hamiltonian, graph, chunk, chains)
    dtype = str(jax.tree.leaves(state.parameters)[0].dtype)
    for _ in range(BURN_IN if energies else 1):
        state.sample()
    energy = estimated(state, hamiltonian, factor, energies) if energies else None
    return {
        "times": timed(work, state, hamiltonian, fly, repeats),
        "energy": energy,
        "n_parameters": int(state.n_parameters),
        "n_samples": int(state.n_samples),
        "dtype": dtype,
        "settings": {
            "chunk": chunk,
            "hamiltonian": form,
            "on_the_fly": fly,
            "n_chains": chains,
        },
    }


def main(name: str, repeats: int, setting: str) -> None:
    """Measure one setting; see `workloads.serve`."""
    work = WORKLOADS[name]

    def row(one: tuple[Any, ...], energy: bool) -> dict[str, Any]:
        return measure(work, repeats, *one, ESTIMATES if energy else 0)

    versions = {"netket": nk.__version__, "jax": jax.__version__}
    serve(setting, settings(work), row, versions)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
