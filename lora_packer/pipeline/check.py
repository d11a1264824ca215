"""The check before everything else: one that did not pass stops what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lora_packer.adapter import AdapterSource
from lora_packer.arguments import BaseSource, require_base, require_codes, require_one_of, require_text
from lora_packer.errors import CheckFailedError, InconclusiveError
from lora_packer.frozen import frozen
from lora_packer.pipeline import Note, Progress
from lora_packer.pipeline.notes import DONE_BEFORE, note_checked
from lora_packer.pipeline.receipt import Receipt, timestamp, version
from lora_packer.targets import DEFAULT_TARGET

# The inspector takes longest to load of all rooms: not before something is checked, so that other work has begun.
if TYPE_CHECKING:
    from lora_packer.inspector import Report
    from lora_packer.inspector.suppression import Suppression


@frozen
class CheckOptions:
    """How the adapter is checked before anything else happens; the fields are ``check``'s arguments."""

    base_config: BaseSource | None = None
    base_model: str | None = None
    target: str = DEFAULT_TARGET
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    fail_on: Literal["error", "warning"] = "error"
    skip: bool = False
    target_file: str | Path | None = None
    suppress: Sequence[Suppression] = ()

    def __post_init__(self) -> None:
        require_base(self.base_config, "base_config")
        require_text(self.target, "target")
        require_codes(self.select, "select")
        require_codes(self.ignore, "ignore")
        require_one_of(self.fail_on, "fail_on", ("error", "warning"))
        if self.suppress:
            from lora_packer.inspector.suppression import require_suppressions

            require_suppressions(self.suppress)

    @property
    def allow_credentials(self) -> bool:
        """Whether what looks like a token in an optional file is packed: where the rule is named, and no other way."""
        return "LP108" in (code.upper() for code in self.ignore)

    def to_dict(self) -> dict[str, Any]:
        """Return what a receipt holds a later check to."""
        return {
            "target": self.target,
            "base_config": str(self.base_config) if self.base_config else None,
            "select": list(self.select),
            "ignore": list(self.ignore),
            "fail_on": self.fail_on,
            **({} if self.target_file is None else {"target_file": str(self.target_file)}),
        }


def run_check(
    adapter: str | Path | AdapterSource,
    options: CheckOptions,
    note: Note,
    *,
    sha256: bool = True,
    progress: Progress | None = None,
) -> Report | None:
    """Check the adapter unless told not to; ``sha256`` is whether who packs it wants its files' SHA-256.

    ``progress`` is told (bytes read, bytes in all) of the weights.

    Raises CheckFailedError, InconclusiveError.
    """
    if options.skip:
        note("check", "skipped, as told")
        return None
    from lora_packer.inspector import check

    report = check(
        adapter,
        base_config=options.base_config,
        base_model=options.base_model,
        target=options.target,
        target_file=options.target_file,
        select=options.select,
        ignore=options.ignore,
        suppress=options.suppress,
        fail_on=options.fail_on,
        checksums="sha256" if sha256 else "crc32",
        progress=progress,
    )
    if report.status == "failed":
        severities = [item.severity for item in report.decisive]
        failing: Literal["error", "warning"] = "error" if "error" in severities else "warning"
        count = severities.count(failing)
        message = f"The adapter failed its check with {count} {failing}{'' if count == 1 else 's'}"
        raise CheckFailedError(f"{message}; nothing was packed or sent.", report=report)
    if report.status == "inconclusive":
        reason = report.unchecked[0].reason
        raise InconclusiveError(f"The adapter could not be checked: {reason}", report=report)
    note_checked(report, note)
    return report


T = TypeVar("T")


def recheck(record: Receipt, note: Note, checked: Callable[[], T | None]) -> T | None:
    """Return what a check gives. Where it cannot be made of what was submitted already, the earlier one stands.

    Raises CheckFailedError, InputError; InconclusiveError where nothing was submitted, or without an earlier check.
    """
    if record.job_id is not None and record.check is not None:
        note("check", f"{DONE_BEFORE}, and now again")
    try:
        return checked()
    except InconclusiveError as error:
        if record.job_id is None or record.check is None:
            raise
        note("warning", f"{error.message} An earlier run says that it passed, and submitted it.")
        return None


def check_section(report: Report, options: CheckOptions) -> dict[str, Any]:
    """Return a check that passed as a receipt has it: by what, against what, and everything that was found.

    Of what a finding is about the first tensor and the count stand for all.
    """
    findings = [item.to_dict() for item in report.findings]
    suppressed = [item.to_dict() for item in report.suppressed]
    for told in (*findings, *suppressed):
        told.pop("tensors")
    return {
        "status": report.status,
        **options.to_dict(),
        **report.summary,
        "base_model": asdict(report.base_model),
        "findings": findings,
        **({"suppressed": suppressed} if suppressed else {}),
        "unchecked": [asdict(item) for item in report.unchecked],
        **({"targets": [item.to_dict() for item in report.targets]} if len(report.targets) > 1 else {}),
        "lora_packer": version(),
        "at": timestamp(),
    }
