"""An adapter for every rule, small, that has a finding of it: what the golden outputs of every format are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from builders import PREFIX, ROOT, TINY_BASE, Tensors, ones, renamed, tiny_config, tiny_tensors, write_adapter
from rule_pages import differences, library_reads, page
from safetensors.numpy import load_file

from lora_packer.inspector import check
from lora_packer.inspector.report import Report

Q = f"{PREFIX}model.layers.0.self_attn.q_proj"
EMBED = f"{PREFIX}model.embed_tokens"
LOADING = ROOT / "fixtures" / "loading"
SMALL = "small.toml"  # a server that takes next to nothing


@dataclass(frozen=True)
class Case:
    """What an adapter has in another way than the tiny one, and what it is checked against."""

    tensors: Callable[[], Tensors] | None = None
    config: dict[str, Any] | str | None = None
    change: Callable[[Path], object] | None = None
    base: Path | dict[str, Any] = TINY_BASE
    how: dict[str, Any] = field(default_factory=lambda: {"target": "peft"})


BAICHUAN = {"model_type": "baichuan", "architectures": ["BaichuanForCausalLM"], "vocab_size": 40, "hidden_size": 16,
            "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip


def config(**changes: Any) -> dict[str, Any]:
    return tiny_config(**changes)


def each(change: Callable[[Any], Any], kind: str = "") -> Callable[[], Tensors]:
    return lambda: {n: np.ascontiguousarray(change(t)) if kind in n else t for n, t in tiny_tensors().items()}


def only(kind: str) -> Callable[[], Tensors]:
    return lambda: {n: t for n, t in tiny_tensors().items() if kind in n}


def plus(name: str, *shape: int) -> Callable[[], Tensors]:
    return lambda: {**tiny_tensors(), name: ones(*shape)}


def named(change: Callable[[str], str]) -> Callable[[], Tensors]:
    return lambda: renamed(change)


def not_a_number() -> Tensors:
    tensors = {name: tensor.copy() for name, tensor in tiny_tensors().items()}
    tensors[f"{Q}.lora_B.weight"][3, 1] = float("nan")
    return tensors


def one_block(tensor: Any) -> Any:
    kept = np.zeros_like(tensor)
    kept[: len(tensor) // 2] = tensor[: len(tensor) // 2]
    return kept


def rounded(tensor: Any) -> Any:
    return (tensor.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def zeros_of(**sizes: tuple[int, int]) -> Callable[[], Tensors]:
    """LoRA of rank 4 on modules whose paths have `__` for a dot: (inputs, outputs)."""
    return lambda: {
        f"{PREFIX}{path.replace('__', '.')}.lora_{half}.weight": ones(*((4, size[0]) if half == "A" else (size[1], 4)))
        for path, size in sizes.items()
        for half in "AB"
    }


def on_experts() -> Tensors:
    """LoRA on fused experts of 48 x 48, as PEFT 0.18 wrote it."""
    paths = [f"{PREFIX}model.layers.{layer}.mlp.experts" for layer in range(2)]
    count = 4 * SQUARE["num_experts"]
    return {f"{path}.lora_{half}.weight": ones(*((count, 48) if half == "A" else (48, count)))
            for path in paths for half in "AB"}  # fmt: skip


SQUARE: dict[str, Any] = {
    "model_type": "qwen3_moe", "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "num_experts": 3, "moe_intermediate_size": 24, "vocab_size": 112, "intermediate_size": 80,
}  # fmt: skip
GQA = {"q_proj": (48, 64), "k_proj": (48, 32), "v_proj": (48, 32), "o_proj": (64, 48)}
OLDER = {f"language_model__model__layers__{n}__self_attn__{name}": size for n in (0, 1) for name, size in GQA.items()}
SAVED = {f"{PREFIX}language_model.lm_head.weight": ones(112, 48)}


def at(target: str, **more: Any) -> dict[str, Any]:
    return {"target": target, **more}


def beside(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"never opened")


def cut(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


CASES: dict[str, Case] = {
    "LP101": Case(change=lambda folder: (folder / "adapter_model.safetensors").unlink()),
    "LP102": Case(config="{nope"),
    "LP103": Case(config='{"peft_type": "LORA",\n "r": 4,\n "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}'),
    "LP104": Case(change=cut),
    "LP105": Case(),
    "LP106": Case(tensors=dict),
    "LP107": Case(change=beside("non_lora_trainables.bin")),
    "LP108": Case(config=config(note="hf_" + "0123456789abcdefghijklmnopqrstuvwx")),
    "LP201": Case(config=config(peft_type="ADALORA")),
    "LP202": Case(config=config(r=0)),
    "LP203": Case(config=config(brand_new=1, **{"odd ::name\n": 2})),
    "LP204": Case(config=config(lora_alpha=0)),
    "LP205": Case(config=config(init_lora_weights="pissa")),
    "LP206": Case(config=config(target_modules=["c_attn"])),
    "LP207": Case(config=config(target_modules=["q_proj", "v_proj", "norm"])),
    "LP208": Case(config=config(lora_alpha=...)),
    "LP209": Case(plus(f"{EMBED}.token_adapter.trainable_tokens_delta", 1, 48), config(trainable_token_indices=[500])),
    "LP210": Case(config=config(use_rslora=True)),
    "LP211": Case(config=config(target_modules=["q_proj", "v_proj", "k_porj"])),
    "LP301": Case(each(lambda tensor: ones(4, 32), "lora_A")),
    "LP302": Case(config=config(r=8)),
    "LP303": Case(each(lambda tensor: tensor.T)),
    "LP304": Case(named(lambda n: n.replace("lora_A", "?").replace("lora_B", "lora_A").replace("?", "lora_B"))),
    "LP305": Case(each(lambda tensor: np.zeros(0, np.float32))),
    "LP306": Case(only("lora_A")),
    "LP307": Case(only("layers.0")),
    "LP308": Case(config=config(use_dora=True)),
    "LP309": Case(config=config(target_modules=["q_proj", "v_proj", "k_proj"])),
    "LP310": Case(config=config(alpha_pattern={"zzz": 3, "q_proj": 4})),
    "LP311": Case(named(lambda name: f"_orig_mod.{name}")),
    "LP312": Case(named(lambda name: name.replace(".weight", ".default.weight"))),
    "LP313": Case(config=config(target_modules=["q_proj"])),
    "LP314": Case(plus(f"{Q}.lora_magnitude_vector", 64)),
    "LP315": Case(plus(f"{PREFIX}model.layers.0.self_attn.k_proj.weight", 32, 48)),
    "LP316": Case(plus("a\x1b[31m\n::error::\u202e##[x]](y){0}<z>|`", 2)),
    "LP317": Case(named(lambda name: name.replace("layers.1", "layers.7"))),
    "LP318": Case(plus(f"{EMBED}.weight", 120, 48)),
    "LP319": Case(named(lambda name: name.removeprefix(PREFIX).removesuffix(".weight").lower())),
    "LP320": Case(plus(f"{PREFIX}lm_head.weight", 112, 48)),
    "LP321": Case(zeros_of(**OLDER), config(target_modules=list(GQA)), base=LOADING / "gemma3.json"),
    "LP322": Case(lambda: {**zeros_of(**OLDER)(), **SAVED},
                  config(target_modules=list(GQA), modules_to_save=["lm_head"]), base=LOADING / "gemma3.json",
                  how=at("together")),
    "LP323": Case(on_experts, config(target_modules=[], target_parameters=["mlp.experts.gate_up_proj"], peft_version="0.18.1"),
                  base=SQUARE),
    "LP324": Case(lambda: {f"{PREFIX}model.layers.0.self_attn.W_pack.lora_{x}.weight": ones(*shape)
                           for x, shape in (("A", (4, 16)), ("B", (48, 4)))},
                  config(target_modules=["W_pack"]), base=BAICHUAN),
    "LP325": Case(base={**json.loads(TINY_BASE.read_text()), "architectures": ["LLaMAForCausalLM"]}),
    "LP401": Case(not_a_number),
    "LP402": Case(each(lambda tensor: tensor * 0, "lora_B")),
    "LP403": Case(each(lambda tensor: tensor * 0, "layers.0.self_attn.q_proj.lora_B")),
    "LP404": Case(each(lambda tensor: (tensor * 300).astype(np.int8))),
    "LP405": Case(each(one_block, "lora_B")),
    "LP406": Case(each(rounded)),
    "LP501": Case(config=config(base_model_name_or_path="org/Other-8B"),
                  how=at("together", base_model="meta-llama/Llama-3.1-8B-Instruct", select=["LP5"])),
    "LP502": Case(config=config(bias="all"), how=at("together")),
    "LP503": Case(how=at("together", base_model="nowhere/at-all")),
    "LP504": Case(each(lambda tensor: tensor[:2] if len(tensor) == 4 else tensor[:, :2]), config(r=2), how=at("fireworks")),
    "LP505": Case(config=config(bias="all"), how=at("peft,vllm")),
    "LP506": Case(config=config(use_rslora=True), how=at("sglang")),
    "LP507": Case(config=config(bias="all"), how=at("sagemaker")),
    "LP511": Case(change=beside("optimizer.safetensors"), how=at("sglang")),
    "LP512": Case(how={"target_file": SMALL}),
    "LP513": Case(how={"target_file": SMALL}),
    "LP514": Case(plus(f"{PREFIX}model.layers.0.self_attn.zz_proj.lora_A.weight", 4, 48), how=at("tgi")),
    "LP515": Case(how=at("cloudflare")),
    "LP516": Case(plus(f"{PREFIX}model.layers.0.mlp.q_proj.lora_A.weight", 4, 48), how=at("vllm")),
}  # fmt: skip

# On unless somebody says otherwise, or of no weight here.
OFF = {"inference_mode", "init_lora_weights", "megatron_core", "qalora_group_size"}
GOOD = Case()
# What the safetensors library reads in the file's place.
OTHERWISE: dict[str, Tensors] = {"LP105": only("lora_A")()}


def reports(folder: Path) -> dict[str, Report]:
    """Return the report of each case, each on a folder that is named as its rule, below the working folder."""
    found = {}
    with chdir(folder), patch("huggingface_hub.constants.HF_HUB_OFFLINE", True):
        for code, case in CASES.items():
            base = write(code, case)
            with library_reads(OTHERWISE.get(code), Path()):
                found[code] = check(code, base_config=base, **case.how)
    return found


def write(code: str, case: Case) -> str | dict[str, Any]:
    """Write a case's adapter and what it is checked against into the working folder, and return its base config."""
    if case.how.get("target_file") == SMALL:
        Path(SMALL).write_text('engine = "peft"\nmax_bytes = 100\ndtypes = ["F16"]\n')
    text = case.config if isinstance(case.config, str) else json.dumps(case.config or tiny_config(), indent=2)
    write_adapter(Path(code), case.tensors() if case.tensors else None, text)
    if case.change is not None:
        case.change(Path(code))
    if not isinstance(case.base, Path):
        return case.base
    Path(case.base.name).write_bytes(case.base.read_bytes())
    return case.base.name


