"""What to do where a file of an adapter is not at the root: which of the folders below, or which name, is meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Literal

from lora_packer.names import CONFIG_NAME, REQUIRED, WEIGHTS_NAME
from lora_packer.redact import escape

Holder = Literal["folder", "archive", "repo"]

MLX_WEIGHTS = "adapters.safetensors"  # github.com/ml-explore/mlx-lm mlx_lm/lora.py
_PICKLES = ("adapter_model.bin", "adapter_model.pt")
_WHOLE_MODEL = re.compile(r"(?:diffusion_pytorch_)?model(?:-\d+-of-\d+)?\.safetensors")
# What trainers call the copy that a preference is measured against: no training is in it
# (https://huggingface.co/docs/trl/dpo_trainer, "Using option 3").
_REFERENCE = re.compile(r"ref(?:erence)?(?:[-_.].*)?", re.IGNORECASE)
_NOT_OURS = (".", "__MACOSX")  # editors' copies, and what macOS puts into archives
SHARD_INDEX = f"{WEIGHTS_NAME}.index.json"
_SHARD = re.compile(r"(?P<stem>[\w-]+?)-\d{1,6}-of-(?P<of>\d{1,6})\.(?:safetensors|bin)")
DISTRIBUTED_METADATA = ".metadata"  # torch/distributed/checkpoint/filesystem.py::_metadata_fn
_NUMBER = re.compile(r"(\d{1,18})")
_SHOWN = 3


def next_step(name: str, files: Sequence[str], holder: Holder) -> str:
    """Say what to do without ``name`` at the root of a folder, an archive or a repo that has these files.

    ``files`` are paths with slashes. A folder is proposed only where it has both files of an adapter.
    """
    below = _folders_with(files, *REQUIRED)
    if below:
        return f"It is in {_chosen(below, holder)}"
    twin = next((item for item in files if item.lower() == name), None)
    if twin:
        again = {"folder": "", "archive": " and pack it again", "repo": " in the repo"}[holder]
        return f"There is '{escape(twin)}': names are case-sensitive, rename it{again}."
    half = _folders_with(files, name)
    if half:
        other = WEIGHTS_NAME if name == CONFIG_NAME else CONFIG_NAME
        there = f"There is one in the folder {_quoted(half[0])}, without {other}"
        return f"{there}: put the two files of one adapter side by side."
    pickled = next((item for item in files if item in _PICKLES), None)
    if name == WEIGHTS_NAME and pickled:
        save = "save the adapter as safetensors (PEFT's save_pretrained does so by default)"
        return f"There is {pickled}, a pickle, which is never opened here: {save}."
    others = [item for item in files if item.endswith(".safetensors") and "/" not in item]
    if name == WEIGHTS_NAME and others:
        if _WHOLE_MODEL.fullmatch(others[0]):
            whole = "a whole model's weights"
            return f"There is '{escape(others[0])}', {whole}: save the adapter itself with PEFT's save_pretrained."
        mlx = ", as MLX names it" if others[0] == MLX_WEIGHTS else ""
        return f"There is '{escape(others[0])}'{mlx}: export the adapter in PEFT's format."
    verb = {"folder": "Give", "archive": "Pack", "repo": "Upload to the repo's root"}[holder]
    return f"{verb} {'what' if holder == 'repo' else 'the folder that'} PEFT's save_pretrained wrote."


def folder_meant(files: Sequence[str]) -> str | None:
    """Return which folder below the root the adapter is in, or None where there is none, or several that may be.

    Of checkpoints it is the newest; the copy that training is compared with is never meant.
    """
    below = _folders_with(files, *REQUIRED) or sorted(
        {folder for name in (*_PICKLES, SHARD_INDEX) for folder in _folders_with(files, CONFIG_NAME, name)}
    )
    candidates = [item for item in below if not _is_reference(item)]
    return candidates[0] if len(candidates) == 1 else _newest(candidates) if candidates else None


def weights_meant(files: Sequence[str]) -> tuple[str, ...]:
    """Return the files at the root that together are an adapter's weights; none where it is not sure which are."""
    if WEIGHTS_NAME in files:
        return (WEIGHTS_NAME,)
    distributed = _distributed(files)
    if distributed:
        return distributed
    at_root = [item for item in files if "/" not in item]
    shards = sorted(item for item in at_root if (found := _SHARD.fullmatch(item)) and "adapter" in found["stem"])
    if shards:
        of = {int(found["of"]) for item in shards if (found := _SHARD.fullmatch(item))}
        return tuple(shards) if of == {len(shards)} else ()
    twins = [item for item in at_root if item.lower() == WEIGHTS_NAME]
    named = twins or [item for item in (MLX_WEIGHTS, *_PICKLES) if item in at_root]
    if named:
        return (named[0],)
    lone = [item for item in at_root if item.endswith(".safetensors")]
    return (lone[0],) if len(lone) == 1 and not _WHOLE_MODEL.fullmatch(lone[0]) else ()


