"""Adapters: what PEFT's two files say, parsed once into frozen values."""

from lora_packer.adapter.adapter import Adapter, Defect, read_adapter
from lora_packer.adapter.config import ConfigProblem, LoraConfig
from lora_packer.adapter.keys import PREFIX
from lora_packer.adapter.safetensors_header import SafetensorsHeader, TensorInfo
from lora_packer.adapter.source import AdapterSource, open_source
from lora_packer.names import CONFIG_NAME, REQUIRED, WEIGHTS_NAME

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
