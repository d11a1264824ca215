"""``presign`` and ``publish --clean`` from the outside, and the options that publishing shares."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from publisher_support import archive
from s3_support import local_s3, session_for

from lora_packer.publisher.client import s3_client
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["local_s3"]

Cli = Callable[..., Any]


@pytest.fixture
def env(local_s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> LocalS3:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", local_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", local_s3.secret_key.reveal())
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", local_s3.endpoint_url)
    return local_s3


def client(server: LocalS3) -> Any:
    return s3_client(session_for(server), endpoint_url=server.endpoint_url)


def put(server: LocalS3, key: str, data: bytes) -> str:
    client(server).put_object(Bucket=server.bucket, Key=key, Body=data)
    return f"s3://{server.bucket}/{key}"


def test_presign_mints_and_proves(cli: Cli, env: LocalS3, tmp_path: Path) -> None:
    data = archive(tmp_path, 5000).data
    uri = put(env, "cli/a.zip", data)
    result = cli("presign", uri, "--url-file", tmp_path / "u.url", "--verify", "full", "--expires-in", "3h")
    assert result.code == 0, result.text
    assert "X-Amz" not in result.text
    assert "all its 5,000 bytes were downloaded" in result.err
    assert uri in result.out
    assert stat.S_IMODE((tmp_path / "u.url").stat().st_mode) == 0o600
    url = (tmp_path / "u.url").read_text().strip()
    assert "X-Amz-Expires=10800" in url
    assert httpx2.get(url).content == data


def test_presign_in_json(cli: Cli, env: LocalS3, tmp_path: Path) -> None:
    uri = put(env, "cli/b.tar.gz", archive(tmp_path, 5000, name="b.tar.gz").data)
    said = json.loads(cli("presign", uri, "--format", "json", "--quiet").out)
    assert said["object"]["key"] == "cli/b.tar.gz"
    assert said["proof"]["proven"]
    assert said["proof"]["not_proven"]
    assert said["deadline"].endswith("+00:00")
    assert "presigned_url" not in said
    shown = json.loads(cli("presign", uri, "--format", "json", "--quiet", "--show-url").out)
    assert httpx2.get(shown["presigned_url"]).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["s3://test-bucket/cli/none.zip"], 4, "There is no object"),
        (["s3://test-bucket/cli/"], 2, "names no object"),
        (["s3://test-bucket/cli/a.bin"], 2, "not an archive"),
        (["https://test-bucket/a.zip"], 2, "not an S3 object"),
        (["s3://test-bucket--use1-az4--x-s3/a.zip"], 2, "S3 Express"),
        (["s3://test-bucket/a.zip", "--expires-in", "99m"], 2, "100 minutes"),
        (["s3://test-bucket/a.zip", "--endpoint-url", "http://10.0.0.1"], 2, "not https"),
        (["s3://test-bucket/a.zip", "--endpoint-url", "https://minio:9000"], 2, "private network"),
    ],
)
def test_what_presign_refuses(cli: Cli, env: LocalS3, arguments: list[str], code: int, message: str) -> None:
    result = cli("presign", *arguments)
    assert (result.code, message in result.err) == (code, True), result.text


def test_clean_removes_unfinished_uploads_and_says_which(cli: Cli, env: LocalS3) -> None:
    to, key = f"s3://{env.bucket}/cli-clean/", "cli-clean/a-0123456789abcdef.zip"
    looking = client(env)
    for name in (key, "cli-clean/others.zip"):
        looking.create_multipart_upload(Bucket=env.bucket, Key=name)
    done = cli("publish", "--clean", "--to", to)
    assert (done.code, done.out.startswith(f"removed   s3://{env.bucket}/{key}, begun ")) == (0, True), done.text
    left = looking.list_multipart_uploads(Bucket=env.bucket, Prefix="cli-clean/")["Uploads"]
    assert [found["Key"] for found in left] == ["cli-clean/others.zip"]
    again = cli("publish", "--clean", "--to", to, "--format", "json")
    assert json.loads(again.out) == {"schema_version": 1, "removed": []}


def test_publish_needs_an_adapter_and_clean_none(cli: Cli, env: LocalS3) -> None:
    assert "ADAPTER is missing" in cli("publish", "--to", "s3://test-bucket/a/").err
    result = cli("publish", "adapter", "--clean", "--to", "s3://test-bucket/a/")
    assert (result.code, "takes no ADAPTER" in result.err) == (2, True)


def test_publish_keeps_a_journal_only_while_it_is_needed(cli: Cli, env: LocalS3, tmp_path: Path) -> None:
    packed = archive(tmp_path, 17 << 20)  # more than one part
    journal = tmp_path / "uploads.json"
    arguments = ["publish", packed.path, "--no-check", "--to", f"s3://{env.bucket}/cli-journal/", "--journal", journal]
    result = cli(*arguments, "--verify", "full")
    assert result.code == 0, result.text
    assert "have the archive's SHA-256" in result.err
    assert not journal.exists()
    journal.write_text("my notes")
    result = cli(*arguments)
    assert (result.code, "not an upload's journal" in result.err) == (2, True)
    assert journal.read_text() == "my notes"
