"""Servers that lie: the Hub, a store and the service that say nothing, for ever, or something else than they should."""

from __future__ import annotations

import atexit
import gzip
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

from hostile.case import (
    CANARY,
    INCONCLUSIVE,
    ROOT,
    SERVICE,
    TINY_BASE,
    UNREADABLE,
    UPLOAD,
    Arguments,
    Build,
    Case,
    tiny,
)

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lying_server import Lies, answer, endless, lying

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
_BOMB = gzip.compress(bytes(2**28))  # 256 MiB of nothing
_PACKED = "Content-Encoding: gzip\r\n"
_PAUSE = 0.2  # seconds between two pieces of what comes slowly


def _closing(data: bytes) -> Lies:
    """Send something, and hang up."""

    def lies(_head: bytes) -> Iterator[bytes]:
        yield data
        raise OSError("the server hangs up")

    return lies


def _always(data: bytes) -> Lies:
    return lambda _head: iter([data])


def _echo(head: bytes) -> Iterator[bytes]:
    """Answer with what was asked, credentials too."""
    secrets = [line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization")]
    words = b" ".join(secrets)
    yield answer(
        json.dumps({"error": {"message": words.decode("latin-1")}}).encode(),
        status="403 No",
        headers=f"X-Error-Message: {words.decode('latin-1')}\r\n",
    )


# Name -> what is sent, and the seconds between two pieces.
_LIES: dict[str, tuple[Lies, float]] = {
    "never answers": (lambda _head: repeat(b""), _PAUSE),
    "hangs up": (_closing(b""), 0.0),
    "a byte now and then": (endless(_OK + b"Content-Length: 9999\r\n\r\n", b" "), _PAUSE),
    "an error, a byte now and then": (endless(b"HTTP/1.1 500 Sorry\r\nContent-Length: 9999\r\n\r\n", b" "), _PAUSE),
    "headers without end": (endless(_OK, b"X-A: " + b"y" * 1000 + b"\r\n"), 0.0),
    "headers now and then": (endless(_OK, b"X-A: y\r\n"), _PAUSE),
    "a body without end": (endless(_OK + _CHUNKED, _CHUNK), 0.0),
    "an error without end": (endless(b"HTTP/1.1 404 No\r\n" + _CHUNKED, _CHUNK), 0.0),
    "a bomb in gzip": (_always(answer(_BOMB, headers=_PACKED)), 0.0),
    "an error that is a bomb": (_always(answer(_BOMB, status="404 No", headers=_PACKED)), 0.0),
    "packed as nobody asked": (_always(answer(b"abc", headers="Content-Encoding: zstd\r\n")), 0.0),
    "interim answers without end": (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100), 0.0),
    "interim answers now and then": (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), _PAUSE),
    "redirects without end": (_always(answer(b"", status="302 There", headers="Location: /again\r\n")), 0.0),
    "more than its Content-Length": (_always(_OK + b"Content-Length: 5\r\n\r\n" + b"[" * 50), 0.0),
    "less than its Content-Length": (_closing(_OK + b"Content-Length: 50\r\n\r\n{}"), 0.0),
    "a Content-Length that is none": (_closing(_OK + b"Content-Length: many\r\n\r\n{}"), 0.0),
    "a Content-Length of 10^30": (_closing(_OK + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n{}"), 0.0),
    "cut in a chunk": (_closing(_OK + _CHUNKED + b"100\r\n{"), 0.0),
    "no HTTP": (_closing(b"\x1b[31m::error::x\n" * 10), 0.0),
    "a page": (_always(answer(b"<html>Log in</html>", headers="Content-Type: text/html\r\n")), 0.0),
    "a list in a list": (_always(answer(b"[" * 100_000)), 0.0),
    "escapes in an error": (_always(answer(b'{"message": "\\u001b[31m\\n::error::x"}', status="400 No")), 0.0),
    "the credentials": (_echo, 0.0),
}

_AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_REGION": "us-east-1"}
_BASE = ("--base-config", str(TINY_BASE))


def _given(*arguments: str) -> Build:
    def build(folder: Path) -> Arguments:
        tiny(folder)
        return arguments

    return build


# Name -> the command, the variable that names the server, other variables, the exit codes that are right.
_CALLS: dict[str, tuple[Build, str, dict[str, str], frozenset[int]]] = {
    "an adapter on the Hub": (
        _given("check", "hf://org/name", *_BASE),
        "HF_ENDPOINT",
        {"HF_TOKEN": CANARY},
        frozenset({UNREADABLE, INCONCLUSIVE}),
    ),
    "a base model on the Hub": (
        _given("check", "a", "--base-model", "org/name"),
        "HF_ENDPOINT",
        {"HF_TOKEN": CANARY},
        frozenset({UNREADABLE, INCONCLUSIVE}),
    ),
    "an adapter in S3": (
        _given("check", "s3://bucket/a.zip", *_BASE),
        "AWS_ENDPOINT_URL_S3",
        _AWS,
        frozenset({UNREADABLE, INCONCLUSIVE, UPLOAD}),
    ),
    "publish": (
        _given("publish", "a", "--to", "s3://bucket/p/", *_BASE),
        "AWS_ENDPOINT_URL_S3",
        _AWS,
        frozenset({UPLOAD}),
    ),
    "models": (_given("models"), "TOGETHER_BASE_URL", {"TOGETHER_API_KEY": CANARY}, frozenset({SERVICE})),
}


def all_cases() -> list[Case]:
    """Return every lie to every call. The servers run until this process ends."""
    servers = ExitStack()
    atexit.register(servers.close)
    threading.stack_size(2**18)  # there are many of them
    found = []
    for lie, (lies, pause) in _LIES.items():
        url = servers.enter_context(lying(lies, pause=pause))
        for call, (build, variable, others, exits) in _CALLS.items():
            at = f"{url}/v1" if variable == "TOGETHER_BASE_URL" else url
            found.append(
                Case(
                    "server",
                    f"{lie}, to {call}",
                    build,
                    exits=exits,
                    environment={variable: at, "AWS_EC2_METADATA_DISABLED": "true", **others},
                    leaves=("*.upload.json",),
                    short_deadlines=True,
                    deadline=60.0,
                )
            )
    return found
