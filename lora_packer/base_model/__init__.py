"""Base models: ``config.json`` -> module tree, without torch."""

from lora_packer.base_model.architecture import CHECKPOINT, TEXT_ONLY, Head
from lora_packer.base_model.fallback import find_base, find_published
from lora_packer.base_model.load import BaseModel
from lora_packer.base_model.module import Module, Modules
from lora_packer.base_model.registry import ARCHITECTURES

__all__ = [
    "ARCHITECTURES",
    "CHECKPOINT",
    "TEXT_ONLY",
    "BaseModel",
    "Head",
    "Module",
    "Modules",
    "find_base",
    "find_published",
]
