"""``fix`` on the layouts of other trainers: what they make of an adapter comes back as it was, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY_BASE, Tensors, tiny_config, write_adapter
from safetensors.numpy import load_file, save_file

Cli = Callable[..., Any]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
HEADS, KEY_HEADS, WIDTH, RANK = 4, 2, 16, 4
SIZES = {
    "self_attn.q_proj": (HEADS * WIDTH, 48),
    "self_attn.k_proj": (KEY_HEADS * WIDTH, 48),
    "self_attn.v_proj": (KEY_HEADS * WIDTH, 48),
    "self_attn.o_proj": (48, HEADS * WIDTH),
    "mlp.gate_proj": (80, 48),
    "mlp.up_proj": (80, 48),
    "mlp.down_proj": (48, 80),
}
ALL = tuple(path.rpartition(".")[2] for path in SIZES)


def adapter_of(modules: tuple[str, ...] = ALL, *, shared: bool = False, layers: int = 2) -> Tensors:
    """An adapter of PEFT's; ``shared``: the modules that Megatron fuses have one A."""
    rng = np.random.default_rng(5)
    tensors: Tensors = {}
    for layer in range(layers):
        made: dict[str, Any] = {}
        for path, (out, width) in SIZES.items():
            name = f"{PREFIX}model.layers.{layer}.{path}"
            if path.rpartition(".")[2] not in modules:
                continue
            group = _FUSED_OF.get(path, path) if shared else path
            if group not in made:
                made[group] = rng.standard_normal((RANK, width)).astype(np.float32)
            tensors[f"{name}.lora_A.weight"] = made[group]
            tensors[f"{name}.lora_B.weight"] = rng.standard_normal((out, RANK)).astype(np.float32)
    return tensors


def run(cli: Cli, adapter: Path, base: Path, *more: object) -> tuple[int, dict[str, Any]]:
    result = cli("fix", adapter, "--base-config", base, "--format", "json", *more)
    return result.code, json.loads(result.out)


def base_of(model_type: str, folder: Path) -> Path:
    fields = json.loads(TINY_BASE.read_text()) | {"model_type": model_type}
    (folder / "base.json").write_text(json.dumps(fields))
    return folder / "base.json"


def same(folder: Path, wanted: Tensors) -> None:
    found = load_file(folder / WEIGHTS)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].tobytes() == tensor.tobytes(), name


# --- torchtune -------------------------------------------------------------------------------------------------------

_TORCHTUNE = {
    "self_attn.q_proj": "attn.q_proj",
    "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj",
    "self_attn.o_proj": "attn.output_proj",
    "mlp.gate_proj": "mlp.w1",
    "mlp.down_proj": "mlp.w2",
    "mlp.up_proj": "mlp.w3",
}


