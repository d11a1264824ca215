"""The names of an adapter's files, as PEFT 0.21.2 writes them at its root (peft/utils/constants.py)."""

from __future__ import annotations

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

REQUIRED = (CONFIG_NAME, WEIGHTS_NAME)
"""What every loader needs: without one of them there is no adapter."""
