"""Cut the service's specification down to the calls that this project makes: fixtures/together-openapi/openapi.json.

usage: python tools/make_openapi.py OPENAPI_YAML [--check]     (--check: print what differs, exit 1)

The specification is openapi.yaml of github.com/togethercomputer/openapi (MIT licence) at commit 090263a. What is kept
is kept word for word, but for descriptions and examples.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from generated import settle

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "fixtures" / "together-openapi" / "openapi.json"
CALLS = {
    "/models": ("get", "post"),
    "/jobs": ("get",),
    "/jobs/{jobId}": ("get",),
    "/hardware": ("get",),
    "/endpoints": ("get", "post"),
    "/endpoints/{endpointId}": ("get", "patch", "delete"),
    "/chat/completions": ("post",),
}
_WORDS = ("description", "summary", "example", "examples", "x-codeSamples", "tags", "title", "operationId")


def cut(specification: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a specification that ``CALLS`` need."""
    paths = {
        path: {method: _plain(specification["paths"][path][method]) for method in methods}
        for path, methods in CALLS.items()
    }
    schemas: dict[str, Any] = {}
    wanted = _references(paths)
    while wanted:
        name = wanted.pop()
        if name not in schemas:
            schemas[name] = _plain(specification["components"]["schemas"][name])
            wanted |= _references(schemas[name])
    return {
        "openapi": specification["openapi"],
        "info": {name: specification["info"][name] for name in ("title", "version", "license")},
        "servers": specification["servers"],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _plain(value: Any, *, named: bool = False) -> Any:
    """A part without words for people; the keys of ``named`` objects are names, whatever they are."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if named or key not in _WORDS}
    return {key: _plain(item, named=key == "properties" and not named) for key, item in kept.items()}


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_references, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(_references, value.values()))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    text = json.dumps(cut(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))), indent=1)
    sys.exit(settle({OUTPUT: f"{text}\n"}))
