"""``vmc ed``: exact diagonalisation of a job's Hamiltonian."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobFile, Json, Memory, Overrides, numbers, sites

Levels: TypeAlias = Annotated[
    int, typer.Option("--levels", "-k", min=1, help="How many levels.")
]
Momentum: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="M,...",
        help="Only states of this momentum, one integer per direction in units "
        "of 2 pi / L.",
    ),
]
SpinFlip: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="+1|-1", help="Only states of this parity under the spin flip."
    ),
]
PointGroup: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Only states of this representation of the rotations and reflections "
        "that keep the momentum, as A1.",
    ),
]
Cuts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SITES",
        help='Entropies of these sites with the rest, as "0-7" or "0,2,4"; may be '
        "repeated.",
    ),
]


def ed(
    job: JobFile,
    set_: Overrides = None,
    n_levels: Levels = 4,
    momentum: Momentum = None,
    spin_flip: SpinFlip = None,
    point_group: PointGroup = None,
    cut: Cuts = None,
    memory: Memory = 4.0,
    json: Json = False,
) -> None:
    """Diagonalise the Hamiltonian in the job's sector, up to about 24 sites.

    The estimate of the memory is printed first; where the matrix would not fit its
    elements are computed again in every product.
    """
    with console.command() as output:
        from vmc.job import Job

        wanted = None if momentum is None else numbers("--momentum", momentum)
        cuts = [sites("--cut", text) for text in cut or []]
        loaded = Job.load(job, set_ or [])
        set_threads(None)
        start_jax()

        from vmc.assembly import build_system

        system = build_system(loaded)
        space = system.hamiltonian.space
        found = system.hamiltonian.spectrum(
            n_levels,
            lattice=system.lattice,
            momentum=wanted,
            spin_flip=spin_flip,
            point_group=point_group,
            cuts=cuts,
            memory_limit=int(memory * 2**30),
            note=console.note,
        )
        found["energies"] = found["energies"][:n_levels]
        if json:
            facts = {"n_sites": system.n_sites, "total_sz": space.total_sz}
            output.json(found | facts)
            return
        sector = f" ({space.label})" if space.label else ""
        console.note(f"{space.n_states} states{sector}")
        _print(output, found, system.n_sites)


def _print(output: console.Output, found: dict[str, Any], n_sites: int) -> None:
    """Table of levels, degeneracy, entropies."""
    energies = found["energies"]
    rows = [
        (str(i), f"{e:.12g}", f"{e / n_sites:.10g}", f"{e - energies[0]:.6g}")
        for i, e in enumerate(energies)
    ]
    output.table(("level", "energy", "per site", "above"), rows)
    output.text(f"ground level: {found['degeneracy']}-fold")
    for one in found["entropies"]:
        output.text(f"cut {one['region']}: {_entropies(one)}")


def _entropies(one: dict) -> str:
    if one["s1"] is None:
        return "none, the ground level is degenerate"
    return f"S1 = {one['s1']:.10g}, S2 = {one['s2']:.10g}, rank {one['rank']}"
