"""adapter_config.json: values, patterns and texts that were not meant for a reader."""

from __future__ import annotations

import json
from typing import Any

from hostile.case import (
    CHECKED,
    FAILED,
    INCONCLUSIVE,
    OK,
    UNREADABLE,
    Build,
    Case,
    cases,
    with_config,
    with_config_text,
)

_HUGE = 10**400
_DIGITS = 10**3999
_TEXTS = {
    "ANSI": "\x1b[31mX\x1b]0;pwn\x07",
    "bidi": "a\u202eb\u2066c",
    "newline ::error::": "x\n::error::pwned\r\n::set-output name=a::b",
    "NUL": "a\x00b",
    "100,000 characters": "x" * 100_000,
    "lone surrogate": "\ud800",
    "line separators": "a\u2028b\u2029c\x85d",
    "tag characters": "\U000e0041\U000e0042",
}
_TEXT_FIELDS = (
    "base_model_name_or_path",
    "peft_type",
    "task_type",
    "bias",
    "init_lora_weights",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "layers_pattern",
    "revision",
    "peft_version",
    "an_unknown_field",
    "auto_mapping",
    "target_parameters",
)
_NUMBERS = {
    "10^400": _HUGE,
    "-10^400": -_HUGE,
    "4,000 digits": _DIGITS,
    "1e308": 1e308,
    "-1": -1,
    "0": 0,
    "true": True,
    "null": None,
    "a list": [8],
    "an object": {"a": 8},
    "1e-320": 1e-320,
    "text": "8",
    "2**63": 2**63,
}
_NUMBER_FIELDS = ("r", "lora_alpha", "lora_dropout")
_PATTERN_FIELDS = (
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_pattern",
)
_PATTERNS = {
    "240 nested groups": "(" * 240 + "a" + ")" * 240,
    "400 nested groups": "(" * 400 + "a" + ")" * 400,
    "5,000 nested groups": "(" * 5000 + "a" + ")" * 5000,
    "a? x 1,000": "a?" * 1000,
    "a? x 9,000": "a?" * 9000,
    "(|a) x 5,000": "(|a)" * 5000,
    "nested repeats": "((((a+)+)+)+)+!",
    "nested counted repeats": "(((((a{1,50}){1,50}){1,50}){1,50}){1,50})q_proj",
    "counted 10^9": ".{1000000000}q_proj",
    "counted with 5,000 digits": "a{" + "1" * 5000 + "}",
    "backtracking": "([a-z_.0-9]+)+!",
    "alternatives of prefixes": "|".join(f".*{'a' * n}q_proj" for n in range(600)),
    "ignoring case, huge classes": "(?i)" + "[\\u0000-\\uffff]" * 3000,
    "ignoring case, astral classes": "(?i)" + "[\U00010000-\U0010ffff]" * 200,
    "classes of words": "[\\w\\W\\d\\D\\s\\S]*" * 500 + "q_proj",
    "looking ahead": "(?=.*a)" * 1000 + "q_proj",
    "backward references": "(.*)\\1\\1\\1q_proj",
    "not a pattern": "*q_proj[",
    "a class without an end": "[" * 1000,
    "flags in the middle": "q_proj(?i)",
    "200,000 characters": "q" * 200_000,
    "conditional": "(a)?(?(1)b|c)" * 500,
    "atomic and possessive": "(?>a*)a++" * 500,
}
_LISTS = {
    "150,000 names": [f"m{n}" for n in range(150_000)],
    "a name 1,000 times": ["q_proj"] * 1000,
    "names of other types": ["q_proj", 3, None, {"a": 1}, [True]],
    "empty names": ["", "", ""],
    "nested 200 deep": json.loads("[" * 200 + "]" * 200),
}
_MAPS = {
    "20,000 patterns": {f"m{n}.*x+": 4 for n in range(20_000)},
    "150,000 plain keys": {f"m{n}": 4 for n in range(150_000)},
    "huge values": {"q_proj": _HUGE},
    "values of other types": {"q_proj": [1], "v_proj": None, "o_proj": "8"},
    "negative values": {"q_proj": -4},
}


def _patterned(field: str, pattern: str) -> dict[str, Any]:
    if field in ("rank_pattern", "alpha_pattern"):
        return {field: {pattern: 4}}
    if field == "layers_pattern":
        return {field: pattern, "layers_to_transform": [0]}
    return {field: [pattern] if field == "modules_to_save" else pattern}


def _fields() -> list[tuple[str, Build]]:
    rows = [(f"{field}: {what}", with_config({field: text})) for field in _TEXT_FIELDS for what, text in _TEXTS.items()]
    rows += [(f"{field}: {what}", with_config({field: n})) for field in _NUMBER_FIELDS for what, n in _NUMBERS.items()]
    rows += [
        (f"{field}: {what}", with_config(_patterned(field, pattern)))
        for field in _PATTERN_FIELDS
        for what, pattern in _PATTERNS.items()
    ]
    lists = (
        "target_modules",
        "exclude_modules",
        "modules_to_save",
        "target_parameters",
        "layers_pattern",
        "layers_to_transform",
    )
    rows += [(f"{field}: {what}", with_config({field: value})) for field in lists for what, value in _LISTS.items()]
    rows += [
        (f"{field}: {what}", with_config({field: value}))
        for field in ("rank_pattern", "alpha_pattern")
        for what, value in _MAPS.items()
    ]
    return rows


