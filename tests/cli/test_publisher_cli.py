"""``publish``, ``presign`` and ``release`` from the outside: no file is written, progress, cleaning up, and options."""

from __future__ import annotations

import json
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import TINY, TINY_BASE, tiny_config, write_adapter
from packager_support import then_change_in_secret
from publisher_support import archive
from s3_support import client_for, env, local_s3, put

import lora_packer
from lora_packer.errors import InputError, PackError
from lora_packer.pipeline import publish as publish_module
from lora_packer.pipeline.check import CheckOptions
from lora_packer.pipeline.publish import publish
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["env", "local_s3"]

Cli = Callable[..., Any]


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
    looking = client_for(env)
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


# Of a folder ---------------------------------------------------------------------------------------------------------

# Not one byte may be written to any file: whoever tries gets an OSError (setrlimit(2)).
WITHOUT_FILES = """
import resource, runpy, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
runpy.run_module("lora_packer", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As large as three parts; what is in it is none of the publisher's business."""
    made = tmp_path / "my-adapter"
    made.mkdir()
    (made / "adapter_config.json").write_text("{}")
    (made / "adapter_model.safetensors").write_bytes(random.Random(5).randbytes(17 << 20))
    return made


def test_a_folder_is_published_without_a_file_of_its_archive(env: LocalS3, folder: Path, tmp_path: Path) -> None:
    to = f"s3://{env.bucket}/no-file/"
    command = [sys.executable, "-c", WITHOUT_FILES, "publish", str(folder), "--no-check", "--to", to]
    done = subprocess.run(
        [*command, "--format", "json", "--verify", "full"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["object"]
    packed = lora_packer.pack(folder, tmp_path / "packed.zip", check=False)
    assert (said["sha256"], said["size"]) == (packed.sha256, packed.size)
    assert said["key"] == f"no-file/my-adapter-{packed.sha256[:16]}.zip"
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert events[0] == {"event": "progress", "stage": "upload", "done": 0, "total": packed.size}
    assert events[-1] == {"event": "progress", "stage": "upload", "done": packed.size, "total": packed.size}
    quiet = subprocess.run([*command, "--quiet"], capture_output=True, text=True, cwd=tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_a_folder_that_changes_after_it_was_planned_is_an_error_and_nothing_is_there(
    env: LocalS3, folder: Path
) -> None:
    def change(stage: str, _text: str) -> None:
        if stage == "pack":
            (folder / "adapter_config.json").write_text("[]")

    options = CheckOptions(skip=True)
    with pytest.raises(PackError, match=r"adapter_config\.json changed"):
        publish(folder, to=f"s3://{env.bucket}/changed-folder/", options=options, note=change)
    looking = client_for(env)
    assert looking.list_objects_v2(Bucket=env.bucket, Prefix="changed-folder/")["KeyCount"] == 0
    assert "Uploads" not in looking.list_multipart_uploads(Bucket=env.bucket, Prefix="changed-folder/")


def test_a_folder_that_changes_in_secret_after_its_check_is_not_sent(
    env: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_adapter(tmp_path / "mine", None, tiny_config()) / "adapter_model.safetensors"
    monkeypatch.setattr(publish_module, "run_check", then_change_in_secret(publish_module.run_check, weights))
    with pytest.raises(PackError, match="is not the file that was checked"):
        publish(weights.parent, to=f"s3://{env.bucket}/in-secret/", options=CheckOptions(TINY_BASE, target="peft"))
    assert client_for(env).list_objects_v2(Bucket=env.bucket, Prefix="in-secret/")["KeyCount"] == 0


def test_an_archive_keeps_its_own_name_unless_told_another(env: LocalS3, tmp_path: Path) -> None:
    packed = archive(tmp_path, 5000, name="mine.tar.gz")
    to, options = f"s3://{env.bucket}/named/", CheckOptions(skip=True)
    first = publish(packed.path, to=to, options=options)
    second = publish(packed.path, to=to, options=options, name="other")
    digest = packed.sha256[:16]
    keys = [first.published.object.key, second.published.object.key]
    assert keys == [f"named/mine-{digest}.tar.gz", f"named/other-{digest}.tar.gz"]
    assert first.archive.to_dict(packed.sha256)["path"] == str(packed.path)


def test_an_unknown_end_of_the_credentials_is_a_warning_that_says_so(
    cli: Cli, env: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_packer.publisher.credentials.Signer.lifetime_known", property(lambda _: False))
    result = cli("publish", archive(tmp_path, 5000).path, "--no-check", "--to", f"s3://{env.bucket}/unknown/")
    assert result.code == 0
    assert "warning   how long the credentials live is unknown" in result.err


def test_a_release_writes_its_receipt_and_no_archive(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["release", TINY, "--base-config", TINY_BASE, "--model-name", "m", "--base-model", "tiny/llama"]
    result = cli(*arguments, "--sandbox", "--receipt", "receipt.json")
    assert result.code == 0, result.text
    assert {found.name for found in tmp_path.iterdir()} == {"receipt.json", ".receipt.json.lock"}
    said = json.loads((tmp_path / "receipt.json").read_text())
    assert (said["archive"]["path"], said["archive"]["format"]) == (None, "zip")
    assert said["archive"]["sha256"] == said["object"]["sha256"]
    members = {member["name"]: member["sha256"] for member in said["archive"]["members"]}
    assert members == said["adapter"]["sha256"]
    assert said["object"]["integrity"] == "md5"


@pytest.mark.parametrize("given", [True, False])
def test_release_takes_a_private_endpoint_where_that_is_said(
    given: bool, cli: Cli, env: LocalS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def release(*_: object, **options: Any) -> None:
        asked.update(options)
        raise InputError("enough")

    monkeypatch.setattr("lora_packer.pipeline.release.release", release)
    arguments = ["--model-name", "m", "--base-model", "tiny/llama", "--to", "s3://b/", "--endpoint-url", "http://s3:1"]
    cli("release", TINY, *arguments, *(["--allow-private-endpoint"] if given else []))
    assert (asked["allow_private_endpoint"], asked["endpoint_url"]) == (given, "http://s3:1")
