"""HTML that is put together from parts: text is escaped where it comes in, and only what is made here is markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

from lora_packer.frozen import frozen
from lora_packer.redact import escape, scrub, without_own

_WIDEST = 2000  # characters of one text
_VOID = frozenset({"input", "meta"})


@frozen
class Markup:
    """HTML that is escaped already; everything else is text."""

    text: str


Part = Markup | str | int | None | Iterable["Part"]


def tag(name: str, /, *parts: Part, **attributes: str | int | float | bool | None) -> Markup:
    """Return an element. Text in it and in its attributes is escaped and without credentials.

    Attributes: ``class_`` is ``class``, ``_`` within a name is ``-``; None and False leave one out, True has no value.
    """
    given = "".join(_attribute(key.strip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(parts).text}</{name}>")


def joined(part: Part) -> Markup:
    """Return parts one after the other."""
    if isinstance(part, Markup):
        return part
    if isinstance(part, str):
        return Markup(html.escape(shown(part)))
    if isinstance(part, int):
        return Markup(f"{part:,}")
    return Markup("".join(joined(item).text for item in part or ()))


def shown(text: str) -> str:
    """Return text fit for a page: no credentials, no control or bidi characters, of a bounded length."""
    return escape(scrub(without_own(text)), _WIDEST)


def _attribute(name: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(shown(str(value)))}"'