_ODD: list[tuple[str, Build]] = [
    ("rsLoRA with r 10^400", with_config({"r": _HUGE, "use_rslora": True})),
    ("lora_alpha 1e308, values", with_config({"lora_alpha": 1e308}, "--stats")),
    ("layers_to_transform: 4,000 digits", with_config({"layers_to_transform": [_DIGITS]})),
    ("layers_to_transform: 10^6 layers", with_config({"layers_to_transform": list(range(10**6))})),
    ("trainable_token_indices: 4,000 digits", with_config({"trainable_token_indices": [_DIGITS]})),
    ("trainable_token_indices: 500,000", with_config({"trainable_token_indices": list(range(500_000))})),
    (
        "trainable_token_indices: per module",
        with_config({"trainable_token_indices": {"x" * 5000: [1], "y": [_DIGITS]}}),
    ),
    ("layer_replication: 4,000 digits", with_config({"layer_replication": [[0, _DIGITS]]})),
    ("layer_replication: 10^9 layers", with_config({"layer_replication": [[0, 10**9]]})),
    ("layer_replication: [0, 2] x 200,000", with_config({"layer_replication": [[0, 2]] * 200_000})),
    ("layer_replication: backwards", with_config({"layer_replication": [[2, 0]]})),
    ("layer_replication: not pairs", with_config({"layer_replication": [[0], 3, None, "x"]})),
    ("bd-lora with true", with_config({"use_bdlora": {"target_modules_bd_a": True}})),
    ("bd-lora with text", with_config({"use_bdlora": "x" * 5000})),
    ("eva, corda, loftq of other types", with_config({"eva_config": 3, "corda_config": "x", "loftq_config": [1]})),
    ("loftq of 100,000 keys", with_config({"loftq_config": {f"k{n}": n for n in range(100_000)}})),
    ("pissa_niter with 100,000 digits", with_config({"init_lora_weights": "pissa_niter_" + "9" * 100_000})),
    ("megatron_config of 100,000 keys", with_config({"megatron_config": {f"k{n}": n for n in range(100_000)}})),
    ("10,000 unknown fields", with_config({f"field_{n}": n for n in range(10_000)})),
    ("arrow_config and runtime_config", with_config({"arrow_config": {"top_k": _HUGE}, "runtime_config": {"x": [1]}})),
    ("base model: a path of the kernel", with_config({"base_model_name_or_path": "/proc/self/environ"})),
    ("base model: ..", with_config({"base_model_name_or_path": "../../.."})),
]

_NO_BASE: list[tuple[str, str]] = [
    ("a device", "/dev/zero"),
    ("the terminal", "/dev/tty"),
    ("the kernel's messages", "/proc/kmsg"),
    ("its own folder", "."),
    ("a URL", "http://127.0.0.1:1/x"),
    ("file:", "file:///etc/passwd"),
    ("a home", "~/x"),
    ("10,000 slashes", "/" * 10_000),
    ("a network path", "//host/share"),
    ("traversal", "a/../../b"),
]


def _named(name: str) -> Build:
    def build(folder: Any) -> list[str]:
        with_config({"base_model_name_or_path": name})(folder)
        return ["check", "a"]

    return build


_FILES: list[tuple[str, Build]] = [
    ("empty", with_config_text("")),
    ("an array", with_config_text("[]")),
    ("null", with_config_text("null")),
    ("deep lists", with_config_text("[" * 100_000 + "]" * 100_000)),
    ("deep objects", with_config_text('{"a":' * 100_000 + "1" + "}" * 100_000)),
    ("a key twice", with_config_text('{"peft_type": "LORA", "r": 4, "r": 8}')),
    ("NaN", with_config_text('{"peft_type": "LORA", "r": NaN}')),
    ("a number of 100,000 digits", with_config_text('{"peft_type": "LORA", "r": ' + "9" * 100_000 + "}")),
    ("1e999", with_config_text('{"peft_type": "LORA", "lora_alpha": 1e999}')),
    ("UTF-16", with_config_text('{"peft_type": "LORA"}'.encode("utf-16"))),
    ("a byte order mark", with_config_text(b"\xef\xbb\xbf" + b'{"peft_type": "LORA"}')),
    ("not UTF-8", with_config_text(b'{"peft_type": "\xff\xfe"}')),
    ("binary", with_config_text(bytes(range(256)) * 10)),
    ("20 MB of spaces", with_config_text(" " * 20_000_000 + "{}")),
    ("20 MB of text", with_config_text(json.dumps({"peft_type": "x" * 20_000_000}))),
    ("cut", with_config_text('{"peft_type": "LORA", "r": ')),
]


def all_cases() -> list[Case]:
    """Return the cases."""
    answered = frozenset({OK, FAILED, UNREADABLE, INCONCLUSIVE})
    return [
        *cases("config field", _fields()),
        *cases("config field", _ODD),
        *cases("config base model", [(what, _named(name)) for what, name in _NO_BASE], exits=answered - {OK}),
        *cases("config file", _FILES, exits=CHECKED - {OK}),
    ]
