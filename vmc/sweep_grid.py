"""Grids of a sweep: from the text of an option to values, and to names of folders."""

from __future__ import annotations

import decimal
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from vmc.errors import JobError
from vmc.jobfile import apply_overrides, to_toml

_NUMBER = r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*"
_RANGE = re.compile(f"{_NUMBER}:{_NUMBER}(?::{_NUMBER})?")
_SAFE = re.compile(r"[A-Za-z0-9._+-]+")

#: Values of one key above which a range is taken for a slip of the pen.
MOST = 10_000
#: Length of the longest name; file systems allow 255 bytes.
LONGEST = 160


def parse(text: str) -> tuple[str, list[Any]]:
    """One ``--grid``: a key of the job and its values.

    Args:
        text: "section.key=START:STOP:STEP", both ends included, or
            "section.key=VALUE,VALUE,..." with values as TOML has them.

    Returns:
        The key and its values, as numbers, texts, lists or tables.

    Raises:
        JobError: there is no key or no value, a value comes twice, or a range is
            empty.
    """
    key, equals, given = text.partition("=")
    key, given = key.strip(), given.strip()
    if not equals or not key or not all(key.split(".")):
        raise JobError(
            f"--grid {text}: expected section.key=VALUES, as "
            "--grid hamiltonian.h=0.5:1.5:0.1 or --grid ansatz.alpha=1,2,4"
        )
    match = _RANGE.fullmatch(given)
    if match:
        values = _range(text, match.groups())
    else:
        values = [_value(text, part) for part in split(given)]
    for n, value in enumerate(values):
        if any(_same(value, other) for other in values[:n]):
            raise JobError(f"--grid {text}: the value {text_of(value)} comes twice")
    return key, values


def _same(a: Any, b: Any) -> bool:
    """Equal for the job: 1 and 1.0 are, 1 and true are not."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _range(text: str, parts: Sequence[str | None]) -> list[Any]:
    """Values from START to STOP, in decimal arithmetic: 0.5:1.5:0.1 has eleven."""
    if parts[2] is None:
        raise JobError(
            f"--grid {text}: a range is START:STOP:STEP with the end included, as "
            f"{parts[0]}:{parts[1]}:1"
        )
    start, stop, step = (Decimal(str(part)) for part in parts)
    if step == 0 or (stop - start) * step < 0:
        right = f"{start}:{stop}:{-step}" if step else f"{start}:{stop}:1"
        raise JobError(
            f"--grid {text}: no value lies between {start} and {stop} in steps of "
            f"{step}; did you mean {right}?"
        )
    try:
        count = int((stop - start) // step) + 1
    except decimal.DecimalException:
        count = MOST + 1
    if count > MOST:
        raise JobError(f"--grid {text}: more than {MOST} values; take a larger step")
    values = [start + n * step for n in range(count)]
    whole = all(v == v.to_integral_value() for v in (start, step))
    return [int(v) if whole else float(v) for v in values]


def split(text: str) -> list[str]:
    """Parts between the commas that are outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return [part.strip() for part in parts]


def _value(text: str, part: str) -> Any:
    if not part:
        raise JobError(
            f"--grid {text}: a value is missing; expected VALUE,VALUE,... or "
            "START:STOP:STEP"
        )
    return apply_overrides({}, [f"value={part}"])["value"]


def text_of(value: Any) -> str:
    """A value as TOML."""
    return to_toml({"_": {"value": value}}).partition("value = ")[2].strip()


# ---- names -----------------------------------------------------------------------


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Key -> its last part where that is unique, else the whole key."""
    keys = list(keys)
    short = [key.rpartition(".")[2] for key in keys]
    return {
        key: key if short.count(name) > 1 or name == "seed" != key else name
        for key, name in zip(keys, short, strict=True)
    }


def slug(value: Any) -> str:
    """A value as a part of a file name: 0.5, 4x4, or a text with its digest."""
    if isinstance(value, list) and value and all(type(v) is int for v in value):
        return "x".join(map(str, value))
    text = value if isinstance(value, str) else text_of(value)
    if _SAFE.fullmatch(text) and len(text) <= LONGEST // 2:
        return text
    cleaned = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-")[:40]
    return f"{cleaned}~{_digest(text)}"


def name_of(values: Mapping[str, Any], seed: int) -> str:
    """Name of a point, safe for file systems: "h=0.5,seed=1".

    Args:
        values: of the grid keys.
        seed: of the job.
    """
    short = labels(values)
    parts = [f"{short[key]}={slug(value)}" for key, value in values.items()]
    name = ",".join([*parts, f"seed={seed}"])
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 10]}~{_digest(name)}"


def product(
    grid: Mapping[str, Sequence[Any]], seeds: Sequence[int], chain: str | None = None
) -> list[tuple[str, dict[str, Any], int, str | None]]:
    """Name, values, seed and start of every point; the last key runs fastest."""
    found = []
    for combination in itertools.product(*grid.values(), seeds):
        values, seed = dict(zip(grid, combination)), combination[-1]
        after = None
        if chain is not None and (n := _place(grid[chain], values[chain])) > 0:
            after = name_of(values | {chain: grid[chain][n - 1]}, seed)
        found.append((name_of(values, seed), values, seed, after))
    return found


def _place(values: Sequence[Any], value: Any) -> int:
    return next(n for n, other in enumerate(values) if other is value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
