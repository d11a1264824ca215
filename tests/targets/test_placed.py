"""Where the tensors land in the class that vLLM serves, as a user sees it through ``check --target vllm``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, ROOT, ones, tiny_config, write_adapter

from lora_packer.base_model import BaseModel
from lora_packer.targets import find_target, llama_cpp, sglang
from lora_packer.targets.placement import Base, NotServed, Placement
from lora_packer.targets.vllm import Layout, place, served_class

Cli = Callable[..., Any]
CONFIGS = ROOT / "fixtures" / "base-configs"
BEFORE, SINCE = "vllm@0.32.0", "vllm@0.33.0"  # the fallback for a text-only class's names came with 0.33.0
ATTENTION = tuple(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def pairs(modules: Iterable[str]) -> list[str]:
    return [f"{PREFIX}{module}.lora_{half}.weight" for module in modules for half in "AB"]


def layers(before: str, names: Iterable[str], count: int = 2) -> list[str]:
    return pairs(f"{before}.{number}.{name}" for number in range(count) for name in names)


def experts(before: str, names: Iterable[str], count: int = 3) -> list[str]:
    return layers(before, [name.format(number) for number in range(count) for name in names])


def verdict(target: str, architecture: str, names: Iterable[str]) -> str:
    """What becomes of the names: "lands", "part", "nowhere", "refused", "towers" or "no LoRA"."""
    at = find_target(target)
    layout = served_class(at, architecture, "")
    if layout is None:
        return "no LoRA"
    assert isinstance(layout, Layout), layout
    found = place(layout, at, names)
    if found.refused:
        return "refused"
    if found.in_towers:
        return "towers"
    if found.nowhere:
        return "part" if found.landed else "nowhere"
    return "lands"


TEXT = layers("model.layers", (*ATTENTION, *MLP))
WRAPPED = layers("model.language_model.layers", (*ATTENTION, *MLP))
OLD_WRAPPED = layers("language_model.model.layers", (*ATTENTION, *MLP))
ONE_EXPERT = tuple(f"mlp.experts.{{}}.{name}" for name in ("gate_proj", "up_proj", "down_proj"))
MIXTRAL_EXPERT = tuple(f"block_sparse_moe.experts.{{}}.{name}" for name in ("w1", "w2", "w3"))
FUSED = ("mlp.experts", "mlp.experts.base_layer")

# Target, the class that the base config names, the adapter's names, and what vLLM does.
CASES: list[tuple[str, str, str, list[str], str]] = [
    ("text names on the text class", SINCE, "LlamaForCausalLM", TEXT, "lands"),
    ("one projection of a packed module", SINCE, "LlamaForCausalLM", layers("model.layers", ["self_attn.q_proj"]), "lands"),
    ("without PEFT's prefix", SINCE, "LlamaForCausalLM", [name.removeprefix(PREFIX) for name in TEXT], "lands"),
    ("one prefix too many", SINCE, "LlamaForCausalLM", layers("model.model.layers", ATTENTION), "nowhere"),
    ("a module of another block", SINCE, "LlamaForCausalLM", [*TEXT, *layers("model.layers", ["mlp.q_proj"])], "part"),
    ("fused already, on Llama", SINCE, "LlamaForCausalLM", layers("model.layers", ["self_attn.qkv_proj"]), "refused"),
    ("fused already, on Phi-3", SINCE, "Phi3ForCausalLM", layers("model.layers", ["self_attn.qkv_proj"]), "lands"),
    ("apart, on Phi-3", SINCE, "Phi3ForCausalLM", layers("model.layers", ["self_attn.q_proj"]), "refused"),
    ("the head, on Llama", SINCE, "LlamaForCausalLM", pairs(["lm_head"]), "lands"),
    ("the head, on Qwen2", SINCE, "Qwen2ForCausalLM", pairs(["lm_head"]), "refused"),
    ("text names on the multimodal class, before", BEFORE, "Gemma3ForConditionalGeneration", TEXT, "nowhere"),
    ("text names on the multimodal class, since", SINCE, "Gemma3ForConditionalGeneration", TEXT, "lands"),
    ("multimodal names on the text class", SINCE, "Gemma3ForCausalLM", WRAPPED, "nowhere"),
    ("its own names on the multimodal class", SINCE, "Gemma3ForConditionalGeneration", WRAPPED, "lands"),
    ("older names on the multimodal class", SINCE, "Gemma3ForConditionalGeneration", OLD_WRAPPED, "lands"),
    ("text names, Qwen3-VL, before", BEFORE, "Qwen3VLForConditionalGeneration", TEXT, "nowhere"),
    ("text names, Qwen3-VL, since", SINCE, "Qwen3VLForConditionalGeneration", TEXT, "lands"),
    ("Mixtral, its experts one by one", SINCE, "MixtralForCausalLM", experts("model.layers", MIXTRAL_EXPERT), "lands"),
    ("Mixtral, two of three projections", SINCE, "MixtralForCausalLM", experts("model.layers", MIXTRAL_EXPERT[:2]), "refused"),
    ("Mixtral, fused", SINCE, "MixtralForCausalLM", layers("model.layers", [f"block_sparse_{n}".replace("mlp", "moe") for n in FUSED]), "refused"),
    ("Mixtral, transformers 5's names, fused", SINCE, "MixtralForCausalLM", layers("model.layers", FUSED), "nowhere"),
    ("gpt-oss, one by one", SINCE, "GptOssForCausalLM", experts("model.layers", ONE_EXPERT), "refused"),
    ("gpt-oss, fused", SINCE, "GptOssForCausalLM", layers("model.layers", FUSED), "lands"),
    ("gpt-oss, half of the fused", SINCE, "GptOssForCausalLM", layers("model.layers", FUSED[:1]), "refused"),
    ("Qwen3-MoE, one by one", SINCE, "Qwen3MoeForCausalLM", experts("model.layers", ONE_EXPERT), "lands"),
    ("Qwen3-MoE, fused", SINCE, "Qwen3MoeForCausalLM", layers("model.layers", FUSED), "refused"),
    ("Qwen3-VL-MoE, one by one", SINCE, "Qwen3VLMoeForConditionalGeneration", experts("model.language_model.layers", ONE_EXPERT), "refused"),
    ("Qwen3-VL-MoE, fused", SINCE, "Qwen3VLMoeForConditionalGeneration", layers("model.language_model.layers", FUSED), "lands"),
    ("GPT-2", SINCE, "GPT2LMHeadModel", pairs(["transformer.h.0.attn.c_attn"]), "no LoRA"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "architecture", "names", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_where_the_tensors_land(target: str, architecture: str, names: list[str], expected: str) -> None:
    assert verdict(target, architecture, names) == expected


def told(cli: Cli, folder: Path, *options: Any) -> dict[str, Any]:
    result = cli("check", folder, "--no-weights", "--format", "json", *options)
    return json.loads(result.out)


TINY = {**json.loads((CONFIGS / "tiny-llama.json").read_text()), "architectures": ["LlamaForCausalLM"]}


def adapter_of(folder: Path, names: Iterable[str], **config: Any) -> Path:
    """An adapter with these names; the shapes are those of the tiny model's query."""
    shapes = {name: ones(4, 48) if "lora_A" in name else ones(64, 4) for name in names}
    return write_adapter(folder / "adapter", shapes, tiny_config(**config))


