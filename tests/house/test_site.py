"""The documentation site: no command, option, rule or target without a page, no link that leads nowhere, real sessions."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import ROOT

from lora_packer.cli import COMMANDS
from lora_packer.inspector import RULES
from lora_packer.targets import NAMES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the site is built from; to make it also follows every link."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, ROOT / "tools" / "make_site.py", folder], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_command_rule_and_target_has_a_page_in_the_navigation(site: Path) -> None:
    config = yaml.safe_load((site / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/-]+\.md", yaml.safe_dump(config["nav"])))
    wanted = {f"commands/{name}.md" for name in COMMANDS}
    wanted |= {f"rules/{code}.md" for code in RULES} | {f"targets/{name}.md" for name in NAMES}
    assert wanted <= listed
    assert listed == {str(page.relative_to(site / "docs")) for page in (site / "docs").rglob("*.md")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_page_has_every_option_of_its_help(site: Path, cli: Callable[..., Any], name: str) -> None:
    page = (site / "docs" / "commands" / f"{name}.md").read_text()
    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", cli(name, "--help").out, re.MULTILINE))
    assert options
    assert {option for option in options if option not in page} == set()


@pytest.mark.parametrize("code", RULES)
def test_a_rule_s_page_says_what_the_rule_says(code: str) -> None:
    page = (ROOT / "docs" / "rules" / f"{code}.md").read_text().replace("\\", "")
    rule = RULES[code]
    for text in (rule.name, rule.summary, rule.why, rule.fix):
        assert " ".join(text.split()) in page


def test_troubleshooting_has_what_each_engine_says_when_it_refuses(site: Path) -> None:
    page = (site / "docs" / "troubleshooting.md").read_text()
    assert "<!--" not in page
    for said in ("vLLM does not yet support DoRA.", "LoRA serving currently doesn't support DoRA adapters"):
        assert said in page


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import make_site

    (tmp_path / "a.md").write_text("# One -- two\n[x](#one-two) [y](b.md) [z](#three) [w](https://example.org/a.md)\n")
    assert list(make_site.dead_links(tmp_path)) == ["a.md: b.md: no such page", "a.md: #three: no such heading"]
    moved = make_site.moved_links(
        "[a](../README.md#x) [b](fix.md) [c](../fixtures/README.md) [d](together.md#--b) [e](none.md) [f](#x) [g](https://h/i)",
        ROOT / "docs" / "page.md",
    )
    assert moved == "[a](readme.md#x) [b](fix.md) c [d](together.md#-b) [e](none.md) [f](#x) [g](https://h/i)"


def test_the_session_on_the_start_page_is_a_real_one(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    start = (ROOT / "docs" / "index.md").read_text()
    command, shown = re.search(r"\$ lora-packer (check .*)\n((?:.*\n)*?)```", start).groups()  # type: ignore[union-attr]
    assert cli(*command.split()).out == shown


def test_the_commands_on_the_start_page_exist(cli: Callable[..., Any]) -> None:
    start = (ROOT / "docs" / "index.md").read_text()
    for line in re.findall(r"^(?:\$ )?lora-packer (.*)$", start, re.MULTILINE):
        if line.startswith(tuple(COMMANDS)):
            name, *words = line.partition("#")[0].split()
            told = cli(name, "--help").out
            assert all(word in told for word in words if word.startswith("--")), line
