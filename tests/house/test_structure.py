"""The house: imports go down the floors, never up and never sideways; heavy packages are imported where they are used."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import ROOT

PACKAGE = ROOT / "lora_packer"
FILES = sorted(PACKAGE.rglob("*.py"))

# Room -> floor. What is not a room is the ground.
FLOORS = {
    "cli": 7,
    "pipeline": 6,
    "callback": 6,
    "report": 5,
    "inspector": 4,
    "repair": 4,
    "peft": 3.5,
    "targets": 3,
    "base_model": 3,
    "publisher": 3,
    "sandbox": 3,
    "adapter": 2,
    "packager": 2,
    "together": 2,
    "hub": 1.5,
}
# On one floor a room knows no other, but for these.
BESIDE = {("repair", "inspector")}  # a repair mends what a rule finds
HEAVY = {
    "accelerate",
    "boto3",
    "botocore",
    "huggingface_hub",
    "httpx2",
    "numpy",
    "safetensors",
    "torch",
    "transformers",
    "isal",
    "s3transfer",
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, *, top_level: bool) -> Iterator[str]:
    """The modules that are imported: at import time, or anywhere but for type checking."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and top_level:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        else:
            yield from imports(node, top_level=top_level)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    mine = room(path)
    if mine in ("__init__", "__main__"):
        return
    for name in imports(ast.parse(path.read_text()), top_level=False):
        parts = name.split(".")
        if parts[0] != "lora_packer" or len(parts) < 2 or parts[1] == mine:
            continue
        other = parts[1]
        down = FLOORS.get(mine, 1) > FLOORS.get(other, 1) or (mine, other) in BESIDE
        ground = mine not in FLOORS and other not in FLOORS
        assert down or ground, f"{mine} (floor {FLOORS.get(mine, 1)}) imports {other} (floor {FLOORS.get(other, 1)})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    at_import = {name.partition(".")[0] for name in imports(ast.parse(path.read_text()), top_level=True)}
    assert not at_import & HEAVY


def test_files_can_be_read_in_one_sitting() -> None:
    long = {path.name: count for path in FILES if (count := len(path.read_text().splitlines())) > 300}
    assert long == {}


BASE_MODEL = PACKAGE / "base_model"
INDEX = json.loads((BASE_MODEL / "models" / "index.json").read_text())
# Words that are a kind of layer as well as a model type.
KINDS_OF_LAYER = {"mamba"}


@pytest.mark.parametrize("path", sorted((BASE_MODEL / "blocks").glob("*.py")), ids=lambda path: path.name)
def test_blocks_know_no_model_type_and_no_config_type(path: Path) -> None:
    types = {*INDEX, *json.loads((BASE_MODEL / "defaults.json").read_text())["types"]}
    tree = ast.parse(path.read_text())
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert found & types - KINDS_OF_LAYER == set()


@pytest.mark.parametrize("path", sorted((BASE_MODEL / "blocks").glob("*.py")), ids=lambda path: path.name)
def test_blocks_do_not_import_models(path: Path) -> None:
    assert not {name for name in imports(ast.parse(path.read_text()), top_level=False) if "base_model.models" in name}


def test_the_first_word_of_a_model_type_is_its_file_or_folder() -> None:
    """Where one of ``models/`` is named as a type begins, that is where the type is; the longest such name counts."""
    names = {where.partition(".")[0] for where in INDEX.values()}
    lost = {}
    for model_type, where in INDEX.items():
        fitting = [name for name in names if model_type.replace("-", "_").startswith(name)]
        if fitting and where.partition(".")[0] != max(fitting, key=len):
            lost[model_type] = where
    assert lost == {}


@pytest.mark.parametrize("path", sorted((BASE_MODEL / "models").rglob("*.py")), ids=lambda path: path.name)
def test_class_defaults_are_recorded_and_not_typed(path: Path) -> None:
    """No table of a definition gives fields of a config class numbers; those are in ``defaults.json``."""
    recorded = json.loads((BASE_MODEL / "defaults.json").read_text())["types"].values()
    fields = {field for record in recorded for field in record}
    typed = {
        key.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value in fields
        if any(isinstance(number, ast.Constant) and type(number.value) is int for number in ast.walk(value))
    }
    assert typed == set()


@pytest.mark.parametrize("path", sorted((BASE_MODEL / "models").rglob("*.py")), ids=lambda path: path.name)
def test_a_type_that_is_built_as_another_says_like(path: Path) -> None:
    """No two entries of a file are written out alike, apart from PEFT's default targets."""
    seen: dict[str, str] = {}
    tables = [
        node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ARCHITECTURES"
    ]
    for table in tables:
        assert isinstance(table, ast.Dict)
        for key, value in zip(table.keys, table.values, strict=True):
            if isinstance(value, ast.Call) and ast.unparse(value.func) != "like":
                value.keywords = [keyword for keyword in value.keywords if keyword.arg != "targets"]
                assert isinstance(key, ast.Constant)
                assert seen.setdefault(ast.dump(value), key.value) == key.value
