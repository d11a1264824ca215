"""The grammar of tensor names: ``base_model.model.<module path>.<part>``.

``peft/utils/save_and_load.py::get_peft_model_state_dict`` writes them; the adapter's own name (``.default.``) is
removed on the way. See https://huggingface.co/docs/peft/developer_guides/checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

from lora_packer.names import WEIGHTS_NAME as WEIGHTS_NAME

PREFIX = "base_model.model."

# What stands before the number of an expert that is a module of its own.
EXPERTS = ".experts."

# What PEFT puts behind a module's path. Anything else behind the prefix is a parameter of the base model itself.
_PART = re.compile(
    r"""\.(?P<part>
      lora_(?:A|B)(?:\.(?P<name>[^.]+))?\.weight | lora_B(?:\.(?P<name2>[^.]+))?\.bias
    | lora_(?:A|B)(?:\.(?P<name10>default))?
    | lora_embedding_[AB](?:\.(?P<name3>(?!weight$)[^.]+))?
    | lora_magnitude_vector(?:\.(?P<name4>(?!weight$)[^.]+))?(?:\.weight)?
    | lora_diag(?:\.(?P<name5>[^.]+))?
    | lora_velora_embed(?:\.(?P<name6>[^.]+))?
    | lora_monteclora_sampler(?:\.(?P<name7>[^.]+(?=\.)))?\.[^.]+
    | token_adapter\.trainable_tokens_delta(?:\.(?P<name9>[^.]+))?
    | token_adapter\.base_layer\.(?:weight|bias)
    | base_layer\.(?:weight|bias)
    )$""",
    re.VERBOSE,
)

# Segments that training wrappers leave in a name: torch.compile, FSDP (and fairscale's), activation checkpointing,
# PyTorch Lightning, and torch's data-parallel wrappers.
WRAPPER_SEGMENTS = frozenset(
    {
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_fpw_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
        "module",
    }
)

# The two halves of an update, each with the other one.
PAIRED = {
    "lora_A.weight": "lora_B.weight",
    "lora_B.weight": "lora_A.weight",
    "lora_embedding_A": "lora_embedding_B",
    "lora_embedding_B": "lora_embedding_A",
}


_MOST_KEPT, _USUAL = 4096, 400  # names, characters: some megabytes at most

Told = TypeVar("Told")


def kept(work: Callable[[str], Told]) -> Callable[[str], Told]:
    """Keep what a function tells of names of usual length: adapters of one base model have the same names."""
    keep = lru_cache(maxsize=_MOST_KEPT)(work)
    return lambda name: keep(name) if len(name) < _USUAL else work(name)


class TensorKey(NamedTuple):
    """A tensor's name, taken apart.

    Attributes:
        path: the module's path in the base model, without the prefix.
        part: what it is of that module, without an adapter name: ``lora_A.weight``, ``lora_embedding_B``, ... or ``""``
            where the name is that of a parameter of the base model (``path`` is then the whole of it).
        adapter_name: the adapter name that was left in (``default``), or None.
        prefixed: whether the name begins with PEFT's prefix.
    """

    path: str
    part: str
    adapter_name: str | None
    prefixed: bool


def parse_key(name: str) -> TensorKey:
    """Take a tensor's name apart."""
    at = name.find(".lora_")
    if at >= 0 and (part := name[at + 1 :]) in PAIRED:  # as nearly all are, of which there may be a hundred thousand
        prefixed = name.startswith(PREFIX)
        return TensorKey(name[len(PREFIX) if prefixed else 0 : at], part, None, prefixed)
    return _parsed(name)


@kept
def _parsed(name: str) -> TensorKey:
    prefixed = name.startswith(PREFIX)
    rest = name[len(PREFIX) :] if prefixed else name
    match = _PART.search("." + rest)
    if match is None:
        return TensorKey(rest, "", None, prefixed)
    adapter_name = next((value for key, value in match.groupdict().items() if key != "part" and value), None)
    part = match["part"]
    if adapter_name is not None:
        part = part.replace(f".{adapter_name}", "", 1)
    if part == "lora_magnitude_vector.weight":
        part = "lora_magnitude_vector"
    return TensorKey(rest[: max(0, match.start() - 1)] if match.start() else "", part, adapter_name, prefixed)


def around_expert(name: str) -> tuple[str, str, str]:
    """Return what stands before the number of a single expert, the number, and what follows; else the name, "", "".

    All experts of a layer have the same parts, so what holds for one of them holds for hundreds.
    """
    before, _, behind = name.partition(EXPERTS)
    number, _, part = behind.partition(".")
    return (before, number, part) if number.isdecimal() else (name, "", "")


def key_name(path: str, part: str) -> str:
    """Return the name that PEFT writes for this part of this module."""
    return f"{PREFIX}{path}.{part}" if part else f"{PREFIX}{path}"


def canonical_name(name: str) -> str:
    """Return the name without an adapter name and without the optional ``.weight`` of a magnitude vector."""
    key = parse_key(name)
    joined = f"{key.path}.{key.part}" if key.part and key.path else key.path or key.part
    return PREFIX + joined if key.prefixed else joined


def layer_index(path: str) -> int | None:
    """Return the first number among the path's segments: the layer's index."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return int(match[1]) if match else None


def layer_of(path: str) -> str:
    """Return the path up to the first number among its segments, such as ``model.layers.3``; "" where there is none."""
    match = re.match(r"(?:.*?\.)?\d+(?=\.|$)", path)
    return match[0] if match else ""


def without_index(path: str) -> str:
    """Return the path with every number replaced, so that the same module of every layer has one name."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "N", path)
