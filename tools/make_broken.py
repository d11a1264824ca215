"""Write ``fixtures/broken/``: the tiny adapter, broken in three ways that loaders take or misread.

usage: python tools/make_broken.py [--check]     (--check: say what differs, exit 1)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from generated import settle
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

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


def main() -> int:
    """Write the folders, or check them."""
    made: dict[Path, str | bytes] = {}
    for name, tensors in variants().items():
        made[BROKEN / name / "adapter_config.json"] = (ADAPTER / "adapter_config.json").read_bytes()
        made[BROKEN / name / "adapter_model.safetensors"] = save(tensors, {"format": "pt"})
    return settle(made)


if __name__ == "__main__":
    sys.exit(main())
