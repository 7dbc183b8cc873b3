"""What became of a run, as plain data, as a table and as a job that goes on."""

from __future__ import annotations

from typing import Any

from vmc.design_after import After
from vmc.design_growth import grown_job
from vmc.design_report import certified, number, sites_text
from vmc.design_verdict import CHANNELS, UNDECIDED
from vmc.jobfile import plain


def headline(found: After) -> str:
    """The verdict in one line, with what to do."""
    verdict = found.decision.verdict
    if verdict != CHANNELS:
        return verdict
    if found.growth is None:
        where = ", ".join(found.bottleneck[:4])
        return f"{verdict}: take a larger ansatz" + (f" ({where})" if where else "")
    keys = ", ".join(f"{k} = {v}" for k, v in found.growth.keys.items())
    return f"{verdict}: grow {found.growth.where} ({keys})"


def as_json(found: After) -> dict[str, Any]:
    """Everything as plain data.

    ``verdict``, ``headline`` and ``reasons``; ``cuts`` with what is required, possible
    and realised; ``evidence``; ``growth`` with the job that goes on, or null.
    """
    needed, certain = found.required, found.certificate
    return plain(
        {
            "run": str(found.folder),
            "step": found.step,
            "n_sites": found.built.n_sites,
            "architecture": str(found.built.job.ansatz.name)  # pyright: ignore[reportOptionalMemberAccess]
            if found.built.job.ansatz
            else None,
            "n_parameters": found.built.vmc.n_parameters,
            "target": found.target,
            "energy": {"mean": found.energy, "error": found.energy_error},
            "ground_energy": needed.energy,
            "gap": needed.gap,
            "label": needed.label,
            "infidelity": found.infidelity,
            "verdict": found.decision.verdict,
            "headline": headline(found),
            "reasons": list(found.decision.reasons),
            "evidence": found.evidence._asdict(),
            "certified_infidelity": certain.infidelity,
            "certified_energy_floor": certain.energy,
            "why_not_certified": certain.why_not,
            "bottleneck": list(found.bottleneck),
            "cuts": _cuts(found),
            "growth": _growth(found),
            "notes": list(found.notes),
        }
    )


def _cuts(found: After) -> list[dict[str, Any]]:
    rows = zip(found.required.cuts, found.verdicts, found.realised, strict=True)
    return [
        {
            "region": list(one.region),
            "kind": cut.kind,
            "s1": cut.s1,
            "s2": cut.s2,
            "label": cut.label,
            "realised_s1": have.s1,
            "realised_s2": have.s2,
            "realised_s2_error": have.error,
            "realised_label": have.label,
            "log_capacity": None if one.capacity is None else one.capacity.ln_upper,
            "indices": [] if one.capacity is None else list(one.capacity.cut),
            "utilisation": one.utilisation,
            "floor": one.floor,
            "status": one.status,
        }
        for cut, one, have in rows
    ]


def _growth(found: After) -> dict[str, Any] | None:
    if found.growth is None:
        return None
    return {
        "where": found.growth.where,
        "keys": found.growth.keys,
        "captured": found.after_growth,
        "job": job_toml(found),
    }


def job_toml(found: After) -> str | None:
    """A job that starts from this run with the next size, or None without one."""
    if found.growth is None:
        return None
    return grown_job(found.built.job, found.growth.keys, found.folder)


def table(found: After) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows: required, realised and possible entanglement of every cut."""
    head = ("cut", "|A|", "kind", "S1 needed", "S1 has", "S2 needed", "S2 has")
    head += ("ln cap", "floor", "status", "from")
    rows = []
    for cut, one, have in zip(
        found.required.cuts, found.verdicts, found.realised, strict=True
    ):
        error = f" +- {have.error:.1g}" if have.error else ""
        held = None if one.capacity is None else one.capacity.ln_upper
        rows.append(
            (
                sites_text(one.region),
                str(len(one.region)),
                cut.kind,
                number(cut.s1),
                number(have.s1),
                number(cut.s2),
                number(have.s2) + error,
                number(held),
                "-" if one.floor is None else f"{one.floor:.1e}" if one.floor else "0",
                one.status or "-",
                f"{cut.label}, {have.label}",
            )
        )
    return head, rows


def lines(found: After) -> list[str]:
    """The energy, what it could have been, and the verdict with its reasons."""
    known, has = found.evidence, found.energy
    error = f" +- {found.energy_error:.1g}" if found.energy_error else ""
    out = [f"E = {has:.9g}{error} after {found.step} steps"]
    if known.error is not None:
        out[0] += f", E - E0 = {known.error:.3g} (target {known.target:.3g})"
    if found.infidelity is not None:
        out[0] += f", 1 - F = {found.infidelity:.3g}"
    why = found.certificate.why_not
    text = certified(found.certificate)
    out.append(f"certified E - E0 >= {text}{f' ({why})' if why else ''}")
    out += [f"- {reason}" for reason in found.decision.reasons]
    helps = found.decision.verdict in (CHANNELS, UNDECIDED)
    if found.growth is not None and found.after_growth is not None and helps:
        keys = ", ".join(f"{k} = {v}" for k, v in found.growth.keys.items())
        out.append(
            f"- with {keys}, changes of the parameters would follow "
            f"{found.after_growth:.0%} of (H - E) psi"
        )
    if found.bottleneck:
        out.append(f"- narrowest cut: {', '.join(found.bottleneck[:4])}")
    return [*out, headline(found)]
