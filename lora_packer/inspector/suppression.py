"""Suppressions: findings that somebody knows of and takes, each with a reason. What did not run is none."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from lora_packer.adapter import WEIGHTS_NAME, AdapterSource
from lora_packer.errors import InputError
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.rules import RULES
from lora_packer.redact import escape

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_CHUNK = 1 << 20  # bytes


@frozen
class Suppression:
    """A finding that is known and taken: it is told and counted, and decides nothing.

    Attributes:
        rule: the rule's code, such as ``LP403``.
        adapter: a glob for the adapter as it is named or as it lies below ``folder`` (``*`` stands for ``/``, too), or
            the SHA-256 of its ``adapter_model.safetensors`` in hex.
        reason: why, for who reads the report.
        folder: where relative globs begin; None: the working folder.

    Raises InputError where there is no such rule, or a part is empty.
    """

    rule: str
    adapter: str
    reason: str
    folder: Path | None = None

    def __post_init__(self) -> None:
        for name in ("rule", "adapter", "reason"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"a suppression needs a {name}, which is a text that is not empty.")
        if self.rule not in RULES:
            raise InputError(
                f"a suppression is for the rule '{escape(self.rule, 40)}', which is no rule's code.",
                hint="Name one rule, such as LP403; `lora-packer rule` lists them.",
            )

    def names(self, source: str, sha256: Callable[[], str | None]) -> bool:
        """Whether it is about this adapter, whose weights have that SHA-256 (None: nobody can say)."""
        if _SHA256.fullmatch(self.adapter):
            return self.adapter.lower() == sha256()
        pattern = self.adapter.removeprefix("./").rstrip("/")
        return any(fnmatchcase(name, pattern) for name in _names_of(source, self.folder))


@frozen
class Suppressed:
    """A finding that decided nothing, and why."""

    finding: Finding
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it: the finding, and the reason."""
        return {**self.finding.to_dict(), "reason": escape(self.reason, 400)}


class Suppressing:
    """The suppressions that are about one adapter."""

    def __init__(self, suppressions: Sequence[Suppression], source: AdapterSource) -> None:
        self._suppressions = tuple(suppressions)
        self._source = source
        self._sha256 = cache(lambda: _sha256_of(source))

    def of(self, finding: Finding) -> Suppression | None:
        """Return what suppresses a finding, or None."""
        of_rule = (item for item in self._suppressions if item.rule == finding.code)
        return next((item for item in of_rule if item.names(self._source.name, self._sha256)), None)

    def split(self, findings: Iterable[Finding]) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        """Return the findings that stand, and those that are suppressed."""
        every = tuple(findings)
        if not self._suppressions:
            return every, ()
        taken = tuple(item for item in every if self.of(item) is not None)
        return tuple(item for item in every if item not in taken), taken

    def told(self, findings: Iterable[Finding]) -> tuple[Suppressed, ...]:
        """Return suppressed findings with the reason of each."""
        return tuple(Suppressed(item, found.reason) for item in findings if (found := self.of(item)) is not None)


def require_suppressions(value: object) -> None:
    """Raise InputError where a value is no list of suppressions."""
    if not isinstance(value, Sequence) or not all(isinstance(item, Suppression) for item in value):
        raise InputError("suppress is to be a list of lora_packer.Suppression.")


def _names_of(source: str, folder: Path | None) -> tuple[str, ...]:
    """What an adapter may be called in a glob: as it is named, where it lies, and where from the folder."""
    named = source.removeprefix("./").rstrip("/") or source
    if "://" in source:
        return (named,)
    place = os.path.abspath(source)  # noqa: PTH100 - pathlib's absolute() leaves ".." in it
    below = os.path.relpath(place, folder or Path.cwd())
    return (named, place) if below.startswith("..") else (named, place, below)


def _sha256_of(source: AdapterSource) -> str | None:
    """The SHA-256 of the weights; None where they are not at hand."""
    if source.remote:
        return None
    digest = hashlib.sha256()
    try:
        with source.open(WEIGHTS_NAME) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, InputError):  # that there is no such file is a finding
        return None
    return digest.hexdigest()
