"""Floating-point work of a function, counted from its jaxpr.

What is counted is the program as it was written, before XLA fuses or rewrites it, over
all devices, without what no result depends on.

*Operations* are real ones: a product of complex numbers is 6 (4 products, 2 sums), a
sum 2, a quotient 11.  A product of matrices (m, k) (k, n) is 2 m k n, Cholesky n^3 / 3,
a triangular solve n^2 per column, an eigendecomposition 9 n^3, times 4 if complex.
Integers, booleans and random bits are no floating-point work, signs, comparisons,
selections and moves of data none at all, and neither is communication.

*Transcendental functions* (exp, log, tanh, sqrt, the modulus of a complex number...)
are counted apart, one for every number that they are applied to, real or complex.

*Bytes* are a lower bound of what moves between the arithmetic and the memory, caches
included.  Every loop, at any depth, reads the inputs and writes the outputs of its body
once per iteration: of an input that is only sliced the slices, of an output that is
only updated in place the update, and nothing for what passes through.  Outside of loops
the operands and results of products of matrices, decompositions and solves count.
Neither what elementwise work outside of loops moves nor intermediate results of a body
do: the true traffic is larger.  Where the working set fits a cache the rate may exceed
what main memory can do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp

from vmc.traced import (
    VIEWS,
    Block,
    Operation,
    Value,
    block,
    iterations,
    like,
    variables,
    while_body,
)

#: Operations per element, real and complex.
ARITHMETIC = {
    **dict.fromkeys(("add", "sub", "add_any"), (1, 2)),
    **dict.fromkeys(("mul", "square"), (1, 6)),
    **dict.fromkeys(("max", "min", "rem"), (1, 1)),
    "clamp": (2, 2),
    "div": (1, 11),
}
#: Operations per element that a reduction, cumulation or scatter takes in.
REDUCTIONS = {
    **dict.fromkeys(("sum", "add"), (1, 2)),
    **dict.fromkeys(("prod", "mul"), (1, 6)),
    **dict.fromkeys(("max", "min"), (1, 1)),
}
TRANSCENDENTAL = frozenset(
    "exp exp2 expm1 log log1p tanh logistic sin cos tan asin acos atan atan2 sinh cosh "
    "asinh acosh atanh sqrt rsqrt cbrt pow erf erfc erf_inv lgamma digamma polygamma "
    "cumlogsumexp igamma igammac bessel_i0e bessel_i1e".split()
)
#: Foreign code: nobody knows what it does.
FOREIGN = frozenset(
    "pallas_call ffi_call pure_callback io_callback custom_partitioning".split()
)
#: Parts of an array; arrays with a part replaced are in `_replaced`.
SLICES = frozenset(("dynamic_slice", "gather", "slice"))
LOOPS = frozenset(("scan", "while"))
#: Scans whose inner loops depend on a counter are gone through up to this length.
UNROLLED = 4096

Branch = Literal["larger", "smaller"]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Work of a function, see the module.

    Attributes:
        flops: floating-point operations.
        transcendentals: transcendental functions.
        bytes: lower bound of the traffic.
        unknown: why the numbers are not the whole truth (a loop without a known number
            of iterations, foreign code); what is named there is not in them.
    """

    flops: float = 0.0
    transcendentals: float = 0.0
    bytes: float = 0.0
    unknown: tuple[str, ...] = ()

    def __add__(self, other: Cost) -> Cost:
        """Both."""
        more = tuple(x for x in other.unknown if x not in self.unknown)
        return Cost(
            self.flops + other.flops,
            self.transcendentals + other.transcendentals,
            self.bytes + other.bytes,
            self.unknown + more,
        )

    def times(self, n: float) -> Cost:
        """The same n times."""
        return Cost(
            n * self.flops, n * self.transcendentals, n * self.bytes, self.unknown
        )

    @property
    def work(self) -> float:
        """Operations and functions together, to compare branches."""
        return self.flops + self.transcendentals


def count(function: Callable[..., Any], *args: Any, branch: Branch = "larger") -> Cost:
    """Work of ``function(*args)``; it is traced, not run.

    Args:
        function: a function of arrays that JAX can trace.
        args: arrays or their shapes.
        branch: which branch of a condition counts.
    """
    whole = Block.of_function(function, *args)
    return _Counter(branch).cost(whole, [True] * len(whole.outputs), in_loop=False)


