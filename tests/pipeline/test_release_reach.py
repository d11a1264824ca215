"""An endpoint that the service cannot reach is refused before anything is read or sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import TINY, TINY_BASE

import lora_packer
from lora_packer.pipeline.reach import require_reachable
from lora_packer.redact import Secret
from lora_packer.sandbox import Sandbox
from lora_packer.together import Client

TOGETHER, OWN, LOCAL = "https://api.together.ai/v1", "https://llm.corp.lan/v1", "http://127.0.0.1:8080/v1"
PUBLIC, VPC = "https://s3.us-west-2.amazonaws.com", "https://bucket.vpce-1-2.s3.us-east-1.vpce.amazonaws.com"


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize(
    ("url", "service", "reached"),
    [
        (PUBLIC, TOGETHER, (True, True)),
        ("https://93.184.216.34", TOGETHER, (True, True)),
        (PUBLIC, OWN, (True, True)),
        (VPC, TOGETHER, (False, False)),
        ("https://minio.corp.lan", TOGETHER, (False, False)),
        ("http://s3.example.com", TOGETHER, (False, False)),
        ("http://127.0.0.1:9000", TOGETHER, (False, False)),
        ("https://minio.corp.lan", OWN, (False, True)),
        ("http://minio.corp.lan:9000", OWN, (False, True)),
        (VPC, "https://gateway.example.com/v1", (False, True)),
        ("http://127.0.0.1:9000", OWN, (False, False)),
        ("http://127.0.0.1:9000", LOCAL, (True, True)),
        ("http://[", OWN, (True, True)),  # the store's own client says that it is no URL
    ],
)
def test_who_reaches_what(url: str, service: str, reached: tuple[bool, bool], allow: bool) -> None:
    if reached[allow]:
        require_reachable(url, service, allow_private=allow)
        return
    with pytest.raises(lora_packer.InputError, match="cannot be reached") as caught:
        require_reachable(url, service, allow_private=allow)
    assert ("--allow-private-endpoint" in str(caught.value)) is reached[True]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as started:
        yield started


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_a_store_on_this_machine_is_not_for_a_service_elsewhere(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: bool, allow: bool
) -> None:
    environment = sandbox.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notes: list[str] = []
    transport = httpx2.MockTransport(lambda _: httpx2.Response(404))
    arguments: dict[str, Any] = {"endpoint_url": environment["AWS_ENDPOINT_URL_S3"]} if given else {}
    with (
        Client(Secret("key-of-the-test"), TOGETHER, transport=transport) as client,
        pytest.raises(lora_packer.InputError, match=r"cannot be reached by the service at api\.together\.ai"),
    ):
        lora_packer.release(
            TINY,
            model_name="far",
            base_model="tiny/llama",
            to=f"s3://{sandbox.s3.bucket}/far/",
            base_config=TINY_BASE,
            allow_private_endpoint=allow,
            client=client,
            receipt=tmp_path / "r.json",
            note=lambda stage, _: notes.append(stage),
            **arguments,
        )
    assert ("check" in notes) is not given
    assert "upload" not in notes
    looking = sandbox.session().client("s3", endpoint_url=environment["AWS_ENDPOINT_URL_S3"], region_name="us-east-1")
    assert looking.list_objects_v2(Bucket=sandbox.s3.bucket, Prefix="far/")["KeyCount"] == 0
