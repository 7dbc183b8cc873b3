"""Checkpoints: a `VMCState` and what a resumed run needs, in one HDF5 file.

A file is written under a temporary name, synchronised and renamed, so that at
every moment the folder holds only whole checkpoints.  The last two are kept.

Layout (schema 2; see docs/run-file.md): attributes ``format``, ``schema`` and
``step``; datasets ``job`` and ``provenance`` (JSON); group ``series`` (the whole
series up to ``step``, from which a damaged ``run.h5`` is rebuilt); group ``state``,
one dataset per leaf of the `VMCState`, named by its path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vmc.errors import CheckpointError

FORMAT = "vmc-checkpoint"
SCHEMA = 3
KEPT = 2

_NAME = re.compile(r"checkpoint-(\d+)\.h5")


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a checkpoint says besides the state itself.

    Attributes:
        path: the file.
        step: optimisation steps done.
        job: the resolved job, as nested tables.
        provenance: see `vmc.provenance`.
        series: per-step columns up to ``step``, each (step,).
    """

    path: Path
    step: int
    job: dict[str, Any]
    provenance: dict[str, Any]
    series: dict[str, np.ndarray]


@contextlib.contextmanager
def atomic_h5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that appears under its name only when it is whole and on disk.

    Raises:
        OSError: it cannot be written; whatever had this name before is untouched.
    """
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        # In memory: HDF5 that meets a full disk crashes the process sooner or later.
        with h5py.File(temporary, "w", driver="core", backing_store=False) as file:
            yield file
            file.flush()
            image = file.id.get_file_image()
        temporary.write_bytes(image)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what interrupted writers left behind."""
    for leftover in folder.glob("*.h5.tmp.*"):
        leftover.unlink(missing_ok=True)


def paths(folder: Path) -> list[Path]:
    """Checkpoints of a run, newest first."""
    found = [(int(m[1]), p) for p in folder.iterdir() if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def write_text(group: h5py.Group, name: str, text: str) -> None:
    """A text as a UTF-8 dataset."""
    group.create_dataset(name, data=text, dtype=h5py.string_dtype("utf-8"))


def read_text(group: h5py.Group, name: str) -> str:
    """A text written by `write_text`."""
    return group[name].asstr()[()]  # type: ignore[union-attr,index]


def leaves_of(tree: Any) -> dict[str, Any]:
    """Leaves of a pytree by path, "params/w" for ``tree.params["w"]``."""
    import jax

    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") or "value": leaf
        for path, leaf in flat
    }


def save(
    folder: Path,
    state: Any,
    *,
    job: Mapping[str, Any],
    provenance: Mapping[str, Any],
    series: Mapping[str, np.ndarray],
) -> Path:
    """Write a checkpoint of the state's step and drop all but the last two.

    Args:
        folder: the run directory.
        state: a `vmc.base.VMCState`.
        job: the resolved job.
        provenance: where the run came from.
        series: per-step columns so far.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written; earlier checkpoints are untouched.
    """
    step = int(state.step)
    path = folder / f"checkpoint-{step:08d}.h5"
    with atomic_h5(path) as file:
        file.attrs.update(format=FORMAT, schema=SCHEMA, step=step)
        write_text(file, "job", json.dumps(job))
        write_text(file, "provenance", json.dumps(provenance))
        columns = file.create_group("series")
        for name, values in series.items():
            columns.create_dataset(name, data=values)
        write_leaves(file.create_group("state"), state)
    for old in paths(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def write_leaves(group: h5py.Group, tree: Any) -> None:
    """One dataset per leaf; typed keys as their words, spins 1/2 as packed bits."""
    import jax

    for name, leaf in leaves_of(tree).items():
        attributes: dict[str, Any] = {}
        if isinstance(leaf, jax.Array) and _is_key(leaf):
            attributes["prng"] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        value = np.asarray(leaf)
        if value.dtype == np.int8 and value.ndim and np.all(np.abs(value) == 1):
            attributes["packed"] = value.shape[-1]
            value = np.packbits(value > 0, axis=-1)
        group.create_dataset(name, data=value).attrs.update(attributes)


def _is_key(leaf: Any) -> bool:
    import jax
    import jax.numpy as jnp

    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def read_leaf(dataset: h5py.Dataset) -> np.ndarray:
    """A leaf as it was before packing; keys as their words."""
    value = np.asarray(dataset[()])
    if "packed" in dataset.attrs:
        count = int(dataset.attrs["packed"])  # type: ignore[arg-type]
        bits = np.unpackbits(value, axis=-1, count=count)
        return np.where(bits, 1, -1).astype(np.int8)
    return value


def _datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    group.visititems(visit)
    return found


def check_format(
    file: h5py.File, name: str, newest: int, what: str, path: Path
) -> None:
    """Refuse a file of another program, or of a later version of this one.

    Args:
        file: an HDF5 file.
        name: of the format.
        newest: the newest schema of it that is read.
        what: the format in words, for the message.
        path: the file's place, for the message.

    Raises:
        CheckpointError: the file is foreign, or of a newer schema.
    """
    if file.attrs.get("format") != name:
        raise CheckpointError(f"{path} is an HDF5 file, but not {what} of this program")
    if file.attrs["schema"] > newest:  # type: ignore[operator]
        raise CheckpointError(
            f"{path} has schema {file.attrs['schema']}, which is newer than "
            f"{newest}, the newest that this version reads: upgrade nqs-vmc"
        )


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[h5py.File]:
    """A checkpoint opened for reading.

    Raises:
        CheckpointError: it is truncated, foreign, or of a newer schema.
    """
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            check_format(file, FORMAT, SCHEMA, "a checkpoint", path)
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except CheckpointError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({error})"
        ) from None


