"""Base models: ``config.json`` -> module tree, without torch."""

from lora_packer.base_model.architecture import Head
from lora_packer.base_model.catalogue import catalogue_config
from lora_packer.base_model.families import ARCHITECTURES
from lora_packer.base_model.load import BaseModel
from lora_packer.base_model.module import Module, Modules

__all__ = ["ARCHITECTURES", "BaseModel", "Head", "Module", "Modules", "catalogue_config"]
