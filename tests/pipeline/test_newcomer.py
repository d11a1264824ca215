"""A newcomer's path: check a broken adapter, read its rule, mend it as the check says, look at it, release it.

``make smoke`` takes the same path with the built wheel, which it installs into an empty environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY_BASE, renamed, write_adapter

Cli = Callable[..., Any]


def test_from_a_broken_adapter_to_a_released_one(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes what the one before it printed, as a person would."""
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path / "my-adapter", renamed(lambda name: f"module.{name}"))

    checked = cli("check", "my-adapter", "--base-config", TINY_BASE)
    assert checked.code == 1, checked.text
    (code,) = re.findall(r"^error (LP\d+) ", checked.out, re.MULTILINE)

    explained = cli("rule", code)
    assert explained.code == 0
    (why,) = re.findall(r"^Why it matters: (.*)$", explained.out, re.MULTILINE)
    page = (ROOT / "docs" / "rules" / f"{code}.md").read_text().replace("\\", "")
    assert why in page
    assert f"error {code} " in page

    (command,) = re.findall(r"^fixable: lora-packer (.*)$", checked.out, re.MULTILINE)
    mended = cli(*shlex.split(command))
    assert mended.code == 0, mended.text
    assert (tmp_path / "my-adapter-fixed" / "adapter_model.safetensors").is_file()

    looked = cli("check", "my-adapter-fixed", "--base-config", TINY_BASE, "--html", "report.html")
    assert looked.code == 0, looked.text
    assert "ok" in (tmp_path / "report.html").read_text()

    names = ("--model-name", "my-adapter", "--base-model", "tiny/llama", "--base-config", TINY_BASE)
    released = cli("release", "my-adapter-fixed", *names, "--sandbox")
    assert released.code == 0, released.text
    assert "status   Complete" in released.out
