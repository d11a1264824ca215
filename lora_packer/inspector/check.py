"""``check``: is this adapter fit for that base model and target?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lora_packer.adapter import WEIGHTS_NAME, Adapter, AdapterSource, read_adapter
from lora_packer.adapter.config_lines import field_lines
from lora_packer.adapter.patterns import PatternError
from lora_packer.arguments import BaseSource, require_base, require_codes, require_one_of, require_path, require_targets
from lora_packer.base_model import BaseModel
from lora_packer.errors import InconclusiveError, InputError
from lora_packer.inspector.base import Against, base_for
from lora_packer.inspector.by_target import tell
from lora_packer.inspector.case import Case
from lora_packer.inspector.norms import ModuleStats, module_stats
from lora_packer.inspector.opening import open_adapter
from lora_packer.inspector.report import AdapterSummary, BaseModelSummary, Report
from lora_packer.inspector.rules import RULES
from lora_packer.inspector.subject import Subject, plainly
from lora_packer.inspector.suppression import Suppressing, Suppression, require_suppressions
from lora_packer.inspector.watched import watched
from lora_packer.redact import escape, fit
from lora_packer.targets import DEFAULT_TARGET, Target, chosen

__all__ = ["BaseSource", "check"]

if TYPE_CHECKING:
    from lora_packer.packager.checked import CheckedFiles


def check(
    adapter: str | Path | AdapterSource,
    *,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str | Sequence[str] = DEFAULT_TARGET,
    target_file: str | Path | None = None,
    weights: bool = True,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    suppress: Sequence[Suppression] = (),
    fail_on: Literal["error", "warning"] = "error",
    stats: bool | Literal["if-read"] = False,
    checksums: Literal["crc32", "sha256"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check a LoRA adapter against its base model's config, without torch.

    Args:
        adapter: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``, a finished archive, or a Hub
            repository as ``hf://org/repo[@revision]``, of which only the config and the header are read.
        base_config: the base model's ``config.json``, a folder with one, a Hub id or a parsed dict. Default: that of
            ``base_model``, and without one what ``adapter_config.json`` names.
        base_model: the id under which the service hosts the base model. It is looked up in the catalogue and on the
            Hub, and what is hosted decides, whatever ``base_config`` says; that stands in for it, with a warning,
            where its config cannot be had.
        target: the place that will load the adapter: ``together``, ``peft``, ``vllm``, ``vllm@0.31.0``, ... Several
            with commas or as a list; ``all`` has every known one in the report and lets the default one decide.
        target_file: a TOML file that describes a server of one's own: engine, version, max_rank, modules, dtypes,
            max_bytes. Without another target it is the only one.
        weights: whether to read the tensors' values (NaN, infinity, zeros).
        select: only rules whose code begins with one of these.
        ignore: no rules whose code begins with one of these.
        suppress: findings that are known and taken; they are told apart and decide nothing. No file is read for
            them: a project's settings are the command line's.
        fail_on: the severity at which the status is ``failed``.
        stats: whether to compute the size of every module's update (reads the values). ``if-read``: where the values
            are read in any case, and as far as it can be done; else the report has None.
        checksums: which checksums of the files to make in the pass over the values, for who packs them next: their
            CRC-32 alone, or their SHA-256 too. None: none.
        progress: told (bytes read, bytes in all) of the weights, while their values are read.

    Returns:
        The report. Whatever is wrong with the adapter is a finding in it.

    Raises:
        InputError: there is nothing to read, or an argument makes no sense.
        InconclusiveError: the Hub could not be asked for the adapter.
    """
    if not hasattr(adapter, "open"):  # a source of another room, or a path
        require_path(adapter, "adapter")
    require_targets(target)
    require_base(base_config, "base_config", BaseModel)
    require_codes(select, "select")
    require_codes(ignore, "ignore")
    require_suppressions(suppress)
    require_one_of(fail_on, "fail_on", ("error", "warning"))
    require_one_of(checksums or "none", "checksums", ("none", "crc32", "sha256"))
    require_rules([*select, *ignore])
    require_one_of(stats, "stats", (True, False, "if-read"))
    if target_file is not None:
        require_path(target_file, "target_file")
        target = [] if target == DEFAULT_TARGET else target
    asked = chosen(target, target_file)
    wanted = _selector(select, ignore)
    demanded = stats is True
    with open_adapter(adapter) as source:
        if demanded and source.remote:
            hint = "Download the adapter, then check the folder."
            raise InputError(f"--stats reads the values, and {_OF_OTHERS}.", hint=hint)
        read = _checked_files(source, sha256=checksums == "sha256") if checksums else None
        subject = _subject(source, asked.targets[0], base_config, base_model, weights=weights, read=read)
        if read and isinstance(subject.against, str) and any(map(wanted, _OF_THE_BASE)):
            # Who packs next does not go on without a base model: it says so before it reads gigabytes.
            subject = replace(subject, no_values="the values were not read: without a base config nothing is packed")
        if progress is not None and subject.adapter.header is not None:
            watching = watched(subject.reading, progress, subject.adapter.header.size)
            subject = replace(subject, reading=watching)
        told = tell(subject, asked.targets, asked.deciding, wanted, fail_on, Suppressing(suppress, source))
        case = next((item.case for item in told.judged if item.case is not None), None)
        drawn = demanded or (stats == "if-read" and weights and not source.remote)
        sizes = _sizes(subject, case, demanded=demanded) if drawn else None
        checked = read.files(subject.adapter.config_bytes) if read else {}
    return Report(
        told.status,
        _adapter_summary(subject.adapter, case),
        _base_summary(subject),
        asked.targets[0].label,
        told.findings,
        told.unchecked,
        sizes,
        checked,
        told.targets,
        asked.deciding,
        suppressed=told.suppressed,
        lines=field_lines(subject.adapter.config_bytes) if any(item.field for item in told.every) else {},
    )


