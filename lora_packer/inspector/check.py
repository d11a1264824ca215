"""``check``: is this adapter fit for that base model and target?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lora_packer.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter, AdapterSource, LoraConfig, open_source, read_adapter
from lora_packer.adapter.keys import parse_key
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import BaseModel, catalogue_config
from lora_packer.errors import InconclusiveError, InputError
from lora_packer.finding import Finding, Unchecked
from lora_packer.inspector import rules
from lora_packer.inspector.diagnose import PAIRED, Context, explain
from lora_packer.inspector.fit import Fit, fit
from lora_packer.inspector.foreign import foreign_framework
from lora_packer.inspector.profiles import DEFAULT_TARGET, Profile, check_target, profile
from lora_packer.inspector.report import AdapterSummary, BaseModelSummary, Report, verdict
from lora_packer.inspector.values import integer_tensors, judge, scan
from lora_packer.redact import escape

BaseSource = str | Path | Mapping[str, Any]


def check(
    adapter: str | Path,
    *,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    weights: bool = True,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: Literal["error", "warning"] = "error",
) -> Report:
    """Check a LoRA adapter against its base model's config, without torch.

    Args:
        adapter: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``, or a finished archive.
        base_config: the base model's ``config.json``, a folder with one, a Hub id or a parsed dict. Default: the
            catalogue entry for ``base_model``, else what ``adapter_config.json`` names.
        base_model: the id under which the service hosts the base model.
        target: the place that will load the adapter: ``together`` or ``peft``.
        weights: whether to read the tensors' values (NaN, infinity, zeros).
        select: only rules whose code begins with one of these.
        ignore: no rules whose code begins with one of these.
        fail_on: the severity at which the status is ``failed``.

    Returns:
        The report. Whatever is wrong with the adapter is a finding in it.

    Raises:
        InputError: there is nothing to read, or an argument makes no sense.
    """
    _check_codes([*select, *ignore])
    rules_of = profile(target)
    with open_source(adapter) as source:
        inspection = _Inspection(source, read_adapter(source), rules_of, base_model)
        inspection.files()
        inspection.base(base_config)
        if weights:
            inspection.values()
        else:
            inspection.skip("values", "the tensors' values were not read (--no-weights)", required=False)
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
    )


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
        }
        doubted = {defect.field for defect in self.adapter.defects if defect.kind == "doubtful-json"}
        for problem in self.adapter.config_problems:
            if problem.field in doubted:
                continue  # NaN as a field's value: one cause, one finding
            details = {name: getattr(problem, name) for name in ("field", "expected", "actual", "hint")}
            self.findings.append(by_kind[problem.kind].finding(problem.message, file=CONFIG_NAME, **details))
        config = self.adapter.config
        if config is None:
            return
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
            self._without_base(config)
            return
        if any(item.kind in ("invalid", "not-lora") for item in self.adapter.config_problems):
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
            return BaseModel.load(given)
        if self.base_model is not None and catalogue_config(self.base_model) is not None:
            return BaseModel.load(self.base_model)
        named = config.base_model_name_or_path if config is not None else None
        hint = "Give the base model's config.json with --base-config."
        if not named:
            raise InconclusiveError("there is no base config: adapter_config.json names no base model.", hint=hint)
        try:
            return BaseModel.load(named)
        except InputError as error:
            message = f"there is no base config for '{escape(named, 80)}': {error.message}"
            raise InconclusiveError(message, hint=hint) from None

    def _compare(self, config: LoraConfig, base: BaseModel) -> None:
        self._fit = found = fit(config, base, self.adapter.tensors)
        self.findings += found.findings
        expectation, modules = found.expectation, found.base.dialects[found.dialect]
        if expectation.unsupported and found.dialect == next(iter(base.dialects)):
            paths = expectation.unsupported
            message = f"target_modules matches '{escape(paths[0], 80)}', which is not a layer that LoRA can be put on"
            self.findings.append(
                rules.UNSUPPORTED_TARGET.finding(message, file=CONFIG_NAME, field="target_modules", count=len(paths))
            )
        for path, tokens in expectation.bad_tokens.items():
            message = f"token id {tokens[0]} lies outside the vocabulary of {modules[path].weight_shape[0]}"
            self.findings.append(
                rules.TOKEN_OUT_OF_RANGE.finding(
                    message, file=CONFIG_NAME, field="trainable_token_indices", count=len(tokens), actual=tokens[0]
                )
            )
        name = f"this base model ({base.model_type})"
        if not expectation.targeted and not expectation.unsupported:
            shown = config.target_modules if config.target_modules is not None else config.target_parameters
            field = "target_modules" if config.target_modules is not None else "target_parameters"
            listed = shown if isinstance(shown, str) else list(shown or ())
            message = f"{field} {escape(str(listed), 100)} matches no module of {name}"
            self.findings.append(rules.NO_TARGET.finding(message, file=CONFIG_NAME, field=field))
            return
        context = Context(config, modules, self.adapter.tensors, name)
        self.findings += explain(found.difference, expectation, context)

    def _without_base(self, config: LoraConfig) -> None:
        """What can be said without a base model: half pairs, and ranks that disagree."""
        parts: dict[str, dict[str, str]] = {}
        for name in self.adapter.tensors:
            key = parse_key(name)
            if key.part in PAIRED:
                parts.setdefault(key.path, {})[key.part] = name
        halves = [(path, pair) for path, pair in parts.items() if len(pair) == 1]
        if halves:
            part, name = next(iter(halves[0][1].items()))
            message = f"{PAIRED[part].removesuffix('.weight')} is missing for {len(halves)} of {len(parts)} modules"
            self.findings.append(
                rules.HALF_PAIR.finding(
                    message,
                    file=WEIGHTS_NAME,
                    tensor=escape(name.replace(part, PAIRED[part])),
                    count=len(halves),
                    expected=PAIRED[part],
                    actual="missing",
                )
            )
        ranks = {path: _ranks(pair, self.adapter) for path, pair in parts.items() if len(pair) == 2}
        off = [(path, pair) for path, pair in ranks.items() if pair[0] != pair[1]]
        if off and config.use_bdlora is None:
            path, (rank_a, rank_b) = off[0]
            message = f"lora_A and lora_B of {len(off)} modules have different ranks"
            name = next(iter(parts[path].values()))
            self.findings.append(
                rules.RANK_MISMATCH.finding(
                    message, file=WEIGHTS_NAME, tensor=escape(name), count=len(off), expected=rank_a, actual=rank_b
                )
            )

    # --- values ---

    def values(self) -> None:
        """Read the values once, and let the safetensors library give its second opinion."""
        header = self.adapter.header
        if header is None:
            self.skip("values", f"{WEIGHTS_NAME} could not be read", required=True)
            return
        try:
            with self.source.open(WEIGHTS_NAME) as file:
                self.findings += judge(header, scan(file, header))
        except OSError as error:
            raise InputError(f"{WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from None
        path = self.source.path(WEIGHTS_NAME)
        if path is None:
            reason = "the safetensors library reads no file inside an archive"
            self.unchecked.append(Unchecked(rules.READERS_DISAGREE.code, reason))
            return
        self.findings += _second_opinion(path, self.adapter)

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


def _ranks(pair: Mapping[str, str], adapter: Adapter) -> tuple[int | None, int | None]:
    first, second = sorted(pair.items())  # lora_A before lora_B
    shape_a, shape_b = adapter.tensors[first[1]].shape, adapter.tensors[second[1]].shape
    return shape_a[0] if shape_a else None, shape_b[1] if len(shape_b) > 1 else None


def _second_opinion(path: Path, adapter: Adapter) -> list[Finding]:
    """Compare our reading of the header with the safetensors library's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            theirs = {}
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                part = opened.get_slice(name)
                theirs[name] = (part.get_dtype(), tuple(part.get_shape()))
    except (SafetensorError, OSError) as error:
        message = f"the safetensors library refuses {WEIGHTS_NAME}: {escape(str(error))}"
        return [rules.READERS_DISAGREE.finding(message, file=WEIGHTS_NAME)]
    ours = {name: (info.dtype, info.shape) for name, info in adapter.tensors.items()}
    if ours == theirs:
        return []
    name = next(name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name))
    message = f"the safetensors library reads {WEIGHTS_NAME} otherwise than this package"
    return [
        rules.READERS_DISAGREE.finding(
            message,
            file=WEIGHTS_NAME,
            tensor=escape(name),
            expected=escape(str(ours.get(name)), 80),
            actual=escape(str(theirs.get(name)), 80),
        )
    ]
