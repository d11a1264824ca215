"""Whisper's encoder below a language model, as several types have it."""

from __future__ import annotations

from lora_packer.base_model.blocks.composite import Tower, fixed
from lora_packer.base_model.blocks.hearing import RENAMED_NAMES, whisper_encoder

WHISPER_PART = fixed("audio_config", Tower("audioflamingo3_encoder", whisper_encoder), attribute_map=RENAMED_NAMES)
