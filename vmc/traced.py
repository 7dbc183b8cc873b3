"""A jaxpr as a plain list of operations: calls inlined, small integers followed."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

#: Calls that are seen through, and the parameter that holds what they call.
CALLS = {
    **dict.fromkeys(("jit", "pjit", "checkpoint", "remat", "remat2"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call"), "call_jaxpr"),
    **dict.fromkeys(("custom_vjp_call", "custom_vjp_call_jaxpr"), "call_jaxpr"),
}
#: The same numbers in another shape or type.
VIEWS = frozenset(
    "reshape squeeze transpose broadcast_in_dim convert_element_type rev copy".split()
)
_EXACT: dict[str, Callable[..., int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "max": max,
    "min": min,
    **dict.fromkeys(VIEWS, lambda x: x),
}


@dataclasses.dataclass(eq=False)
class Value:
    """An array of the program; ``known`` if it is an integer that tracing tells."""

    shape: tuple[int, ...]
    dtype: Any
    known: int | None = None

    @classmethod
    def of(cls, aval: Any, known: int | None = None) -> Value:
        """From the shape and dtype of an abstract value."""
        return cls(getattr(aval, "shape", ()), getattr(aval, "dtype", None), known)

    @classmethod
    def constant(cls, x: Any) -> Value:
        """A number or array that is written into the program."""
        value = cls(jnp.shape(x), getattr(x, "dtype", jnp.result_type(x)))
        if not value.shape and value.is_a(jnp.signedinteger):
            value.known = int(x)
        return value

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of it; keys and tokens have none."""
        return self.size * getattr(self.dtype, "itemsize", 0)

    def is_a(self, kind: Any) -> bool:
        """Whether the dtype is of a kind, as ``jnp.inexact``."""
        return self.dtype is not None and jnp.issubdtype(self.dtype, kind)


class Operation(NamedTuple):
    """One equation of a block."""

    name: str
    params: dict[str, Any]
    inputs: list[Value]
    outputs: list[Value]


class Block(NamedTuple):
    """A jaxpr with its calls inlined."""

    inputs: list[Value]
    operations: list[Operation]
    outputs: list[Value]

    @classmethod
    def of_function(cls, function: Callable[..., Any], *args: Any) -> Block:
        """Trace a function on arrays or their shapes."""
        # Options of a compiler are allowed on the outermost program alone.
        program = function if hasattr(function, "trace") else jax.jit(function)
        closed = program.trace(*args).jaxpr  # pyright: ignore[reportFunctionMemberAccess]
        return block(closed, [Value.of(v.aval) for v in closed.jaxpr.invars])

    def live(self, wanted: Sequence[bool]) -> list[Operation]:
        """The operations that the wanted outputs depend on."""
        needed = {x for x, keep in zip(self.outputs, wanted) if keep}
        kept: list[Operation] = []
        for operation in reversed(self.operations):
            if not needed.isdisjoint(operation.outputs):
                kept.append(operation)
                needed.update(operation.inputs)
        return kept[::-1]


def block(jaxpr: Any, inputs: list[Value]) -> Block:
    """Operations of a jaxpr, closed or not, on these inputs."""
    consts: Iterable[Any] = ()
    if isinstance(jaxpr, core.ClosedJaxpr):
        jaxpr, consts = jaxpr.jaxpr, jaxpr.consts
    env: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    env.update(zip(jaxpr.constvars, map(Value.constant, consts), strict=True))

    def read(atom: Any) -> Value:
        return Value.constant(atom.val) if isinstance(atom, core.Literal) else env[atom]

    operations: list[Operation] = []
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        values = [read(atom) for atom in equation.invars]
        called = None
        if name in CALLS:
            called = params[CALLS[name]]
        elif name == "custom_linear_solve":
            lengths = params["const_lengths"]
            start = lengths.matvec + lengths.vecmat
            values = values[start : start + lengths.solve] + values[sum(lengths) :]
            called = params["jaxprs"].solve
        if called is not None:
            inner = block(called, values)
            operations += inner.operations
            outputs = inner.outputs
        else:
            outputs = [Value.of(v.aval) for v in equation.outvars]
            operations.append(Operation(name, params, values, outputs))
            _evaluate(operations[-1])
        env.update(zip(equation.outvars, outputs, strict=True))
    return Block(inputs, operations, [read(atom) for atom in jaxpr.outvars])


def _evaluate(operation: Operation) -> None:
    """Follow integers, of which numbers of iterations are made."""
    out = operation.outputs[0] if operation.outputs else None
    if out is None or out.shape or not out.is_a(jnp.signedinteger):
        return
    known = [x.known for x in operation.inputs]
    if operation.name in _EXACT and None not in known:
        result = _EXACT[operation.name](*known)
        out.known = result if abs(result) < 2**31 else None


def variables(jaxpr: Any) -> list[Any]:
    """Shapes and dtypes of the inputs of a jaxpr, closed or not."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
    return [v.aval for v in jaxpr.invars]


def like(avals: Sequence[Any], values: Sequence[Value]) -> list[Value]:
    """Inputs of an inner jaxpr: its shapes, and what is known outside."""
    return [Value.of(aval, x.known) for aval, x in zip(avals, values, strict=True)]


def while_body(loop: Operation) -> Block:
    """The body of a while loop; what all iterations leave alone is known inside."""
    jaxpr = loop.params["body_jaxpr"]
    first = loop.params["cond_nconsts"]
    last = first + loop.params["body_nconsts"]
    avals = variables(jaxpr)
    fixed = like(avals[: last - first], loop.inputs[first:last])
    moving, start = avals[last - first :], loop.inputs[last:]
    carry = [Value.of(aval) for aval in moving]
    after = block(jaxpr, fixed + carry).outputs
    carry = [
        Value.of(aval, x.known if before is then else None)
        for aval, x, before, then in zip(moving, start, carry, after)
    ]
    return block(jaxpr, fixed + carry)


def iterations(loop: Operation, body: Block) -> int | None:
    """Of a loop "while i < n: i += step"; None if it is of another kind.

    Args:
        loop: the while loop.
        body: its `while_body`.
    """
    jaxpr, n_fixed = loop.params["cond_jaxpr"], loop.params["cond_nconsts"]
    avals = variables(jaxpr)
    carry = body.inputs[loop.params["body_nconsts"] :]
    inputs = like(avals[n_fixed:], carry)
    cond = block(jaxpr, like(avals[:n_fixed], loop.inputs[:n_fixed]) + inputs)
    tests = cond.live([True])
    if len(tests) != 1 or tests[0].name not in ("lt", "gt"):
        return None
    i, stop = tests[0].inputs if tests[0].name == "lt" else tests[0].inputs[::-1]
    if stop.known is None or i not in inputs:
        return None
    at = inputs.index(i)
    made = [x for x in body.operations if body.outputs[at] in x.outputs]
    if not made or made[0].name != "add" or carry[at] not in made[0].inputs:
        return None
    steps = [x.known for x in made[0].inputs if x is not carry[at]]
    begin = loop.inputs[len(loop.inputs) - len(carry) + at].known
    if begin is None or len(steps) != 1 or steps[0] is None or steps[0] < 1:
        return None
    return max(0, -(-(stop.known - begin) // steps[0]))
