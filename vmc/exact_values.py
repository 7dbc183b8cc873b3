"""Energies, entropies and norms that follow from the structure of an ansatz.

Trees and chains contract with themselves, so that any sum of products of one-site
operators has an average without a Markov chain, an error bar or anything of size 2^N.
The values are those that a measurement with samples approaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vmc.assembly import Built
from vmc.base import Exact, Params, WaveFunction
from vmc.errors import JobError, NumericalError
from vmc.space import Spins

#: Pauli matrices as (phase, real matrix): real states need real arithmetic only.
_PAULI: dict[str, tuple[complex, list[list[float]]]] = {
    "X": (1, [[0, 1], [1, 0]]),
    "Y": (-1j, [[0, 1], [-1, 0]]),
    "Z": (1, [[1, 0], [0, -1]]),
}


class ExactValues(NamedTuple):
    """What is known of a state without sampling.

    Attributes:
        energy: <psi|H|psi> / <psi|psi>, of the whole system.
        energy_per_site: the same per site.
        exact: {energy, source} of the ground state, or None; see `Built.exact`.
        relative_error: (E - E0) / |E0|, or None.
        log_norm: ln <psi|psi>.
        region: the sites whose entanglement with the others is given.
        s1: von Neumann entropy -sum p ln p of the region in nats, or None.
        s2: Renyi entropy -ln sum p^2 in nats, or None.
        notes: why an entropy is missing.
    """

    energy: float
    energy_per_site: float
    exact: dict[str, Any] | None
    relative_error: float | None
    log_norm: float
    region: tuple[int, ...]
    s1: float | None
    s2: float | None
    notes: tuple[str, ...] = ()


class _Products(NamedTuple):
    """Terms c O_1 ... O_k as arrays.

    Attributes:
        coefs: complex (T,).
        sites: int (T, k), padded with N.
        matrices: real (T, k, M, M).
    """

    coefs: np.ndarray
    sites: np.ndarray
    matrices: np.ndarray


def measure_exactly(
    built: Built, params: Params, *, region: Sequence[int] | None = None
) -> ExactValues:
    """Energy, norm and entropies of given parameters, without any sampling.

    Args:
        built: the objects of a job, as ``vmc.build(job)`` or ``vmc.load(RUN).built``;
            its ansatz is mps, ttn, convac, cp, or rac of depth 1, in the free space.
        params: the parameters, as ``vmc.load(RUN).params``.
        region: sites of one side of the cut, by default 0 ... N/2 - 1.

    Raises:
        JobError: the wave function has no exact tools, or a site does not exist.
        NumericalError: the state is zero, or the energy is not finite.
    """
    space, operator = built.hamiltonian.space, built.system.operator
    psi, signs = built.wavefunction, built.hamiltonian.signs
    energy = expectation(psi, params, operator, space, signs=signs).real
    tools = _tools(psi, space)
    log_norm = float(jax.jit(_given(tools.log_norm, "log_norm"))(params))
    if not math.isfinite(energy + log_norm):
        raise NumericalError(
            f"the energy is {energy}, ln <psi|psi> is {log_norm}: these parameters are "
            "no state. Take an earlier checkpoint."
        )
    half = range(space.n_sites // 2) if region is None else region
    sites = tuple(int(i) for i in half)
    s1, s2, notes = _entropies(tools, params, sites)
    exact = built.exact()
    relative = None
    if exact is not None and exact["energy"] != 0:
        relative = (energy - exact["energy"]) / abs(exact["energy"])
    return ExactValues(
        energy=energy,
        energy_per_site=energy / space.n_sites,
        exact=exact,
        relative_error=relative,
        log_norm=log_norm,
        region=sites,
        s1=s1,
        s2=s2,
        notes=notes,
    )


def expectation(
    wavefunction: WaveFunction,
    params: Params,
    operator: Any,
    space: Spins,
    *,
    signs: Sequence[int] | np.ndarray | None = None,
) -> complex:
    """<psi|O|psi> / <psi|psi> from the structure of psi; the sum of `term_means`."""
    means = term_means(wavefunction, params, operator, space, signs=signs)
    return complex(np.sum(means))


def term_means(
    wavefunction: WaveFunction,
    params: Params,
    operator: Any,
    space: Spins,
    *,
    signs: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Average of every term of an operator, its coefficient included.

    Args:
        wavefunction: psi, with ``exact.product_mean``.
        params: its parameters.
        operator: a `hamiltonians.Operator`, not necessarily Hermitian.
        space: the configurations of psi.
        signs: the sign gauge that psi lives in, +1 or -1 per site, as
            ``hamiltonian.signs`` of a compiled Hamiltonian; None for the operator as
            written.

    Returns:
        Complex (T,), in the order of ``operator.terms``.

    Raises:
        JobError: psi has no exact tools, or the operator acts on other spins.
    """
    mean = _given(_tools(wavefunction, space).product_mean, "product_mean")
    _check_spins(operator, space)
    terms = operator.terms
    widths = np.array([_width(len(where)) for _, _, where in terms], int)
    out = np.zeros(len(terms), complex)
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(widths == width)
        table = _products([terms[i] for i in rows], width, space, signs)

        def means(params: Params, matrices: Any, sites: Any = table.sites) -> Any:
            return mean(params, sites, matrices)

        out[rows] = table.coefs * np.asarray(jax.jit(means)(params, table.matrices))
    return out


