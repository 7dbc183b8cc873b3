"""Tree tensor networks: amplitudes, gauge, canonical form, ranks, growth."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.ttn import (
    canonicalise,
    insert_gauge,
    isometry_defect,
    ttn,
    ttn_tree,
)
from tests.ansatze import modp
from tests.ansatze.cases import quick_jit
from vmc.base import Problem
from vmc.errors import JobError
from vmc.space import spins


def draw(problem: Problem, bond: int, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    out = {}
    for m in ttn_tree(problem, bond).levels:
        re, im = rng.normal(size=(2, m.n_out, m.c_out, m.c_in, m.c_in))
        out[m.name] = jnp.asarray(re + 1j * im if problem.dtype == "complex" else re)
    return out


def contraction(params: dict, n: int, states: int = 2) -> np.ndarray:
    """psi by the definition, tensor by tensor: one axis per site."""
    blocks = [np.eye(states)] * n
    for level in range(len(params)):
        parents = []
        for j, t in enumerate(np.asarray(params[f"T{level}"])):
            left = blocks[2 * j]
            if 2 * j + 1 < len(blocks):
                out = np.einsum("elr,la,rb->eab", t, left, blocks[2 * j + 1])
            else:
                out = t[:, :, 0] @ left
            parents.append(out.reshape(t.shape[0], -1))
        blocks = parents
    return blocks[0].reshape((states,) * n)


@pytest.mark.parametrize(
    ("n", "spin", "dtype"),
    [
        (7, 0.5, "complex"),
        (5, 1, "real"),
        *(
            pytest.param(n, spin, dtype, marks=pytest.mark.slow)
            for n, spin in ((8, 0.5), (1, 0.5))
            for dtype in ("real", "complex")
        ),
    ],
)
def test_amplitudes_and_norm(n: int, spin: float, dtype: str) -> None:
    problem = Problem(spins(n, spin=spin), dtype=dtype)
    bond = 2 if n > 1 else 1
    wf, params = ttn(problem, bond_dimension=bond), draw(problem, bond)
    psi = contraction(params, n, round(2 * spin + 1)).reshape(-1)
    out = np.asarray(quick_jit(wf.log_psi)(params, spins(n, spin=spin).all_states()))
    assert out.dtype == np.complex128
    np.testing.assert_allclose(np.exp(out), psi, rtol=1e-11)
    assert wf.exact is not None
    norm = np.exp(wf.exact.log_norm(params))
    np.testing.assert_allclose(norm, np.sum(np.abs(psi) ** 2), rtol=1e-13)
    if dtype == "real" and n > 1:
        assert wf.range == "real" and np.any(psi < 0)


def test_gauge_and_canonical_form() -> None:
    problem = Problem(spins(8))
    params = draw(problem, 3)
    psi = contraction(params, 8)
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)))
    for level, node in ((0, 2), (0, 1), (1, 1)):
        turned = insert_gauge(params, level, node, x)
        assert not np.allclose(turned[f"T{level}"], params[f"T{level}"])
        scale = np.max(np.abs(psi))
        np.testing.assert_allclose(contraction(turned, 8), psi, atol=1e-12 * scale)
    canonical, log_norm = canonicalise(params, 8)
    assert isometry_defect(params) > 0.1
    assert isometry_defect(canonical) < 1e-13
    got = contraction(canonical, 8) * np.exp(log_norm)
    np.testing.assert_allclose(got, psi, atol=1e-12 * np.max(np.abs(psi)))
    norm = ttn(problem, bond_dimension=3).exact.log_norm(canonical)
    np.testing.assert_allclose(norm, 0, atol=1e-12)
    with pytest.raises(JobError, match="no bond"):
        insert_gauge(params, 2, 0, x)


def test_canonical_form_with_absent_children() -> None:
    problem = Problem(spins(7))
    params = draw(problem, 3)
    canonical, log_norm = canonicalise(params, 7)
    psi = contraction(params, 7)
    got = contraction(canonical, 7) * np.exp(log_norm)
    np.testing.assert_allclose(got, psi, atol=1e-12 * np.max(np.abs(psi)))
    np.testing.assert_allclose(np.sum(np.abs(contraction(canonical, 7)) ** 2), 1)


def test_rank_is_the_min_cut() -> None:
    """Of the graph of bonds: an integer tree, evaluated modulo a prime."""
    tree = ttn_tree(Problem(spins(8)), 3)
    rng = np.random.default_rng(0)
    blocks = [np.eye(2, dtype=np.int64)] * 8
    for m in tree.levels:
        t = rng.integers(1, modp.PRIME, (m.n_out, m.c_out, m.c_in, m.c_in))
        parents = []
        for j in range(m.n_out):
            left, right = blocks[2 * j], blocks[2 * j + 1]
            half = modp.matmul(t[j].reshape(-1, m.c_in), right)
            half = half.reshape(m.c_out, m.c_in, -1).swapaxes(0, 1)
            out = modp.matmul(left.T, half.reshape(m.c_in, -1))
            out = out.reshape(left.shape[1], m.c_out, -1).swapaxes(0, 1)
            parents.append(out.reshape(m.c_out, -1))
        blocks = parents
    psi = blocks[0].reshape((2,) * 8)
    # Blocks of 4 share one bond, a pair its own; [2..5] two bonds of two pairs.
    cuts = {(0, 1, 2, 3): 3, (0, 1): 3, (2, 3, 4, 5): 9, (0, 2, 4, 6): 16, (5,): 2}
    for region, want in cuts.items():
        assert modp.rank(modp.cut(psi, region)) == want


def test_wrong_keys() -> None:
    problem = Problem(spins(6))
    with pytest.raises(JobError, match="positive"):
        ttn(problem, bond_dimension=0)
    with pytest.warns(UserWarning, match="wasted"):
        wide = ttn(problem, bond_dimension=9)
    shapes = jax.eval_shape(wide.init, jax.random.key(0))
    assert max(itertools.chain(*(x.shape[1:] for x in shapes.values()))) == 4
    with pytest.raises(JobError, match='symmetry = "none"'):
        ttn(problem._replace(symmetry=np.arange(6)[None]))
