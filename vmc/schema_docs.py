"""Writes ``docs/job-file.md`` from the schema of the job and the registries.

Regenerate it with ``python -m vmc.schema_docs > docs/job-file.md``; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from vmc import factories, registry
from vmc.job import Job
from vmc.observables_names import OBSERVABLES
from vmc.sections import (
    Ansatz,
    Growth,
    Hamiltonian,
    Lattice,
    Measure,
    Optimizer,
    Run,
    Sampler,
    Schedule,
    StopAt,
    Symmetry,
)

HEAD = """\
# The job file

<!-- Generated from the schema: python -m vmc.schema_docs > docs/job-file.md -->

A job file is TOML. It names a lattice, a Hamiltonian and an ansatz; every other key
has a default. `vmc check job.toml` prints the resolved job with every default and
every "auto" decided, and each run stores it. An unknown key is refused.

```toml
[lattice]
name = "chain"
size = [64]

[hamiltonian]
name = "tfim"
h = 1.0

[ansatz]
name = "rbm"
```

Any key can be overridden on the command line: `--set optimizer.learning_rate=0.02`,
`--set lattice.size=[16]`. The same sections are the keyword arguments of `vmc.Job`
in Python, where `name` may also be a function.

"""

NOTES: Mapping[str, str] = {
    "lattice": "All other keys go to the lattice; see [Lattices](#lattices). Without "
    "this section the Hamiltonian numbers its own sites.",
    "hamiltonian": "All other keys are couplings of the model; see "
    "[Hamiltonians](#hamiltonians). Energies are of the whole system.",
    "ansatz": "All other keys go to the wave function; see [Ansatze](#ansatze).",
}

TERMS = """\
## Files of your own

`name = "file.py:name"` takes a function or class from a file; the path starts at the
folder of the job file. A lattice function returns a `hamiltonians.Lattice`; a
Hamiltonian function receives `lattice` (if the job has one) and the other keys of the
section, and returns a `hamiltonians.Operator`; an ansatz is a flax module (nnx or
linen) or a function of `problem` and the other keys. What the file raises is shown
with its own traceback. `examples/custom_hamiltonian.py` is a complete example.

## Terms files

`terms = "model.json"` replaces `name` by a list of Pauli strings:

```json
{"N": 2, "nup": 1, "constant": 0.0,
 "terms": [[0.25, "XX", [0, 1]], [0.25, "YY", [0, 1]], [0.25, "ZZ", [0, 1]]]}
```

H = constant + sum of coefficient times the Pauli matrices on the sites. `nup`, the
number of up spins, is the default sector; null leaves it to the rule of `total_sz`. No
`[lattice]` is needed: exchange moves come from the terms.
"""


OBSERVABLES_HEAD = """\
## Observables

For `measure.observables`, as `["correlations", "renyi2:0-3,8"]`, and for `vmc measure
RUN --observables correlations,renyi2:0-3,8`. All come from the same samples as the
energy, each number with one standard error. S are spin operators (eigenvalues of S^z:
+1/2 and -1/2 for a spin 1/2), averages are those of the physical state, whatever the
sign gauge. Correlations are averaged over all pairs of sites with equal displacement.
`"file.py:name"` is an operator of your own: a `hamiltonians.Operator`, a dictionary of
them, or a function (of `lattice`, if it takes it) that returns either; it must be
Hermitian. `"terms.json"` is a terms file. What cannot be measured in a state, as a
staggered magnetisation on a lattice that is not bipartite, is refused.
"""


SYMMETRY = """For `ansatz.symmetry`, as
`symmetry = {momentum = [0, 0], point_group = "B1", spin_flip = 1}`. Quantum numbers are
physical: those of the state before any sign gauge. Each of them is exact. What an
ansatz does not have by construction is projected, psi = sum over the group of
conj(character) psi_0(moved configuration); `vmc check` says how many evaluations that
costs. The same numbers select the states of `vmc ed`.

