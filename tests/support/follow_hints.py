"""A hint followed as a user would who does exactly what it says, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from builders import Tensors
from safetensors.numpy import load_file

from lora_packer.adapter import read_adapter
from lora_packer.adapter.keys import canonical_name
from lora_packer.adapter.source import FolderSource
from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case
from lora_packer.inspector.leftovers import leftovers
from lora_packer.inspector.reading import closest

Config = dict[str, Any]
Followed = tuple[Config, Tensors]

# What no change of a file can do: the base model, the training or another tool is needed. Each begins a hint.
ELSEWHERE = (
    "Revoke the credential",
    "Check ", "Compare ", "Correct target_modules", "Make sure ", "Narrow ", "Remove the name, ", "Save with torchtune", "Write a value that ", "Take it out of ", "Save with ", "Gather ", "Give the config ", "Give the folder ", "Go back ", "Merge ",
    "Export ", "Name the layers ", "Name the tensors ", "No newer PEFT ", "Rename the tensors, or save ", "Resize ", "Save the adapter ",
    "Save it again ", "Serve it ", "Set lora_alpha to what ", "Take the convolution ", "Test the deployed ", "Train ", "Try `lora-packer fix` ",
    "Start the server with ", "Write the value of target_modules as ",
    "Transpose and rename ", "Write each key once", "Write the alpha ", "Write the field ", "Write the value ",
    "Write rank_pattern with one key ", "These tensors fit ", "This adapter is for ", "Leave it, ", "Exclude it ",
    "Call resize_token_embeddings", "Give the --base-model ", "It fits ", "This base model has ", "Load it ", "Set r and rank_pattern to the ranks ",
)  # fmt: skip


def follow(finding: Finding, adapter: Path, base: Any) -> list[Followed] | None:
    """Return what each way that the hint names makes of config and tensors, or None where the hint needs more.

    Raises AssertionError for a hint that is neither known as one that can be followed nor as one that cannot.
    """
    hint = finding.hint or ""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = dict(load_file(adapter / "adapter_model.safetensors"))
    for pattern, do in _WAYS:
        if found := pattern.match(hint):
            return list(do(found, finding, config, tensors, lambda: _case(adapter, base)))
    assert hint.startswith(ELSEWHERE), f"{finding.code}: {hint}"
    return None


def _case(adapter: Path, base: Any) -> Case:
    read = read_adapter(FolderSource(adapter))
    assert read.config is not None
    return closest(read.config, BaseModel.load(base), read.tensors)


CaseOf = Callable[[], Case]


def _set(found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf) -> Iterator[Followed]:
    hint = finding.hint or ""
    value, _ = json.JSONDecoder().raw_decode(hint, found.end())
    yield {**config, found[1]: value}, tensors


def _write(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    yield {**config, **json.loads(f"{{{found[1]}}}")}, tensors


def _without_field(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    yield {name: value for name, value in config.items() if name != found[1]}, tensors


def _without_names(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    named = re.search(r"names (.+?), (?:which|and) this base", finding.message)
    assert named is not None
    assert finding.field is not None
    names = [quoted or plain for quoted, plain in re.findall(r"'([^']+)'|([^, ]+)", named[1])]
    yield {**config, finding.field: [name for name in config[finding.field] if str(name) not in names]}, tensors


def _out_of_saved(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    gone = found[1].split(", ")
    yield {**config, "modules_to_save": [name for name in config["modules_to_save"] if name not in gone]}, tensors


def _unknown_fields(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    names = re.findall(r"'(\w+)'", finding.message)
    yield {name: value for name, value in config.items() if name not in names}, tensors


def _unused_key(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    assert finding.field is not None
    gone = {key for _, key in case().expectation.unused_patterns}
    yield {**config, finding.field: {k: v for k, v in config[finding.field].items() if k not in gone}}, tensors


def _task(found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf) -> Iterator[Followed]:
    yield {**config, "task_type": found[1]}, tensors


_WHY = {"LP315": "base", "LP316": "unknown", "LP320": "embeddings", "LP313": "surplus"}


def _remove(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    gone = {item.name for item in leftovers(case()).of(_WHY[finding.code])}  # type: ignore[arg-type]
    assert len(gone) == finding.count
    yield config, {name: tensor for name, tensor in tensors.items() if name not in gone}


def _keep_or_remove(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    if "add [" in (finding.hint or ""):
        more, _ = json.JSONDecoder().raw_decode(finding.hint or "", (finding.hint or "").index("["))
    else:
        more = [item.owner.rpartition(".")[2] for item in leftovers(case()).of("embeddings", "base")]
    yield {**config, "modules_to_save": [*(config.get("modules_to_save") or []), *more]}, tensors
    yield from _remove(found, finding, config, tensors, case)


def _rename(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    meant = {name: to for pairs in case().difference.renamed.values() for name, to in pairs}
    yield config, {meant.get(name, name): tensor for name, tensor in tensors.items()}


def _without_adapter_name(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    yield config, {canonical_name(name): tensor for name, tensor in tensors.items()}


def _transpose(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    off = {match.name for match in case().difference.matched.values() if not match.fits}
    yield config, {name: np.ascontiguousarray(t.T) if name in off else t for name, t in tensors.items()}


def _exchange(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    other = {"lora_A": "lora_B", "lora_B": "lora_A"}
    yield config, {re.sub("lora_[AB]", lambda half: other[half[0]], name): t for name, t in tensors.items()}


def _in_bfloat16(
    found: re.Match[str], finding: Finding, config: Config, tensors: Tensors, case: CaseOf
) -> Iterator[Followed]:
    """numpy has no bfloat16: that each value stays as it is is what can be shown."""
    assert all(not (t.view(np.uint32) & np.uint32(0xFFFF)).any() for t in tensors.values())
    yield config, {name: t.astype(np.float16) for name, t in tensors.items()}


_WAYS = [
    (re.compile(r"Set (\w+) to (?=[\[{\"\d]|true|false|null)"), _set),
    (re.compile(r'(?:Write|Add) ("\w+": .+?)\.$'), _write),
    (re.compile(r"Remove (layers_to_transform|exclude_modules)\."), _without_field),
    (re.compile(r"Remove (?:it|them|the number), which loses nothing"), _without_names),
    (re.compile(r"Remove (.+) from modules_to_save\."), _out_of_saved),
    (re.compile(r"Take (.+) out of modules_to_save,"), _out_of_saved),
    (re.compile(r"Remove it if training did not use it"), _unknown_fields),
    (re.compile(r"Correct the key if .* to remove it changes nothing"), _unused_key),
    (re.compile(r'Set task_type to what it was trained for, such as "(\w+)"'), _task),
    (re.compile(r"Remove them[,:]"), _remove),
    (re.compile(r"If they were trained, .* if not, remove them"), _keep_or_remove),
    (re.compile(r"Rename the tensors to "), _rename),
    (re.compile(r"Remove the segment from the names"), _without_adapter_name),
    (re.compile(r"Transpose them back"), _transpose),
    (re.compile(r"Exchange the two names"), _exchange),
    (re.compile(r"Save it in bfloat16"), _in_bfloat16),
]


def is_known(hint: str) -> bool:
    """Whether the hint can be followed, or is known to need more than a change of the adapter's files."""
    return hint.startswith(ELSEWHERE) or any(pattern.match(hint) for pattern, _ in _WAYS)
