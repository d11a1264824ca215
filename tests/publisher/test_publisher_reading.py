"""Adapters at a store or behind a URL: checked by byte ranges, with a real S3 server and servers that answer badly."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import PREFIX, ROOT, TINY, TINY_BASE, tiny_tensors, write_adapter
from lying_server import lying
from s3_support import client_for, env, local_s3, put

import lora_packer
from lora_packer.ranges import Blocks
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["env", "local_s3"]
Cli = Callable[..., Any]
BROKEN = ROOT / "fixtures" / "broken" / "nan"
PADDING = b"\0" * (3 << 20)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small adapter as each kind of archive."""
    folder = tmp_path_factory.mktemp("archives")
    for name in ("a.zip", "a.tar.gz"):
        lora_packer.pack(TINY, folder / name, base_config=TINY_BASE)
    with zipfile.ZipFile(folder / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(TINY.iterdir()):
            packed.write(file, file.name)
    (folder / "text.zip").write_text("no archive at all")
    return folder


def checked(cli: Cli, place: str, *more: str) -> tuple[int, dict[str, Any]]:
    result = cli("check", place, "--base-config", TINY_BASE, "--format", "json", *more)
    return result.code, json.loads(result.out)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "packed.zip"])
def test_an_archive_in_s3_and_behind_its_url(name: str, archives: Path, env: LocalS3, cli: Cli) -> None:
    uri = put(env, f"reading/{name}", (archives / name).read_bytes())
    url = client_for(env).generate_presigned_url("get_object", Params={"Bucket": env.bucket, "Key": f"reading/{name}"})
    local = checked(cli, str(TINY))[1]
    for place, shown in ((uri, uri), (url, url.partition("?")[0])):
        code, report = checked(cli, place)
        assert code == 0, report
        assert report["adapter"]["source"] == shown
        assert report["adapter"]["tensors"] == local["adapter"]["tensors"]
        assert [item["code"] for item in report["findings"]] == [item["code"] for item in local["findings"]]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_in_s3(slash: str, env: LocalS3, cli: Cli) -> None:
    for file in TINY.iterdir():
        put(env, f"reading/folder/{file.name}", file.read_bytes())
    code, report = checked(cli, f"s3://{env.bucket}/reading/folder{slash}")
    assert (code, report["status"]) == (0, "ok")
    assert report["adapter"]["source"] == f"s3://{env.bucket}/reading/folder/"
    named = json.loads(cli("identify", report["adapter"]["source"], "--format", "json").out)
    assert named["candidates"] == json.loads(cli("identify", TINY, "--format", "json").out)["candidates"]


def test_several_in_one_call_and_in_a_manifest(archives: Path, env: LocalS3, cli: Cli, tmp_path: Path) -> None:
    uri = put(env, "reading/several.zip", (archives / "a.zip").read_bytes())
    listing = tmp_path / "list.csv"
    listing.write_text(f"adapter,base_config\n{uri},{TINY_BASE}\n{TINY},{TINY_BASE}\ns3://{env.bucket}/gone.zip,\n")
    result = cli("check", "--manifest", listing, "--format", "json")
    body = json.loads(result.out)
    assert result.code == 1
    assert [item["status"] for item in body["reports"]] == ["ok", "ok", "unreadable"]


def test_the_weights_are_not_fetched(archives: Path, cli: Cli, tmp_path: Path) -> None:
    """A zip whose weights have megabytes behind their header: what is asked for is a small part of it."""
    large = tmp_path / "large.zip"
    with zipfile.ZipFile(large, "w") as archive:
        for file in sorted(TINY.iterdir()):
            archive.writestr(file.name, file.read_bytes() + (PADDING if file.suffix == ".safetensors" else b""))
    asked: list[int] = []
    with lying(serving(large.read_bytes(), asked)) as address:
        code, report = checked(cli, f"{address}/large.zip")
    assert code == 1  # bytes behind the last tensor
    assert {item["code"] for item in report["findings"]} == {"LP104"}
    assert sum(asked) < 400_000


def test_a_broken_one_fails_with_the_same_findings(env: LocalS3, cli: Cli) -> None:
    for file in BROKEN.iterdir():
        put(env, f"reading/broken/{file.name}", file.read_bytes())
    code, report = checked(cli, f"s3://{env.bucket}/reading/broken/")
    local_code, local = checked(cli, str(BROKEN), "--no-weights")
    assert (code, report["findings"]) == (local_code, local["findings"])
    assert [item["code"] for item in report["unchecked"]] == [item["code"] for item in local["unchecked"]]
    assert "only the header is read" in report["unchecked"][0]["reason"]