def _distributed(files: Sequence[str]) -> tuple[str, ...]:
    """The files of a distributed checkpoint, its metadata first; that of an optimizer is none of the adapter's."""
    found = {item.rpartition("/")[0] for item in files if item.rpartition("/")[2] == DISTRIBUTED_METADATA}
    folders = [folder for folder in found if not folder.startswith("optimizer")]
    if len(folders) != 1:
        return ()
    start = f"{folders[0]}/" if folders[0] else ""
    parts = [item for item in files if item.startswith(start) and item.endswith(".distcp")]
    return (f"{start}{DISTRIBUTED_METADATA}", *sorted(item for item in parts if "/" not in item.removeprefix(start)))


def is_elsewhere(name: str, files: Sequence[str]) -> bool:
    """Whether a required file that is not at the root is found by these two."""
    twin = any(item.lower() == name for item in files)
    return twin or folder_meant(files) is not None or (name == WEIGHTS_NAME and bool(weights_meant(files)))


def _folders_with(files: Sequence[str], *names: str) -> list[str]:
    """The folders below the root that have all of these files."""
    having = [{item.rpartition("/")[0] for item in files if item.endswith(f"/{name}")} for name in names]
    return sorted(item for item in set.intersection(*having) if not item.startswith(_NOT_OURS))


def _chosen(folders: Sequence[str], holder: Holder) -> str:
    """Name the folder that is meant, as far as their names show it, and what to do with it."""
    candidates = [item for item in folders if not _is_reference(item)] or list(folders)
    others = [item for item in folders if item not in candidates]
    newest = _newest(candidates)
    of = {"folder": "the folder", "archive": "the archive's folder", "repo": "the repo's folder"}[holder]
    if newest is not None and len(candidates) > 1:
        there = f"{of} {_quoted(newest)}, the newest of {len(candidates)}"
        if holder == "folder":
            return f"{there}: give that folder, or another one."
        return f"{there} (make sure that it is the one): {_do(newest, holder)}."
    if len(candidates) > 1:
        listed = ", ".join(map(_quoted, sorted(candidates, key=_newer_first)[:_SHOWN]))
        more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
        return f"{len(candidates)} folders, {listed}{more}: {_do(None, holder)}."
    one = candidates[0]
    if _is_reference(one):
        untrained = "which by its name is the copy that training is compared with"
        return f"{of} {_quoted(one)}, {untrained}: look for the trained adapter."
    besides = f" ({_quoted(others[0])} is the copy that training is compared with)" if others else ""
    return f"{of} {_quoted(one)}{besides}: {_do(one, holder)}."


def _do(folder: str | None, holder: Holder) -> str:
    match holder:
        case "folder":
            return "give that folder" if folder else "give the one to be served"
        case "archive" if folder and folder.isprintable() and folder.isascii():
            return f"unpack it and run `lora-packer pack {shlex.quote(folder)}`"
        case "archive":
            return "unpack it and run `lora-packer pack` on the one to be served"
        case "repo":
            return f"upload the files of {'that folder' if folder else 'one of them'} to the root of a repo"


def _newest(folders: Sequence[str]) -> str | None:
    """The folder with the highest number, where they differ in one number alone, as checkpoints do."""
    parts = [_NUMBER.split(item) for item in folders]
    if len({(len(item), *item[::2]) for item in parts}) > 1:
        return None
    differing = [at for at in range(1, len(parts[0]), 2) if len({item[at] for item in parts}) > 1]
    return max(folders, key=lambda item: int(_NUMBER.split(item)[differing[0]])) if len(differing) == 1 else None


def _newer_first(folder: str) -> tuple[bool, list[tuple[str, int]]]:
    """What has no number, as the last save, before checkpoints; of these the later ones first."""
    parts = _NUMBER.split(folder)
    return len(parts) > 1, [
        (text, -int(number or 0)) for text, number in zip(parts[::2], [*parts[1::2], ""], strict=True)
    ]


def _is_reference(folder: str) -> bool:
    return _REFERENCE.fullmatch(folder.rpartition("/")[2]) is not None


def _quoted(folder: str) -> str:
    return f"'{escape(folder, 80)}'"