def pairs_beside_each_other(tensor: Any, heads: int) -> Any:
    """What torchtune's ``hf_to_tune`` does to a weight of q_proj or k_proj, and so to what is added to it."""
    rest = tensor.shape[1:]
    return np.ascontiguousarray(tensor.reshape(heads, 2, WIDTH // 2, *rest).swapaxes(1, 2).reshape(tensor.shape))


def as_torchtune(tensors: Tensors, *, turns: bool) -> Tensors:
    made: Tensors = {}
    for name, tensor in tensors.items():
        before, _, part = name.removeprefix(f"{PREFIX}model.").partition(".lora_")
        start, path = ".".join(before.split(".")[:2]), ".".join(before.split(".")[2:])
        heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KEY_HEADS}.get(path)
        if turns and heads is not None and part != "A.weight":
            tensor = pairs_beside_each_other(tensor, heads)
        leaf = {"A.weight": "lora_a.weight", "B.weight": "lora_b.weight", "magnitude_vector": "magnitude"}[part]
        made[f"{start}.{_TORCHTUNE[path]}.{leaf}"] = tensor
    return made


@pytest.mark.parametrize(
    ("model_type", "turns"), [("llama", True), ("mistral", True), ("qwen2", False), ("qwen3", False)]
)
def test_torchtunes_own_names_come_back(model_type: str, turns: bool, cli: Cli, tmp_path: Path) -> None:
    wanted, base = adapter_of(), base_of(model_type, tmp_path)
    names = ["q_proj", "k_proj", "v_proj", "output_proj", "w1", "w2", "w3"]  # its own, as its Meta checkpointer saves
    adapter = write_adapter(tmp_path / "a", as_torchtune(wanted, turns=turns), tiny_config(target_modules=names))
    report = json.loads(cli("check", adapter, "--base-config", base, "--format", "json").out)
    assert [(item["code"], item["fixable"]) for item in report["findings"]] == [("LP319", True)]
    code, told = run(cli, adapter, base)
    assert (code, told["status"], [item["name"] for item in told["repairs"]]) == (0, "fixed", ["torchtune"])
    same(tmp_path / "a-fixed", wanted)
    assert json.loads((tmp_path / "a-fixed" / CONFIG).read_text())["target_modules"] == sorted(ALL)
    assert run(cli, tmp_path / "a-fixed", base)[1]["repairs"] == []


def test_torchtunes_magnitudes_have_the_order_of_their_module(cli: Cli, tmp_path: Path) -> None:
    wanted = adapter_of(("q_proj", "v_proj"))
    for layer in range(2):
        for at, (path, out) in enumerate((("self_attn.q_proj", 64), ("self_attn.v_proj", 32))):
            name = f"{PREFIX}model.layers.{layer}.{path}.lora_magnitude_vector"
            wanted[name] = np.arange(out, dtype=np.float32) + 1000 * at + 1
    config = tiny_config(use_dora=True)
    adapter = write_adapter(tmp_path / "a", as_torchtune(wanted, turns=True), config)
    assert run(cli, adapter, TINY_BASE)[0] == 0
    same(tmp_path / "a-fixed", wanted)


@pytest.mark.parametrize(("model_type", "dora"), [("llama", False), ("llama", True), ("qwen3", False)])
def test_peft_to_torchtune_and_back_is_the_identity(model_type: str, dora: bool, cli: Cli, tmp_path: Path) -> None:
    wanted, base = adapter_of(), base_of(model_type, tmp_path)
    if dora:
        rows = {n: t for n, t in wanted.items() if n.endswith("lora_B.weight")}
        wanted |= {
            n.replace("lora_B.weight", "lora_magnitude_vector"): np.ascontiguousarray(t[:, 0]) for n, t in rows.items()
        }
    adapter = write_adapter(tmp_path / "a", wanted, tiny_config(target_modules=list(ALL), use_dora=dora))
    code, told = run(cli, adapter, base, "--output", tmp_path / "b", "--allow", "torchtune")
    assert (code, [item["name"] for item in told["repairs"]], told["skipped"]) == (0, ["torchtune"], [])
    made, found = as_torchtune(wanted, turns=model_type == "llama"), load_file(tmp_path / "b" / WEIGHTS)
    assert found.keys() == made.keys()
    assert all(found[name].tobytes() == tensor.tobytes() for name, tensor in made.items())
    assert run(cli, tmp_path / "b", base, "--output", tmp_path / "c")[0] == 0
    same(tmp_path / "c", wanted)
    before, after = (json.loads((tmp_path / name / CONFIG).read_text()) for name in "ac")
    assert after == {**before, "target_modules": sorted(ALL), "use_rslora": False}


@pytest.mark.parametrize("form", ["torchtune", "megatron"])
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"rank_pattern": {"q_proj": 4, "k_proj": 4}, "r": 4}, "one rank and one alpha for all"),
        ({"alpha_pattern": {"q_proj": 16}}, "the config has alpha_pattern"),
    ],
)
def test_what_has_no_form_there_is_told_and_stays(
    form: str, config: dict[str, Any], reason: str, cli: Cli, tmp_path: Path
) -> None:
    wanted = adapter_of()
    adapter = write_adapter(tmp_path / "a", wanted, tiny_config(target_modules=list(ALL), **config))
    code, told = run(cli, adapter, TINY_BASE, "--output", tmp_path / "b", "--allow", form)
    assert [(item["name"], reason in item["reason"]) for item in told["skipped"]] == [(form, True)]
    assert code == 0
    same(tmp_path / "b", wanted)


