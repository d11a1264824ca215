"""A manifest: a list of adapters, as CSV with a header or as JSON Lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lora_packer.adapter.strict_json import StrictJsonError, parse
from lora_packer.errors import InputError
from lora_packer.files import exists, is_stream, read_whole
from lora_packer.inspector.many import Listed
from lora_packer.redact import escape

COLUMNS = ("adapter", "base_model", "base_config", "target")
MAX_ADAPTERS = 100_000
MAX_BYTES = 64_000_000
_BOM = "\ufeff"  # what spreadsheets write in front
_HEADER = "The first line is to be: adapter,base_model,base_config,target (all but adapter may be left out)."
_A_LINE = 'Each line is to be like {"adapter": "my-adapter", "base_model": "org/name"}.'


def read_manifest(path: str | Path) -> tuple[Listed, ...]:
    """Return the adapters that a manifest lists.

    A relative path in it is looked for beside the manifest, and where nothing is there, from the working folder.

    Raises InputError.
    """
    path = Path(path)
    shown = escape(str(path))
    try:
        if is_stream(path):
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        else:
            data = read_whole(path, MAX_BYTES)
    except OSError as error:
        raise InputError(f"The manifest '{shown}' cannot be read: {error.strerror}.", hint="Check the path.") from None
    except ValueError as error:
        raise InputError(f"The manifest '{shown}' cannot be read: {error}.", hint="Split it.") from None
    return parse_manifest(data, shown, path.parent)


def parse_manifest(data: bytes, name: str, folder: Path = Path()) -> tuple[Listed, ...]:
    """Return the adapters that a manifest's text lists; ``name`` is what to call it. Raises InputError."""
    if len(data) > MAX_BYTES:
        raise InputError(f"The manifest {name} has more than {MAX_BYTES:,} bytes.", hint="Split it.")
    try:
        text = data.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise InputError(f"The manifest {name} is not UTF-8 (byte {error.start}).", hint="Save it as UTF-8.") from None
    rows = _json_lines(text, name) if text.lstrip()[:1] in ("{", "[") else _csv(text, name)
    listed: list[Listed] = []
    for line, row in rows:
        if len(listed) == MAX_ADAPTERS:
            raise InputError(f"The manifest {name} lists more than {MAX_ADAPTERS:,} adapters.", hint="Split it.")
        listed.append(_listed(row, name, line, folder))
    if not listed:
        raise InputError(f"The manifest {name} lists no adapter.", hint=_HEADER)
    return tuple(listed)


def _listed(row: Mapping[str, str], name: str, line: int, folder: Path) -> Listed:
    adapter = row.get("adapter", "")
    if not adapter:
        raise InputError(f"Line {line} of the manifest {name} names no adapter.", hint="Fill the column adapter.")
    base_config = row.get("base_config") or None
    return Listed(
        _place(adapter, folder),
        row.get("base_model") or None,
        None if base_config is None else _place(base_config, folder),
        row.get("target") or None,
    )


def _place(text: str, folder: Path) -> str:
    """Where a path of the manifest leads; what is no path of this machine stays as it is."""
    if "://" in text or Path(text).is_absolute():
        return text
    beside = folder / text
    return str(beside) if exists(beside) else text


def _csv(text: str, name: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    columns: list[str] = []
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if not columns:
                columns = values
                _require_columns(columns, name, _HEADER)
                continue
            if len(values) > len(columns):
                raise InputError(
                    f"Line {reader.line_num} of the manifest {name} has {len(values)} cells, and the header "
                    f"{len(columns)}.",
                    hint="Put a cell with a comma in it between double quotes.",
                )
            yield reader.line_num, dict(zip(columns, values, strict=False))
    except csv.Error as error:
        raise InputError(f"Line {reader.line_num} of the manifest {name} is not CSV: {escape(str(error))}.") from None


def _json_lines(text: str, name: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value, doubts = parse(line.encode())
        except StrictJsonError as error:
            raise InputError(f"Line {number} of the manifest {name} is not JSON: {error}.", hint=_A_LINE) from None
        if not isinstance(value, dict):
            raise InputError(f"Line {number} of the manifest {name} is no JSON object.", hint=_A_LINE)
        if doubts:
            raise InputError(f"Line {number} of the manifest {name}: {doubts[0].message}.", hint=_A_LINE)
        _require_columns(list(value), f"{name}, line {number}", _A_LINE)
        yield number, {key: _text(item, key, name, number) for key, item in value.items()}


def _text(value: Any, key: str, name: str, line: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"Line {line} of the manifest {name}: {key} is no text.", hint=_A_LINE)
    return value.strip()


def _require_columns(columns: list[str], name: str, hint: str) -> None:
    """A column whose name is nearly right would be left out of the check in silence, so it is refused."""
    shown = ", ".join(escape(column, 40) or "''" for column in columns[:8])
    if "adapter" not in columns:
        raise InputError(f"The manifest {name} has no column adapter; it has {shown}.", hint=hint)
    for column in columns:
        if column not in COLUMNS:
            known = ", ".join(COLUMNS)
            message = f"The manifest {name} has the column '{escape(column, 40)}', which means nothing here."
            raise InputError(message, hint=f"Known columns: {known}.")
        if columns.count(column) > 1:
            raise InputError(f"The manifest {name} has the column {column} twice.", hint=hint)
