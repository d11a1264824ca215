"""What is told of one thing that PEFT refuses."""

from __future__ import annotations

from typing import Any, Literal

from lora_packer.frozen import frozen


@frozen
class Refusal:
    """One reason for which PEFT raises when it loads an adapter, or when the model runs with it.

    Attributes:
        field: the field of ``adapter_config.json`` that brings it about.
        message: the reason, as one sentence; text from the file is escaped in it.
        expected: what PEFT takes (JSON-serialisable), or None.
        actual: what the file has (JSON-serialisable), or None.
        hint: what to do, one sentence, or None.
        source: PEFT 0.21.2's file and line, such as ``tuners/lora/layer.py:240``.
        kind: ``field`` where a value is refused, ``target`` where LoRA is refused on a module, ``no-effect`` where PEFT
            loads it and the base model answers.
        severity: ``warning`` where PEFT loads it, and a part of it is without effect or cannot be used.
        only_today: whether an older release, or an engine, loads what today's PEFT refuses.
    """

    field: str
    message: str
    expected: Any
    actual: Any
    hint: str | None
    source: str
    kind: Literal["field", "target", "no-effect"] = "field"
    severity: Literal["error", "warning"] = "error"
    only_today: bool = False
