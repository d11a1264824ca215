"""The published JSON Schemas, and what the command line printed held against them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from builders import ROOT
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry, Resource

SCHEMAS = ROOT / "docs" / "schemas"
NAMES = tuple(sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json")))
# Which of them describes what a command prints; what is printed by one in two forms is told apart below.
OF_COMMAND = {
    "check": "report",
    "presign": "publish",
    "submit": "job",
    "status": "job",
    "wait": "job",
    "release": "receipt",
    **{name: name for name in ("fix", "diff", "pack", "publish", "hardware", "deploy", "ask", "models", "endpoints")},
    **{name: name for name in ("verify", "identify", "rule")},
}


def schema_of(words: Sequence[str], value: Mapping[str, Any]) -> str | None:
    """Return the name of the schema for what a command printed, or None where it prints no JSON of its own."""
    if isinstance(value.get("error"), dict) and "exit_code" in value["error"]:
        return "error"
    if "reports" in value:
        return "many"
    if "removed" in value:
        return "removed"
    if words[0] == "stop":
        return "endpoints" if "endpoints" in value else "deploy"
    return OF_COMMAND.get(words[0])


@cache
def schema(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())  # type: ignore[no-any-return]


@cache
def validator(name: str) -> Validator:
    registry: Registry[Any] = Registry().with_resources(
        (f"{other}.schema.json", Resource.from_contents(schema(other))) for other in NAMES
    )
    return Draft202012Validator(schema(name), registry=registry)


def _strict(part: Any) -> Any:
    """The same schema, in which an object has no field that is not described."""
    if isinstance(part, list):
        return [_strict(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _strict(value) for key, value in part.items()}
    return (
        {**closed, "additionalProperties": False} if "properties" in part and part.get("type") == "object" else closed
    )


@cache
def strict(name: str) -> Validator:
    """The validator under which what is not described is an error: ours has to describe all that is printed."""
    registry: Registry[Any] = Registry().with_resources(
        (f"{other}.schema.json", Resource.from_contents(_strict(schema(other)))) for other in NAMES
    )
    return Draft202012Validator(_strict(schema(name)), registry=registry)


def valid(name: str, value: Any) -> Any:
    """Return what is valid, and raise ValidationError where it is not."""
    validator(name).validate(value)
    return value


def validate_printed(arguments: tuple[object, ...], out: str) -> None:
    """Hold what a command printed as JSON against its schema: every test that asks for JSON does so too."""
    words = [str(word) for word in arguments]
    if not out.startswith("{") or "--format json" not in " ".join(words):
        return
    try:
        value = json.loads(out)
    except ValueError:
        return  # several objects, or what --output - wrote: not a report
    if isinstance(value, dict) and (name := schema_of(words, value)) is not None:
        valid(name, value)
