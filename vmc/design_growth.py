"""How to enlarge a trained ansatz where its narrowest cut is: keys and a job."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vmc import factories, registry
from vmc.assembly import Built
from vmc.base import Params, WaveFunction
from vmc.design_families import FAMILIES, Needs, bonds_within, channels_of
from vmc.design_floors import tail
from vmc.earlier import wavefunction_of
from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import plain, recorded, to_toml

#: The key that says how large a family is; only these grow with psi unchanged.
_SIZES: Mapping[str, str] = {
    "convac": "channels",
    "ttn": "bond_dimension",
    "mps": "bond_dimension",
    "cp": "rank",
    "rac": "width",
    "rbm": "alpha",
}
#: Keys of [run] that belong to the old run alone.
_OWN = ("out", "grow", "chunk", "start_from", "steps_per_dispatch")
#: The index of a node of an arithmetic circuit: h<level>.<node>.
_NODE = re.compile(r"h(\d+)\.\d+$")


@dataclasses.dataclass(frozen=True, eq=False)
class Growth:
    """A larger ansatz that starts from the trained psi.

    Attributes:
        where: what has to grow, in words: "level 2", "bond_dimension".
        keys: of [ansatz], the sizes that change.
        wavefunction: the larger one.
        params: its parameters, with the same psi.
    """

    where: str
    keys: dict[str, Any]
    wavefunction: WaveFunction
    params: Params


def levels_of(indices: Sequence[str]) -> list[int]:
    """The levels of a circuit to which the indices of a cut belong."""
    found = [m for name in indices if (m := _NODE.match(name))]
    return sorted({int(m.group(1)) for m in found})


def growth(
    built: Built,
    params: Params,
    indices: Sequence[str],
    needs: Needs,
    target: float,
    key: jax.Array,
) -> Growth | None:
    """The next size of a trained ansatz, or None where it cannot grow.

    Args:
        built: the objects of the run.
        params: its parameters.
        indices: names of the indices of its narrowest cut.
        needs: what the ground state needs of a tree and of a chain.
        target: relative energy error aimed at.
        key: of the noise in new channels.
    """
    section = built.job.ansatz
    assert section is not None
    name, old = str(section.name), section.keys
    if factories.is_user_code(section.name) or name not in _SIZES:
        return None
    size = _SIZES[name]
    now, wanted = size_of(name, old, params), _recommended(name, old, needs, target)
    levels: list[int] = []
    if name == "convac":
        levels = levels_of(indices)
        if has_bonds(name, old):
            least = _without_worst_bond(now, needs)
            levels = [i for i, r in enumerate(now) if least[i] > r] or levels
            wanted = [max(pair) for pair in zip(least, wanted or least, strict=True)]
    keys = {size: _larger(now, levels, wanted)}
    new = old | keys
    job = built.job.replace({"ansatz": keys})
    try:
        if registry.ansatz_change(name, built.problem, old, new) != "grow":
            return None
        larger = registry.resized_params(name, built.problem, old, new, params, key)
        wavefunction = wavefunction_of(job, built.problem)[0]
    except JobError:
        return None
    named = ", ".join(str(i) for i in levels)
    where = f"level{'s' * (len(levels) > 1)} {named}" if levels else size
    return Growth(where, keys, wavefunction, larger)


def has_bonds(name: str, keys: Mapping[str, Any]) -> bool:
    """Whether an ansatz is described by the bonds of a binary tree or of a chain."""
    if name not in FAMILIES or FAMILIES[name].basis != "bonds":
        return False
    return keys.get("depth", 1) == 1 and keys.get("window", 2) == 2


def size_of(name: str, old: Mapping[str, Any], params: Params) -> Any:
    """The size that a job gave, or left to the family.

    Args:
        name: a family that can grow.
        old: its keys.
        params: its parameters.
    """
    if name == "convac":
        n_levels = sum(str(leaf).startswith("W") for leaf in params)
        return [int(params[f"W{i}"].shape[-2]) for i in range(n_levels)]
    if old.get(_SIZES[name]) is None:
        return max(int(leaf.shape[1]) for leaf in jax.tree.leaves(params))
    return old[_SIZES[name]]


def _without_worst_bond(channels: Sequence[int], needs: Needs) -> list[int]:
    """Channels with which the bond that loses most loses a tenth of that.

    The levels that these exceed are those to grow first: a block of the tree needs
    channels on its own level and, in generic tensors, on those beside it.
    """
    chis = list(bonds_within(needs, channels))
    losses = [
        sum(tail(p, chi) for p in level)
        for level, chi in zip(needs.levels, chis, strict=True)
    ]
    worst = max(range(len(losses)), key=losses.__getitem__)
    spectra = needs.levels[worst]
    while sum(tail(p, chis[worst]) for p in spectra) > losses[worst] / 10:
        chis[worst] += 1
    return [max(pair) for pair in zip(channels, channels_of(chis, max(needs.dims)))]


def _larger(now: Any, levels: Sequence[int], wanted: Any | None) -> Any:
    """The recommended size, and at least twice the old one where the cut is."""
    if isinstance(now, int):
        return max(2 * now, wanted or 0)
    if wanted is not None and len(wanted) == len(now):
        more = [max(a, b) for a, b in zip(now, wanted, strict=True)]
        if levels and all(more[i] > now[i] for i in levels):
            return more
    grows = levels or range(len(now))
    return [2 * r if i in grows else r for i, r in enumerate(now)]


def _recommended(
    name: str, old: Mapping[str, Any], needs: Needs, target: float
) -> Any | None:
    """What the design of this family would take for the target, or None."""
    if not has_bonds(name, old):
        return None
    rungs = FAMILIES[name].rungs(needs)
    good = [r for r in rungs if r.predicted is not None and r.predicted <= target]
    rung = good[0] if good else rungs[-1]
    return rung.keys[_SIZES[name]]


def grown_job(job: Job, keys: Mapping[str, Any], run: Path) -> str:
    """A job file that continues a run with larger sizes, its psi unchanged at first."""
    tables = job.replace({"ansatz": dict(keys)}).model_dump(
        exclude_defaults=True, exclude_none=True
    )
    tables = {k: v for k, v in tables.items() if v != {}}
    kept = {k: v for k, v in tables.get("run", {}).items() if k not in _OWN}
    if states := kept.get("orthogonal_to"):
        kept["orthogonal_to"] = [str((job.folder / p).resolve()) for p in states]
    tables["run"] = kept | {"start_from": str(run.resolve())}
    order = ("seed", "precision", "lattice", "hamiltonian", "ansatz")
    ordered = {k: tables[k] for k in order if k in tables}
    return to_toml(recorded(plain(ordered | tables)))