Translation by one cell along direction d multiplies by exp(-2 pi i m_d / L_d).
`point_group` names a one-dimensional representation of the rotations and reflections
that leave the momentum as it is (without a momentum: of all), about the centre of
highest symmetry. In the plane: A1 (all +1; A without reflections), A2 (reflections -1),
B1 and B2 (smallest rotation -1; B1: +1 for reflections about the line nearest to the x
axis; B without reflections), E1+, E1-, ... (angular momentum +1, -1, ..., without
reflections only). The square lattice at momentum 0 has s = A1, d(x2-y2) = B1,
d(xy) = B2, g = A2; a chain A1 (even) and A2 (odd). In space g and u are even and odd
under inversion. Names that do not exist are refused with a list of those that do."""


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    top = {n: f for n, f in Job.model_fields.items() if not _is_section(f)}
    parts.append(_section("Top level", top, "These keys come before any section."))
    for name, model in _sections().items():
        parts.append(_section(f"[{name}]", model.model_fields, NOTES.get(name, "")))
    parts.append(
        _section(
            "Schedule tables",
            Schedule.model_fields,
            "For `learning_rate` and `diag_shift`, as "
            '`learning_rate = {schedule = "linear", init = 0.1, end = 0.01}`: the '
            "value is `init` until step `begin` and then goes to `end`.",
        )
    )
    parts.append(
        _section("Tables of run.grow", Growth.model_fields, "Each holds from `at` on.")
    )
    parts.append(
        _section(
            "The table run.stop_at",
            StopAt.model_fields,
            "Decided from the logged numbers, at multiples of `steps_per_dispatch`: a "
            "resumed run stops where an uninterrupted one does.",
        )
    )
    parts.append(
        _section(
            "Symmetry tables",
            Symmetry.model_fields,
            SYMMETRY,
        )
    )
    parts.append(_registry("Lattices", registry.lattices(), ()))
    parts.append(_registry("Hamiltonians", registry.models(), ("lattice",)))
    parts.append(_registry("Ansatze", registry.ansatze(), ("problem",)))
    parts.append(_observables())
    parts.append(TERMS)
    return "\n".join(parts)


def _observables() -> str:
    """The names that `measure.observables` takes."""
    rows = [(f"`{name}`", text) for name, text in OBSERVABLES.items()]
    return f"{OBSERVABLES_HEAD}\n{_table(('name', 'what'), rows)}"


def _sections() -> dict[str, type[BaseModel]]:
    return {
        "lattice": Lattice,
        "hamiltonian": Hamiltonian,
        "ansatz": Ansatz,
        "sampler": Sampler,
        "optimizer": Optimizer,
        "run": Run,
        "measure": Measure,
    }


def _is_section(field: Any) -> bool:
    return field.json_schema_extra["expects"] == "a table"


def _section(title: str, fields: Mapping[str, Any], note: str) -> str:
    rows = [
        (f"`{n}`", f.json_schema_extra["expects"], _default(f), f.description)
        for n, f in fields.items()
    ]
    table = _table(("key", "expects", "default", "meaning"), rows)
    return f"## {title}\n\n{note}\n\n{table}" if note else f"## {title}\n\n{table}"


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None or isinstance(field.default, BaseModel):
        return ""
    return f"`{json.dumps(field.default)}`"


def _registry(title: str, table: Mapping[str, Any], filled: tuple[str, ...]) -> str:
    rows = []
    for name, entry in factories.list_table(table, filled).items():
        keys = ", ".join(_key(k, v) for k, v in entry["keys"].items())
        rows.append((f"`{name}`", entry["summary"], keys))
    return f"## {title}\n\n" + _table(("name", "what", "keys and defaults"), rows)


def _key(name: str, value: Any) -> str:
    return f"`{name}`" if value is None else f"`{name} = {json.dumps(value)}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [
        head,
        ["---"] * len(head),
        *([c.replace("|", r"\|") for c in r] for r in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Print the page."""
    print(render(), end="")


if __name__ == "__main__":
    main()
