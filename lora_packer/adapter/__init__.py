"""Adapters: what PEFT's two files say, parsed once into frozen values."""

from lora_packer.adapter.adapter import REQUIRED, Adapter, Defect, read_adapter
from lora_packer.adapter.config import CONFIG_NAME, ConfigProblem, LoraConfig
from lora_packer.adapter.keys import PREFIX, WEIGHTS_NAME
from lora_packer.adapter.safetensors_header import SafetensorsHeader, TensorInfo
from lora_packer.adapter.source import AdapterSource, open_source

__all__ = [
    "CONFIG_NAME",
    "PREFIX",
    "REQUIRED",
    "WEIGHTS_NAME",
    "Adapter",
    "AdapterSource",
    "ConfigProblem",
    "Defect",
    "LoraConfig",
    "SafetensorsHeader",
    "TensorInfo",
    "open_source",
    "read_adapter",
]
