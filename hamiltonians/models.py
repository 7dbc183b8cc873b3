"""The registered models: ``(lattice, **couplings) -> Operator``.

The first line of every docstring is the formula with sign and unit: sx, sy, sz are
Pauli matrices, Sx, Sy, Sz spin operators.  Couplings are numbers, lists (one per bond
or site) or distributions; see ``hamiltonians.couplings``.
"""

from __future__ import annotations

from collections.abc import Callable

from hamiltonians.models_exchange import dm, heisenberg, xxz, xy, xyz
from hamiltonians.models_frustrated import (
    haldane_shastry,
    j1j2,
    j1j2j3,
    majumdar_ghosh,
    scalar_chirality,
    shastry_sutherland,
)
from hamiltonians.models_ising import (
    ea_glass,
    pxp,
    rydberg,
    sk_glass,
    tfim,
    tfim_long_range,
)
from hamiltonians.models_spin_one import aklt, bilinear_biquadratic, blume_capel
from hamiltonians.models_topological import cluster, kitaev_honeycomb, toric_code
from hamiltonians.operators import Operator

#: Short name -> model; what ``[hamiltonian] name`` may say.
MODELS: dict[str, Callable[..., Operator]] = {
    "tfim": tfim,
    "tfim_long_range": tfim_long_range,
    "heisenberg": heisenberg,
    "xxz": xxz,
    "xyz": xyz,
    "xy": xy,
    "j1j2": j1j2,
    "j1j2j3": j1j2j3,
    "dm": dm,
    "majumdar_ghosh": majumdar_ghosh,
    "haldane_shastry": haldane_shastry,
    "shastry_sutherland": shastry_sutherland,
    "scalar_chirality": scalar_chirality,
    "kitaev_honeycomb": kitaev_honeycomb,
    "toric_code": toric_code,
    "cluster": cluster,
    "aklt": aklt,
    "bilinear_biquadratic": bilinear_biquadratic,
    "blume_capel": blume_capel,
    "sk_glass": sk_glass,
    "ea_glass": ea_glass,
    "rydberg": rydberg,
    "pxp": pxp,
}
