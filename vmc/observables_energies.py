"""Observables of the Hamiltonian and of operators of a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vmc import factories, registry
from vmc.errors import JobError
from vmc.jobfile import suggest
from vmc.observables_names import Request
from vmc.observables_operators import OperatorMeans
from vmc.observables_plan import Columns, Finish, Found, Plan, table
from vmc.observables_states import Powers, lanczos_energy
from vmc.stats import Series
from vmc.system import build_system

#: Relative step in a coupling; the error of the derivative is of its fourth power.
_STEP = 1e-3


def means(plan: Plan, name: str, operators: Sequence[Any], labels: Columns) -> Finish:
    """The averages of some operators."""
    n = len(operators)
    plan.once(
        name,
        lambda: OperatorMeans(
            plan.compiled(operators, name), np.arange(n), np.ones(n), n
        ),
    )

    def finish(found: Found) -> Columns:
        return table(labels, *found.averages.evaluate([name], lambda parts: parts[0]))

    return finish


def bond_energies(plan: Plan, request: Request) -> Finish:
    """The terms of H by the sites that they act on; they add up to the energy."""
    operator = plan.built.system.operator
    groups: dict[tuple[int, ...], list[Any]] = {}
    for coefficient, letters, where in operator.terms:
        order = tuple(np.argsort(where, kind="stable").tolist())
        sites = tuple(where[k] for k in order)
        groups.setdefault(sites, []).append((coefficient, letters, where))
    supports = sorted(groups, key=lambda s: (len(s), s))
    operators = [type(operator).from_terms(groups[s]) for s in supports]
    return means(plan, request.text, operators, {"sites": [list(s) for s in supports]})


def derivatives(plan: Plan, request: Request) -> Finish:
    """dE/dc = <dH/dc> of the couplings (Hellmann and Feynman).

    This is the derivative of the energy of an eigenstate; of a trained state as far
    as its energy is stationary.
    """
    couplings = {
        key: float(value)
        for key, value in plan.built.job.hamiltonian.keys.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    asked = [c.strip() for c in request.argument.split(",") if c.strip()]
    for name in asked:
        if name not in couplings:
            raise JobError(
                f"observable {request.text!r}: the Hamiltonian has no coupling {name!r}"
                f" that is one number{suggest(name, couplings)}"
            )
    operators = {}
    for name in asked or couplings:
        try:
            operators[name] = _derivative(plan, name, couplings[name])
        except JobError:
            if asked:
                raise
            # Not every number is a coupling: the length of a spin is a whole number.
    if not operators:
        raise JobError(
            f"observable {request.text!r}: the Hamiltonian has no couplings that are "
            "single numbers; measure the operator that you mean as "
            '"file.py:name"'
        )
    labels: Columns = {"coupling": list(operators)}
    return means(plan, request.text, list(operators.values()), labels)


def _derivative(plan: Plan, name: str, value: float) -> Any:
    """dH/dc by differences, exact for polynomials up to the fourth order."""
    step = _STEP * max(1.0, abs(value))

    def at(steps: int) -> Any:
        keys = {name: value + steps * step}
        # The sector and the gauge do not matter for the operator itself.
        keys |= {
            "total_sz": "free",
            "marshall": False,
            "charges": [],
            "blockade": False,
        }
        return build_system(plan.built.job.replace({"hamiltonian": keys})).operator

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


def lanczos(plan: Plan, request: Request) -> Finish:
    """The energy of the best state (1 + a H) psi (arXiv:cond-mat/9302005)."""
    name = request.text
    plan.once(name, lambda: Powers(np.zeros(())))

    def gain(parts: Sequence[Series]) -> Series:
        best = lanczos_energy(parts[0])
        return np.stack([best - parts[0][..., 0], best], axis=-1)

    def finish(found: Found) -> Columns:
        values, errors = found.averages.evaluate([name], gain)
        # The kernel's energies are relative to a constant that drops out here.
        total = np.array([found.energy.mean + values[0], values[0]])
        labels: Columns = {"quantity": ["energy", "gain"]}
        return table(labels, total, errors[::-1])

    return finish


def operators(plan: Plan, request: Request) -> Finish:
    """Operators of a user's file, or of a terms file."""
    reference, folder = request.argument, plan.built.job.folder
    if reference.endswith(".json"):
        operator, n_sites, _ = registry.load_terms(folder / reference)
        found: Any = {"operator": operator}
        if n_sites != plan.built.n_sites:
            raise JobError(
                f"observable {reference!r} has {n_sites} sites, but the state has "
                f"{plan.built.n_sites}"
            )
    else:
        found = factories.load_object(reference, folder)
        if callable(found):
            taken, open_ended = factories.parameters_of(found)
            lattice = plan.built.system.lattice
            keys = {"lattice": lattice} if "lattice" in taken or open_ended else {}
            found = factories.call(reference, found, folder, **keys)
    if not isinstance(found, Mapping):
        found = {reference.rpartition(":")[2]: found}
    for operator in found.values():
        registry.checked_operator(reference, operator, "measure")
        outside = operator.max_site >= plan.built.n_sites
        if outside:
            raise JobError(
                f"observable {reference!r} acts on site {operator.max_site}, but there "
                f"are sites 0 to {plan.built.n_sites - 1}"
            )
    labels: Columns = {"operator": [str(key) for key in found]}
    return means(plan, request.text, list(found.values()), labels)
