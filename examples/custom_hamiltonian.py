"""A Hamiltonian that no registry knows: a chiral ring, written as its formula.

H = sum_i [ J S_i . S_{i+1} + D (S_i x S_{i+1})_z + K S_i . (S_{i+1} x S_{i+2}) ]

on a ring: Heisenberg exchange, Dzyaloshinskii-Moriya exchange along z, and the scalar
chirality of three neighbours.  Its matrix elements are complex.

Run this file, or name it in a job: ``name = "custom_hamiltonian.py:build"``.
"""

from __future__ import annotations

from typing import Any

import jax

import vmc
from hamiltonians import Operator, Sx, Sy, Sz


def cross(i: int, j: int) -> tuple[Operator, Operator, Operator]:
    """S_i x S_j."""
    return (
        Sy(i) @ Sz(j) - Sz(i) @ Sy(j),
        Sz(i) @ Sx(j) - Sx(i) @ Sz(j),
        Sx(i) @ Sy(j) - Sy(i) @ Sx(j),
    )


def build(
    lattice: Any = None,
    n_sites: int = 12,
    J: float = 1.0,
    D: float = 0.5,
    K: float = 0.3,
) -> Operator:
    """The chiral ring; with a lattice its number of sites counts."""
    n = n_sites if lattice is None else lattice.n_sites
    terms = []
    for i in range(n):
        j, k = (i + 1) % n, (i + 2) % n
        spin = Sx(i), Sy(i), Sz(i)
        terms += [J * a @ b for a, b in zip(spin, (Sx(j), Sy(j), Sz(j)), strict=True)]
        terms.append(D * cross(i, j)[2])
        terms += [K * a @ c for a, c in zip(spin, cross(j, k), strict=True)]
    return Operator.sum(terms)


def main() -> None:
    """Find the ground state and compare it with exact diagonalisation."""
    jax.config.update("jax_enable_x64", True)
    job = vmc.Job(
        hamiltonian={"name": build, "n_sites": 12},
        ansatz={"name": "rbm", "alpha": 4},
        run={"n_steps": 400},
    )
    result = vmc.run(job)
    assert result.energy is not None
    print(f"energy  {result.energy.mean:.5f} +- {result.energy.error:.5f}")
    print(f"exact   {result.report['exact']['energy']:.5f}")
    print(f"V-score {result.report['v_score']:.2e}")


if __name__ == "__main__":
    main()
