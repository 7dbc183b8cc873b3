"""Wave functions: one family per file, all seen by the engine as `WaveFunction`.

`ANSATZE` maps the name used in a job file to its factory; a new family is added
by one line here, and the contract tests then run over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ansatze.jastrow import jastrow
from ansatze.mlp import mlp
from ansatze.rbm import default_alpha, rbm
from vmc.base import Problem, WaveFunction

__all__ = ["ANSATZE", "defaults", "jastrow", "mlp", "rbm"]

#: Name in a job file -> factory(problem, **keys).
ANSATZE: Mapping[str, Callable[..., WaveFunction]] = MappingProxyType(
    {"rbm": rbm, "jastrow": jastrow, "mlp": mlp}
)


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
    return resolved
