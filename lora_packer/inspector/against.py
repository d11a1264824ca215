"""An adapter against one base model: the closest reading of it, and everything that is off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import TEXT_ONLY, BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.diagnose import explain
from lora_packer.inspector.extra import extras
from lora_packer.inspector.reading import Fit, fit, heads
from lora_packer.inspector.shapes import Context
from lora_packer.peft.refusals import Refusal, refused_modules
from lora_packer.peft.replicate import layers_of
from lora_packer.peft.targets import HEADS_OF_TASKS, output_head
from lora_packer.redact import escape

# What another base model shows in, the clearest first; and what it then also makes of the names and the targets.
_OTHER_BASE = (rules.WRONG_BASE.code, rules.UNKNOWN_TENSOR.code)
_WITH_OTHER_BASE = frozenset(
    rule.code
    for rule in (
        rules.WRONG_BASE,
        rules.UNKNOWN_TENSOR,
        rules.RENAMED,
        rules.MISSING_MODULES,
        rules.WIDER_CONFIG,
        rules.LAYER_OUT_OF_RANGE,
    )
)


@dataclass(frozen=True, slots=True)
class Against:
    """How an adapter's config and tensors stand against a base model."""

    fit: Fit
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the adapter from working on this base model."""
        return tuple(item for item in self.findings if item.severity == "error")


def against(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo]) -> Against:
    """Compare. Raises PatternError where a pattern of the config is not evaluated."""
    problem = _replication_problem(config, base)
    if problem is not None:
        return Against(fit(replace(config, layer_replication=()), base, tensors), (problem,))
    found = fit(config, base, tensors)
    result = Against(found, tuple(_one_cause_once(list(_findings(config, base, tensors, found)))))
    return (_other_task(config, base, tensors, found) if result.errors else None) or result


def refused_on(config: LoraConfig, base: BaseModel, compared: Against) -> Iterator[Finding]:
    """What PEFT refuses of the config on this base model; nothing where the adapter is another base model's."""
    if any(item.code in _OTHER_BASE and item.severity == "error" for item in compared.findings):
        return
    fit = compared.fit
    for refusal in refused_modules(config, base.model_type, fit.modules, fit.expectation.targeted):
        yield refused_finding(refusal)


def refused_finding(refusal: Refusal) -> Finding:
    """Return what PEFT refuses as a finding."""
    by_kind = {"field": rules.INVALID_FIELD, "target": rules.UNSUPPORTED_TARGET, "no-effect": rules.NO_EFFECT}
    details = {name: getattr(refusal, name) for name in ("field", "expected", "actual", "hint", "severity")}
    return by_kind[refusal.kind].finding(refusal.message, file=CONFIG_NAME, **details)


def _findings(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo], found: Fit) -> Iterator[Finding]:
    expectation, modules = found.expectation, found.modules
    yield from found.findings
    first_dialect = next(iter(base.dialects))
    if expectation.unsupported and found.dialect == first_dialect:
        paths = expectation.unsupported
        message = f"target_modules matches '{escape(paths[0], 80)}', which is not a layer that LoRA can be put on"
        yield rules.UNSUPPORTED_TARGET.finding(message, file=CONFIG_NAME, field="target_modules", count=len(paths))
    for path, tokens in expectation.bad_tokens.items():
        yield _token_out_of_range(base, modules[path].weight_shape[0], tokens)
    name = f"this base model ({base.model_type})"
    context = Context(config, modules, tensors, name, found.input_embedding, output_head(modules))
    if not expectation.targeted and not expectation.unsupported:
        by_module = config.target_modules or not config.target_parameters
        shown = config.target_modules if by_module else config.target_parameters
        field = "target_modules" if by_module else "target_parameters"
        listed = shown if isinstance(shown, str) else list(shown or ())
        message = f"{field} {escape(str(listed), 100)} matches no module of {name}"
        if config.layers_to_transform is not None:
            message += f" in the layers {list(config.layers_to_transform)[:8]} of layers_to_transform"
        past = extras(found.difference, expectation, context)
        if past.names.keys() == {"past"}:  # all targets lie behind the base's last layer
            yield from past.findings(context)
        else:
            yield rules.NO_TARGET.finding(message, file=CONFIG_NAME, field=field)
        return
    if found.dialect != first_dialect and found.difference.matched:
        other_class = found.dialect == TEXT_ONLY
        renamed = f"the tensors have the names of {found.dialect}, which {first_dialect} has renamed"
        message = "the tensors have the names of the text-only class of this base model" if other_class else renamed
        yield rules.OLDER_NAMES.finding(message, count=len(found.difference.matched), actual=found.dialect)
    explained = explain(found.difference, expectation, context)
    if not any(finding.severity == "error" for finding in explained):
        yield from _unused_patterns(found)  # what an error leaves without an effect is not a second cause
    yield from explained


