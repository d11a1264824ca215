"""The tensors of a file matched with the expected ones, by name or by the name that they should have had."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lora_packer.adapter.keys import PREFIX, WRAPPER_SEGMENTS, canonical_name, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.inspector.case import Difference, Match, Tensor
from lora_packer.peft.expected import Expectation, Want

ADAPTER_NAME = "adapter name"
_TIMES = {2: "twice", 3: "three times"}

# What stands in front of the layers in one class or release and not in another, or what a trainer put there.
_LEADING = frozenset({"base_model", "model", "language_model", "text_model", "transformer", "backbone"})
_MISWRITTEN_PART = re.compile(r"\.lora_([ab])(?=\.|$)", re.IGNORECASE)
_SAVED = "modules_to_save"


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


def agrees(expectation: Expectation, tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether every tensor has an expected name and its shape, and none is missing; stops at the first that is off."""
    required, optional = expectation.required, expectation.optional
    for name, info in tensors.items():
        want = required.get(name) or optional.get(name)
        if want is None or want.shape != info.shape:
            return False
    return required.keys() <= tensors.keys()


def match(expectation: Expectation, tensors: Mapping[str, TensorInfo]) -> Difference:
    """Match every tensor of the file with an expected one."""
    wanted = {**expectation.optional, **expectation.required}
    matched: dict[str, Match] = {}
    unmatched = []
    for name, info in tensors.items():
        want = wanted.get(name)
        if want is None:
            unmatched.append(Tensor(name, parse_key(name), info))
        else:
            matched[name] = Match(name, info, want)
    renamed: dict[str, list[tuple[str, str]]] = {}
    extra = []
    for tensor, meant in _meant(unmatched, wanted, matched):
        if meant is None or meant in matched:
            extra.append(tensor)
            continue
        matched[meant] = Match(tensor.name, tensor.info, wanted[meant])
        change = _change(tensor, meant)
        if change:
            renamed.setdefault(change, []).append((tensor.name, meant))
    missing = tuple(name for name in expectation.required if name not in matched)
    return Difference(matched, renamed, missing, tuple(extra))


def _meant(
    tensors: Iterable[Tensor], wanted: Mapping[str, Want], matched: Mapping[str, Match]
) -> Iterator[tuple[Tensor, str | None]]:
    """Each tensor with the expected name that it should have had, or None; ``matched`` may grow meanwhile."""
    cores: dict[str, str | None] | None = None
    for tensor in tensors:
        meant: str | None = canonical_name(tensor.name)
        if meant not in wanted:
            if cores is None:
                cores = _by_core(name for name in wanted if name not in matched)
            meant = next((found for core in _cores(tensor.name) if (found := cores.get(core)) is not None), None)
        yield tensor, meant


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
    written = _well_written(name)
    segments = [segment for segment in written.split(".") if segment not in WRAPPER_SEGMENTS]
    if _SAVED in segments:
        at = segments.index(_SAVED)
        yield _without_leading(segments[:at] + segments[at + 1 :])
        yield _without_leading(segments[:at] + segments[at + 2 :])
    else:
        yield _without_leading(segments)
        if before := _before_prefix(name):  # a part of a larger model that was trained alone
            yield _without_leading(f"{before}{written.removeprefix(PREFIX)}".split("."))


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


def _change(tensor: Tensor, meant: str) -> str:
    """Say what is off about a name; "" where PEFT takes it as it is."""
    changes = []
    name = tensor.name
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
    return ADAPTER_NAME if tensor.key.adapter_name else ""


def _before_prefix(name: str) -> str:
    """What stands before PEFT's prefix, where that is more than wrappers' segments."""
    before = name[: max(0, name.find(PREFIX))]
    return "" if WRAPPER_SEGMENTS.issuperset(before.strip(".").split(".")) else before


def _prefix_change(name: str, found: list[str], meant: list[str]) -> list[str]:
    lead, wanted = _lead(found), _lead(meant)
    before = _before_prefix(name)
    if before and ".".join(meant).startswith(PREFIX + before):
        return [f"'{before}' stands before the prefix {PREFIX!r} and belongs behind it"]
    if lead == wanted:
        return [f"'{before}' stands before the prefix {PREFIX!r}"] if before else []
    if lead.endswith(wanted) and (times := wrappings(lead.removesuffix(wanted))):
        return [f"the prefix {PREFIX!r} stands {_TIMES.get(times + 1, f'{times + 1} times')}"]
    if wanted.endswith(lead) and not lead.startswith("base_model."):
        return [f"the prefix {wanted.removesuffix(lead)!r} is missing"]
    if lead == _one_model_less(wanted):
        return ["one 'model.' is missing after the prefix"]
    if wanted == _one_model_less(lead):
        return ["one 'model.' too many stands after the prefix"]
    return [f"the name begins with {lead!r} and not with {wanted!r}"]


def wrappings(lead: str) -> int:
    """How often PEFT's prefix stands, and nothing else; 0 where there is anything else."""
    times = len(lead) // len(PREFIX)
    return times if lead == PREFIX * times else 0


def _one_model_less(lead: str) -> str:
    return lead.replace(f"{PREFIX}model.", PREFIX, 1)


def _lead(segments: list[str]) -> str:
    core = _without_leading(segments)
    return ".".join(segments)[: -len(core)]
