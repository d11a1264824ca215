"""Tokens and keys inside what is packed: an error, and never shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import TINY_BASE, tiny_config, tiny_tensors, write_adapter
from safetensors.numpy import save_file

import lora_packer
from lora_packer.errors import PackError
from lora_packer.redact import credential_in
from lora_packer.sandbox import Sandbox

HF = "hf_" + "aB3" * 12
TOKENS = {
    "a Hugging Face token": HF,
    "an AWS access key": "AKIA" + "Q7" * 8,
    "a GitHub token": "ghp_" + "a1" * 18,
    "a Together AI key": "tgp_v1_" + "k9" * 20,
    "an API key": "sk-proj-" + "z8" * 24,
    "a private key": "-----BEGIN RSA PRIVATE KEY-----",
    "a presigned URL": "https://b.s3.amazonaws.com/k?X-Amz-Signature=" + "0f" * 32,
    "a URL with a password": "https://user:longsecret@example.com/x",
}


@pytest.mark.parametrize(("kind", "token"), TOKENS.items())
def test_each_kind_is_known(kind: str, token: str) -> None:
    assert credential_in(f"before {token} behind") == kind


@pytest.mark.parametrize(
    "text",
    [
        "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "AKIAIOSFODNN7EXAMPLE",
        "sk-learn",
        "https://huggingface.co/a/b",
        "hf_hub",
    ],
)
def test_what_is_none(text: str) -> None:
    assert credential_in(text) is None


@pytest.mark.parametrize("place", ["config", "metadata"])
def test_a_token_in_the_two_files_is_an_error_that_does_not_show_it(tmp_path: Path, place: str) -> None:
    changes = {"base_model_name_or_path": f"https://user:{HF}@huggingface.co/a/b"} if place == "config" else {}
    folder = write_adapter(tmp_path / "a", config=tiny_config(**changes))
    if place == "metadata":
        save_file(tiny_tensors(), folder / "adapter_model.safetensors", {"format": "pt", "note": HF})
    report = lora_packer.check(folder, base_config=TINY_BASE)
    found = [finding for finding in report.findings if finding.code == "LP108"]
    assert [finding.severity for finding in found] == ["error"]
    assert HF not in str(report.to_dict())
    assert lora_packer.check(folder, base_config=TINY_BASE, ignore=["LP108"]).ok


def test_a_token_in_an_optional_file_stops_a_pack_of_it(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "README.md").write_text(f"export HF_TOKEN={HF}\n")
    with pytest.raises(PackError, match=r"README.md has what looks like a Hugging Face token") as caught:
        lora_packer.pack(folder, tmp_path / "a.zip", base_config=TINY_BASE, include_extras=True)
    assert HF not in str(caught.value)
    assert lora_packer.pack(folder, tmp_path / "a.zip", base_config=TINY_BASE).path.exists()


PLACES = ["adapter_config.json", "README.md"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0.05) as started:
        yield started


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["pack", "publish", "release"])
def test_a_token_that_is_none_is_allowed_by_the_name_of_the_rule(
    command: str,
    place: str,
    sandbox: Sandbox,
    cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {"base_model_name_or_path": f"https://user:{HF}@huggingface.co/a/b"} if place == PLACES[0] else {}
    folder = write_adapter(tmp_path / "a", config=tiny_config(**changes))
    if place == PLACES[1]:
        (folder / "README.md").write_text(f"export HF_TOKEN={HF}\n")
    monkeypatch.chdir(tmp_path)
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    to = ("--to", f"{sandbox.destination}{command}/")
    more = {
        "pack": (),
        "publish": to,
        "release": (*to, "--model-name", f"m-{PLACES.index(place)}", "--base-model", "tiny/llama"),
    }
    asked = (command, folder, "--base-config", TINY_BASE, "--include-extras", *more[command])
    for other in ((), ("--ignore", "LP107")):
        refused = cli(*asked, *other)
        assert refused.code == (1 if place == PLACES[0] else 4), refused.text
        assert "--ignore LP108" in refused.text
    allowed = cli(*asked, "--ignore", "lp108")
    assert allowed.code == 0, allowed.text
    assert HF not in refused.text + allowed.text
