"""Wave functions: one family per file, all seen by the engine as `WaveFunction`.

`ANSATZE` maps the name used in a job file to its factory; a new family is added
by one line here, and the contract tests then run over it.  A family that cannot be
built invariant under every symmetry of the problem also says so in `symmetries`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ansatze.convac import convac
from ansatze.convnet import convnet
from ansatze.cp import cp
from ansatze.jastrow import jastrow
from ansatze.mlp import mlp
from ansatze.mps import mps
from ansatze.overlapping import overlapping_convac
from ansatze.products import DEFAULT, product, sum_
from ansatze.rac import rac
from ansatze.rbm import default_alpha, rbm
from ansatze.ttn import ttn
from vmc.base import Problem, WaveFunction

__all__ = [
    "ANSATZE",
    "convac",
    "convnet",
    "cp",
    "defaults",
    "jastrow",
    "mlp",
    "mps",
    "overlapping_convac",
    "product",
    "rac",
    "rbm",
    "sum_",
    "symmetries",
    "ttn",
]

#: Name in a job file -> factory(problem, **keys).
ANSATZE: Mapping[str, Callable[..., WaveFunction]] = MappingProxyType(
    {
        "rbm": rbm,
        "jastrow": jastrow,
        "mlp": mlp,
        "convac": convac,
        "cp": cp,
        "ttn": ttn,
        "mps": mps,
        "rac": rac,
        "overlapping_convac": overlapping_convac,
        "convnet": convnet,
        "product": product,
        "sum": sum_,
    }
)

TRANSLATIONS, SPIN_FLIP = "translations", "spin_flip"
_ALL = frozenset({TRANSLATIONS, SPIN_FLIP})
#: Families that honour neither, whatever their keys.
_NONE = frozenset({"convac", "cp", "ttn", "rac", "convnet", "marshall"})


def defaults(name: str, problem: Problem, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of an ansatz with everything that depends on the problem filled in.

    Args:
        name: a key of `ANSATZE`.
        problem: the problem.
        keys: what the job says.

    Returns:
        The keys to build with, worth recording.
    """
    resolved = dict(keys)
    if name == "rbm" and resolved.get("alpha") is None:
        resolved["alpha"] = default_alpha(problem)
    if name in ("product", "sum"):
        parts = resolved.get("parts", DEFAULT)
        resolved["parts"] = [defaults(str(p.get("name")), problem, p) for p in parts]
    return resolved


def symmetries(name: str, problem: Problem, keys: Mapping[str, Any]) -> frozenset[str]:
    """Which symmetries of a problem an ansatz can be built with.

    A symmetry that is left out here is not asked of the family by
    ``symmetry = "auto"``.

    Args:
        name: a key of `ANSATZE`; other names are refused elsewhere.
        problem: its space and lattice count, its symmetries do not.
        keys: what the job says, not checked yet.

    Returns:
        A subset of {"translations", "spin_flip"}: invariance under the translations
        of the lattice, and under the global spin flip.
    """
    if name in _NONE:
        return frozenset()
    if name in ("product", "sum"):
        parts = [p for p in keys.get("parts", DEFAULT) if isinstance(p, Mapping)]
        each = [symmetries(str(p.get("name")), problem, p) for p in parts]
        return _ALL.intersection(*each)
    if name not in ("mps", "overlapping_convac"):
        return _ALL
    shape = problem.shape
    closed = all(problem.periodic) and len(problem.periodic) > 0
    possible = shape is not None and math.prod(shape) == problem.space.n_sites
    if name == "mps":
        shared = keys.get("periodic") and keys.get("translation_invariant")
        possible = possible and bool(shared) and shape is not None and len(shape) == 1
    else:
        possible = possible and keys.get("stride", 1) == 1
    return frozenset({TRANSLATIONS}) if possible and closed else frozenset()
