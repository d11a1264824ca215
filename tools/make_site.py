"""Make what the documentation site is built from: docs/, and a page for each command, target and JSON schema.

The pages come from the options and the data themselves, so that none can be missing or old. Those of the rules are in
docs/rules already (``tools/make_docs.py``).

usage: python tools/make_site.py FOLDER      (writes FOLDER/mkdocs.yml and FOLDER/docs)
       python tools/make_site.py --check     (writes nothing; exit 1 where a link leads nowhere)
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml
from generated import plain
from site_reference import api, schema_page, schemas, schemas_index

from lora_packer.cli import COMMANDS, build
from lora_packer.cli.help import ENVIRONMENT, EXAMPLES, Command
from lora_packer.inspector import RULES
from lora_packer.targets import NAMES, Target, find_target
from lora_packer.targets.features import FEATURES

ROOT = Path(__file__).resolve().parent.parent
# A page of docs/ whose address another one has in the site: targets/ lists the targets.
RENAMED = {"targets.md": "targets-by-feature.md"}
BESIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
EFFECTS = {
    "supported": "works",
    "rejected": "is refused",
    "crash": "crashes",
    "ignored": "is ignored, without a word",
    "wrong": "loads, and serves something else",
    "partial": "works in part",
    "placed": "depends on the module",
    "unknown": "is not known",
    "untold": "nobody says anything of it",
}
OTHERWISE = {
    "supported": "Everything else works.",
    "unknown": "Of everything else nothing is known, and `check` warns of it.",
    "untold": "Of everything else nobody says anything, and nothing speaks against it.",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Command]:
    """Return every command as the command line has it."""
    group: Any = typer.main.get_command(build())
    return {name: group.commands[name] for name in COMMANDS}


def command_page(name: str, command: Command) -> str:
    """Return a command's page."""
    context = typer.Context(command, info_name=f"lora-packer {name}")
    first, *others = (command.help or "").strip().split("\n\n")
    usage = f"```text\nlora-packer {name} {command.usage(context)}\n```"
    parts = [f"# lora-packer {name}", plain(first), usage, *(plain(part) for part in others)]
    if name in EXAMPLES:
        parts += ["## Examples", "```sh\n" + "\n".join(EXAMPLES[name]) + "\n```"]
    for section, rows in command.sections(context).items():
        cells = [[f"`{term}`", plain(text)] for term, text in rows]
        parts += [f"## {section}", table(["argument" if section == "Arguments" else "option", "what it means"], cells)]
    if name in ENVIRONMENT:
        rows = [(f"`{term}`", text) for term, text in ENVIRONMENT[name].items()]
        parts += ["## Environment", table(["variable", "what it means"], rows)]
    parts.append("What each exit code means: [exit codes](../options.md#exit-codes).")
    return "\n\n".join(parts) + "\n"


def commands_index(found: Mapping[str, Command]) -> str:
    """Return the page that lists the commands."""
    rows = [
        [f"[`{name}`]({name}.md)", plain((command.help or "").strip().split("\n\n")[0])]
        for name, command in found.items()
    ]
    return "# Commands\n\n" + table(["command", "what it does"], rows) + "\n"


# --- targets ---------------------------------------------------------------------------------------------------------


def target_page(target: Target) -> str:
    """Return a target's page: what it does with each feature, and where that was read."""
    release = f", release {target.version}" if target.version else ""
    parts = [f"# {target.name}", f"{plain(target.summary)}{release}: what `check --target {target.name}` knows of it."]
    rows = []
    for name, fact in target.facts.items():
        said = f": {plain(fact.says)}" if fact.says else ""
        rows.append([plain(FEATURES[name]), EFFECTS[fact.effect] + said, plain(fact.source)])
    if rows:
        parts.append(table(["what an adapter has", "what happens", "where that was read"], rows))
    if target.rank.default and target.rank.setting:
        limits = f"It takes ranks up to {target.rank.default}, and more where its server is started with "
        parts.append(f"{limits}`{target.rank.setting}` ({plain(target.rank.source)}).")
    if target.engine:
        parts.append(f"By its own word it runs [{target.engine.name}]({target.engine.name}.md), whose facts count too.")
    if target.engines:
        parts.append("It is all of these: " + ", ".join(f"[{one.name}]({one.name}.md)" for one in target.engines) + ".")
    parts.append(OTHERWISE[target.otherwise])
    return "\n\n".join(parts) + "\n"