def _tools(wavefunction: WaveFunction, space: Spins) -> Exact:
    """The exact tools of a wave function, or the reason why there are none."""
    if not space.is_free:
        raise JobError(
            "exact values are sums over the whole space, but this state lives in the "
            f'sector {space.label}: run the job with total_sz = "free" (and without '
            "charges or blockade)"
        )
    if wavefunction.exact is None:
        raise JobError(
            "this wave function has no exact tools, so its energy must be sampled: "
            "mps, ttn, convac, cp, and rac of depth 1 have them. Leave out --exact (in "
            "Python: measure with samples)."
        )
    return wavefunction.exact


def _given(tool: Callable[..., Any] | None, name: str) -> Callable[..., Any]:
    if tool is None:
        raise JobError(
            f"the exact tools of this wave function lack {name}; see vmc.base.Exact"
        )
    return tool


def _check_spins(operator: Any, space: Spins) -> None:
    if operator.max_site >= space.n_sites:
        raise JobError(
            f"the operator acts on site {operator.max_site}, but the wave function has "
            f"sites 0 to {space.n_sites - 1}"
        )
    for site, dim in operator.local_dims.items():
        if site < space.n_sites and dim != space.local_dims[site]:
            raise JobError(
                f"the operator takes site {site} for a spin {(dim - 1) / 2}, but the "
                f"wave function has a spin {(space.local_dims[site] - 1) / 2} there"
            )


def _width(n_sites: int) -> int:
    """Padded length of a term: one class, and so one program, for all but strings."""
    width = 4
    while width < n_sites:
        width *= 4
    return width


def _products(
    terms: Sequence[Any],
    width: int,
    space: Spins,
    signs: Sequence[int] | np.ndarray | None,
) -> _Products:
    """Terms of at most `width` sites as arrays, in a sign gauge.

    psi in the gauge is G psi, G = prod_i a_i^n_i with n_i the local index: an operator
    between such states is G O G.
    """
    n_sites, size = space.n_sites, max(space.local_dims)
    coefs = np.array([complex(c) for c, _, _ in terms])
    sites = np.full((len(terms), width), n_sites, np.int32)
    matrices = np.zeros((len(terms), width, size, size))
    gauge = np.ones(n_sites, int) if signs is None else np.asarray(signs)
    for row, (_, letters, where) in enumerate(terms):
        for slot, (local, site) in enumerate(zip(letters, where, strict=True)):
            phase, matrix = _matrix(local)
            diagonal = float(gauge[site]) ** np.arange(len(matrix))
            coefs[row] *= phase
            sites[row, slot] = site
            block = diagonal[:, None] * matrix * diagonal[None, :]
            matrices[row, slot, : len(matrix), : len(matrix)] = block
    return _Products(coefs, sites, matrices)


def _matrix(local: Any) -> tuple[complex, np.ndarray]:
    """A basis operator as phase times real matrix, index 0 for the largest m.

    Args:
        local: "X", "Y" or "Z", or (dim, power, raising) for Sz^power Sp^raising
            (Sm^-raising if negative).
    """
    if isinstance(local, str):
        phase, rows = _PAULI[local]
        return phase, np.array(rows, float)
    s = (local.dim - 1) / 2
    m = s - np.arange(local.dim)
    step = np.diag(np.sqrt(s * (s + 1) - m[1:] * m[:-1]), 1)
    step = step if local.raising > 0 else step.T
    ladder = np.linalg.matrix_power(step, abs(local.raising))
    return 1, m[:, None] ** local.power * ladder


def _entropies(
    tools: Exact, params: Params, region: tuple[int, ...]
) -> tuple[float | None, float | None, tuple[str, ...]]:
    """S1, S2 and what is missing: from the spectrum, else S2 from the purity."""
    try:
        spectrum = _given(tools.spectrum, "spectrum")
        p = np.asarray(jax.jit(lambda x: spectrum(x, region))(params), float)
        p = p[p > 0]
        return float(-np.sum(p * np.log(p))), float(-np.log(np.sum(p**2))), ()
    except JobError as error:
        notes = (f"S1: {error}",)
    try:
        purity = _given(tools.purity, "purity")
        s2 = -math.log(float(jax.jit(lambda x: purity(x, region))(params)))
        return None, s2, notes
    except JobError as error:
        return None, None, (*notes, f"S2: {error}")
