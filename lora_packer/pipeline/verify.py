"""``verify``: does this archive belong to this receipt? What differs is told one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from lora_packer.adapter.elsewhere import is_elsewhere
from lora_packer.arguments import require_path
from lora_packer.base_model.names import same_base
from lora_packer.errors import InconclusiveError
from lora_packer.frozen import frozen
from lora_packer.hub import repo_in
from lora_packer.names import CONFIG_NAME, WEIGHTS_NAME
from lora_packer.pipeline import Progress
from lora_packer.pipeline.given import Given, fetch_given, read_given, read_repo
from lora_packer.pipeline.receipt import Receipt
from lora_packer.pipeline.recorded import FileRecord, Recorded, receipt_for, recorded
from lora_packer.redact import escape


@frozen
class Discrepancy:
    """One thing that is not as the receipt has it.

    Attributes:
        what: what differs, such as ``sha256`` or ``adapter_model.safetensors: size``.
        expected: as the receipt records it; None where it records no such thing.
        actual: as it is; None where there is no such thing.
    """

    what: str
    expected: Any
    actual: Any


@frozen
class Verification:
    """Whether an archive belongs to a receipt.

    Attributes:
        status: ``ok`` where nothing differs, else ``failed``.
        findings: what differs.
        compared: what was compared, such as ``size`` and ``sha256``.
        notes: what that means, in sentences.
        archive: what was given.
        receipt: of which release the receipt is: path, model_name, base_model, job_id.
    """

    status: Literal["ok", "failed"]
    findings: tuple[Discrepancy, ...]
    compared: tuple[str, ...]
    notes: tuple[str, ...]
    archive: str
    receipt: Mapping[str, str | None]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.status == "ok"

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``verify --format json`` prints it."""
        return {
            "schema_version": 1,
            "status": self.status,
            "findings": [asdict(item) for item in self.findings],
            "compared": list(self.compared),
            "notes": list(self.notes),
            "archive": self.archive,
            "receipt": dict(self.receipt),
        }


def verify(archive: str | Path, receipt: str | Path | None = None, *, progress: Progress | None = None) -> Verification:
    """Compare an archive with what a release's receipt records: size, SHA-256, and what is inside.

    Args:
        archive: a ``.zip`` or ``.tar.gz``, also as ``s3://bucket/key.zip`` or an ``https://`` URL, from where it is
            fetched; or the adapter's folder, or ``hf://org/repo``, of which the files are compared.
        receipt: the file that ``release`` wrote. Default: ``NAME.*.receipt.json`` beside the archive or in the working
            folder, where NAME is the archive's and one alone fits.
        progress: told (bytes read, bytes in all).

    Returns:
        What differs; nothing is written anywhere.

    Raises:
        InputError: the archive or the receipt cannot be read.
        InconclusiveError: the receipt records nothing to compare with, or the Hub could not be asked.
    """
    require_path(archive, "archive")
    if receipt is not None:
        require_path(receipt, "receipt")
    repo = repo_in(str(archive))
    record = receipt_for(archive, receipt)
    wanted = recorded(record)
    if wanted.archive is None and not wanted.files and wanted.commit is None:
        raise InconclusiveError(
            f"The receipt '{escape(str(record.path))}' records no digest to compare with: {wanted.why_no_archive}.",
            hint="Run the release again to its end.",
        )
    if repo is not None:
        given = read_repo(repo)
    elif is_elsewhere(archive):
        given = fetch_given(str(archive), progress)
    else:
        given = read_given(Path(archive), tuple(wanted.files), progress)
    return _compared(record, wanted, given)


def _compared(receipt: Receipt, wanted: Recorded, given: Given) -> Verification:
    """Hold what was given against what is recorded."""
    compared, findings = [], [Discrepancy(*item) for item in wanted.contradictions]
    if given.archive is not None and wanted.archive is not None:
        compared += [name for name in ("size", "sha256") if getattr(wanted.archive, name) is not None]
        findings += _of_the_whole(wanted, given)
    if given.kind == "repo" and wanted.commit is not None:
        compared.append("commit")
        findings += _differing("commit", wanted.commit, given.commit)
    # Of a finished archive the bytes alone are recorded: where they are the same, what is inside was known.
    if given.unreadable and (wanted.files or findings):
        findings.append(Discrepancy("contents", "a readable archive", given.unreadable))
    elif not given.unreadable:
        compared += [name for name in wanted.files if _can_compare(wanted.files[name], given.files.get(name))]
        findings += _of_the_files(wanted.files, given, are_all=wanted.are_all_files)
    if not findings and not set(compared) - {"size"}:
        raise InconclusiveError(
            f"Nothing that the receipt records can be compared with {escape(given.name)}.",
            hint="Give the archive that was released.",
        )
    differing = {item.what.partition(":")[0] for item in findings}
    is_that_archive = "sha256" in compared and "sha256" not in differing
    if CONFIG_NAME in differing or (CONFIG_NAME not in compared and not is_that_archive):
        findings += _of_the_base(receipt, given)
    return Verification(
        "failed" if findings else "ok",
        tuple(findings),
        tuple(escape(name, 200) for name in compared),
        tuple(_notes(wanted, given, findings, differing, compared)),
        given.name,
        _named(receipt),
    )


