"""Flax modules, nnx and linen, reduced to pure functions of a flat dictionary.

flax is imported inside the functions: it takes a second, which a run with a
built-in ansatz need not pay.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from vmc.base import Key, Params, Problem
from vmc.errors import JobError

#: Methods that together replace full evaluation.
FAST = ("cache", "log_ratios", "try_move", "commit")


class Reduced(NamedTuple):
    """A flax module without its framework.

    Attributes:
        name: of its class, for messages.
        init: key -> {"path.to.parameter": array}.
        call: (method, params, *args) -> result.
        static: name of a static method -> the function.
        methods: names of the fast methods that it defines, and "scores".
    """

    name: str
    init: Callable[[Key], dict[str, Array]]
    call: Callable[..., Any]
    static: Callable[[str], Callable[..., Any]]
    methods: frozenset[str]


def reduce_module(
    module: Any, problem: Problem, keys: Mapping[str, Any], real: np.dtype
) -> Reduced:
    """Reduce a module or a module class.

    Args:
        module: nnx or linen module, instance or class.
        problem: what constructor arguments may be filled from.
        keys: constructor arguments; empty for an instance.
        real: dtype that real parameters are cast to.

    Raises:
        JobError: it is no flax module, cannot be constructed with the keys, holds
            state other than parameters, or defines only some fast methods.
    """
    from flax import linen, nnx

    cls = module if inspect.isclass(module) else type(module)
    if not issubclass(cls, nnx.Module | linen.Module):
        raise JobError(
            f"{module!r} is not a flax module (nnx or linen). Build the wave function "
            "from a pair of functions with vmc.wavefunction.from_functions, or write "
            "a factory (problem, **keys) -> WaveFunction."
        )
    if cls is not module and keys:
        raise JobError(
            f"keys {sorted(keys)} were given with an instance of {cls.__name__}, which "
            "is already constructed. Give the class itself, or no keys."
        )
    methods = _fast_names(cls)
    reduce = _reduce_nnx if issubclass(cls, nnx.Module) else _reduce_linen
    init, call = reduce(module, cls, problem, keys, real)
    return Reduced(cls.__name__, init, call, lambda name: getattr(cls, name), methods)


class _Layout:
    """Flat names of the leaves of a tree of parameters."""

    def __init__(self, owner: str, tree: Any, real: np.dtype) -> None:
        paths, self._treedef = jax.tree.flatten_with_path(tree)
        self._names = [_path_name(path) for path, _ in paths]
        complex_dtype = np.result_type(real, np.complex64)
        kinds = {"f": real, "V": real, "c": complex_dtype}
        self._dtypes = [kinds.get(np.dtype(x.dtype).kind) for _, x in paths]
        bad = [n for n, d in zip(self._names, self._dtypes) if d is None]
        if not paths or bad or len(set(self._names)) < len(paths):
            what = f"parameters {bad} are not floating" if bad else "no parameters"
            raise JobError(f"{owner} has {what}; there is nothing to optimise")

    def pack(self, tree: Any) -> dict[str, Array]:
        """The leaves by name, cast to the precision."""
        leaves = jax.tree.leaves(tree)
        triples = zip(self._names, leaves, self._dtypes)
        return {name: jnp.asarray(x, dtype) for name, x, dtype in triples}

    def unpack(self, params: Params) -> Any:
        """The tree again."""
        return jax.tree.unflatten(self._treedef, [params[n] for n in self._names])


def _path_name(path: tuple[Any, ...]) -> str:
    """Such as "layers.0.kernel"; nnx ends each path with the variable's value."""
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return name.removesuffix(".value")


def _reduce_nnx(
    module: Any, cls: type, problem: Problem, keys: Mapping[str, Any], real: np.dtype
) -> tuple[Callable[[Key], dict[str, Array]], Callable[..., Any]]:
    from flax import nnx

    if cls is module:
        build = _builder(cls, problem, keys)
        graph, params, rest = _split(_example(cls.__name__, build))

        def init(key: Key) -> dict[str, Array]:
            return layout.pack(_split(build(key))[1])
    else:
        graph, params, rest = _split(module)
        # Host copies: a caller that donates the parameters must not delete them.
        start = jax.tree.map(np.array, params)

        def init(key: Key) -> dict[str, Array]:
            return layout.pack(jax.tree.map(jnp.array, start))

    layout = _Layout(cls.__name__, params, real)
    constants = jax.tree.map(np.array, rest)

    def call(method: str, params: Params, *args: Any) -> Any:
        merged = nnx.merge(graph, layout.unpack(params), constants)
        return getattr(merged, method)(*args)

    return init, call


def _builder(
    cls: type, problem: Problem, keys: Mapping[str, Any]
) -> Callable[[Key], Any]:
    """Key -> a new nnx module of the class."""
    from flax import nnx

    signature = inspect.signature(cls.__init__)
    arguments, seeded = _arguments(cls.__name__, signature, problem, keys)

    def construct(key: Key) -> Any:
        return cls(**arguments, rngs=nnx.Rngs(key)) if seeded else cls(**arguments)

    what = f"constructing {cls.__name__} with {arguments}"
    return lambda key: _explain(what, lambda: construct(key))


