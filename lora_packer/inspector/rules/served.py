"""What a target makes of an adapter's features, ranks, size and files (LP502, LP504 to LP507, LP511 to LP515)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lora_packer.adapter.adapter import Adapter
from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.keys import WEIGHTS_NAME, parse_key
from lora_packer.finding import Finding
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
RANK_AT_TARGET = Rule(
    "LP504",
    "rank-at-target",
    "error",
    "A rank is not one that the target takes, or one that its server has to be set to.",
    "The target refuses the adapter. Where a setting of the server decides, it is a warning.",
    "Train with a rank that the target takes.",
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
TOO_LARGE = Rule(
    "LP512",
    "too-large-for-target",
    "error",
    "The weights are larger than the target takes.",
    "The target refuses the upload.",
    "Train with a smaller rank or fewer modules, or save in 16 bits.",
)
DTYPE_AT_TARGET = Rule(
    "LP513",
    "dtype-at-target",
    "error",
    "The weights have a dtype that the target does not take.",
    "The target refuses the adapter.",
    "Save the adapter in a dtype that the target takes.",
)
MODULE_AT_TARGET = Rule(
    "LP514",
    "module-at-target",
    "error",
    "The adapter has LoRA on modules that the target does not take.",
    "The target refuses the adapter, or serves it without these modules.",
    "Train without these modules, or serve it elsewhere: --target all shows where.",
)
CONFIG_AT_TARGET = Rule(
    "LP515",
    "config-at-target",
    "error",
    "The target asks for a field in adapter_config.json that is not there, or has another value.",
    "The target refuses the adapter.",
    "Write the field that the target's page asks for.",
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
_SERVES_ELSE: frozenset[Effect] = frozenset({"ignored", "wrong"})


@dataclass(frozen=True, slots=True)
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


# --- limits ----------------------------------------------------------------------------------------------------------


def limits_at(target: Target, adapter: Adapter, config: LoraConfig) -> Iterator[Finding]:
    """What the target's limits say of the adapter: its ranks, modules, size, dtypes, files and fields."""
    if target.kind == "union":
        yield from (item for one in target.engines for item in limits_at(one, adapter, config))
        return
    yield from _ranks(target, config)
    yield from _modules(target, adapter)
    size = adapter.bytes - len(adapter.config_bytes)
    if target.most_bytes is not None and size > target.most_bytes:
        message = f"{target.summary} takes weights of up to {target.most_bytes} bytes, and these have {size}"
        yield TOO_LARGE.finding(message, file=WEIGHTS_NAME, expected=target.most_bytes, actual=size)
    other = [name for name, info in adapter.tensors.items() if target.dtypes and info.dtype not in target.dtypes]
    if other:
        taken, found = sorted(target.dtypes), adapter.tensors[other[0]].dtype
        message = f"{target.summary} takes {', '.join(taken)}, and {len(other)} tensors are {found} or another dtype"
        yield DTYPE_AT_TARGET.finding(message, file=WEIGHTS_NAME, tensors=other, expected=taken, actual=found)
    for field, values in target.config.items():
        value = adapter.raw_config.get(field)
        if value not in values:
            message = f"{target.summary} asks for {field} in adapter_config.json: {', '.join(values)}"
            details = {"file": CONFIG_NAME, "field": field, "expected": list(values), "actual": escape(str(value), 60)}
            yield CONFIG_AT_TARGET.finding(message, **details)
    extra = [name for name in adapter.files if target.files and name not in target.files and "/" not in name]
    if extra:
        shown = ", ".join(escape(name, 60) for name in extra[:3])
        message = f"{target.summary}: files other than the adapter's own are refused, and here are {shown}"
        yield EXTRA_FILES.finding(message, severity="warning", file=escape(extra[0]), count=len(extra))


def _ranks(target: Target, config: LoraConfig) -> Iterator[Finding]:
    limits = target.rank
    rank = max(config.r, *config.rank_pattern.values()) if config.rank_pattern else config.r
    least = min(config.r, *config.rank_pattern.values()) if config.rank_pattern else config.r
    details: dict[str, object] = {"file": CONFIG_NAME, "field": "r", "actual": rank}
    most = limits.most if limits.most is not None else max(limits.choices, default=None)
    if most is not None and rank > most:
        message = f"{target.summary} takes ranks of up to {most}, and this adapter has {rank}"
        yield RANK_AT_TARGET.finding(message, **details, expected=most)
    elif least < limits.least:
        message = f"{target.summary} takes ranks from {limits.least}, and this adapter has {least}"
        yield RANK_AT_TARGET.finding(message, **{**details, "actual": least}, expected=limits.least)
    elif limits.default is not None and limits.setting is not None and rank > limits.default:
        value = min((choice for choice in limits.choices if choice >= rank), default=rank)
        setting = f"{limits.setting}{'' if limits.setting.endswith('=') else ' '}{value}"
        message = f"{target.summary} takes ranks of up to {limits.default} unless it is set to more: {setting}"
        hint = f"Start the server with {setting}."
        yield RANK_AT_TARGET.finding(message, severity="warning", hint=hint, expected=limits.default, **details)
    elif least < target.smallest_safe_rank or (target.rank_multiple and rank % target.rank_multiple):
        advised = f"ranks from {target.smallest_safe_rank}" if target.smallest_safe_rank else "a multiple of 8"
        message = f"{target.summary} is safe with {advised} alone, and this adapter has {least}: {target.rank_advice}"
        yield RANK_AT_TARGET.finding(message, severity="warning", **details)


def _modules(target: Target, adapter: Adapter) -> Iterator[Finding]:
    limits = target.modules
    if limits is None:
        return
    keys = {name: parse_key(name) for name in adapter.tensors}
    pairs = {name: key.path.rpartition(".")[2] for name, key in keys.items() if key.part.startswith("lora_")}
    # What the features tell of an embedding, a head or experts is not told again here.
    told = {"embed_tokens", "lm_head", "wte", "experts", "base_layer"}
    other = [name for name, leaf in pairs.items() if leaf not in limits.names and leaf not in told]
    if not other:
        return
    leaves = ", ".join(escape(leaf, 40) for leaf in sorted({pairs[name] for name in other})[:5])
    verb = "ignores" if limits.effect in _SERVES_ELSE else "does not take"
    severity = "warning" if limits.effect == "unknown" else None
    if limits.effect == "unknown":
        verb = "does not list"
    message = f"{target.summary} {verb} LoRA on {leaves}"
    details = {"file": WEIGHTS_NAME, "tensors": other, "expected": sorted(limits.names)}
    yield MODULE_AT_TARGET.finding(message, severity=severity, **details)
