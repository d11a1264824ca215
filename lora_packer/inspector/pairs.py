"""What an adapter's file and config say without a base model: half pairs, ranks that disagree, scales to confirm."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.adapter import WEIGHTS_NAME, Adapter, LoraConfig
from lora_packer.adapter.config import CONFIG_NAME
from lora_packer.adapter.keys import PAIRED, parse_key
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.redact import escape


def pairs(adapter: Adapter, config: LoraConfig) -> list[Finding]:
    """What can be said without a base model: half pairs, and ranks that disagree."""
    findings: list[Finding] = []
    parts: dict[str, dict[str, str]] = {}
    for name in adapter.tensors:
        key = parse_key(name)
        if key.part in PAIRED:
            parts.setdefault(key.path, {})[key.part] = name
    halves = [(path, pair) for path, pair in parts.items() if len(pair) == 1]
    if halves:
        part, name = next(iter(halves[0][1].items()))
        message = f"{PAIRED[part].removesuffix('.weight')} is missing for {len(halves)} of {len(parts)} modules"
        findings.append(
            rules.HALF_PAIR.finding(
                message,
                file=WEIGHTS_NAME,
                tensor=escape(name.replace(part, PAIRED[part])),
                count=len(halves),
                expected=PAIRED[part],
                actual="missing",
            )
        )
    ranks = {path: _ranks(pair, adapter) for path, pair in parts.items() if len(pair) == 2}
    off = [(path, pair) for path, pair in ranks.items() if pair[0] != pair[1]]
    if off and config.use_bdlora is None:
        path, (rank_a, rank_b) = off[0]
        message = f"lora_A and lora_B of {len(off)} modules have different ranks"
        name = next(iter(parts[path].values()))
        findings.append(
            rules.RANK_MISMATCH.finding(
                message, file=WEIGHTS_NAME, tensor=escape(name), count=len(off), expected=rank_a, actual=rank_b
            )
        )
    return findings


def _ranks(pair: Mapping[str, str], adapter: Adapter) -> tuple[int | None, int | None]:
    first, second = sorted(pair.items())  # lora_A before lora_B
    shape_a, shape_b = adapter.tensors[first[1]].shape, adapter.tensors[second[1]].shape
    return shape_a[0] if shape_a else None, shape_b[1] if len(shape_b) > 1 else None


def unconfirmed_scale(config: LoraConfig) -> list[Finding]:
    """Scale fields that no tensor confirms: a wrong one loads everywhere and changes every output."""
    details = {"file": CONFIG_NAME}
    if config.use_rslora:
        scale, plain = config.scale(config.r, config.lora_alpha), config.lora_alpha / config.r
        message = f"use_rslora scales the update by {scale:.4g} (alpha / sqrt(r)); without it, it would be {plain:.4g}"
        return [rules.UNCONFIRMED_SCALE.finding(message, field="use_rslora", actual=True, **details)]
    if config.rank_pattern and not config.alpha_pattern:
        ranks = sorted({config.r, *config.rank_pattern.values()})
        if len(ranks) > 1:
            low, high = (config.scale(rank, config.lora_alpha) for rank in (ranks[-1], ranks[0]))
            message = f"rank_pattern without alpha_pattern scales modules differently, from {low:.4g} to {high:.4g}"
            return [rules.UNCONFIRMED_SCALE.finding(message, field="alpha_pattern", **details)]
    return []
