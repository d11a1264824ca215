"""What a base model is called: on the Hub, by a service that hosts it, as a quantised copy, as a path on a disk.

The names of the service: docs.together.ai/docs/adapter-upload ("Base Model String") and its model lists. Cache paths:
huggingface_hub/file_download.py::repo_folder_name, and ModelScope's, which writes a dot as three underscores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What services and quantisers append to a base model's name. The weights' logical shapes stay the base's. "-Lite" is
# none of them alone: DeepSeek-V2-Lite is a model of its own, while Meta-Llama-3-8B-Instruct-Lite is a quantised copy.
_OF_A_COPY = re.compile(
    r"(?:[-_.](?:turbo|reference|tput|free|lora|fp8|nvfp4|mxfp4|fp4|bf16|fp16|awq|gptq|gguf|exl2|mlx|[34568]bit|int4|"
    r"int8|w4a16|w8a8|w8a16|bnb|unsloth|dynamic|quantized|hf)|(?<=instruct)-lite)$"
)
# What the service appends to the Hub's name of a base that it hosts.
_OF_THE_SERVICE = re.compile(r"(?:-(?:turbo|reference|tput|free|lora|fp8)|(?<=instruct)-lite)+$", re.IGNORECASE)
_IRREGULAR = {
    "meta-llama/llama-3-8b-hf": "meta-llama/Meta-Llama-3-8B",
    "meta-llama/llama-3-8b-chat-hf": "meta-llama/Meta-Llama-3-8B-Instruct",
    "meta-llama/llama-3-70b-hf": "meta-llama/Meta-Llama-3-70B",
    "meta-llama/llama-3-70b-chat-hf": "meta-llama/Meta-Llama-3-70B-Instruct",
    "meta-llama/llama-vision-free": "meta-llama/Llama-3.2-11B-Vision-Instruct",
}
# The service's own organisation, under which it has copies of other organisations' models.
_SERVICE = "togethercomputer"

_CACHED = re.compile(r"(?:^|/)models--(?:([^/]+?)--)?([^/]+?)(?:/|$)")


def cached_repo(name: str) -> str | None:
    """Return the repository whose place in the Hub's cache a path is: ``.../models--org--name/snapshots/...``."""
    found = _CACHED.search(_slashes(name))
    return None if found is None else "/".join(part for part in found.groups() if part)


def hosted_as(hosted: str) -> str | None:
    """Return the Hub id of a base model that the service has under a name of its own; None for any other name.

    ``meta-llama/Meta-Llama-3.1-8B-Instruct-Reference`` is ``meta-llama/Meta-Llama-3.1-8B-Instruct``.
    """
    irregular = _IRREGULAR.get(hosted.lower())
    if irregular is not None:
        return irregular
    plain = _OF_THE_SERVICE.sub("", hosted)
    return plain if plain != hosted and plain.rpartition("/")[2] else None


def find_id(name: str, known: Iterable[str]) -> str | None:
    """Return which of the known ids is this one, whatever its case; Meta's repositories have two names each.

    What the service has under its own organisation may be any organisation's.
    """
    organisation, _, last = name.lower().rpartition("/")
    for other in known:
        owner, _, model = other.lower().rpartition("/")
        if _without_meta(model) == _without_meta(last) and organisation in (owner, _SERVICE):
            return other
    return None


def same_base(one: str, other: str) -> bool:
    """Whether two names mean the same base model, as far as names tell.

    By their last parts: of an id, of a path on any system, of a place in a cache; a quantised copy and the service's
    own name are the same base.
    """
    return bool(_spellings(one) & _spellings(other))


def plain_name(name: str) -> str:
    """Return a model's name in lower case, without organisation, folders, and what a copy's name has besides."""
    name = _IRREGULAR.get(name.lower(), name)
    path = _slashes(name)
    repo = cached_repo(path)
    last = (repo or path).rpartition("/")[2].partition("@")[0].replace("___", ".").lower()
    plain = _without_meta(last)
    while (shorter := _OF_A_COPY.sub("", plain)) != plain:
        plain = shorter
    return plain


def _spellings(name: str) -> set[str]:
    """How a model may be called: plainly, and as a folder that has its organisation before it."""
    plain = plain_name(name)
    organisation = (cached_repo(name) or _slashes(name)).rpartition("/")[0].rpartition("/")[2].lower()
    before = {f"{organisation}{between}{plain}" for between in ("_", "--")} if organisation and plain else set()
    return {spelling for spelling in (plain, *before) if spelling}


def _without_meta(name: str) -> str:
    return re.sub(r"^meta-(?=llama-[^-])", "", name)


def _slashes(name: str) -> str:
    return name.replace("\\", "/").rstrip("/")
