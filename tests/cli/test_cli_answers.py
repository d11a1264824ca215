"""Whatever JSON or XML a server answers, a command ends in a sentence and an exit code of the README's."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import TINY, TINY_BASE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lying_server import answer, lying
from together_calls import MODEL, World
from together_support import TOKEN, presigned

from lora_packer import http
from lora_packer.hub import Hub
from lora_packer.publisher.retry import Patience
from lora_packer.together import Client

Cli = Callable[..., Any]

_EXITS = range(8)
_ODD: list[Any] = [
    None, True, 5, -1, 10**400, 1e308, "", "a\nb", "\x1b[31m", "\u202e", "9" * 500, "$(id)", "::error::", [], {}, [[]],
    [None, 3], {"a": {}}, {"id": "ep_1"}, "projects/x/models/ml_1", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z",
]  # fmt: skip
_MANY = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
_FEW = settings(_MANY, max_examples=4)  # botocore takes its time
_SEEDS = st.integers(0, 2**32)


def changed(value: Any, chance: random.Random) -> Any:
    """The value with something in it left out, or of another type."""
    inside = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inside or chance.random() < 0.1:
        return copy.deepcopy(chance.choice(_ODD))
    key = chance.choice(inside)
    if isinstance(value, dict) and chance.random() < 0.2:
        return {name: item for name, item in value.items() if name != key}
    found = copy.copy(value)
    found[key] = changed(value[key], chance)
    return found


def judged(result: Any) -> None:
    """It ended as a command ends."""
    assert result.code in _EXITS, result.text
    assert result.text.strip()
    assert "Traceback" not in result.text
    assert "\x1b" not in result.text
    assert not any(line.startswith("::") or len(line) > 400 for line in result.text.splitlines())
    assert TOKEN not in result.text


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request waits before it is tried again."""
    for kind in (Client, Hub):
        assert kind.__init__.__kwdefaults__ is not None
        monkeypatch.setitem(kind.__init__.__kwdefaults__, "sleep", lambda _: None)
    monkeypatch.setattr(Patience.__init__, "__defaults__", (timedelta(0),))


# ---- the service, whose answers are right but for one thing

_ASKED: dict[str, Callable[[World], tuple[str, ...]]] = {
    "models": lambda _: ("models",),
    "model": lambda _: ("models", MODEL),
    "endpoints": lambda _: ("endpoints",),
    "hardware": lambda _: ("hardware", MODEL),
    "status": lambda world: ("status", world.job),
    "deploy": lambda _: ("deploy", MODEL),
    "rehearse": lambda _: ("deploy", MODEL, "--dry-run"),
    "ask": lambda _: ("ask", MODEL, "Hello"),
    "stop": lambda _: ("stop", MODEL, "--no-wait"),
    "submit": lambda _: ("submit", presigned(), "--model-name", "new", "--base-model", "tiny/llama"),
}


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize("command", _ASKED)
@_MANY
@given(seed=_SEEDS, right=st.integers(0, 6))
def test_any_answer_of_the_service(
    command: str, api: str, seed: int, right: int, cli: Cli, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, world, left = random.Random(seed), World(), right
    if command in ("ask", "stop", "endpoints") and api == "v2":
        world.deployed()

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal left
        found, left = world.answer(request), left - 1
        if left >= 0 or not found.content:
            return found
        value = changed(found.json(), chance)
        return httpx2.Response(found.status_code, content=json.dumps(value).encode())

    with monkeypatch.context() as patch:
        patch.setenv("TOGETHER_API_KEY", TOKEN)
        patch.setenv("TOGETHER_BASE_URL", "https://service.example/v1")
        transport = httpx2.MockTransport(handler)
        patch.setattr("lora_packer.together.client.connect", _through(transport))
        judged(cli(*_ASKED[command](world), "--api", api))


def _through(transport: httpx2.BaseTransport) -> Callable[..., httpx2.Client]:
    return lambda url, **options: http.connect(url, **{**options, "transport": transport})


# ---- the Hub

_COMMIT = "0123456789abcdef" * 2 + "01234567"
_INFO = {
    "sha": _COMMIT,
    "siblings": [
        {"rfilename": name, "size": (TINY / name).stat().st_size, "lfs": {"sha256": "a" * 64}}
        for name in ("adapter_config.json", "adapter_model.safetensors")
    ],
    "gated": False,
    "private": False,
}


@pytest.mark.parametrize(
    "arguments", [("check", "hf://org/name", "--base-config", TINY_BASE), ("identify", "hf://org/name")]
)
@_MANY
@given(seed=_SEEDS, right=st.integers(0, 3))
def test_any_answer_of_the_hub(
    arguments: tuple[Any, ...], seed: int, right: int, cli: Cli, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, left = random.Random(seed), right

    def tell(head: bytes) -> Iterator[bytes]:
        nonlocal left
        left -= 1
        path = head.split(b" ")[1].decode()
        told = _INFO if "/api/" in path else json.loads((TINY / "adapter_config.json").read_text())
        value = changed(told, chance) if left < 0 else told
        yield answer(json.dumps(value).encode(), status=chance.choice(["200 OK", "200 OK", "206 Part", "404 No"]))

    with lying(tell) as url, monkeypatch.context() as patch:
        patch.setenv("HF_ENDPOINT", url)
        judged(cli(*arguments))


# ---- the store

_TEXTS = ["", "1", "-1", "true", "9" * 30, "2026-01-02T03:04:05Z", "\u202e", "a&lt;b", "a/b.zip", "::error::"]
_NAMES = ["Contents", "Key", "Size", "ETag", "IsTruncated", "NextContinuationToken", "KeyCount", "Upload", "UploadId", "Initiated", "Error", "Code", "Message", "LocationConstraint"]  # fmt: skip


def xml(chance: random.Random, depth: int = 3) -> str:
    """Elements of S3's names in any order."""
    if depth == 0 or chance.random() < 0.2:
        return chance.choice(_TEXTS)
    names = [chance.choice(_NAMES) for _ in range(chance.randrange(4))]
    return "".join(f"<{name}>{xml(chance, depth - 1)}</{name}>" for name in names)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "s3://bucket/a.zip", "--base-config", TINY_BASE),
        ("check", "s3://bucket/a/", "--base-config", TINY_BASE),
        ("publish", TINY, "--to", "s3://bucket/a/", "--base-config", TINY_BASE),
    ],
    ids=["archive", "prefix", "publish"],
)
@_FEW
@given(seed=_SEEDS)
def test_any_answer_of_the_store(
    arguments: tuple[Any, ...], seed: int, cli: Cli, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)

    def tell(head: bytes) -> Iterator[bytes]:
        root = chance.choice(["ListBucketResult", "ListMultipartUploadsResult", "Error", "Result"])
        body = chance.choice([f"<{root}>{xml(chance)}</{root}>", xml(chance), json.dumps(chance.choice(_ODD))]).encode()
        status = chance.choice(["200 OK", "200 OK", "206 Part", "400 Bad", "403 No", "404 No", "409 No", "501 No"])
        headers = chance.choice(
            ["", 'ETag: "x"\r\n', "Content-Range: bytes 0-1/9\r\n", "x-amz-bucket-region: ../..\r\n"]
        )
        given = answer(body, status=status, headers=headers)
        yield given.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head.startswith(b"HEAD") else given

    with lying(tell) as url, monkeypatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.chdir(folder)
        for name, value in (("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", TOKEN), ("AWS_REGION", "us-east-1")):  # fmt: skip
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL_S3", url)
        judged(cli(*arguments))
        assert not [path for path in Path(folder).iterdir() if not path.name.endswith(".upload.json")]