@pytest.mark.parametrize("form", ["torchtune", "megatron"])
def test_a_module_that_is_unknown_there_is_told(form: str, cli: Cli, tmp_path: Path) -> None:
    head = {f"{PREFIX}model.embed_tokens.lora_embedding_A": np.ones((RANK, 112), np.float32)}
    head |= {f"{PREFIX}model.embed_tokens.lora_embedding_B": np.ones((48, RANK), np.float32)}
    config = tiny_config(target_modules=[*ALL, "embed_tokens"])
    adapter = write_adapter(tmp_path / "a", adapter_of() | head, config)
    _, told = run(cli, adapter, TINY_BASE, "--allow", form)
    assert "has no place there" in next(item["reason"] for item in told["skipped"] if item["name"] == form)


@pytest.mark.parametrize(
    ("model_type", "changes", "reason"),
    [
        (None, {}, "depends on the base model"),
        ("granite", {}, "how it writes the rows of granite is not known"),
        ("llama", {"lora_alpha": ...}, "no r and no lora_alpha"),
    ],
)
def test_what_is_not_known_of_torchtune_is_told(
    model_type: str | None, changes: dict[str, Any], reason: str, cli: Cli, tmp_path: Path
) -> None:
    config = tiny_config(base_model_name_or_path=None, **changes)
    adapter = write_adapter(tmp_path / "a", as_torchtune(adapter_of(), turns=True), config)
    options = () if model_type is None else ("--base-config", base_of(model_type, tmp_path))
    report = json.loads(cli("check", adapter, *options, "--format", "json").out)
    assert [item["fixable"] for item in report["findings"] if item["code"] == "LP319"] == [False]
    told = json.loads(cli("fix", adapter, *options, "--format", "json").out)
    assert any(item["name"] == "torchtune" and reason in item["reason"] for item in told["skipped"])


# --- Megatron and NeMo -----------------------------------------------------------------------------------------------

_FUSED = {
    "self_attention.linear_qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention.linear_proj": ("self_attn.o_proj",),
    "mlp.linear_fc1": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.linear_fc2": ("mlp.down_proj",),
}
_FUSED_OF = {path: module for module, paths in _FUSED.items() for path in paths}
_OLDER = {
    "self_attention.linear_qkv": "self_attention.adapter_layer.lora_kqv_adapter",
    "self_attention.linear_proj": "self_attention.adapter_layer.lora_dense_attention_adapter",
    "mlp.linear_fc1": "mlp.adapter_layer.lora_hto4h_adapter",
    "mlp.linear_fc2": "mlp.adapter_layer.lora_4htoh_adapter",
}
_PARTS = {"q_proj": "adapter_q", "k_proj": "adapter_k", "v_proj": "adapter_v"} | {
    "gate_proj": "adapter_gate",
    "up_proj": "adapter_up",
}


def group_by_group(q: Any, k: Any, v: Any) -> Any:
    """What Megatron's import makes of three weights: the query heads of a group, its key head, its value head."""
    q, k, v = q.reshape(HEADS, WIDTH, -1), k.reshape(KEY_HEADS, WIDTH, -1), v.reshape(KEY_HEADS, WIDTH, -1)
    each, parts = HEADS // KEY_HEADS, []
    for group in range(KEY_HEADS):
        parts += [q[group * each : (group + 1) * each], k[group : group + 1], v[group : group + 1]]
    return np.ascontiguousarray(np.concatenate(parts).reshape(-1, RANK))


def as_megatron(tensors: Tensors, name_of: Callable[[int, str], str]) -> Tensors:
    made: Tensors = {}
    for layer in range(2):
        for module, paths in _FUSED.items():
            names = [f"{PREFIX}model.layers.{layer}.{path}" for path in paths]
            halves = [tensors[f"{name}.lora_B.weight"] for name in names]
            out = group_by_group(*halves) if len(halves) == 3 else np.concatenate(halves)
            made[f"{name_of(layer, module)}.linear_in.weight"] = tensors[f"{names[0]}.lora_A.weight"]
            made[f"{name_of(layer, module)}.linear_out.weight"] = out
    return made