def _of_the_whole(wanted: Recorded, given: Given) -> Iterator[Discrepancy]:
    """The archive as one run of bytes."""
    assert wanted.archive is not None
    assert given.archive is not None
    if wanted.format is not None:
        yield from _differing("format", wanted.format, given.format)
    if wanted.archive.size is not None:
        yield from _differing("size", wanted.archive.size, given.archive.size)
    if wanted.archive.sha256 is not None and given.archive.sha256 is not None:
        yield from _differing("sha256", wanted.archive.sha256, given.archive.sha256[: len(wanted.archive.sha256)])


def _of_the_files(wanted: Mapping[str, FileRecord], given: Given, *, are_all: bool) -> Iterator[Discrepancy]:
    """The files, by name; one that has got another name is told as such, and where ``are_all``, one too many."""
    files = given.files
    extra = {name: file for name, file in files.items() if name not in wanted}
    for name, record in wanted.items():
        shown = escape(name, 120)
        if name in given.damaged:
            yield Discrepancy(shown, record.sha256, f"damaged: {given.damaged[name]}")
        elif name in files:
            if record.size is not None:
                yield from _differing(f"{shown}: size", record.size, files[name].size)
            if _can_compare(record, files[name]):
                yield from _differing(f"{shown}: sha256", record.sha256, files[name].sha256)
        else:
            moved = next((other for other, file in extra.items() if file.sha256 and file.sha256 == record.sha256), None)
            if moved is not None:
                del extra[moved]
                yield Discrepancy(f"{shown}: name", shown, escape(moved, 120))
            else:
                yield Discrepancy(shown, record.sha256 or "a file", None)
    if given.kind == "archive" and are_all:
        for name, file in extra.items():
            yield Discrepancy(escape(name, 120), None, file.sha256)


def _of_the_base(receipt: Receipt, given: Given) -> Iterator[Discrepancy]:
    """The base model, as far as names tell: where the check had found that they differ, that is known."""
    base = receipt.release.get("base_model")
    known = (receipt.check or {}).get("findings")
    if isinstance(known, list) and any(isinstance(item, dict) and item.get("code") == "LP501" for item in known):
        return
    if isinstance(base, str) and given.base_model and not same_base(base, given.base_model):
        yield Discrepancy("base model", escape(base, 120), escape(given.base_model, 120))


def _differing(what: str, expected: Any, actual: Any) -> Iterator[Discrepancy]:
    if expected != actual:
        yield Discrepancy(what, expected, actual)


def _can_compare(record: FileRecord, file: FileRecord | None) -> bool:
    return record.sha256 is not None and file is not None and file.sha256 is not None


def _notes(
    wanted: Recorded, given: Given, findings: Sequence[Discrepancy], differing: set[str], compared: list[str]
) -> Iterator[str]:
    """What the findings mean."""
    if wanted.archive is None:
        yield f"The receipt records no archive: {wanted.why_no_archive}. The files alone were compared."
    elif given.archive is None:
        yield f"A {given.kind} was given, not the archive: the files alone were compared."
    elif given.unreadable or given.damaged:
        yield _how_damaged(wanted.archive.size, given)
    elif "sha256" in differing and wanted.files:
        yield from _inside(wanted, given, findings, differing)
    elif "sha256" in differing:
        yield "A finished archive was released, so the receipt does not record what is inside."
    if wanted.is_partial and "sha256" in compared:
        yield "The receipt has only the first digits of the archive's SHA-256, from its key at the store."
    missing = [name for name in wanted.files if name not in compared and name not in differing]
    if missing and not given.unreadable:
        yield f"Not compared, for no digest of it is known: {', '.join(escape(name, 120) for name in missing)}."


def _how_damaged(size: int | None, given: Given) -> str:
    assert given.archive is not None
    short = size - given.archive.size if size is not None and given.archive.size is not None else 0
    if short > 0:
        return f"The archive is damaged; {short:,} bytes are missing, as of a copy that was cut off."
    return "The archive is damaged, or no archive that lora-packer wrote."


def _inside(wanted: Recorded, given: Given, findings: Sequence[Discrepancy], differing: set[str]) -> Iterator[str]:
    """What the files tell about an archive with other bytes."""
    names = {escape(name, 120) for name in (*wanted.files, *given.files)}
    others = sorted(names & differing)
    if others and all(item.what.endswith(": name") for item in findings if item.what.partition(":")[0] in names):
        yield "Every file inside is the same, byte for byte, under another name: loaders want the names of the receipt."
    elif not others:
        yield (
            "Every file inside is the same, byte for byte; the archive around them is another: it was packed again, "
            "or by another tool."
        )
    elif WEIGHTS_NAME not in others:
        yield f"The weights inside are the same, byte for byte; what differs is {', '.join(others)}."
    else:
        yield "The weights inside are others: this is another adapter, or another checkpoint of this one."


def _named(receipt: Receipt) -> Mapping[str, str | None]:
    """Return of which release a receipt is."""
    told = {name: receipt.release.get(name) for name in ("model_name", "base_model")} | {"job_id": receipt.job_id}
    shown = {name: escape(value, 120) if isinstance(value, str) else None for name, value in told.items()}
    return {"path": None if receipt.path is None else escape(str(receipt.path)), **shown}
