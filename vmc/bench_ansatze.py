"""Ansatze that a suite may name, and their sizes for a wanted number of parameters.

Every registered family is a label and takes its own defaults; nets whose moves cost a
full evaluation take fewer walkers and single precision for the amplitudes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vmc import registry
from vmc.errors import JobError
from vmc.jobfile import suggest

#: The label that takes the settings of the problem itself.
DOCUMENTED = "documented"
#: Nets without a cheap move: as the examples have them.
_DEEP = ("mlp", "convnet", "cnn", "convnext", "gcnn", "vit")
_DEEP_SETTINGS = {
    "precision": "mixed",
    "sampler": {"n_chains": 256, "n_samples": 512},
}
#: The key that sets a family's size, and the step it goes in.
SIZES: Mapping[str, tuple[str, int]] = {
    "rbm": ("alpha", 1),
    "mlp": ("features", 1),
    "convac": ("channels", 1),
    "cp": ("rank", 1),
    "ttn": ("bond_dimension", 1),
    "mps": ("bond_dimension", 1),
    "rac": ("width", 1),
    "overlapping_convac": ("channels", 1),
    "convnet": ("channels", 1),
    "cnn": ("channels", 1),
    "convnext": ("channels", 1),
    "gcnn": ("features", 1),
    "vit": ("d_model", 4),
    "arnn_dense": ("features", 1),
    "arnn_conv": ("features", 1),
    "arnn_rnn": ("features", 1),
}
#: Largest size that is tried.
LARGEST = 512


def settings(label: str) -> dict[str, Any]:
    """Sections of a job for a label of the package.

    Raises:
        JobError: it is neither a registered family nor "documented".
    """
    known = registry.ansatze()
    if label not in known:
        raise JobError(
            f"unknown ansatz {label!r}{suggest(label, [*known, DOCUMENTED])}"
        )
    tables: dict[str, Any] = {"ansatz": {"name": label}}
    return tables | (_DEEP_SETTINGS if label in _DEEP else {})


def size_key(name: Any) -> tuple[str, int]:
    """The key that sets the size of a family, and its step.

    Raises:
        JobError: the family has none that could be chosen.
    """
    if name not in SIZES:
        known = ", ".join(SIZES)
        raise JobError(
            f"the size of ansatz {name!r} cannot be chosen by `parameters`: it has no "
            f"single key for it. Families that have one: {known}. Exclude it or leave "
            "`parameters` out"
        )
    return SIZES[name]


def sized_keys(name: Any, size: int) -> dict[str, Any]:
    """Keys of [ansatz] for a size; an mlp has one hidden layer then.

    Raises:
        JobError: the family has none that could be chosen.
    """
    key, _ = size_key(name)
    return {key: [size] if name == "mlp" else size}


def choose_size(count: Callable[[int], int], wanted: int, step: int) -> int:
    """The size whose number of parameters is nearest to a wanted one, as a ratio.

    Args:
        count: size -> number of parameters, increasing.
        wanted: number of parameters.
        step: sizes are multiples of it.
    """
    low, high = 1, 1
    while count(high * step) < wanted and high * step < LARGEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * step) < wanted else (low, middle)
    ratios = {n: count(n * step) / wanted for n in (low, high)}
    best = min(ratios, key=lambda n: max(ratios[n], 1 / ratios[n]))
    return best * step
