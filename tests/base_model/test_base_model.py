"""Base models: module trees from configs, against dimensions that are public knowledge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY_BASE

import lora_packer
from lora_packer import BaseModel

CONFIGS = ROOT / "fixtures" / "base-configs"
LAYER = "model.layers.0."


@pytest.mark.parametrize(
    ("name", "modules", "shapes"),
    [
        ("meta-llama--Llama-3.1-8B-Instruct", 291, {
            "model.embed_tokens": (128256, 4096), LAYER + "self_attn.q_proj": (4096, 4096),
            LAYER + "self_attn.k_proj": (1024, 4096), LAYER + "mlp.gate_proj": (14336, 4096),
            LAYER + "mlp.down_proj": (4096, 14336), "lm_head": (128256, 4096), "model.norm.weight": (4096,)}),
        ("meta-llama--Llama-3.3-70B-Instruct", 723, {LAYER + "self_attn.v_proj": (1024, 8192), LAYER + "mlp.up_proj": (28672, 8192)}),
        ("mistralai--Mistral-7B-Instruct-v0.3", 291, {LAYER + "self_attn.k_proj": (1024, 4096), "lm_head": (32768, 4096)}),
        ("Qwen--Qwen2.5-7B-Instruct", 255, {LAYER + "self_attn.k_proj": (512, 3584), LAYER + "mlp.up_proj": (18944, 3584)}),
        ("Qwen--Qwen3-8B", 399, {LAYER + "self_attn.q_norm.weight": (128,), LAYER + "self_attn.o_proj": (4096, 4096)}),
        ("google--gemma-2-2b", 289, {LAYER + "self_attn.q_proj": (2048, 2304), LAYER + "self_attn.o_proj": (2304, 2048)}),
        ("mistralai--Mixtral-8x7B-v0.1", 291, {
            LAYER + "mlp.experts.gate_up_proj": (8, 28672, 4096), LAYER + "mlp.experts.down_proj": (8, 4096, 14336),
            LAYER + "mlp.gate.weight": (8, 4096)}),
    ],
)  # fmt: skip
def test_modules_of_real_models(name: str, modules: int, shapes: dict[str, tuple[int, ...]]) -> None:
    base = BaseModel.load(CONFIGS / f"{name}.json")
    assert len(base.modules) == modules
    assert {path: base.modules[path].weight_shape for path in shapes} == shapes


def test_kinds_and_biases() -> None:
    base = BaseModel.load(CONFIGS / "Qwen--Qwen2.5-7B-Instruct.json")
    assert base.model_type == "qwen2"
    assert base.modules["model.embed_tokens"].kind == "embedding"
    assert (base.modules["lm_head"].kind, base.modules["model.norm.weight"].kind) == ("linear", "parameter")
    biased = {path.rpartition(".")[2] for path, module in base.modules.items() if module.bias}
    assert biased == {"q_proj", "k_proj", "v_proj"}
    module = base.modules[LAYER + "mlp.down_proj"]
    assert (module.in_features, module.out_features) == (18944, 3584)
    embedding = base.modules["model.embed_tokens"]
    assert (embedding.in_features, embedding.out_features) == (152064, 3584)


def test_older_names_of_mixtral() -> None:
    base = BaseModel.load(CONFIGS / "mistralai--Mixtral-8x7B-v0.1.json")
    older = base.dialects["transformers-4"]
    assert base.dialects["transformers-5"] == base.modules
    assert older[LAYER + "block_sparse_moe.experts.7.w2"].weight_shape == (4096, 14336)
    assert older[LAYER + "block_sparse_moe.gate"].kind == "linear"


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "lm_head", "score"),
        ({"architectures": ["LlamaForSequenceClassification"], "num_labels": 3}, "score", "lm_head"),
        ({"architectures": ["LlamaForTokenClassification"]}, "score", "lm_head"),
        ({"architectures": ["LlamaModel"]}, "layers.0.self_attn.q_proj", "lm_head"),
        ({"architectures": ["LlamaForQuestionAnswering"]}, "transformer.layers.0.self_attn.q_proj", "lm_head"),
        ({"architectures": None}, "lm_head", "score"),
    ],
)
def test_the_head_is_that_of_the_class(changes: dict[str, Any], present: str, absent: str) -> None:
    base = BaseModel.load({**json.loads(TINY_BASE.read_text()), **changes})
    assert present in base.modules
    assert absent not in base.modules


def test_absent_fields_have_the_class_defaults() -> None:
    assert BaseModel.load({"model_type": "llama"}).modules["model.layers.31.mlp.up_proj"].weight_shape == (11008, 4096)
    gemma = BaseModel.load({"model_type": "gemma2"}).modules[LAYER + "self_attn.k_proj"]
    assert gemma.weight_shape == (1024, 2304)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("{nope", lora_packer.InputError, "not JSON"),
        ("[]", lora_packer.InputError, "JSON object"),
        ("{}", lora_packer.InputError, "no model_type"),
        ('{"peft_type": "LORA"}', lora_packer.InputError, "adapter_config.json"),
        ('{"model_type": "llama", "hidden_size": "4096"}', lora_packer.InputError, "hidden_size"),
        ('{"model_type": "llama", "num_hidden_layers": -1}', lora_packer.InputError, "num_hidden_layers"),
        ('{"model_type": "new\\u001b[31m"}', lora_packer.UnknownArchitecture, r"new\\x1b"),
    ],
)
def test_what_is_no_base_config(tmp_path: Path, text: str, error: type[Exception], says: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    for source in (path, tmp_path):
        with pytest.raises(error, match=says):
            BaseModel.load(source)


def test_where_a_base_config_can_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(lora_packer.InputError, match="no config"):
        BaseModel.load(tmp_path)
    with pytest.raises(lora_packer.InputError, match="no file"):
        BaseModel.load(tmp_path / "gone.json")
    assert BaseModel.load("Qwen/Qwen3-8B").source == "catalogue:Qwen/Qwen3-8B"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(lora_packer.InconclusiveError, match="could not be fetched"):
        BaseModel.load("org/unknown-model")


def test_a_config_in_the_hubs_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(TINY_BASE.read_text())
    refs = tmp_path / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert BaseModel.load("org/tiny").vocab_size == 112


def test_the_catalogue_is_current() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "make_catalogue.py", "--check"], check=False)
    assert done.returncode == 0, "run python tools/make_catalogue.py"