def base_of(folder: Path, **config: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**TINY, **config}))
    return path


def test_an_adapter_that_lands_nowhere_is_an_error(cli: Cli, tmp_path: Path) -> None:
    folder = adapter_of(tmp_path, layers("model.model.layers", ["self_attn.q_proj"]), target_modules=["q_proj"])
    report = told(cli, folder, "--base-config", base_of(tmp_path), "--target", "vllm")
    (finding,) = [item for item in report["findings"] if item["code"] == "LP516"]
    assert (finding["severity"], finding["count"], finding["targets"]) == ("error", 4, ["vllm"])
    assert "LlamaForCausalLM" in finding["message"]
    assert "answers as the base model" in finding["message"]


def test_what_lands_nowhere_is_named_beside_what_lands(cli: Cli, tmp_path: Path) -> None:
    names = [*layers("model.layers", ["self_attn.q_proj"]), *pairs(["model.layers.0.mlp.q_proj"])]
    folder = adapter_of(tmp_path, names, target_modules=["q_proj"])
    report = told(cli, folder, "--base-config", base_of(tmp_path), "--target", "vllm")
    (finding,) = [item for item in report["findings"] if item["code"] == "LP516"]
    assert (finding["count"], finding["tensor"]) == (2, f"{PREFIX}model.layers.0.mlp.q_proj.lora_A.weight")
    assert "2 of 6 tensors" in finding["message"]


