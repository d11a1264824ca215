"""No file imports itself by way of others, not even for its types: each can be read knowing only what stands below it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter

from builders import ROOT

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "lora_packer").rglob("*.py")
}

# Only for types: the sentences about what was packed know what that is.
FOR_TYPES = {("lora_packer.pipeline.notes", "lora_packer.pipeline.pack")}


def imported(name: str) -> set[str]:
    """Every file of the package that one imports: at once, in a function, or for type checking."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= below if below <= FILES.keys() else {node.module, *below}
    found &= FILES.keys() - {name, "lora_packer"}  # the front re-exports what is asked for, and the version
    return {other for other in found if (name, other) not in FOR_TYPES}


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert circle({name: imported(name) for name in FILES}) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"a"}}) != []
    assert "lora_packer.sandbox.state" in imported("lora_packer.sandbox.v2")
    assert "lora_packer.errors" in imported("lora_packer.http")
