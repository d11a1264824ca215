"""What ``fix`` is asked for, where the result goes, and what it did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_packer.folders import NewFolder
from lora_packer.frozen import frozen
from lora_packer.pipeline import Progress
from lora_packer.repair.ahead import Ahead
from lora_packer.repair.result import Repaired, Skipped

if TYPE_CHECKING:
    from lora_packer.arguments import BaseSource
    from lora_packer.inspector import Report
    from lora_packer.repair.difference import Difference


@frozen
class Asked:
    """What is wanted; the attributes are ``fix``'s arguments."""

    base_config: BaseSource | None
    base_model: str | None
    target: str
    allow: tuple[str, ...]
    base_weights: str | Path | None


@frozen
class Into:
    """Where the result goes.

    Attributes:
        place: the new folder, as it was asked for.
        folder: what takes its name when it is whole.
        ahead: the weights file in it, where one is being copied already.
        progress: told (bytes written, bytes in all).
    """

    place: Path
    folder: NewFolder
    ahead: Ahead | None
    progress: Progress | None


Status = Literal["fixed", "unchanged", "failed", "inconclusive"]


@frozen
class Fixed:
    """What ``fix`` did; the attributes are the fields of its JSON.

    Attributes:
        status: ``fixed`` or ``unchanged`` where the result passes its check, else ``failed`` or ``inconclusive``.
        output: the new folder, or None where nothing was written.
        repairs, skipped: what was mended, and what was not.
        report: the check of the result.
        difference: what the result has that the adapter has not.
    """

    status: Status
    output: str | None
    repairs: tuple[Repaired, ...]
    skipped: tuple[Skipped, ...]
    report: Report
    difference: Difference

    @property
    def ok(self) -> bool:
        """Whether the result passes its check."""
        return self.report.ok

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``fix --format json`` prints it."""
        return {
            "schema_version": 1,
            "status": self.status,
            "output": self.output,
            "repairs": [item.to_dict() for item in self.repairs],
            "skipped": [item.to_dict() for item in self.skipped],
            "check": self.report.to_dict(),
        }