def test_a_class_without_lora_is_an_error(cli: Cli, tmp_path: Path) -> None:
    folder = adapter_of(tmp_path, layers("model.layers", ["self_attn.q_proj"]), target_modules=["q_proj"])
    base = base_of(tmp_path, architectures=["GPT2LMHeadModel"])
    report = told(cli, folder, "--base-config", base, "--target", "vllm")
    (finding,) = [item for item in report["findings"] if item["code"] == "LP514"]
    assert "serves GPT2LMHeadModel without LoRA" in finding["message"]


@pytest.mark.parametrize(
    ("target", "architecture", "reason"),
    [
        ("vllm@0.20.2", "LlamaForCausalLM", "before 0.32.0 were not recorded"),
        ("vllm", "OwnForCausalLM", "the modules of OwnForCausalLM"),
    ],
)
def test_a_class_that_is_not_known_decides_nothing(
    target: str, architecture: str, reason: str, cli: Cli, tmp_path: Path
) -> None:
    folder = adapter_of(tmp_path, layers("model.layers", ["self_attn.q_proj"]), target_modules=["q_proj"])
    base = base_of(tmp_path, architectures=[architecture])
    report = told(cli, folder, "--base-config", base, "--target", target)
    assert report["status"] == "ok"
    (unchecked,) = [item for item in report["unchecked"] if item["code"] == "LP516"]
    assert reason in unchecked["reason"]
    for other in ("peft", "together", "all"):
        report = told(cli, folder, "--base-config", base, "--target", other)
        assert "LP516" not in [item["code"] for item in report["unchecked"]]


def test_of_all_targets_the_deciding_one_alone_is_counted(cli: Cli, tmp_path: Path) -> None:
    folder = adapter_of(
        tmp_path, layers("model.layers", ["self_attn.q_proj"]), target_modules=["q_proj"], use_rslora=True
    )
    report = told(cli, folder, "--base-config", base_of(tmp_path), "--target", "all")
    assert (report["status"], report["summary"]["errors"], report["summary"]["warnings"]) == ("ok", 0, 0)
    assert any(item["severity"] == "error" for item in report["findings"])


def test_every_recorded_class_can_be_read() -> None:
    target = find_target("vllm")
    assert (target.version, find_target(BEFORE).version) == ("0.33.0", "0.32.0")
    table = json.loads((ROOT / "lora_packer" / "targets" / "data" / "vllm-classes.json").read_text())
    assert table["releases"] == ["0.32.0", "0.33.0"]
    for release in table["releases"]:
        known = [served_class(find_target(f"vllm@{release}"), name, "") for name in table["classes"]]
        assert sum(isinstance(item, Layout) for item in known) > 60
        for layout in known:
            if isinstance(layout, Layout):
                assert layout.modules
                assert {path.rpartition(".")[2] for path in layout.modules} <= layout.leaves
                assert layout.fused_experts <= layout.modules


def test_the_class_comes_from_the_base_config() -> None:
    base = BaseModel.load(TINY)
    assert base.named_class == "LlamaForCausalLM"
    layout = served_class(find_target("vllm"), base.named_class, base.model_type)
    assert isinstance(layout, Layout)
    names = [f"{path}.lora_A.weight" for path, module in base.modules.items() if module.kind == "linear"]
    assert np.all([name in place(layout, find_target("vllm"), names).landed for name in names])


