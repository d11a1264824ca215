"""The documentation site: no command, option, rule or target without a page, no link that leads nowhere, real sessions."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import ROOT

import lora_packer
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


def test_every_public_name_and_every_schema_is_described(site: Path) -> None:
    page = (site / "docs" / "python.md").read_text()
    assert set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == set(lora_packer.__all__)
    for name in ("check", "release"):
        function = page.split(f"\n### {name}\n")[1].split("\n### ")[0]
        for argument in inspect.signature(getattr(lora_packer, name)).parameters:
            assert f"    {argument}: " in function
    names = {path.name.removesuffix(".schema.json") for path in (ROOT / "docs" / "schemas").iterdir()} - {"common"}
    assert {path.stem for path in (site / "docs" / "json").iterdir()} == {*names, "index"}


@pytest.mark.parametrize(("name", "paths"), [
    ("diff", "schema_version status config[].field modules[].moved summary.overall"),
    ("receipt", "release.model_name check.findings archive.members[].sha256 url.proof.proven smoke.prompts[].sha256"),
    ("report", "findings[].code findings[].targets unchecked[].reason summary.errors"),
])  # fmt: skip
def test_a_schema_s_page_has_its_fields(site: Path, name: str, paths: str) -> None:
    page = (site / "docs" / "json" / f"{name}.md").read_text()
    for path in paths.split():
        assert f"| `{path}`" in page


# What the service's page has, by its headings, options, requests and troubleshooting.
VENDOR = """Prerequisites|Source:|Files:|Base model:|adapter_config.json|adapter_model.safetensors|.zip|.tar.gz|100 minutes|
Upload the adapter|From Hugging Face|From S3|together models upload|job_id|model_name|--model-name|--model-source|--model-type|
--base-model|--hf-token|--description|Check upload status|/v1/jobs/|Complete|dashboard|Deploy the adapter|
together endpoints hardware|together endpoints create|--display-name|--hardware|utoscaling|listing|deletion|Run inference|
/v1/chat/completions|messages|max_tokens|temperature|What is the capital of France?|Troubleshooting|Model name already exists|
Missing required files|Base model incompatib|Upload job stuck in `Processing`|401 or 403 during upload|TOGETHER_API_KEY|
Can I upload adapters trained outside Together AI?|Can I update an existing adapter?"""


def test_the_walk_through_follows_the_service_s_page_to_its_end() -> None:
    page = (ROOT / "docs" / "walk-through.md").read_text()
    assert [said for said in VENDOR.replace("\n", "").split("|") if said not in page] == []


def test_no_two_pages_have_one_address(site: Path) -> None:
    """The site has folders for addresses: a.md and a/index.md would both be a/."""
    pages = [page.relative_to(site / "docs").with_suffix("") for page in (site / "docs").rglob("*.md")]
    addresses = [page.parent if page.name == "index" else page for page in pages]
    assert len(set(addresses)) == len(addresses)


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