def peek(path: Path) -> Saved:
    """Everything but the state.

    Raises:
        CheckpointError: see `open_checkpoint`.
    """
    with open_checkpoint(path) as file:
        series = {k: np.asarray(v[()]) for k, v in _datasets(file["series"]).items()}  # type: ignore[arg-type]
        return Saved(
            path=path,
            step=int(file.attrs["step"]),  # type: ignore[arg-type]
            job=json.loads(read_text(file, "job")),
            provenance=json.loads(read_text(file, "provenance")),
            series=series,
        )


def load(path: Path, template: Any) -> Any:
    """A state, bit for bit, on the devices that the template's leaves are on.

    Args:
        path: the checkpoint.
        template: a state of the same structure, as `VMC.init` gives it; or part of
            one, as ``VMCState(...)._replace``; leaves may be `jax.ShapeDtypeStruct`.

    Raises:
        CheckpointError: the file is damaged, or belongs to another model; the
            message names the leaves that are missing, extra or misshapen.
    """
    with open_checkpoint(path) as file:
        template = _of_schema(template, int(file.attrs["schema"]))  # type: ignore[arg-type]
        return read_tree(file["state"], template, str(path))  # type: ignore[arg-type]


def _of_schema(template: Any, schema: int) -> Any:
    """The template without what an older schema did not know: None, see `load`."""
    control = template.control
    if schema == 1:  # nothing of earlier good points
        control = control._replace(healing=None)
    elif schema == 2 and control.healing is not None:  # only how to step back
        known = control.healing._replace(damping=None, uneven=None)
        control = control._replace(healing=known)
    return template._replace(control=control)


def read_tree(group: h5py.Group, template: Any, source: str) -> Any:
    """Leaves of a group in the structure of a template; see `load`."""
    import jax

    stored, wanted = _datasets(group), leaves_of(template)
    problems = [f"missing: {name}" for name in wanted if name not in stored]
    problems += [f"extra: {name}" for name in stored if name not in wanted]
    values = []
    for name, leaf in wanted.items():
        if name in stored:
            value = read_leaf(stored[name])
            expected = _words(leaf)
            # Arrays of the host (windows of past steps) grow along their first axis.
            first = 1 if isinstance(leaf, np.ndarray) and leaf.ndim else 0
            same = value.shape[first:] == expected.shape[first:]
            if not same or value.dtype != expected.dtype:
                problems.append(
                    f"misshapen: {name} is {value.dtype}{list(value.shape)}, expected "
                    f"{np.dtype(expected.dtype)}{list(expected.shape)}"
                )
            values.append(_like(value, leaf, stored[name].attrs.get("prng")))
    if problems:
        shown = "\n  ".join(problems[:12])
        more = f"\n  and {len(problems) - 12} more" if len(problems) > 12 else ""
        raise CheckpointError(
            f"{source} was written by another model than this job builds:\n  "
            f"{shown}{more}\nUse the run's own job (`vmc resume`), or start a new run."
        )
    return jax.tree.unflatten(jax.tree.structure(template), values)


def _words(leaf: Any) -> Any:
    """Shape and dtype under which a leaf is stored."""
    import jax

    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.asarray(leaf)


def _like(value: np.ndarray, leaf: Any, prng: Any) -> Any:
    """A stored value as the template has it: same kind, same devices."""
    import jax
    import jax.numpy as jnp

    from vmc.distributed import put

    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        if prng is not None:
            value = jax.random.wrap_key_data(value, impl=str(prng))  # type: ignore
        sharding = leaf.sharding
        if sharding is None or len(sharding.device_set) == 1:
            # Not tied to a device, so that it may meet arrays on the whole mesh.
            return jnp.asarray(value)
        return put(value, sharding)
    return value if isinstance(leaf, np.ndarray) else type(leaf)(value)
