"""Matrices against an independent program, where it is installed."""

import numpy as np
import pytest

from hamiltonians import LATTICES, MODELS
from hamiltonians.compile import compile_operator
from hamiltonians.diagonalise import dense
from hamiltonians.termfiles import to_quspin

CASES = {
    "tfim": (LATTICES["square"]([3, 2]), {"h": 0.7, "hz": 0.2}),
    "dm": (LATTICES["chain"](6), {"D": [0.3, 0.1, 0.2]}),
    "scalar_chirality": (LATTICES["triangular"]([3, 2]), {"J_chi": 0.4}),
    "toric_code": (LATTICES["square_links"](2), {"hx": 0.3}),
    "heisenberg": (LATTICES["kagome"]([2, 1]), {"twist": 0.0}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", CASES)
def test_matrices_are_those_of_quspin(model) -> None:
    pytest.importorskip("quspin")
    from quspin.basis import (  # pyright: ignore[reportMissingImports]
        spin_basis_general,
    )
    from quspin.operators import (  # pyright: ignore[reportMissingImports]
        hamiltonian,
    )

    lattice, couplings = CASES[model]
    op = MODELS[model](lattice, **couplings)
    n = lattice.n_sites
    basis = spin_basis_general(n, pauli=1)
    quiet = {"check_symm": False, "check_herm": False, "check_pcon": False}
    built = hamiltonian(to_quspin(op), [], basis=basis, dtype=np.complex128, **quiet)
    # Its states: bit i is site i and 1 is up; ours: up first, site 0 the slowest.
    bits = (np.asarray(basis.states)[:, None] >> np.arange(n)) & 1
    ours = (1 - bits) @ (1 << np.arange(n - 1, -1, -1))
    # A general basis numbers sites from its highest bit; decide by a field on site 0.
    probe = hamiltonian([["z", [[1.0, 0]]]], [], basis=basis, dtype=np.float64, **quiet)
    if not np.array_equal(probe.diagonal(), 2.0 * bits[:, 0] - 1):
        ours = (1 - bits[:, ::-1]) @ (1 << np.arange(n - 1, -1, -1))
    want = np.zeros((2**n, 2**n), complex)
    want[np.ix_(ours, ours)] = built.toarray()
    got = dense(compile_operator(op, n))
    np.testing.assert_allclose(got, want, atol=1e-13)
