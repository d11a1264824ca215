"""What the site says of every public name of the package and of every JSON: from docstrings and schemas."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from generated import ROOT, plain

import lora_packer

SCHEMAS = ROOT / "docs" / "schemas"
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Examples?):\s*(.*)$")
_HEADS = {"Args": "Arguments"}
_FEW = 3  # arguments that stand on one line


# --- the Python functions and classes --------------------------------------------------------------------------------


def api() -> str:
    """Return the reference of everything that is public: functions, what they take and return, errors."""
    found = {name: getattr(lora_packer, name) for name in sorted(lora_packer.__all__, key=str.lower)}
    errors = {name for name, one in found.items() if inspect.isclass(one) and issubclass(one, Exception)}
    functions = {name for name, one in found.items() if inspect.isfunction(one)}
    parts = []
    for title, names in {
        "Functions": functions,
        "Classes": found.keys() - functions - errors,
        "Errors": errors,
    }.items():
        parts.append(f"## {title}")
        parts += [_entry(name, found[name]) for name in found if name in names]
    return "\n\n".join(parts)


def _entry(name: str, one: Any) -> str:
    parts = [f"### {name}"]
    if inspect.isfunction(one):
        parts.append(f"```python\n{_signature(name, one)}\n```")
    parts += list(_docstring(inspect.getdoc(one) or ""))
    if inspect.isclass(one) and issubclass(one, lora_packer.LoraPackerError) and one.__base__ is not Exception:
        parts.append(f"It is a `{one.__base__.__name__}`; exit code {one.exit_code}." if one.__base__ else "")
    return "\n\n".join(parts)


def _signature(name: str, function: Any) -> str:
    """A function's head as it is written, an argument a line where there are many."""
    head = inspect.signature(function)
    given = []
    for one in head.parameters.values():
        if one.kind is one.KEYWORD_ONLY and "*" not in given:
            given.append("*")
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        given.append(f"{one.name}: {one.annotation}{default}")
    few = ", ".join(given)
    inside = few if len(given) < _FEW else "\n    " + ",\n    ".join(given) + ",\n"
    return f"def {name}({inside}) -> {head.return_annotation}: ..."


def _default(value: Any) -> str:
    """A default as Python writes it; of a function or another object that is nothing to read."""
    if isinstance(value, timedelta):
        return repr(value).removeprefix("datetime.")
    return repr(value) if value is None or isinstance(value, str | int | float | tuple) else "..."


def _docstring(text: str) -> Iterator[str]:
    """A docstring as Markdown: paragraphs, and a list for each of its sections."""
    for block in re.split(r"\n\s*\n", text):
        paragraph: list[str] = []
        for line in block.splitlines():
            if head := _SECTION.match(line):
                yield from _paragraph(paragraph)
                yield f"**{_HEADS.get(head[1], head[1])}**"
                paragraph = [f"    {head[2]}"] if head[2] else []
            else:
                paragraph.append(line)
        yield from _paragraph(paragraph)


def _paragraph(lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    if not lines[0].startswith("    "):
        yield plain(" ".join(lines))
        return
    items: list[str] = []
    for line in lines:
        if line.startswith("     ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line.strip())
    yield "\n".join(f"- {_item(item)}" for item in items)


def _item(text: str) -> str:
    name, colon, rest = text.partition(": ")
    if colon and re.fullmatch(r"[\w*]+(, [\w*]+)*", name):
        return f"`{name}`: {plain(rest)}"
    return plain(text)


# --- the schemas -----------------------------------------------------------------------------------------------------


def schemas() -> dict[str, dict[str, Any]]:
    """Return each published schema by its name, without what they share."""
    found = {path.name.removesuffix(".schema.json"): path for path in sorted(SCHEMAS.glob("*.schema.json"))}
    return {name: _read(path) for name, path in found.items() if name != "common"}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def schema_page(name: str, schema: Mapping[str, Any]) -> str:
    """Return a schema's page: each field by its path, whether it is always there, and what it is."""
    rows = ["| field | type | meaning |", "|---|---|---|"]
    rows += [f"| {' | '.join(row)} |" for row in _rows(schema, name, "", set())]
    parts = [f"# {schema['title']}", plain(schema["description"]), "A `?` marks what is not always there."]
    return "\n\n".join(
        [*parts, "\n".join(rows), f"The schema itself: [{name}.schema.json](../schemas/{name}.schema.json)."]
    )


def _rows(schema: Mapping[str, Any], name: str, above: str, within: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield path, type and meaning of each field; one that is described elsewhere is named, not told again."""
    for field, given in schema.get("properties", {}).items():
        one, of, inside = _resolved(given, name, within)
        optional = "" if field in schema.get("required", ()) else "?"
        meaning = given.get("description") or one.get("description", "")
        yield f"`{above}{field}`{optional}", _type(given, one), plain(meaning).replace("|", "\\|")
        items, item_of, inside = _resolved(one.get("items", {}), of, inside)
        if "properties" in items:
            yield from _rows(items, item_of, f"{above}{field}[].", inside)
        elif "properties" in one:
            yield from _rows(one, of, f"{above}{field}.", inside)


def _resolved(schema: Mapping[str, Any], name: str, within: set[str]) -> tuple[Mapping[str, Any], str, set[str]]:
    """Follow a reference; a whole report is a page of its own, and so is what stands within itself."""
    for choice in schema.get("oneOf", ()):
        if choice.get("type") != "null":
            schema = choice
            break
    aim = schema.get("$ref")
    if aim is None:
        return schema, name, within
    file, _, part = aim.partition("#/$defs/")
    of = file.removesuffix(".schema.json") or name
    if not part or aim in within:
        return {"type": "object", "$page": of}, of, within
    return _read(SCHEMAS / f"{of}.schema.json")["$defs"][part], of, within | {aim}


def _type(given: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    if "$page" in one:
        told = f"[{one['$page']}]({one['$page']}.md)"
    elif "enum" in one:
        told = ", ".join(f"`{json.dumps(value)}`" for value in one["enum"])
    elif "const" in one:
        told = f"`{json.dumps(one['const'])}`"
    else:
        kinds = one.get("type", "any")
        told = ", ".join(kinds) if isinstance(kinds, list) else kinds
    is_nullable = any(choice.get("type") == "null" for choice in given.get("oneOf", ()))
    return f"{told}, null" if is_nullable else told


def schemas_index() -> str:
    """Return the page that lists the schemas."""
    lines = ["| schema | what it describes |", "|---|---|"]
    lines += [f"| [{name}]({name}.md) | {plain(schema['title'])} |" for name, schema in schemas().items()]
    lead = (
        "Every JSON that a command prints has a schema (JSON Schema 2020-12), and so has the receipt. While "
        "`schema_version` is 1, fields may come, and none goes or changes its meaning: a program should leave out what "
        "it does not know."
    )
    return f"# JSON\n\n{lead}\n\n" + "\n".join(lines) + "\n"