def example(code: str, case: Case, folder: Path) -> str:
    """Return a case as its rule's page has it, up to what the command prints."""
    plain = case if isinstance(case.config, str) else replace(case, config=brief(case.config or tiny_config()))
    with chdir(folder):
        base = write(code, plain)
        if not isinstance(base, str):
            Path("base.json").write_text(json.dumps(base, indent=2))
        words = ["lora-packer check", code, "--base-config", base if isinstance(base, str) else "base.json"]
        for name, value in case.how.items():
            words += [f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, list) else str(value)]
        whole = tiny_tensors() if case.change is cut else None
        return page(Path(code), " ".join(words), _unlike_good(code, plain), whole=whole, other=OTHERWISE.get(code))


def brief(written: dict[str, Any]) -> dict[str, Any]:
    """Return a config without the fields that only say that a feature is off, as they are when nobody names them."""
    usual = tiny_config()
    off = {name for name, value in usual.items() if value in (None, False, 0.0, {}, "none")} | OFF
    return {name: value for name, value in written.items() if name not in off or value != usual.get(name)}


def _unlike_good(code: str, case: Case) -> str:
    weights = Path(code, "adapter_model.safetensors")
    if case.base != TINY_BASE or not weights.exists() or case.change is cut:
        return ""
    text = case.config if isinstance(case.config, str) else json.dumps(case.config)
    told = differences(text, load_file(weights), brief(tiny_config()), tiny_tensors())
    return f"Unlike [a good one](index.md#a-good-adapter): {told}." if told else ""
