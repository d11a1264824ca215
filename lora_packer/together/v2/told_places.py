"""What version 2 tells of a direct upload: where each part of each file goes, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.together import refusal
from lora_packer.together.answers import fields, objects
from lora_packer.together.refusal import Purpose

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")  # RFC 9110, section 5.6.2


@frozen
class Place:
    """Where a part goes: an address, which is a key itself, and the headers that are sent with it."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@frozen
class Remote:
    """A file as the service wants it: not at all, or as an upload of parts, each with its place by its number."""

    is_there: bool
    upload_id: str = ""
    parts: Mapping[int, Place] = field(default_factory=dict)


def remotes_in(answer: Any, parts: Mapping[str, set[int]], purpose: Purpose) -> dict[str, Remote]:
    """Return how the service wants each file; ``parts`` are the numbers of each file's parts, by its name.

    Raises ServiceError where it tells of other files or parts, or of a place that nothing can be sent to.
    """
    told = {str(one.get("path")): one for one in objects(fields(answer).get("files"))}
    if set(told) != set(parts):
        raise refusal.without(purpose, answer, "names other files than those that were told")
    return {name: _remote(name, told[name], numbers, purpose) for name, numbers in parts.items()}


def require_revision(answer: Any, purpose: Purpose) -> None:
    """Raise ServiceError where an answer names no revision that was made."""
    if not fields(answer).get("revisionId"):
        raise refusal.without(purpose, answer, "names no revision")


def _remote(name: str, item: dict[str, Any], numbers: set[int], purpose: Purpose) -> Remote:
    if item.get("skipUpload"):
        return Remote(is_there=True)
    numbered = {number: one for one in objects(item.get("parts")) if type(number := one.get("partNumber")) is int}
    if set(numbered) != numbers:
        raise refusal.unreadable(purpose, 200, f"has not one address for each part of {name}")
    upload_id = item.get("uploadId", "")
    if not isinstance(upload_id, str):
        raise refusal.unreadable(purpose, 200, f"has an uploadId of {name} that is no text")
    places = {number: _place(one, purpose) for number, one in numbered.items()}
    return Remote(is_there=False, upload_id=upload_id, parts=places)


def _place(item: dict[str, Any], purpose: Purpose) -> Place:
    headers = fields(item.get("headers"))
    for name, value in headers.items():
        is_text = isinstance(value, str) and value.isascii() and (value.isprintable() or not value)
        if not is_text or not _HEADER_NAME.fullmatch(name):
            raise refusal.unreadable(purpose, 200, "has a header for a part that cannot be sent")
    return Place(str(item.get("url")), headers)
