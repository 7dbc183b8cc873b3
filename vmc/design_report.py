"""A design as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from vmc.design_floors import Certificate, Verdict, eps_rank, tail
from vmc.design_result import Design, finite


def headline(found: Design) -> str:
    """The system and its ground level in one line."""
    required, system = found.required, found.system
    name = found.job.lattice.name if found.job.lattice else "no lattice"
    model = found.job.hamiltonian.name or found.job.hamiltonian.terms
    energy = "unknown" if required.energy is None else f"{required.energy:.9g}"
    gap = "unknown" if required.gap is None else f"{required.gap:.5g}"
    return (
        f"{model} on {name}, N = {system.n_sites}: E0 = {energy}, gap = {gap} "
        f"({required.label}); target {found.target:g}"
    )


def table(found: Design) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows: a row per cut, a pair of columns per architecture."""
    names = _architectures(found)
    head = ("cut", "|A|", "kind", "S1", "S2", "chi1e-2", "chi1e-4", "from")
    head += tuple(x for name in names for x in (name, "floor"))
    rows = []
    for i, cut in enumerate(found.required.cuts):
        p = cut.spectrum
        cells = (
            sites_text(found.verdicts[i].region),
            str(len(cut.region)),
            cut.kind,
            number(cut.s1),
            number(cut.s2),
            "-" if p is None else str(eps_rank(p, 1e-2)),
            "-" if p is None else str(eps_rank(p, 1e-4)),
            cut.label,
        )
        for verdicts in names.values():
            cells += _held(verdicts[i])
        rows.append(cells)
    return head, rows


def _architectures(found: Design) -> Mapping[str, tuple[Verdict, ...]]:
    """The job's own architecture and all candidates."""
    names = {}
    if found.job.ansatz is not None:
        names[f"{found.architecture} (job)"] = found.verdicts
    return names | {one.family: one.verdicts for one in found.candidates}


def _held(one: Verdict) -> tuple[str, str]:
    if one.capacity is None:
        return "-", "-"
    floor = "?" if one.floor is None else f"{one.floor:.1e}" if one.floor else "0"
    mark = {"limited": " !", "trivial": " t"}.get(one.status or "", "")
    return f"{one.capacity.ln_upper:.3f}", floor + mark


def number(value: float | None) -> str:
    """An entropy in one cell."""
    return "-" if value is None else f"{value:.3f}"


def sites_text(region: tuple[int, ...]) -> str:
    """A region in one cell, by runs of sites: [0..3,7]."""
    runs: list[list[int]] = []
    for i in region:
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    parts = [f"{a}" if a == b else f"{a}..{b}" for a, b in runs]
    if len(parts) > 4:
        parts = [*parts[:3], "..", parts[-1]]
    return f"[{','.join(parts)}]"


def summary(found: Design) -> list[tuple[str, ...]]:
    """A row per architecture: keys, parameters, prediction, certificate."""
    rows = []
    for one in found.candidates:
        keys = ", ".join(f"{k}={_value(v)}" for k, v in one.keys.items())
        predicted = finite(one.predicted)
        rows.append(
            (
                one.family,
                keys,
                str(one.n_parameters),
                "?" if predicted is None else f"{predicted:.1e}",
                {True: "yes", False: "no", None: "?"}[one.reaches],
                certified(one.certificate),
                one.move_cost,
                one.basis,
            )
        )
    return rows


def _value(value: object) -> str:
    """A key in one cell; long lists by their first numbers."""
    if isinstance(value, list) and len(value) > 6:
        return f"[{', '.join(str(x) for x in value[:6])}, ..]"
    return str(value)


def certified(one: Certificate) -> str:
    """A certificate in one cell: "E - E0 >= 1.5e-3"."""
    if one.energy is not None:
        return f"{one.energy:.2e}" if one.energy else "0"
    return "none" if one.infidelity is None else f"1-F >= {one.infidelity:.2e}"


def fixed_rank_lines(found: Design) -> list[str]:
    """What states of fixed rank reach, beside what their floor says."""
    used = found.calibration
    if not used.states or used.n_sites != found.system.n_sites:
        return []
    half = tuple(range(found.system.n_sites // 2))
    cut = next((c for c in found.required.cuts if c.region == half), None)
    lines = []
    for one in used.states:
        above = one.energy - (used.ground or 0.0)
        text = f"rank {one.rank} across the half cut: best E - E0 = {above:.3g}"
        if cut is not None and cut.spectrum is not None and found.required.gap:
            floor = found.required.gap * tail(cut.spectrum, one.rank)
            text += f", certified >= {floor:.3g}"
        lines.append(text)
    return lines
