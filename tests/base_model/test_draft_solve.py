"""Sizes and conditions that ``tools/draft.py`` finds in many configs: the simplest that is right in all, else none."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from drafting.conditions import condition, decide
from drafting.solve import Term, solve

Fields = dict[str, int]


def _configs(count: int) -> list[Fields]:
    chance = random.Random(7)
    return [
        {
            "hidden": 8 * chance.randint(4, 40),
            "heads": chance.choice((2, 4, 8)),
            "kv": chance.choice((1, 2)),
            "dim": chance.choice((8, 12, 16)),
            "inner": 8 * chance.randint(4, 40),
            "image": 16 * chance.randint(2, 9),
            "patch": chance.choice((4, 8, 16)),
            "scale": chance.choice((2, 3)),
            "groups": chance.choice((1, 2, 3)),
            "channels": 3,
        }
        for _ in range(count)
    ]


def _solved(size: Callable[[Fields], int], count: int = 24) -> str | None:
    configs = _configs(count)
    terms = [Term(name, tuple(config[name] for config in configs)) for name in configs[0]]
    return solve([size(config) for config in configs], terms)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (lambda c: c["hidden"], "hidden"),
        (lambda c: 2, "2"),
        (lambda c: c["channels"], "channels"),
        (lambda c: 3 * c["hidden"], "3 * hidden"),
        (lambda c: c["heads"] * c["dim"], "heads * dim"),
        (lambda c: c["hidden"] // c["heads"], "hidden // heads"),
        (lambda c: c["hidden"] + c["inner"], "hidden + inner"),
        (lambda c: c["heads"] + 1, "heads + 1"),
        (lambda c: c["hidden"] * c["scale"] ** 2, "hidden * scale ** 2"),
        (lambda c: c["hidden"] // c["heads"] * c["kv"], "hidden // heads * kv"),
        (lambda c: (c["image"] // c["patch"]) ** 2, "(image // patch) ** 2"),
        (lambda c: (c["image"] // c["patch"]) ** 2 + 1, "(image // patch) ** 2 + 1"),
        (lambda c: c["inner"] + 2 * c["groups"], "2 * groups + inner"),
        (lambda c: 2 * c["inner"] + c["heads"] * c["dim"], "2 * inner + heads * dim"),
    ],
)
def test_the_simplest_expression_is_found(size: Callable[[Fields], int], text: str) -> None:
    assert _solved(size) == text


def test_an_expression_that_misses_one_config_is_none() -> None:
    configs = _configs(24)
    hidden = [config["hidden"] for config in configs]
    assert solve([*hidden[:-1], hidden[-1] + 5], [Term("hidden", tuple(hidden))]) is None


def test_three_fields_are_chance_where_few_configs_were_seen() -> None:
    assert _solved(lambda c: c["hidden"] * c["scale"] ** 2, count=5) is None


def test_a_product_that_is_divided_keeps_its_meaning() -> None:
    configs = _configs(24)
    terms = [Term(name, tuple(config[name] for config in configs)) for name in configs[0]]
    sizes = [config["inner"] // (config["heads"] * config["kv"]) for config in configs]
    text = solve(sizes, terms)
    # Whatever the search calls it, it has to be right.
    assert text is None or [eval(text, dict(config)) for config in configs] == sizes


_CASES = [(layers, step, index) for layers in (3, 4, 6) for step in (1, 2, 3) for index in range(layers)]
_KNOWN = [
    condition("index < 1", [index < 1 for _, _, index in _CASES], "index >= 1"),
    condition("last", [index == layers - 1 for layers, _, index in _CASES]),
    condition("due", [index % step == 0 for _, step, index in _CASES]),
    condition("few", [layers == 3 for layers, _, _ in _CASES]),
]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (lambda layers, step, index: True, "True"),
        (lambda layers, step, index: False, "False"),
        (lambda layers, step, index: index % step == 0, "due"),
        (lambda layers, step, index: index % step != 0, "not due"),
        (lambda layers, step, index: index >= 1, "index >= 1"),
        (lambda layers, step, index: index >= 1 and index % step == 0, "due and index >= 1"),
        (lambda layers, step, index: index < 1 or index == layers - 1, "index < 1 or last"),
        (lambda layers, step, index: index >= 1 and index % step == 0 and layers == 3, "few and due and index >= 1"),
        (lambda layers, step, index: (index + layers + step) % 3 == 0, None),
    ],
)
def test_the_simplest_condition_is_found(wanted: Callable[[int, int, int], bool], text: str | None) -> None:
    found = decide([wanted(*case) for case in _CASES], _KNOWN)
    assert sorted((found or "").split(" and ")) == sorted((text or "").split(" and "))
