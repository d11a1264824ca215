"""``pack``, ``publish`` and ``release`` from the outside, against the sandbox: resumed, killed, refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx2
import numpy as np
import pytest
from builders import PREFIX, ROOT, TINY, TINY_BASE, tiny_config, write_adapter
from packager_support import change_in_secret, then_change, then_change_in_secret

import lora_packer
from lora_packer.pipeline import from_disk, local
from lora_packer.sandbox import Sandbox

BROKEN = ROOT / "fixtures" / "broken"
Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0.05) as started:
        yield started


@pytest.fixture
def env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The sandbox's environment, in this process and to hand to others; and a working directory of its own."""
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return sandbox.environment()


def bucket(sandbox: Sandbox) -> Any:
    environment = sandbox.environment()
    session = boto3.Session(
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
    )
    return session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL_S3"])


def keys(sandbox: Sandbox, prefix: str) -> list[str]:
    listed = bucket(sandbox).list_objects_v2(Bucket=sandbox.s3.bucket, Prefix=prefix)
    return [item["Key"] for item in listed.get("Contents", [])]


def release_arguments(name: str, sandbox: Sandbox, adapter: Path = TINY) -> list[str]:
    to = f"s3://{sandbox.s3.bucket}/{name}/"
    return [
        "release", str(adapter), "--base-config", str(TINY_BASE), "--model-name", name,
        "--base-model", "tiny/llama", "--to", to, "--receipt", f"{name}.json",
    ]  # fmt: skip


# --- pack ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_pack_writes_the_two_files_at_the_root(cli: Cli, tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"a{suffix}"
    result = cli("pack", TINY, "--base-config", TINY_BASE, "--output", archive, "--format", "json")
    assert result.code == 0, result.text
    said = json.loads(result.out)["archive"]
    assert [member["name"] for member in said["members"]] == ["adapter_config.json", "adapter_model.safetensors"]
    listing = ["unzip", "-Z1"] if suffix == ".zip" else ["tar", "tzf"]
    if shutil.which(listing[0]):
        done = subprocess.run([*listing, archive], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["adapter_config.json", "adapter_model.safetensors"]
    assert cli("check", archive, "--base-config", TINY_BASE).code == 0


@pytest.mark.parametrize("name", ["wrong-hidden-size", "missing-lora-b", "nan"])
def test_pack_refuses_what_fails_the_check(cli: Cli, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "a.zip"
    result = cli("pack", BROKEN / name, "--base-config", TINY_BASE, "--output", archive)
    assert result.code == 1
    assert "expected" in result.out
    assert "nothing was packed" in result.err
    assert not list(tmp_path.iterdir())
    assert cli("pack", BROKEN / name, "--output", archive, "--no-check").code == 0
    assert archive.exists()


def test_pack_without_a_base_config_is_inconclusive(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=None))
    result = cli("pack", folder, "--output", tmp_path / "a.zip", "--format", "json")
    assert result.code == 3
    assert json.loads(result.out)["check"]["status"] == "inconclusive"
    assert not (tmp_path / "a.zip").exists()


def test_pack_of_half_an_adapter_and_of_an_archive(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    shutil.copy(TINY / "adapter_config.json", tmp_path / "half")
    assert cli("pack", tmp_path / "half", "--base-config", TINY_BASE).code == 1
    assert cli("pack", tmp_path / "half", "--no-check", "--output", tmp_path / "a.zip").code == 4
    assert cli("pack", TINY, "--base-config", TINY_BASE, "--output", tmp_path / "a.rar").code == 2
    assert cli("pack", TINY / "adapter_config.json", "--no-check").code == 2
    assert not (tmp_path / "a.zip").exists()


def test_the_python_api_packs_too(tmp_path: Path) -> None:
    archive = lora_packer.pack(str(TINY), str(tmp_path / "a.zip"), base_config=TINY_BASE)
    assert (archive.path, archive.size) == (tmp_path / "a.zip", (tmp_path / "a.zip").stat().st_size)
    assert len(archive.sha256) == 64
    with pytest.raises(lora_packer.CheckFailedError) as caught:
        lora_packer.pack(BROKEN / "nan", tmp_path / "b.zip", base_config=TINY_BASE)
    assert caught.value.report.findings[0].code == "LP401"


# --- publish ---------------------------------------------------------------------------------------------------------


def test_publish_mints_a_url_that_works_and_only_that(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    url_file = tmp_path / "u.url"
    arguments = ["publish", TINY, "--base-config", TINY_BASE, "--to", f"s3://{sandbox.s3.bucket}/published/"]
    result = cli(*arguments, "--url-file", url_file)
    assert result.code == 0, result.text
    assert "X-Amz-Signature" not in result.text
    assert stat.S_IMODE(url_file.stat().st_mode) == 0o600
    url = url_file.read_text().strip()
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["43200"]
    assert query["X-Amz-SignedHeaders"] == ["host"]
    ranged = {"Range": "bytes=0-0"}
    assert httpx2.get(url, headers=ranged).status_code == 206
    flipped = url[:-1] + ("0" if url[-1] != "0" else "1")
    assert httpx2.get(flipped, headers=ranged).status_code == 403
    stale = url.replace(query["X-Amz-Date"][0], "20250101T000000Z")
    assert httpx2.get(stale, headers=ranged).status_code == 403
    assert httpx2.get(url).content == archive_bytes(tmp_path)
    again = cli(*arguments)
    assert again.code == 0
    assert "nothing sent" in again.err
    assert len(keys(sandbox, "published/")) == 1
    shown = cli(*arguments, "--show-url", "--format", "json")
    assert "X-Amz-Signature=" in json.loads(shown.out)["presigned_url"]
    shown_text = cli(*arguments, "--show-url")
    assert "X-Amz-Signature=" in shown_text.out


def archive_bytes(tmp_path: Path) -> bytes:
    return lora_packer.pack(TINY, tmp_path / "same.zip", base_config=TINY_BASE).path.read_bytes()


def test_publish_takes_a_finished_archive(cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    archive = lora_packer.pack(TINY, tmp_path / "mine.tar.gz", base_config=TINY_BASE)
    to = f"s3://{sandbox.s3.bucket}/finished/"
    result = cli("publish", archive.path, "--base-config", TINY_BASE, "--to", to, "--format", "json")
    assert result.code == 0, result.text
    assert json.loads(result.out)["object"]["sha256"] == archive.sha256
    assert keys(sandbox, "finished/") == [f"finished/mine-{archive.sha256[:16]}.tar.gz"]


def test_publish_refuses_credentials_that_die_first(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30 * 60))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session-token")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", soon)
    result = cli("publish", TINY, "--base-config", TINY_BASE, "--to", f"s3://{sandbox.s3.bucket}/refused/")
    assert result.code == 4
    assert "30 min" in result.err or "29 min" in result.err
    assert "1 h 40 min" in result.err
    assert keys(sandbox, "refused/") == []


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--expires-in", "99m"], 2, "100"),
        (["--expires-in", "8d"], 2, "7"),
        (["--expires-in", "soon"], 2, "not a duration"),
        (["--to", "https://bucket/x"], 2, "s3://"),
        (["--to", "s3://no-such-bucket-here/x/"], 4, "no-such-bucket-here"),
        (["--endpoint-url", "http://127.0.0.1:9"], 4, "127.0.0.1:9"),
    ],
)
def test_publish_refuses_with_a_sentence(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, more: list[str], code: int, says: str
) -> None:
    to = f"s3://{sandbox.s3.bucket}/refused/"
    result = cli("publish", TINY, "--base-config", TINY_BASE, "--to", to, *more)
    assert result.code == code, result.text
    assert says in result.err
    assert keys(sandbox, "refused/") == []