def serving(data: bytes, asked: list[int], **others: str) -> Callable[[bytes], Iterator[bytes]]:
    """A server of one file that answers ranges; ``others`` replace its headers."""

    def answer(head: bytes) -> Iterator[bytes]:
        begin, end = map(int, re.search(rb"bytes=(\d+)-(\d+)", head).groups())  # type: ignore[union-attr]
        part = data[begin : end + 1]
        asked.append(len(part))
        headers = {"Content-Range": f"bytes {begin}-{begin + len(part) - 1}/{len(data)}", "ETag": '"1"'} | others
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        yield (
            "\r\n".join(["HTTP/1.1 206 Partial Content", f"Content-Length: {len(part)}", *lines, "", ""]).encode()
            + part
        )

    return answer


def saying(status: str, *headers: str, body: bytes = b"") -> Callable[[bytes], Iterator[bytes]]:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode()
    return lambda _: iter([head + body])


BAD_SERVERS = [
    (saying("404 Not Found"), 2, "cannot be read: HTTP 404"),
    (saying("403 Forbidden"), 3, "cannot be read: HTTP 403"),
    (saying("401 Unauthorized"), 3, "needs no login"),
    (saying("200 OK", body=b"PK" * 50), 2, "answers no byte ranges"),
    (saying("206 Partial Content", "Content-Range: bytes 0-0/nonsense", body=b"P"), 2, "answers no byte ranges"),
    (saying("206 Partial Content", "Content-Range: bytes 0-0/100", body=b""), 3, "the answer ended after 0 of 1"),
    (saying("302 Found", "Location: /again"), 3, "redirects"),
    (saying("416 Range Not Satisfiable"), 2, "is empty"),
]


@pytest.mark.parametrize(("server", "code", "said"), BAD_SERVERS, ids=[said for _, _, said in BAD_SERVERS])
def test_a_server_that_does_not_serve_it(
    server: Callable[[bytes], Iterator[bytes]], code: int, said: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with lying(server) as address:
        result = cli("check", f"{address}/a.zip?X-Amz-Signature=verysecret", "--base-config", TINY_BASE)
    assert result.code == code, result.text
    assert said in result.err
    assert f"{address}/a.zip" in result.err
    assert "verysecret" not in result.text


def test_what_changes_while_it_is_read_is_refused(archives: Path, cli: Cli) -> None:
    data, count = (archives / "a.zip").read_bytes(), iter(range(100))

    def changing(head: bytes) -> Iterator[bytes]:
        return serving(data, [], ETag=f'"{next(count)}"')(head)

    with lying(changing) as address:
        result = cli("check", f"{address}/a.zip", "--base-config", TINY_BASE)
    assert (result.code, "changed while it was being read" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("s3://{bucket}/nothing-here/", 2, "there is nothing below s3://"),
        ("s3://{bucket}/nothing.zip", 2, "nothing.zip cannot be read: HTTP 404"),
        ("s3://no-such-bucket-here/a.zip", 2, "no-such-bucket-here"),
        ("s3://{bucket}/reading/text.zip", 2, "neither a folder nor a .zip"),
        ("s3://x/a.zip", 2, "is not a bucket name"),
        ("https://", 3, "cannot be read"),
        ("http://example.com/a.zip", 2, "is not https"),
        ("https://user:pass-word-1@127.0.0.1:9/x.zip", 3, "https://127.0.0.1:9/x.zip cannot be read"),
    ],
)
def test_places_without_an_adapter(
    place: str, code: int, said: str, archives: Path, env: LocalS3, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    put(env, "reading/text.zip", (archives / "text.zip").read_bytes())
    result = cli("check", place.format(bucket=env.bucket), "--base-config", TINY_BASE)
    assert result.code == code, result.text
    assert said in result.err
    assert "pass-word-1" not in result.text


def test_without_credentials_s3_was_not_checked(local_s3: LocalS3, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", local_s3.endpoint_url)
    result = cli("check", f"s3://{local_s3.bucket}/reading/a.zip", "--base-config", TINY_BASE)
    assert result.code == 3, result.text
    assert "credentials" in result.err


def test_blocks_give_the_bytes_that_were_asked_for() -> None:
    data = bytes(range(256)) * 4096  # 1 MiB, 16 blocks
    asked: list[tuple[int, int]] = []

    def fetch(begin: int, end: int) -> bytes:
        asked.append((begin, end))
        return data[begin:end]

    blocks = Blocks(len(data), fetch)
    for begin, end in [(10, 20), (65_530, 65_540), (65_536, 65_537), (0, len(data)), (5, len(data) - 5)]:
        assert blocks(begin, end) == data[begin:end]
    assert asked == [(0, 65_536), (65_536, 131_072), (131_072, len(data))]


def test_fix_mends_what_lies_elsewhere(env: LocalS3, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    without = {name.removeprefix(PREFIX): value for name, value in tiny_tensors().items()}
    for file in write_adapter(tmp_path / "lost", without).iterdir():
        put(env, f"reading/lost-prefix/{file.name}", file.read_bytes())
    place = f"s3://{env.bucket}/reading/lost-prefix/"
    assert checked(cli, place)[0] == 1
    assert cli("fix", place, "--base-config", TINY_BASE).code == 0
    assert checked(cli, "lost-prefix-fixed")[0] == 0
