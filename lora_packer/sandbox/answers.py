"""What the sandbox's routes are given and what they answer with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """An ErrorData answer of the service's openapi.yaml."""

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
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def not_found(what: str) -> Refused:
    """Return the answer for something that is not there."""
    return Refused(404, f"{what} not found", "not_found_error")


@dataclass(frozen=True, slots=True)
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
