"""``fix`` on what older releases wrote: names, layouts, and keys of patterns that saving has sorted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from builders import PREFIX, ROOT, TINY_BASE, Tensors, tiny_config, tiny_tensors, write_adapter
from safetensors.numpy import load_file

Cli = Callable[..., Any]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LOADING = ROOT / "fixtures" / "loading"


def numbers(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def mended(cli: Cli, adapter: Path, base: Path, target: str = "peft") -> dict[str, Any]:
    """Mend it; what was mended was told to be fixable, and nothing is left to do."""
    options = ("--base-config", base, "--target", target, "--format", "json")
    report = json.loads(cli("check", adapter, *options).out)
    told: dict[str, Any] = json.loads(cli("fix", adapter, "-o", adapter.with_name("fixed"), *options).out)
    assert told["status"] == "fixed", told
    assert {item["code"] for item in told["repairs"]} >= {
        item["code"] for item in report["findings"] if item["fixable"]
    }
    again = json.loads(cli("fix", adapter.with_name("fixed"), *options).out)
    assert (again["status"], again["repairs"]) == ("unchanged", [])
    return told


# Trained with the narrow key first; saving has put the wide one before it.
OVERLAPPING = {".*q_proj": 8, "layers.1.self_attn.q_proj": 2}
GEMMA = LOADING / "gemma3.json"


def of_two_ranks() -> Tensors:
    """q_proj has rank 8, and rank 2 in the last layer."""
    tensors = tiny_tensors()
    for name in tensors:
        if "q_proj" in name:
            rank = 2 if ".layers.1." in name else 8
            tensors[name] = numbers(*((rank, 48) if "lora_A" in name else (64, rank)))
    return tensors


def test_keys_that_overlap_and_were_sorted_give_each_module_its_rank(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", of_two_ranks(), tiny_config(rank_pattern=OVERLAPPING))
    told = mended(cli, adapter, TINY_BASE)
    assert [(item["name"], item["code"]) for item in told["repairs"]] == [("overlapping-patterns", "LP302")]
    config = json.loads((tmp_path / "fixed" / CONFIG).read_text())
    assert config["rank_pattern"] == {"model.layers.0.self_attn.q_proj": 8, "model.layers.1.self_attn.q_proj": 2}
    assert (tmp_path / "fixed" / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()


def text_only() -> Tensors:
    """What Gemma3ForCausalLM writes."""
    text = json.loads(GEMMA.read_text())["text_config"]
    hidden, width = text["hidden_size"], text["head_dim"] * text["num_attention_heads"]
    tensors: Tensors = {}
    for layer in range(text["num_hidden_layers"]):
        path = f"{PREFIX}model.layers.{layer}.self_attn.q_proj"
        tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = numbers(4, hidden), numbers(width, 4)
    return tensors


def as_served(tensors: Tensors) -> Tensors:
    """The names of the multimodal class."""
    return {name.replace("model.layers", "model.language_model.layers"): tensor for name, tensor in tensors.items()}


def test_names_of_the_text_only_class_get_those_of_the_class_that_is_served(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", text_only(), tiny_config(target_modules=["q_proj"]))
    told = mended(cli, adapter, GEMMA)
    assert [(item["name"], item["code"]) for item in told["repairs"]] == [
        ("older-names", "LP322"),
        ("targets", "LP309"),  # the vision tower has modules of the same name
    ]
    found, wanted = load_file(tmp_path / "fixed" / WEIGHTS), as_served(text_only())
    assert found.keys() == wanted.keys()
    assert all(found[name].tobytes() == tensor.tobytes() for name, tensor in wanted.items())


def test_experts_of_an_older_peft_make_the_same_update_today(cli: Cli, tmp_path: Path) -> None:
    base = LOADING / "qwen3_moe.json"
    config = json.loads(base.read_text())
    experts, hidden, inner = config["num_experts"], config["hidden_size"], config["moe_intermediate_size"]
    tensors: Tensors = {}
    for layer in range(config["num_hidden_layers"]):
        path = f"{PREFIX}model.layers.{layer}.mlp.experts"
        for suffix, (out, width) in {".base_layer": (2 * inner, hidden), "": (hidden, inner)}.items():
            tensors[f"{path}{suffix}.lora_A.weight"] = numbers(4 * experts, out)
            tensors[f"{path}{suffix}.lora_B.weight"] = numbers(width, 4 * experts)
    named = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    settings = tiny_config(target_modules=[], target_parameters=named, peft_version="0.18.1")
    told = mended(cli, write_adapter(tmp_path / "a", tensors, settings), base)
    assert [(item["name"], item["code"]) for item in told["repairs"]] == [("experts-of-older-peft", "LP322")]
    found = load_file(tmp_path / "fixed" / WEIGHTS)
    for name, old_a in tensors.items():
        if "lora_A" in name:
            other = name.replace("lora_A", "lora_B")
            for at in range(experts):
                before = tensors[other].reshape(-1, 4, experts)[:, :, at] @ old_a.reshape(experts, 4, -1)[at]
                after = found[other].reshape(-1, 4, experts)[:, :, at] @ found[name].reshape(experts, 4, -1)[at]
                np.testing.assert_allclose(after, before.T, rtol=1e-5, atol=1e-5)
