"""The heavy part of ``fix``: the base model is read, every repair has its turn, and what comes out is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from lora_packer.adapter import AdapterSource
from lora_packer.arguments import require_base
from lora_packer.base_model import BaseModel
from lora_packer.errors import InconclusiveError
from lora_packer.inspector import Report, check
from lora_packer.inspector.base import base_for
from lora_packer.pipeline.fixed import Asked, Fixed, Into, Status
from lora_packer.repair.base_weights import BaseWeights
from lora_packer.repair.content import are_copied, require_written, write, write_beside
from lora_packer.repair.difference import difference
from lora_packer.repair.draft import Draft
from lora_packer.repair.draft_source import DraftSource, WrittenFiles
from lora_packer.repair.find import Found
from lora_packer.repair.layout import segments
from lora_packer.repair.mend import Mending, allowed, mend
from lora_packer.repair.result import Repaired, Skipped, skipped
from lora_packer.repair.setting import Setting
from lora_packer.targets import chosen
from lora_packer.threads import aside


def mended(found: Found, source: AdapterSource, asked: Asked, into: Into | None) -> Fixed:
    """Mend what was found, and check what comes out; ``into`` is where it is written, or None where nothing is.

    What is written is to be kept where the result says so (``output``). Raises InputError.
    """
    setting = _setting(found, asked)
    given: dict[str, Any] = {"base_config": asked.base_config, "base_model": asked.base_model, "target": asked.target}
    done = mend(found, setting)
    repairs = tuple(item for item in done.told if isinstance(item, Repaired))
    output = None
    if done.after is None or done.before is None:
        report = check(source, **given)
    elif into is None:
        report = check(DraftSource(done.after, done.source), **_of(done, given))
    else:
        report = _written(done, done.after, _of(done, given), into)
        if repairs or report.ok:
            output = str(into.place)
            report = replace(report, adapter=replace(report.adapter, source=output))
    left = _all_left(tuple(item for item in done.told if isinstance(item, Skipped)), report)
    return Fixed(_status(report, repairs), output, repairs, left, report, difference(done.before, done.after))


def _setting(found: Found, asked: Asked) -> Setting:
    require_base(asked.base_config, "base_config", BaseModel)
    lossy = allowed(asked.allow)
    chosen(asked.target)  # raises InputError for a name that nobody knows
    weights = None if asked.base_weights is None else BaseWeights.load(asked.base_weights)
    named: Any = None if found.draft is None else found.draft.settings
    base: BaseModel | str
    try:
        base = base_for(asked.base_config, asked.base_model, named).base
    except InconclusiveError as error:
        base = str(error)
    return Setting(found.source, base, asked.target, asked.base_model, lossy, weights)


def _of(done: Mending, given: dict[str, Any]) -> dict[str, Any]:
    """What another layout is checked as: the same adapter in PEFT's."""
    return given if done.form is None else {**given, "target": "peft"}


def _written(done: Mending, draft: Draft, given: dict[str, Any], into: Into) -> Report:
    """Write what came out, and check it.

    Where all of it is ranges of files on this disk, these are read while the kernel copies them, and what was written
    is compared with what had to be.
    """
    source, folder, ahead = done.source, into.folder, into.ahead
    parts = segments(draft)
    if ahead is not None and done.form is None and ahead.is_of(parts):

        def finished(name: str) -> Path:
            ahead.finish(parts)
            return folder.path(name)

        write_beside(draft, source, folder)
        report = check(DraftSource(draft, source, finished), **given)
        ahead.finish(parts)
        require_written(draft, folder)
        return report
    if ahead is not None:
        ahead.drop()
    if done.form is not None:
        write(done.form[0], source, folder, into.progress, weights_name=done.form[1])
        return check(DraftSource(draft, source), **given)
    if not are_copied(parts, source):
        write(draft, source, folder, into.progress)
        return check(WrittenFiles(draft, source, folder), **given)
    stop = Event()
    with aside(stop.set, write, draft, source, folder, into.progress, stop.is_set) as writing:

        def written(name: str) -> Path:
            writing.result()
            return folder.path(name)

        report = check(DraftSource(draft, source, written), **given)
        writing.result()
    require_written(draft, folder)
    return report


def _status(report: Report, repairs: tuple[Repaired, ...]) -> Status:
    if report.status != "ok":
        return report.status
    return "fixed" if repairs else "unchanged"


def _all_left(left: tuple[Skipped, ...], report: Report) -> tuple[Skipped, ...]:
    """What was not mended, with each error of the result for which there is no repair."""
    known = {item.code for item in left}
    rest = [item for item in report.findings if item.severity == "error" and item.code not in known]
    return (*left, *(skipped(item.name, item.code, f"{item.message}. {item.hint or ''}".strip()) for item in rest))
