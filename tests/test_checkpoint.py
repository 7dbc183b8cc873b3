"""Checkpoints: bit for bit, atomic, and plain about what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vmc import checkpoint, healing
from vmc.base import WALKERS, VMCState
from vmc.driver import Control
from vmc.errors import CheckpointError

TEXTS: dict[str, Any] = {"job": {"seed": 1}, "provenance": {"started": "now"}}


def a_state(step: int = 3, n_sites: int = 11, **params: Any) -> VMCState:
    """A state with every kind of leaf that a run may have."""
    rng = np.random.default_rng(step)
    values = {
        "w": jnp.asarray(rng.normal(size=(4, 3))),
        "z": jnp.asarray(rng.normal(size=5) + 1j * rng.normal(size=5)),
        "odd": jnp.asarray([np.nan, np.inf, -0.0, 5e-324]),
        "single": jnp.asarray(rng.normal(size=2), jnp.float32),
        **params,
    }
    spins = 2 * rng.integers(0, 2, (6, n_sites)).astype(np.int8) - 1
    return VMCState(
        step=np.asarray(step, np.int32),
        params=values,
        opt_state=optax.chain(optax.adam(0.1), optax.ema(0.9)).init(values),
        chains={"half": jnp.asarray(spins), "one": jnp.asarray(2 * (spins // 2))},
        key=jax.random.key(7, impl="threefry2x32"),
        control={"window": rng.normal(size=(step, 4)), "count": 5},
    )


def write(folder: Path, state: VMCState) -> Path:
    series = {"step": np.arange(1, int(state.step) + 1)}
    return checkpoint.save(folder, state, series=series, **TEXTS)


def bits(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def test_every_leaf_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = a_state()
    path = write(tmp_path, state)
    # The template differs in values, and in the length of the host's window.
    found = checkpoint.load(path, a_state(step=0))
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert bits(old) == bits(new)
        assert type(old) is type(new) and np.shape(old) == np.shape(new)
    assert jax.random.bits(found.key) == jax.random.bits(state.key)
    saved = checkpoint.peek(path)
    assert (saved.step, saved.job, saved.provenance) == (3, *TEXTS.values())
    assert saved.series["step"].tolist() == [1, 2, 3]


def test_spins_are_packed_to_bits(tmp_path: Path) -> None:
    path = write(tmp_path, a_state(n_sites=64))
    with h5py.File(path) as file:
        stored: Any = file["state/chains/half"]
        assert stored.dtype == np.uint8 and stored.shape == (6, 8)
        assert stored.attrs["packed"] == 64
        assert file["state/chains/one"].dtype == np.int8  # type: ignore[union-attr]


def test_sharded_walkers_go_back_to_their_devices(
    tmp_path: Path, mesh_of: Callable[[int], Mesh]
) -> None:
    spins = np.where(np.arange(8 * 5).reshape(8, 5) % 3, 1, -1).astype(np.int8)

    def on(n: int) -> VMCState:
        sharding = NamedSharding(mesh_of(n), PartitionSpec(WALKERS))
        return a_state()._replace(chains=jax.device_put(spins, sharding))

    path = write(tmp_path, on(4))
    for n in (4, 2, 1):
        found = checkpoint.load(path, on(n))
        assert np.array_equal(np.asarray(found.chains), spins)
        assert len(found.chains.sharding.device_set) == n


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30, 4):
        write(tmp_path, a_state(step))
    names = [path.name for path in checkpoint.paths(tmp_path)]
    assert names == ["checkpoint-00000030.h5", "checkpoint-00000004.h5"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, a_state())
    before = path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_leaves", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, a_state())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_writers_are_swept(tmp_path: Path) -> None:
    path = write(tmp_path, a_state())
    (tmp_path / "checkpoint-00000009.h5.tmp.123").write_bytes(b"half")
    assert checkpoint.paths(tmp_path) == [path]
    checkpoint.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_another_model_is_refused_leaf_by_leaf(tmp_path: Path) -> None:
    path = write(tmp_path, a_state())
    other = a_state(w=jnp.zeros((4, 2)), new=jnp.zeros(1))
    del other.params["z"]
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, other)
    text = str(caught.value)
    assert "missing: params/new" in text
    assert "extra: params/z" in text
    assert "misshapen: params/w is float64[4, 3], expected float64[4, 2]" in text


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, a_state())
    with pytest.raises(CheckpointError, match="params/w is float64.*expected float32"):
        checkpoint.load(path, a_state(w=jnp.zeros((4, 3), jnp.float32)))


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path, a_state())
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        checkpoint.peek(path)


def test_foreign_and_newer_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "checkpoint-1.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = 1
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        checkpoint.peek(foreign)
    with h5py.File(foreign, "w") as file:
        file.attrs.update(format=checkpoint.FORMAT, schema=99)
    with pytest.raises(CheckpointError, match="schema 99, which is newer"):
        checkpoint.peek(foreign)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.peek(tmp_path / "checkpoint-2.h5")


def test_schema_2_knew_nothing_of_damping(tmp_path: Path) -> None:
    state = a_state()
    known = healing.start(state.params, state.opt_state, state.chains, np.float64)
    known = known._replace(caution=np.asarray(4.0))
    new = state._replace(control=Control(np.zeros((2, 4)), known))
    old = known._replace(damping=None, uneven=None)
    path = write(tmp_path, state._replace(control=Control(np.zeros((2, 4)), old)))
    with pytest.raises(CheckpointError, match="missing: control/healing/damping"):
        checkpoint.load(path, new)
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 2
    found = checkpoint.load(path, new).control.healing
    assert found.damping is None and found.caution == 4
    whole = healing.completed(found)
    assert jax.tree.structure(whole) == jax.tree.structure(known)
    assert whole.damping.factor == 1 and np.isnan(whole.damping.slope)
    assert whole.uneven == 0, "parameters that have been moved are not random"
    assert healing.completed(whole) is whole
