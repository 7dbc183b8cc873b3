"""Observables of a run: from the names in a job to tables of means and errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from vmc import distributed
from vmc.assembly import Built
from vmc.base import VMCState
from vmc.keys import Purpose, derive
from vmc.observables_energies import bond_energies, derivatives, lanczos, operators
from vmc.observables_names import Request, parse
from vmc.observables_plan import Columns, Finish, Found, Plan
from vmc.observables_spins import SPINS
from vmc.observables_wavefunction import renyi2, symmetries
from vmc.overlaps import Penalties
from vmc.stats import Estimate

#: Observables by name; those of `SPINS` take no argument.
_BUILDERS: Mapping[str, Callable[[Plan, Request], Finish]] = {
    "bond_energies": bond_energies,
    "derivatives": derivatives,
    "lanczos": lanczos,
    "operator": operators,
    "renyi2": renyi2,
    "renyi2_ratio": renyi2,
    "symmetries": symmetries,
}


#: A number of draws that no measurement reaches.
_BEYOND = 1 << 30


class Results(NamedTuple):
    """What was measured.

    Attributes:
        energy: the total energy.
        observables: by the text of the request, tables of equally long columns as JSON
            values: labels, "mean" and "error" (null where there is none).
    """

    energy: Estimate
    observables: dict[str, Columns]


def plan(built: Built, names: Sequence[str]) -> Plan:
    """What has to be averaged for some observables.

    Args:
        built: the objects of a job.
        names: see `vmc.observables_names.parse`; "energy" is always measured.

    Raises:
        JobError: a name is unknown, or cannot be measured in this state.
    """
    made = Plan(built)
    for text in names:
        request = parse(text)
        if request.name == "energy" or request.text in made.finish:
            continue
        if request.name in SPINS:
            made.finish[request.text] = SPINS[request.name](made, request.name)
        else:
            made.finish[request.text] = _BUILDERS[request.name](made, request)
    return made


def measure(
    built: Built,
    state: VMCState,
    n_samples: int,
    names: Sequence[str] = ("energy",),
    *,
    to_error: float | None = None,
    progress: Callable[[Estimate], None] | None = None,
) -> Results:
    """Energy and observables of frozen parameters, from one pass over the samples.

    The energy is that of H alone; of a job with penalties there is also a table
    "overlaps", |<psi|phi>|^2 of the normalised states, for which samples of every
    |phi|^2 are drawn, too.

    All ranks call it together, and all get the result.

    Args:
        built: the objects of the job.
        state: parameters and walkers; it is not changed.
        n_samples: samples over all devices.
        names: what to measure, as `[measure] observables`.
        to_error: go on until the error of the energy is below this fraction of it.
        progress: called with the energy so far.

    Raises:
        JobError: a name is unknown, or cannot be measured in this state.
        NumericalError: a number was not finite.
    """
    made = plan(built, names)
    penalties = Penalties(built.vmc, state)
    measured = built.vmc._measurement.observe(
        state,
        n_samples,
        made.kernels | penalties.kernels(),
        keep=made.keeps_samples,
        to_error=to_error,
        progress=progress,
    )
    params = distributed.to_host(state.params)
    key = derive(state.key, Purpose.MEASURE, int(state.step), _BEYOND)
    found = Found(measured.energy, measured.averages, measured.samples, params, key)
    tables = {text: finish(found) for text, finish in made.finish.items()}
    if built.vmc.penalties:
        tables["overlaps"] = penalties.table(measured, n_samples, progress)
    return Results(measured.energy, tables)
