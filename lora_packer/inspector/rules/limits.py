"""What a target's limits say of an adapter: ranks, modules, size, dtypes, files, fields (LP504, LP511 to LP515)."""

from __future__ import annotations

from collections.abc import Iterator

from lora_packer.adapter.adapter import Adapter
from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.keys import WEIGHTS_NAME, parse_key
from lora_packer.finding import Finding
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.rules.served import EXTRA_FILES, SERVES_ELSE
from lora_packer.redact import escape
from lora_packer.targets.target import Target

RANK_AT_TARGET = Rule(
    "LP504",
    "rank-at-target",
    "error",
    "A rank is not one that the target takes, or one that its server has to be set to.",
    "The target refuses the adapter. Where a setting of the server decides, it is a warning.",
    "Train with a rank that the target takes.",
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
    verb = "ignores" if limits.effect in SERVES_ELSE else "does not take"
    severity = "warning" if limits.effect == "unknown" else None
    if limits.effect == "unknown":
        verb = "does not list"
    message = f"{target.summary} {verb} LoRA on {leaves}"
    details = {"file": WEIGHTS_NAME, "tensors": other, "expected": sorted(limits.names)}
    yield MODULE_AT_TARGET.finding(message, severity=severity, **details)
