"""A finding: one thing wrong or notable about an adapter."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from lora_packer.frozen import frozen

Severity = Literal["error", "warning", "info"]


@frozen
class Finding:
    """One cause is one finding: 448 tensors off for the same reason are one finding with ``count`` 448.

    Attributes:
        code: the rule's stable code, such as ``LP301``.
        name: the rule's name, such as ``wrong-shape``.
        severity: ``error``, ``warning`` or ``info``.
        message: the cause, as one sentence.
        file: the adapter's file it is about, or None.
        tensor: the first tensor it is about, escaped and clipped, or None.
        field: the field of ``adapter_config.json`` it is about, or None.
        count: how many tensors (or fields) share this cause.
        tensors: all of these tensors, the first one first, escaped and clipped.
        targets: the targets for which it holds, or None where it holds whatever loads the adapter.
        expected: what was expected (JSON-serialisable), or None.
        actual: what was found (JSON-serialisable), or None.
        hint: what to do, one sentence, or None.
        fixable: whether a lossless repair exists.
    """

    code: str
    name: str
    severity: Severity
    message: str
    file: str | None = None
    tensor: str | None = None
    field: str | None = None
    count: int = 1
    expected: Any = None
    actual: Any = None
    hint: str | None = None
    fixable: bool = False
    tensors: tuple[str, ...] = ()
    targets: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as the JSON output has it."""
        targets = None if self.targets is None else list(self.targets)
        return {**asdict(self), "tensors": list(self.tensors), "targets": targets}


@frozen
class Unchecked:
    """A check that did not run, and why."""

    code: str
    reason: str
