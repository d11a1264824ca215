"""The names of an adapter's files, as PEFT 0.21.2 writes them at its root (peft/utils/constants.py), and its own."""

from __future__ import annotations

from pathlib import Path

from lora_packer.files import followed

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

REQUIRED = (CONFIG_NAME, WEIGHTS_NAME)
"""What every loader needs: without one of them there is no adapter."""

# Files at an adapter's root that loaders or people read: transformers' tokenizer, processor and generation files
# (its `save_pretrained` writes them) and the model card.
EXTRAS = (
    "LICENSE",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
)


def name_of(path: Path) -> str:
    """Return what to call an adapter: its folder's name, or its archive's without the suffix."""
    name = followed(path).name
    for suffix in (".tar.gz", ".zip"):
        name = name.removesuffix(suffix)
    return name or "adapter"
