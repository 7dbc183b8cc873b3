"""Imports point downwards only, so that every layer can be read without the next."""

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: The layers of the engine, lowest first.  A new module needs a place here; it may
#: import from below, and from its own layer as long as that makes no cycle.
LAYERS = [
    {"base", "errors", "launch", "memory", "elementary"},
    {"space", "sectors", "keys", "distributed", "cluster", "chunking", "binding"}
    | {"blocked", "solvers", "traced", "flops", "spread"},
    {"stats", "streaming", "series", "records"}
    | {"flax_modules", "wavefunction", "moves"},
    {"metropolis", "samplers", "independent", "tempering", "surrogate", "one_kernel"}
    | {"estimators", "factors", "geometry"},
    {"precondition", "optimizers", "healing", "walkers", "penalties", "step"}
    | {"damping", "starts"}
    | {"observables", "observables_operators", "observables_states"}
    | {"observables_correlations", "swap", "swap_ratio"}
    | {"extrapolate"},
    {"driver", "measurement", "checkpoint", "runlog", "provenance", "journal"}
    | {"overlaps"},
    {
        "jobfile",
        "sections",
        "sections_base",
        "sections_optimizer",
        "sections_run",
        "job",
        "changes",
        "factories",
        "registry",
        "resolve",
        "symmetry",
        "sampling",
    }
    | {"system", "earlier", "orthogonal", "assembly", "grow"}
    | {
        "session",
        "watchdog",
        "signals",
        "health",
        "report",
        "repairs",
        "results",
        "stopping",
        "runs",
        "schema_docs",
        "design",
        "sweep",
        "sweep_grid",
        "sweep_plan",
        "sweep_state",
        "sweep_run",
        "sweep_table",
        "sweep_fit",
        "sweep_plot",
        "bench",
        "fit",
    }
    | {"bench_report", "bench_report_blocks", "bench_report_figures"}
    | {"bench_report_markdown", "bench_report_model", "bench_report_page"}
    | {"bench_report_png", "bench_report_rows", "bench_report_svg"}
    | {"bench_report_table", "bench_report_text"}
    | {"design_cuts", "design_spectra", "design_runs", "design_laws"}
    | {"design_required", "design_floors", "design_fixed_rank", "design_energies"}
    | {"design_families", "design_calibrate", "design_recommend", "design_geometry"}
    | {"design_result", "design_report", "design_plot", "design_needs"}
    | {"design_sweeps", "design_sector_rank", "design_realised", "design_verdict"}
    | {"design_growth", "design_after", "design_after_report", "design_plot_after"}
    | {"exact_values", "profile", "profile_parts"}
    | {"observables_names", "observables_plan", "observables_spins"}
    | {"observables_energies", "observables_wavefunction", "observables_run"}
    | {"observables_runs", "observables_plot"}
    | {"bench_problems", "bench_ansatze", "bench_suite", "bench_pace", "bench_cell"}
    | {"bench_rules", "bench_results", "bench_run", "bench_compare", "bench_varbench"}
    | {"bench_peers"},
    {"cli", "__main__"},
]
LAYER = {name: n for n, names in enumerate(LAYERS) for name in names}

#: What the two sibling packages may import besides themselves and the
#: standard library.
ALLOWED = {
    "hamiltonians": {"vmc.base", "vmc.errors", "vmc.sectors", "vmc.space"}
    | {"numpy", "scipy", "networkx", "jax", "matplotlib"},
    "ansatze": {"vmc.base", "vmc.elementary", "vmc.errors", "vmc.space"}
    | {"vmc.chunking", "vmc.wavefunction"}
    | {"numpy", "networkx", "jax", "flax"},
}

FILES = [p for name in ("vmc", *ALLOWED) for p in sorted((ROOT / name).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, inside functions too.

    ``from a import b`` gives "a.b": only the file system knows whether b is a module.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(one + ".") for one in allowed)


def module(path: Path) -> str:
    """Top part of the module of an engine file: "driver", "cli", "" for vmc itself."""
    part = path.relative_to(ROOT / "vmc").parts[0].removesuffix(".py")
    return "" if part == "__init__" else part


def target(name: str) -> str:
    """Engine module that ``vmc.x.y`` names; "" where x is no module but a name."""
    part = (name.split(".") + [""])[1]
    found = (ROOT / "vmc" / f"{part}.py").exists() or (ROOT / "vmc" / part).is_dir()
    return part if found else ""


def test_every_engine_module_has_a_layer() -> None:
    found = {module(p) for p in FILES if p.is_relative_to(ROOT / "vmc")}
    assert found - {""} <= LAYER.keys(), "give the new module a layer in LAYERS"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        top = name.partition(".")[0]
        if top == "mpi4py" or within(name, {"jax.distributed"}):
            assert path == ROOT / "vmc" / "cluster.py", f"{name} belongs there"
        if package in ALLOWED and top not in {package, *sys.stdlib_module_names}:
            assert within(name, ALLOWED[package]), f"{package} must not import {name}"
        if package == "vmc" and top in ALLOWED:
            assert module(path) == "registry", f"{name} comes through vmc.registry"
        if package == "vmc" and top == "vmc" and module(path) != "":
            own, other = module(path), target(name)
            assert other, f"{path.name} imports the facade vmc ({name})"
            assert LAYER[other] <= LAYER[own], f"{own} is below {other}"


def test_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if path.is_relative_to(ROOT / "vmc") and (own := module(path)):
            found = {target(n) for n in imports(path) if within(n, {"vmc"})}
            graph.setdefault(own, set()).update(found - {own})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError
