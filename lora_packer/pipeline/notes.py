"""What each step says once it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.pipeline import Note

if TYPE_CHECKING:
    from lora_packer.inspector import Report
    from lora_packer.packager import Archive
    from lora_packer.pipeline.pack import Packed
    from lora_packer.publisher import Published

DONE_BEFORE = "done in an earlier run"


def note_checked(report: Report, note: Note) -> None:
    """Tell that a check passed."""
    warnings = report.summary["warnings"]
    warned = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    fits = f"{report.adapter.tensors} tensors are those that {report.base_model.model_type} and the config call for"
    note("check", f"{fits}{warned}")


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
    note("pack", f"{names} at the root of {archive.path.name}, {archive.size:,} bytes, sha256 {archive.sha256[:16]}...")


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
