"""A base model without a definition: its modules from the headers of its own checkpoint.

Only headers are read: of ``model.safetensors`` or of the shards that ``model.safetensors.index.json`` names, in a
folder or (by byte ranges) on the Hub. A checkpoint has the names under which it was saved, which are not always those
of the running model (https://huggingface.co/docs/transformers/main/en/weightconverter), and it does not say of which
class a module is; so shapes can be judged by it, and names only where they agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_packer.adapter.hub_source import HubSource
from lora_packer.adapter.safetensors_header import HeaderError, read_header
from lora_packer.adapter.source import AdapterSource, FolderSource
from lora_packer.base_model.architecture import CHECKPOINT, Proof
from lora_packer.base_model.found_config import config_of
from lora_packer.base_model.load import BaseModel
from lora_packer.base_model.module import Kind, Module
from lora_packer.base_model.named_class import head_of
from lora_packer.base_model.names import cached_repo
from lora_packer.errors import InconclusiveError, InputError, LoraPackerError
from lora_packer.files import is_folder
from lora_packer.hub import Hub, parse_repo, stored_token
from lora_packer.redact import escape

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MAX_INDEX_BYTES = 64_000_000
_MAX_SHARDS = 2_000
_MOST_NAME = 255  # characters of a file's name
_READERS = 8  # of a remote checkpoint's shards, each a wait for two answers

# What the input embedding is called in the models that transformers knows.
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings", "embedding")
# Suffixes of tensors that only packed (quantised) checkpoints have: their shapes are not those of the module.
_PACKED = (".qweight", ".weight_packed", ".weight_scale", ".weight_scale_inv", "_blocks", "_scales", ".absmax", ".SCB")

Tensors = Mapping[str, tuple[int, ...]]


class CheckpointModel(BaseModel):
    """A base model known by its checkpoint's headers alone; its head is the one it was saved with."""

    __slots__ = ()

    @property
    def proof(self) -> Proof | None:
        """None: no definition was needed."""
        return None

    def with_head(self, head: Any) -> BaseModel:  # noqa: ARG002 - a checkpoint has one head
        """Return the model itself."""
        return self

    def with_labels(self, count: int) -> BaseModel:  # noqa: ARG002
        """Return the model itself: its labels are in the file."""
        return self

    def with_vocab(self, vocab_size: int) -> BaseModel:
        """Return the same model after ``resize_token_embeddings(vocab_size)``."""
        modules = dict(self.modules)
        for path, module in self.modules.items():
            if path == self.input_embedding or path.rpartition(".")[2] == "lm_head":
                modules[path] = module._replace(weight_shape=(vocab_size, *module.weight_shape[1:]))
        frozen = MappingProxyType(modules)
        return replace(self, modules=frozen, dialects=MappingProxyType({CHECKPOINT: frozen}))


def load_checkpoint(source: str | Path) -> CheckpointModel:
    """Return the base model whose checkpoint is in a folder or a Hub repo. Raises InconclusiveError, InputError."""
    config, where, _ = config_of(source)
    folder = Path(source)
    if is_folder(folder):
        return from_tensors(config, _tensors(FolderSource(folder)), where)
    repo = parse_repo(cached_repo(str(source)) or str(source))
    try:
        with Hub.from_environment(token=stored_token()) as hub:
            tensors = _tensors(HubSource(hub.snapshot(repo)))
    except LoraPackerError as error:
        raise InconclusiveError(f"the base checkpoint of '{repo.id}' could not be read: {error}") from None
    return from_tensors(config, tensors, where)


def from_tensors(config: Mapping[str, Any], tensors: Tensors, source: str | None) -> CheckpointModel:
    """Return the base model with these tensors (name -> shape). Raises InconclusiveError."""
    packed = next((name for name in tensors if name.endswith(_PACKED)), None)
    if packed is not None or "quantization_config" in config:
        raise InconclusiveError(
            "the base checkpoint is quantised: its headers have packed shapes, not the modules'.",
            hint="Give the full-precision base model's folder or Hub id with --base-config.",
        )
    modules: dict[str, Module] = {}
    for name, shape in tensors.items():
        owner, _, leaf = name.rpartition(".")
        if leaf == "bias" and f"{owner}.weight" in tensors and len(tensors[f"{owner}.weight"]) > 1:
            continue
        if leaf != "weight" or len(shape) < 2:
            modules[name] = Module("parameter", shape)
        elif owner.rpartition(".")[2] in _EMBEDDINGS:
            modules[owner] = Module("embedding", shape)
        else:
            biased = f"{owner}.bias" in tensors
            kind: Kind = "linear" if len(shape) == 2 else "conv"
            modules[owner] = Module(kind, shape, biased, groups=0 if kind == "conv" else 1)
    embeddings = [path for path, module in modules.items() if module.kind == "embedding"]
    if not embeddings:
        raise InconclusiveError("no input embedding was recognised in the base checkpoint's headers.")
    embedding = min(embeddings, key=lambda path: path.count("."))
    head = head_of(config)
    if head == "causal-lm" and not any(path.rpartition(".")[2] == "lm_head" for path in modules):
        modules["lm_head"] = Module("linear", modules[embedding].weight_shape)  # tied, so it is not in the file
    frozen = MappingProxyType(modules)
    model_type = escape(str(config.get("model_type", "unknown")), 60)
    dialects = MappingProxyType({CHECKPOINT: frozen})
    return CheckpointModel(model_type, frozen, dialects, source, head, (), embedding, config)


def _tensors(files: AdapterSource) -> dict[str, tuple[int, ...]]:
    """Read the headers of the checkpoint's files, several at a time. Raises InconclusiveError."""
    names = [_SINGLE] if _SINGLE in files.files() else _shards(files)
    tensors: dict[str, tuple[int, ...]] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for shapes in pool.map(lambda name: _shapes(files, name), names):
            tensors |= shapes
    return tensors


def _shapes(files: AdapterSource, name: str) -> dict[str, tuple[int, ...]]:
    try:
        with files.open(name) as file:
            header = read_header(file, files.size(name))
    except (HeaderError, InputError, OSError) as error:
        raise InconclusiveError(f"the base checkpoint's {escape(name)} cannot be read: {error}") from None
    return {tensor: info.shape for tensor, info in header.tensors.items()}


def _shards(files: AdapterSource) -> list[str]:
    """The files that the index names, all of them beside it. Raises InconclusiveError."""
    if _INDEX not in files.files():
        raise InconclusiveError(
            f"there is neither {_SINGLE} nor {_INDEX} in {files.name!r}.",
            hint="Give the folder of the base model's safetensors checkpoint.",
        )
    if files.size(_INDEX) > _MAX_INDEX_BYTES:
        raise InconclusiveError(f"the base checkpoint's {_INDEX} is too large.")
    try:
        with files.open(_INDEX) as file:
            named = set(json.loads(file.read(_MAX_INDEX_BYTES))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InconclusiveError(f"the base checkpoint's {_INDEX} is not a safetensors index.") from None
    if len(named) > _MAX_SHARDS or not all(isinstance(name, str) and _is_beside(name) for name in named):
        raise InconclusiveError(f"the base checkpoint's {_INDEX} names files outside its folder.")
    return sorted(named)


def _is_beside(name: str) -> bool:
    return Path(name).name == name and name.isprintable() and len(name) < _MOST_NAME
