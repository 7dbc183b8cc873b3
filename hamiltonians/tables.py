"""`TermHamiltonian`: an operator compiled to branch-free tables of matrix elements.

Every off-diagonal element has the form

    <sigma| H |sigma moved by m> = c_m + sum_t c_mt prod_{r in S_mt} f_r(sigma)

where a *row* r is a function of the value of one site.  For spins 1/2 row i is
sigma_i itself (so X contributes 1, Y -i sigma_i and Z sigma_i, with sigma the bra); for
larger spins it is a table looked up by the local index (d - 1 - sigma_i) / 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hamiltonians import facts, invariance
from vmc.base import Moves
from vmc.errors import JobError
from vmc.space import Spins

#: Longest sum over strings, and longest string, that are unrolled when traced.
_UNROLLED = 8

_STATIC: Any = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """Sums of T strings of at most Z rows, for n consecutive moves.

    Attributes:
        coefs: (n, T) coefficients, padded with 0.
        rows: int32 (n, T, Z), the rows of every string, padded with the row of ones.
    """

    coefs: Array
    rows: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SiteTables:
    """The R rows of a Hamiltonian with spins above 1/2.

    Attributes:
        sites: int32 (R,), the site of each row.
        values: (R, d), its value at each local index, padded with 0.
        odd: int8 (R,), 1 if the row belongs to a change of m by an odd integer.
    """

    sites: Array
    values: Array
    odd: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TermHamiltonian:
    """A Hermitian operator as tables; satisfies `vmc.base.Hamiltonian`.

    A pytree whose leaves are the coefficients and the index tables: Hamiltonians
    that differ in the values of their couplings share one compiled program.  Leaves
    are NumPy arrays as built; pass the object to a jitted function as an argument.
    Results have the dtype of the coefficient leaves.  Use `compile_operator`.

    Attributes:
        moves: the K off-diagonal moves, in a deterministic order.
        constants: (K,), the part of every element that does not depend on sigma.
        blocks: the other parts; consecutive blocks cover consecutive moves.
        offset: scalar, constant part of the diagonal.
        diagonal_blocks: strings of the diagonal, each Block with T = 1.
        tables: rows of larger spins, or None if all spins are 1/2.
        space: the configurations.
        is_real: True if every matrix element is real.
        conserves_sz: True if it commutes with the total Sz.
        conserves_spin_flip: True if it commutes with the global flip m -> -m.
        signs: +1 or -1 per site, the gauge of `with_signs`, or None.
    """

    moves: Moves
    constants: Array
    blocks: tuple[Block, ...]
    offset: Array
    diagonal_blocks: tuple[Block, ...]
    tables: SiteTables | None
    space: Spins = dataclasses.field(metadata=_STATIC)
    is_real: bool = dataclasses.field(metadata=_STATIC)
    conserves_sz: bool = dataclasses.field(metadata=_STATIC)
    conserves_spin_flip: bool = dataclasses.field(metadata=_STATIC)
    signs: tuple[int, ...] | None = dataclasses.field(default=None, metadata=_STATIC)

    # ---- matrix elements ---------------------------------------------------

    def diagonal(self, sigma: Array) -> Array:
        """<sigma|H|sigma>.

        Args:
            sigma: int8 (B, N).

        Returns:
            Real (B,).
        """
        rows = self._rows(sigma)
        total = jnp.full(sigma.shape[:1], self.offset)
        for block in self.diagonal_blocks:
            strings = _product(rows, block.rows[:, 0])
            total = total + jnp.sum(block.coefs * strings, axis=0)
        return total

    def elements(self, sigma: Array) -> Array:
        """<sigma|H|sigma moved by m>, exactly 0 where it leaves the sector.

        Args:
            sigma: int8 (B, N).

        Returns:
            (K, B), real if ``is_real``.
        """
        rows = self._rows(sigma)
        parts = [jnp.broadcast_to(self.constants[:0, None], (0, sigma.shape[0]))]
        start = 0
        for block in self.blocks:
            stop = start + block.coefs.shape[0]
            parts.append(_sums(block, rows, self.constants[start:stop, None]))
            start = stop
        values = jnp.concatenate(parts)
        if self.space.has_rules:
            values = jnp.where(self.space.allows(sigma, self.moves), values, 0)
        if self.masks_sz:
            values = jnp.where(self._keeps_sz(sigma), values, 0)
        return values

    @property
    def masks_sz(self) -> bool:
        """Whether `elements` zeroes the moves that change the total Sz.

        Spins 1/2 need it: X X + Y Y vanishes on aligned pairs only up to rounding,
        and its strings are stored for antiparallel pairs alone.
        """
        if self.tables is None:
            return self.conserves_sz
        return self.space.total_sz is not None

    def _keeps_sz(self, sigma: Array) -> Array:
        """Whether each move conserves the total Sz: bool (K, B)."""
        if self.tables is not None:
            return self.space.allows(sigma, self.moves)
        if self.moves.exchange:
            sites = self.moves.sites
            return _take(sigma.T, sites[:, 0]) != _take(sigma.T, sites[:, 1])
        padded = jnp.concatenate([sigma.T, jnp.zeros((1, sigma.shape[0]), jnp.int8)])
        flipped = _take(padded, self.moves.sites)
        return jnp.sum(flipped, axis=1, dtype=jnp.int32) == 0

    def _rows(self, sigma: Array) -> Array:
        """Rows and, last, the row of ones: (R + 1, B)."""
        if self.tables is None:
            return jnp.concatenate(
                [sigma.T.astype(jnp.int8), jnp.ones((1, sigma.shape[0]), jnp.int8)]
            )
        dims = jnp.asarray(self.space.local_dims, jnp.int32)[:, None]
        index = (dims - 1 - sigma.T.astype(jnp.int32)) // 2
        index = _take(index, self.tables.sites)
        values = jnp.asarray(self.tables.values)
        rows = jnp.zeros(index.shape, values.dtype)
        for local in range(values.shape[1]):
            rows = jnp.where(index == local, values[:, local, None], rows)
        return jnp.concatenate([rows, jnp.ones((1, rows.shape[1]), rows.dtype)])

    # ---- gauge -------------------------------------------------------------

    def with_signs(self, signs: Sequence[int] | np.ndarray) -> TermHamiltonian:
        """The Hamiltonian in another sign gauge.

        Its ground state is psi'(sigma) = psi(sigma) prod_i a_i^n_i, where n_i is the
        local index (d - 1 - sigma_i) / 2: 1 for a spin 1/2 that is down.

        Args:
            signs: a_i, +1 or -1 per site; multiplied with the gauge it is in.

        Raises:
            JobError: not one sign per site.
        """
        gauge = np.asarray(signs)
        if gauge.shape != (self.space.n_sites,) or not np.all(np.abs(gauge) == 1):
            raise JobError(
                f"a sign gauge is +1 or -1 for each of the {self.space.n_sites} sites; "
                f"an array of shape {gauge.shape} came: {gauge.tolist()}"
            )
        factors = self._gauge_factors(gauge)
        blocks = tuple(
            dataclasses.replace(b, coefs=b.coefs * f)
            for b, f in zip(self.blocks, factors, strict=True)
        )
        constants = self.constants * _site_signs(self, gauge)
        old = np.ones_like(gauge) if self.signs is None else np.asarray(self.signs)
        return dataclasses.replace(
            self,
            constants=constants,
            blocks=blocks,
            signs=tuple(int(a) for a in gauge * old),
        )

    def _gauge_factors(self, gauge: np.ndarray) -> list[np.ndarray]:
        """Sign of every string of every block, (n, T) each."""
        moved = _site_signs(self, gauge)
        factors, start = [], 0
        for block in self.blocks:
            stop = start + block.coefs.shape[0]
            sign = np.broadcast_to(moved[start:stop, None], block.coefs.shape)
            if self.tables is not None:
                odd = np.asarray(self.tables.odd)
                by_row = np.where(odd == 1, gauge[np.asarray(self.tables.sites)], 1)
                sign = sign * np.prod(np.append(by_row, 1)[block.rows], axis=2)
            factors.append(sign)
            start = stop
        return factors

    # ---- facts (host side, NumPy) ------------------------------------------

    @property
    def offdiagonal_sign_structure(
        self,
    ) -> Literal["stoquastic", "positive", "complex", "unknown"]:
        """Signs of the off-diagonal elements over the allowed configurations.

        "stoquastic": all are <= 0, so the ground state can be taken positive;
        "positive": some are > 0 (a gauge may still help, see `find_sign_gauge`);
        "complex": some are not real; "unknown": a move depends on too many sites.
        """
        return facts.sign_structure(self)

    @property
    def is_stoquastic(self) -> bool:
        """Whether every allowed off-diagonal element is known to be <= 0."""
        return self.offdiagonal_sign_structure == "stoquastic"

    @property
    def mean_offdiagonal(self) -> float:
        """Mean over the moves of the largest |element|; 0 without moves."""
        return facts.mean_offdiagonal(self)

    @property
    def identity_coefficient(self) -> float:
        """Tr H / dim over the free space."""
        return facts.mean_diagonal(self, sector=False)

    def mean_energy(self) -> float:
        """Tr H / dim over the sector: E_inf of the V-score."""
        return facts.mean_diagonal(self, sector=True)

    def is_invariant(self, perm: Sequence[int] | np.ndarray) -> bool:
        """Whether renaming every site i to perm[i] leaves all elements unchanged.

        In the present gauge; sums of couplings are compared to 1e-12.

        Raises:
            JobError: perm is not a permutation of the sites.
        """
        return invariance.is_invariant(self, perm)

    def spectrum(self, k: int = 1, **options: Any) -> dict[str, Any]:
        """The k lowest levels by exact diagonalisation.

        Options and result: see `hamiltonians.spectrum.spectrum`.
        """
        from hamiltonians.spectrum import spectrum

        return spectrum(self, k, **options)

    @property
    def memory_bytes(self) -> int:
        """Size of the tables."""
        return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self))


def _site_signs(ham: TermHamiltonian, gauge: np.ndarray) -> np.ndarray:
    """Product of the signs of the spins 1/2 that each move flips, (K,)."""
    half = np.asarray(ham.space.local_dims) == 2
    padded = np.append(np.where(half, gauge, 1), 1)
    return np.prod(padded[np.asarray(ham.moves.sites)], axis=1)


def _product(rows: Array, index: Array) -> Array:
    """Products of rows: index (n, Z) -> (n, B)."""

    def row(z: Any) -> Array:
        chosen = jax.lax.dynamic_index_in_dim(index, z, axis=1, keepdims=False)
        return _take(rows, chosen)

    length = index.shape[1]
    if length > _UNROLLED:
        return jax.lax.fori_loop(1, length, lambda z, out: out * row(z), row(0))
    out = _take(rows, index[:, 0])
    for z in range(1, length):
        out = out * _take(rows, index[:, z])
    return out


def _take(rows: Array, index: Array | np.ndarray) -> Array:
    """Rows by number; the tables are never out of bounds."""
    return jnp.asarray(rows).at[index].get(mode="promise_in_bounds")


def _sums(block: Block, rows: Array, constants: Array) -> Array:
    """The sums constants (n, 1) + sum_t coefs * strings: (n, B)."""
    n_strings = block.coefs.shape[1]
    start = jnp.broadcast_to(constants, (constants.shape[0], rows.shape[1]))
    if n_strings > _UNROLLED:

        def add(t: Any, total: Array) -> Array:
            index = jax.lax.dynamic_index_in_dim(block.rows, t, axis=1, keepdims=False)
            coefs = jax.lax.dynamic_slice_in_dim(block.coefs, t, 1, axis=1)
            return total + coefs * _product(rows, index)

        return jax.lax.fori_loop(0, n_strings, add, start)
    for t in range(n_strings):
        start = start + block.coefs[:, t, None] * _product(rows, block.rows[:, t])
    return start
