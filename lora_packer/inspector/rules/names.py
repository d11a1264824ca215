"""Tensors under names that PEFT does not read (LP311, LP312, LP319), or that only some classes do (LP321)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lora_packer.adapter.keys import PREFIX, WEIGHTS_NAME, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import TEXT_ONLY, BaseModel
from lora_packer.base_model.architecture import IMAGE_CLASSIFIER, MULTIMODAL, TEXT_ONLY_5_23, TRANSFORMERS_5_23
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case, Tensor
from lora_packer.inspector.foreign import KOHYA, RENAME_HALVES, Framework
from lora_packer.inspector.matching import ADAPTER_NAME
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.words import counted
from lora_packer.peft.expected import Shape
from lora_packer.redact import escape

RENAMED = Rule(
    "LP311",
    "renamed-tensors",
    "error",
    "The tensors' names are not PEFT's: a prefix or a wrapper's segment is off.",
    "PEFT drops every such tensor without an error and serves the base model.",
    "Rename the tensors to base_model.model.<module path>.lora_A.weight.",
    needs="base",
    fixable=True,
    retold="; {message}",
)
ADAPTER_NAME_LEFT = Rule(
    "LP312",
    "adapter-name-left",
    "warning",
    "The adapter's name (.default.) was left in the tensors' names.",
    "PEFT before 0.21 drops such tensors without an error; newer releases load them.",
    "Remove the segment from the names.",
    fixable=True,
    needs="base",
)
FOREIGN_NAMES = Rule(
    "LP319",
    "foreign-names",
    "error",
    "The tensors have the names of another framework.",
    "PEFT drops every such tensor without an error and serves the base model.",
    "Export the adapter in PEFT's format with that framework's own exporter.",
)
OLDER_NAMES = Rule(
    "LP321",
    "older-names",
    "info",
    "The tensors have the module names of an older transformers, of the text-only class, or of the bare model.",
    "The class or release with these names loads them as they are; others rename most of them, and drop some.",
    "Serve it with an engine that knows these names, or save it again with the class that will be served.",
    needs="base",
)

_CLASSES = {
    TEXT_ONLY: "the text-only class",
    TEXT_ONLY_5_23: "the text-only class (transformers 5.23)",
    MULTIMODAL: "the multimodal class",
    IMAGE_CLASSIFIER: "the class for images",
}
_CHANGES_TOLD = 2
_NEAREST_OF = 2000


def foreign(framework: Framework, tensors: Mapping[str, TensorInfo], *, fixable: bool) -> Finding:
    """Return that the tensors have another framework's names."""
    details = {"file": WEIGHTS_NAME, "tensors": tensors, "actual": escape(next(iter(tensors)))}
    message = f"the tensors have {framework.name}'s names, which PEFT drops"
    expected = "base_model.model.<module path>.lora_A.weight"
    # What can be converted has the modules of this base model, whatever kohya's scripts have written before them.
    hint = RENAME_HALVES if fixable and framework.name == KOHYA else framework.way_out
    return FOREIGN_NAMES.finding(message, expected=expected, hint=hint, fixable=fixable, **details)


def older_names(case: Case, base: BaseModel) -> Iterator[Finding]:
    """Names that are right for another class, or another release, than the base config is for."""
    details = {"count": len(case.difference.matched)}
    if not case.difference.matched:
        return
    first = next(iter(base.dialects))
    if case.dialect != first:
        named = _CLASSES.get(case.dialect)
        whose = f"{named} of this base model" if named else f"{case.dialect}, which {first} has renamed"
        message = f"the tensors have the names of {whose}"
        if case.dialect == TRANSFORMERS_5_23:
            message = "the tensors are those of transformers 5.23; transformers 5.24 names or sizes some otherwise"
        yield OLDER_NAMES.finding(message, actual=case.dialect, **details)
    elif case.base.head == "none" != base.head and case.config.task_type is None:
        message = (
            "the tensors have the names of the bare model (AutoModel), and the base config is that of a class with a "
            f"head ({base.head}), in which they would be dropped"
        )
        hint = "Load it with AutoModel; for the class with the head, put 'model.' before the layers and set task_type."
        yield OLDER_NAMES.finding(message, severity="warning", actual="the bare model", hint=hint, **details)


