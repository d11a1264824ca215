"""The first version of a definition that ``tools/draft.py`` writes: from what was recorded, without torch.

Our own definitions stand for transformers here: what they yield is recorded, they are taken away, and what is drafted
yields the same for configs that were never seen.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from drafting.draft import Drafted, differences, draft
from drafting.recorded import Recorded

from lora_packer.base_model import ARCHITECTURES
from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

Fields = dict[str, Any]
_PREFIX = {"none": "", "causal-lm": "model.", "sequence-classification": "model.", "question-answering": "model."}


def _sizes(chance: random.Random) -> Fields:
    kv = chance.choice((1, 2, 4))
    heads = kv * chance.choice((1, 2, 4))
    width = chance.choice((8, 16, 32))
    return {
        "hidden_size": heads * width,
        "intermediate_size": 8 * chance.randint(3, 40),
        "num_attention_heads": heads,
        "num_key_value_heads": chance.choice((kv, None)),
        "num_hidden_layers": chance.randint(1, 5),
        "vocab_size": 8 * chance.randint(3, 40),
        "attention_bias": chance.random() < 0.5,
        "head_dim": chance.choice((None, width, 24)),
    }


def _dense(chance: random.Random) -> Fields:
    return {**_sizes(chance), "id2label": {str(label): "" for label in range(chance.randint(1, 4))}}


def _mixture(chance: random.Random) -> Fields:
    return {
        **_dense(chance),
        "qkv_bias": chance.random() < 0.5,
        "num_experts": chance.choice((0, 4, 6)),
        "moe_intermediate_size": 8 * chance.randint(3, 40),
        "shared_expert_intermediate_size": 8 * chance.randint(3, 40),
        "decoder_sparse_step": chance.choice((1, 2)),
        "mlp_only_layers": chance.choice(([], [0], [1, 3])),
    }


def _seeing(chance: random.Random) -> Fields:
    vision = {
        **_sizes(chance),
        "model_type": "idefics3_vision",
        "image_size": chance.choice((64, 96)),
        "patch_size": chance.choice((8, 16)),
        "num_channels": chance.choice((1, 3)),
    }
    text = {**_sizes(chance), "model_type": "llama", "mlp_bias": chance.random() < 0.5}
    return {"scale_factor": chance.choice((2, 3)), "vision_config": vision, "text_config": text}


def _kinds(chance: random.Random) -> Fields:
    config = _dense(chance)
    layers = config["num_hidden_layers"]
    listed = [chance.choice(("dense", "sparse")) for _ in range(layers)]
    more = {"num_experts": 4, "moe_intermediate_size": 8 * chance.randint(3, 40)}
    return {**config, **more, "mlp_layer_types": chance.choice((listed, None))}


_CONFIGS: Mapping[str, Callable[[random.Random], Fields]] = {
    "olmo2": _dense,
    "qwen2_moe": _mixture,
    "idefics3": _seeing,
    "mellum": _kinds,
    "starcoder2": lambda chance: {**_dense(chance), "use_bias": chance.random() < 0.5},
}


def _recorded(model_type: str, *, seed: int = 1, count: int = 20) -> Recorded:
    chance = random.Random(seed)
    configs = [_CONFIGS[model_type](chance) for _ in range(count)]
    build = ARCHITECTURES[model_type].dialects[TRANSFORMERS_5]
    nested = {name: part["model_type"] for name, part in configs[0].items() if name.endswith("_config")}
    heads = ["none", "causal-lm"] if nested else list(_PREFIX)
    classes = [{head: dict(build(Settings(config, {}), head)) for head in heads} for config in configs]  # type: ignore[arg-type]
    resolved = [_resolved(config) for config in configs]
    return Recorded(model_type, configs, resolved, classes, _PREFIX, {}, nested)


def _resolved(config: Fields) -> Fields:
    """As transformers' class would fill it in."""
    if config.get("mlp_layer_types", ()) is None:
        return {**config, "mlp_layer_types": ["sparse"] * config["num_hidden_layers"]}
    return config


def _others(model_type: str) -> Mapping[str, Architecture]:
    """Every definition but this one and those that are as it is."""
    own = ARCHITECTURES[model_type].dialects[TRANSFORMERS_5]
    return {
        name: entry
        for name in ("llama", "olmo", "qwen3", "mixtral", "llava", "olmo3", "smolvlm")
        if (entry := ARCHITECTURES[name]).dialects[TRANSFORMERS_5] is not own
    }


