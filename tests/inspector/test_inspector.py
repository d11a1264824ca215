"""Every way an adapter can be wrong, and what the inspector says of it; and that what PEFT wrote is fine."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    PREFIX,
    ROOT,
    TINY,
    TINY_BASE,
    Tensors,
    raw_safetensors,
    renamed,
    tiny_config,
    tiny_tensors,
    write_adapter,
)
from follow_hints import follow, is_known
from safetensors.numpy import save_file

import lora_packer
from lora_packer.adapter.safetensors_header import read_header
from lora_packer.inspector import RULES, values

Q0 = PREFIX + "model.layers.0.self_attn.q_proj"
K0 = PREFIX + "model.layers.0.self_attn.k_proj"
EMBED = PREFIX + "model.embed_tokens"
HEAD = PREFIX + "lm_head"


def full(*shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, 0.3, np.float32)


def only(kind: str) -> Tensors:
    return {name: tensor for name, tensor in tiny_tensors().items() if kind in name}


def plus(name: str, *shape: int) -> Tensors:
    return {**tiny_tensors(), name: full(*shape)}


def each(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], kind: str = "") -> Tensors:
    return {name: np.ascontiguousarray(change(t)) if kind in name else t for name, t in tiny_tensors().items()}


def broken(value: float) -> Tensors:
    tensors = {name: tensor.copy() for name, tensor in tiny_tensors().items()}
    tensors[Q0 + ".lora_B.weight"][3, 1] = value
    return tensors


def ranked(r: int, kind: str = "") -> Tensors:
    return {
        name: full(r, t.shape[1]) if "lora_A" in name else full(t.shape[0], r)
        for name, t in tiny_tensors().items()
        if kind in name
    } | {name: t for name, t in tiny_tensors().items() if kind not in name}


def with_magnitudes(suffix: str = "", less: int = 0) -> Tensors:
    pairs = {name.replace("lora_B.weight", "lora_magnitude_vector" + suffix): t for name, t in only("lora_B").items()}
    return {**tiny_tensors(), **{name: full(len(t) - less) for name, t in pairs.items()}}


def with_embedding(a: str = ".lora_embedding_A", b: str = ".lora_embedding_B", vocab: int = 112) -> Tensors:
    return {**tiny_tensors(), EMBED + a: full(4, vocab), EMBED + b: full(48, 4)}


def sharded(n: int, index: int) -> Tensors:
    tensors = tiny_tensors()
    for name, tensor in tensors.items():
        if "lora_B" in name:
            block = -(-len(tensor) // n)
            kept = np.zeros_like(tensor)
            kept[index * block : (index + 1) * block] = tensor[index * block : (index + 1) * block]
            tensors[name] = kept
    return tensors


def bfloat16_values() -> Tensors:
    return {name: (t.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for name, t in tiny_tensors().items()}


config = tiny_config
EMBED_TARGETS = ["q_proj", "v_proj", "embed_tokens"]

# what it is, tensors, config, then of each finding: code, severity, count, what the message says, and the tensor or field
CASES: list[tuple[str, Tensors | None, Any, list[tuple[str, str, int, str, str | None]]]] = [
    ("as PEFT wrote it", None, None, []),
    ("prefix lost", renamed(lambda n: n.removeprefix(PREFIX)), None,
     [("LP311", "error", 8, "the prefix 'base_model.model.' is missing", "model.layers.0.self_attn.q_proj.lora_A.weight")]),
    ("prefix doubled", renamed(lambda n: PREFIX + n), None, [("LP311", "error", 8, "stands twice", PREFIX + Q0 + ".lora_A.weight")]),
    ("one model. lost", renamed(lambda n: n.replace("model.layers", "layers")), None,
     [("LP311", "error", 8, "one 'model.' is missing", PREFIX + "layers.0.self_attn.q_proj.lora_A.weight")]),
    ("one model. too many", renamed(lambda n: n.replace("model.layers", "model.model.layers")), None,
     [("LP311", "error", 8, "one 'model.' too many", PREFIX + "model.model.layers.0.self_attn.q_proj.lora_A.weight")]),
    ("torch.compile in front", renamed(lambda n: "_orig_mod." + n), None, [("LP311", "error", 8, "'_orig_mod.'", "_orig_mod." + Q0 + ".lora_A.weight")]),
    ("torch.compile inside", renamed(lambda n: n.replace(PREFIX, PREFIX + "_orig_mod.")), None,
     [("LP311", "error", 8, "'_orig_mod.'", PREFIX + "_orig_mod.model.layers.0.self_attn.q_proj.lora_A.weight")]),
    ("FSDP inside one layer", renamed(lambda n: n.replace("layers.0.", "layers.0._fsdp_wrapped_module.")), None,
     [("LP311", "error", 4, "'_fsdp_wrapped_module.'", PREFIX + "model.layers.0._fsdp_wrapped_module.self_attn.q_proj.lora_A.weight")]),
    ("DDP in front", renamed(lambda n: "module." + n), None, [("LP311", "error", 8, "'module.'", "module." + Q0 + ".lora_A.weight")]),
    ("lower case", renamed(lambda n: n.replace("lora_A", "lora_a").replace("lora_B", "lora_b")), None,
     [("LP311", "error", 8, "lower case", Q0 + ".lora_a.weight")]),
    ("adapter name left", renamed(lambda n: n.replace(".weight", ".default.weight")), None,
     [("LP312", "warning", 8, "'default'", Q0 + ".lora_A.default.weight")]),
    ("MLX", {n.removeprefix(PREFIX).removesuffix(".weight").replace("lora_A", "lora_a").replace("lora_B", "lora_b"): t
             for n, t in tiny_tensors().items()}, None, [("LP319", "error", 8, "MLX", "model.layers.0.self_attn.q_proj.lora_a")]),
    ("kohya", {f"lora_unet_block_{i}.lora_up.weight": full(4, 4) for i in range(3)}, None, [("LP319", "error", 3, "kohya", "lora_unet_block_0.lora_up.weight")]),
    ("transposed", each(lambda t: t.T), None, [("LP303", "error", 8, "transposed", Q0 + ".lora_A.weight")]),
    ("A and B swapped", renamed(lambda n: n.replace("lora_A", "?").replace("lora_B", "lora_A").replace("?", "lora_B")), None,
     [("LP304", "error", 8, "swapped", Q0 + ".lora_A.weight")]),
    ("other hidden size", each(lambda t: full(4, 32), "lora_A"), None, [("LP301", "error", 4, "hidden size 32 instead of 48", Q0 + ".lora_A.weight")]),
    ("kv heads ignored", {n: full(64, 4) if "v_proj.lora_B" in n else t for n, t in tiny_tensors().items()}, None,
     [("LP301", "error", 2, "key/value size", PREFIX + "model.layers.0.self_attn.v_proj.lora_B.weight")]),
    ("one axis too many", {n: t.reshape(*t.shape, 1) if "lora_B" in n else t for n, t in tiny_tensors().items()}, None,
     [("LP301", "error", 4, "3 axes where 2 are expected", Q0 + ".lora_B.weight")]),
    ("rank in config", None, config(r=8), [("LP302", "error", 8, "rank 8, and the file has rank 4", Q0 + ".lora_A.weight")]),
    ("rank missing", None, config(r=...), [("LP302", "error", 8, "rank 8, and the file has rank 4: r is missing", Q0 + ".lora_A.weight")]),
    ("rank missing, and 8", ranked(8), config(r=...), [("LP208", "warning", 1, "r is missing", "r")]),
    ("rank pattern", None, config(rank_pattern={"q_proj": 6}), [("LP302", "error", 4, "rank 6", Q0 + ".lora_A.weight")]),
    ("alpha missing", None, config(lora_alpha=...), [("LP208", "warning", 1, "lora_alpha is missing", "lora_alpha")]),
    ("ZeRO-3", {n: np.zeros(0, np.float32) for n in tiny_tensors()}, None, [("LP305", "error", 8, "ungathered", Q0 + ".lora_A.weight")]),
    ("only lora_A", only("lora_A"), None, [("LP306", "error", 4, "lora_B is missing", Q0 + ".lora_B.weight")]),
    ("only lora_B", only("lora_B"), None, [("LP306", "error", 4, "lora_A is missing", Q0 + ".lora_A.weight")]),
    ("one lora_B lost", {n: t for n, t in tiny_tensors().items() if n != Q0 + ".lora_B.weight"}, None,
     [("LP306", "error", 1, "lora_B is missing for 1 module", Q0 + ".lora_B.weight")]),
    ("a layer lost", only("layers.0"), None, [("LP307", "error", 2, "(layer 1)", PREFIX + "model.layers.1.self_attn.q_proj.lora_A.weight")]),
    ("DoRA without vectors", None, config(use_dora=True), [("LP308", "error", 4, "use_dora", Q0 + ".lora_magnitude_vector")]),
    ("saved module lost", None, config(modules_to_save=["lm_head"]), [("LP308", "error", 1, "modules_to_save", HEAD + ".weight")]),
    ("saved module, old name", plus(HEAD + ".modules_to_save.weight", 112, 48), config(modules_to_save=["lm_head"]),
     [("LP311", "error", 1, "modules_to_save.", HEAD + ".modules_to_save.weight")]),
    ("token rows lost", None, config(trainable_token_indices=[1, 2]), [("LP308", "error", 1, "trainable_token_indices", EMBED + ".token_adapter.trainable_tokens_delta")]),
    ("token rows miscounted", plus(EMBED + ".token_adapter.trainable_tokens_delta", 3, 48), config(trainable_token_indices=[1, 2]),
     [("LP301", "error", 1, "number of trained tokens 3 instead of 2", EMBED + ".token_adapter.trainable_tokens_delta")]),
    ("token out of range", plus(EMBED + ".token_adapter.trainable_tokens_delta", 1, 48), config(trainable_token_indices=[500]),
     [("LP209", "error", 1, "token id 500", "trainable_token_indices")]),
    ("config wider", None, config(target_modules=["q_proj", "v_proj", "k_proj"]), [("LP309", "warning", 2, "k_proj", K0 + ".lora_A.weight")]),
    ("a target misspelt", None, config(target_modules=["q_proj", "v_proj", "k_porj"]),
     [("LP211", "warning", 1, "names k_porj, which this base model (llama) does not have", "target_modules")]),
    ("targets of other families", None, config(target_modules=["q_proj", "v_proj", "c_attn", "w1"]), [("LP211", "warning", 2, "c_attn, w1", "target_modules")]),
    ("layers past the end", None, config(layers_to_transform=[0, 1, 31]), [("LP211", "warning", 1, "names 31", "layers_to_transform")]),
    ("config narrower", None, config(target_modules=["q_proj"]), [("LP313", "error", 4, "does not target v_proj", PREFIX + "model.layers.0.self_attn.v_proj.lora_A.weight")]),
    ("config elsewhere", None, config(target_modules=["o_proj"]), [("LP313", "error", 8, "q_proj, v_proj", Q0 + ".lora_A.weight")]),
    ("excluded", None, config(exclude_modules=["v_proj"]), [("LP313", "error", 4, "v_proj because of exclude_modules", "exclude_modules")]),
    ("other layers", None, config(layers_to_transform=[0]), [("LP313", "error", 4, "because of layers_to_transform", PREFIX + "model.layers.1.self_attn.q_proj.lora_A.weight")]),
    ("DoRA off", plus(Q0 + ".lora_magnitude_vector", 64), None, [("LP314", "error", 1, "use_dora", "use_dora")]),
    ("lora_bias off", plus(Q0 + ".lora_B.bias", 64), None, [("LP314", "error", 1, "lora_bias", "lora_bias")]),
    ("tokens off", plus(EMBED + ".token_adapter.trainable_tokens_delta", 3, 48), None, [("LP314", "error", 1, "trainable_token_indices", None)]),
    ("base weights", plus(K0 + ".weight", 32, 48), None, [("LP315", "error", 1, "overwrite", K0 + ".weight")]),
    ("wrapped base weights", plus(Q0 + ".base_layer.weight", 64, 48), None, [("LP315", "error", 1, "overwrite", Q0 + ".base_layer.weight")]),
    ("something else", plus("foo.bar", 2), None, [("LP316", "warning", 1, "belongs to nothing", "foo.bar")]),
    ("unknown module", plus(PREFIX + "model.layers.0.cross_attn.q_proj.lora_A.weight", 4, 48), None, [("LP316", "error", 1, "would be dropped", None)]),
    ("a name that attacks terminals", plus("a\x1b[31m\n::error::\u202ex", 2), None, [("LP316", "error", 1, "", "a\\x1b[31m\\x0a::error::\\u202ex")]),
    ("an empty name", plus("", 2), None, [("LP316", "error", 1, "", "")]),
    ("layer past the end", {**tiny_tensors(), **{n.replace("layers.1", "layers.7"): t for n, t in only("layers.1").items()}}, None,
     [("LP317", "error", 4, "its last is 1", PREFIX + "model.layers.7.self_attn.q_proj.lora_A.weight")]),
    ("vocabulary resized", plus(EMBED + ".weight", 120, 48), None, [("LP318", "error", 1, "from 112 to 120", EMBED + ".weight")]),
    ("vocabulary smaller", plus(HEAD + ".weight", 110, 48), config(modules_to_save=["lm_head"]), [("LP318", "error", 1, "smaller", HEAD + ".weight")]),
    ("vocabulary of another model", plus(HEAD + ".weight", 512, 48), config(modules_to_save=["lm_head"]), [("LP318", "error", 1, "cannot have grown", None)]),
    ("full embeddings", plus(HEAD + ".weight", 112, 48), None, [("LP320", "warning", 1, "full embeddings", HEAD + ".weight")]),
    ("NaN", broken(float("nan")), None, [("LP401", "error", 1, "NaN", Q0 + ".lora_B.weight")]),
    ("infinity", broken(float("-inf")), None, [("LP401", "error", 1, "NaN", Q0 + ".lora_B.weight")]),
    ("untrained", each(lambda t: t * 0, "lora_B"), None, [("LP402", "error", 4, "all 4 modules", Q0 + ".lora_B.weight")]),
    ("one dead module", {n: t * 0 if n == Q0 + ".lora_B.weight" else t for n, t in tiny_tensors().items()}, None, [("LP403", "warning", 1, "1 of 4", Q0 + ".lora_B.weight")]),
    ("negative zeros", each(lambda t: t * -0.0, "lora_B"), None, [("LP402", "error", 4, "", None)]),
    ("int8", each(lambda t: (t * 300).astype(np.int8)), None, [("LP404", "error", 8, "integer", Q0 + ".lora_A.weight")]),
    ("float64", each(lambda t: t.astype(np.float64)), None, []),
    ("float16", each(lambda t: t.astype(np.float16)), None, []),
    ("no tensors", {}, None, [("LP106", "error", 1, "holds no tensors", None)]),
    ("prompt tuning", {"prompt_embeddings": full(8, 48)},
     {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 8, "token_dim": 48, "num_layers": 2,
      "num_attention_heads": 4, "prompt_tuning_init": "RANDOM", "tokenizer_name_or_path": None},
     [("LP201", "error", 1, "PROMPT_TUNING", "peft_type")]),
    ("LoHa", {f"{Q0}.hada_w{at}_{half}": full(4, 48) for at in "12" for half in "ab"},
     {"peft_type": "LOHA", "r": 4, "alpha": 8, "rank_dropout": 0, "target_modules": ["q_proj"]}, [("LP201", "error", 1, "LOHA", "peft_type")]),
    ("MLX, with its config", {n.removeprefix(PREFIX).removesuffix(".weight").replace("lora_A", "lora_a").replace("lora_B", "lora_b"): t
             for n, t in tiny_tensors().items()}, {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0}},
     [("LP319", "error", 8, "MLX", "model.layers.0.self_attn.q_proj.lora_a")]),
    ("MLX's config alone", None, {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 4}},
     [("LP202", "error", 1, "another trainer's format", "peft_type")]),
    ("another method", None, config(peft_type="ADALORA"), [("LP201", "error", 1, "ADALORA", "peft_type")]),
    ("lower-case method", None, config(peft_type="lora"), [("LP202", "error", 1, "'LORA'", "peft_type")]),
    ("no method", None, config(peft_type=...), [("LP202", "error", 1, "peft_type is missing", "peft_type")]),
    *[(f"r is {v!r}", None, config(r=v), [("LP202", "error", 1, f"r is {says}; it has to be", "r")])
      for v, says in ((None, "null"), (0, "0"), (4.0, "4.0"), (-1, "-1"), ("4", "'4'"), (True, "true"))],
    *[(f"alpha is {v!r}", None, config(lora_alpha=v), [("LP202", "error", 1, "lora_alpha is", "lora_alpha")]) for v in (None, "8")],
    ("alpha is True", None, config(lora_alpha=True), [("LP202", "warning", 1, "takes for 1", "lora_alpha")]),
    ("alpha is 8.0", None, config(lora_alpha=8.0), []),
    ("alpha is 0", None, config(lora_alpha=0), [("LP204", "error", 1, "base model", "lora_alpha")]),
    ("rank_pattern null", None, config(rank_pattern=None), [("LP202", "error", 1, "rank_pattern", "rank_pattern")]),
    ("task type", None, config(task_type="TEXT_GEN"), [("LP202", "error", 1, "TEXT_GEN", "task_type")]),
    ("loftq", None, config(init_lora_weights="loftq"), [("LP202", "error", 1, "loftq", "init_lora_weights")]),
    ("corda", None, config(init_lora_weights="corda"), [("LP202", "error", 1, "corda", "init_lora_weights")]),
    ("pissa", None, config(init_lora_weights="pissa_niter_4"), [("LP205", "warning", 1, "pissa", "init_lora_weights")]),
    ("eva", None, config(init_lora_weights="eva"), []),
    ("layers_pattern alone", None, config(layers_pattern="layers"), [("LP202", "error", 1, "layers_pattern", "layers_pattern")]),
    ("layers with a pattern", None, config(layers_to_transform=[0], target_modules=".*q_proj"), [("LP202", "error", 1, "layers_to_transform", None)]),
    ("no targets", None, config(target_modules=[]), [("LP202", "error", 1, "target_modules is empty", "target_modules")]),
    ("default targets", None, config(target_modules=None), []),
    ("unknown targets", None, config(target_modules=["c_attn"]), [("LP206", "error", 1, "matches no module", "target_modules")]),
    ("a list is no pattern", None, config(target_modules=[".*q_proj"]), [("LP206", "error", 1, "matches no module", "target_modules")]),
    ("a string is one", None, config(target_modules="q_proj"), [("LP206", "error", 1, "matches no module", "target_modules")]),
    ("hostile pattern", None, config(target_modules="([a-z_.0-9]+)+!"), [("LP206", "error", 1, "matches no module", "target_modules")]),
    ("broken pattern", None, config(target_modules="("), [("LP202", "error", 1, "not a regular expression", None)]),
    ("a container as target", None, config(target_modules=["q_proj", "v_proj", "mlp"]), [("LP207", "error", 2, "mlp", "target_modules")]),
    ("a norm as target", None, config(target_modules=["q_proj", "v_proj", "norm"]), [("LP207", "error", 1, "norm", "target_modules")]),
    ("unknown field", None, config(brand_new=1), [("LP203", "warning", 1, "brand_new", "brand_new")]),
    ("no base named", None, config(base_model_name_or_path=None), []),
    ("unknown saved module", None, config(modules_to_save=["zzz"]), []),
    ("config is not JSON", None, "{nope", [("LP102", "error", 1, "not JSON", None)]),
    ("config is a list", None, "[1]", [("LP102", "error", 1, "JSON object", None)]),
    ("config is empty", None, "{}", [("LP102", "error", 1, "JSON object", None)]),
    ("config is nested", None, "[" * 100_000, [("LP102", "error", 1, "nested", None)]),
    ("config has a BOM", None, "\ufeff{}", [("LP102", "error", 1, "byte order mark", None)]),
    ("a key stands twice", None, json.dumps(config())[:-1] + ', "r": 4}', [("LP103", "error", 1, "stands twice", "r")]),
    ("alpha is NaN", None, json.dumps(config(lora_alpha=float("nan"))), [("LP103", "error", 1, "JSON does not have", "lora_alpha")]),
    ("alpha overflows", None, json.dumps(config(lora_alpha=0)).replace('"lora_alpha": 0', '"lora_alpha": 1e999'), [("LP103", "error", 1, "JSON does not have", "lora_alpha")]),
    # What the reference's catalogue of corruptions has besides: PEFT 0.21.2 loads these and applies them as trained.
    ("target_modules missing", None, config(target_modules=...), []),
    ("magnitudes with .weight", with_magnitudes(".weight"), config(use_dora=True), []),
    ("lora_bias without tensors", None, config(lora_bias=True), []),
    ("bias=all without tensors", None, config(bias="all"), []),
    ("task type null", None, config(task_type=None), []),
    ("runtime_config", None, config(runtime_config={"ephemeral_gpu_offload": False}), []),
    *[(f"{init!r} as init", None, config(init_lora_weights=init), []) for init in ("lora_ga", "orthogonal", "gaussian", False)],
    ("fan_in_fan_out on linears", None, config(fan_in_fan_out=True), []),
    ("copies of embeddings left out", with_embedding(), config(target_modules=EMBED_TARGETS), []),
    ("aLoRA", None, config(alora_invocation_tokens=[1, 2]), []),
    ("saved module, null in the config", plus(HEAD + ".weight", 112, 48), config(modules_to_save=None), [("LP320", "warning", 1, "", HEAD + ".weight")]),
    ("rank pattern matches nothing", None, config(rank_pattern={"zzz": 3}),
     [("LP210", "info", 1, "alpha_pattern", "alpha_pattern"), ("LP310", "warning", 1, "'zzz'", "rank_pattern")]),
    ("alpha pattern matches nothing", None, config(alpha_pattern={"zzz": 3, "q_proj": 4}), [("LP310", "warning", 1, "'zzz'", "alpha_pattern")]),
    ("three unknown fields", None, config(brand_new=1, rank_alloc=[True], merged=False), [("LP203", "warning", 3, "'rank_alloc'", "brand_new")]),
    ("fields of PEFT 0.2", None, config(enable_lora=None, merge_weights=False), []),
    ("adapter name lora_", renamed(lambda n: n.replace(".weight", ".lora_.weight")), None, [("LP312", "error", 8, "'lora_'", Q0 + ".lora_A.lora_.weight")]),
    ("olora", None, config(init_lora_weights="olora"), [("LP205", "warning", 1, "olora", "init_lora_weights")]),
    # What it loads wrongly without a word and no file can show: said, not judged.
    ("use_rslora set", None, config(use_rslora=True), [("LP210", "info", 1, "scales the update by 4 (alpha / sqrt(r)); without it, it would be 2", "use_rslora")]),
    ("alpha_pattern lost", ranked(3, "q_proj"), config(rank_pattern={"q_proj": 3}), [("LP210", "info", 1, "without alpha_pattern", "alpha_pattern")]),
    # And these it refuses, or applies wrongly.
    ("rank_pattern lost", ranked(3, "q_proj"), None, [("LP302", "error", 4, "rank 4, and the file has rank 3", Q0 + ".lora_A.weight")]),
    ("rank_pattern sorted", {n: full(*(3 if k == 4 else k for k in t.shape)) if "q_proj" in n else t for n, t in tiny_tensors().items()},
     config(rank_pattern={r".*\.1\..*q_proj": 6, "q_proj": 3}), [("LP302", "error", 2, "another key of rank_pattern", None)]),
    ("magnitudes too short", with_magnitudes(less=1), config(use_dora=True), [("LP301", "error", 4, "63 instead of 64", None)]),
    ("saved module is a target", None, config(modules_to_save=["q_proj"]), [("LP308", "error", 2, "modules_to_save names q_proj", "modules_to_save")]),
    ("saved module, default left", plus(HEAD + ".modules_to_save.default.weight", 112, 48), config(modules_to_save=["lm_head"]),
     [("LP311", "error", 1, "modules_to_save.", HEAD + ".modules_to_save.default.weight")]),
    ("only the input embedding", plus(EMBED + ".weight", 112, 48), None, [("LP320", "error", 1, "without its output head", EMBED + ".weight")]),
    ("both embeddings", {**plus(EMBED + ".weight", 112, 48), HEAD + ".weight": full(112, 48)}, None, [("LP320", "warning", 2, "", HEAD + ".weight")]),
    ("embedding with .weight", with_embedding(".lora_embedding_A.weight", ".lora_embedding_B.weight"), config(target_modules=EMBED_TARGETS),
     [("LP311", "error", 2, "no '.weight'", EMBED + ".lora_embedding_A.weight")]),
    ("embedding as lora_A", with_embedding(".lora_A.weight", ".lora_B.weight"), config(target_modules=EMBED_TARGETS),
     [("LP311", "error", 2, "lora_embedding_A", EMBED + ".lora_A.weight")]),
    ("embedding of another vocabulary", with_embedding(vocab=110), config(target_modules=EMBED_TARGETS), [("LP318", "error", 1, "smaller", None)]),
    ("layer renumbered", renamed(lambda n: n.replace("layers.1", "layers.7")), None,
     [("LP317", "error", 4, "its last is 1), and no tensors for layer 1 of it", PREFIX + "model.layers.7.self_attn.q_proj.lora_A.weight")]),
    ("layers counted from 1", renamed(lambda n: n.replace("layers.1", "layers.2").replace("layers.0", "layers.1")), None,
     [("LP317", "error", 4, "no tensors for layer 0 of it", None)]),
    # Other writers' habits.
    ("Automodel", renamed(lambda n: "thinker." + n), None, [("LP311", "error", 8, "'thinker.' stands before the prefix", None)]),
    ("DDP inside", renamed(lambda n: n.replace(PREFIX, PREFIX + "module.")), None, [("LP311", "error", 8, "'module.'", None)]),
    ("checkpointed layers", renamed(lambda n: n.replace("layers.1.", "layers.1._checkpoint_wrapped_module.")), None, [("LP311", "error", 4, "'_checkpoint_wrapped_module.'", None)]),
    ("language_model too many", renamed(lambda n: n.replace("model.layers", "model.language_model.layers")), None, [("LP311", "error", 8, "language_model", None)]),
    ("bare names", renamed(lambda n: n.removeprefix(PREFIX + "model.")), None, [("LP311", "error", 8, "'base_model.model.model.' is missing", None)]),
    ("compiled, and the prefix lost", renamed(lambda n: "_orig_mod." + n.removeprefix(PREFIX)), None, [("LP311", "error", 8, "and the prefix", None)]),
    ("no .weight", renamed(lambda n: n.removesuffix(".weight")), None, [("LP311", "error", 8, "'.weight' is missing", None)]),
    ("other module names", renamed(lambda n: n.replace("self_attn", "attention")), None, [("LP311", "error", 8, "'attention' stands where 'self_attn' belongs", None)]),
    ("one name misspelt", renamed(lambda n: n if n != Q0 + ".lora_B.weight" else n + "x"), None, [("LP311", "error", 1, "'weightx' stands where 'weight'", Q0 + ".lora_B.weightx")]),
    ("torchtune", renamed(lambda n: n.removeprefix(PREFIX + "model.").replace("self_attn", "attn").replace("lora_A", "lora_a").replace("lora_B", "lora_b")), None,
     [("LP319", "error", 8, "torchtune", None)]),
    ("Megatron", {f"decoder.layers.{i}.self_attention.linear_qkv.adapter.linear_in.weight": full(4, 48) for i in range(2)}, None, [("LP319", "error", 2, "Megatron", None)]),
    ("diffusers", {f"transformer.transformer_blocks.{i}.attn.to_q.lora_A.weight": full(4, 48) for i in range(2)}, None, [("LP319", "error", 2, "diffusers", None)]),
    ("LoHa", {f"{PREFIX}model.layers.{i}.self_attn.q_proj.hada_w1_a": full(4, 48) for i in range(2)}, None, [("LP319", "error", 2, "LoHa", None)]),
    ("older than PEFT 0.3", {n: np.concatenate([t, t])[..., None] if "lora_B" in n else np.concatenate([t, t]) for n, t in tiny_tensors().items()}, None,
     [("LP301", "error", 8, "PEFT before 0.3", None)]),
    # One cause, one finding.
    ("a DoRA layer lost", {n: t for n, t in with_magnitudes().items() if "layers.0" in n}, config(use_dora=True), [("LP307", "error", 2, "(layer 1)", None)]),
    ("DoRA, narrower", with_magnitudes(), config(use_dora=True, target_modules=["q_proj"]), [("LP313", "error", 6, "does not target v_proj", None)]),
    ("other targets", None, config(target_modules=["q_proj", "k_proj"]), [("LP313", "error", 4, "does not target v_proj, but k_proj of layers 0, 1", None)]),
    ("other layers than trained", only("layers.0"), config(layers_to_transform=[1]), [("LP313", "error", 4, "of layer 1, for which the file has no tensors", None)]),
    ("another base, with its head", {**each(lambda t: full(4, 32), "lora_A"), HEAD + ".weight": full(512, 32)}, config(modules_to_save=["lm_head"]),
     [("LP301", "error", 5, "vocabulary 512 instead of 112", None)]),
    ("modules of another architecture", {f"{PREFIX}model.blocks.{i}.mixer.in_proj.lora_{x}.weight": full(4, 4) for i in range(2) for x in "AB"}, None,
     [("LP316", "error", 4, "does not have", None)]),
    ("one FSDP shard", sharded(4, 1), None, [("LP405", "error", 4, "1/4 of the rows only (block 2 of 4)", Q0 + ".lora_B.weight")]),
    ("the last FSDP shard", sharded(2, 1), None, [("LP405", "error", 4, "1/2", None)]),
    ("bfloat16 in float32", bfloat16_values(), None, [("LP406", "info", 8, "bfloat16 values", None)]),
]  # fmt: skip


@pytest.mark.parametrize(("tensors", "settings", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_names_the_cause(tmp_path: Path, tensors: Any, settings: Any, expected: Any) -> None:
    folder = write_adapter(tmp_path / "a", tensors, settings)
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft")
    found = [(f.code, f.severity, f.count) for f in report.findings]
    assert found == [item[:3] for item in expected], report.findings
    for finding, (_, _, _, says, where) in zip(report.findings, expected, strict=True):
        assert says in finding.message
        assert where in (None, finding.tensor, finding.field)
        assert finding.hint
    errors = any(item[1] == "error" for item in expected)
    assert report.status == ("failed" if errors else "ok")


# Cases whose files are not read far enough to be changed.
_UNREADABLE = {"LP102", "LP103", "LP104"}


@pytest.mark.parametrize(("tensors", "settings"), [c[1:3] for c in CASES], ids=[c[0] for c in CASES])
def test_a_hint_that_can_be_followed_mends_what_it_is_about(tmp_path: Path, tensors: Any, settings: Any) -> None:
    folder = write_adapter(tmp_path / "a", tensors, settings)
    before = lora_packer.check(folder, base_config=TINY_BASE, target="peft").findings
    for finding in before:
        ways = None if finding.code in _UNREADABLE else follow(finding, folder, TINY_BASE)
        for at, (config, changed) in enumerate(ways or ()):
            followed = write_adapter(tmp_path / f"{finding.code}-{at}", changed, config)
            after = lora_packer.check(followed, base_config=TINY_BASE, target="peft")
            left = {item.code for item in after.findings if item.severity != "info"}
            assert left <= {item.code for item in before} - {finding.code}, (finding.hint, after.findings)
            assert after.ok or any(item.severity == "error" for item in after.findings), after.unchecked


def test_what_each_rule_advises_is_known_to_the_follower() -> None:
    """What a rule says where a finding has no hint of its own can be followed, or is known to need more."""
    assert {code: rule.fix for code, rule in RULES.items() if not is_known(rule.fix)} == {}


def test_every_rule_is_shown_by_a_case() -> None:
    shown = {finding[0] for case in CASES for finding in case[3]}
    elsewhere = {
        "LP101",
        "LP104",
        "LP107",
        "LP108",
        "LP105",
        "LP321",
        "LP322",
        "LP323",
        "LP324",
        "LP325",
        "LP501",
        "LP502",
        "LP503",
        *(f"LP{number}" for number in (*range(504, 508), *range(511, 517))),  # tests/targets/
    }  # files, readers, dialects and targets: below
    assert shown | elsewhere == set(RULES)
    assert not shown & elsewhere


def test_expected_and_actual_are_the_shapes(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", each(lambda t: full(4, 32), "lora_A"))
    finding = lora_packer.check(folder, base_config=TINY_BASE).findings[0]
    assert (finding.expected, finding.actual) == ([4, 48], [4, 32])


@pytest.mark.parametrize(
    ("present", "missing", "hint"),
    [
        (["adapter_config.json", "adapter_model.bin"], "adapter_model.safetensors", "pickle"),
        (["adapter_config.json", "adapters.safetensors"], "adapter_model.safetensors", "adapters.safetensors"),
        (["adapter_model.safetensors"], "adapter_config.json", "save_pretrained"),
        (["Adapter_Config.json", "adapter_model.safetensors"], "adapter_config.json", "case-sensitive"),
        (["my-lora/adapter_config.json", "adapter_model.safetensors"], "adapter_config.json", "my-lora"),
    ],
)
def test_a_missing_file_is_one_finding(tmp_path: Path, present: list[str], missing: str, hint: str) -> None:
    for name in present:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        source = TINY / path.name.lower().replace(".bin", ".safetensors").replace("adapters.", "adapter_model.")
        path.write_bytes(source.read_bytes())
    report = lora_packer.check(tmp_path, base_config=TINY_BASE)
    assert [(f.code, f.file) for f in report.findings] == [("LP101", missing)]
    assert hint in (report.findings[0].hint or "")


def test_a_damaged_file_is_one_finding(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    report = lora_packer.check(folder, base_config=TINY_BASE)
    assert [f.code for f in report.findings] == ["LP104"]
    assert "100 bytes shorter" in report.findings[0].message
    assert report.status == "failed"


def test_a_name_that_stands_twice_is_refused_though_the_library_takes_it(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    one = b'"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    (folder / "adapter_model.safetensors").write_bytes(raw_safetensors(b"{" + one + b"," + one + b"}", bytes(4)))
    assert [f.code for f in lora_packer.check(folder, base_config=TINY_BASE).findings] == ["LP104"]


@pytest.mark.parametrize("small", [True, False])
def test_the_librarys_other_opinion_is_a_finding(small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors

    folder = write_adapter(tmp_path / "a")
    other = write_adapter(tmp_path / "b", only("lora_A")) / "adapter_model.safetensors"
    opens, takes = safetensors.safe_open, safetensors.deserialize
    if small:
        monkeypatch.setattr(safetensors, "deserialize", lambda _: takes(other.read_bytes()))
    else:
        monkeypatch.setattr("lora_packer.inspector.rules.files.SMALL", 0)
        assert lora_packer.check(folder, base_config=TINY_BASE).ok
        monkeypatch.setattr(safetensors, "safe_open", lambda _, **kw: opens(other, **kw))
    report = lora_packer.check(folder, base_config=TINY_BASE)
    assert [f.code for f in report.findings] == ["LP105"]


@pytest.mark.parametrize("weights", [True, False])
def test_without_a_base_config_it_is_inconclusive(tmp_path: Path, weights: bool) -> None:
    folder = write_adapter(tmp_path / "a", None, config(base_model_name_or_path=None))
    report = lora_packer.check(folder, weights=weights)
    assert report.status == "inconclusive"
    assert not report.ok
    of_the_base = {code for code, rule in RULES.items() if rule.needs == "base"} - {"LP516"}  # that is of vLLM alone
    assert {item.code for item in report.unchecked} >= of_the_base
    assert "--base-config" in report.unchecked[0].reason


def test_a_pattern_that_is_not_evaluated_is_inconclusive(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, config(target_modules=r"(.*)(q_proj|v_proj)\2?"))
    report = lora_packer.check(folder, base_config=TINY_BASE)
    assert report.status == "inconclusive"
    assert "not evaluated" in report.unchecked[0].reason


@pytest.mark.parametrize(("kind", "code"), [("lora_A", "LP306"), ("rank", "LP302")])
def test_without_a_base_config_pairs_are_still_checked(tmp_path: Path, kind: str, code: str) -> None:
    tensors = only(kind) if kind != "rank" else {**tiny_tensors(), Q0 + ".lora_A.weight": full(5, 48)}
    folder = write_adapter(tmp_path / "a", tensors, config(base_model_name_or_path=None))
    report = lora_packer.check(folder)
    assert report.status == "failed"
    assert [f.code for f in report.findings] == [code]


def test_unknown_architecture_is_inconclusive(tmp_path: Path) -> None:
    report = lora_packer.check(TINY, base_config={"model_type": "brand_new"})
    assert report.status == "inconclusive"
    assert "brand_new" in report.unchecked[0].reason


def test_the_catalogue_is_used_for_the_hosted_id() -> None:
    report = lora_packer.check(TINY, base_model="meta-llama/Llama-3.3-70B-Instruct")
    assert report.base_model.config_source == "catalogue:meta-llama/Llama-3.3-70B-Instruct"
    assert report.status == "failed"
    shapes = next(f for f in report.findings if f.code == "LP301")
    assert "hidden size 48 instead of 8192" in shapes.message
    assert "2 layers instead of 80" in shapes.message
    assert [f.code for f in report.findings if f.severity == "error"] == ["LP301"]


def test_another_base_named_is_a_warning(tmp_path: Path) -> None:
    named = write_adapter(tmp_path / "a", None, config(base_model_name_or_path="org/Other-8B"))
    hosted = {"base_model": "meta-llama/Llama-3.1-8B-Instruct", "select": ["LP5"]}
    report = lora_packer.check(named, base_config=TINY_BASE, **hosted)
    assert [(f.code, f.severity) for f in report.findings] == [("LP501", "warning")]
    same = write_adapter(tmp_path / "b", None, config(base_model_name_or_path="unsloth/Llama-3.1-8B-Instruct"))
    report = lora_packer.check(same, base_config=TINY_BASE, **hosted)
    assert report.findings == ()


def test_what_the_target_does_not_state_is_a_warning(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, config(bias="all", modules_to_save=["zzz"]))
    report = lora_packer.check(folder, base_config=TINY_BASE, target="together")
    assert [(f.code, f.severity, f.count) for f in report.findings] == [("LP502", "warning", 2)]
    assert report.status == "ok"
    assert lora_packer.check(folder, base_config=TINY_BASE, target="together", fail_on="warning").status == "failed"
    assert lora_packer.check(folder, base_config=TINY_BASE, target="peft").findings == ()


def test_select_and_ignore(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", only("lora_A"), config(brand_new=1))

    def codes(**how: Any) -> list[str]:
        report = lora_packer.check(folder, base_config=TINY_BASE, target="peft", **how)
        return [finding.code for finding in report.findings]

    assert codes() == ["LP203", "LP306"]
    assert codes(select=["LP3"]) == ["LP306"]
    assert codes(ignore=["LP306"]) == ["LP203"]
    assert codes(select=["lp2"], ignore=["LP203"]) == []
    with pytest.raises(lora_packer.InputError, match="LP9"):
        codes(select=["LP9"])


def test_ignoring_what_could_not_be_checked_is_a_decision(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, config(base_model_name_or_path=None))
    report = lora_packer.check(folder, ignore=["LP2", "LP3"])
    assert report.status == "ok"


def test_values_are_not_read_without_weights(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", broken(float("nan")))
    report = lora_packer.check(folder, base_config=TINY_BASE, weights=False)
    assert report.status == "ok"
    assert {item.code for item in report.unchecked} == {"LP105", "LP401", "LP402", "LP403", "LP405", "LP406"}


@pytest.mark.parametrize(
    ("dtype", "bits", "bad"),
    [
        ("BF16", "<u2", [0x7F80, 0xFF80, 0x7FC0, 0x7F81]),
        ("F16", "<u2", [0x7C00, 0xFC00, 0x7E00, 0x7C01]),
        ("F32", "<u4", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001]),
        ("F64", "<u8", [0x7FF0000000000000, 0xFFF0000000000000, 0x7FF0000000000001]),
        ("F8_E5M2", "u1", [0x7C, 0xFC, 0x7F]),
        ("F8_E4M3", "u1", [0x7F, 0xFF]),
    ],
)
def test_not_finite_in_every_dtype(tmp_path: Path, dtype: str, bits: str, bad: list[int]) -> None:
    largest = bad[0] - 1
    found = np.array([0, 1, largest, *bad], dtype=bits)
    header = {"t": {"dtype": dtype, "shape": [len(found)], "data_offsets": [0, found.nbytes]}}
    path = tmp_path / "t.safetensors"
    path.write_bytes(raw_safetensors(header, found.tobytes()))
    with path.open("rb") as file:
        seen = values.scan(file, read_header(file, path.stat().st_size))["t"]
    assert (seen.not_finite, seen.has_nonzero) == (len(bad), True)


@pytest.mark.parametrize("part", [1, 64, 1000, 1 << 20])
def test_parts_of_a_file_at_once_say_what_the_whole_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        f"t{at}": rng.standard_normal(shape).astype(np.float32) for at, shape in enumerate([(3, 5), (0,), 40, 7])
    }
    tensors["t0"][1, 2] = np.nan
    tensors["t2"][:3] = 0
    tensors["t3"][:] = 0
    save_file(tensors | {"n": np.arange(9)}, tmp_path / "t.safetensors")
    monkeypatch.setattr(values, "_PART", part)
    monkeypatch.setattr(values, "processors", lambda: 8)
    path = tmp_path / "t.safetensors"
    with path.open("rb") as file:
        header = read_header(file, path.stat().st_size)
        whole = values.scan(file, header)
    parts = values.scan_by_parts(lambda: path.open("rb"), header)
    assert (whole["t0"].not_finite, whole["t2"].first, whole["t3"].last) == (1, 3, -1)
    for name in whole:
        assert dataclasses.replace(parts[name], low_bits=False) == dataclasses.replace(whole[name], low_bits=False)
    assert any(seen.low_bits for seen in parts.values())
    assert values.scan_by_parts(lambda: path.open("rb"), dataclasses.replace(header, tensors={})) == {}


# --- what PEFT wrote -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peft_adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("peft")
    with tarfile.open(ROOT / "fixtures" / "peft-adapters.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return sorted(oracle.parent for oracle in folder.glob("*/*/oracle.json"))


@pytest.mark.parametrize("target", ["peft", "together"])
def test_no_error_on_any_adapter_that_peft_wrote_and_loads(peft_adapters: list[Path], target: str) -> None:
    assert len(peft_adapters) == 221
    wrong = []
    for folder in peft_adapters:
        assert json.loads((folder / "oracle.json").read_text())["roundtrip_equal"]
        adapter = next(folder.rglob("adapter_config.json")).parent
        report = lora_packer.check(adapter, base_config=folder / "base_config.json", target=target)
        if report.status != "ok":
            wrong.append((folder.name, report.findings, report.unchecked))
    assert wrong == []


def test_any_tensor_taken_away_or_reshaped_is_noticed(peft_adapters: list[Path]) -> None:
    """Over every adapter: of each required tensor, left out or with another shape, a finding says so."""
    from lora_packer.adapter import TensorInfo, open_source, read_adapter
    from lora_packer.base_model import BaseModel
    from lora_packer.inspector.diagnosis import diagnose

    for folder in peft_adapters:
        with open_source(next(folder.rglob("adapter_config.json")).parent) as source:
            adapter = read_adapter(source)
        base = BaseModel.load(folder / "base_config.json")
        assert adapter.config is not None
        whole = diagnose(adapter.config, base, adapter.tensors)
        assert whole.errors == (), folder.name
        for name in list(whole.case.expectation.required)[:12]:
            lost = {key: info for key, info in adapter.tensors.items() if key != name}
            (error,) = diagnose(adapter.config, base, lost).errors
            assert error.code in ("LP306", "LP307", "LP308", "LP320"), (folder.name, name, error)
            info = adapter.tensors[name]
            other = TensorInfo(info.dtype, (*info.shape[:-1], info.shape[-1] + 1), info.begin, info.end)
            changed = diagnose(adapter.config, base, {**adapter.tensors, name: other}).findings
            assert changed != whole.findings, (folder.name, name)


def test_findings_are_frozen() -> None:
    finding = lora_packer.Finding("LP101", "missing-file", "error", "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.code = "other"  # type: ignore[misc]
