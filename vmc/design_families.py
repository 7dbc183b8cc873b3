"""Families of wave functions as ladders of sizes, and what each rung is worth.

A matrix product state, a tree and the circuits that contain them are judged by their
bonds: a state truncated to bonds chi_e has 1 - F <= sum_e w_e(chi_e), and
E - E0 = kappa (1 - F) with kappa measured on optimised states of fixed rank.  Families
whose amplitudes no bond describes are trained on a small lattice instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vmc.design_floors import tail
from vmc.errors import JobError
from vmc.jobfile import suggest

#: Discarded weights below this are numerical noise of the spectra.
_NOTHING = 1e-12
#: Longest path of the greedy search, and its largest step of one bond.
_MAX_PATH, _MAX_STEP = 400, 12
#: Largest bond dimension on a ladder.
_MAX_BOND = 512


class Needs(NamedTuple):
    """What a ground state needs of a tree and of a chain.

    Attributes:
        dims: local dimensions of the leaves, in their order.
        levels: spectra of the blocks of 2, 4, ... leaves, one tuple per level; of two
            complementary halves one.
        bonds: spectra of the sites left of every bond of the chain.
        worst: the largest spectra of all cuts, sublattices and random ones too.
        scale: kappa / |E0|, relative energy per infidelity.
        repeats: True if all blocks of a level may share their weights.
    """

    dims: tuple[int, ...]
    levels: tuple[tuple[np.ndarray, ...], ...]
    bonds: tuple[np.ndarray, ...]
    worst: tuple[np.ndarray, ...]
    scale: float
    repeats: bool


class Rung(NamedTuple):
    """One size of a family.

    Attributes:
        keys: of [ansatz].
        predicted: relative energy error that the size allows, or None where only
            training can tell.
    """

    keys: Mapping[str, Any]
    predicted: float | None


class Family(NamedTuple):
    """A family as a ladder, smallest rung first.

    Attributes:
        name: as registered.
        rungs: needs -> rungs.
        basis: "bonds", or "training" where a small lattice has to be tried.
        move_cost: operations of one spin flip.
        ordered: whether it takes the key ``site_order``.
    """

    name: str
    rungs: Callable[[Needs], list[Rung]]
    basis: str
    move_cost: str
    ordered: bool = False


def chain_tail(needs: Needs, bond: int) -> float:
    """Sum of the discarded weights of an open chain with one bond dimension."""
    return float(sum(tail(p, bond) for p in needs.bonds))


def tree_tail(needs: Needs, chis: Sequence[int]) -> float:
    """Sum of the discarded weights of a tree.

    Args:
        needs: spectra.
        chis: bonds of the blocks of 2, 4, ... leaves.
    """
    pairs = zip(needs.levels, chis, strict=True)
    return float(sum(tail(p, chi) for level, chi in pairs for p in level))


def merge_rank(below: int, above: int) -> int:
    """Terms in which a generic tensor of two lower and one upper bond splits.

    The expected rank ceil(ci^2 co / (2 ci + co - 2)) of the canonical polyadic form,
    at least max(ci, co), the rank that every bond needs, and at most the number that
    always suffices.
    """
    expected = -(-below * below * above // max(1, 2 * below + above - 2))
    most = min(below * below, below * above)
    return min(max(expected, below, above), max(most, below, above))


def channels_of(chis: Sequence[int], local_dim: int) -> list[int]:
    """Channels r_0, r_1, ... of a ConvAC with windows of two for bonds of its blocks.

    Args:
        chis: bonds of the blocks of 2, 4, ... leaves, without the root.
        local_dim: d of a leaf.
    """
    bonds = [local_dim, *chis, 1]
    return [merge_rank(a, b) for a, b in zip(bonds, bonds[1:], strict=False)]


def tree_parameters(needs: Needs, channels: Sequence[int]) -> int:
    """Numbers in a ConvAC with windows of two, shared or not as the state repeats."""
    n, total = len(needs.dims), 0
    sizes = [max(needs.dims), *channels]
    for before, after in zip(sizes, channels, strict=False):
        total += (min(2, n) if needs.repeats else n) * before * after
        n = -(-n // 2)
    return total + channels[-1]


def greedy_bonds(needs: Needs) -> list[tuple[int, ...]]:
    """Bonds of the blocks of 2, 4, ... leaves along a path of falling loss.

    From one each, the bond whose increase lowers the discarded weight most per added
    parameter is raised, by as much as serves that best.
    """
    d = max(needs.dims)
    chis = [1] * len(needs.levels)
    most = [max((len(p) for p in level), default=1) for level in needs.levels]
    path = [tuple(chis)]
    loss = [sum(tail(p, 1) for p in level) for level in needs.levels]
    while sum(loss) > _NOTHING and len(path) < _MAX_PATH:
        size = tree_parameters(needs, channels_of(chis, d))
        best: tuple[float, int, int, float] | None = None
        for level, spectra in enumerate(needs.levels):
            top = min(chis[level] + _MAX_STEP, most[level], _MAX_BOND)
            for chi in range(chis[level] + 1, top + 1):
                new = sum(tail(p, chi) for p in spectra)
                trial = [*chis[:level], chi, *chis[level + 1 :]]
                added = tree_parameters(needs, channels_of(trial, d)) - size
                gain = (loss[level] - new) / max(1, added)
                if loss[level] - new > 0 and (best is None or gain > best[0]):
                    best = gain, level, chi, new
        if best is None:
            break
        _, level, chis[level], loss[level] = best
        path.append(tuple(chis))
    return path


def bonds_within(needs: Needs, channels: Sequence[int]) -> tuple[int, ...]:
    """Bonds of the blocks of 2, 4, ... leaves that a ConvAC of given channels holds.

    The opposite of `channels_of`: from one each, the bond whose increase lowers the
    discarded weight most is raised, as long as the channels suffice.

    Args:
        needs: spectra.
        channels: r_0, r_1, ... of windows of two.
    """
    d, chis = max(needs.dims), [1] * len(needs.levels)
    while True:
        best: tuple[float, int, int] | None = None
        for level, spectra in enumerate(needs.levels):
            lost = sum(tail(p, chis[level]) for p in spectra)
            for chi in range(chis[level] + 1, chis[level] + _MAX_STEP + 1):
                trial = channels_of([*chis[:level], chi, *chis[level + 1 :]], d)
                if any(a > b for a, b in zip(trial, channels, strict=True)):
                    continue
                gain = lost - sum(tail(p, chi) for p in spectra)
                if gain > 0 and (best is None or gain > best[0]):
                    best = gain, level, chi
        if best is None:
            return tuple(chis)
        _, level, chis[level] = best


def expected_loss(name: str, size: Any, needs: Needs) -> float | None:
    """Discarded weight of a family at some size, or None where no bonds describe it.

    Args:
        name: of the family.
        size: channels of a ConvAC with windows of two, bond dimension of an mps or ttn,
            width of a rac of depth 1.
        needs: spectra.
    """
    if name == "convac":
        return tree_tail(needs, bonds_within(needs, size))
    if name == "ttn":
        return tree_tail(needs, [size] * len(needs.levels))
    if name == "mps":
        return chain_tail(needs, size)
    if name == "rac":
        return chain_tail(needs, max(1, size // max(needs.dims)))
    return None


def _falling(rungs: list[Rung]) -> list[Rung]:
    """Rungs that are better than every smaller one."""
    kept: list[Rung] = []
    for rung in rungs:
        if not kept or rung.predicted is None:
            kept.append(rung)
        elif kept[-1].predicted is None or rung.predicted < kept[-1].predicted:
            kept.append(rung)
    return kept


def _convac(needs: Needs) -> list[Rung]:
    d, sharing = max(needs.dims), "window" if needs.repeats else "none"
    rungs = []
    for chis in greedy_bonds(needs):
        keys = {"channels": channels_of(chis, d), "window": 2, "sharing": sharing}
        rungs.append(Rung(keys, needs.scale * tree_tail(needs, chis)))
    return _falling(rungs)


def _bonds(spectra: Sequence[np.ndarray]) -> range:
    most = max((len(p) for p in spectra), default=1)
    return range(1, min(most, _MAX_BOND) + 1)


def _ttn(needs: Needs) -> list[Rung]:
    spectra = [p for level in needs.levels for p in level]
    rungs = []
    for bond in _bonds(spectra):
        loss = tree_tail(needs, [bond] * len(needs.levels))
        rungs.append(Rung({"bond_dimension": bond}, needs.scale * loss))
    return _falling(rungs)


def _mps(needs: Needs) -> list[Rung]:
    return _falling(
        [
            Rung({"bond_dimension": bond}, needs.scale * chain_tail(needs, bond))
            for bond in _bonds(needs.bonds)
        ]
    )


def _rac(needs: Needs) -> list[Rung]:
    """A width of d D holds every matrix product state of bond D."""
    d = max(needs.dims)
    return [
        Rung(
            {
                "width": d * int(rung.keys["bond_dimension"]),
                "depth": 1,
                "site_dependent": True,
            },
            rung.predicted,
        )
        for rung in _mps(needs)
    ]


def _cp(needs: Needs) -> list[Rung]:
    """At least the rank that every cut needs; whether it suffices, no cut tells."""
    most = max((len(p) for p in needs.worst), default=1)
    ranks = sorted({min(most, math.ceil(2 ** (k / 2))) for k in range(0, 40)})
    return [Rung({"rank": rank}, None) for rank in ranks]


def _rbm(needs: Needs) -> list[Rung]:
    return [Rung({"alpha": alpha}, None) for alpha in (1, 2, 4, 8, 16)]


def _cnn(needs: Needs) -> list[Rung]:
    """Channels, kernel and residual blocks of two convolutions each."""
    sizes = ((4, 3, 0), (6, 3, 1), (8, 3, 2), (12, 3, 3), (16, 3, 4))
    return [
        Rung({"channels": c, "kernel_size": k, "depth": n}, None) for c, k, n in sizes
    ]


def _overlapping(needs: Needs) -> list[Rung]:
    """Channels, kernel and depth of overlapping products."""
    sizes = ((4, 2, 1), (4, 3, 1), (4, 3, 2), (8, 3, 3), (12, 3, 4))
    return [
        Rung({"channels": r, "kernel_size": k, "depth": n}, None) for r, k, n in sizes
    ]


FAMILIES: Mapping[str, Family] = {
    one.name: one
    for one in (
        Family("convac", _convac, "bonds", "log2(N) r^2", True),
        Family("ttn", _ttn, "bonds", "log2(N) D^3", True),
        Family("mps", _mps, "bonds", "D^2", True),
        Family("rac", _rac, "bonds", "R^2", True),
        Family("cp", _cp, "necessary", "Z log2(N)"),
        Family("rbm", _rbm, "training", "alpha N"),
        Family("overlapping_convac", _overlapping, "training", "(L K)^dim K^dim r^2"),
        Family("cnn", _cnn, "training", "N L K^dim c^2"),
    )
}


#: Families of a design that names none: the others are tried slowly, or hold no more.
DEFAULT = ("convac", "ttn", "mps", "rbm", "cnn")


def families_of(
    names: Sequence[str] | None, registered: Mapping[str, Any]
) -> list[Family]:
    """The families asked for; by default those of `DEFAULT`.

    Raises:
        JobError: one is not known here, or not registered.
    """
    known = [name for name in FAMILIES if name in registered]
    if names is None:
        return [FAMILIES[name] for name in known if name in DEFAULT]
    for name in names:
        if name not in known:
            raise JobError(
                f"the family {name!r} cannot be recommended{suggest(name, known)}"
            )
    return [FAMILIES[name] for name in dict.fromkeys(names)]