@cache
def _drafted(model_type: str) -> Drafted:
    return draft(_recorded(model_type), _others(model_type))


@pytest.mark.parametrize("model_type", _CONFIGS)
def test_what_is_drafted_yields_the_same_for_configs_that_were_not_seen(model_type: str) -> None:
    drafted = _drafted(model_type)
    assert drafted.open == []
    assert list(differences(drafted, _recorded(model_type, seed=2))) == []


def test_a_draft_reads_as_one_that_was_written_by_hand() -> None:
    source = _drafted("olmo2").source
    body = source[source.index("def _olmo2") :]
    assert body == (
        "def _olmo2(s: Settings) -> Named:\n"
        "    _, kv_heads, head_dim = head_sizes(s)\n"
        "\n"
        "    def layer(prefix: str, _index: int) -> Named:\n"
        '        yield from plain_attention(s, f"{prefix}.self_attn")\n'
        '        yield from qk_norms(f"{prefix}.self_attn", s.heads * head_dim, kv_heads * head_dim)\n'
        '        yield from plain_mlp(s, f"{prefix}.mlp")\n'
        "\n"
        "    return stacked(s, layer, norms=AFTER_BOTH)\n"
        "\n"
        "\n"
        "ARCHITECTURES: Architectures = {\n"
        '    "olmo2": declared(framed(_olmo2)),\n'
        "}\n"
    )


def test_known_parts_are_recognised() -> None:
    mixture = _drafted("qwen2_moe").source
    assert 'sparse = qwen_is_sparse(s, s.count("num_experts"))' in mixture
    assert 'yield from qwen_mixture(s, f"{prefix}.mlp")' in mixture
    seeing = _drafted("idefics3").source
    assert 'fixed("vision_config", Tower("idefics3_vision", siglip_body))' in seeing
    assert 'text_part("llama")' in seeing
    assert 'vision.hidden * s.size("scale_factor") ** 2' in seeing
    kinds = _drafted("mellum").source
    assert "by_list = sparse_after(s, 0)" in kinds


def test_a_type_that_is_built_as_another_is_like_it() -> None:
    recorded = _recorded("olmo2")
    assert '"olmo2": like("olmo3", {"default_targets": ("q_proj",)}),' in draft(
        Recorded(**{**vars(recorded), "targets": ("q_proj",)}), {"olmo3": ARCHITECTURES["olmo3"]}
    ).source.replace("('q_proj',)", '("q_proj",)')


def test_what_is_not_explained_is_marked_and_told() -> None:
    recorded = _recorded("olmo2", count=6)
    chance = random.Random(3)
    for classes in recorded.classes:
        for head, modules in classes.items():
            before = f"{_PREFIX[head]}layers.0"
            modules[f"{before}.odd"] = Module("linear", (chance.randint(1, 9999), 7))  # type: ignore[index]
            if chance.random() < 0.5:
                modules[f"{before}.rare.weight"] = Module("parameter", (7,))  # type: ignore[index]
    drafted = draft(recorded, {})
    assert "size 0 of {prefix}.odd" in drafted.open
    assert "when {prefix}.rare is there" in drafted.open
    assert "# DRAFT: size 0 of {prefix}.odd is " in drafted.source
    assert 's.size("?")' in drafted.source
    assert 'if s.flag("?"):' in drafted.source
    compile(drafted.source, "draft", "exec")
    # What runs into it says so, rather than a size that nobody knows.
    assert [line.partition(":")[0] for line in differences(drafted, recorded)] == list(_PREFIX)


def test_a_difference_is_told_by_head() -> None:
    recorded, drafted = _recorded("olmo2"), _drafted("olmo2")
    recorded.classes[3]["causal-lm"]["lm_head"] = Module("linear", (1, 2))  # type: ignore[index]
    told = list(differences(drafted, recorded))
    assert len(told) == 1
    assert told[0].startswith("causal-lm: 1 of ")
    assert "first lm_head: Module(kind='linear', weight_shape=(1, 2)" in told[0]


@pytest.mark.parametrize("model_type", ["qwen2_moe", "idefics3"])
def test_a_draft_passes_ruff_once_it_is_formatted(model_type: str) -> None:
    source = _drafted(model_type).source
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--config", str(ROOT / "pyproject.toml"), "--stdin-filename", "lora_packer/base_model/models/x.py", "-"]
    done = subprocess.run([*ruff, "format", *options], input=source, capture_output=True, text=True, check=True)
    checked = subprocess.run([*ruff, "check", *options], input=done.stdout, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
