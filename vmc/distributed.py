"""The walker mesh: one axis over all devices, and the few collectives we use.

Per-walker code runs in ``jax.shard_map`` with ``check_vma=False``: with the
default a vjp with respect to replicated parameters inserts a hidden psum, and
per-sample scores come out wrong on two devices.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from vmc.base import WALKERS
from vmc.errors import JobError
from vmc.memory import compiling

#: Replicated over devices / split over walkers along the leading axis.
REPLICATED = PartitionSpec()
BY_WALKER = PartitionSpec(WALKERS)
#: Numbers of an array that is concatenated rather than written in place.
SMALL = 64


def walker_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A 1-D mesh over the given devices, by default all of them."""
    return Mesh(np.array(jax.devices() if devices is None else devices), (WALKERS,))


def check_divisible(n_chains: int, n_devices: int) -> None:
    """Refuse a number of chains that the devices cannot share evenly.

    Raises:
        JobError: names the nearest numbers that work.
    """
    if n_chains < 1:
        raise JobError(f"n_chains is {n_chains}; at least one chain is needed")
    if n_chains % n_devices:
        below = n_chains // n_devices * n_devices
        near = [n for n in (below, below + n_devices) if n > 0]
        raise JobError(
            f"n_chains = {n_chains} cannot be split over {n_devices} devices evenly; "
            f"the nearest valid numbers are {' and '.join(map(str, near))}"
        )


def per_walker(
    function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """``function`` on each device's share of the walkers; see the module docstring."""
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


#: What makes XLA:CPU compile three times as fast, for programs that are run once.
HASTE = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}

#: What lets it use registers of 512 bits where a CPU has them: by itself it takes half.
WIDE = {"xla_cpu_prefer_vector_width": 512}


def compiled(
    function: Callable[..., Any],
    mesh: Mesh,
    in_specs: Any,
    out_specs: Any,
    *,
    once: bool = False,
) -> Program:
    """`per_walker` under ``jax.jit``, with arguments placed on the mesh.

    Without placing them, host arrays (a restored state) and arrays of the mesh
    (every later one) would each have a compilation of their own: the mesh of an
    array is part of its type.

    Args:
        function: on the walkers of one device.
        mesh: the devices.
        in_specs: where its arguments lie.
        out_specs: where its results lie.
        once: whether it runs once, so that compiling is most of its time.
    """
    known = _known_options(mesh.devices.flat[0].platform)
    options = {k: v for k, v in known.items() if once or k in WIDE}
    program = jax.jit(
        per_walker(function, mesh, in_specs, out_specs), compiler_options=options
    )
    return Program(program, mesh, in_specs)


@functools.cache
def _known_options(platform: str) -> dict[str, Any]:
    """Those of `HASTE` and `WIDE` that this compiler knows: no public interface."""
    if platform != "cpu":
        return {}
    options = HASTE | WIDE
    if _knows(options):
        return options
    return {name: value for name, value in options.items() if _knows({name: value})}


