"""The tensors of a file matched with the expected ones, by name or by the name that they should have had."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lora_packer.adapter.keys import PREFIX, WRAPPER_SEGMENTS, canonical_name, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.peft.expected import Expectation, Want

ADAPTER_NAME = "adapter name"

# What stands in front of the layers in one class or release and not in another, or what a trainer put there.
_LEADING = frozenset({"base_model", "model", "language_model", "text_model", "transformer", "backbone"})
_MISWRITTEN_PART = re.compile(r"\.lora_([ab])(?=\.|$)", re.IGNORECASE)
_SAVED = "modules_to_save"


@dataclass(slots=True)
class Difference:
    """The found tensors, sorted against the expected ones.

    Attributes:
        matched: expected name -> (name in the file, its info, what was wanted).
        renamed: how a name has to be changed to be the expected one -> [(name in the file, expected name)].
        missing: the required names without a tensor.
        extra: names in the file that nothing expects.
    """

    matched: dict[str, tuple[str, TensorInfo, Want]] = field(default_factory=dict)
    renamed: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    @property
    def distance(self) -> int:
        """How far the file is from what was expected; 0 where every tensor is."""
        wrong = sum(info.shape != want.shape for _, info, want in self.matched.values())
        return len(self.missing) + len(self.extra) + wrong + sum(map(len, self.renamed.values()))


def agreement(expectation: Expectation, tensors: Mapping[str, TensorInfo]) -> tuple[int, int]:
    """How many tensors have an expected name, and how many of these the expected shape: cheap, to rank readings."""
    required, optional = expectation.required, expectation.optional
    names = shapes = 0
    for name, info in tensors.items():
        want = required.get(name) or optional.get(name)
        if want is not None:
            names += 1
            shapes += want.shape == info.shape
    return names, shapes


def compare(expectation: Expectation, tensors: Mapping[str, TensorInfo]) -> Difference:
    """Match every tensor of the file with an expected one."""
    result = Difference()
    wanted = {**expectation.optional, **expectation.required}
    unmatched = []
    for name, info in tensors.items():
        want = wanted.get(name)
        if want is None:
            unmatched.append(name)
        else:
            result.matched[name] = (name, info, want)
    if unmatched:
        _match_renamed(unmatched, wanted, tensors, result)
    result.missing = [name for name in expectation.required if name not in result.matched]
    return result


def _match_renamed(
    unmatched: list[str], wanted: Mapping[str, Want], tensors: Mapping[str, TensorInfo], result: Difference
) -> None:
    cores: dict[str, str | None] | None = None
    for name in unmatched:
        meant: str | None = canonical_name(name)
        if meant not in wanted:
            if cores is None:
                cores = _by_core(name for name in wanted if name not in result.matched)
            meant = next((found for core in _cores(name) if (found := cores.get(core)) is not None), None)
        if meant is None or meant in result.matched:
            result.extra.append(name)
            continue
        result.matched[meant] = (name, tensors[name], wanted[meant])
        change = _change(name, meant)
        if change:
            result.renamed.setdefault(change, []).append((name, meant))


def _by_core(wanted: Iterator[str]) -> dict[str, str | None]:
    """Core -> the expected name with that core; None where several have it."""
    result: dict[str, str | None] = {}
    for name in wanted:
        core = _without_leading(name.split("."))
        cores = [core]
        for letter in "AB":
            if core.endswith(f".lora_embedding_{letter}"):
                cores += [f"{core}.weight", core.replace("lora_embedding_", "lora_") + ".weight"]
        for item in cores:
            result[item] = None if item in result else name
    return result


def _cores(name: str) -> Iterator[str]:
    """The name without what writers get wrong: the prefix, wrappers' segments, letter case, ``.weight``."""
    segments = _well_written(name).split(".")
    segments = [segment for segment in segments if segment not in WRAPPER_SEGMENTS]
    if _SAVED in segments:
        at = segments.index(_SAVED)
        yield _without_leading(segments[:at] + segments[at + 1 :])
        yield _without_leading(segments[:at] + segments[at + 2 :])
    else:
        yield _without_leading(segments)


def core_of(name: str) -> str:
    """Return what identifies a tensor whatever writers get wrong in front of it."""
    return next(_cores(name))


def _well_written(name: str) -> str:
    """The name with PEFT's letter case, without an adapter name and without what stands in front of the prefix."""
    name = _MISWRITTEN_PART.sub(lambda match: f".lora_{match[1].upper()}", name)
    name = canonical_name(name)
    if name.endswith((".lora_A", ".lora_B")):
        name += ".weight"
    return name[max(0, name.rfind(PREFIX)) :] if not name.startswith(PREFIX) else name


def _without_leading(segments: list[str]) -> str:
    at = 0
    while at < len(segments) - 1 and segments[at] in _LEADING:
        at += 1
    return ".".join(segments[at:])


def _change(name: str, meant: str) -> str:
    """Say what is off about a name; "" where PEFT takes it as it is."""
    changes = []
    segments = name.split(".")
    left_in = WRAPPER_SEGMENTS.difference(meant.split("."))
    wrapper = next((segment for segment in segments if segment in left_in), None)
    if wrapper is not None:
        changes.append(f"the segment '{wrapper}.' of a training wrapper was left in")
    if _SAVED in segments:
        changes.append(f"the segment '{_SAVED}.' was left in")
    if any(match[1].islower() for match in _MISWRITTEN_PART.finditer(name)):
        changes.append("lora_a and lora_b are written in lower case")
    if ".weight" not in name and meant.endswith((".lora_A.weight", ".lora_B.weight")):
        changes.append("'.weight' is missing at the end")
    found = [segment for segment in _well_written(name).split(".") if segment not in WRAPPER_SEGMENTS]
    if ".lora_embedding_" in meant and found[-1] == "weight":
        if "lora_embedding" in name:
            changes.append("LoRA on an embedding has no '.weight' at the end")
        else:
            changes.append("LoRA on an embedding is named lora_embedding_A and lora_embedding_B")
    changes += _prefix_change(name, found, meant.split("."))
    if changes:
        return ", and ".join(changes)
    return ADAPTER_NAME if parse_key(name).adapter_name else ""


def _prefix_change(name: str, found: list[str], meant: list[str]) -> list[str]:
    lead, wanted = _lead(found), _lead(meant)
    if lead == wanted:
        before = name[: max(0, name.find(PREFIX))]
        if before and not all(segment in WRAPPER_SEGMENTS for segment in before.strip(".").split(".")):
            return [f"'{before}' stands before the prefix {PREFIX!r}"]
        return []
    if lead == PREFIX + wanted:
        return [f"the prefix {PREFIX!r} stands twice"]
    if wanted.endswith(lead) and not lead.startswith("base_model."):
        return [f"the prefix {wanted.removesuffix(lead)!r} is missing"]
    if lead == _one_model_less(wanted):
        return ["one 'model.' is missing after the prefix"]
    if wanted == _one_model_less(lead):
        return ["one 'model.' too many stands after the prefix"]
    return [f"the name begins with {lead!r} and not with {wanted!r}"]


def _one_model_less(lead: str) -> str:
    return lead.replace(f"{PREFIX}model.", PREFIX, 1)


def _lead(segments: list[str]) -> str:
    core = _without_leading(segments)
    return ".".join(segments)[: -len(core)]
