"""What today's PEFT loads of a file, whatever its names are: the verdict is what PEFT 0.21.2 does on transformers 5.24."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import PREFIX, ROOT

import lora_packer
from lora_packer.adapter.config import parse_config
from lora_packer.base_model import BaseModel
from lora_packer.peft.expected import Era, expect

sys.path.insert(0, str(ROOT / "tools"))

from sweep_cases import write_unread

BASES = ROOT / "fixtures" / "loading"
Shapes = dict[str, list[int]]


def pair(module: str, inputs: int, outputs: int, rank: int = 4) -> Shapes:
    return {
        f"{PREFIX}{module}.lora_A.weight": [rank, inputs],
        f"{PREFIX}{module}.lora_B.weight": [outputs, rank],
    }


def together(*pairs: Shapes) -> Shapes:
    return {name: shape for item in pairs for name, shape in item.items()}


def attention(before: str, sizes: Mapping[str, tuple[int, int]]) -> Shapes:
    return together(
        *(pair(f"{before}layers.{layer}.self_attn.{name}", *size) for layer in (0, 1) for name, size in sizes.items())
    )


def experts(before: str, names: tuple[str, str, str], count: int = 4) -> Shapes:
    gate, up, down = names
    sizes = {gate: (48, 20), up: (48, 20), down: (20, 48)}
    return together(*(pair(f"{before}.{e}.{name}", *size) for e in range(count) for name, size in sizes.items()))


MLA = {
    "q_a_proj": (48, 18),
    "q_b_proj": (18, 64),
    "kv_a_proj_with_mqa": (48, 22),
    "kv_b_proj": (14, 64),
    "o_proj": (32, 48),
}
GQA = {"q_proj": (48, 64), "k_proj": (48, 32), "v_proj": (48, 32), "o_proj": (64, 48)}
SWIGLU = ("gate_proj", "up_proj", "down_proj")
LAYER = "model.layers.1.mlp.experts"
OF_GLM = {"target_modules": ["o_proj", *SWIGLU], "exclude_modules": r".*(layers\.0\.mlp|shared_experts).*"}


def checked(folder: Path, base: str, tensors: Shapes, target: str, **config: Any) -> lora_packer.Report:
    raw = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **config}
    write_unread(folder, raw, tensors)
    return lora_packer.check(folder, base_config=BASES / f"{base}.json", target=target, weights=False)


def codes(report: lora_packer.Report, severity: str) -> list[str]:
    return [item.code for item in report.findings if item.severity == severity]


LOADED = {
    "names of Kimi K2.5's own code": (
        "kimi_k25",
        attention("language_model.model.", MLA),
        {"target_modules": list(MLA)},
    ),
    "experts one by one in Kimi K2.5": (
        "kimi_k25",
        experts("language_model.model.layers.1.mlp.experts", SWIGLU),
        {
            "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
            "rank_pattern": {r".*\.gate_up_proj": 8},
        },
    ),
    "experts one by one in GLM-5": (
        "glm_moe_dsa",
        together(attention("model.", {"o_proj": (32, 48)}), experts(LAYER, SWIGLU)),
        OF_GLM,
    ),
    "names of MiniMax-M3's own code": (
        "minimax_m3_vl",
        attention("language_model.model.", GQA),
        {"target_modules": list(GQA)},
    ),
    "names of Gemma 3 before transformers 4.52": (
        "gemma3",
        attention("language_model.model.", GQA),
        {"target_modules": list(GQA)},
    ),
    "LoRA on the embedding, and the base's own copy under its older name": (
        "gemma3",
        {
            f"{PREFIX}language_model.model.embed_tokens.lora_embedding_A": [4, 112],
            f"{PREFIX}language_model.model.embed_tokens.lora_embedding_B": [48, 4],
            f"{PREFIX}language_model.model.embed_tokens.base_layer.weight": [112, 48],
        },
        {"target_modules": ["embed_tokens"]},
    ),
    "names of Gemma 3 today": ("gemma3", attention("model.language_model.", GQA), {"target_modules": list(GQA)}),
}


@pytest.mark.parametrize("target", ["peft", "together"])
@pytest.mark.parametrize("what", LOADED)
def test_what_peft_loads_is_fine_whatever_its_names(what: str, target: str, tmp_path: Path) -> None:
    base, tensors, config = LOADED[what]
    report = checked(tmp_path, base, tensors, target, **config)
    assert report.status == "ok"
    assert set(codes(report, "warning")) <= {"LP309", "LP502"}


def experts_of_qwen() -> Shapes:
    return together(
        *(experts(f"model.layers.{layer}.mlp.experts", SWIGLU, count=3) for layer in (0, 1)),
    )


OLD_EXPERTS = {
    f"{PREFIX}model.layers.{layer}.mlp.experts.{part}": shape
    for layer in (0, 1)
    for part, shape in {
        "base_layer.lora_A.weight": [12, 40],
        "base_layer.lora_B.weight": [48, 12],
        "lora_A.weight": [12, 48],
        "lora_B.weight": [20, 12],
    }.items()
}
FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
DROPPED = {
    "names of Gemma 3's text-only class": (
        "gemma3",
        attention("model.", GQA),
        {"target_modules": list(GQA)},
        "drops all 16 tensors",
    ),
    "names of MiniMax-M3's text-only class": (
        "minimax_m3_vl",
        attention("model.", GQA),
        {"target_modules": list(GQA)},
        "drops all 16 tensors",
    ),
    "fused experts of PEFT 0.18": (
        "qwen3_moe",
        together(attention("model.", {"q_proj": (48, 64), "v_proj": (48, 32)}), OLD_EXPERTS),
        {"target_modules": ["q_proj", "v_proj"], "target_parameters": FUSED},
        "PEFT 0.18 and older",
    ),
    "one of two fused projections": (
        "qwen3_moe",
        together(*(pair(f"model.layers.{n}.mlp.experts.{e}.up_proj", 48, 20) for n in (0, 1) for e in range(3))),
        {"target_modules": ["up_proj"]},
        "up_proj without gate_proj",
    ),
    "dropout on what becomes a parameter": (
        "qwen3_moe",
        experts_of_qwen(),
        {"target_modules": list(SWIGLU), "lora_dropout": 0.05},
        "lora_dropout is 0.05",
    ),
    "a head that was saved under its older name": (
        "gemma3",
        {**attention("language_model.model.", GQA), f"{PREFIX}language_model.lm_head.weight": [112, 48]},
        {"target_modules": list(GQA), "modules_to_save": ["lm_head"]},
        "raises KeyError",
    ),
    "full paths of older names": (
        "gemma3",
        attention("language_model.model.", {"q_proj": (48, 64)}),
        {"target_modules": [f"language_model.model.layers.{n}.self_attn.q_proj" for n in (0, 1)]},
        "target_modules matches no module",
    ),
}


@pytest.mark.parametrize("what", DROPPED)
def test_what_peft_does_not_load_is_an_error_for_peft_and_a_warning_elsewhere(what: str, tmp_path: Path) -> None:
    base, tensors, config, words = DROPPED[what]
    for target, severity, status in (("peft", "error", "failed"), ("together", "warning", "ok")):
        report = checked(tmp_path, base, tensors, target, **config)
        told = [item for item in report.findings if item.code == "LP322"]
        assert [item.severity for item in told] == [severity]
        assert words in told[0].message
        assert report.status == status
        assert "LP321" not in [item.code for item in report.findings]


def test_dropout_is_taken_out_and_the_file_loads(tmp_path: Path) -> None:
    config = {"target_modules": list(SWIGLU), "lora_dropout": 0.05}
    told = checked(tmp_path, "qwen3_moe", experts_of_qwen(), "peft", **config)
    assert told.findings[0].hint == "Set lora_dropout to 0 in adapter_config.json: it acts in training alone."
    assert checked(tmp_path, "qwen3_moe", experts_of_qwen(), "peft", **config | {"lora_dropout": 0}).status == "ok"


def test_a_part_that_is_dropped_is_named(tmp_path: Path) -> None:
    """transformers 5 drops the shared experts of an adapter whose experts it merges."""
    base = json.loads((BASES / "glm_moe_dsa.json").read_text()) | {"model_type": "glm4_moe", "head_dim": 12}
    base |= {"architectures": ["Glm4MoeForCausalLM"], "use_qk_norm": False}
    sizes = {"gate_proj": (48, 20), "up_proj": (48, 20), "down_proj": (20, 48)}
    dense = {"gate_proj": (48, 80), "up_proj": (48, 80), "down_proj": (80, 48)}
    tensors = together(
        experts(LAYER, SWIGLU),
        *(pair(f"model.layers.1.mlp.shared_experts.{name}", *size) for name, size in sizes.items()),
        *(pair(f"model.layers.0.mlp.{name}", *size) for name, size in dense.items()),
    )
    raw = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": list(SWIGLU)}
    write_unread(tmp_path, raw, tensors)
    report = lora_packer.check(tmp_path, base_config=base, target="peft", weights=False)
    assert [(item.code, item.severity, item.count) for item in report.findings] == [("LP322", "error", 12)]
    assert "drops 12 of 36 tensors" in report.findings[0].message
    assert "transformers 4, which loads them" in report.findings[0].message


@pytest.mark.parametrize("targets", ["all-linear", ["in_proj", "out_proj"]])
def test_what_peft_refuses_on_mamba_is_an_error_for_peft(targets: Any, tmp_path: Path) -> None:
    tensors = together(pair("model.layers.0.mixer.in_proj", 48, 100), pair("model.layers.0.mixer.out_proj", 32, 48))
    report = checked(tmp_path, "nemotron_h", tensors, "peft", target_modules=targets)
    assert "LP207" in codes(report, "error")
    assert "LP207" in codes(checked(tmp_path, "nemotron_h", tensors, "together", target_modules=targets), "warning")


SQUARE = json.loads((BASES / "qwen3_moe.json").read_text()) | {"moe_intermediate_size": 24}


def square_experts(folder: Path, named: list[str], target: str = "peft", **config: Any) -> list[lora_packer.Finding]:
    """LoRA on fused experts: gate and up together are 48 x 48, down is 48 x 24."""
    experts = SQUARE["num_experts"] * 4
    tensors: Shapes = {}
    for layer in range(SQUARE["num_hidden_layers"]):
        path = f"model.layers.{layer}.mlp.experts"
        if len(named) > 1:
            tensors |= pair(f"{path}.base_layer", 48, 48, experts) | pair(path, 24, 48, experts)
        else:
            tensors |= pair(path, 48, 48, experts)
    raw = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": [], **config}
    write_unread(folder, raw | {"target_parameters": [f"mlp.experts.{name}" for name in named]}, tensors)
    report = lora_packer.check(folder, base_config=SQUARE, target=target, weights=False)
    assert report.ok, report.findings
    return [item for item in report.findings if item.code == "LP323"]


@pytest.mark.parametrize("target", ["peft", "together"])
@pytest.mark.parametrize("version", ["0.18.1", "0.17.0", "0.18.2.dev0@abc"])
def test_square_experts_of_an_older_peft_may_be_read_transposed(tmp_path: Path, version: str, target: str) -> None:
    """PEFT 0.18.1 wrote such an adapter on transformers 5.23, and 0.21.2 applied the transpose of its update."""
    (finding,) = square_experts(tmp_path, ["gate_up_proj"], target, peft_version=version)
    assert (finding.severity, finding.field, finding.actual) == ("warning", "target_parameters", version)
    assert finding.count == 2 * SQUARE["num_hidden_layers"]
    assert finding.message == (
        f"PEFT {version} wrote LoRA on experts of 48 x 48: today's PEFT takes its two halves the other way round, and "
        "the sizes do not show which is meant"
    )


@pytest.mark.parametrize("version", ["0.19.0", "0.21.2", "1.0"])
def test_square_experts_of_todays_peft_are_plain(tmp_path: Path, version: str) -> None:
    assert square_experts(tmp_path, ["gate_up_proj"], peft_version=version) == []


@pytest.mark.parametrize("target", ["peft", "together"])
@pytest.mark.parametrize("version", [None, "x", "9" * 5000, "0"])
def test_square_experts_of_nobody_knows_which_peft(tmp_path: Path, version: str | None, target: str) -> None:
    """PEFT writes its version since 0.18; other tools may leave it out."""
    (finding,) = square_experts(tmp_path, ["gate_up_proj"], target, peft_version=version)
    assert (finding.severity, finding.field) == ("warning", "peft_version")
    assert finding.actual == (version or "missing")[:39] + ("\u2026" if len(version or "") > 40 else "")
    assert finding.message == (
        "peft_version does not say which PEFT wrote LoRA on experts of 48 x 48: PEFT before 0.19 has its two halves the "
        "other way round, and the sizes do not show which is meant"
    )
    assert finding.hint is not None
    assert "write its release into peft_version" in finding.hint


def test_experts_of_no_known_peft_that_are_not_square_show_their_layout(tmp_path: Path) -> None:
    assert square_experts(tmp_path, ["gate_up_proj", "down_proj"]) == []


def test_what_is_not_square_shows_the_layout(tmp_path: Path) -> None:
    assert square_experts(tmp_path, ["gate_up_proj", "down_proj"], peft_version="0.18.1") == []


BAMBA = {"model_type": "bamba", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
BAMBA |= {"num_attention_heads": 4, "num_key_value_heads": 2, "mamba_n_heads": 4, "mamba_d_head": 16}
BAMBA |= {"mamba_d_state": 8, "mamba_n_groups": 1, "mamba_d_conv": 4, "mamba_expand": 2, "attn_layer_indices": [1]}


@pytest.mark.parametrize(("rank", "groups"), [(4, 1), (80, 80), (160, 80)])
def test_the_rank_of_a_grouped_convolution(tmp_path: Path, rank: int, groups: int) -> None:
    """PEFT 0.21.2 on bamba: "rank 4 ... where the rank is divisible by groups"; before 0.16 lora_B had no groups."""
    path = f"{PREFIX}model.layers.0.mamba.conv1d"
    tensors: Shapes = {f"{path}.lora_A.weight": [rank, 80, 4], f"{path}.lora_B.weight": [80, rank // groups, 1]}
    tensors |= pair("model.layers.1.self_attn.q_proj", 32, 32, rank)
    raw = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["layers.0.mamba.conv1d", "q_proj"]}
    write_unread(tmp_path, raw, tensors)
    for target, refused in (("peft", "error"), ("together", "warning")):
        report = lora_packer.check(tmp_path, base_config=BAMBA, target=target, weights=False)
        told = [(item.severity, item.expected, item.actual) for item in report.findings if item.code == "LP202"]
        assert told == ([(refused, 80, 4)] if rank == 4 else [])
        assert not [item for item in report.findings if item.code.startswith("LP3")]


CLASSIFIES, GENERATES = "ShieldGemma2ForImageClassification", "Gemma3ForConditionalGeneration"


@pytest.mark.parametrize(
    ("cls", "before", "task", "loads"),
    [
        (CLASSIFIES, "model.model.language_model.", None, True),
        (CLASSIFIES, "model.language_model.model.", None, True),  # what was before 4.52, which PEFT renames
        (CLASSIFIES, "model.language_model.", None, False),
        (CLASSIFIES, "language_model.", "FEATURE_EXTRACTION", False),
        (GENERATES, "model.language_model.", None, True),
        (GENERATES, "model.model.language_model.", None, False),
        (GENERATES, "language_model.", "FEATURE_EXTRACTION", False),  # transformers has no bare model of the type
    ],
)
def test_the_class_that_the_config_names_decides(
    tmp_path: Path, cls: str, before: str, task: str | None, *, loads: bool
) -> None:
    """ShieldGemma 2 has two classes, and either has the other's modules under a name of its own."""
    base = json.loads((BASES / "gemma3.json").read_text()) | {"model_type": "shieldgemma2", "architectures": [cls]}
    raw = {"peft_type": "LORA", "task_type": task, "r": 4, "lora_alpha": 8, "target_modules": list(GQA)}
    write_unread(tmp_path, raw, attention(before, GQA))
    for target, severity in (("peft", "error"), ("together", "warning")):
        report = lora_packer.check(tmp_path, base_config=base, target=target, weights=False)
        told = [item.severity for item in report.findings if item.code == "LP322"]
        assert told == ([] if loads else [severity])
        assert report.status == ("ok" if loads or target == "together" else "failed")