def targets_index(found: Mapping[str, Target]) -> str:
    """Return the page that lists the targets."""
    rows = [[f"[`{name}`]({name}.md)", plain(target.summary), target.version or ""] for name, target in found.items()]
    lead = (
        "A target is the place that will load the adapter: `check --target vllm,sglang`, or `all` for a table of them."
    )
    return f"# Targets\n\n{lead}\n\n" + table(["name", "what it is", "newest release that was read"], rows) + "\n"


def refusals(found: Mapping[str, Target]) -> str:
    """Return the table of what the engines say when they refuse an adapter."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, target in found.items():
        for feature, fact in target.facts.items():
            if fact.says and fact.effect in ("rejected", "crash"):
                rows.setdefault((name, fact.says), []).append(FEATURES[feature])
    told = [[f"[{name}](targets/{name}.md)", plain(says), plain(", ".join(of))] for (name, says), of in rows.items()]
    return table(["engine", "what it says, or what happens", "what it is about"], told)


# --- the site --------------------------------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """Write the site's sources into a folder of their own, which is emptied first."""
    docs = folder / "docs"
    shutil.rmtree(docs, ignore_errors=True)
    shutil.copytree(ROOT / "docs", docs)
    for place in (*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in BESIDE)):
        text = moved_links(place.read_text(encoding="utf-8"), place)
        name = RENAMED.get(place.name, place.name) if place.parent.name == "docs" else place.name.lower()
        (docs / name).write_text(text, encoding="utf-8")
    for name in RENAMED:
        (docs / name).unlink()
    found, targets = commands(), {name: find_target(name) for name in NAMES}
    made = {
        "commands": {name: command_page(name, command) for name, command in found.items()},
        "targets": {name: target_page(target) for name, target in targets.items()},
        "json": {name: f"{schema_page(name, schema)}\n" for name, schema in schemas().items()},
    }
    for page, mark, told in (("troubleshooting", "engines", refusals(targets)), ("python", "api", api())):
        text = (docs / f"{page}.md").read_text(encoding="utf-8")
        (docs / f"{page}.md").write_text(text.replace(f"<!-- {mark} -->", told), encoding="utf-8")
    indexes = {"commands": commands_index(found), "targets": targets_index(targets), "json": schemas_index()}
    for section, pages in made.items():
        (docs / section).mkdir()
        for name, text in {"index": indexes[section], **pages}.items():
            (docs / section / f"{name}.md").write_text(text, encoding="utf-8")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    titles = {code: f"{code} {rule.name}" for code, rule in RULES.items()}
    listing = {**made, "rules": titles}
    for entry in config["nav"]:
        for title, section in entry.items():
            if isinstance(section, str) and section in listing:
                listed = [{titles.get(name, name): f"{section}/{name}.md"} for name in listing[section]]
                entry[title] = [f"{section}/index.md", *listed]
    named = yaml.safe_dump(config["nav"])
    others = [page.name for page in sorted(docs.glob("*.md")) if page.name not in named]
    config["nav"] += [{"More": others}] if others else []
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def moved_links(text: str, place: Path) -> str:
    """Return the text of a page of the repository with links that fit its place in the site.

    A link to a file that the site has not, such as a fixture, becomes its words alone.
    """

    def moved(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], re.sub(r"-+", "-", found[3] or "")  # GitHub's has each hyphen
        aim = (place.parent / path).resolve() if path else place
        if not path or not aim.exists():
            return f"[{words}]({path}{anchor})"
        if aim.is_relative_to(ROOT / "docs"):
            name = str(aim.relative_to(ROOT / "docs"))
            return f"[{words}]({RENAMED.get(name, name)}{anchor})"
        return f"[{words}]({aim.name.lower()}{anchor})" if aim.parent == ROOT and aim.name in BESIDE else words

    return re.sub(r"\[([^\]\n]*)\]\((?![a-z]+:)([^)\s#]*)(#[^)\s]*)?\)", moved, text)


def dead_links(docs: Path) -> Iterator[str]:
    """Yield each link within the site that leads nowhere."""
    for page in sorted(docs.rglob("*.md")):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            aim = (page.parent / path).resolve() if path else page
            where = f"{page.relative_to(docs)}: {link}"
            if not aim.exists():
                yield f"{where}: no such page"
            elif anchor and anchor not in anchors(aim):
                yield f"{where}: no such heading"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made of their words."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def main() -> int:
    """Make the site's sources, or check them."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if sys.argv[1] == "--check" else Path(sys.argv[1])
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        wrong = list(dead_links(folder / "docs"))
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