class _Counter:
    """Goes through blocks; ``branch`` as in `count`."""

    def __init__(self, branch: Branch) -> None:
        self._branch: Branch = branch
        self._nested = {
            "shard_map": self._shard_map,
            "cond": self._cond,
            "scan": self._scan,
            "while": self._while,
        }

    def cost(self, block: Block, wanted: Sequence[bool], *, in_loop: bool) -> Cost:
        """Work of a block, as far as the wanted outputs depend on it."""
        live = block.live(wanted)
        used = {x for operation in live for x in operation.inputs}
        used.update(x for x, keep in zip(block.outputs, wanted) if keep)
        total = Cost()
        for operation in live:
            if operation.name in self._nested:
                flags = [x in used for x in operation.outputs]
                total += self._nested[operation.name](operation, flags, in_loop)
            else:
                total += _leaf(operation, in_loop)
        return total

    def _shard_map(self, op: Operation, wanted: list[bool], in_loop: bool) -> Cost:
        jaxpr = op.params["jaxpr"]
        inner = block(jaxpr, like(variables(jaxpr), op.inputs))
        each = self.cost(inner, wanted, in_loop=in_loop)
        return each.times(op.params["mesh"].size)

    def _cond(self, op: Operation, wanted: list[bool], in_loop: bool) -> Cost:
        costs = [
            self.cost(block(jaxpr, op.inputs[1:]), wanted, in_loop=in_loop)
            for jaxpr in op.params["branches"]
        ]
        index = op.inputs[0].known
        if index is not None:
            return costs[min(max(index, 0), len(costs) - 1)]
        choose = max if self._branch == "larger" else min
        return choose(costs, key=lambda c: (bool(c.unknown), c.work))

    def _scan(self, op: Operation, wanted: list[bool], in_loop: bool) -> Cost:
        del wanted, in_loop
        jaxpr, length = op.params["jaxpr"], op.params["length"]
        first = op.params["num_consts"]
        last = first + op.params["num_carry"]
        avals = variables(jaxpr)

        def body(carry: Sequence[int | None]) -> tuple[Cost, list[int | None]]:
            inputs = like(avals[:first], op.inputs[:first])
            inputs += [Value.of(*pair) for pair in zip(avals[first:last], carry)]
            inner = block(jaxpr, inputs + [Value.of(aval) for aval in avals[last:]])
            return self._body(inner), [x.known for x in inner.outputs[: last - first]]

        cost, _ = body([None] * (last - first))
        carry = [x.known for x in op.inputs[first:last]]
        if not cost.unknown or length > UNROLLED or set(carry) <= {None}:
            return cost.times(length)
        total = Cost()
        for _ in range(length):
            cost, carry = body(carry)
            total += cost
        return total

    def _while(self, op: Operation, wanted: list[bool], in_loop: bool) -> Cost:
        del wanted, in_loop
        body = while_body(op)
        cost = self._body(body)
        n = iterations(op, body)
        if n is not None:
            return cost.times(n)
        if cost.work == 0 and not cost.unknown:
            return cost
        return Cost(unknown=("a while loop without a static number of iterations",))

    def _body(self, body: Block) -> Cost:
        """One iteration, with what it reads and writes."""
        wanted = [True] * len(body.outputs)
        cost = self.cost(body, wanted, in_loop=True)
        return cost + Cost(bytes=_traffic(body, body.live(wanted)))


def _traffic(body: Block, live: list[Operation]) -> float:
    """Bytes of the inputs and outputs of a body of a loop, as the module says."""
    uses: dict[Value, list[Operation]] = {}
    makers: dict[Value, Operation] = {}
    for operation in live:
        makers.update(dict.fromkeys(operation.outputs, operation))
        for value in set(operation.inputs):
            uses.setdefault(value, []).append(operation)

    def read(value: Value) -> float:
        total = 0.0
        for operation in uses.get(value, ()):
            is_first = value is operation.inputs[0]
            if operation.name in SLICES and is_first:
                total += operation.outputs[0].bytes
            elif operation.name in VIEWS:
                total += read(operation.outputs[0])
            elif operation.name not in LOOPS and not (
                is_first and _replaced(operation)
            ):
                return value.bytes
        return min(total, value.bytes)

    def written(value: Value) -> float:
        maker = makers.get(value)
        if maker is None or maker.name in LOOPS:
            return 0.0
        if maker.name in VIEWS:
            return min(written(maker.inputs[0]), value.bytes)
        return (_replaced(maker) or value).bytes

    return sum(map(read, body.inputs)) + sum(map(written, body.outputs))