def _example(owner: str, build: Callable[[Key], Any]) -> Any:
    """A module of the class: shapes alone where it holds nothing but parameters.

    Raises:
        JobError: it holds plain arrays that depend on the key.
    """
    from flax import nnx

    key = jax.random.key(0)
    shapes = nnx.eval_shape(lambda: build(key))
    # Under tracing, nnx takes arrays of JAX held by a module for static attributes.
    held = [
        value for _, part in nnx.iter_modules(shapes) for value in vars(part).values()
    ]
    traced = any(isinstance(value, Tracer) for value in held)
    if not traced and not jax.tree.leaves(_split(shapes)[2]):
        return shapes
    first, second = build(key), build(jax.random.key(1))
    constants = (
        map(np.asarray, jax.tree.leaves(_split(m)[2])) for m in (first, second)
    )
    if not all(itertools.starmap(np.array_equal, zip(*constants))):
        raise JobError(
            f"{owner} holds arrays that depend on rngs but are not nnx.Param, so a "
            "run could not restore them. Make them nnx.Param, or fix their seed."
        )
    return first


def _split(module: Any) -> tuple[Any, Any, Any]:
    """Structure, parameters, and the plain arrays that are constants.

    Raises:
        JobError: the module holds variables that are not parameters.
    """
    from flax import nnx

    graph, params, rest = nnx.split(module, nnx.Param, ...)
    kinds = {
        ".".join(map(str, path)): type(leaf).__name__
        for path, leaf in nnx.to_flat_state(rest)
        if isinstance(leaf, nnx.Variable)
    }
    if kinds:
        listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise JobError(
            f"{type(module).__name__} holds state that is not nnx.Param: {listed}. "
            "log psi must be a pure function of the parameters and one configuration, "
            "so BatchNorm, Dropout and stored random streams cannot be used: take "
            "LayerNorm, or construct the layer without state (a deterministic module)."
        )
    return graph, params, rest


def _reduce_linen(
    module: Any, cls: type, problem: Problem, keys: Mapping[str, Any], real: np.dtype
) -> tuple[Callable[[Key], dict[str, Array]], Callable[..., Any]]:
    if cls is module:
        arguments, _ = _arguments(
            cls.__name__, inspect.signature(cls), problem, keys, skip=("parent", "name")
        )
        module = cls(**arguments)
    # Two rows, so that a module cannot take the batch for a single configuration.
    sigma = jax.ShapeDtypeStruct((2, problem.space.n_sites), real)
    variables = _explain(
        f"initialising {cls.__name__} with a batch sigma of shape {sigma.shape}",
        lambda: jax.eval_shape(module.init, jax.random.key(0), sigma),
    )
    others = sorted(set(variables) - {"params"})
    if others:
        raise JobError(
            f'{cls.__name__} has the collections {others} besides "params". log psi '
            "must be a pure function of the parameters and one configuration, so "
            "BatchNorm, Dropout and other state cannot be used: take LayerNorm, or "
            "a deterministic module."
        )
    layout = _Layout(cls.__name__, variables.get("params", {}), real)

    def init(key: Key) -> dict[str, Array]:
        return layout.pack(module.init(key, jnp.ones(sigma.shape, real))["params"])

    def call(method: str, params: Params, *args: Any) -> Any:
        return module.apply({"params": layout.unpack(params)}, *args, method=method)

    return init, call


def _arguments(
    owner: str,
    signature: inspect.Signature,
    problem: Problem,
    keys: Mapping[str, Any],
    skip: tuple[str, ...] = (),
) -> tuple[dict[str, Any], bool]:
    """Constructor arguments from the keys, and whether it also wants ``rngs``."""
    named = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in ("self", "rngs", *skip)
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    unknown = [key for key in keys if key not in named]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        near = difflib.get_close_matches(unknown[0], named, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise JobError(
            f"{owner} has no constructor key {unknown[0]!r}; its keys are "
            f"{sorted(named)}.{hint}"
        )
    offered = {"n_sites": problem.space.n_sites, "problem": problem}
    filled = {name: x for name, x in offered.items() if name in named} | dict(keys)
    missing = [
        name
        for name, parameter in named.items()
        if name not in filled and parameter.default is parameter.empty
    ]
    if missing:
        raise JobError(
            f"{owner} needs the constructor keys {missing}; given were {sorted(keys)}"
        )
    return filled, "rngs" in signature.parameters


def _fast_names(cls: type) -> frozenset[str]:
    """Names of the fast methods that a module class defines."""
    found = {n for n in (*FAST, "scores") if callable(getattr(cls, n, None))}
    present = [name for name in FAST if name in found]
    if present and len(present) < len(FAST):
        raise JobError(
            f"{cls.__name__} defines {present} but not "
            f"{[n for n in FAST if n not in found]}: the fast methods {list(FAST)} "
            "replace full evaluation only together"
        )
    if present and not isinstance(inspect.getattr_static(cls, "commit"), staticmethod):
        raise JobError(
            f"{cls.__name__}.commit must be a static method commit(cache, pending, "
            "accept): it sees no parameters. Put @staticmethod above it."
        )
    return frozenset(found)


def _explain(what: str, action: Callable[[], Any]) -> Any:
    """Run the user's code; a failure is reported with what was tried."""
    try:
        return action()
    except JobError:
        raise
    except Exception as error:
        raise JobError(f"{what} failed: {type(error).__name__}: {error}") from error
