"""The Python functions: everything a command does can be called, and arguments that make no sense are InputErrors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE
from service_support import V1_ENDPOINTS

import lora_packer
from lora_packer import InputError
from lora_packer.sandbox import Sandbox

NAMES = {"model_name": "m", "base_model": "org/base"}


@pytest.mark.parametrize("name", lora_packer.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lora_packer, name).__doc__


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: lora_packer.check(None), "adapter is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.check(""), "adapter is ''"),
        (lambda: lora_packer.check(5), "adapter is 5"),  # type: ignore[arg-type]
        (lambda: lora_packer.check(["a", "b"]), r"adapter is \['a', 'b'\]"),  # type: ignore[arg-type]
        (lambda: lora_packer.check(TINY, base_config=5), "base_config is 5"),  # type: ignore[arg-type]
        (lambda: lora_packer.check(TINY, fail_on="info"), "fail_on is 'info'"),  # type: ignore[arg-type]
        (lambda: lora_packer.check(TINY, fail_on=None), "fail_on is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.check(TINY, select="LP1"), r"select is the text 'LP1'. Give a list: select=\['LP1'\]"),
        (lambda: lora_packer.check(TINY, ignore="LP1"), "ignore is the text 'LP1'"),
        (lambda: lora_packer.check(TINY, select=[1]), r"select is \[1\]"),  # type: ignore[list-item]
        (lambda: lora_packer.check(TINY, select=None), "select is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.check(TINY, target=None), "target"),  # type: ignore[arg-type]
        (lambda: lora_packer.CheckOptions(select="LP1"), "select is the text 'LP1'"),
        (lambda: lora_packer.identify(None), "adapter is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.BaseModel.load(None), "source is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.pack(None), "adapter is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.pack(TINY, 5), "output is 5"),  # type: ignore[arg-type]
        (lambda: lora_packer.publish(None, to="s3://b/"), "adapter is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.publish(TINY, to=None), "to is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.publish(TINY, to="s3://b/", expires_in="12h"), "expires_in is '12h'"),  # type: ignore[arg-type]
        (lambda: lora_packer.presign(None), "s3uri is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.presign("s3://b/k.zip", expires_in=3600), "expires_in is 3600"),  # type: ignore[arg-type]
        (lambda: lora_packer.release(None, to="s3://b/", **NAMES), "adapter is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.release(TINY, to="s3://b/", timeout=60, **NAMES), "timeout is 60"),  # type: ignore[arg-type]
        (lambda: lora_packer.release(TINY, model_name=None, base_model="o/b"), "model_name is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.submit(None, **NAMES), "source is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.submit("hf://o/r", api="v3", **NAMES), "api is 'v3'"),
        (lambda: lora_packer.wait(None), "job_id is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.wait("job-1", timeout=60), "timeout is 60"),  # type: ignore[arg-type]
        (lambda: lora_packer.deploy(None), "model is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.ask("endpoint-1", None), "prompt is None"),  # type: ignore[arg-type]
        (lambda: lora_packer.stop(None), "endpoint is None"),  # type: ignore[arg-type]
    ],
)
def test_an_argument_that_makes_no_sense(call: Callable[[], Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        call()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0, faults=V1_ENDPOINTS) as started:
        yield started


@pytest.fixture(params=["v1", "v2"])
def api(request: pytest.FixtureRequest, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    return str(request.param)


def test_from_a_folder_to_an_answer_and_back(sandbox: Sandbox, api: str, tmp_path: Path) -> None:
    nowhere = {"sleep": lambda _: None, "api": api}
    options = lora_packer.CheckOptions(TINY_BASE, "tiny/llama")
    done = lora_packer.publish(TINY, to=sandbox.destination, options=options)
    again = lora_packer.publish(TINY, to=sandbox.destination, base_config=TINY_BASE, base_model="tiny/llama")
    assert done.report is not None
    assert done.report.ok
    assert not again.published.object.uploaded
    minted = lora_packer.presign(again.published.object.uri, expires_in=timedelta(hours=3))
    assert isinstance(minted.url, lora_packer.PresignedUrl)
    job = lora_packer.submit(minted.url, model_name=f"python-{api}", base_model="tiny/llama", api=api)
    ended = lora_packer.wait(job.id, **nowhere)
    assert ended.is_complete
    endpoint = lora_packer.deploy(f"devuser/python-{api}", **nowhere)
    assert endpoint.is_serving
    assert lora_packer.ask(endpoint.id, "Is it you?", api=api).text.startswith("The sandbox answers")
    assert lora_packer.stop(endpoint.id, api=api).is_ending