_OF_OTHERS = "of a Hub repo, or from S3 and URLs, only the header is read"
_OF_THE_BASE = tuple(code for code, rule in RULES.items() if rule.needs == "base")


def _subject(
    source: AdapterSource,
    target: Target,
    base_config: BaseSource | None,
    base_model: str | None,
    *,
    weights: bool,
    read: CheckedFiles | None,
) -> Subject:
    """Read the adapter, and find its base model."""
    adapter = read_adapter(source)
    against: Against | str
    try:
        against = base_for(base_config, base_model, adapter.config)
    except InconclusiveError as error:
        against = str(error)
    no_values = ""
    if source.remote:
        no_values = f"the values were not read: {_OF_OTHERS}"
    elif not weights:
        no_values = "the tensors' values were not read (--no-weights)"
    reading = read.reading if read else plainly
    return Subject(source, adapter, target, base_model, against, no_values, reading)


def _checked_files(source: AdapterSource, *, sha256: bool) -> CheckedFiles:
    from lora_packer.packager.checked import CheckedFiles  # packing's modules, which a check alone does not need

    return CheckedFiles(source, sha256=sha256)


def require_rules(codes: Iterable[str]) -> None:
    """Raise InputError where a code is the beginning of no rule's."""
    for code in codes:
        if not code or not any(known.startswith(code.upper()) for known in RULES):
            raise InputError(f"no rule's code begins with '{escape(code, 40)}'.", hint="See `lora-packer rule`.")


def _selector(select: Sequence[str], ignore: Sequence[str]) -> Callable[[str], bool]:
    selected, ignored = tuple(c.upper() for c in select), tuple(c.upper() for c in ignore)
    return lambda code: (not selected or code.startswith(selected)) and not (ignored and code.startswith(ignored))


def _sizes(subject: Subject, case: Case | None, *, demanded: bool) -> tuple[ModuleStats, ...]:
    """The size of every module's update, as far as header and config could be read.

    Raises InputError where it was demanded and cannot be had.
    """
    header, config = subject.adapter.header, subject.adapter.config
    if header is None or config is None:
        return ()
    try:
        with subject.source.open(WEIGHTS_NAME) as file:
            if case is None:
                return module_stats(file, header, config, None)
            # What PEFT makes of the file has its own config, too.
            config = case.config if case.sources else config
            return module_stats(file, header, config, case.expectation, case.sources)
    except OSError as error:
        if not demanded:
            return ()
        raise InputError(f"{WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from None
    except PatternError as error:
        if not demanded:
            return ()
        raise InputError(f"--stats needs alpha_pattern, which is not evaluated: {escape(str(error))}.") from None


def _adapter_summary(adapter: Adapter, case: Case | None) -> AdapterSummary:
    """What was checked; the ranks are the config's where its targets are known, else those of the tensors."""
    tensors = adapter.tensors
    if case is not None:
        ranks = {rank for rank, _ in case.expectation.targeted.values()}
    else:
        ranks = {info.shape[0] for name, info in tensors.items() if name.endswith("lora_A.weight") and info.shape}
    parameters = sum(math.prod(info.shape) for info in tensors.values())
    dtypes = tuple(sorted({info.dtype for info in tensors.values()}))
    return AdapterSummary(adapter.source, len(tensors), parameters, adapter.bytes, dtypes, tuple(sorted(ranks)))


def _base_summary(subject: Subject) -> BaseModelSummary:
    """What it was checked against."""
    hosted = None if subject.hosted is None else fit(subject.hosted)
    if isinstance(subject.base, str):
        return BaseModelSummary(hosted, None, None)
    base = subject.base
    return BaseModelSummary(hosted, base.source, base.model_type, base.sha256)
