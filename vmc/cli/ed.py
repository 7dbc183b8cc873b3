"""``vmc ed``: exact diagonalisation of a job's Hamiltonian."""

from __future__ import annotations

from typing import Annotated

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobFile, Json, Overrides


def ed(
    job: JobFile,
    set_: Overrides = None,
    n_levels: Annotated[
        int, typer.Option("--levels", "-k", min=1, help="How many levels.")
    ] = 4,
    json: Json = False,
) -> None:
    """Diagonalise the Hamiltonian in the job's sector, up to about 20 sites."""
    with console.command() as output:
        from vmc.job import Job

        loaded = Job.load(job, set_ or [])
        set_threads(None)
        start_jax()

        from vmc import registry
        from vmc.assembly import build_system

        system = build_system(loaded)
        space = system.hamiltonian.space
        energies = registry.ground_energies(
            system.hamiltonian, min(n_levels, space.n_states)
        )
        if json:
            output.json(
                {
                    "energies": [float(e) for e in energies],
                    "dimension": space.n_states,
                    "n_sites": system.n_sites,
                    "total_sz": space.total_sz,
                }
            )
            return
        sector = "" if space.total_sz is None else f", total Sz {space.total_sz:g}"
        n_sites = system.n_sites
        console.note(f"{n_sites} sites, {space.n_states} states{sector}")
        rows = [
            (
                str(i),
                f"{e:.12g}",
                f"{e / system.n_sites:.10g}",
                f"{e - energies[0]:.6g}",
            )
            for i, e in enumerate(energies)
        ]
        output.table(("level", "energy", "per site", "above"), rows)