@pytest.mark.parametrize(
    "name_of",
    [
        lambda layer, module: f"decoder.layers.{layer}.{module}.adapter",
        lambda layer, module: f"module.module.decoder.layers.{layer}.{module}.adapter",
        lambda layer, module: f"language_model.decoder.layers.{layer}.{module}.adapter",
        lambda layer, module: f"model.decoder.layers.{layer}.{_OLDER[module]}",
        lambda layer, module: f"model.language_model.encoder.layers.{layer}.{_OLDER[module]}",
    ],
    ids=["Bridge", "wrapped", "language model", "NeMo 1", "NeMo 1, older"],
)
def test_megatrons_fused_modules_are_taken_apart(name_of: Any, cli: Cli, tmp_path: Path) -> None:
    wanted = adapter_of(shared=True)
    adapter = write_adapter(tmp_path / "a", as_megatron(wanted, name_of), tiny_config(target_modules=["linear_qkv"]))
    report = json.loads(cli("check", adapter, "--base-config", TINY_BASE, "--format", "json").out)
    assert [(item["code"], item["fixable"]) for item in report["findings"]] == [("LP319", True)]
    code, told = run(cli, adapter, TINY_BASE)
    assert (code, [item["name"] for item in told["repairs"]]) == (0, ["megatron"]), told["skipped"]
    same(tmp_path / "a-fixed", wanted)


def test_megatrons_canonical_lora_keeps_each_part(cli: Cli, tmp_path: Path) -> None:
    wanted, made = adapter_of(), {}
    for name, tensor in wanted.items():
        layer, path = name.removeprefix(f"{PREFIX}model.layers.").partition(".lora_")[0].split(".", 1)
        leaf, half = path.rpartition(".")[2], "linear_in" if "lora_A" in name else "linear_out"
        only = f".{_PARTS[leaf]}" if leaf in _PARTS else ""
        made[f"decoder.layers.{layer}.{_FUSED_OF[path]}.adapter{only}.{half}.weight"] = tensor
    adapter = write_adapter(tmp_path / "a", made, {"dim": RANK, "alpha": 8, "peft_type": "LORA"})
    code, told = run(cli, adapter, TINY_BASE)
    assert (code, told["skipped"]) == (0, [])
    same(tmp_path / "a-fixed", wanted)
    config = json.loads((tmp_path / "a-fixed" / CONFIG).read_text())
    assert {name: config.get(name) for name in ("r", "lora_alpha", "dim", "alpha")} == {
        "r": RANK,
        "lora_alpha": 8,
        "dim": None,
        "alpha": None,
    }


