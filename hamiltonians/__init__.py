"""Spin models on lattices: formulas, compiled operators, exact answers.

>>> from hamiltonians import Sz, Sp, Sm, MODELS, LATTICES
>>> lattice = LATTICES["chain"](8)
>>> hamiltonian = MODELS["heisenberg"](lattice, J=1.0)

Importing the package loads NumPy only; what needs JAX or SciPy is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hamiltonians.exact import exact_energy
from hamiltonians.lattice_families import LATTICES, from_unit_cell
from hamiltonians.lattice_graphs import from_graph
from hamiltonians.lattices import Bonds, Lattice
from hamiltonians.models import MODELS
from hamiltonians.operators import (
    Operator,
    Sm,
    Sp,
    SpinOperators,
    Sx,
    Sy,
    Sz,
    identity,
    spin,
    sx,
    sy,
    sz,
)
from hamiltonians.termfiles import load_terms, save_terms

if TYPE_CHECKING:
    from hamiltonians.compile import compile_operator
    from hamiltonians.diagonalise import ground_states
    from hamiltonians.gauge import find_sign_gauge, marshall_signs
    from hamiltonians.tables import TermHamiltonian

__all__ = [
    "LATTICES",
    "MODELS",
    "Bonds",
    "Lattice",
    "Operator",
    "Sm",
    "Sp",
    "SpinOperators",
    "Sx",
    "Sy",
    "Sz",
    "TermHamiltonian",
    "compile_operator",
    "exact_energy",
    "find_sign_gauge",
    "from_graph",
    "from_unit_cell",
    "ground_states",
    "identity",
    "load_terms",
    "marshall_signs",
    "save_terms",
    "spin",
    "sx",
    "sy",
    "sz",
]

_LAZY = {
    "TermHamiltonian": "hamiltonians.tables",
    "compile_operator": "hamiltonians.compile",
    "find_sign_gauge": "hamiltonians.gauge",
    "ground_states": "hamiltonians.diagonalise",
    "marshall_signs": "hamiltonians.gauge",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