def test_older_layout_where_the_experts_are_named_like_every_other_weight(tmp_path: Path) -> None:
    """`weight` names JetMoe's experts, which PEFT before 0.19 turned round, and the weights of layers besides."""
    base = {"model_type": "jetmoe", "hidden_size": 48, "num_hidden_layers": 1, "kv_channels": 16, "vocab_size": 112}
    base |= {"num_key_value_heads": 2, "intermediate_size": 40, "num_local_experts": 3, "num_experts_per_tok": 2}
    config = {"target_modules": [], "target_parameters": ["weight"]}
    model = BaseModel.load(base)
    parsed, _ = parse_config({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config})
    older = expect(parsed, model.modules, model.default_targets, Era(swapped_experts=True), model.input_embedding)
    raw = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **config}
    write_unread(tmp_path, raw, {name: list(want.shape) for name, want in older.required.items()})
    report = lora_packer.check(tmp_path, base_config=base, target="peft", weights=False)
    told = [item for item in report.findings if item.code == "LP322"]
    assert ["PEFT 0.18 and older" in item.message for item in told] == [True]


# A decoder for which transformers has no class that answers questions or sorts tokens.
COHERE = {
    "model_type": "cohere", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 1, "vocab_size": 112,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def test_lora_on_the_head_of_a_class_that_transformers_has_not_is_not_what_fits(tmp_path: Path) -> None:
    """PEFT 0.21.2 drops it (3 of 717 tensors of such an adapter of LLaVA-NeXT), or refuses LoRA on what it saves."""
    raw = {"peft_type": "LORA", "task_type": "QUESTION_ANS", "r": 4, "lora_alpha": 8}
    tensors = together(pair("model.layers.0.self_attn.q_proj", 48, 48), pair("qa_outputs", 48, 2))
    write_unread(tmp_path, raw | {"target_modules": ["q_proj", "qa_outputs"]}, tensors)
    report = lora_packer.check(tmp_path, base_config=COHERE, target="peft", weights=False)
    assert report.status == "failed"
    assert "LP308" in codes(report, "error")
