"""What every format says of an adapter for every rule: the files that ``tools/make_goldens.py`` writes.

That they are current is held by ``tests/house/test_docs.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from builders import ROOT
from every_rule import CASES
from schemas import valid

from lora_packer.inspector import RULES

GOLDEN = ROOT / "tests" / "report" / "golden"


def read(name: str) -> str:
    return (GOLDEN / name).read_text(encoding="utf-8")


def of_text() -> list[str]:
    return re.findall(r"^(?:error|warning|info) (LP\d{3}) ", read("every-rule.txt"), re.MULTILINE)


def of_json() -> list[str]:
    many = valid("many", json.loads(read("every-rule.json")))
    return [finding["code"] for report in many["reports"] for finding in report["findings"]]


def of_sarif() -> list[str]:
    (run,) = json.loads(read("every-rule.sarif"))["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    found = run["results"]
    assert [rules[item["ruleIndex"]] for item in found] == [item["ruleId"] for item in found]
    prints = [(*item["partialFingerprints"].values(), item["properties"]["adapter"]) for item in found]
    assert len(set(prints)) == len(prints)
    return [item["ruleId"] for item in found]


def of_junit() -> list[str]:
    root = ElementTree.fromstring(read("every-rule.junit.xml"))
    assert root.get("tests") == str(len(list(root.iter("testcase"))))
    return [name[:5] for case in root.iter("testcase") if (name := case.get("name", "")).startswith("LP")]


def of_github() -> list[str]:
    lines = read("every-rule.github.txt").splitlines()
    assert all(re.match(r"::(error|warning|notice) (file=[^,:]+,line=\d+,)?title=[^,:]+::.", line) for line in lines)
    return [found[1] for line in lines if (found := re.search(r"title=(LP\d{3}) ", line))]


def of_summary() -> list[str]:
    return re.findall(r"^\| (?:error|warning|info) \| (LP\d{3}) ", read("every-rule.summary.md"), re.MULTILINE)


@pytest.mark.parametrize("codes", [of_text, of_json, of_sarif, of_junit, of_github, of_summary])
def test_every_rule_is_there_in_every_format(codes: Callable[[], list[str]]) -> None:
    found = codes()
    assert set(found) == set(RULES) == set(CASES)
    assert sorted(found) == sorted(of_json())


def test_no_line_is_a_command_but_those_that_are_meant_to_be() -> None:
    for path in GOLDEN.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "##[" not in text
        if path.name != "every-rule.github.txt":
            assert [line for line in text.splitlines() if line.lstrip().startswith("::")] == []
