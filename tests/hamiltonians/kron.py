"""The referee of the Hamiltonian tests: dense matrices from Kronecker products."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from hamiltonians.operators import Operator, spin
from hamiltonians.spin_algebra import SpinLabel

PAULI = {
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.array([[1, 0], [0, -1]], complex),
}


def spin_matrices(dim: int) -> dict[str, np.ndarray]:
    """Sx, Sy, Sz, Sp, Sm; rows and columns from m = S down to -S."""
    s = (dim - 1) / 2
    m = s - np.arange(dim)
    raising = np.diag(np.sqrt(s * (s + 1) - m[1:] * (m[1:] + 1)), 1).astype(complex)
    lowering = raising.T
    return {
        "Sx": (raising + lowering) / 2,
        "Sy": (raising - lowering) / 2j,
        "Sz": np.diag(m).astype(complex),
        "Sp": raising,
        "Sm": lowering,
    }


def embed(matrix: np.ndarray, site: int, dims: Sequence[int]) -> np.ndarray:
    """A one-site matrix in the full space; site 0 is the slowest."""
    before, after = math.prod(dims[:site]), math.prod(dims[site + 1 :])
    return np.kron(np.kron(np.eye(before), matrix), np.eye(after))


def matrix_of(op: Operator, dims: Sequence[int]) -> np.ndarray:
    """The matrix of an operator, from its canonical terms."""
    total = np.zeros((math.prod(dims),) * 2, complex)
    for factors, c in op.coefficients.items():
        parts = [np.eye(dim) for dim in dims]
        for site, local in factors:
            if isinstance(local, SpinLabel):
                spins = spin_matrices(local.dim)
                step = spins["Sp" if local.raising > 0 else "Sm"]
                power = np.linalg.matrix_power
                one = power(spins["Sz"], local.power) @ power(step, abs(local.raising))
            else:
                one = PAULI[local]
            parts[site] = one
        total += c * functools.reduce(np.kron, parts)
    return total


def random_operator(
    rng: np.random.Generator, dims: Sequence[int], *, real: bool = False
) -> tuple[Operator, np.ndarray]:
    """A Hermitian sum of random products, and its matrix built beside it."""
    size = math.prod(dims)
    op, matrix = Operator.sum([]), np.zeros((size, size), complex)
    for _ in range(6):
        c = rng.normal() if real else complex(*rng.normal(size=2))
        term, dense = c * spin(0.5).identity(), c * np.eye(size)
        for site in rng.integers(len(dims), size=rng.integers(1, 5)).tolist():
            names = ["Sx", "Sz", "Sp", "Sm"] + ([] if real else ["Sy"])
            name = names[rng.integers(len(names))]
            term = term @ getattr(spin((dims[site] - 1) / 2), name)(site)
            dense = dense @ embed(spin_matrices(dims[site])[name], site, dims)
        op, matrix = op + term + term.dagger(), matrix + dense + dense.conj().T
    return op, matrix


def states(dims: Sequence[int]) -> np.ndarray:
    """All configurations in the order of the Kronecker product, int8 (dim, N)."""
    grid = np.indices(tuple(dims)).reshape(len(dims), -1).T
    return (np.asarray(dims) - 1 - 2 * grid).astype(np.int8)


def codes(sigma: np.ndarray, dims: Sequence[int]) -> np.ndarray:
    """Places of configurations in that order."""
    index = (np.asarray(dims) - 1 - sigma.astype(np.int64)) // 2
    return np.asarray(np.ravel_multi_index(tuple(index.T), tuple(dims)))