@pytest.mark.parametrize("name", ["wrong-hidden-size", "missing-lora-b", "nan"])
@pytest.mark.parametrize("command", ["publish", "release"])
def test_a_broken_adapter_stops_at_the_check(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, command: str, name: str
) -> None:
    to = f"s3://{sandbox.s3.bucket}/broken/"
    more = ["--model-name", "broken", "--base-model", "tiny/llama"] if command == "release" else []
    result = cli(command, BROKEN / name, "--base-config", TINY_BASE, "--to", to, "--format", "json", *more)
    assert result.code == 1
    found = json.loads(result.out)["check"]["findings"]
    findings = [finding for finding in found if finding["severity"] == "error"]
    assert len(findings) == 1
    assert findings[0]["tensor"].startswith(PREFIX)
    assert findings[0]["expected"] is not None
    assert findings[0]["actual"] is not None
    assert keys(sandbox, "broken/") == []


# --- release ---------------------------------------------------------------------------------------------------------


def test_release_completes_and_a_second_run_does_nothing(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    arguments = release_arguments("twice", sandbox)
    first = cli(*arguments)
    assert first.code == 0, first.text
    assert "status   Complete" in first.out
    receipt = json.loads((tmp_path / "twice.json").read_text())
    assert receipt["job"]["status"] == "Complete"
    assert receipt["archive"]["sha256"] == receipt["object"]["sha256"]
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in TINY.iterdir() if path.is_file()}
    assert {member["name"]: member["sha256"] for member in receipt["archive"]["members"]} == expected
    assert receipt["adapter"]["sha256"] == expected
    before = (len(keys(sandbox, "twice/")), len(sandbox.service.jobs.describe_all()))
    second = cli(*arguments)
    assert second.code == 0, second.text
    assert second.out == first.out
    assert second.err.count("done in an earlier run") == 6
    assert (len(keys(sandbox, "twice/")), len(sandbox.service.jobs.describe_all())) == before
    assert json.loads((tmp_path / "twice.json").read_text()) == receipt


