"""The check before everything else: one that did not pass stops what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_packer.adapter import AdapterSource
from lora_packer.arguments import require_base, require_codes, require_text
from lora_packer.errors import CheckFailedError, InconclusiveError
from lora_packer.inspector import Report, check
from lora_packer.inspector.check import BaseSource
from lora_packer.inspector.profiles import DEFAULT_TARGET
from lora_packer.pipeline import Note
from lora_packer.pipeline.notes import note_checked


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How the adapter is checked before anything else happens; the fields are ``check``'s arguments."""

    base_config: BaseSource | None = None
    base_model: str | None = None
    target: str = DEFAULT_TARGET
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    skip: bool = False

    def __post_init__(self) -> None:
        require_base(self.base_config, "base_config")
        require_text(self.target, "target")
        require_codes(self.select, "select")
        require_codes(self.ignore, "ignore")

    def to_dict(self) -> dict[str, str | None]:
        """Return what a receipt holds a later check to."""
        return {"target": self.target, "base_config": str(self.base_config) if self.base_config else None}


def run_check(
    adapter: str | Path | AdapterSource, options: CheckOptions, note: Note, *, sha256: bool = True
) -> Report | None:
    """Check the adapter unless told not to; ``sha256`` is whether who packs it wants its files' SHA-256.

    Raises CheckFailedError, InconclusiveError.
    """
    if options.skip:
        note("check", "skipped, as told")
        return None
    report = check(
        adapter,
        base_config=options.base_config,
        base_model=options.base_model,
        target=options.target,
        select=options.select,
        ignore=options.ignore,
        checksums="sha256" if sha256 else "crc32",
    )
    if report.status == "failed":
        count = report.summary["errors"]
        errors = "1 error" if count == 1 else f"{count} errors"
        message = f"The adapter failed its check with {errors}; nothing was packed or sent."
        raise CheckFailedError(message, report=report)
    if report.status == "inconclusive":
        reason = report.unchecked[0].reason
        raise InconclusiveError(f"The adapter could not be checked: {reason}", report=report)
    note_checked(report, note)
    return report
