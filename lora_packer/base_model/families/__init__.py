"""The architectures by family; each module has one mapping, model type -> Architecture."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture
from lora_packer.base_model.families import dense, moe

ARCHITECTURES: Mapping[str, Architecture] = {**dense.ARCHITECTURES, **moe.ARCHITECTURES}
