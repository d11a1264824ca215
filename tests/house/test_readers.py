"""Answers, and receipts, are looked into by their readers alone: an index into one is a traceback in waiting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import ROOT

PACKAGE = ROOT / "lora_packer"
ROOMS = ("together", "hub", "pipeline")
# What has the shapes of answers, of receipts and of files of questions: each value typed or refused.
READERS = ("answers.py", "info.py", "reasons.py", "told", "receipt.py", "questions.py")
# Mappings of text that are not answers: variables of the environment, headers.
OWN = ("environ", "headers", ".selectors")
# Of a receipt the reader has typed what a later run goes by: ``get`` finds text or nothing, an index may find nothing.
# What is written into one is the program's own.
SECTIONS = ("section", "stored", "self.adapter(files)", "report.summary")
FILES = [path for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py")) if not path.name.startswith(READERS)]


def looks(tree: ast.AST, *, of_receipts: bool = False) -> Iterator[tuple[int, str]]:
    """Each place that looks into a mapping by the name of a field."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="get")) if of_receipts:
                continue
            case ast.Subscript(value=whole, slice=ast.Constant(value=str() as name), ctx=ast.Load()):
                pass
            case ast.Call(func=ast.Attribute(value=whole, attr="get"), args=[ast.Constant(value=str() as name), *_]):
                pass
            case _:
                continue
        of = ast.unparse(whole)
        if of_receipts and of in SECTIONS:
            continue
        if not of.isupper() and not of.endswith(OWN) and not of.startswith("Literal"):
            yield node.lineno, f"{of}: {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_answers_are_looked_into_by_the_readers_alone(path: Path) -> None:
    of_receipts = "pipeline" in path.relative_to(PACKAGE).parts
    assert list(looks(ast.parse(path.read_text()), of_receipts=of_receipts)) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("answer['id']", ["answer: id"]),
        ("fields(answer).get('id')", ["fields(answer): id"]),
        ("answer.get('data')['id']", ["answer.get('data'): id", "answer: data"]),
        ("body['id'] = 5", []),
        ("os.environ['HOME'] + environ.get('HOME')", []),
        ("answer.headers.get('etag') + _NAMES.get('x') + seen[0]", []),
        ("x: Literal['a']", []),
    ],
)
def test_every_look_is_seen(code: str, found: list[str]) -> None:
    assert sorted(what for _, what in looks(ast.parse(code))) == found
