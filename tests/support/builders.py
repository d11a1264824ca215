"""Small adapters for tests: PEFT's two files, from a dict of shapes or arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
TINY_BASE = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"
FIXTURES_PICKLED = ROOT / "fixtures" / "pickled"
PREFIX = "base_model.model."

Tensors = dict[str, NDArray[Any]]


def tiny_tensors() -> Tensors:
    return dict(load_file(TINY / "adapter_model.safetensors"))


def tiny_config(**changes: Any) -> dict[str, Any]:
    config = json.loads((TINY / "adapter_config.json").read_text())
    config.update(changes)
    return {key: value for key, value in config.items() if value is not ...}


def write_adapter(
    folder: Path, tensors: Mapping[str, NDArray[Any]] | None = None, config: Mapping[str, Any] | str | None = None
) -> Path:
    """Write both files; what is not given is the tiny adapter's."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        dict(tiny_tensors() if tensors is None else tensors), folder / "adapter_model.safetensors", {"format": "pt"}
    )
    text = config if isinstance(config, str) else json.dumps(tiny_config() if config is None else config)
    (folder / "adapter_config.json").write_text(text)
    return folder


def renamed(change: Any) -> Tensors:
    return {change(name): tensor for name, tensor in tiny_tensors().items()}


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


def raw_safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with exactly this header (an object, or the bytes themselves)."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data
