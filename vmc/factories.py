"""Factories and their keys: what a name of a job stands for, and what it takes.

A name is a registered one, or "file.py:name" for a user's own, whose errors are shown
with the user's own traceback.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vmc.errors import JobError
from vmc.jobfile import suggest

Factory = Callable[..., Any]


def is_user_code(reference: Any) -> bool:
    """Whether a name of the job is a path or a function, not a registered name."""
    return (
        not isinstance(reference, str)
        or ".py:" in reference
        or (reference.endswith(".py"))
    )


def find(
    kind: str, table: Mapping[str, Factory], reference: Any, folder: Path
) -> Factory:
    """What a name of the job stands for.

    Args:
        kind: for messages, as "lattice".
        table: registered names.
        reference: a registered name, "file.py:name", or the object itself.
        folder: where a relative path starts.

    Raises:
        JobError: there is no such name or file, the file raises, or what it names
            cannot be called.
    """
    if is_user_code(reference):
        found = reference
        if isinstance(reference, str):
            found = load_object(reference, folder)
        if not callable(found):
            raise JobError(
                f"[{kind}] {reference!r} is a {type(found).__name__}, {found!r:.80}; "
                "expected a function or class, that is called with the other keys"
            )
        return found
    if reference not in table:
        raise JobError(
            f"[{kind}] name = {reference!r} is not registered"
            f"{suggest(reference, table)} (`vmc list` shows all; your own is "
            '"file.py:name")'
        )
    return table[reference]


def user_file(reference: str, folder: Path) -> Path:
    """Path of the file in "file.py:name"."""
    return (folder / reference.rpartition(":")[0]).resolve()


def load_object(reference: str, folder: Path) -> Any:
    """The object that "file.py:name" names.

    Raises:
        JobError: the file is missing, raises (its own traceback is in the message),
            or has no such name.
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not name.isidentifier():
        raise JobError(
            f'{reference!r}: expected "file.py:name", the name of a function or class '
            "in the file"
        )
    path = user_file(reference, folder)
    if not path.is_file():
        near = suggest(path.name, [p.name for p in path.parent.glob("*.py")])
        raise JobError(
            f"{reference!r}: there is no file {path} (paths start at the job file)"
            f"{near}"
        )
    module = _load_module(path, reference)
    if name not in vars(module):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise JobError(f"{path} defines no {name!r}{suggest(name, public)}")
    return vars(module)[name]


def _load_module(path: Path, reference: str) -> ModuleType:
    name = f"vmc_user_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The file may import its neighbours; at the end, so that they hide nothing.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Registered first: dataclasses and flax look up the module of a class.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise JobError(failure(reference, error, path)) from error
    return module


def call(
    reference: Any, factory: Factory, folder: Path, *args: Any, **keys: Any
) -> Any:
    """Call a factory; what a user's own raises is shown with its own traceback.

    Raises:
        JobError: the call failed.
    """
    if not is_user_code(reference):
        return factory(*args, **keys)
    try:
        return factory(*args, **keys)
    except (Exception, SystemExit) as error:
        path = user_file(reference, folder) if isinstance(reference, str) else None
        raise JobError(failure(reference, error, path)) from error


def failure(reference: Any, error: BaseException, path: Path | None) -> str:
    """A message with the part of the traceback that the user wrote."""
    stack = traceback.extract_tb(error.__traceback__)
    own = [f for f in stack if path is None or Path(f.filename) == path]
    start = stack.index(own[0]) if own else len(stack)
    lines = traceback.format_list(stack[start:])
    lines += traceback.format_exception_only(error)
    head = "Traceback (most recent call last):\n" if stack[start:] else ""
    return f"{reference!r} raised an error:\n{head}{''.join(lines).rstrip()}"


def parameters_of(
    factory: Factory, filled: Sequence[str] = ()
) -> tuple[dict[str, inspect.Parameter], bool]:
    """Keyword parameters of a factory, and whether it takes any others.

    Args:
        factory: function or class.
        filled: names of parameters that the caller fills itself.
    """
    found: dict[str, inspect.Parameter] = {}
    open_ended = False
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            if name not in filled:
                found[name] = parameter
    return found, open_ended


def check_keys(
    section: str,
    reference: Any,
    factory: Factory,
    keys: Mapping[str, Any],
    *,
    filled: Sequence[str] = (),
) -> None:
    """Refuse keys that a factory does not take, or that it lacks.

    Args:
        section: of the job file, as "ansatz".
        reference: how the job names the factory.
        factory: its keyword parameters are the keys of the section.
        keys: keys of the job file.
        filled: names of parameters that the caller fills itself.

    Raises:
        JobError: a key is unknown, missing or of the wrong kind.
    """
    parameters, open_ended = parameters_of(factory, filled)
    for key in keys:
        if key not in parameters and not open_ended:
            known = suggest(key, parameters) or "; it takes no keys"
            raise JobError(f"[{section}] unknown key {key!r} for {reference!r}{known}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in keys:
            raise JobError(f"[{section}] {reference!r} needs the key {key!r}")
    _check_kinds(section, factory, keys)


def _check_kinds(section: str, factory: Factory, keys: Mapping[str, Any]) -> None:
    """Compare plain annotations (numbers, texts, lists) with the values given."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(target)
    except (NameError, TypeError):
        return  # annotations that only a type checker can read
    for key, value in keys.items():
        if key not in hints:
            continue
        try:
            TypeAdapter(hints[key]).validate_python(value, strict=True)
        except PydanticUserError:
            continue
        except ValidationError:
            kind = inspect.formatannotation(hints[key])
            raise JobError(f"[{section}] {key} = {value!r}: expected {kind}") from None


def defaults_of(factory: Factory) -> dict[str, Any]:
    """Default values of a factory's keys, apart from None."""
    parameters, _ = parameters_of(factory)
    empty = (inspect.Parameter.empty, None)
    return {k: p.default for k, p in parameters.items() if p.default not in empty}


def list_table(table: Mapping[str, Factory], filled: Sequence[str]) -> dict[str, Any]:
    """Names with their keys and first docstring lines, for `vmc list`."""
    listed: dict[str, Any] = {}
    for name, factory in table.items():
        parameters, _ = parameters_of(factory, filled)
        keys = {
            key: None if p.default is inspect.Parameter.empty else p.default
            for key, p in parameters.items()
        }
        summary = (inspect.getdoc(factory) or "").partition("\n")[0]
        listed[name] = {"summary": summary, "keys": keys}
    return listed