def wrong_names(case: Case) -> Iterator[Finding]:
    """Names to change; a wrapper or a lost prefix may show in several ways, and is one cause."""
    renamed = case.difference.renamed
    left = renamed.get(ADAPTER_NAME)
    if left:
        kept = parse_key(left[0][0]).adapter_name or ""
        message = f"the adapter's name '{escape(kept, 40)}' was left in the names of {counted(len(left))}"
        # Newer PEFT knows only the name under which it loads, and drops the others.
        severity = None if kept == "default" else "error"
        yield ADAPTER_NAME_LEFT.finding(message, severity=severity, **_names_of(left))
    changes = [change for change in renamed if change != ADAPTER_NAME]
    if changes:
        names = [pair for change in changes for pair in renamed[change]]
        told = "; ".join(escape(change, 300) for change in changes[:_CHANGES_TOLD])
        yield RENAMED.finding(f"{counted(len(names))} would be dropped: {told}", **_names_of(names))


def wrapped_again(tensors: Sequence[Tensor], case: Case) -> Finding:
    """Several adapters, each put on what was a PEFT model already: one name does not make one adapter of them."""
    named = {found: meant for pairs in case.difference.renamed.values() for found, meant in pairs}
    every = [name for name in case.tensors if name in named or any(name == item.name for item in tensors)]
    first = every[0]
    times = first.count(PREFIX)
    message = (
        f"{counted(len(every))} would be dropped: the prefix {PREFIX!r} stands {times} times in front, because "
        "get_peft_model was called on a PEFT model"
    )
    hint = (
        "Merge what was trained (merge_and_unload) before get_peft_model is called again, train, and save that adapter."
    )
    pairs = [(first, named.get(first, PREFIX + first[times * len(PREFIX) :]))]
    return RENAMED.finding(message, hint=hint, fixable=False, **_names_of(pairs) | {"count": len(every)})


def _names_of(names: Sequence[tuple[str, str]]) -> dict[str, Any]:
    found, expected = names[0]
    listed = [name for name, _ in names]
    return {"file": WEIGHTS_NAME, "tensors": listed, "expected": expected, "actual": escape(found)}


def same_tensors_elsewhere(
    found: Sequence[Tensor], missing: Sequence[str], case: Case, *, by_shape: bool
) -> Finding | None:
    """The missing tensors under other names: as many of the same shapes, or one for one unless ``by_shape``."""
    if not found or len(found) != len(missing):
        return None
    wanted = Counter(case.want(name).shape for name in missing)
    if (len(found) > 1 or by_shape) and wanted != Counter(tensor.info.shape for tensor in found):
        return None
    first = found[0]
    meant = _nearest(first.name, first.info.shape, missing, case)
    message = f"{counted(len(found))} would be dropped: {_what_differs(first.name, meant)}"
    hint = "Rename the tensors, or save the adapter with PEFT's save_pretrained."
    details = _names_of([(first.name, meant)]) | {"tensors": [tensor.name for tensor in found]}
    return RENAMED.finding(message, hint=hint, fixable=False, **details)


def _nearest(name: str, shape: Shape, missing: Sequence[str], case: Case) -> str:
    """The missing name of this shape that shares the most segments with ``name``."""
    segments = set(name.split("."))
    candidates = [other for other in missing[:_NEAREST_OF] if case.want(other).shape == shape]
    return max(candidates or missing[:1], key=lambda other: len(segments.intersection(other.split("."))))


def _what_differs(name: str, meant: str) -> str:
    found, wanted = name.split("."), meant.split(".")
    while found and wanted and found[0] == wanted[0]:
        del found[0], wanted[0]
    while found and wanted and found[-1] == wanted[-1]:
        del found[-1], wanted[-1]
    if not found or not wanted:
        return "their names are not those of the base model's modules"
    return f"'{escape('.'.join(found), 80)}' stands where '{'.'.join(wanted)}' belongs"
