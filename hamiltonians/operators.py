"""Operator algebra: write a spin Hamiltonian as its formula.

>>> hamiltonian = 0.5 * sx(0) @ sx(1) + sz(0) @ sz(1)
>>> hamiltonian
0.5 X0 X1 + Z0 Z1

Two flavours, never mixed silently: `sx`, `sy`, `sz` are Pauli matrices (eigenvalues
+1 and -1); `Sx`, `Sy`, `Sz`, `Sp`, `Sm` are spin operators of S = 1/2 (eigenvalues
+1/2 and -1/2, Sp = Sx + i Sy).  `spin` gives the spin operators of any S; sites of
different S may be mixed in one operator.

Every operator is kept in one canonical form, so that equal operators have equal
terms: on a spin 1/2 the basis is X, Y, Z; on a larger spin it is
Sz^j Sp^k and Sz^j Sm^k with j < 2 S + 1 - k.
"""

from __future__ import annotations

import math

import numpy as np

from hamiltonians.algebra import Operator, checked_site
from hamiltonians.scalars import real_number
from hamiltonians.spin_algebra import (
    Expansion,
    Factors,
    SpinLabel,
    accumulate,
    expanded,
    matrix_expansion,
    projector_expansion,
)
from vmc.errors import JobError

__all__ = [
    "Operator",
    "SpinOperators",
    "Sm",
    "Sp",
    "Sx",
    "Sy",
    "Sz",
    "identity",
    "spin",
    "sx",
    "sy",
    "sz",
]


def identity() -> Operator:
    """The identity."""
    return Operator({(): 1.0}, {})


def sx(site: int) -> Operator:
    """Pauli matrix sigma^x, eigenvalues +1 and -1."""
    return _single(site, 2, ((1.0, "X"),))


def sy(site: int) -> Operator:
    """Pauli matrix sigma^y, eigenvalues +1 and -1."""
    return _single(site, 2, ((1.0, "Y"),))


def sz(site: int) -> Operator:
    """Pauli matrix sigma^z; +1 is spin up."""
    return _single(site, 2, ((1.0, "Z"),))


class SpinOperators:
    """The operators of a site of spin S; made by `spin`.

    Every method takes the site first; ``identity`` takes none.
    """

    def __init__(self, dim: int) -> None:
        """Args: dim: local dimension 2 S + 1."""
        self.dim = dim

    @property
    def spin(self) -> float:
        """S."""
        return (self.dim - 1) / 2

    def _step(self, site: int, up: complex, down: complex) -> Operator:
        """The operator up * Sp + down * Sm."""
        if self.dim == 2:
            x, y = (up + down) / 2, 1j * (up - down) / 2
            return _single(site, 2, ((x, "X"), (y, "Y")))
        raising, lowering = SpinLabel(self.dim, 0, 1), SpinLabel(self.dim, 0, -1)
        return _single(site, self.dim, ((up, raising), (down, lowering)))

    def Sx(self, site: int) -> Operator:
        """Spin operator along x."""
        return self._step(site, 0.5, 0.5)

    def Sy(self, site: int) -> Operator:
        """Spin operator along y."""
        return self._step(site, -0.5j, 0.5j)

    def Sz(self, site: int) -> Operator:
        """Spin operator along z, eigenvalues -S, ..., S."""
        if self.dim == 2:
            return 0.5 * sz(site)
        return _single(site, self.dim, ((1.0, SpinLabel(self.dim, 1, 0)),))

    def Sp(self, site: int) -> Operator:
        """Raising operator Sx + i Sy."""
        return self._step(site, 1.0, 0.0)

    def Sm(self, site: int) -> Operator:
        """Lowering operator Sx - i Sy."""
        return self._step(site, 0.0, 1.0)

    def identity(self) -> Operator:
        """The identity."""
        return identity()

    def zero(self, n_sites: int) -> Operator:
        """The operator 0 that says that sites 0 to n_sites - 1 have this spin.

        Add it where a site may be left without any term; such a site is a spin 1/2
        otherwise.
        """
        return Operator({}, dict.fromkeys(range(n_sites), self.dim))

    def projector(self, site: int, m: float) -> Operator:
        """The projector |m><m| on one eigenstate of Sz.

        Raises:
            JobError: m is not one of -S, ..., S.
        """
        if self.dim == 2 and abs(m) == 0.5:
            return 0.5 + float(m) * sz(site)
        return _single(site, self.dim, projector_expansion(self.dim, m))

    def matrix(self, site: int, values: np.ndarray) -> Operator:
        """A local operator from its matrix, rows and columns from m = S down to -S.

        Raises:
            JobError: the matrix is not (2 S + 1, 2 S + 1) or not finite.
        """
        table = np.asarray(values, complex)
        if table.shape != (self.dim, self.dim) or not np.isfinite(table).all():
            raise JobError(
                f"a local operator of spin {self.spin} is a finite matrix of shape "
                f"{(self.dim, self.dim)}; a matrix of shape {table.shape} came"
            )
        if self.dim > 2:
            return _single(site, self.dim, matrix_expansion(self.dim, table))
        (a, b), (c, d) = table.tolist()
        pauli = (((b + c) / 2, "X"), (1j * (b - c) / 2, "Y"), ((a - d) / 2, "Z"))
        return _single(site, 2, pauli) + (a + d) / 2


def spin(s: float) -> SpinOperators:
    """The operators Sx, Sy, Sz, Sp, Sm, projector, matrix of a site of spin s.

    Args:
        s: 0.5, 1, 1.5, ...  For 0.5 they are sums of Pauli matrices, as `Sx` is.

    Raises:
        JobError: s is not a positive multiple of 1/2.
    """
    twice = 2 * (real_number(s) or 0.0)
    if not math.isfinite(twice) or twice <= 0 or twice != round(twice):
        raise JobError(f"spin {s!r} is not a positive multiple of 1/2")
    return SpinOperators(round(twice) + 1)


def Sx(site: int) -> Operator:
    """Spin operator of S = 1/2 along x, half of `sx`."""
    return spin(0.5).Sx(site)


def Sy(site: int) -> Operator:
    """Spin operator of S = 1/2 along y, half of `sy`."""
    return spin(0.5).Sy(site)


def Sz(site: int) -> Operator:
    """Spin operator of S = 1/2 along z, half of `sz`."""
    return spin(0.5).Sz(site)


def Sp(site: int) -> Operator:
    """Raising operator Sx + i Sy of S = 1/2."""
    return spin(0.5).Sp(site)


def Sm(site: int) -> Operator:
    """Lowering operator Sx - i Sy of S = 1/2."""
    return spin(0.5).Sm(site)


def _single(site: int, dim: int, expansion: Expansion) -> Operator:
    index = checked_site(site)
    total: dict[Factors, complex] = {}
    accumulate(total, expanded(1.0, {}, [(index, expansion)]))
    return Operator(total, {index: dim})
