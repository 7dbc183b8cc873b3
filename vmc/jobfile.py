"""Job files as text: reading, overriding, writing, and what to say when wrong."""

from __future__ import annotations

import datetime
import difflib
import inspect
import json
import numbers
import re
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vmc.errors import JobError

_LINE = re.compile(r"^(.*) \(at line (\d+), column (\d+)\)$", re.DOTALL)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message: what was probably meant, or what is known."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.55)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        JobError: it is missing, unreadable, or malformed (with file and line).
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        others = [p.name for p in path.parent.glob("*.toml")]
        others = [name for name in others if name != "pyproject.toml"]
        hint = suggest(path.name, others) if others else ""
        raise JobError(f"there is no job file {path}{hint}") from None
    except IsADirectoryError:
        raise JobError(
            f"{path} is a folder, not a job file; for a run directory use "
            f"`vmc resume {path}` or `vmc show {path}`"
        ) from None
    except UnicodeDecodeError as error:
        raise JobError(
            f"{path} is not a text file in UTF-8 (byte {error.start}); a job file is "
            "TOML"
        ) from None
    except OSError as error:
        raise JobError(f"cannot read {path}: {error.strerror}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(_syntax_message(path, text, str(error))) from None


def _syntax_message(path: Path, text: str, message: str) -> str:
    match = _LINE.match(message)
    if match is None:
        n_lines = max(1, len(text.splitlines()))
        return f"{path}:{n_lines}: not valid TOML: {message}"
    what, line, column = match[1], int(match[2]), int(match[3])
    lines = text.splitlines()
    shown = lines[line - 1] if line <= len(lines) else ""
    return (
        f"{path}:{line}:{column}: not valid TOML: {what}\n"
        f"  {shown}\n  {' ' * (column - 1)}^"
    )


def apply_overrides(
    data: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """Tables with some keys replaced.

    Args:
        data: nested tables; not changed.
        overrides: "section.key=value"; the value is read as TOML, or else taken
            as text.

    Raises:
        JobError: an override has no "=" or runs through a key that is no table.
    """
    result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in data.items()}
    for item in overrides:
        path, equals, text = item.partition("=")
        keys = [part.strip() for part in path.split(".")]
        if not equals or not all(keys):
            raise JobError(
                f"--set {item}: expected section.key=value, as "
                "--set optimizer.learning_rate=0.02"
            )
        table = result
        for depth, key in enumerate(keys[:-1]):
            inner = table.get(key, {})
            if not isinstance(inner, Mapping):
                raise JobError(
                    f"--set {item}: {'.'.join(keys[: depth + 1])} is not a table"
                )
            table[key] = dict(inner)
            table = table[key]
        table[keys[-1]] = _toml_value(text.strip())
    return result


def _toml_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = parsed.get("value")
    # TOML reads 11:30:00 as a time of day; here it is a duration, a text.
    is_time = isinstance(value, datetime.time | datetime.date)
    return text if is_time or set(parsed) != {"value"} else value


def to_toml(tables: Mapping[str, Any]) -> str:
    """Nested tables as TOML: top-level tables as sections, deeper ones inline."""
    plain_keys = {k: v for k, v in tables.items() if not isinstance(v, Mapping)}
    lines = [f"{_toml_key(k)} = {_toml_text(v)}" for k, v in plain_keys.items()]
    for name, table in tables.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_toml_key(name)}]"]
            lines += [f"{_toml_key(k)} = {_toml_text(v)}" for k, v in table.items()]
    return "\n".join(lines).strip() + "\n"


def _toml_key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes are TOML escapes, apart from DEL, which JSON leaves bare.
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = (f"{_toml_key(k)} = {_toml_text(v)}" for k, v in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml_text(v) for v in value) + "]"
    return repr(value)


def plain(value: Any) -> Any:
    """NumPy numbers and arrays, and tuples, as Python's own numbers and lists."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return value.tolist()
    return value


def recorded(value: Any) -> Any:
    """A value of a job as it can be written into a file.

    Raises:
        JobError: it cannot.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: recorded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [recorded(item) for item in value]
    if callable(value):
        return reference_text(value)
    raise JobError(
        f"{value!r} cannot be written into a run directory; use numbers, texts, lists "
        "and functions of a file, or run without `out`"
    )


def reference_text(value: Any) -> str:
    """A function given in Python as "file.py:name", so that a run can reload it.

    Raises:
        JobError: it is not a top-level name of a file.
    """
    name = getattr(value, "__qualname__", "")
    try:
        source = inspect.getsourcefile(value)
    except TypeError:
        source = None
    if source is None or "." in name or "<" in name or not Path(source).is_file():
        raise JobError(
            f"{value!r} cannot be written into a run directory, because a later "
            "program could not find it: define it at the top level of a file, or "
            'name it as "file.py:name", or run without `out`'
        )
    return f"{Path(source).resolve()}:{name}"


def describe(error: ValidationError, model: Any) -> str:
    """All findings of pydantic, one line each, in the words of the job file."""
    lines: dict[tuple[str, ...], str] = {}
    for item in error.errors(include_url=False):
        where, field = _locate(item, model)
        lines.setdefault(where, _finding(item, where, field, model))
    # A key that may be a number or a table fails as both: keep what is inside.
    found = [
        text
        for where, text in lines.items()
        if not any(other[: len(where)] == where != other for other in lines)
    ]
    if len(found) == 1:
        return found[0]
    return f"{len(found)} problems" + "".join(f"\n  {text}" for text in found)


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation such as ``Schedule | list[Growth]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list):
        return [m for a in typing.get_args(annotation) for m in _models_of(a)]
    return []


def _locate(item: Any, model: Any) -> tuple[tuple[str, ...], Any]:
    """Keys of the job file that lead to a finding, and the last one's field.

    Pydantic mixes tags of union members and list positions into its locations;
    a part that is no key counts only where it is the unknown key itself.
    """
    where: list[str] = []
    field, last = None, len(item["loc"]) - 1
    for depth, part in enumerate(item["loc"]):
        known = model.model_fields if model is not None else {}
        if part in known:
            field = known[part]
            inner = _models_of(field.annotation)
            where.append(str(part))
            model = inner[0] if inner else None
        elif depth == last and item["type"] == "extra_forbidden":
            where.append(str(part))
    return tuple(where), field


def _finding(item: Any, where: tuple[str, ...], field: Any, model: Any) -> str:
    """One finding in words: where, what came, what was expected."""
    name = where[-1] if where else ""
    table = f"[{'.'.join(where[:-1])}] " if len(where) > 1 else ""
    if item["type"] == "extra_forbidden":
        known = _owner(where[:-1], model).model_fields
        return f"{table}unknown key {name!r}{suggest(name, known)}"
    expects = (field.json_schema_extra or {}).get("expects", "") if field else ""
    if item["type"] == "missing":
        if expects == "a table":
            return f"the section [{name}] is missing"
        return f"{table}the key {name!r} is missing: expected {expects}"
    detail = str(item.get("ctx", {}).get("error", ""))
    if expects == "a table" and detail:
        return f"[{name}] {detail}"
    given = item["input"]
    shown = f" = {given!r}" if _is_value(given) else f": got {type(given).__name__}"
    because = f" ({detail})" if detail else ""
    in_list = next((p for p in item["loc"][1:] if isinstance(p, int)), None)
    place = "" if in_list is None else f"[{in_list}]"
    return f"{table}{name}{place}{shown}: expected {expects}{because}"


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list | Mapping)


def _owner(path: tuple[str, ...], model: Any) -> Any:
    for part in path:
        model = _models_of(model.model_fields[part].annotation)[0]
    return model
