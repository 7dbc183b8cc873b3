"""``vmc check``: build everything, run nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vmc.cli import console
from vmc.cli.environment import set_threads, start_jax
from vmc.cli.options import JobFile, Json, Overrides


def check(
    job: JobFile,
    set_: Overrides = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Devices that the job will have; default those that are here."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Build a job and print sizes, memory, decisions and warnings."""
    with console.command() as output:
        from vmc.job import Job

        loaded = Job.load(job, set_ or [])
        set_threads(loaded.sampler.n_samples)
        start_jax()
        facts = describe(loaded, devices)
        if json:
            output.json(facts)
            return
        console.warn(facts["warnings"])
        for title in ("sizes", "memory"):
            output.text(title)
            form = _bytes if title == "memory" else str
            rows = ((f"  {k}", form(v)) for k, v in facts[title].items())
            output.pairs(rows)
        output.text("resolved job")
        output.text("".join(f"  {x}\n" for x in facts["job"].splitlines()).rstrip())


def describe(job: Any, devices: int | None = None) -> dict[str, Any]:
    """Sizes, memory per device in bytes, resolved job and warnings."""
    from vmc.assembly import build, build_system
    from vmc.distributed import check_divisible
    from vmc.observables_run import plan

    if job.ansatz is None:
        system = build_system(job)
        return {
            "sizes": _system_sizes(system),
            "memory": {"hamiltonian": int(system.hamiltonian.memory_bytes)},
            "warnings": [*system.warnings, "there is no [ansatz]: nothing can run"],
            "job": system.job.to_toml(),
        }
    built = build(job)
    plan(built, job.measure.observables)  # refuses what cannot be measured
    sampler = built.job.sampler
    if devices is not None:
        check_divisible(built.sampler.n_chains, devices)
    return {
        "sizes": _system_sizes(built.system)
        | {
            "n_parameters": built.vmc.n_parameters,
            "n_chains": sampler.n_chains,
            "n_samples": sampler.n_samples,
            "n_devices": devices or built.vmc._mesh.size,
        },
        "memory": built.memory(devices),
        "warnings": list(built.warnings),
        "job": built.job.to_toml(),
    }


def _system_sizes(system: Any) -> dict[str, Any]:
    table = system.hamiltonian
    return {
        "n_sites": system.n_sites,
        "dimension": table.space.n_states,
        "sector": table.space.label or "free",
        "n_moves": table.moves.n_moves,
        "real": table.is_real,
        "stoquastic": table.is_stoquastic,
    }


def _bytes(n: int) -> str:
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