# --- SGLang and llama.cpp --------------------------------------------------------------------------------------------


def base_model(architecture: str, model_type: str = "", *, tied: bool = False) -> Base:
    return Base(architecture, model_type, tied)


def outcome(found: Placement | NotServed | str) -> str:
    """What becomes of the names, as :func:`verdict` says it."""
    if isinstance(found, NotServed):
        return "no LoRA"
    assert isinstance(found, Placement), found
    if found.refused:
        return "refused"
    if found.nowhere:
        return "part" if found.landed else "nowhere"
    return "lands"


def at_sglang(architecture: str, names: Iterable[str], targeted: str | tuple[str, ...] | None = None) -> str:
    names = list(names)
    leaves = tuple({name.removesuffix(".weight").rpartition(".lora_")[0].rpartition(".")[2] for name in names})
    return outcome(sglang.placement(find_target("sglang"), base_model(architecture), names, targeted or leaves))


def at_llama_cpp(architecture: str, names: Iterable[str], *, tied: bool = False) -> str:
    return outcome(llama_cpp.placement(find_target("llama-cpp"), base_model(architecture, tied=tied), list(names)))


QUERY, KEY, VALUE, UP, GATE = (
    layers("model.layers", [name])
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.gate_proj")
)
TOWER = pairs(f"model.vision_tower.encoder.layers.{number}.self_attn.out_proj" for number in range(2))

# The class that the base config names, the adapter's names, and what SGLang does.
SGLANG_CASES: list[tuple[str, str, list[str], str]] = [
    ("every projection", "LlamaForCausalLM", TEXT, "lands"),
    ("query and value", "LlamaForCausalLM", [*QUERY, *VALUE], "lands"),
    ("query alone is a KeyError", "LlamaForCausalLM", QUERY, "refused"),
    ("query and key are one, too", "LlamaForCausalLM", [*QUERY, *KEY], "refused"),
    ("value alone matches no target", "LlamaForCausalLM", VALUE, "refused"),
    ("gate alone", "LlamaForCausalLM", GATE, "lands"),
    ("up alone matches no target", "LlamaForCausalLM", UP, "refused"),
    ("what is before the layer is not looked at", "LlamaForCausalLM", layers("model.model.layers", ATTENTION), "lands"),
    ("multimodal names on the text class", "Gemma3ForCausalLM", WRAPPED, "lands"),
    ("text names on the multimodal class", "Gemma3ForConditionalGeneration", TEXT, "lands"),
    ("a name that the class has no sizes for", "LlamaForCausalLM", layers("model.layers", ["self_attn.c_attn"]), "refused"),
    ("the head, on Llama", "LlamaForCausalLM", pairs(["lm_head"]), "lands"),
    ("the head, on Gemma 2, which has none of its own", "Gemma2ForCausalLM", pairs(["lm_head"]), "refused"),
    ("the embedding of multimodal Gemma 3", "Gemma3ForConditionalGeneration", pairs(["model.language_model.embed_tokens"]), "nowhere"),
    ("experts one by one", "Qwen3MoeForCausalLM", experts("model.layers", ONE_EXPERT), "lands"),
    ("experts fused", "Qwen3MoeForCausalLM", layers("model.layers", FUSED), "refused"),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "names", "expected"), [c[1:] for c in SGLANG_CASES], ids=[c[0] for c in SGLANG_CASES])  # fmt: skip
def test_where_sglang_puts_the_tensors(architecture: str, names: list[str], expected: str) -> None:
    assert at_sglang(architecture, names) == expected


def test_sglang_has_one_place_for_a_layer_of_two_towers() -> None:
    tower = pairs(f"model.vision_tower.layers.{number}.self_attn.{name}" for number in range(2) for name in ("q_proj", "v_proj"))  # fmt: skip
    assert at_sglang("Gemma3ForConditionalGeneration", [*QUERY, *VALUE, *tower]) == "refused"


def test_sglang_finds_the_modules_of_all_linear_itself() -> None:
    assert at_sglang("LlamaForCausalLM", TEXT, "all-linear") == "lands"


