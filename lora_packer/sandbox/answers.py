"""What the sandbox's routes are given and what they answer with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lora_packer.frozen import frozen

_BARE = re.compile(r"[A-Za-z0-9._-]+")


# The codes of google.rpc.Code and their words, by HTTP status.
_RPC = {
    400: (3, "invalid argument"),
    403: (7, "permission denied"),
    404: (5, "not found"),
    409: (6, "already exists"),
    422: (3, "invalid argument"),
    429: (8, "resource exhausted"),
    503: (14, "unavailable"),
}


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """An ErrorData answer of the service's openapi.yaml; of version 2, the same in the form of RPC errors."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @property
    def rpc_body(self) -> dict[str, Any]:
        """The body where the reason stands in ``details``: lib/cli/utils/_api_error.py in together 3.1.1."""
        code, words = _RPC.get(self.status, (13, "internal"))
        return {"message": words, "code": code, "details": [{"detail": self.body["error"]["message"]}]}


def not_found(what: str) -> Refused:
    """Return the answer for something that is not there."""
    return Refused(404, f"{what} not found", "not_found_error")


@frozen
class Request:
    """One request.

    Attributes:
        method: the HTTP method.
        path: the address's path in its parts, without escapes.
        query: the first value of each parameter.
        body: as it came.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes

    def json(self, *texts: str) -> dict[str, Any]:
        """Return the body's object; the fields named must be text where they are there. Raises Refused."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Refused(400, "the request's body is not a JSON object")
        for name in texts:
            if name in value and not isinstance(value[name], str):
                raise Refused(422, f"{name} must be a string", param=name)
        return value

    def require(self, body: Mapping[str, Any], *names: str) -> None:
        """Refuse a body without one of these fields. Raises Refused."""
        for name in names:
            if not body.get(name):
                raise Refused(400, f"{name} is required", param=name)


def objects(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the body's list of objects. Raises Refused."""
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Refused(422, f"{name} must be a list of objects", param=name)
    return value


def require_bare_name(body: Mapping[str, Any]) -> None:
    """Refuse a name with the account's before it. Raises Refused."""
    if not _BARE.fullmatch(body["name"]):
        raise Refused(400, "name must be a bare name", param="name")


def page(request: Request, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one page of a list: ``limit`` items from the cursor ``after`` on. Raises Refused."""
    start, limit = request.query.get("after", "0"), request.query.get("limit", "100")
    if not start.isdecimal() or not limit.isdecimal() or not int(limit):
        raise Refused(400, "after and limit are a cursor and a positive number")
    end = int(start) + int(limit)
    return {"object": "list", "data": items[int(start) : end], "next_cursor": str(end) if end < len(items) else None}


def only(items: list[dict[str, Any]], what: str) -> dict[str, Any]:
    """Return the one that was looked for. Raises Refused where there is none."""
    if not items:
        raise not_found(what)
    return items[0]
