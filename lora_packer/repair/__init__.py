"""Repairs that lose nothing: each is a value that says what it did and why that is right, or why it did nothing."""

from lora_packer.repair.result import Repaired, Skipped

__all__ = ["Repaired", "Skipped"]
