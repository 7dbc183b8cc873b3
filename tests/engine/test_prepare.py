"""Compiling a step while the state that it starts from is made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import pytest

import vmc
from tests.engine.helpers import MeshOf
from vmc import distributed
from vmc.assembly import build
from vmc.checkpoint import leaves_of

JOB = vmc.Job(
    lattice={"name": "chain", "size": [6]},
    hamiltonian={"name": "tfim", "h": 1.0},
    ansatz={"name": "rbm", "alpha": 1, "symmetry": "none"},
    sampler={"n_chains": 16, "n_samples": 32},
    run={"n_steps": 20},
)


def kind(leaf: Any) -> Any:
    """Shape, dtype and place of a leaf."""
    place = leaf.sharding if hasattr(leaf, "sharding") else None
    return np.shape(leaf), leaf.dtype, place


@pytest.mark.parametrize("name", ["sr", "spring", "adam"])
@pytest.mark.parametrize("n", [1, 4])
def test_shapes_are_those_of_the_first_state(
    mesh_of: MeshOf, name: str, n: int
) -> None:
    search = build(JOB.replace({"optimizer": {"name": name}}), mesh_of(n)).vmc
    shapes, state = leaves_of(search.shapes()), leaves_of(search.init())
    assert shapes.keys() == state.keys()
    for leaf, known in shapes.items():
        found, wanted = kind(known), kind(state[leaf])
        assert found[:2] == wanted[:2], leaf
        if found[2] is not None:
            assert found[2].is_equivalent_to(wanted[2], len(found[0])), leaf


@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_prepared_step_is_the_same_step(
    mesh_of: MeshOf, n: int, caplog: pytest.LogCaptureFixture
) -> None:
    plain, ahead = build(JOB, mesh_of(n)).vmc, build(JOB, mesh_of(n)).vmc
    ahead.prepare()
    first = [f"XLA compilation of jit({name})" for name in ("start", "run")]
    with jax.log_compiles():
        begin = plain.init()
    assert all(text in caplog.text for text in first)
    caplog.clear()
    with jax.log_compiles():
        other = ahead.init()
    assert not any(text in caplog.text for text in first)
    caplog.clear()
    with jax.log_compiles():
        want, _ = plain.advance(begin, 3)
    assert "XLA compilation of jit(run)" in caplog.text
    caplog.clear()
    with jax.log_compiles():
        got, _ = ahead.advance(other, 3)
    assert "XLA compilation of jit(run)" not in caplog.text
    for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
        np.testing.assert_array_equal(words(a), words(b))


def words(leaf: Any) -> np.ndarray:
    """A leaf as numbers, keys too."""
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def test_a_step_that_cannot_be_compiled_says_so(monkeypatch: Any) -> None:
    search = build(JOB).vmc
    search.prepare()
    search._dispatch._ahead[0].result()

    def fail() -> object:
        raise MemoryError("no room")

    with ThreadPoolExecutor(1) as pool:
        search._dispatch._ahead.append(pool.submit(fail))
    with pytest.raises(MemoryError, match="no room"):
        search.advance(search.init(), 1)


def test_options_that_a_compiler_does_not_know_are_left_out(monkeypatch: Any) -> None:
    known = distributed.HASTE | distributed.WIDE
    monkeypatch.setattr(distributed, "HASTE", {"xla_cpu_no_such_option": 1} | known)
    distributed._known_options.cache_clear()
    found = distributed._known_options("cpu")
    distributed._known_options.cache_clear()
    assert found and found.items() <= known.items()
    assert distributed._known_options("gpu") == {}


@pytest.mark.parametrize("once", [False, True])
def test_programs_get_their_options(
    mesh_of: MeshOf, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    options, jit = [], jax.jit

    def watched(function: Any, **keys: Any) -> Any:
        options.append(keys.get("compiler_options"))
        return jit(function, **keys)

    known = distributed._known_options("cpu")
    monkeypatch.setattr(distributed.jax, "jit", watched)
    distributed.compiled(lambda x: x, mesh_of(1), (), (), once=once)
    kept = known if once else {k: known[k] for k in distributed.WIDE if k in known}
    assert options == [kept] and kept