# The class that the base config names, the adapter's names, and what llama.cpp does.
LLAMA_CPP_CASES: list[tuple[str, str, list[str], str]] = [
    ("every projection", "LlamaForCausalLM", TEXT, "lands"),
    ("one prefix too many", "LlamaForCausalLM", layers("model.model.layers", ATTENTION), "refused"),
    ("names of a wrapper are stripped", "LlamaForCausalLM", WRAPPED, "lands"),
    ("fused already, on Llama", "LlamaForCausalLM", layers("model.layers", ["self_attn.qkv_proj"]), "refused"),
    ("fused already, on Phi-3", "Phi3ForCausalLM", layers("model.layers", ["self_attn.qkv_proj"]), "lands"),
    ("text names on the multimodal class", "Gemma3ForConditionalGeneration", TEXT, "lands"),
    ("a tower is passed over", "Gemma3ForConditionalGeneration", TOWER, "nowhere"),
    ("a tower beside the text", "Gemma3ForConditionalGeneration", [*TEXT, *TOWER], "part"),
    ("Mixtral, its experts one by one", "MixtralForCausalLM", experts("model.layers", MIXTRAL_EXPERT), "lands"),
    ("Mixtral, two of three projections", "MixtralForCausalLM", experts("model.layers", MIXTRAL_EXPERT[:2]), "refused"),
    ("Qwen3-MoE, fused", "Qwen3MoeForCausalLM", layers("model.layers", FUSED), "refused"),
    ("GPT-2, whose weights are turned", "GPT2LMHeadModel", pairs(["transformer.h.0.attn.c_attn"]), "refused"),
    ("another class's name for a tensor that it has", "LlamaForCausalLM", layers("model.layers", ["self_attn.dense"]), "lands"),
    ("a class that it does not know", "ZambaForCausalLM", TEXT, "no LoRA"),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "names", "expected"), [c[1:] for c in LLAMA_CPP_CASES], ids=[c[0] for c in LLAMA_CPP_CASES])  # fmt: skip
def test_what_llama_cpp_makes_of_the_tensors(architecture: str, names: list[str], expected: str) -> None:
    assert at_llama_cpp(architecture, names) == expected


def test_llama_cpp_has_no_output_head_where_it_is_tied() -> None:
    assert at_llama_cpp("LlamaForCausalLM", pairs(["lm_head"])) == "lands"
    assert at_llama_cpp("LlamaForCausalLM", pairs(["lm_head"]), tied=True) == "refused"
    assert BaseModel.load({**TINY, "tie_word_embeddings": True}).tied
    assert not BaseModel.load({key: value for key, value in TINY.items() if key != "tie_word_embeddings"}).tied


@pytest.mark.parametrize("target", ["sglang", "llama-cpp"])
def test_a_class_of_ones_own_is_not_judged(target: str, cli: Cli, tmp_path: Path) -> None:
    folder = adapter_of(
        tmp_path, layers("model.layers", ["self_attn.q_proj", "self_attn.v_proj"]), target_modules=["q_proj", "v_proj"]
    )
    report = told(cli, folder, "--base-config", base_of(tmp_path, architectures=["OwnForCausalLM"]), "--target", target)
    (unchecked,) = [item for item in report["unchecked"] if item["code"] == "LP516"]
    assert "OwnForCausalLM" in unchecked["reason"]
    assert not [item for item in report["findings"] if item["code"] in ("LP514", "LP516")]


def test_where_sglang_and_llama_cpp_put_them_is_told(cli: Cli, tmp_path: Path) -> None:
    folder = adapter_of(tmp_path, layers("model.layers", ["self_attn.q_proj"]), target_modules=["q_proj"])
    report = told(cli, folder, "--base-config", base_of(tmp_path), "--target", "sglang,llama-cpp")
    (finding,) = [item for item in report["findings"] if item["code"] == "LP514"]
    assert finding["targets"] == ["sglang"]
    assert "takes LoRA on q_proj only beside v_proj" in finding["message"]
