"""Texts of a run for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmc.cli.console import Output, warn, with_error
from vmc.cli.progress import clock


def headline(built: Any, folder: Path) -> str:
    """What runs, in one line."""
    job, space = built.job, built.hamiltonian.space
    sector = f", {space.label}" if space.label else ""
    return (
        f"{folder}: {built.n_sites} sites{sector}, {built.vmc.n_parameters} "
        f"{'complex' if built.vmc.has_complex_parameters else 'real'} parameters, "
        f"{job.sampler.n_chains} walkers ({job.sampler.name}), "
        f"{job.optimizer.name}, {job.run.n_steps} steps"
    )


def print_report(output: Output, report: Mapping[str, Any]) -> None:
    """The final numbers as a table."""
    energy, n_sites = report["energy"], report["n_sites"]
    rows = []
    if energy is not None:
        mean, error = energy["mean"], energy["error"]
        rows += [
            ("energy", with_error(mean, error)),
            ("energy per site", with_error(mean / n_sites, error / n_sites)),
            ("variance", f"{energy['variance']:.4g}"),
            ("V-score", _maybe(report["v_score"], ".3e")),
            ("tau, R-hat", f"{energy['tau']:.2f}, {_maybe(energy['r_hat'], '.4f')}"),
            ("samples", str(energy["n_samples"])),
        ]
    rows += _reference(report)
    rows += [
        ("parameters", str(report["n_parameters"])),
        ("steps", str(report["n_steps"])),
        ("wall time", clock(report["seconds"])),
    ]
    output.pairs(rows)


def print_exact(output: Output, report: Mapping[str, Any]) -> None:
    """What is known without samples, as a table; warnings go to standard error."""
    energy, entropy = report["energy"]["mean"], report["entropy"]
    region = entropy["region"]
    cut = "sites " + ", ".join(map(str, region))
    if region == list(range(len(region))):
        cut = f"first {len(region)} sites"
    warn(report["warnings"])
    output.pairs(
        [
            ("energy", f"{energy:.12g} (exact for these parameters)"),
            ("energy per site", f"{report['energy_per_site']:.12g}"),
            *_reference(report),
            (
                "S1, S2",
                f"{_maybe(entropy['s1'], '.8g')}, {_maybe(entropy['s2'], '.8g')}"
                f" nats ({cut})",
            ),
            ("ln <psi|psi>", f"{report['log_norm']:.10g}"),
            ("parameters", str(report["n_parameters"])),
            ("steps", str(report["n_steps"])),
        ]
    )


def _reference(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The ground-state energy and the distance to it, where it is known."""
    exact = report["exact"]
    if exact is None:
        return []
    return [
        ("exact energy", f"{exact['energy']:.10g} ({exact['source']})"),
        ("relative error", _maybe(report["relative_error"], "+.3e")),
    ]


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
