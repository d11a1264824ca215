"""``release`` of an archive that is in S3 already: checked where it is, presigned, submitted; resumed; changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import TINY, TINY_BASE, tiny_config, write_adapter

import lora_packer
from lora_packer.pipeline import by_object, service
from lora_packer.sandbox import Sandbox

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as started:
        yield started


@pytest.fixture(autouse=True)
def _env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def stored(sandbox: Sandbox, name: str, adapter: Path = TINY) -> str:
    """Pack an adapter and put it into the sandbox's S3; returns its S3 URI."""
    archive = lora_packer.pack(adapter, f"{name}.zip", base_config=TINY_BASE, check=False)
    client = sandbox.session().client("s3", endpoint_url=sandbox.environment()["AWS_ENDPOINT_URL_S3"])
    client.put_object(Bucket="sandbox", Key=f"there/{name}.zip", Body=archive.path.read_bytes())
    return f"s3://sandbox/there/{name}.zip"


def release(place: str, api: str, *more: str) -> list[str]:
    return [
        "release", place, "--base-config", str(TINY_BASE), "--base-model", "tiny/llama", "--api", api,
        "--model-name", place.rpartition("/")[2].removesuffix(".zip"), *more,
    ]  # fmt: skip


def receipt(name: str) -> Any:
    return json.loads(Path(f"{name}.receipt.json").read_text())


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_it_is_checked_presigned_and_submitted(api: str, sandbox: Sandbox, cli: Cli) -> None:
    name = f"one-{api}"
    place = stored(sandbox, name)
    done = cli(*release(place, api))
    assert done.code == 0, done.text
    assert "upload " not in done.err
    assert "of the weights only the header was read" in done.err
    written = receipt(name)
    assert (written["adapter"]["source"], written["job"]["status"]) == (place, "Complete")
    assert written["object"]["key"] == f"there/{name}.zip"
    assert "X-Amz" not in json.dumps(written)
    again = cli(*release(place, api))
    assert again.code == 0, again.text
    assert receipt(name)["submission"]["job_id"] == written["submission"]["job_id"]


def test_a_broken_one_is_not_submitted(sandbox: Sandbox, cli: Cli, tmp_path: Path) -> None:
    broken = write_adapter(tmp_path / "broken", None, tiny_config(r=3))
    done = cli(*release(stored(sandbox, "broken-one", broken), "v2"))
    assert done.code == 1, done.text
    assert not Path("broken-one.receipt.json").exists()


@pytest.fixture
def swapped_before(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[ModuleType, str, str], str]:
    """Put an archive into S3, and another under the same key just before a function of a module is called."""

    def prepare(module: ModuleType, function: str, name: str) -> str:
        other = write_adapter(tmp_path / "other", None, tiny_config(lora_alpha=2))
        real = getattr(module, function)

        def swap(*arguments: Any) -> Any:
            (tmp_path / f"{name}.zip").unlink()
            stored(sandbox, name, other)
            return real(*arguments)

        monkeypatch.setattr(module, function, swap)
        return stored(sandbox, name)

    return prepare


def test_what_changed_after_the_check_is_not_submitted(cli: Cli, swapped_before: Callable[..., str]) -> None:
    place = swapped_before(by_object, "check_section", "swapped")
    done = cli(*release(place, "v2"))
    assert done.code == 4, done.text
    assert f"{place} is not what was checked" in done.err
    assert receipt("swapped")["submission"] is None


def test_what_changes_before_the_service_fetched_it_is_told(cli: Cli, swapped_before: Callable[..., str]) -> None:
    done = cli(*release(swapped_before(service, "wait", "late"), "v2"))
    assert done.code == 0, done.text
    assert "The service may have fetched either." in done.err


@pytest.mark.parametrize(
    ("place", "more", "code", "said"),
    [
        ("s3://sandbox/there/gone.zip", [], 2, "gone.zip"),
        ("s3://sandbox/there/gone.zip", ["--to", "s3://sandbox/x/"], 2, "is in S3 already: neither --to nor --direct"),
        ("s3://sandbox/there/gone.zip", ["--direct"], 2, "is in S3 already: neither --to nor --direct"),
        ("s3://sandbox/there/gone.zip", ["--sandbox"], 2, "--sandbox has an S3 of its own"),
        ("s3://sandbox/there/", ["--model-name", "m"], 2, "--to is missing"),
    ],
)
def test_what_cannot_be_released_from_there(place: str, more: list[str], code: int, said: str, cli: Cli) -> None:
    done = cli(*release(place, "v2", *more))
    assert done.code == code, done.text
    assert said in done.err
    assert not list(Path().glob("*.receipt.json"))


def test_what_is_below_a_prefix_is_brought_here_packed_and_sent(sandbox: Sandbox, cli: Cli) -> None:
    client = sandbox.session().client("s3", endpoint_url=sandbox.environment()["AWS_ENDPOINT_URL_S3"])
    for file in TINY.iterdir():
        client.put_object(Bucket="sandbox", Key=f"runs/last/{file.name}", Body=file.read_bytes())
    asked = release("s3://sandbox/runs/last", "v2", "--to", "s3://sandbox/x/")
    done = cli(*asked)
    assert done.code == 0, done.text
    written = json.loads(Path("last.receipt.json").read_text())
    assert (written["adapter"]["source"], written["job"]["status"]) == ("s3://sandbox/runs/last", "Complete")
    again = cli(*asked)
    assert again.code == 0, again.text
    assert json.loads(Path("last.receipt.json").read_text())["submission"] == written["submission"]
