"""Words and numbers of the benchmark report; everything foreign is escaped here.

Names, labels and error texts come from job files and from other people's programs.
Markup is built by `tag` alone, which escapes every child and attribute that is not
`Html` already, so that no text can become markup by being forgotten.
"""

from __future__ import annotations

import html
import math
import re
from typing import Any

#: Elements that have no end.
_VOID = frozenset({"br", "input", "meta"})

#: Control characters (illegal in XML, colours in a terminal), and those that turn the
#: direction of writing, with which a name can show as another one.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)

#: What Markdown would take for its own: anywhere (an underscore between letters is
#: safe), and at the start of a line.
_MARKDOWN = re.compile(
    r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[#+=-]|(?<=^\d)[.)](?= |$))"
)
_MARKDOWN_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Html(str):
    """Text that is markup already."""


def clean(value: Any) -> str:
    """Any value as text without control characters or lone surrogates."""
    text = "" if value is None else str(value)
    text = text.encode("utf-8", "replace").decode("utf-8")
    return _HIDDEN.sub("\ufffd", text)


def escape(value: Any) -> Html:
    """Text as HTML, safe between tags and between the quotes of an attribute."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(clean(value), quote=True))


def join(parts: Any, between: str = "") -> Html:
    """Pieces of text or markup, one after the other."""
    return Html(str(escape(between)).join(escape(part) for part in parts))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """One element of HTML or SVG.

    Args:
        name: of the element.
        children: text (escaped) or `Html` (taken as it is); None is left out.
        attributes: None and False are left out, True stands alone; an underscore
            becomes a hyphen, a last one is dropped (``class_``).
    """
    pairs = []
    for key, value in attributes.items():
        key = key.removesuffix("_").replace("_", "-")
        if value is True:
            pairs.append(f" {key}")
        elif value is not None and value is not False:
            pairs.append(f' {key}="{escape(value)}"')
    start = f"<{name}{''.join(pairs)}>"
    if name in _VOID:
        return Html(start)
    inside = "".join(escape(child) for child in children if child is not None)
    return Html(f"{start}{inside}</{name}>")


def markdown(value: Any) -> str:
    """Text on one line of Markdown that nothing in it can leave or format."""
    text = " ".join(clean(value).split())
    return _MARKDOWN.sub(r"\\\1", text).translate(_MARKDOWN_HTML)


def number(value: Any) -> float | None:
    """A finite number, or None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def scientific(value: float | None, digits: int = 2) -> str:
    """1.2e-4, or 0.12; a dash for None."""
    if value is None:
        return "\u2013"
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    if -1 <= power <= 2:
        return _signed(f"{value:.{max(0, digits - 1 - power)}f}")
    return _signed(f"{mantissa}e{power}")


def general(value: float | None, digits: int = 3) -> str:
    """1,230 or 0.0123: plain digits between 1e-3 and 1e7; a dash for None."""
    if value is None:
        return "\u2013"
    if value == 0:
        return "0"
    # Of the rounded value: 0.9996 has the digits of 1.00.
    size = math.floor(math.log10(float(f"{abs(value):.{digits - 1}e}")))
    if not -3 <= size < 7:
        return scientific(value, digits)
    return _signed(f"{value:,.{max(0, digits - 1 - size)}f}")


def compact(value: float | None) -> str:
    """12.3k or 1.23M: three digits of a large number; a dash for None."""
    if value is None or abs(value) < 1e4:
        return general(value)
    size, letter = (1e3, "k") if abs(value) < 999_500 else (1e6, "M")
    return f"{general(value / size)}{letter}"


def integer(value: float | None) -> str:
    """12,345; a dash for None."""
    return "\u2013" if value is None else _signed(f"{value:,.0f}")


def with_error(value: float | None, sigma: float | None) -> str:
    """(1.23 \u00b1 0.04)e-4, the digits being those that the error allows."""
    if value is None:
        return "\u2013"
    if not sigma:
        return scientific(value, 3)
    size = math.floor(math.log10(max(abs(value), sigma)))
    scale = 10.0**size
    decimals = max(1, 1 - math.floor(math.log10(sigma / scale)))
    if decimals > 4:  # more digits than anyone reads
        return f"{scientific(value, 5)} \u00b1 {scientific(sigma, 1)}"
    mean, error = value / scale, sigma / scale
    text = f"{mean:.{decimals}f} \u00b1 {error:.{decimals}f}"
    return _signed(text if size == 0 else f"({text})e{size}")


def energy_text(value: float | None, sigma: float | None) -> str:
    """-81.49551 \u00b1 0.00012: an energy with as many decimals as its error has."""
    if value is None:
        return "\u2013"
    if not sigma or sigma < 1e-8 * abs(value):
        error = f" \u00b1 {scientific(sigma, 1)}" if sigma else ""
        return _signed(f"{value:.10g}{error}")
    decimals = min(12, max(0, 1 - math.floor(math.log10(sigma))))
    return _signed(f"{value:.{decimals}f} \u00b1 {sigma:.{decimals}f}")


def count(n: int, one: str, many: str | None = None) -> str:
    """1 cell, 2 cells."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def _signed(text: str) -> str:
    """The true minus sign before a number; the hyphen of an exponent stays."""
    return re.sub(r"(?<![\de])-", "\u2212", text)
