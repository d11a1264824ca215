"""``check``: is this adapter fit for that base model and target?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_packer.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter, AdapterSource, LoraConfig, open_source, read_adapter
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import CHECKPOINT, BaseModel, catalogue_config, find_base
from lora_packer.base_model.catalogue import lookalike
from lora_packer.errors import InconclusiveError, InputError, UnknownArchitecture
from lora_packer.finding import Finding, Unchecked
from lora_packer.inspector import rules
from lora_packer.inspector.against import against, refused_finding, refused_on
from lora_packer.inspector.foreign import foreign_framework
from lora_packer.inspector.identify import fitting
from lora_packer.inspector.norms import ModuleStats, module_stats
from lora_packer.inspector.pairs import pairs, unconfirmed_scale
from lora_packer.inspector.profiles import DEFAULT_TARGET, Profile, check_target, profile
from lora_packer.inspector.readers import second_opinion
from lora_packer.inspector.reading import Fit
from lora_packer.inspector.report import AdapterSummary, BaseModelSummary, Report, verdict
from lora_packer.inspector.values import integer_tensors, judge, scan
from lora_packer.peft.refusals import refused_config
from lora_packer.redact import escape

if TYPE_CHECKING:
    from lora_packer.inspector.checked import CheckedFiles

# What a wrong base config looks like.
_ANOTHER_BASE = frozenset({rules.WRONG_BASE.code, rules.LAYER_OUT_OF_RANGE.code, rules.UNKNOWN_TENSOR.code})

# What shapes and halves of pairs show, whatever the modules are called.
_BY_SHAPE = frozenset(
    rule.code
    for rule in (
        rules.WRONG_BASE,
        rules.RANK_MISMATCH,
        rules.TRANSPOSED,
        rules.SWAPPED,
        rules.EMPTY_TENSOR,
        rules.HALF_PAIR,
        rules.RESIZED_VOCABULARY,
    )
)

BaseSource = str | Path | Mapping[str, Any]


def check(
    adapter: str | Path | AdapterSource,
    *,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    weights: bool = True,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: Literal["error", "warning"] = "error",
    stats: bool = False,
    checksums: Literal["crc32", "sha256"] | None = None,
) -> Report:
    """Check a LoRA adapter against its base model's config, without torch.

    Args:
        adapter: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``, a finished archive, or a Hub
            repository as ``hf://org/repo[@revision]``, of which only the config and the header are read.
        base_config: the base model's ``config.json``, a folder with one, a Hub id or a parsed dict. Default: the
            catalogue entry for ``base_model``, else what ``adapter_config.json`` names.
        base_model: the id under which the service hosts the base model.
        target: the place that will load the adapter: ``together`` or ``peft``.
        weights: whether to read the tensors' values (NaN, infinity, zeros).
        select: only rules whose code begins with one of these.
        ignore: no rules whose code begins with one of these.
        fail_on: the severity at which the status is ``failed``.
        stats: whether to compute the size of every module's update (reads the values).
        checksums: which checksums of the files to make in the pass over the values, for who packs them next: their
            CRC-32 alone, or their SHA-256 too. None: none.

    Returns:
        The report. Whatever is wrong with the adapter is a finding in it.

    Raises:
        InputError: there is nothing to read, or an argument makes no sense.
        InconclusiveError: the Hub could not be asked for the adapter.
    """
    _check_codes([*select, *ignore])
    rules_of = profile(target)
    with open_source(adapter) as source:
        if stats and source.remote:
            hint = "Download the repo, then check the folder."
            raise InputError("--stats reads the values, and of a Hub repo only the header is read.", hint=hint)
        read = _checked_files(source, sha256=checksums == "sha256") if checksums else None
        inspection = _Inspection(source, read_adapter(source), rules_of, base_model)
        inspection.files()
        inspection.base(base_config)
        if source.remote:
            inspection.skip("values", "the values were not read: of a Hub repo only the header is", required=False)
        elif weights:
            inspection.values(read)
        else:
            inspection.skip("values", "the tensors' values were not read (--no-weights)", required=False)
        sizes = inspection.stats() if stats else None
        checked = read.files() if read else {}
    wanted = _selector(select, ignore)
    findings = tuple(item for item in inspection.findings if wanted(item.code))
    unchecked = tuple(item for item in inspection.unchecked if wanted(item.code))
    inconclusive = any(item.code in inspection.required for item in unchecked)
    return Report(
        verdict(findings, inconclusive, fail_on),
        inspection.adapter_summary(),
        inspection.base_summary(),
        rules_of.name,
        findings,
        unchecked,
        sizes,
        checked,
    )


def _checked_files(source: AdapterSource, *, sha256: bool) -> CheckedFiles:
    from lora_packer.inspector.checked import CheckedFiles  # packing's modules, which a check alone does not need

    return CheckedFiles(source, sha256=sha256)


def _check_codes(codes: Iterable[str]) -> None:
    for code in codes:
        if not code or not any(known.startswith(code.upper()) for known in rules.RULES):
            raise InputError(f"no rule's code begins with '{escape(code, 40)}'.", hint="See `lora-packer rule`.")


def _selector(select: Sequence[str], ignore: Sequence[str]) -> Any:
    selected, ignored = tuple(c.upper() for c in select), tuple(c.upper() for c in ignore)
    return lambda code: (not selected or code.startswith(selected)) and not (ignored and code.startswith(ignored))


class _Inspection:
    """One check under way: collects findings, and what could not be checked."""

    def __init__(self, source: AdapterSource, adapter: Adapter, target: Profile, base_model: str | None) -> None:
        self.source = source
        self.adapter = adapter
        self.target = target
        self.base_model = base_model
        self.findings: list[Finding] = []
        self.unchecked: list[Unchecked] = []
        self.required: set[str] = set()
        self._base: BaseModel | None = None
        self._base_source: str | None = None
        self._fit: Fit | None = None
        self._refused = False

    def skip(self, needs: rules.Needs, reason: str, *, required: bool) -> None:
        """Note that the rules which need this were not checked; ``required`` makes the check inconclusive."""
        for rule in rules.RULES.values():
            if rule.needs == needs:
                self.unchecked.append(Unchecked(rule.code, reason))
                if required:
                    self.required.add(rule.code)

    # --- files and config ---

    def files(self) -> None:
        """Check the files, the config's fields, and what the tensors' names and dtypes alone say."""
        by_kind = {
            "missing-file": rules.MISSING_FILE,
            "unreadable-config": rules.UNREADABLE_CONFIG,
            "doubtful-json": rules.DOUBTFUL_JSON,
            "bad-safetensors": rules.BAD_SAFETENSORS,
        }
        for defect in self.adapter.defects:
            details = {
                name: getattr(defect, name) for name in ("file", "tensor", "field", "expected", "actual", "hint")
            }
            self.findings.append(by_kind[defect.kind].finding(defect.message, **details))
        self._config_fields()
        if self.adapter.header is not None:
            if not self.adapter.tensors:
                message = f"{WEIGHTS_NAME} holds no tensors"
                self.findings.append(rules.NO_TENSORS.finding(message, file=WEIGHTS_NAME, actual=0))
            self.findings += integer_tensors(self.adapter.header)

    def _config_fields(self) -> None:
        by_kind = {
            "invalid": rules.INVALID_FIELD,
            "unknown": rules.UNKNOWN_FIELD,
            "not-lora": rules.NOT_LORA,
            "no-effect": rules.NO_EFFECT,
            "odd": rules.INVALID_FIELD,
        }
        doubted = {defect.field for defect in self.adapter.defects if defect.kind == "doubtful-json"}
        unknown = [problem for problem in self.adapter.config_problems if problem.kind == "unknown"]
        if len(unknown) > 1:
            names = ", ".join(f"'{problem.field}'" for problem in unknown)
            message = (
                f"{len(unknown)} fields are not PEFT's: {names}; PEFT 0.14 and newer ignore them, older ones refuse"
            )
            details = {"file": CONFIG_NAME, "field": unknown[0].field, "count": len(unknown)}
            self.findings.append(rules.UNKNOWN_FIELD.finding(escape(message, 400), **details))
        for problem in self.adapter.config_problems:
            if problem.field in doubted or (problem.kind == "unknown" and len(unknown) > 1):
                continue  # NaN as a field's value: one cause, one finding
            details = {name: getattr(problem, name) for name in ("field", "expected", "actual", "hint")}
            severity = "warning" if problem.kind == "odd" else None
            self.findings.append(
                by_kind[problem.kind].finding(problem.message, severity=severity, file=CONFIG_NAME, **details)
            )
        config = self.adapter.config
        if config is None:
            return
        told = doubted | {
            problem.field for problem in self.adapter.config_problems if problem.kind not in ("unknown", "odd")
        }
        refusals = [item for item in refused_config(config, self.adapter.raw_config) if item.field not in told]
        self._refused = any(item.kind == "field" for item in refusals)
        self.findings += [refused_finding(item) for item in refusals]
        for field, default in (("r", config.r), ("lora_alpha", config.lora_alpha)):
            if field not in self.adapter.raw_config:
                message = f"{field} is missing, so PEFT's default of {default} applies"
                self.findings.append(rules.DEFAULTED_FIELD.finding(message, file=CONFIG_NAME, field=field))
        init = config.init_lora_weights
        if isinstance(init, str) and init.lower().startswith(("pissa", "olora")):
            message = f"init_lora_weights is '{escape(init, 40)}': PEFT changes the base model's weights at load"
            self.findings.append(
                rules.BASE_CHANGING_INIT.finding(
                    message, file=CONFIG_NAME, field="init_lora_weights", expected=True, actual=init
                )
            )
        self.findings += unconfirmed_scale(config)
        self.findings += check_target(self.target, self.adapter, config, self.base_model)

    # --- the base model ---

    def base(self, given: BaseSource | None) -> None:
        """Compare the tensors with those that the config and the base model call for."""
        config = self.adapter.config
        framework = foreign_framework(self.adapter.tensors)
        if framework is not None:
            names = list(self.adapter.tensors)
            message = f"the tensors have {framework.name}'s names, which PEFT drops"
            self.findings.append(
                rules.FOREIGN_NAMES.finding(
                    message,
                    file=WEIGHTS_NAME,
                    tensor=escape(names[0]),
                    count=len(names),
                    expected="base_model.model.<module path>.lora_A.weight",
                    actual=escape(names[0]),
                    hint=framework.way_out,
                )
            )
        try:
            self._base = self._load_base(given, config)
            self._base_source = self._base.source
        except InconclusiveError as error:
            self.skip("base", str(error), required=True)
        if framework is not None or config is None or not self.adapter.tensors:
            return
        if self._base is None:
            self.findings += pairs(self.adapter, config)
            return
        if self._refused or any(item.kind in ("invalid", "not-lora") for item in self.adapter.config_problems):
            return  # what the config calls for is not known before it is corrected
        try:
            self._compare(config, self._base)
        except PatternError as error:
            if error.kind == "invalid":
                message = f"a pattern in {CONFIG_NAME} cannot be used: {escape(str(error))}"
                self.findings.append(rules.INVALID_FIELD.finding(message, file=CONFIG_NAME))
            else:
                reason = f"a pattern in {CONFIG_NAME} was not evaluated: {escape(str(error))}"
                self.skip("base", reason, required=True)

    def _load_base(self, given: BaseSource | None, config: LoraConfig | None) -> BaseModel:
        if given is not None:
            return find_base(given)
        if self.base_model is not None and catalogue_config(self.base_model) is not None:
            return BaseModel.load(self.base_model)
        named = config.base_model_name_or_path if config is not None else None
        hint = _base_hint(self.base_model, named)
        if not named:
            raise InconclusiveError("there is no base config: adapter_config.json names no base model.", hint=hint)
        try:
            return find_base(named)
        except InputError as error:
            message = f"there is no base config for '{escape(named, 80)}': {error.message}"
            raise InconclusiveError(message, hint=hint) from None
        except UnknownArchitecture:
            raise
        except InconclusiveError as error:
            raise InconclusiveError(error.message, hint=hint) from None

    def _compare(self, config: LoraConfig, base: BaseModel) -> None:
        compared = against(config, base, self.adapter.tensors)
        self._fit = compared.fit
        findings = compared.findings
        if compared.fit.dialect == CHECKPOINT:
            # A checkpoint's names need not be the running model's: by them nothing is refused.
            by_name = [item for item in findings if item.severity == "error" and item.code not in _BY_SHAPE]
            findings = tuple(item for item in findings if item not in by_name)
            if by_name:
                reason = (
                    f"the base checkpoint's names differ from the adapter's, and decide nothing: {by_name[0].message}"
                )
                self.skip("base", reason, required=True)
        ranks_off = next((item for item in findings if item.code == rules.RANK_MISMATCH.code), None)
        if ranks_off is not None:
            # The ranks come first: what they make of the scale, and of patterns, is not a second cause.
            self.findings = [i for i in self.findings if i.code != rules.UNCONFIRMED_SCALE.code]
            findings = tuple(i for i in findings if i.code != rules.UNUSED_PATTERN.code)
        if ranks_off is not None and "r" not in self.adapter.raw_config:
            # The default of r and the ranks that it makes wrong are one cause.
            self.findings = [i for i in self.findings if (i.code, i.field) != (rules.DEFAULTED_FIELD.code, "r")]
            message = f"{ranks_off.message}: r is missing, so PEFT's default of {config.r} applies"
            findings = tuple(replace(i, message=message, field="r") if i is ranks_off else i for i in findings)
        self.findings += [self._with_better_base(item) for item in findings]
        self.findings += refused_on(config, base, compared)

    def _with_better_base(self, finding: Finding) -> Finding:
        """Say which known base models the tensors fit, where they are another one's."""
        config = self.adapter.config
        if finding.code not in _ANOTHER_BASE or finding.severity != "error" or config is None:
            return finding
        try:
            known = fitting(config, self.adapter.tensors)
        except PatternError:  # it may need more states on another model's names; the finding stands without the hint
            return finding
        if not known:
            return finding
        more = f" (and {len(known) - 1} more, see `lora-packer identify`)" if len(known) > 1 else ""
        hint = f"These tensors fit {known[0]}{more}: give --base-config {known[0]} if it was trained on that."
        return replace(finding, hint=hint)

    # --- values ---

    def values(self, read: CheckedFiles | None) -> None:
        """Read the values once, and let the safetensors library give its second opinion."""
        header = self.adapter.header
        if header is None:
            self.skip("values", f"{WEIGHTS_NAME} could not be read", required=True)
            return
        try:
            with self.source.open(WEIGHTS_NAME) as file:
                self.findings += judge(header, scan(file, header, read.weights if read else None))
        except OSError as error:
            raise InputError(f"{WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from None
        path = self.source.path(WEIGHTS_NAME)
        if path is None:
            reason = "the safetensors library reads no file inside an archive"
            self.unchecked.append(Unchecked(rules.READERS_DISAGREE.code, reason))
            return
        self.findings += second_opinion(path, self.adapter)

    def stats(self) -> tuple[ModuleStats, ...]:
        """The size of every module's update, as far as header and config could be read."""
        header, config = self.adapter.header, self.adapter.config
        if header is None or config is None:
            return ()
        try:
            with self.source.open(WEIGHTS_NAME) as file:
                return module_stats(file, header, config, self._fit.expectation if self._fit else None)
        except OSError as error:
            raise InputError(f"{WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from None
        except PatternError as error:
            raise InputError(f"--stats needs alpha_pattern, which is not evaluated: {escape(str(error))}.") from None

    # --- summaries ---

    def adapter_summary(self) -> AdapterSummary:
        """Return what was checked."""
        tensors = self.adapter.tensors
        ranks = {info.shape[0] for name, info in tensors.items() if name.endswith("lora_A.weight") and info.shape}
        if self._fit is not None:
            ranks = {rank for rank, _ in self._fit.expectation.targeted.values()}
        parameters = 0
        for info in tensors.values():
            count = 1
            for size in info.shape:
                count *= size
            parameters += count
        dtypes = tuple(sorted({info.dtype for info in tensors.values()}))
        return AdapterSummary(
            self.adapter.source, len(tensors), parameters, self.adapter.bytes, dtypes, tuple(sorted(ranks))
        )

    def base_summary(self) -> BaseModelSummary:
        """Return what it was checked against."""
        model_type = self._base.model_type if self._base else None
        return BaseModelSummary(self.base_model, self._base_source, model_type)


def _base_hint(*names: str | None) -> str:
    """What to do without a base config; a known model that a name looks like is proposed, never taken."""
    for name in names:
        known = lookalike(name) if name else None
        if known is not None:
            return f"'{escape(name or '', 80)}' looks like {known}: give --base-config {known} if it is."
    return "Give the base model's config.json with --base-config."