def _replaced(op: Operation) -> Value | None:
    """The new numbers, if the operation replaces some of an array."""
    if op.name.startswith("scatter"):
        return op.inputs[2]
    return op.inputs[1] if op.name == "dynamic_update_slice" else None


def _leaf(op: Operation, in_loop: bool) -> Cost:
    """Work of one operation that holds no others."""
    if op.name in FOREIGN:
        return Cost(unknown=(f"{op.name} is foreign code",))
    if op.name in _LINEAR_ALGEBRA:
        is_complex = op.inputs[0].is_a(jnp.complexfloating)
        flops = _LINEAR_ALGEBRA[op.name](op) * (4 if is_complex else 1)
        moved = 0 if in_loop else sum(x.bytes for x in {*op.inputs, *op.outputs})
        return Cost(flops=flops, bytes=moved)
    out = op.outputs[0] if op.outputs else None
    if out is None or not out.is_a(jnp.inexact):
        return Cost()
    complex_in = op.inputs and op.inputs[0].is_a(jnp.complexfloating)
    if op.name in TRANSCENDENTAL or (op.name == "abs" and complex_in):
        return Cost(transcendentals=out.size)
    return Cost(flops=_elementwise(op, out))


def _elementwise(op: Operation, out: Value) -> float:
    """Operations of elementwise work and of reductions."""
    kind = int(out.is_a(jnp.complexfloating))
    if op.name in ARITHMETIC:
        return out.size * ARITHMETIC[op.name][kind]
    if op.name == "integer_pow":
        y = abs(op.params["y"])
        products = max(0, y.bit_length() + y.bit_count() - 2)
        inverse = ARITHMETIC["div"][kind] if op.params["y"] < 0 else 0
        return out.size * (products * ARITHMETIC["mul"][kind] + inverse)
    head, _, tail = op.name.replace("-", "_").rpartition("_")
    each = REDUCTIONS.get(tail, (0, 0))[kind]
    if head == "reduce":
        return (op.inputs[0].size - out.size) * each
    if head == "reduce_window":
        return out.size * (math.prod(op.params["window_dimensions"]) - 1) * each
    if head == "scatter":
        return op.inputs[2].size * each
    if not head and tail.startswith("cum"):
        return out.size * REDUCTIONS.get(tail[3:], (0, 0))[kind]
    return 0.0


def _batched(op: Operation, per_matrix: Callable[[int, int], float]) -> float:
    """Work on every matrix, of a long and a short side, of the first operand."""
    *batch, m, n = op.inputs[0].shape
    return math.prod(batch) * per_matrix(max(m, n), min(m, n))


def _dot(op: Operation) -> float:
    (contracted, _), _ = op.params["dimension_numbers"]
    left = op.inputs[0].shape
    return 2 * op.outputs[0].size * math.prod(left[axis] for axis in contracted)


def _convolution(op: Operation) -> float:
    kernel = op.inputs[1]
    n_out = kernel.shape[op.params["dimension_numbers"].rhs_spec[0]]
    return 2 * op.outputs[0].size * kernel.size / n_out


def _orthogonal(m: int, n: int) -> float:
    return 2 * m * n**2 - 2 * n**3 / 3


#: Operations of real arrays (Golub and Van Loan, Matrix Computations).
_LINEAR_ALGEBRA: dict[str, Callable[[Operation], float]] = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "cholesky": lambda op: _batched(op, lambda m, n: n**3 / 3),
    "triangular_solve": lambda op: op.inputs[1].size * op.inputs[0].shape[-1],
    "eigh": lambda op: _batched(op, lambda m, n: 9 * n**3),
    "lu": lambda op: _batched(op, lambda m, n: m * n**2 - n**3 / 3),
    "svd": lambda op: _batched(op, lambda m, n: 6 * m * n**2 + 20 * n**3),
    "eig": lambda op: _batched(op, lambda m, n: 25 * n**3),
    **dict.fromkeys(
        ("geqrf", "qr", "householder_product"),
        lambda op: _batched(op, _orthogonal),
    ),
}