def _knows(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda: jnp.zeros(())).lower().compile(options)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A compiled function that places its arguments; see `compiled`."""

    program: Any
    mesh: Mesh
    in_specs: Any
    _ahead: list[Future[Any]] = dataclasses.field(default_factory=list, repr=False)
    _places: dict[Any, list[NamedSharding]] = dataclasses.field(
        default_factory=dict, repr=False
    )

    def __call__(self, *args: Any) -> Any:
        """Run it, once what `prepare` has begun is done."""
        while self._ahead:
            self._ahead.pop().result()
        leaves, structure = jax.tree.flatten(args)
        places = self._places.get(structure)
        if places is None:
            places = placements(structure, self.mesh, self.in_specs)
            self._places[structure] = places
        return self.program(*structure.unflatten(map(_placed, leaves, places)))

    def lower(self, *args: Any) -> Any:
        """Lower it for these arguments, or their shapes, as ``jax.jit`` does."""
        return self.program.lower(*place(args, self.mesh, self.in_specs))

    def prepare(self, *args: Any) -> None:
        """Begin to compile it for these arguments, or their shapes, and return.

        XLA leaves the interpreter alone while it compiles: another program can be
        traced, compiled and run meanwhile.
        """
        lowered = self.lower(*args)
        thread = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._ahead.append(thread.submit(compiling, lowered.compile))
        thread.shutdown(wait=False)


def place(tree: Any, mesh: Mesh, specs: Any) -> Any:
    """Put arrays onto the mesh; what lies there already stays.

    Args:
        tree: pytree of arrays; those of the host are equal on all processes.  Shapes
            (`jax.ShapeDtypeStruct`) get their place as an attribute.
        mesh: the mesh.
        specs: one ``PartitionSpec`` for all, or a pytree of them that begins as
            ``tree`` does.
    """
    leaves, structure = jax.tree.flatten(tree)
    out = map(_placed, leaves, placements(structure, mesh, specs))
    return structure.unflatten(out)


def placements(structure: Any, mesh: Mesh, specs: Any) -> list[NamedSharding]:
    """Where each leaf of a pytree of this structure lies; arguments as in `place`."""
    some = jax.tree.map(
        lambda spec: _placement(mesh, spec),
        specs,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
    )
    whole = structure.unflatten(range(structure.num_leaves))
    return jax.tree.leaves(jax.tree.broadcast(some, whole))


@functools.cache
def _placement(mesh: Mesh, spec: PartitionSpec) -> NamedSharding:
    """One object for all arrays that lie alike: comparing it with itself is quick.

    On one device XLA calls its results replicated; so are then the arguments.
    """
    return NamedSharding(mesh, spec if mesh.size > 1 else REPLICATED)


def _placed(x: Any, placement: NamedSharding) -> Any:
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement)
    # Most arguments are results of the program before; asking JAX takes 50 us for each.
    if isinstance(x, Array) and x.sharding == placement:
        return x
    alone = jax.process_count() == 1
    return jax.device_put(x, placement) if alone else put(x, placement)


def put(value: Any, sharding: Sharding) -> Array:
    """One array, of the host or this process, spread over all processes.

    Every process keeps its own part: ``jax.device_put`` would first send the whole
    around to compare it.
    """
    if isinstance(value, Array):
        if value.sharding.is_equivalent_to(sharding, value.ndim):
            return value
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            words = put(np.asarray(jax.random.key_data(value)), sharding)
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(value))
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def to_host(tree: Any) -> Any:
    """Arrays as whole NumPy arrays; all processes must call it.

    Arrays that are split over processes are gathered; keys stay keys.
    """

    def one(x: Any) -> Any:
        if not isinstance(x, Array) or jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        if x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        sharding = x.sharding
        assert isinstance(sharding, NamedSharding)
        return np.asarray(_replicated(sharding.mesh)(x))

    return jax.tree.map(one, tree)


@functools.cache
def _replicated(mesh: Any) -> Callable[[Array], Array]:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, REPLICATED))


def n_devices() -> int:
    """Devices along the walker axis; call inside `per_walker`."""
    return lax.axis_size(WALKERS)


def total(tree: Any) -> Any:
    """Sum over devices of each array, in one message: every one costs a latency."""
    if n_devices() == 1:
        return tree
    return _packed(tree, lambda x: lax.psum(x, WALKERS))


def _packed(tree: Any, collective: Callable[[Array], Array]) -> Any:
    """One collective for all arrays of a dtype, joined along their last axis."""
    leaves, structure = jax.tree.flatten(tree)
    leaves = [jnp.asarray(x) for x in leaves]
    out: list[Any] = [None] * len(leaves)
    for dtype in dict.fromkeys(x.dtype for x in leaves):
        some = [k for k, x in enumerate(leaves) if x.dtype == dtype]
        whole = collective(joined([leaves[k] for k in some]))
        start = 0
        for k in some:
            part = whole[..., start : start + leaves[k].size]
            out[k] = part.reshape(*part.shape[:-1], *leaves[k].shape)
            start += leaves[k].size
    return structure.unflatten(out)


def joined(arrays: list[Array]) -> Array:
    """All numbers of some arrays of one dtype as one vector.

    Written in place: XLA:CPU's loop over a concatenation of matrices takes 30 ns per
    number.  Small ones beside one another are concatenated before: every write is a
    kernel that has to be compiled.
    """
    parts: list[Array] = []
    for small, group in itertools.groupby(arrays, lambda x: x.size <= SMALL):
        some = [x.reshape(-1) for x in group]
        parts += [jnp.concatenate(some)] if small else some
    out = jnp.zeros((sum(x.size for x in parts),), parts[0].dtype)
    start = 0
    for x in parts:
        out = lax.dynamic_update_slice(out, x, (start,))
        start += x.size
    return out if len(parts) > 1 else parts[0]


def gather_all(tree: Any) -> Any:
    """Every device's arrays in a new leading axis, on every device, in one message."""
    if n_devices() == 1:
        return jax.tree.map(lambda x: x[None], tree)
    return _packed(tree, lambda x: lax.all_gather(x, WALKERS))


def total_rows(x: Array, axis: int = 0) -> Array:
    """This device's rows of the sum over devices."""
    return lax.psum_scatter(x, WALKERS, scatter_dimension=axis, tiled=True)


def largest(x: Array) -> Array:
    """Maximum over devices."""
    return lax.pmax(x, WALKERS)


def gather(x: Array, axis: int = 0) -> Array:
    """Rows of every device in global order, on every device."""
    if n_devices() == 1:
        return x
    return lax.all_gather(x, WALKERS, axis=axis, tiled=True)


def columns_of_rows(x: Array) -> Array:
    """Rows (B, n) of every device -> a share of the columns of all, (Ns, n / devices).

    Columns of zeros fill up the shares.
    """
    count = n_devices()
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % count)))
    return lax.all_to_all(x, WALKERS, split_axis=1, concat_axis=0, tiled=True)


def local_rows(x: Array, n_local: int, axis: int = 0) -> Array:
    """This device's rows of a replicated array."""
    if n_devices() == 1:
        return x
    start = lax.axis_index(WALKERS) * n_local
    return lax.dynamic_slice_in_dim(x, start, n_local, axis)


def from_first(tree: Any) -> Any:
    """Everybody takes the first device's value.

    A redundant solve may differ in its last bits between unlike nodes, and
    replicated parameters would drift apart unnoticed.
    """
    if n_devices() == 1:
        return tree
    first = lax.axis_index(WALKERS) == 0
    return jax.tree.map(
        lambda x: lax.psum(jnp.where(first, x, jnp.zeros_like(x)), WALKERS), tree
    )


def agree(tree: Any) -> Array:
    """Whether replicated arrays are the same, bit for bit, on all devices: bool."""
    if n_devices() == 1:
        return jnp.asarray(True)
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(tree):
        real = jnp.stack([leaf.real, leaf.imag]) if jnp.iscomplexobj(leaf) else leaf
        words = lax.bitcast_convert_type(real, jnp.uint32).reshape(-1)
        # Weighted by place, so that exchanged entries are seen as well.
        place = 2 * jnp.arange(words.size, dtype=jnp.uint32) + 1
        total = total * jnp.uint32(31) + jnp.sum(words * place, dtype=jnp.uint32)
    # All bits turned over, the largest is the smallest: one message for both.
    high, low = lax.pmax(jnp.stack([total, ~total]), WALKERS)
    return high == ~low
