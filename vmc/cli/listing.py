"""``vmc list``: what can be named in a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads
from vmc.cli.options import Json


def listing(
    kind: Annotated[
        str | None, typer.Argument(help="Only one kind, as ansatz.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """List lattices, Hamiltonians, ansatze, samplers, optimisers, observables."""
    with console.command() as output:
        set_threads(None)
        found = registries()
        if kind is not None:
            from vmc.errors import JobError
            from vmc.jobfile import suggest

            if kind not in found:
                raise JobError(f"unknown kind {kind!r}{suggest(kind, found)}")
            found = {kind: found[kind]}
        if json:
            output.json(found)
            return
        for title, entries in found.items():
            output.text(f"[{title}]")
            for name, entry in entries.items():
                output.text(f"  {name:<23} {entry['summary']}")
                if entry["keys"]:
                    output.text(f"  {'':<23}   {_keys(entry['keys'])}")
            output.text()


def registries() -> dict[str, dict[str, Any]]:
    """Kind -> name -> {summary, keys with their defaults}."""
    from vmc import factories, registry
    from vmc.observables_names import OBSERVABLES

    return {
        "lattice": factories.list_table(registry.lattices(), ()),
        "hamiltonian": factories.list_table(registry.models(), ("lattice",)),
        "ansatz": factories.list_table(registry.ansatze(), ("problem",)),
        "sampler": _plain(registry.SAMPLERS),
        "optimizer": _plain(registry.OPTIMIZERS),
        "observable": _plain(OBSERVABLES),
    }


def _plain(table: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"summary": text, "keys": {}} for name, text in table.items()}


def _keys(keys: Mapping[str, Any]) -> str:
    return ", ".join(k if v is None else f"{k} = {v!r}" for k, v in keys.items())
