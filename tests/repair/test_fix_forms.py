"""``fix`` between layouts: MLX-LM's and PEFT's, experts one by one and fused, rsLoRA and patterns folded."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, ROOT, TINY_BASE, Tensors, tiny_config, tiny_tensors, write_adapter
from safetensors.numpy import load_file, save_file

Cli = Callable[..., Any]
WEIGHTS, CONFIG, MLX = "adapter_model.safetensors", "adapter_config.json", "adapters.safetensors"
QWEN = ROOT / "fixtures" / "loading" / "qwen3_moe.json"
RNG = np.random.default_rng(11)


def numbers(shape: tuple[int, ...]) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def run(cli: Cli, adapter: Path, base: Path, output: Path, *more: object) -> dict[str, Any]:
    result = cli("fix", adapter, "--base-config", base, "--output", output, "--format", "json", *more)
    told: dict[str, Any] = json.loads(result.out)
    assert result.code == 0, told
    return told


def same_tensors(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert (one[name].dtype, one[name].shape) == (other[name].dtype, other[name].shape), name
        assert one[name].tobytes() == other[name].tobytes(), name


def updates(folder: Path) -> dict[str, Any]:
    """Each module's update in float64, with its scale: what is added to the base model's weight."""
    tensors, config = load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text())
    found = {}
    for name, a in tensors.items():
        if name.endswith(".lora_A.weight"):
            path = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            rank = a.shape[0]
            alpha = next(
                (v for k, v in (config.get("alpha_pattern") or {}).items() if path == k or path.endswith(f".{k}")),
                config["lora_alpha"],
            )
            scale = (
                alpha / rank**0.5
                if config.get("use_rslora")
                else alpha / (config["r"] if rank == config["r"] else rank)
            )
            b = tensors[name.replace("lora_A", "lora_B")]
            found[path] = scale * (b.astype(np.float64) @ a.astype(np.float64))
    return found


# --- MLX-LM ----------------------------------------------------------------------------------------------------------


def mlx_adapter(folder: Path, layers: tuple[int, ...] = (0, 1), scale: float = 20.0) -> tuple[Path, Tensors]:
    tensors = {}
    for layer in layers:
        for module, out in (("self_attn.q_proj", 64), ("self_attn.v_proj", 32)):
            tensors[f"model.layers.{layer}.{module}.lora_a"] = numbers((48, 4))
            tensors[f"model.layers.{layer}.{module}.lora_b"] = numbers((4, out))
    folder.mkdir()
    save_file(tensors, folder / MLX)
    parameters = {"rank": 4, "scale": scale, "dropout": 0.0, "keys": ["self_attn.q_proj", "self_attn.v_proj"]}
    config = {"fine_tune_type": "lora", "num_layers": len(layers), "lora_parameters": parameters, "model": "tiny/llama"}
    (folder / CONFIG).write_text(json.dumps({**config, "batch_size": 4, "iters": 1000, "train": True}))
    return folder, tensors


@pytest.mark.parametrize(("layers", "scale"), [((0, 1), 20.0), ((1,), 0.1), ((0, 1), 10 / 3)])
def test_mlx_to_peft_and_back_is_the_identity(layers: tuple[int, ...], scale: float, cli: Cli, tmp_path: Path) -> None:
    adapter, tensors = mlx_adapter(tmp_path / "mlx", layers, scale)
    report = json.loads(cli("check", adapter, "--base-config", TINY_BASE, "--format", "json").out)
    assert all(item["fixable"] for item in report["findings"] if item["code"] == "LP101")
    told = run(cli, adapter, TINY_BASE, tmp_path / "peft")
    assert "mlx" in {item["name"] for item in told["repairs"]}
    assert told["status"] == "fixed"
    config = json.loads((tmp_path / "peft" / CONFIG).read_text())
    assert config["lora_alpha"] / config["r"] == scale
    found = load_file(tmp_path / "peft" / WEIGHTS)
    for name, tensor in tensors.items():
        path = PREFIX + name[:-1] + name[-1].upper() + ".weight"
        assert found[path].tobytes() == np.ascontiguousarray(tensor.T).tobytes()
    told = run(cli, tmp_path / "peft", TINY_BASE, tmp_path / "back", "--allow", "mlx")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [CONFIG, MLX]
    same_tensors(load_file(tmp_path / "back" / MLX), tensors)
    before, after = (json.loads((tmp_path / name / CONFIG).read_text()) for name in ("mlx", "back"))
    assert after == {name: before[name] for name in ("fine_tune_type", "num_layers", "lora_parameters", "model")}


def test_mlx_experts_are_one_module(cli: Cli, tmp_path: Path) -> None:
    base = QWEN
    config = json.loads(base.read_text())
    experts, hidden, inner = config["num_experts"], config["hidden_size"], config["moe_intermediate_size"]
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for leaf, (out, width) in {
            "gate_proj": (inner, hidden),
            "up_proj": (inner, hidden),
            "down_proj": (hidden, inner),
        }.items():
            path = f"model.layers.{layer}.mlp.switch_mlp.{leaf}"
            tensors[f"{path}.lora_a"], tensors[f"{path}.lora_b"] = (
                numbers((experts, 3, width)),
                numbers((experts, out, 3)),
            )
    (tmp_path / "mlx").mkdir()
    save_file(tensors, tmp_path / "mlx" / MLX)
    keys = sorted(f"mlp.switch_mlp.{leaf}" for leaf in ("gate_proj", "up_proj", "down_proj"))
    parameters = {"rank": 3, "scale": 2.0, "dropout": 0.0, "keys": keys}
    written = {
        "fine_tune_type": "lora",
        "num_layers": config["num_hidden_layers"],
        "lora_parameters": parameters,
        "model": None,
    }
    (tmp_path / "mlx" / CONFIG).write_text(json.dumps(written))
    run(cli, tmp_path / "mlx", base, tmp_path / "peft")
    run(cli, tmp_path / "peft", base, tmp_path / "back", "--allow", "mlx")
    same_tensors(load_file(tmp_path / "back" / MLX), tensors)
    assert json.loads((tmp_path / "back" / CONFIG).read_text()) == written


def test_mlx_without_a_scale_is_told(cli: Cli, tmp_path: Path) -> None:
    adapter, _ = mlx_adapter(tmp_path / "mlx")
    config = json.loads((adapter / CONFIG).read_text())
    del config["lora_parameters"]["scale"]
    (adapter / CONFIG).write_text(json.dumps(config))
    result = cli("fix", adapter, "--base-config", TINY_BASE, "--format", "json")
    told = json.loads(result.out)
    assert result.code == 1
    assert any("has no scale" in item["reason"] for item in told["skipped"])


def test_what_mlx_does_not_know_is_told(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(alpha_pattern={"q_proj": 16}))
    result = cli("fix", adapter, "--base-config", TINY_BASE, "--allow", "mlx", "--format", "json")
    told = json.loads(result.out)
    assert any("alpha_pattern" in item["reason"] for item in told["skipped"])
    assert (tmp_path / "a-fixed" / WEIGHTS).exists()


# --- experts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    with tarfile.open(ROOT / "fixtures" / "peft-adapters.tar.xz") as file:
        wanted = [member for member in file if "mixtral" in member.name]
        file.extractall(folder, wanted, filter="data")
    return folder


def with_numbers(source: Path, folder: Path, **changes: Any) -> tuple[Path, Tensors]:
    tensors = {name: numbers(tensor.shape) for name, tensor in load_file(source / WEIGHTS).items()}
    config = json.loads((source / CONFIG).read_text()) | changes
    return write_adapter(folder, tensors, config), tensors


def one_by_one(folder: Path) -> tuple[Path, Tensors]:
    """A LoRA on every expert of a tiny Qwen3-MoE, as transformers 4 has them, and on its attention."""
    config = json.loads(QWEN.read_text())
    hidden, inner = config["hidden_size"], config["moe_intermediate_size"]
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        path = f"{PREFIX}model.layers.{layer}.self_attn.o_proj"
        heads = config["num_attention_heads"] * config["head_dim"]
        tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = numbers((3, heads)), numbers((hidden, 3))
        for at in range(config["num_experts"]):
            for leaf, (out, width) in {
                "gate_proj": (inner, hidden),
                "up_proj": (inner, hidden),
                "down_proj": (hidden, inner),
            }.items():
                path = f"{PREFIX}model.layers.{layer}.mlp.experts.{at}.{leaf}"
                tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = (
                    numbers((3, width)),
                    numbers((out, 3)),
                )
    targets = ["o_proj", "gate_proj", "up_proj", "down_proj"]
    return write_adapter(folder, tensors, tiny_config(r=3, lora_alpha=7, target_modules=targets)), tensors


@pytest.mark.parametrize("model_type", ["qwen3_moe", "mixtral"])
def test_experts_fused_and_cut_again_are_the_identity(model_type: str, cli: Cli, corpus: Path, tmp_path: Path) -> None:
    source = corpus / "peft-0.18-transformers-4.57" / "mixtral-alllinear"
    base = QWEN if model_type == "qwen3_moe" else source / "base_config.json"
    adapter, tensors = one_by_one(tmp_path / "a") if base == QWEN else with_numbers(source, tmp_path / "a")
    assert any(".experts.0." in name for name in tensors)
    told = run(cli, adapter, base, tmp_path / "fused", "--allow", "fused-experts", "--target", "peft")
    assert "fused-experts" in {item["name"] for item in told["repairs"]}, told["skipped"]
    fused = load_file(tmp_path / "fused" / WEIGHTS)
    assert any(".experts.base_layer.lora_A" in name for name in fused)
    assert not any(".experts.0." in name for name in fused)
    told = run(cli, tmp_path / "fused", base, tmp_path / "back", "--allow", "per-expert", "--target", "peft")
    assert "per-expert" in {item["name"] for item in told["repairs"]}, told["skipped"]
    back = load_file(tmp_path / "back" / WEIGHTS)
    same_tensors(
        {n: t for n, t in back.items() if ".experts." in n}, {n: t for n, t in tensors.items() if ".experts." in n}
    )
    before, after = (json.loads((tmp_path / name / CONFIG).read_text()) for name in ("a", "back"))
    for config in (before, after):
        config["target_modules"] = {name.rpartition(".")[2] for name in config["target_modules"]}
    assert (after["r"], after["lora_alpha"], after["rank_pattern"]) == (
        before["r"],
        before["lora_alpha"],
        before["rank_pattern"],
    )
    assert after["alpha_pattern"] == before["alpha_pattern"]


def test_a_target_lost_on_single_experts_is_fixable_and_comes_back(cli: Cli, tmp_path: Path) -> None:
    adapter, tensors = one_by_one(tmp_path / "a")
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | {"target_modules": ["o_proj", "gate_proj", "up_proj"]}))
    options = ("--base-config", QWEN, "--target", "peft", "--format", "json")
    report = json.loads(cli("check", adapter, *options).out)
    assert [(item["code"], item["fixable"]) for item in report["findings"] if item["severity"] == "error"] == [
        ("LP313", True)
    ]
    told = run(cli, adapter, QWEN, tmp_path / "b", "--target", "peft")
    assert (told["status"], [item["code"] for item in told["repairs"]]) == ("fixed", ["LP313"])
    found = load_file(tmp_path / "b" / WEIGHTS)
    assert all(found[name].tobytes() == tensor.tobytes() for name, tensor in tensors.items())
    assert sorted(json.loads((tmp_path / "b" / CONFIG).read_text())["target_modules"]) == sorted(
        config["target_modules"]
    )


def test_experts_that_were_trained_as_one_are_cut_with_their_whole_rank(cli: Cli, tmp_path: Path) -> None:
    base = json.loads(QWEN.read_text())
    hidden, inner, experts = base["hidden_size"], base["moe_intermediate_size"], base["num_experts"]
    tensors = {}
    for layer in range(base["num_hidden_layers"]):
        path = f"{PREFIX}model.layers.{layer}.mlp.experts"
        shapes = {".base_layer": (2 * inner, hidden), "": (hidden, inner)}
        for suffix, (out, width) in shapes.items():
            tensors[f"{path}{suffix}.lora_A.weight"] = numbers((4 * experts, width))
            tensors[f"{path}{suffix}.lora_B.weight"] = numbers((out, 4 * experts))
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    adapter = write_adapter(tmp_path / "a", tensors, tiny_config(target_modules=[], target_parameters=names))
    config = json.loads((adapter / CONFIG).read_text())
    told = run(cli, adapter, QWEN, tmp_path / "cut", "--allow", "per-expert", "--target", "peft")
    assert "per-expert" in {item["name"] for item in told["repairs"]}, told["skipped"]
    cut = load_file(tmp_path / "cut" / WEIGHTS)
    holder = next(name for name in tensors if ".experts.base_layer.lora_A" in name).removesuffix(
        ".base_layer.lora_A.weight"
    )
    a, b = tensors[f"{holder}.base_layer.lora_A.weight"], tensors[f"{holder}.base_layer.lora_B.weight"]
    rank = a.shape[0] // experts
    for at in range(experts):
        whole = b.reshape(b.shape[0], rank, experts)[:, :, at] @ a.reshape(experts, rank, -1)[at]
        gate = cut[f"{holder}.{at}.gate_proj.lora_B.weight"] @ cut[f"{holder}.{at}.gate_proj.lora_A.weight"]
        up = cut[f"{holder}.{at}.up_proj.lora_B.weight"] @ cut[f"{holder}.{at}.up_proj.lora_A.weight"]
        np.testing.assert_allclose(np.concatenate([gate, up]), whole, rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "cut" / CONFIG).read_text())["r"] == config["r"]


# --- the scale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("r", "alpha"), [(4, 8), (4, 16), (4, 5), (4, 3.7)])
def test_rslora_is_folded_into_alpha(r: int, alpha: float, cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(use_rslora=True, r=r, lora_alpha=alpha))
    told = run(cli, adapter, TINY_BASE, tmp_path / "b", "--allow", "plain-scale")
    assert [item["name"] for item in told["repairs"]] == ["rslora"]
    config = json.loads((tmp_path / "b" / CONFIG).read_text())
    assert config["use_rslora"] is False
    assert config["lora_alpha"] / r == alpha / r**0.5
    assert (tmp_path / "b" / WEIGHTS).read_bytes() == (tmp_path / "a" / WEIGHTS).read_bytes()
    again = run(cli, tmp_path / "b", TINY_BASE, tmp_path / "c", "--allow", "plain-scale")
    assert again["status"] == "unchanged"


def patterned(ranks: dict[str, int]) -> Tensors:
    tensors = {}
    for name, tensor in tiny_tensors().items():
        rank = next((rank for leaf, rank in ranks.items() if leaf in name), 4)
        shape = (rank, tensor.shape[1]) if "lora_A" in name else (tensor.shape[0], rank)
        tensors[name] = numbers(shape)
    return tensors


@pytest.mark.parametrize(
    ("ranks", "alphas", "rslora"),
    [
        ({"v_proj": 2}, {}, False),
        ({}, {"v_proj": 32}, False),
        ({"v_proj": 2}, {"q_proj": 2}, False),
        ({"v_proj": 16}, {}, True),
    ],
)
def test_patterns_are_folded_where_nothing_is_rounded(
    ranks: dict[str, int], alphas: dict[str, float], rslora: bool, cli: Cli, tmp_path: Path
) -> None:
    config = tiny_config(rank_pattern=ranks, alpha_pattern=alphas, use_rslora=rslora)
    adapter = write_adapter(tmp_path / "a", patterned(ranks), config)
    told = run(cli, adapter, TINY_BASE, tmp_path / "b", "--allow", "plain-scale")
    assert [item["name"] for item in told["repairs"]] == ["patterns"], told["skipped"]
    after = json.loads((tmp_path / "b" / CONFIG).read_text())
    assert (after["rank_pattern"], after["alpha_pattern"], after["use_rslora"]) == ({}, {}, False)
    before_updates, after_updates = updates(tmp_path / "a"), updates(tmp_path / "b")
    for path, update in before_updates.items():
        np.testing.assert_array_equal(update, after_updates[path])


def test_a_scale_that_would_round_is_left(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(alpha_pattern={"v_proj": 24}))
    told = run(cli, adapter, TINY_BASE, tmp_path / "b", "--allow", "plain-scale")
    assert (told["status"], told["skipped"][0]["name"]) == ("unchanged", "patterns")
    assert "no power of two" in told["skipped"][0]["reason"]


def test_numbers_at_the_edge_are_not_scaled(cli: Cli, tmp_path: Path) -> None:
    tensors = tiny_tensors()
    for module in ("q_proj", "v_proj"):
        name = f"{PREFIX}model.layers.0.self_attn.{module}.lora_B.weight"
        tensors[name] = tensors[name].copy()
        tensors[name][0, 0] = np.float32(1e-40)  # subnormal: halving may lose its last bit
    adapter = write_adapter(tmp_path / "a", tensors, tiny_config(alpha_pattern={"v_proj": 4}))
    told = run(cli, adapter, TINY_BASE, tmp_path / "b", "--allow", "plain-scale")
    assert told["status"] == "unchanged"
    assert "too small or too large" in told["skipped"][0]["reason"]


@pytest.mark.parametrize(
    ("case", "fixable"),
    [
        ("peft-0.21-transformers-5.23/mixtral-rslora", True),
        ("peft-0.18-transformers-4.57/mixtral-alllinear", False),
        ("peft-0.21-transformers-5.23/mixtral-tparams", True),
        ("peft-0.18-transformers-4.57/mixtral-tparams", False),
    ],
)
def test_a_lost_prefix_that_peft_adds_is_fixable_where_nothing_else_is_renamed(
    case: str, fixable: bool, cli: Cli, corpus: Path, tmp_path: Path
) -> None:
    source = corpus / case
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(source / WEIGHTS).items()}
    adapter = write_adapter(tmp_path / "a", tensors, json.loads((source / CONFIG).read_text()))
    options = ("--base-config", source / "base_config.json", "--target", "peft")
    report = json.loads(cli("check", adapter, *options, "--format", "json").out)
    assert [item["fixable"] for item in report["findings"] if item["code"] == "LP321"] == [fixable]
    told = run(cli, adapter, source / "base_config.json", tmp_path / "b", "--target", "peft")
    assert [item["name"] for item in told["repairs"]] == ["names"]
    assert ("LP321" in {item["code"] for item in told["check"]["findings"]}) is not fixable
