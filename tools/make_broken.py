"""Write ``fixtures/broken/``: the tiny adapter, broken in three ways that loaders take or misread.

usage: python tools/make_broken.py
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
ADAPTER = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
BROKEN = ROOT / "fixtures" / "broken"

FIRST_B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


def variants() -> dict[str, dict[str, NDArray[Any]]]:
    """Return the tensors of each broken adapter, by its folder's name."""
    good = load_file(ADAPTER / "adapter_model.safetensors")
    wrong_hidden = {
        name: np.full((tensor.shape[0], 32), 0.01, np.float32) if "lora_A" in name else tensor
        for name, tensor in good.items()
    }
    missing_b = {name: tensor for name, tensor in good.items() if name != FIRST_B}
    with_nan = {name: tensor.copy() for name, tensor in good.items()}
    with_nan[FIRST_B][3, 1] = np.nan
    return {"wrong-hidden-size": wrong_hidden, "missing-lora-b": missing_b, "nan": with_nan}


def main() -> None:
    """Write the folders."""
    for name, tensors in variants().items():
        folder = BROKEN / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ADAPTER / "adapter_config.json", folder / "adapter_config.json")
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
