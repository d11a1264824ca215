"""What each step says once it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.files import names_stdout
from lora_packer.pipeline import DETAIL, Note
from lora_packer.redact import escape

if TYPE_CHECKING:
    from lora_packer.inspector import Report
    from lora_packer.packager import Archive
    from lora_packer.pipeline.pack import Packed
    from lora_packer.pipeline.receipt import Section
    from lora_packer.publisher import Published

DONE_BEFORE = "done in an earlier run"


def note_checked(report: Report, note: Note) -> None:
    """Tell that a check passed, and what it found nevertheless."""
    warnings = report.summary["warnings"]
    warned = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    taken = f", {len(report.suppressed)} suppressed" if report.suppressed else ""
    note("check", f"{_fits(report)}{warned}{taken}")
    for item in report.suppressed:
        finding = item.finding
        told = f"{finding.code} {finding.name}: {finding.message} (because: {escape(item.reason, 400)})"
        note("note", f"suppressed {told}")
    for finding in report.findings:
        _note_finding(finding.severity, finding.code, finding.name, finding.message, finding.hint, note)
        for name in finding.tensors:
            note(DETAIL, f"          {name}")


def note_known(checked: Section | None, note: Note) -> None:
    """Tell that an earlier run checked it, and what that found: a receipt's section, None where the check was skipped.

    What a receipt of an earlier version does not have is not told.
    """
    note("check", DONE_BEFORE if checked is not None else "skipped in an earlier run")
    found = (checked or {}).get("findings")
    for item in found if isinstance(found, list) else ():
        if isinstance(item, dict):
            severity, code, name, message = (str(item.get(key)) for key in ("severity", "code", "name", "message"))
            _note_finding(severity, code, name, message, item.get("hint"), note)


def _fits(report: Report) -> str:
    """What passed: every tensor, as far as nothing was found about one."""
    tensors, called = report.adapter.tensors, f"{report.base_model.model_type} and the config call for"
    if report.base_model.model_type is None:
        return f"{tensors} tensors were checked, against no base model"
    if any(finding.tensor for finding in (*report.findings, *(item.finding for item in report.suppressed))):
        return f"{tensors} tensors were held against what {called}"
    return f"{tensors} tensors are those that {called}"


def _note_finding(severity: str, code: str, name: str, message: str, hint: object, note: Note) -> None:
    """Tell a warning and what to do about it; of anything less only who asks for details."""
    if severity != "warning":
        note(DETAIL, f"{severity:<9} {code} {name}: {message}")
        return
    note(severity, f"{code} {name}: {message}")
    if hint:
        note("next", str(hint))


def note_planned(packed: Packed, note: Note) -> None:
    """Tell what will be sent."""
    if packed.path is not None:
        note("pack", f"{packed.path.name} is an archive already")
        return
    names = ", ".join(member.name for member in packed.members)
    note("pack", f"{names} at the root of {packed.name}, {packed.content.size:,} bytes, not written to disk")


def note_packed(archive: Archive, note: Note) -> None:
    """Tell what was packed."""
    names = ", ".join(member.name for member in archive.members)
    where = "the archive on standard output" if names_stdout(archive.path) else archive.path.name
    note("pack", f"{names} at the root of {where}, {archive.size:,} bytes, sha256 {archive.sha256[:16]}...")


def note_published(published: Published, note: Note) -> None:
    """Tell what an upload and its URL proved."""
    stored = published.object
    done = "uploaded" if stored.uploaded else "was there already, nothing sent"
    note("upload", f"{stored.uri} {done}, {stored.size:,} bytes")
    note_proven(published, note)


def note_proven(published: Published, note: Note) -> None:
    """Tell what a URL proved."""
    proof = published.proof
    note("presign", f"SigV4 GET URL on {proof.host}, good until {published.deadline:%Y-%m-%d %H:%M} UTC")
    if not published.signer_lifetime_known:
        note("warning", "how long the credentials live is unknown; the URL ends with them, maybe before that")
    note("prove", f"a ranged GET of the URL answered {proof.status} for {proof.size:,} bytes")
    for fact in proof.proven[1:]:
        note("prove", fact)
    for doubt in proof.warnings:
        note("warning", doubt)
