"""Texts of a run for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmc.cli.console import Output, warn, with_error
from vmc.cli.progress import clock
from vmc.repairs import repairs_text


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
            ("samples", _samples(energy)),
        ]
    rows += _reference(report)
    rows += [
        ("parameters", str(report["n_parameters"])),
        ("steps", str(report["n_steps"])),
        ("wall time", clock(report["seconds"])),
        *_repairs(report),
        *_other_runs(report),
    ]
    output.pairs(rows)
    print_observables(output, report.get("observables", {}))


def print_observables(output: Output, observables: Mapping[str, Any]) -> None:
    """One table per observable, its labels first."""
    for name, columns in observables.items():
        output.text()
        output.text(f"[{name}]")
        # What else is known of the numbers is for --json.
        hidden = ("mean", "error", "purity", "purity_error", "lower_bound")
        labels = [key for key in columns if key not in hidden]
        rows = [
            (*(label_text(columns[key][k]) for key in labels), value_text(columns, k))
            for k in range(len(columns["mean"]))
        ]
        output.table((*labels, "value"), rows)


def label_text(value: Any) -> str:
    """A label: sites and vectors in brackets, numbers with few digits."""
    if value is None:
        return ""
    if isinstance(value, list):
        runs = _runs(value) if all(type(x) is int for x in value) else None
        return runs or f"({', '.join(f'{x:.5g}' for x in value)})"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _runs(sites: list[int]) -> str:
    """Sites as in a request: 0-3,8."""
    parts: list[list[int]] = []
    for i in sites:
        if parts and i == parts[-1][1] + 1:
            parts[-1][1] = i
        else:
            parts.append([i, i])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def value_text(columns: Mapping[str, Any], k: int) -> str:
    """A value with its error, or what is known instead."""
    mean, error = columns["mean"][k], columns["error"][k]
    scale = max((abs(v) for v in columns["mean"] if v is not None), default=0.0)
    if mean is not None and max(abs(mean), error or 0.0) <= 1e-13 * scale:
        return "0"  # a sum of others that cancel exactly, but for rounding
    if mean is None:
        bounds = columns.get("lower_bound")
        bound = None if bounds is None else bounds[k]
        return "-" if bound is None else f"> {bound:.4g}"
    return f"{mean:.10g}" if error is None else with_error(mean, error)


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


def _other_runs(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured together with other runs."""
    rows = []
    if found := report.get("fidelity"):
        value = with_error(found["mean"], found["error"])
        rows.append(("fidelity", f"{value} with {found['run']}"))
    if found := report.get("zero_variance"):
        error = found["error"]
        value = f"{found['energy']:.10g} (two points without errors)"
        if error is not None:
            value = with_error(found["energy"], error)
        if found["chi2_per_dof"] is not None:
            value += f", chi^2 / dof {found['chi2_per_dof']:.2g}"
        rows.append(("energy at zero variance", value))
    return rows


def _repairs(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was repaired on the way, if anything was."""
    text = repairs_text(report)
    return [("repaired", text)] if text else []


def _reference(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The ground-state energy and the distance to it, where it is known."""
    exact = report["exact"]
    if exact is None:
        return []
    return [
        ("exact energy", f"{exact['energy']:.10g} ({exact['source']})"),
        ("relative error", _maybe(report["relative_error"], "+.3e")),
    ]


def _samples(energy: Mapping[str, Any]) -> str:
    """Samples that counted, and what was left out before."""
    left_out = energy.get("burn_in") or 0
    note = f" ({left_out} draws per chain before)" if left_out else ""
    return f"{energy['n_samples']}{note}"


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
