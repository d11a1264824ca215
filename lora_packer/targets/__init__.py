"""Targets: the places that load an adapter, and what each is known to do with one. Data, one file a target."""

from lora_packer.targets.choose import chosen
from lora_packer.targets.load import NAMES, find_target
from lora_packer.targets.target import DEFAULT_TARGET, Effect, Fact, Target

__all__ = ["DEFAULT_TARGET", "NAMES", "Effect", "Fact", "Target", "chosen", "find_target"]
