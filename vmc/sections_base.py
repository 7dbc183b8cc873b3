"""What the sections of a job file are made of: keys, strict types, times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vmc.jobfile import plain

_DAYS = re.compile(r"(?:(\d+)-)?(\d+):(\d{1,2}):(\d{1,2})(\.\d+)?")

#: A registered name, "file.py:name", or (in Python) the function itself.
Reference: TypeAlias = str | Callable[..., Any]


def key(default: Any, expects: str, meaning: str, **limits: Any) -> Any:
    """A key of the job file: its default, what it expects, what it means."""
    extra: dict[str, Any] = {"expects": expects}
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


def seconds(text: str | float) -> float:
    """Seconds of a time limit: a number, "HH:MM:SS" or "D-HH:MM:SS".

    Raises:
        ValueError: the text is none of them, or not positive.
    """
    if isinstance(text, str) and not text.strip().isdecimal():
        match = _DAYS.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a time")
        days, hours, minutes, secs = (int(g or 0) for g in match.groups()[:4])
        total = float(((days * 24 + hours) * 60 + minutes) * 60 + secs)
    else:
        total = float(text)
    if not total > 0:
        raise ValueError(f"{text!r} is not a positive time")
    return total


class Section(BaseModel):
    """Base of the sections: immutable, strict types, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, data: Any) -> Any:
        """NumPy numbers and tuples, which TOML cannot hold, as Python's own."""
        return plain(data) if isinstance(data, Mapping) else data


class Open(Section):
    """A section that also takes the keys of the factory it names."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    @property
    def keys(self) -> dict[str, Any]:
        """The keys that belong to the factory."""
        return dict(self.model_extra or {})
