"""Base configs: numbers that would build a world, and texts that would be looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hostile.case import (
    CHECKED,
    FAILED,
    INCONCLUSIVE,
    UNREADABLE,
    Arguments,
    Build,
    Case,
    base,
    cases,
    tiny,
    with_base,
)

_SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "head_dim",
)
_VALUES: dict[str, Any] = {
    "10^9": 10**9,
    "10^400": 10**400,
    "0": 0,
    "-1": -1,
    "text": "64",
    "null": None,
    "a list": [1],
    "true": True,
    "1.5": 1.5,
    "40,000": 40_000,
}
_TEXTS = {
    "ANSI": "\x1b[31mX",
    "1 MB": "x" * 1_000_000,
    "newline ::error::": "x\n::error::y",
    "dunder": "__init__",
    "a path": "../../x",
}


def _mixture(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "mixtral",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "vocab_size": 128,
        **changes,
    }


def _llama4(layers: int) -> dict[str, Any]:
    text = {"model_type": "llama4_text", "num_hidden_layers": layers, "hidden_size": 64, "num_attention_heads": 4}
    return {
        "model_type": "llama4",
        "text_config": text,
        "vision_config": {"model_type": "llama4_vision_model", "num_hidden_layers": 2},
    }


_WHOLE: list[tuple[str, Build]] = [
    ("empty", with_base("")),
    ("an array", with_base("[]")),
    ("deep lists", with_base("[" * 100_000 + "]" * 100_000)),
    ("20 MB", with_base(json.dumps({"x": "y" * 20_000_000}))),
    ("a key twice", with_base('{"model_type": "llama", "model_type": "gpt2"}')),
    ("no model_type", with_base({"hidden_size": 4})),
    ("layer_types of 10^6", with_base(base(model_type="qwen3_next", layer_types=["full_attention"] * 1_000_000))),
    ("10^6 experts", with_base(_mixture(num_local_experts=10**6))),
    ("10^9 experts", with_base(_mixture(num_local_experts=10**9))),
    ("10^5 layers of 10^5 experts", with_base(_mixture(num_hidden_layers=10**5, num_local_experts=10**5))),
    ("llama4 with 10^9 layers", with_base(_llama4(10**9))),
    ("text_config is a list", with_base({"model_type": "llava", "text_config": [1], "vision_config": 3})),
    (
        "text_config 500 deep",
        with_base(
            json.dumps({"model_type": "llava", "text_config": "@"}).replace(
                '"@"', '{"text_config":' * 500 + "1" + "}" * 500
            )
        ),
    ),
    ("quantization_config of text", with_base(base(quantization_config="x" * 100_000))),
    ("100,000 unknown keys", with_base(base(**{f"k{n}": n for n in range(100_000)}))),
    ("architectures of 100,000", with_base(base(architectures=["X"] * 100_000))),
    ("architectures of other types", with_base(base(architectures=[None, 3, {"a": 1}]))),
    ("id2label of 10^5", with_base(base(id2label={str(n): "x" for n in range(100_000)}))),
    ("num_labels 10^12", with_base(base(num_labels=10**12))),
    ("an unknown model_type", with_base({"model_type": "no_such_type", "hidden_size": 64})),
]


def _argument(name: str) -> Build:
    def build(folder: Path) -> Arguments:
        tiny(folder)
        return ["check", "a", "--base-config", name]

    return build


def _folder_with(index: Any) -> Build:
    def build(folder: Path) -> Arguments:
        tiny(folder)
        model = folder / "model"
        model.mkdir()
        (model / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        return ["check", "a", "--base-config", "model"]

    return build


_INDEXES = {
    "names NUL": {"weight_map": {"a.weight": "x\x00y.safetensors"}},
    "names a path": {"weight_map": {"a.weight": "../../../etc/passwd"}},
    "names 100,000 files": {"weight_map": {f"a{n}.weight": f"f{n}.safetensors" for n in range(100_000)}},
    "is a list": [],
    "maps to numbers": {"weight_map": {"a": 3}},
    "has no map": {},
}
_NAMES = (
    "/dev/zero",
    "/proc/self/mem",
    "x" * 5000,
    "hf://" + "x" * 5000,
    "\x1b[31m",
    "http://127.0.0.1:1/config.json",
    "~",
    "",
)


def all_cases() -> list[Case]:
    """Return the cases."""
    numbers = [
        (f"{field} {what}", with_base(base(**{field: value}))) for field in _SIZES for what, value in _VALUES.items()
    ]
    texts = [(f"model_type: {what}", with_base(base(model_type=text))) for what, text in _TEXTS.items()]
    texts += [(f"architectures: {what}", with_base(base(architectures=[text]))) for what, text in _TEXTS.items()]
    indexes = [(f"an index that {what}", _folder_with(index)) for what, index in _INDEXES.items()]
    names = [(f"--base-config {name[:20]!r}", _argument(name)) for name in _NAMES]
    refused = frozenset({FAILED, UNREADABLE, INCONCLUSIVE})
    return [
        *cases("base config", _WHOLE, exits=CHECKED),
        *cases("base config", [*numbers, *texts], exits=CHECKED),
        *cases("base config", indexes, exits=refused),
        *cases("base config", names, exits=refused),
    ]