def test_peft_to_megatron_and_back_is_the_identity(cli: Cli, tmp_path: Path) -> None:
    wanted = adapter_of()
    adapter = write_adapter(tmp_path / "a", wanted, tiny_config(target_modules=list(ALL), use_rslora=True))
    code, told = run(cli, adapter, TINY_BASE, "--output", tmp_path / "b", "--allow", "megatron")
    assert (code, [item["name"] for item in told["repairs"]], told["skipped"]) == (0, ["megatron"], [])
    found = load_file(tmp_path / "b" / WEIGHTS)
    assert "decoder.layers.0.self_attention.linear_qkv.adapter.adapter_q.linear_in.weight" in found
    assert "decoder.layers.1.mlp.linear_fc2.adapter.linear_out.weight" in found
    config = json.loads((tmp_path / "b" / CONFIG).read_text())
    assert (config["dim"], config["alpha"] / config["dim"], "r" in config) == (RANK, 8 / RANK**0.5, False)
    # Its own default; it refuses linear_qkv and linear_fc1 (Megatron-Bridge's peft/canonical_lora.py).
    all_linear = {"linear_q", "linear_k", "linear_v", "linear_proj", "linear_fc1_up", "linear_fc1_gate", "linear_fc2"}
    assert set(config["target_modules"]) == all_linear
    assert run(cli, tmp_path / "b", TINY_BASE, "--output", tmp_path / "c")[0] == 0
    same(tmp_path / "c", wanted)
    config = json.loads((tmp_path / "c" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"] / RANK, config["target_modules"]) == (RANK, 8 / RANK**0.5, sorted(ALL))


NEMO_CANONICAL = {
    path: f"self_attention.adapter_layer.lora_unfused_kqv_adapter.{leaf}_adapter"
    for path, leaf in (("self_attn.q_proj", "q"), ("self_attn.k_proj", "k"), ("self_attn.v_proj", "v"))
} | {
    "self_attn.o_proj": "self_attention.adapter_layer.lora_dense_attention_adapter",
    "mlp.gate_proj": "mlp.adapter_layer.lora_unfused_hto4h_adapter.gate_adapter",
    "mlp.up_proj": "mlp.adapter_layer.lora_unfused_hto4h_adapter.up_adapter",
    "mlp.down_proj": "mlp.adapter_layer.lora_4htoh_adapter",
}


def as_canonical_nemo(tensors: Tensors, prefix: str = "model.decoder") -> Tensors:
    """What ``reformat_module_names_to_canonical`` makes of the names (NeMo's convert_hf_to_canonical.py)."""
    made: Tensors = {}
    for name, tensor in tensors.items():
        layer, path = name.removeprefix(f"{PREFIX}model.layers.").partition(".lora_")[0].split(".", 1)
        half = "linear_in" if "lora_A" in name else "linear_out"
        made[f"{prefix}.layers.{layer}.{NEMO_CANONICAL[path]}.{half}.weight"] = tensor
    return made


@pytest.mark.parametrize("prefix", ["model.decoder", "model.module.decoder"])
def test_the_canonical_lora_of_nemo_1_keeps_each_part(prefix: str, cli: Cli, tmp_path: Path) -> None:
    wanted = adapter_of()
    config = {"peft_type": "LORA", "adapter_dim": RANK, "alpha": 16, "variant": "canonical"}
    adapter = write_adapter(tmp_path / "a", as_canonical_nemo(wanted, prefix), config)
    report = json.loads(cli("check", adapter, "--base-config", TINY_BASE, "--format", "json").out)
    assert ("LP319", True) in [(item["code"], item["fixable"]) for item in report["findings"]]
    code, told = run(cli, adapter, TINY_BASE)
    assert (code, [item["name"] for item in told["repairs"]], told["skipped"]) == (0, ["megatron"], [])
    same(tmp_path / "a-fixed", wanted)
    assert json.loads((tmp_path / "a-fixed" / CONFIG).read_text()) == {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 16,
        "target_modules": sorted(ALL),
    }


OF_BRIDGE = ["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"]
OF_NEMO = ["attention_qkv", "attention_dense", "mlp_fc1", "mlp_fc2"]


@pytest.mark.parametrize(
    ("form", "shared", "made", "config"),
    [
        (
            "megatron=fused",
            True,
            lambda tensors: as_megatron(tensors, lambda layer, module: f"decoder.layers.{layer}.{module}.adapter"),
            {"dim": RANK, "target_modules": OF_BRIDGE},
        ),
        (
            "megatron=nemo1-fused",
            True,
            lambda tensors: as_megatron(
                tensors, lambda layer, module: f"model.decoder.layers.{layer}.{_OLDER[module]}"
            ),
            {"adapter_dim": RANK, "variant": "nemo", "target_modules": OF_NEMO},
        ),
        (
            "megatron=nemo1",
            False,
            as_canonical_nemo,
            {"adapter_dim": RANK, "variant": "canonical", "target_modules": OF_NEMO},
        ),
    ],
)
def test_peft_to_the_other_forms_of_megatron_and_back_is_the_identity(
    form: str, shared: bool, made: Any, config: dict[str, Any], cli: Cli, tmp_path: Path
) -> None:
    wanted, before = adapter_of(shared=shared), tiny_config(target_modules=sorted(ALL), lora_alpha=8)
    adapter = write_adapter(tmp_path / "a", wanted, before)
    code, told = run(cli, adapter, TINY_BASE, "--output", tmp_path / "b", "--allow", form)
    assert (code, [item["name"] for item in told["repairs"]], told["skipped"]) == (0, ["megatron"], [])
    found, expected = load_file(tmp_path / "b" / WEIGHTS), made(wanted)
    assert found.keys() == expected.keys()
    assert all(found[name].tobytes() == tensor.tobytes() for name, tensor in expected.items())
    written = json.loads((tmp_path / "b" / CONFIG).read_text())
    assert written == {
        **{name: value for name, value in before.items() if name not in ("r", "lora_alpha", "use_rslora")},
        "alpha": 8,
        **config,
    }
    assert run(cli, tmp_path / "b", TINY_BASE, "--output", tmp_path / "c")[0] == 0
    same(tmp_path / "c", wanted)
    after = json.loads((tmp_path / "c" / CONFIG).read_text())
    assert after == {name: value for name, value in before.items() if name != "use_rslora"}
    # And out of that form into itself, by way of PEFT's.
    assert run(cli, tmp_path / "b", TINY_BASE, "--output", tmp_path / "d", "--allow", form)[0] == 0
    assert (tmp_path / "d" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    assert json.loads((tmp_path / "d" / CONFIG).read_text()) == written


@pytest.mark.parametrize(
    ("form", "modules", "reason"),
    [
        ("megatron=fused", ALL, "and the file has one for each part"),
        ("megatron=nemo1", ("q_proj", "v_proj"), "has not all of q_proj, k_proj, v_proj"),
        ("megatron=nemo1-fused", ("q_proj", "v_proj"), "has not all of q_proj, k_proj, v_proj"),
        ("megatron=nemo9", ALL, "takes fused, nemo1, nemo1-fused"),
    ],
)
def test_what_has_no_such_form_of_megatron_is_told(
    form: str, modules: tuple[str, ...], reason: str, cli: Cli, tmp_path: Path
) -> None:
    wanted = adapter_of(modules)
    adapter = write_adapter(tmp_path / "a", wanted, tiny_config(target_modules=list(modules)))
    code, told = run(cli, adapter, TINY_BASE, "--output", tmp_path / "b", "--allow", form)
    assert code == 0
    assert [(item["name"], reason in item["reason"]) for item in told["skipped"]] == [("megatron", True)]
    same(tmp_path / "b", wanted)


def test_megatrons_canonical_lora_targets_the_parts_that_have_one(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", adapter_of(("q_proj", "v_proj", "down_proj")), tiny_config())
    assert run(cli, adapter, TINY_BASE, "--output", tmp_path / "b", "--allow", "megatron")[0] == 0
    assert json.loads((tmp_path / "b" / CONFIG).read_text())["target_modules"] == ["linear_q", "linear_v", "linear_fc2"]


@pytest.mark.parametrize("name", ["lora_unfused_kqv_adapter", "lora_kqv_adapter.q_adapter"])
def test_half_a_name_of_nemo_1_is_told(name: str, cli: Cli, tmp_path: Path) -> None:
    tensors = as_canonical_nemo(adapter_of(("q_proj", "k_proj", "v_proj")))
    tensors = {n.replace("lora_unfused_kqv_adapter.q_adapter", name): tensor for n, tensor in tensors.items()}
    adapter = write_adapter(tmp_path / "a", tensors, {"peft_type": "LORA", "adapter_dim": RANK, "alpha": 16})
    _, told = run(cli, adapter, TINY_BASE)
    assert any("is no part of a module that is known" in item["reason"] for item in told["skipped"]), told["skipped"]


@pytest.mark.parametrize("kind", ["no base", "one rank of several", "no scale", "a router", "a model without a gate"])
def test_what_is_not_known_of_megatron_is_told(kind: str, cli: Cli, tmp_path: Path) -> None:
    tensors = as_megatron(adapter_of(shared=True), lambda layer, module: f"decoder.layers.{layer}.{module}.adapter")
    config, base = tiny_config(base_model_name_or_path=None), TINY_BASE
    if kind == "one rank of several":
        tensors = {name: t[: len(t) // 2] if "linear_out" in name else t for name, t in tensors.items()}
    elif kind == "no scale":
        del config["lora_alpha"]
    elif kind == "a router":
        tensors["decoder.layers.0.mlp.linear_router.adapter.linear_in.weight"] = np.ones((4, 48), np.float32)
    elif kind == "a model without a gate":
        base = base_of("starcoder2", tmp_path)
    adapter = write_adapter(tmp_path / "a", tensors, config)
    options = () if kind == "no base" else ("--base-config", base)
    told = json.loads(cli("fix", adapter, *options, "--format", "json").out)
    wanted = {
        "no base": "depends on the base model",
        "one rank of several": "rows, and this base model calls for",
        "no scale": "has no r and no lora_alpha",
        "a router": "is no module that transformers has",
        "a model without a gate": "this base model has no model.layers.0.mlp.gate_proj",
    }[kind]
    assert any(item["name"] == "megatron" and wanted in item["reason"] for item in told["skipped"]), told["skipped"]
    assert not (tmp_path / "a-fixed").exists()


# --- kohya -----------------------------------------------------------------------------------------------------------


def as_kohya(tensors: Tensors, alphas: dict[str, float], prefix: str = "lora_te", dtype: Any = np.float32) -> Tensors:
    """What ``networks/lora.py`` writes: underscores for dots, and an alpha beside each pair."""
    made: Tensors = {}
    for name, tensor in tensors.items():
        path, _, half = name.removeprefix(PREFIX).partition(".lora_")
        flat = f"{prefix}_{path.replace('.', '_')}"
        made[f"{flat}.lora_{'down' if half == 'A.weight' else 'up'}.weight"] = tensor
        alpha = alphas.get(path, alphas.get(""))
        if alpha is not None:
            made[f"{flat}.alpha"] = np.array(alpha, dtype)
    return made


def kohya_file(folder: Path, tensors: Tensors, name: str = "my-style.safetensors") -> Path:
    folder.mkdir()
    save_file(tensors, folder / name, {"ss_network_module": "networks.lora"})
    return folder


@pytest.mark.parametrize("prefix", ["lora_te", "lora_te1", "lora_unet"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_kohyas_names_come_back_with_a_config(prefix: str, dtype: Any, cli: Cli, tmp_path: Path) -> None:
    wanted = adapter_of()
    adapter = kohya_file(tmp_path / "a", as_kohya(wanted, {"": 2}, prefix, dtype))
    last = cli("check", adapter, "--base-config", TINY_BASE).out.splitlines()[-1]
    assert last == f"fixable: lora-packer fix {adapter} --base-config {TINY_BASE}"
    code, told = run(cli, adapter, TINY_BASE)
    assert (code, told["status"]) == (0, "fixed"), told["skipped"]
    assert "kohya" in {item["name"] for item in told["repairs"]}
    same(tmp_path / "a-fixed", wanted)
    config = json.loads((tmp_path / "a-fixed" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (RANK, 2, {}, {})
    assert run(cli, tmp_path / "a-fixed", TINY_BASE)[1]["repairs"] == []


def test_kohyas_ranks_and_alphas_are_each_modules_own(cli: Cli, tmp_path: Path) -> None:
    wanted = adapter_of()
    path = "model.layers.1.mlp.up_proj"
    for half, axis in (("A", 0), ("B", 1)):
        name = f"{PREFIX}{path}.lora_{half}.weight"
        wanted[name] = np.ascontiguousarray(np.take(wanted[name], [0, 1], axis))
    adapter = kohya_file(tmp_path / "a", as_kohya(wanted, {"": 1, path: 0.5}))
    assert run(cli, adapter, TINY_BASE)[0] == 0
    same(tmp_path / "a-fixed", wanted)
    config = json.loads((tmp_path / "a-fixed" / CONFIG).read_text())
    assert (config["rank_pattern"], config["alpha_pattern"]) == ({path: 2}, {path: 0.5})


@pytest.mark.parametrize("alphas", [{"": 2}, {"": 1, "model.layers.1.mlp.up_proj": 0.25}])
def test_kohya_to_peft_and_back_is_the_identity(alphas: dict[str, float], cli: Cli, tmp_path: Path) -> None:
    made = as_kohya(adapter_of(), alphas)
    adapter = kohya_file(tmp_path / "a", made)
    assert run(cli, adapter, TINY_BASE)[0] == 0
    code, told = run(cli, tmp_path / "a-fixed", TINY_BASE, "--output", tmp_path / "back", "--allow", "kohya=lora_te")
    assert (code, told["status"]) == (0, "fixed")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["lora.safetensors"]
    found = load_file(tmp_path / "back" / "lora.safetensors")
    assert found.keys() == made.keys()
    for name, tensor in made.items():
        assert (found[name].shape, found[name].tobytes()) == (tensor.shape, tensor.tobytes()), name


def test_peft_to_kohya_and_back_keeps_the_scale_of_rslora(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(use_rslora=True))
    code, _ = run(cli, adapter, TINY_BASE, "--output", tmp_path / "b", "--allow", "kohya")
    assert code == 0
    assert run(cli, tmp_path / "b", TINY_BASE, "--output", tmp_path / "c")[0] == 0
    config = json.loads((tmp_path / "c" / CONFIG).read_text())
    assert (config["lora_alpha"], config["use_rslora"]) == (16, False)  # 8 / sqrt(4) is 16 / 4
    same(tmp_path / "c", load_file(adapter / WEIGHTS))


def test_without_an_alpha_kohyas_is_the_rank(cli: Cli, tmp_path: Path) -> None:
    adapter = kohya_file(tmp_path / "a", as_kohya(adapter_of(), {}))
    assert run(cli, adapter, TINY_BASE)[0] == 0
    config = json.loads((tmp_path / "a-fixed" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["alpha_pattern"]) == (RANK, RANK, {})


@pytest.mark.parametrize("kind", ["no base", "an image model's", "two models'", "no lora_down", "alpha is text"])
def test_what_is_not_known_of_kohya_is_told_and_nothing_written(kind: str, cli: Cli, tmp_path: Path) -> None:
    tensors = as_kohya(adapter_of(), {"": 1})
    first = next(iter(tensors)).partition(".")[0]
    if kind == "an image model's":
        tensors = {name.replace("self_attn", "attn1"): tensor for name, tensor in tensors.items()}
    elif kind == "two models'":
        more = as_kohya(adapter_of(("q_proj",)), {"": 1}, "lora_unet")
        tensors |= more
    elif kind == "no lora_down":
        del tensors[f"{first}.lora_down.weight"]
    elif kind == "alpha is text":
        tensors[f"{first}.alpha"] = np.array([1, 2], np.float32)
    adapter = kohya_file(tmp_path / "a", tensors)
    options = () if kind == "no base" else ("--base-config", TINY_BASE)
    if kind in ("no base", "an image model's", "two models'"):
        report = json.loads(cli("check", adapter, *options, "--format", "json").out)
        assert not all(item["fixable"] for item in report["findings"] if item["code"] == "LP101")
    result = cli("fix", adapter, *options, "--format", "json")
    told = json.loads(result.out)
    wanted = {
        "no base": "known with the base model alone",
        "an image model's": "not every name is that of one module of llama",
        "two models'": "not every name is that of one module of llama",
        "no lora_down": "has no lora_down",
        "alpha is text": "is no number",
    }[kind]
    assert any(item["name"] == "kohya" and wanted in item["reason"] for item in told["skipped"]), told["skipped"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("config", "word", "reason"),
    [({"use_dora": True}, "kohya", "DoRA"), ({"lora_alpha": 0.1}, "kohya", "no float32"), ({}, "kohya=mine", "'mine'")],
)
def test_what_kohya_does_not_know_is_told(
    config: dict[str, Any], word: str, reason: str, cli: Cli, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(**config))
    told = run(cli, adapter, TINY_BASE, "--allow", word)[1]
    assert any(item["name"] == "kohya" and reason in item["reason"] for item in told["skipped"]), told["skipped"]


def test_kohyas_names_in_pefts_files_are_fixable_where_the_base_model_has_them(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", as_kohya(adapter_of(), {"": 1}))
    for base, fixable in ((TINY_BASE, True), (base_of("starcoder2", tmp_path), False)):
        report = json.loads(cli("check", adapter, "--base-config", base, "--format", "json").out)
        assert [item["fixable"] for item in report["findings"] if item["code"] == "LP319"] == [fixable]
        told = run(cli, adapter, base, "--diff")[1]
        assert ("kohya" in {item["name"] for item in told["repairs"]}) is fixable
