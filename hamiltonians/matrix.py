"""Rows of the matrix of a compiled Hamiltonian, in NumPy and in double precision.

A basis knows its states as numbers (``Spins.all_codes``) and gives the matrix row by
row; what is stored of it is the caller's choice.
"""

from __future__ import annotations

import math

import numpy as np

from hamiltonians.facts import row_tables
from hamiltonians.symmetric import SymmetrySector, orbits
from hamiltonians.tables import Block, TermHamiltonian

#: Matrix elements computed at once.
CHUNK = 2**20


class Rows:
    """The matrix of a Hamiltonian in its sector.

    Attributes:
        codes: int64 (dim,), the states, ascending.
        dtype: float64 or complex128.
        width: number of elements of a row that may differ from 0.
    """

    def __init__(self, ham: TermHamiltonian) -> None:
        """Args: ham: the Hamiltonian; its sign gauge is kept."""
        self.ham = ham
        self.dtype = np.dtype(np.float64 if ham.is_real else np.complex128)
        self.width = ham.moves.n_moves + 1
        dims = [int(d) for d in ham.space.local_dims]
        self._dims = np.array(dims, np.int64)
        strides = [math.prod(dims[i + 1 :]) for i in range(len(dims))]
        self._strides = np.array(strides, np.int64)
        self.codes = ham.space.all_codes()
        self._whole = ham.space.is_free

    @property
    def dim(self) -> int:
        """Number of states."""
        return len(self.codes)

    @property
    def step(self) -> int:
        """Rows to ask for at once."""
        return max(1, CHUNK // self.width)

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Elements and columns of some rows, (n, width) each; the diagonal is last."""
        data, target = self.elements(self.codes[start:stop])
        return self._located(data, target)

    def _located(
        self, data: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns of states; elements that lead out of the sector are rounding."""
        if self._whole:
            return data, target
        column = np.searchsorted(self.codes, target)
        np.minimum(column, self.dim - 1, out=column)
        return np.where(self.codes[column] == target, data, 0), column

    def diagonal(self, codes: np.ndarray) -> np.ndarray:
        """Diagonal elements of some states, float (n,)."""
        index = self._indices(codes)
        return self._diagonal(self._row_values(index))

    def elements(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Elements and codes of their columns, (n, K + 1) each."""
        ham, index = self.ham, self._indices(codes)
        rows = self._row_values(index)
        data = np.zeros((self.width, len(codes)), self.dtype)
        target = np.empty((self.width, len(codes)), np.int64)
        target[-1], data[-1] = codes, self._diagonal(rows)
        start = 0
        for block in ham.blocks:
            stop = start + block.coefs.shape[0]
            data[start:stop] = np.asarray(ham.constants)[start:stop, None]
            data[start:stop] += _string_sums(block, rows)
            start = stop
        sites, shifts = np.asarray(ham.moves.sites), np.asarray(ham.moves.shift)
        for move in range(ham.moves.n_moves):
            change, balance = np.zeros(len(codes), np.int64), 0
            for site, shift in zip(sites[move], shifts[move], strict=True):
                if site < len(self._dims):
                    old = index[site]
                    step = (old + shift) % self._dims[site] - old
                    change += step * self._strides[site]
                    balance = balance + step
            target[move] = codes + change
            if ham.masks_sz:
                data[move] *= balance == 0
        return data.T, target.T

    def _indices(self, codes: np.ndarray) -> np.ndarray:
        """Local indices (d - 1 - sigma) / 2, int64 (N, n)."""
        return codes // self._strides[:, None] % self._dims[:, None]

    def _row_values(self, index: np.ndarray) -> np.ndarray:
        """Values of all rows and, last, of the row of ones: (R + 1, n)."""
        if self.ham.tables is None:
            rows = 1.0 - 2.0 * index
        else:
            sites, _ = row_tables(self.ham)
            local = index[np.array(sites, np.int64)]
            values = np.asarray(self.ham.tables.values)
            rows = np.take_along_axis(values, local, axis=1)
        return np.concatenate([rows, np.ones((1, index.shape[1]))])

    def _diagonal(self, rows: np.ndarray) -> np.ndarray:
        total = np.full(rows.shape[1], float(np.asarray(self.ham.offset)))
        for block in self.ham.diagonal_blocks:
            total += _string_sums(block, rows).sum(axis=0)
        return total


class SymmetricRows(Rows):
    """The matrix in one representation of a group of permutations and spin flips.

    Attributes:
        codes: int64 (dim,), the smallest state of every orbit.
        norms: (dim,), squared norms of their projections.
    """

    def __init__(self, ham: TermHamiltonian, sector: SymmetrySector) -> None:
        """Args: ham: invariant under the group.  sector: the representation."""
        super().__init__(ham)
        self.sector = sector
        self._whole = False
        if not sector.is_real:
            self.dtype = np.dtype(np.complex128)
        self._orbits = orbits(ham.space.local_dims, sector)
        self.everything = self.codes
        found = [
            self._orbits.representatives(self.everything[start : start + CHUNK])
            for start in range(0, len(self.everything), CHUNK)
        ]
        self.codes = np.concatenate([codes for codes, _ in found])
        self.norms = np.concatenate([norms for _, norms in found])

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Rows.rows`: several elements of a row may have the same column."""
        data, target = self.elements(self.codes[start:stop])
        kept = np.nonzero(data)
        home, factor = self._orbits.smallest(target[kept])
        target[kept] = home
        data = data.astype(self.dtype)
        data[kept] *= factor
        data, column = self._located(data, target)
        weights = np.sqrt(self.norms[column] / self.norms[start:stop, None])
        return data * weights, column

    def expanded(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (dim, n) on all states of the sector, (n_states, n)."""
        out = np.zeros((len(self.everything), vectors.shape[1]), self.dtype)
        for start in range(0, len(out), CHUNK):
            piece = slice(start, start + CHUNK)
            home, factor = self._orbits.smallest(self.everything[piece])
            place = np.minimum(np.searchsorted(self.codes, home), self.dim - 1)
            factor = factor * np.sqrt(self.norms[place])
            factor = np.where(self.codes[place] == home, factor, 0)
            out[piece] = factor[:, None] * vectors[place]
        return out


def _string_sums(block: Block, rows: np.ndarray) -> np.ndarray:
    """sum_t coefs * prod rows for every move of a block: (moves, n)."""
    coefs, index = np.asarray(block.coefs), np.asarray(block.rows)
    total = np.zeros((len(coefs), rows.shape[1]), coefs.dtype)
    for t in range(index.shape[1]):
        string = np.ones((len(coefs), rows.shape[1]))
        for z in range(index.shape[2]):
            string *= rows[index[:, t, z]]
        total += coefs[:, t, None] * string
    return total
