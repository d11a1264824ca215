"""An adapter, parsed once: everything above only reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, Literal

from lora_packer.adapter.config import ConfigProblem, LoraConfig, parse_config
from lora_packer.adapter.config_text import is_sure
from lora_packer.adapter.safetensors_header import HeaderError, SafetensorsHeader, TensorInfo, read_header
from lora_packer.adapter.source import AdapterSource
from lora_packer.adapter.strict_json import StrictJsonError, parse
from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.misplaced import is_elsewhere, next_step
from lora_packer.names import CONFIG_NAME, REQUIRED, WEIGHTS_NAME
from lora_packer.redact import escape

MAX_CONFIG_BYTES = 4_000_000


@frozen
class Defect:
    """Something wrong with a file, before its content means anything."""

    kind: Literal["missing-file", "unreadable-config", "doubtful-json", "bad-safetensors"]
    file: str
    message: str
    tensor: str | None = None
    field: str | None = None
    expected: Any = None
    actual: Any = None
    hint: str | None = None
    fixable: bool = False


Bytes = bytes  # which a field of Adapter is called, too


@frozen
class Adapter:
    """What an adapter's two files say.

    Attributes:
        source: what to call it in messages.
        files: the names at its root (and one folder below).
        config: the typed config, or None where it could not be read.
        config_problems: what is wrong with single fields.
        header: the safetensors header, or None where it could not be read.
        defects: what is wrong with the files themselves.
        bytes: the size of the two files.
        config_bytes: the config file as it was read; who packs it packs these.
    """

    source: str
    files: tuple[str, ...]
    config: LoraConfig | None
    header: SafetensorsHeader | None
    raw_config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    config_problems: tuple[ConfigProblem, ...] = ()
    defects: tuple[Defect, ...] = ()
    bytes: int = 0
    config_bytes: Bytes = field(default=b"", repr=False)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> TensorInfo; empty where the header could not be read."""
        return self.header.tensors if self.header else MappingProxyType({})


def read_adapter(source: AdapterSource) -> Adapter:
    """Read both files. What is wrong becomes a defect; InputError is raised only where there is nothing to read."""
    files = source.files()
    defects = _missing(files, source)
    missing = {defect.file for defect in defects}
    config: LoraConfig | None = None
    raw: Mapping[str, Any] = MappingProxyType({})
    problems: tuple[ConfigProblem, ...] = ()
    header: SafetensorsHeader | None = None
    total = 0
    data = b""
    if CONFIG_NAME not in missing:
        size = source.size(CONFIG_NAME)
        total += size
        if size > MAX_CONFIG_BYTES:
            message = f"{CONFIG_NAME} is {size} bytes long; at most {MAX_CONFIG_BYTES} are read."
            raise InputError(message, hint="An adapter's config is a few kilobytes: is this another file?")
        with source.open(CONFIG_NAME) as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        raw, json_defects = _parse_config(data)
        defects += json_defects
        if raw:
            config, problems = parse_config(raw)
    if WEIGHTS_NAME not in missing:
        size = source.size(WEIGHTS_NAME)
        total += size
        try:
            with source.open(WEIGHTS_NAME) as file:
                header = read_header(file, size)
        except HeaderError as error:
            defects.append(_header_defect(error))
    return Adapter(source.name, files, config, header, raw, problems, tuple(defects), total, data)


def _header_defect(error: HeaderError) -> Defect:
    tensor = None if error.tensor is None else escape(error.tensor)
    message = f"{WEIGHTS_NAME} is not valid: " + (f"tensor {tensor!r}: " if tensor is not None else "") + f"{error}"
    details = {"expected": error.expected, "actual": error.actual, "hint": error.hint}
    return Defect(
        "bad-safetensors", WEIGHTS_NAME, message, tensor, **details, fixable=error.surplus > 0 or error.is_pickle
    )


def _parse_config(data: bytes) -> tuple[Mapping[str, Any], list[Defect]]:
    try:
        value, doubts = parse(data)
    except StrictJsonError as error:
        hint = "Run `git lfs pull`." if data.startswith(b"version https://git-lfs") else None
        return {}, [
            Defect(
                "unreadable-config",
                CONFIG_NAME,
                f"{CONFIG_NAME} is not JSON: {error}",
                hint=hint,
                fixable=is_sure(data),
            )
        ]
    if not isinstance(value, dict) or not value:
        actual = "an empty object" if value == {} else type(value).__name__
        message = f"{CONFIG_NAME} has to be a JSON object with PEFT's fields"
        return {}, [Defect("unreadable-config", CONFIG_NAME, message, expected="object", actual=actual)]
    defects = [
        Defect(
            "doubtful-json",
            CONFIG_NAME,
            f"{CONFIG_NAME}: {doubt.message}",
            field=escape(doubt.key, 60),
            fixable=is_sure(data),
        )
        for doubt in doubts
    ]
    return value, defects


def _missing(files: tuple[str, ...], source: AdapterSource) -> list[Defect]:
    """One defect for each required file that is not at the root, with a hint from what is there instead."""
    return [
        Defect(
            "missing-file",
            name,
            f"{name} is missing at the root of the adapter",
            expected=name,
            actual="missing",
            hint=next_step(name, files, source.holder),
            fixable=is_elsewhere(name, files),
        )
        for name in REQUIRED
        if name not in files
    ]
