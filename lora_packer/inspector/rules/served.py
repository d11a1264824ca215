"""What a target makes of an adapter's features, and of files beside it (LP502, LP505 to LP507, LP511)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from lora_packer.adapter.adapter import Adapter
from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.keys import WEIGHTS_NAME
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.rules.rule import Rule
from lora_packer.redact import escape
from lora_packer.targets.features import FEATURES, Use, used_features
from lora_packer.targets.target import Effect, Fact, Target

UNSTATED_FEATURE = Rule(
    "LP502",
    "unstated-feature",
    "warning",
    "The adapter uses a feature that the target says nothing about.",
    "Serving engines refuse or ignore some features; the service documents none of them for uploaded adapters.",
    "Test the deployed adapter against a local one, or train without the feature.",
)
REFUSED_FEATURE = Rule(
    "LP505",
    "refused-feature",
    "error",
    "The target refuses a feature that the adapter uses.",
    "The adapter does not load there, or stops the server that tries.",
    "Train without the feature, or serve it elsewhere: --target all shows where.",
)
IGNORED_FEATURE = Rule(
    "LP506",
    "ignored-feature",
    "error",
    "The target ignores or misreads a feature that the adapter uses.",
    "It loads, and the target serves something else than what was trained.",
    "Train without the feature, or serve it elsewhere: --target all shows where.",
)
CONDITIONAL_FEATURE = Rule(
    "LP507",
    "conditional-feature",
    "warning",
    "The target takes a feature only under a condition that the adapter does not show.",
    "Whether it loads depends on the server or on the base model.",
    "Make sure that the server and the base model meet the condition.",
)
EXTRA_FILES = Rule(
    "LP511",
    "files-at-target",
    "error",
    "The folder holds files that the target reads as part of the adapter, or does not take.",
    "Other weights are served, or the upload is refused.",
    "Take it out of the adapter's folder.",
)

# Told only where a target has a fact of it: nobody else would call it a feature.
_INCIDENTAL = frozenset(
    {"peft_format", "stray_weights", "added_tokens", "odd_dtype", "partial_layers", "base_layer", "classification_head"}
    | {"velora_or_monteclora", "targets_null", "targets_pattern", "targets_all_linear"}
)
_DOES: Mapping[Effect, str] = {
    "rejected": "refuses",
    "crash": "stops at",
    "ignored": "ignores",
    "wrong": "misreads",
    "partial": "takes only under a condition",
    "placed": "decides by the model's class whether it takes",
}
_REFUSES: frozenset[Effect] = frozenset({"rejected", "crash"})
SERVES_ELSE: frozenset[Effect] = frozenset({"ignored", "wrong"})


@frozen
class Verdict:
    """What one target does with one feature that the adapter uses."""

    target: Target
    use: Use
    fact: Fact


def features_at(
    target: Target, adapter: Adapter, config: LoraConfig, *, has_base: bool, placed: bool
) -> Iterator[Finding]:
    """What the target does with each feature that the adapter uses, and whether another form of it helps.

    ``placed`` says that every tensor is followed to its module, which then decides, and not the feature.
    """
    for finding in _features_at(target, adapter, config, placed):
        yield replace(finding, fixable=True) if _has_other_form(finding, config, has_base) else finding


def _has_other_form(finding: Finding, config: LoraConfig, has_base: bool) -> bool:
    """Whether `fix` writes the same adapter without the feature.

    Patterns of ranks and alphas are not said to be: only the values show whether folding them rounds any.
    """
    if finding.field == "use_rslora":
        return not (config.rank_pattern or config.alpha_pattern)
    return finding.field == "target_modules" and has_base and not config.target_parameters


def _features_at(target: Target, adapter: Adapter, config: LoraConfig, placed: bool) -> Iterator[Finding]:
    uses = used_features(config, adapter.tensors, adapter.files)
    if target.kind == "union":
        yield from _together(target, [item for one in target.engines for item in _verdicts(one, uses)], config)
        return
    inside = target.engine
    if inside is not None:
        verdicts = [item for item in _verdicts(inside, uses) if item.fact.effect in _DOES]
        for item in verdicts:
            yield _conditional(item, f"{target.summary} runs {inside.summary}, which {_does(item)}")
        return
    verdicts = list(_verdicts(target, uses))
    for item in verdicts:
        if item.fact.effect in _DOES and not (placed and item.fact.effect == "placed"):
            yield _finding(item, config)
    yield from _unknown(target, [item for item in verdicts if item.fact.effect == "unknown"])


def _verdicts(target: Target, uses: Mapping[str, Use]) -> Iterator[Verdict]:
    for name, use in uses.items():
        if name == "classification_head" and name not in target.facts:
            if "modules_to_save" in uses:
                continue
            name = "modules_to_save"
        if name in _INCIDENTAL and name not in target.facts:
            continue
        fact = target.fact(name)
        if use.counts(fact.by):
            yield Verdict(target, use, fact)


def _does(item: Verdict) -> str:
    says = f": {item.fact.says}" if item.fact.says else ""
    return f"{_DOES[item.fact.effect]} {_named(item)}{says}"


def _named(item: Verdict) -> str:
    label = FEATURES[item.fact.of]
    return f"{item.use.field} ({label})" if item.use.field else label


def _details(use: Use) -> dict[str, object]:
    if use.field is not None and use.config:
        return {"file": CONFIG_NAME, "field": use.field}
    if use.tensors:
        return {"file": WEIGHTS_NAME, "tensors": use.tensors}
    return {"file": escape(use.files[0]) if use.files else CONFIG_NAME}


def _finding(item: Verdict, config: LoraConfig) -> Finding:
    rule = _rule(item.fact.effect, item.use.of)
    message = f"{item.target.summary} {_does(item)}"
    return rule.finding(message, hint=_hint(item.use.of, config), **_details(item.use))


def _conditional(item: Verdict, message: str) -> Finding:
    return CONDITIONAL_FEATURE.finding(message, **_details(item.use))


def _rule(effect: Effect, feature: str) -> Rule:
    if effect in ("partial", "placed"):
        return CONDITIONAL_FEATURE
    if feature == "stray_weights":
        return EXTRA_FILES
    return REFUSED_FEATURE if effect in _REFUSES else IGNORED_FEATURE


def _hint(feature: str, config: LoraConfig) -> str | None:
    """What makes the feature needless, where a change of the config does."""
    if feature == "use_rslora" and not (config.rank_pattern or config.alpha_pattern):
        alpha = config.lora_alpha * config.r**0.5
        return f'Write "lora_alpha": {alpha!r}, "use_rslora": false.'
    if feature in ("targets_null", "targets_pattern", "targets_all_linear"):
        return "Write the value of target_modules as the list of the modules that the tensors name."
    if feature == "changed_base":
        return (
            "Save it again with path_initial_model_for_weight_conversion, which makes it a LoRA on the base as it is."
        )
    if feature in ("rank_pattern", "alpha_pattern"):
        return "Try `lora-packer fix` with this target: it writes one r and one lora_alpha where that rounds no number."
    return None


def _unknown(target: Target, verdicts: Iterable[Verdict]) -> Iterator[Finding]:
    """The features that nobody can say anything about."""
    items = list(verdicts)
    if items:
        named = ", ".join(_named(item) for item in items)
        says = "says nothing about" if target.kind == "service" else "was not read or run for"
        details = {**_details(items[0].use), "count": len(items)}
        details.pop("tensors", None)
        yield UNSTATED_FEATURE.finding(f"{target.summary} {says} {named}", **details)


def _together(target: Target, verdicts: Iterable[Verdict], config: LoraConfig) -> Iterator[Finding]:
    """One finding for each feature, whichever of the engines do something of their own with it."""
    by_feature: dict[str, list[Verdict]] = {}
    for item in verdicts:
        by_feature.setdefault(item.use.of, []).append(item)
    for feature, items in by_feature.items():
        told = [item for item in items if item.fact.effect in _DOES]
        if told:
            effects: dict[str, list[str]] = {}
            for item in told:
                effects.setdefault(_DOES[item.fact.effect], []).append(item.target.summary)
            does = "; ".join(f"{', '.join(names)} {verb} it" for verb, names in effects.items())
            worst = min(told, key=lambda item: list(_DOES).index(item.fact.effect))
            message = f"not every engine takes {_named(worst)}: {does}"
            rule = _rule(worst.fact.effect, feature)
            yield rule.finding(message, hint=_hint(feature, config), **_details(worst.use))
        elif any(item.fact.effect == "unknown" for item in items):
            yield from _unknown(target, items[:1])
