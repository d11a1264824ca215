"""An adapter against one base model: the closest reading of it, and everything that is off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import TEXT_ONLY, BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.diagnose import explain
from lora_packer.inspector.fit import Fit, fit
from lora_packer.inspector.shapes import Context
from lora_packer.redact import escape


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
    found = fit(config, base, tensors)
    return Against(found, tuple(_one_cause_once(list(_findings(config, base, tensors, found)))))


def _findings(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo], found: Fit) -> Iterator[Finding]:
    expectation, modules = found.expectation, found.base.dialects[found.dialect]
    yield from found.findings
    first_dialect = next(iter(base.dialects))
    if expectation.unsupported and found.dialect == first_dialect:
        paths = expectation.unsupported
        message = f"target_modules matches '{escape(paths[0], 80)}', which is not a layer that LoRA can be put on"
        yield rules.UNSUPPORTED_TARGET.finding(message, file=CONFIG_NAME, field="target_modules", count=len(paths))
    for path, tokens in expectation.bad_tokens.items():
        message = f"token id {tokens[0]} lies outside the vocabulary of {modules[path].weight_shape[0]}"
        yield rules.TOKEN_OUT_OF_RANGE.finding(
            message, file=CONFIG_NAME, field="trainable_token_indices", count=len(tokens), actual=tokens[0]
        )
    name = f"this base model ({base.model_type})"
    if not expectation.targeted and not expectation.unsupported:
        by_module = config.target_modules or not config.target_parameters
        shown = config.target_modules if by_module else config.target_parameters
        field = "target_modules" if by_module else "target_parameters"
        listed = shown if isinstance(shown, str) else list(shown or ())
        message = f"{field} {escape(str(listed), 100)} matches no module of {name}"
        yield rules.NO_TARGET.finding(message, file=CONFIG_NAME, field=field)
        return
    yield from _unused_patterns(found)
    if found.dialect != first_dialect and found.difference.matched:
        other_class = found.dialect == TEXT_ONLY
        renamed = f"the tensors have the names of {found.dialect}, which {first_dialect} has renamed"
        message = "the tensors have the names of the text-only class of this base model" if other_class else renamed
        yield rules.OLDER_NAMES.finding(message, count=len(found.difference.matched), actual=found.dialect)
    yield from explain(found.difference, expectation, Context(config, modules, tensors, name))


def _unused_patterns(found: Fit) -> Iterator[Finding]:
    unused = found.expectation.unused_patterns
    if unused:
        field, key = unused[0]
        decides = "1 key decides" if len(unused) == 1 else f"{len(unused)} keys decide"
        message = f"{decides} nothing in {field}, first '{escape(key, 80)}': no targeted module takes its value from it"
        yield rules.UNUSED_PATTERN.finding(message, file=CONFIG_NAME, field=field, count=len(unused))


def _one_cause_once(findings: list[Finding]) -> list[Finding]:
    """Another vocabulary beside other shapes, or names to update beside broken ones, has the same cause as these."""
    other_base = next((item for item in findings if item.code == rules.WRONG_BASE.code), None)
    if other_base is not None:
        vocabulary = next(
            (i for i in findings if i.code == rules.RESIZED_VOCABULARY.code and i.severity == "error"), None
        )
        if vocabulary is not None:
            findings.remove(vocabulary)
            message = f"{other_base.message}, vocabulary {vocabulary.actual} instead of {vocabulary.expected}"
            findings[findings.index(other_base)] = replace(other_base, message=message)
    return findings
