"""What a target is: the place that loads an adapter, with the facts that are known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal

from lora_packer.frozen import frozen

DEFAULT_TARGET = "together"

# What a target does with a feature. "placed" is decided by the modules that it has; "untold" is that nobody says
# anything, and nothing speaks against it either.
Effect = Literal["supported", "rejected", "crash", "ignored", "wrong", "partial", "unknown", "placed", "untold"]
Kind = Literal["service", "library", "engine", "union", "own"]


@frozen
class Fact:
    """What a target does with one feature.

    Attributes:
        of: the feature: a key of ``features.FEATURES``.
        effect: what it does.
        says: its own words, or what comes of it; "" where the effect says it all.
        source: where that was read.
        by: whether the config or the tensors decide that the feature is used; either where it is "".
    """

    of: str
    effect: Effect
    says: str = ""
    source: str = ""
    by: str = ""


@frozen
class RankLimits:
    """The ranks that a target takes.

    Attributes:
        least, most: the limits that nothing can change.
        default: the largest without a setting, or None where a setting has to be made.
        setting: the server's setting, as one writes it.
        choices: the values that the setting takes; any where there are none.
        source: where that was read.
    """

    least: int = 1
    most: int | None = None
    default: int | None = None
    setting: str | None = None
    choices: tuple[int, ...] = ()
    source: str = ""


@frozen
class ModuleNames:
    """The last names of the modules that a target takes LoRA on, and what it does with others."""

    names: frozenset[str]
    effect: Effect
    source: str = ""


@frozen
class Target:
    """The place that loads the adapter.

    Attributes:
        name: its name.
        version: the release that is asked about, the newest one that was read, or None where it has none here.
        label: what it was asked for as: ``vllm@0.31.0``.
        summary: what to call it in a sentence.
        kind: whether it is a service, whose inside nobody sees, or an engine, whose code was read.
        facts: feature -> what it does with it.
        otherwise: what it does with a feature that no fact is about.
        rank: the ranks that it takes.
        modules: the modules that it takes, or None where any or where ``placement`` decides.
        placement: whose way it has to find the module of a tensor, or "".
        most_bytes, size_source: how large the weights may be, and where that was read.
        dtypes: the dtypes that it takes, or () for any.
        config: fields that the config has to have -> their values.
        config_source: where that was read.
        files, files_source: the files that it takes and no others, or () for any.
        smallest_safe_rank, rank_multiple: what is advised -> why; 0 for nothing.
        rank_advice: why that is advised.
        engine: the engine that runs inside a service, by its own word.
        engines: what a union is made of.
    """

    name: str
    version: str | None
    label: str
    summary: str
    kind: Kind
    facts: Mapping[str, Fact]
    otherwise: Effect = "supported"
    rank: RankLimits = field(default_factory=RankLimits)
    modules: ModuleNames | None = None
    placement: str = ""
    most_bytes: int | None = None
    size_source: str = ""
    dtypes: frozenset[str] = frozenset()
    config: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    config_source: str = ""
    files: frozenset[str] = frozenset()
    files_source: str = ""
    smallest_safe_rank: int = 0
    rank_multiple: int = 0
    rank_advice: str = ""
    engine: Target | None = None
    engines: tuple[Target, ...] = ()

    def fact(self, feature: str) -> Fact:
        """Return what it does with a feature."""
        known = self.facts.get(feature)
        return known if known is not None else Fact(feature, self.otherwise)

    def at_least(self, version: str) -> bool:
        """Whether it is this release or a newer one; a target without releases is the newest."""
        return self.version is None or numbers(self.version) >= numbers(version)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers that compare, without zeros at its end. Raises ValueError."""
    parts = [int(part) for part in version.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
