"""The report of a check: its findings, what was not checked, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import TYPE_CHECKING, Any, Literal

from lora_packer.finding import Finding, Unchecked
from lora_packer.frozen import frozen
from lora_packer.inspector.norms import ModuleStats
from lora_packer.inspector.suppression import Suppressed

if TYPE_CHECKING:
    from lora_packer.packager import CheckedFile

SCHEMA_VERSION = 1
Status = Literal["ok", "failed", "inconclusive"]


@frozen
class AdapterSummary:
    """What was checked: where it came from, how many tensors and parameters, bytes, dtypes and ranks."""

    source: str
    tensors: int
    parameters: int
    bytes: int
    dtypes: tuple[str, ...]
    ranks: tuple[int, ...]


@frozen
class BaseModelSummary:
    """What it was checked against: the hosted id, where the config came from, its model type and its SHA-256.

    The SHA-256 is that of the file; of the catalogue's entry or a dict, of its JSON with sorted keys and no blanks.
    """

    id: str | None
    config_source: str | None
    model_type: str | None
    config_sha256: str | None = None


@frozen
class TargetVerdict:
    """What a check says of one target.

    Attributes:
        name, version: the target's, and the release that was asked about, or None where it has none.
        status: its own verdict.
        errors, warnings: how many findings hold for it.
        reason: the first of them with its code, errors before warnings, or why it is inconclusive.
        label: what it was asked for as.
    """

    name: str
    version: str | None
    status: Status
    errors: int
    warnings: int
    reason: str | None
    label: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        names = ("name", "version", "status", "errors", "warnings", "reason")
        return {name: getattr(self, name) for name in names}


@frozen
class Report:
    """The result of ``check``; the attributes are the fields of its JSON.

    ``stats`` holds the size of each module's update where ``check`` was asked for it, else None. ``checked`` holds the
    files as they were read, by name, where ``check`` was asked for checksums; it is no part of the JSON. ``targets``
    has the verdict of each target, and ``target`` is the first one; the first ``deciding`` of them make the status.
    ``suppressed`` has the findings that somebody took, with the reason of each: they are in no count but their own.
    ``lines`` has the line of each field of ``adapter_config.json``; it is no part of the JSON either.
    """

    status: Status
    adapter: AdapterSummary
    base_model: BaseModelSummary
    target: str
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]
    stats: tuple[ModuleStats, ...] | None = None
    checked: Mapping[str, CheckedFile] = field(default_factory=dict, repr=False)
    targets: tuple[TargetVerdict, ...] = ()
    deciding: int = 1
    suppressed: tuple[Suppressed, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def decisive(self) -> tuple[Finding, ...]:
        """The findings that hold for a target which decides."""
        names = {item.label for item in self.targets[: self.deciding]}
        return tuple(item for item in self.findings if item.targets is None or names & set(item.targets))

    @property
    def ok(self) -> bool:
        """Whether everything that had to be checked was checked and is fine."""
        return self.status == "ok"

    @property
    def summary(self) -> dict[str, int]:
        """Count the findings that decide by severity; and those that are suppressed, where there are any."""
        counts = {"errors": 0, "warnings": 0, "infos": 0}
        for finding in self.decisive:
            counts[f"{finding.severity}s"] += 1
        return counts | ({"suppressed": len(self.suppressed)} if self.suppressed else {})

    def to_dict(self) -> dict[str, Any]:
        """Return the report as ``check --format json`` prints it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "adapter": {**asdict(self.adapter), "dtypes": list(self.adapter.dtypes), "ranks": list(self.adapter.ranks)},
            "base_model": asdict(self.base_model),
            "target": self.target,
            **({"targets": [item.to_dict() for item in self.targets]} if len(self.targets) > 1 else {}),
            "findings": [finding.to_dict() for finding in self.findings],
            **({"suppressed": [item.to_dict() for item in self.suppressed]} if self.suppressed else {}),
            "unchecked": [asdict(item) for item in self.unchecked],
            "summary": self.summary,
            **({} if self.stats is None else {"stats": [asdict(item) for item in self.stats]}),
        }


def verdict(findings: Sequence[Finding], inconclusive: bool, fail_on: Literal["error", "warning"]) -> Status:
    """Return the status: a finding at or above ``fail_on`` fails; else a required check that could not run decides."""
    failing = ("error",) if fail_on == "error" else ("error", "warning")
    if any(finding.severity in failing for finding in findings):
        return "failed"
    return "inconclusive" if inconclusive else "ok"
