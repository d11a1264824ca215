"""``--skip-existing``: a model name that is taken is fine where its upload is complete and provably of the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE, tiny_config, write_adapter
from hub_support import hub_of_every_kind
from hub_support import point_to as point_to_hub
from service_support import V1_ENDPOINTS

import lora_packer
from lora_packer.sandbox import Faults, Sandbox, Service
from lora_packer.sandbox.direct import Revision
from lora_packer.sandbox.jobs import JobRecord

Cli = Callable[..., Any]
BASES = ("tiny/llama", "tiny/other")
APIS = pytest.mark.parametrize("api", ["v1", "v2"])


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(base_models=BASES, delay=0, faults=V1_ENDPOINTS) as started:
        yield started


@pytest.fixture(autouse=True)
def _env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point_to(sandbox, monkeypatch)
    monkeypatch.chdir(tmp_path)


def point_to(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)


def release(name: str, api: str, receipt: str, adapter: Path = TINY, *, to: str = "") -> list[str]:
    return [
        "release", str(adapter), "--base-config", str(TINY_BASE), "--model-name", name, "--base-model", "tiny/llama",
        "--to", to or f"s3://sandbox/{name}/", "--api", api, "--receipt", receipt,
    ]  # fmt: skip


def records(sandbox: Sandbox, api: str) -> list[JobRecord]:
    service = sandbox.service
    return service.jobs.records() if api == "v1" else service.imports.records()


@APIS
def test_the_same_bytes_are_done(cli: Cli, sandbox: Sandbox, api: str) -> None:
    name = f"same-{api}"
    first = cli(*release(name, api, "first.json"))
    assert first.code == 0, first.text
    job = json.loads(Path("first.json").read_text())["submission"]["job_id"]
    before = len(records(sandbox, api))
    refused = cli(*release(name, api, "plain.json"))
    assert (refused.code, "already exists" in refused.err) == (5, True), refused.text
    # Another prefix is another place for the same bytes.
    again = cli(*release(name, api, "again.json", to="s3://sandbox/elsewhere/"), "--skip-existing", "--format", "json")
    assert again.code == 0, again.text
    told = json.loads(again.out)
    assert told == json.loads(Path("again.json").read_text())
    assert told["submission"]["skipped"] is True
    assert told["submission"]["job_id"] == told["job"]["id"] == job
    assert told["job"]["status"] == "Complete"
    assert told["archive"]["sha256"] == json.loads(Path("first.json").read_text())["archive"]["sha256"]
    assert (told["object"], told["url"]) == (None, None)
    assert told["check"]["status"] == "ok"
    sentence = told["submission"]["reason"]
    assert again.err.count("nothing was sent: ") == 1
    assert f"nothing was sent: '{name}' exists, and job {job} is Complete with the same bytes" in sentence
    assert ("on which base model, the service does not tell" in sentence) is (api == "v1")
    assert "?" not in sentence
    assert len(records(sandbox, api)) == before


@APIS
def test_its_receipt_goes_on_like_any_other(cli: Cli, api: str) -> None:
    name = f"goes-on-{api}"
    assert cli(*release(name, api, "first.json")).code == 0
    command = [*release(name, api, "again.json"), "--skip-existing"]
    text = cli(*command)
    assert text.code == 0, text.text
    assert "status   Complete" in text.out
    assert "\nskipped  nothing was sent: " in text.out
    quiet = cli(*command, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, text.out, "")
    deployed = cli(*command, "--deploy", "--ask", "Well?")
    assert deployed.code == 0, deployed.text
    assert "answer   The sandbox answers for" in deployed.out


@APIS
def test_what_is_skipped_is_deployed_in_the_same_run(cli: Cli, api: str) -> None:
    name = f"served-{api}"
    assert cli(*release(name, api, "first.json")).code == 0
    result = cli(*release(name, api, "again.json"), "--skip-existing", "--deploy", "--ask", "Well?")
    assert result.code == 0, result.text
    assert "answer   The sandbox answers for" in result.out


@APIS
@pytest.mark.parametrize("packed", [False, True])
def test_other_bytes_are_refused(cli: Cli, sandbox: Sandbox, tmp_path: Path, api: str, packed: bool) -> None:
    name = f"other-{api}-{packed}".lower()
    assert cli(*release(name, api, "first.json")).code == 0
    adapter = write_adapter(tmp_path / TINY.name, None, tiny_config(lora_alpha=4))
    if packed:
        assert cli("pack", adapter, "--base-config", TINY_BASE, "--output", "other.zip").code == 0
        adapter = tmp_path / "other.zip"
    before = len(records(sandbox, api))
    result = cli(*release(name, api, "again.json", adapter), "--skip-existing")
    assert result.code == 5, result.text
    assert "It fetched other bytes: " in result.err
    assert "Choose a new --model-name" in result.err
    assert len(records(sandbox, api)) == before
    assert json.loads(Path("again.json").read_text())["submission"] is None


@APIS
def test_the_same_archive_is_the_same_as_its_folder(cli: Cli, api: str) -> None:
    name = f"packed-{api}"
    assert cli(*release(name, api, "first.json")).code == 0
    assert cli("pack", TINY, "--base-config", TINY_BASE, "--output", "mine.zip").code == 0
    again = cli(*release(name, api, "again.json", Path("mine.zip")), "--skip-existing")
    assert again.code == 0, again.text


@APIS
@pytest.mark.parametrize(
    ("case", "source", "why"),
    [
        (0, "https://s3.example/bucket/adapter.zip", "the service fetched https://s3.example/bucket/adapter.zip, which names no"),
        (1, "https://huggingface.co/org/repo", "the service fetched https://huggingface.co/org/repo, which names no"),
        (2, "remote_archive", "the service does not tell what it fetched"),
        (3, "https://[bad/x-0123456789abcdef.zip", "the service fetched https://[bad/x-0123456789abcdef.zip, which names no"),
    ],
)  # fmt: skip
def test_what_tells_no_digest_proves_nothing(
    cli: Cli, sandbox: Sandbox, api: str, case: int, source: str, why: str
) -> None:
    name = f"untold-{api}-{case}"
    assert cli(*release(name, api, "first.json")).code == 0
    records(sandbox, api)[-1].source = source
    result = cli(*release(name, api, "again.json"), "--skip-existing")
    assert result.code == 5, result.text
    assert f"cannot be proven: {why}" in result.err
    assert "Choose a new --model-name" in result.err
    assert "tensors" not in result.err  # said before the weights are read


def test_another_base_model_is_another_adapter(cli: Cli) -> None:
    command = release("based", "v2", "first.json")
    assert cli(*command).code == 0
    command = release("based", "v2", "again.json")
    command[command.index("tiny/llama")] = "tiny/other"
    result = cli(*command, "--skip-existing")
    assert (result.code, "It is based on another model than tiny/other" in result.err) == (5, True), result.text


def test_a_model_with_several_revisions_need_not_serve_what_was_fetched(cli: Cli, sandbox: Sandbox) -> None:
    assert cli(*release("twice", "v2", "first.json")).code == 0
    model_id = records(sandbox, "v2")[-1].model_id
    sandbox.service.direct._revisions[model_id] = [Revision("rev_later", datetime.now(UTC), None)]
    result = cli(*release("twice", "v2", "again.json"), "--skip-existing")
    assert (result.code, "cannot be proven" in result.err) == (5, True), result.text


def test_files_that_were_sent_directly_prove_nothing(cli: Cli) -> None:
    command = ["release", TINY, "--base-config", TINY_BASE, "--model-name", "direct", "--base-model", "tiny/llama", "--direct"]  # fmt: skip
    assert cli(*command, "--receipt", "first.json").code == 0
    result = cli(*command, "--receipt", "again.json", "--skip-existing")
    assert result.code == 5, result.text
    assert "cannot be proven: --direct sends files, and the service tells no digest" in result.err


@APIS
def test_a_job_that_runs_is_waited_for_first(cli: Cli, monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    with Sandbox(delay=0, faults=Faults(stuck=True)) as stuck:
        point_to(stuck, monkeypatch)
        assert cli(*release("slow", api, "first.json"), "--no-wait").code == 0
        stuck.service.jobs.join()
        stuck.service.imports.join()
        result = cli(*release("slow", api, "again.json"), "--skip-existing")
    assert result.code == 5, result.text
    assert "Wait for it with `lora-packer wait " in result.err


def test_a_name_that_is_free_is_taken(cli: Cli) -> None:
    result = cli(*release("free", "v1", "first.json"), "--skip-existing", "--format", "json")
    assert (result.code, "skipped" in json.loads(result.out)["submission"]) == (0, False), result.text


@APIS
def test_submit_of_a_url(cli: Cli, sandbox: Sandbox, tmp_path: Path, api: str) -> None:
    name = f"by-url-{api}"

    def publish(adapter: Path) -> None:
        place = ["--to", f"s3://sandbox/{name}/", "--url-file", "url", "--base-config", str(TINY_BASE)]
        assert cli("publish", adapter, *place).code == 0

    command = ["submit", "--url-file", "url", "--model-name", name, "--base-model", "tiny/llama", "--api", api]
    publish(TINY)
    first = cli(*command, "--wait", "--format", "json")
    assert first.code == 0, first.text
    again = cli(*command, "--skip-existing", "--format", "json")
    assert again.code == 0, again.text
    told = json.loads(again.out)
    assert (told["skipped"], told["job"]["status"]) == (True, "Complete")
    assert told["job"]["id"] == json.loads(first.out)["job"]["id"]
    text = cli(*command, "--skip-existing")
    assert (text.code, "skipped nothing was sent: " in text.out) == (0, True), text.text
    signature = Path("url").read_text().partition("Signature=")[2][:20]
    assert signature
    assert signature not in again.text + text.text
    # A URL that is dead by now is no reason to refuse what needs none; where the name is free it is.
    alive = Path("url").read_text()
    Path("url").write_text(re.sub("X-Amz-Date=[^&]*", "X-Amz-Date=20200102T030405Z", alive))
    dead = cli(*command, "--skip-existing", "--format", "json")
    assert (dead.code, json.loads(dead.out)["skipped"]) == (0, True), dead.text
    dead_url = Path("url").read_text().strip()
    taken = lora_packer.submit(dead_url, model_name=name, base_model="tiny/llama", api=api, skip_existing=True)
    assert taken.id == told["job"]["id"]
    for more in ([], ["--skip-existing"]):
        needed = cli(*[f"free-{api}" if word == name else word for word in command], *more)
        assert (needed.code, "The presigned URL expired" in needed.err) == (4, True), needed.text
    publish(write_adapter(tmp_path / "other", None, tiny_config(lora_alpha=4)))
    refused = cli(*command, "--skip-existing")
    assert (refused.code, "It fetched other bytes: " in refused.err) == (5, True), refused.text
    job = lora_packer.submit
    with pytest.raises(lora_packer.ServiceError, match="It fetched other bytes"):
        job(Path("url").read_text().strip(), model_name=name, base_model="tiny/llama", api=api, skip_existing=True)


@APIS
@pytest.mark.parametrize("command", ["release", "submit"])
def test_a_repository_is_proven_by_its_commit_alone(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, api: str, command: str
) -> None:
    with hub_of_every_kind() as hub, Service(hub=hub, delay=0) as service:
        monkeypatch.delenv("HF_TOKEN")
        point_to_hub(hub, monkeypatch)
        monkeypatch.setenv("TOGETHER_API_KEY", service.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", service.base_url)
        words = [command, "hf://org/public", "--base-config", TINY_BASE, "--model-name", "mine", "--api", api]
        words += ["--base-model", "tiny/llama", "--skip-existing", *(["--wait"] if command == "submit" else [])]

        def run(receipt: str, *more: str) -> Any:
            return cli(*words, *(["--receipt", receipt] if command == "release" else []), *more)

        assert run("first.json").code == 0
        refused = run("a.json")
        assert (refused.code, "which names no commit of org/public" in refused.err) == (5, True), refused.text
        (record,) = service.jobs.records() if api == "v1" else service.imports.records()
        commit = hub_commit()
        for form in ("https://huggingface.co/org/public/tree/{}", "org/public@{}"):
            record.source = form.format(commit)
            done = run("b.json")
            assert (done.code, f"with the same bytes ({commit}" in done.text) == (0, True), done.text
            Path("b.json").unlink(missing_ok=True)
        unknown = run("c.json", "--no-check")
        assert (unknown.code, "it was not checked" in unknown.err) == (5, True), unknown.text
        record.source = f"https://huggingface.co/org/public/tree/{'0' * 40}"
        other = run("d.json")
        assert (other.code, "It fetched other bytes" in other.err) == (5, True), other.text


def hub_commit() -> str:
    from lora_packer.hub import Hub, HubRepo

    with Hub.from_environment() as connection:
        return connection.snapshot(HubRepo("org/public")).commit