def test_a_receipt_of_another_release_is_not_taken(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    arguments = release_arguments("once", sandbox)
    assert cli(*arguments).code == 0
    renamed = ["other" if item == "once" else item for item in arguments]
    refused = cli(*renamed)
    assert refused.code == 2
    assert "model_name" in refused.err
    changed = write_adapter(tmp_path / "changed", None, tiny_config(lora_alpha=9))
    arguments[1] = str(changed)
    refused = cli(*arguments)
    assert refused.code == 2
    assert "adapter's files" in refused.err
    (tmp_path / "once.json").write_text("{}")
    assert "not a receipt" in cli(*arguments).err


@pytest.mark.parametrize("in_secret", [False, True])
def test_weights_that_change_after_their_check_are_not_released(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_secret: bool
) -> None:
    adapter = write_adapter(tmp_path / "adapter", None, tiny_config())
    weights = adapter / "adapter_model.safetensors"
    monkeypatch.setattr(from_disk, "run_check", then_change(from_disk.run_check, weights, in_secret=in_secret))
    name = f"changes-{in_secret}"
    refused = cli(*release_arguments(name, sandbox, adapter))
    assert refused.code == 4, refused.text
    assert "it changed since then" in refused.err or "its files changed meanwhile" in refused.err
    assert keys(sandbox, f"{name}/") == []


def test_weights_that_change_between_the_receipt_and_the_check_are_not_released(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a receipt the files are read to see whether it is theirs, and checked afterwards: both have to be the same."""
    adapter = write_adapter(tmp_path / "adapter", None, tiny_config())
    arguments = release_arguments("changes-between", sandbox, adapter)
    assert cli(*arguments, "--no-check", "--no-wait").code == 0
    real = from_disk.run_check

    def change_and_check(*given: Any, **options: Any) -> Any:
        change_in_secret(adapter / "adapter_model.safetensors")
        return real(*given, **options)

    monkeypatch.setattr(from_disk, "run_check", change_and_check)
    refused = cli(*arguments)
    assert (refused.code, "it changed since then" in refused.err) == (4, True), refused.text


def test_without_a_receipt_the_weights_are_read_by_their_check_alone(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    real = local.digest
    monkeypatch.setattr(local, "digest", lambda source: read.append(source.name) or real(source))
    arguments = release_arguments("read-once", sandbox)
    assert cli(*arguments, "--no-wait").code == 0
    assert read == []
    assert cli(*arguments).code == 0
    assert read == ["adapter_config.json", "adapter_model.safetensors"]


def test_an_archive_that_changes_in_secret_is_not_released(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = lora_packer.pack(TINY, tmp_path / "mine.zip", base_config=TINY_BASE).path
    monkeypatch.setattr(from_disk, "run_check", then_change_in_secret(from_disk.run_check, archive))
    refused = cli(*release_arguments("secret-archive", sandbox, archive))
    assert (refused.code, "changed while it was being packed" in refused.err) == (4, True), refused.text
    assert keys(sandbox, "secret-archive/") == []


def test_what_is_no_archive_is_refused_before_it_is_read(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr("lora_packer.pipeline.local.digest", read)
    (tmp_path / "weights.bin").write_bytes(b"weights")
    refused = cli(*release_arguments("no-archive", sandbox, tmp_path / "weights.bin"))
    assert (refused.code, "neither a folder nor a .zip" in refused.err) == (2, True), refused.text


def test_a_link_that_leads_nowhere_is_for_the_check_to_tell(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "loop", None, tiny_config())
    weights = adapter / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to(weights)
    refused = cli(*release_arguments("loop", sandbox, adapter))
    assert (refused.code, "Too many levels of symbolic links" in refused.err) == (2, True), refused.text


def test_a_taken_name_is_a_refusal(cli: Cli, env: dict[str, str], sandbox: Sandbox) -> None:
    arguments = release_arguments("taken", sandbox)
    assert cli(*arguments).code == 0
    arguments[-1] = "another.json"
    result = cli(*arguments)
    assert result.code == 5
    assert "already exists" in result.err


def test_an_unknown_base_model_is_a_refusal(cli: Cli, env: dict[str, str], sandbox: Sandbox) -> None:
    arguments = release_arguments("unhosted", sandbox)
    arguments[arguments.index("tiny/llama")] = "nobody/llama"
    assert cli(*arguments).code == 5


def test_without_a_key_nothing_is_uploaded(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOGETHER_API_KEY")
    result = cli(*release_arguments("keyless", sandbox))
    assert result.code == 2
    assert "TOGETHER_API_KEY" in result.err
    assert keys(sandbox, "keyless/") == []


def test_a_lost_answer_is_found_again(cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    """Cut off between the request and its answer: the receipt says "sending", the service has the job."""
    arguments = release_arguments("lost", sandbox)
    assert cli(*arguments).code == 0
    path = tmp_path / "lost.json"
    receipt = json.loads(path.read_text())
    job_id = receipt["submission"]["job_id"]
    receipt.update(submission={"state": "sending", "at": receipt["submission"]["at"]}, job=None)
    path.write_text(json.dumps(receipt))
    jobs = len(sandbox.service.jobs.describe_all())
    again = cli(*arguments)
    assert again.code == 0, again.text
    assert f"the earlier run's request arrived: job {job_id}" in again.err
    assert len(sandbox.service.jobs.describe_all()) == jobs


def test_a_request_that_never_arrived_is_sent(cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    arguments = release_arguments("unsent", sandbox)
    assert cli(*arguments, "--no-wait").code == 0
    path = tmp_path / "unsent.json"
    receipt = json.loads(path.read_text())
    receipt["release"]["model_name"] = "unsent-2"
    receipt.update(submission={"state": "sending", "at": ""}, job=None)
    path.write_text(json.dumps(receipt))
    arguments[arguments.index("--model-name") + 1] = "unsent-2"
    again = cli(*arguments)
    assert again.code == 0, again.text
    assert "never arrived" in again.err
    assert "nothing sent" in again.err


def test_no_wait_then_wait(cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    arguments = release_arguments("later", sandbox)
    first = cli(*arguments, "--no-wait")
    assert first.code == 0
    job_id = json.loads((tmp_path / "later.json").read_text())["submission"]["job_id"]
    assert f"lora-packer wait {job_id}" in first.out
    assert cli("wait", job_id).code == 0
    assert "Complete" in cli("status", job_id).out
    assert "Complete" in cli(*arguments).out


def big_adapter(folder: Path) -> Path:
    """150 MB of weights that fit their base: enough to be killed in the middle."""
    rank, size = 512, 8192
    base = {"model_type": "llama", "hidden_size": size, "num_hidden_layers": 3, "num_attention_heads": 64}
    base |= {"num_key_value_heads": 64, "intermediate_size": 64, "vocab_size": 64}
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(3):
        path = f"{PREFIX}model.layers.{layer}.self_attn.q_proj"
        tensors[f"{path}.lora_A.weight"] = random.standard_normal((rank, size), np.float32)
        tensors[f"{path}.lora_B.weight"] = random.standard_normal((size, rank), np.float32)
    config = tiny_config(r=rank, lora_alpha=rank, target_modules=["q_proj"])
    write_adapter(folder, tensors, config)
    (folder.parent / "big-base.json").write_text(json.dumps(base))
    return folder


def test_killed_in_the_middle_of_the_upload_it_ends_complete(
    env: dict[str, str], sandbox: Sandbox, tmp_path: Path, cli: Cli
) -> None:
    adapter = big_adapter(tmp_path / "big")
    arguments = release_arguments("killed", sandbox, adapter)
    arguments[arguments.index(str(TINY_BASE))] = str(tmp_path / "big-base.json")
    client = bucket(sandbox)
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_packer", *arguments], env={**os.environ, **env}, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(6000):
            uploads = client.list_multipart_uploads(Bucket=sandbox.s3.bucket, Prefix="killed/").get("Uploads", [])
            parts = [
                client.list_parts(Bucket=sandbox.s3.bucket, Key=item["Key"], UploadId=item["UploadId"]).get("Parts", [])
                for item in uploads
            ]
            if any(parts) or process.poll() is not None:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "the upload ended before it could be killed"
    assert keys(sandbox, "killed/") == []  # never half an object
    result = cli(*arguments)
    assert result.code == 0, result.text
    assert "status   Complete" in result.out
    assert len(keys(sandbox, "killed/")) == 1
    assert not client.list_multipart_uploads(Bucket=sandbox.s3.bucket, Prefix="killed/").get("Uploads")


def test_release_sandbox_does_it_all_alone(cli_process: Cli, tmp_path: Path) -> None:
    result = cli_process(
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "demo", "--base-model", "tiny/llama", "--sandbox",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.text
    assert "status   Complete" in result.out
    stages = [line.split()[0] for line in result.err.splitlines()]
    assert [stage for stage in dict.fromkeys(stages) if stage != "note"] == [
        "sandbox", "api", "check", "warning", "next", "pack", "upload", "presign", "prove", "submit", "wait",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_the_python_api_releases_too(env: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    receipt = lora_packer.release(
        TINY,
        model_name="from-python",
        base_model="tiny/llama",
        to=f"s3://{sandbox.s3.bucket}/python/",
        base_config=TINY_BASE,
    )
    assert receipt.is_complete
    assert receipt.path == Path("tiny-llama-qv.from-python.receipt.json")
    assert receipt.path.exists()
