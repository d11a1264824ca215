"""``fix``: mend an adapter without loss into a new folder, and check what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

from lora_packer.adapter import AdapterSource
from lora_packer.arguments import require_base, require_codes, require_path, require_text
from lora_packer.base_model import BaseModel
from lora_packer.errors import InconclusiveError, InputError
from lora_packer.files import is_folder
from lora_packer.folders import new_folder, require_new
from lora_packer.inspector import Report, check
from lora_packer.inspector.base import base_for
from lora_packer.inspector.check import BaseSource
from lora_packer.inspector.opening import open_adapter
from lora_packer.packager.members import EXTRAS
from lora_packer.pipeline import Progress
from lora_packer.pipeline.local import name_of
from lora_packer.pipeline.place import remote_name
from lora_packer.redact import escape
from lora_packer.repair.base_weights import BaseWeights
from lora_packer.repair.content import DraftSource, is_copied, require_written, write
from lora_packer.repair.difference import Difference, difference
from lora_packer.repair.draft import Draft
from lora_packer.repair.find import find
from lora_packer.repair.mend import Mending, allowed, mend
from lora_packer.repair.result import Repaired, Skipped, skipped
from lora_packer.repair.setting import Setting
from lora_packer.targets import DEFAULT_TARGET, chosen
from lora_packer.threads import aside

Status = Literal["fixed", "unchanged", "failed", "inconclusive"]


@dataclass(frozen=True, slots=True)
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


def fix(
    adapter: str | Path,
    output: str | Path | None = None,
    *,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    allow: Sequence[str] = (),
    base_weights: str | Path | None = None,
    diff: bool = False,
    progress: Progress | None = None,
) -> Fixed:
    """Mend what can be mended without loss, write it into a new folder, and check that.

    Args:
        adapter: a folder, a finished archive, or a Hub repository as ``hf://org/repo[@revision]``.
        output: the new folder; it must not be there, or be empty. Default: the adapter's name with ``-fixed``.
        base_config, base_model, target: as for ``check``.
        allow: the lossy repairs that are wanted besides, by name.
        base_weights: the base model's weights (a folder or a ``.safetensors`` file), to find copies of them.
        diff: whether to write nothing, and only say what would come out.
        progress: told (bytes written, bytes in all).

    Returns:
        What was mended, what was not, and the report of the check on the result.

    Raises:
        InputError: there is nothing to read, or the output is no place for a new folder.
        InconclusiveError: the Hub could not be asked for the adapter.
    """
    require_path(adapter, "adapter")
    require_text(target, "target")
    require_base(base_config, "base_config", BaseModel)
    require_codes(allow, "allow")
    if output is not None:
        require_path(output, "output")
    place = Path(output) if output is not None else default_output(adapter)
    if not diff:
        _require_place(place, adapter)
    lossy = allowed(tuple(allow))
    given = {"base_config": base_config, "base_model": base_model, "target": target}
    with open_adapter(adapter) as source:
        setting = _setting(source, base_config, base_model, target, lossy, base_weights)
        done = mend(setting, EXTRAS)
        return _written(done, source, None if diff else place, given, progress)


def default_output(adapter: str | Path) -> Path:
    """Return the folder beside an adapter that its mended form goes to; that of a remote one is made here."""
    name = remote_name(adapter)
    if name is not None:
        return Path(f"{name}-fixed")
    place = Path(adapter)
    if not place.name:  # . is called something only where it is
        place = place.resolve()
    return place.parent / f"{name_of(place)}-fixed"


def _require_place(place: Path, adapter: str | Path) -> None:
    require_new(place, "--output")
    source = Path(adapter)
    if remote_name(adapter) is not None or not is_folder(source):
        return
    if source.resolve() in (place.resolve(), *place.resolve().parents):
        raise InputError(
            f"'{escape(str(place))}' is in the adapter's own folder, which is left as it is.",
            hint="Choose another --output.",
        )


def _setting(
    source: AdapterSource,
    base_config: BaseSource | None,
    base_model: str | None,
    target: str,
    lossy: dict[str, str],
    base_weights: str | Path | None,
) -> Setting:
    chosen(target)  # raises InputError for a name that nobody knows
    weights = None if base_weights is None else BaseWeights.load(base_weights)
    base: BaseModel | str
    try:
        base = base_for(base_config, base_model, _named(source)).base
    except InconclusiveError as error:
        base = str(error)
    return Setting(source, base, target, base_model, lossy, weights)


def _named(source: AdapterSource) -> Any:
    """The config as far as it can be read, for the base model that it names."""
    draft = find(source, ()).draft
    return None if draft is None else draft.settings


def _written(
    done: Mending, source: AdapterSource, place: Path | None, given: dict[str, Any], progress: Progress | None
) -> Fixed:
    repairs = tuple(item for item in done.told if isinstance(item, Repaired))
    left = tuple(item for item in done.told if isinstance(item, Skipped))
    changes = difference(done.before, done.after)
    if done.after is None or done.before is None:
        report = check(source, **given)
        return Fixed(_status(report, repairs), None, repairs, _all_left(left, report), report, changes)
    if done.form is not None:
        given = {**given, "target": "peft"}  # what is checked is the same adapter in PEFT's layout
    if place is None:
        report = check(DraftSource(done.after, done.source), **given)
        return Fixed(_status(report, repairs), None, repairs, _all_left(left, report), report, changes)
    try:
        with new_folder(place) as folder:
            if done.form is not None:
                write(done.form[0], done.source, folder, progress, weights_name=done.form[1])
                report = check(DraftSource(done.after, done.source), **given)
            else:
                report = _write_and_check(done.after, done.source, folder, given, progress)
            if not repairs and not report.ok:
                raise _NothingDone
    except _NothingDone:
        return Fixed(_status(report, repairs), None, repairs, _all_left(left, report), report, changes)
    report = replace(report, adapter=replace(report.adapter, source=str(place)))
    return Fixed(_status(report, repairs), str(place), repairs, _all_left(left, report), report, changes)


def _write_and_check(
    draft: Draft, source: AdapterSource, folder: Path, given: dict[str, Any], progress: Progress | None
) -> Report:
    """Write a draft, and check what came out.

    Where all of it is ranges of files on this disk, these are read while the kernel copies them, and what was written
    is compared with what had to be.
    """
    if not is_copied(draft, source):
        write(draft, source, folder, progress)
        return check(folder, **given)
    stop = Event()
    with aside(stop.set, write, draft, source, folder, progress, stop.is_set) as writing:

        def written() -> Path:
            writing.result()
            return folder

        report = check(DraftSource(draft, source, written), **given)
        writing.result()
    require_written(draft, folder)
    return report


class _NothingDone(Exception):  # noqa: N818 - it is no error
    """What would come out is the adapter that fails, as it was: the new folder is not kept."""


def _status(report: Report, repairs: tuple[Repaired, ...]) -> Status:
    if report.status != "ok":
        return report.status
    return "fixed" if repairs else "unchanged"


def _all_left(left: tuple[Skipped, ...], report: Report) -> tuple[Skipped, ...]:
    """What was not mended, with each error of the result for which there is no repair."""
    known = {item.code for item in left}
    rest = [item for item in report.findings if item.severity == "error" and item.code not in known]
    return (*left, *(skipped(item.name, item.code, f"{item.message}. {item.hint or ''}".strip()) for item in rest))
