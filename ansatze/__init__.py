"""Wave functions: one family per file, all seen by the engine as `WaveFunction`.

`ANSATZE` maps the name used in a job file to its factory; a new family is added
by one line here, and the contract tests then run over it.  A family that cannot be
built invariant under every symmetry of the problem also says so in `symmetries`; psi is
projected where a job asks for quantum numbers that the family has not (`symmetrize`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ansatze.arnn_conv import arnn_conv, default_depth
from ansatze.arnn_dense import arnn_dense
from ansatze.arnn_recurrent import arnn_rnn
from ansatze.capacity import (
    IndexGraph,
    capacities,
    capacity,
    index_graph,
    light_cone_capacity,
)
from ansatze.convac import convac
from ansatze.convnet import convnet
from ansatze.convnext import convnext
from ansatze.cp import cp
from ansatze.gcnn import gcnn
from ansatze.jastrow import jastrow
from ansatze.mlp import mlp
from ansatze.mps import mps
from ansatze.overlapping import overlapping_convac
from ansatze.products import DEFAULT, product, sum_
from ansatze.rac import rac
from ansatze.rbm import default_alpha, rbm
from ansatze.resnet import cnn
from ansatze.symmetrized import symmetrize, symmetrized
from ansatze.ttn import ttn
from ansatze.vit import vit
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError

__all__ = [
    "ANSATZE",
    "IndexGraph",
    "arnn_conv",
    "arnn_dense",
    "arnn_rnn",
    "builds_in",
    "capacities",
    "capacity",
    "cnn",
    "convac",
    "convnet",
    "convnext",
    "cp",
    "defaults",
    "gcnn",
    "index_graph",
    "jastrow",
    "light_cone_capacity",
    "mlp",
    "mps",
    "overlapping_convac",
    "product",
    "rac",
    "rbm",
    "sum_",
    "symmetries",
    "symmetrize",
    "symmetrized",
    "ttn",
    "vit",
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
        "cnn": cnn,
        "convnext": convnext,
        "gcnn": gcnn,
        "vit": vit,
        "arnn_dense": arnn_dense,
        "arnn_conv": arnn_conv,
        "arnn_rnn": arnn_rnn,
        "product": product,
        "sum": sum_,
    }
)

TRANSLATIONS, SPIN_FLIP = "translations", "spin_flip"
_ALL = frozenset({TRANSLATIONS, SPIN_FLIP})
#: Families that honour neither, whatever their keys.
_NONE = frozenset({"convac", "cp", "ttn", "rac", "convnet", "marshall"})
#: Families that average over translations at the cost of as many evaluations: only
#: where a job asks for them by name.
_ON_REQUEST = frozenset({"arnn_dense", "arnn_conv", "arnn_rnn"})
#: Families that read ``problem.characters``, and ``problem.flip_character``: they have
#: them or refuse.  The others know characters of 1 only.
_WITH_CHARACTERS = frozenset({"cnn", "convnext", "gcnn", "vit"}) | _ON_REQUEST
_WITH_PARITY = _WITH_CHARACTERS


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
    if name == "arnn_conv" and resolved.get("depth") is None:
        resolved["depth"] = default_depth(problem, resolved.get("kernel_size", 3))
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
    if name in _ON_REQUEST:
        return frozenset({SPIN_FLIP})
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
        possible = possible and keys.get("site_order") is None
    else:
        possible = possible and keys.get("stride", 1) == 1
    return frozenset({TRANSLATIONS}) if possible and closed else frozenset()


def builds_in(name: str, problem: Problem, keys: Mapping[str, Any]) -> bool:
    """Whether an ansatz has all symmetries of a problem by construction.

    Where it has not, `ansatze.symmetrized` projects its psi.

    Args:
        name: a key of `ANSATZE`; any other name gives False.
        problem: with ``symmetry``, ``characters``, ``spin_flip``, ``flip_character``.
        keys: keys of the family.
    """
    if name not in ANSATZE:
        return False
    if problem.characters is not None and name not in _WITH_CHARACTERS:
        return False
    if problem.spin_flip:
        if problem.flip_character != 1 and name not in _WITH_PARITY:
            return False
        if SPIN_FLIP not in symmetries(name, problem, keys):
            return False
    if name in ("rbm", "jastrow", "mlp"):
        return True
    try:
        ANSATZE[name](problem, **keys)
    except JobError:
        return False  # the family says itself what it cannot have
    return True