# How far trained tokens may lie behind the vocabulary of a base model that may have been resized.
_NEW_TOKENS = 1.25


def _token_out_of_range(base: BaseModel, vocabulary: int, tokens: Sequence[int]) -> Finding:
    """Token ids past the vocabulary: of added tokens, or wrong.

    Where the embeddings were resized PEFT saves them with the adapter, so that their size shows; but not where the
    vocabulary's size stands in a nested config, which it does not read
    (peft/utils/save_and_load.py::get_peft_model_state_dict).
    """
    message = f"token id {tokens[0]} lies outside the vocabulary of {vocabulary}"
    severity = None
    if base.vocabulary_is_nested and max(tokens) < _NEW_TOKENS * vocabulary:
        severity = "warning"
        message += "; the file does not show whether its embeddings were resized for training"
    details = {"file": CONFIG_NAME, "field": "trainable_token_indices", "count": len(tokens), "actual": tokens[0]}
    return rules.TOKEN_OUT_OF_RANGE.finding(message, severity=severity, **details)


def _other_task(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo], found: Fit) -> Against | None:
    """A task type under which tensors are missing or have no place, while without it they all fit."""
    difference = found.difference
    if config.task_type not in HEADS_OF_TASKS or not (difference.missing or difference.extra):
        return None
    right = sum(info.shape == want.shape for _, info, want in difference.matched.values())
    if 2 * right < len(tensors):
        return None  # another base model's, whatever the task
    other = against(replace(config, task_type=None), base, tensors)
    if other.errors:
        return None
    lacks = "for which tensors are missing or have no place"
    message = f"task_type is {config.task_type}, {lacks}; without that task type, all of them fit"
    tensor = escape([*difference.missing, *difference.extra][0])
    details = {"file": CONFIG_NAME, "field": "task_type", "tensor": tensor, "actual": config.task_type}
    hint = "Save the adapter with its classifier, or set task_type to what it was trained for, such as CAUSAL_LM."
    return Against(other.fit, (rules.MISSING_PART.finding(message, hint=hint, **details), *other.findings))


def _replication_problem(config: LoraConfig, base: BaseModel) -> Finding | None:
    """What PEFT raises at ``layer_replication``: ValueError where it finds no layers, IndexError past their end."""
    if not config.layer_replication:
        return None
    trees = [modules for head in heads(config, base) for modules in base.with_head(head).dialects.values()]
    found = [layers for modules in trees if (layers := layers_of(modules)) is not None]
    depth = max((count for _, count in found), default=0)
    last = max(end for _, end in config.layer_replication) - 1
    if not found:
        message = f"layer_replication cannot be used with this base model ({base.model_type}): PEFT finds no layers"
    elif last >= depth:
        message = f"layer_replication names layer {last}, and the last of this base model is {depth - 1}"
    else:
        return None
    return rules.INVALID_FIELD.finding(message, file=CONFIG_NAME, field="layer_replication", actual=last)


def _unused_patterns(found: Fit) -> Iterator[Finding]:
    unused = found.expectation.unused_patterns
    if unused:
        field, key = unused[0]
        decides = "1 key decides" if len(unused) == 1 else f"{len(unused)} keys decide"
        message = f"{decides} nothing in {field}, first '{escape(key, 80)}': no targeted module takes its value from it"
        yield rules.UNUSED_PATTERN.finding(message, file=CONFIG_NAME, field=field, count=len(unused))


def _one_cause_once(findings: list[Finding]) -> list[Finding]:
    """Another base model shows in sizes, modules, layers and the vocabulary at once: one finding tells them all."""
    vocabulary = next(
        (item for item in findings if item.code == rules.RESIZED_VOCABULARY.code and item.severity == "error"), None
    )
    if vocabulary is not None:
        findings = [item for item in findings if item.code != rules.SAVED_EMBEDDINGS.code]
    first = next(
        (item for code in _OTHER_BASE for item in findings if item.code == code and item.severity == "error"), None
    )
    if first is None:
        return findings
    others = [item for item in findings if item.code in _WITH_OTHER_BASE and item is not first]
    message = "; ".join(item.message for item in (first, *others))
    if vocabulary is not None:
        others.append(vocabulary)
        message += f", vocabulary {vocabulary.actual} instead of {vocabulary.expected}"
    count = first.count + sum(item.count for item in others if item.code in _OTHER_BASE)
    told = replace(first, message=message, count=count)
    return [told if item is first else item for item in findings if item not in others]
