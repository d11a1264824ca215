"""What MLX-LM itself loads of what ``fix`` writes in its layout: every layer's update is the one that PEFT computes.

usage: python tools/fix_in_mlx.py CASES

CASES is what ``fix_cases.py`` wrote. Each adapter is loaded by ``mlx_lm.tuner.utils.load_adapters`` onto a model of
mlx_lm's own classes, on a CPU. Exit 1 where a layer has another update, or none.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import _get_classes
from safetensors.numpy import load_file

PREFIX = "base_model.model."


def model_of(base: dict[str, Any]) -> Any:
    """The model as mlx_lm builds it."""
    model, arguments = _get_classes(base)
    return model(arguments.from_dict(base))


def of_peft(folder: Path) -> dict[str, Any]:
    """The update of each module, (out, in), in float32: what PEFT adds to its weight."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    found = {}
    for name, a in tensors.items():
        if name.endswith(".lora_A.weight"):
            b = tensors[name.replace("lora_A", "lora_B")]
            found[name.removeprefix(PREFIX).removesuffix(".lora_A.weight")] = scale * (b @ a)
    return found


def of_mlx(model: Any) -> dict[str, Any]:
    """The same of a model that has loaded an adapter; an expert has its own."""
    found = {}
    for path, module in model.named_modules():
        if not hasattr(module, "lora_a"):
            continue
        a, b = np.array(module.lora_a), np.array(module.lora_b)
        if a.ndim == 2:
            found[path] = module.scale * (a @ b).T
            continue
        before, _, leaf = path.rpartition(".switch_mlp.")
        for at in range(len(a)):
            found[f"{before}.experts.{at}.{leaf}"] = module.scale * (b[at] @ a[at])
    return found


def main() -> int:
    """Compare all cases."""
    wrong, layers = 0, 0
    cases = sorted(Path(sys.argv[1]).glob("mlx-*"))
    for folder in cases:
        model = load_adapters(model_of(json.loads((folder / "base.json").read_text())), str(folder / "mlx"))
        mx.eval(model.parameters())
        wanted, found = of_peft(folder / "peft"), of_mlx(model)
        off = [path for path in wanted if path not in found or not np.allclose(found[path], wanted[path], atol=1e-6)]
        trained = {path for path, update in found.items() if np.any(update)}
        if off or trained != wanted.keys():
            wrong += 1
            print(f"WRONG {folder.name}: {(off or sorted(trained ^ wanted.keys()))[:3]}")
        layers += len(wanted)
    release = import_module("mlx_lm").__version__
    print(f"mlx_lm {release}: {len(cases)} adapters, {layers} updates, {wrong} wrong")
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
