"""Why the service did not do what was asked, in its own words: read out of every form in which it is known to answer.

``ErrorData`` of the service's openapi.yaml (``error.message``), a bare ``message`` or ``error``, the ``detail`` of a
validation error with its place (fastapi.tiangolo.com/tutorial/handling-errors), RPC errors whose reason is in
``details`` (lib/cli/utils/_api_error.py in together 3.1.1; google/rpc/error_details.proto), problem details (RFC 9457),
and the XML of a store that takes the parts of an upload.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lora_packer.together.next_steps import next_step

_WORDS = ("error", "title", "message", "detail", "msg", "description", "error_description", "errors")
_BELOW = ("details", "fieldViolations", "violations")
_MOST = 5  # of a list
_XML = re.compile(rb"<(Code|Message)>([^<]{1,1000})</\1>")


def message_of(body: bytes, content_type: str) -> str | None:
    """Return the service's own message in the body of an answer, or None."""
    if content_type.startswith("text/plain"):
        return body[:2000].decode("utf-8", "replace").strip() or None
    try:
        return said_in(json.loads(body))
    except (ValueError, RecursionError):
        return _in_xml(body[:65_536])


def said_in(value: Any) -> str | None:
    """Return the message in a parsed answer, or None."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, list):
        parts = [part for part in map(said_in, value[:_MOST]) if part]
        if len(value) > _MOST:
            parts.append(f"and {len(value) - _MOST} more")
        return "; ".join(parts) or None
    return _in_object(value) if isinstance(value, dict) else None


def _in_object(value: dict[str, Any]) -> str | None:
    said = ""
    for words in (said_in(value.get(key)) for key in (*_WORDS, *_BELOW)):
        if words and words not in said:
            said = f"{said}: {words}" if said else words
    place = _place(value)
    if said and place and place not in said:
        said = f"{place}: {said}"
    code, kind = value.get("code"), value.get("type")
    if not isinstance(code, str) or not code:
        # Of the kinds of errors those tell something that have a next step.
        code = kind if isinstance(kind, str) and next_step(kind) is not None else ""
    if code and code not in said:
        return f"{said} ({code})" if said else code
    return said or None


def _place(value: dict[str, Any]) -> str:
    """Which field it is about, where that is told beside the message."""
    location = value.get("loc")
    parts = location if isinstance(location, list) else [value.get("param") or value.get("field")]
    return ".".join(part for part in parts if isinstance(part, str) and part != "body")


def _in_xml(body: bytes) -> str | None:
    """``<Code>`` and ``<Message>`` of an error of S3's."""
    found = {name: text.decode("utf-8", "replace").strip() for name, text in _XML.findall(body)}
    return ": ".join(filter(None, (found.get(b"Code"), found.get(b"Message")))) or None
