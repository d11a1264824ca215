"""Which options a settings file may set, under which names, and what each takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from lora_packer.frozen import frozen
from lora_packer.redact import escape

_LONG = "--"
_COMMAND_LINE = "it is given on the command line only"
_SECRETS = "it decides where secrets go or who is trusted with them, which no file of a project does"
_ENDS = f"it removes or stops something, so {_COMMAND_LINE}"
# Long name -> why a file that may have come with somebody else's project does not set it.
REFUSED: Mapping[str, str] = {
    "allow-private-endpoint": _SECRETS,
    "endpoint-url": _SECRETS,
    "env-file": _SECRETS,
    "executor": _SECRETS,
    "show-url": _SECRETS,
    "url-file": _SECRETS,
    "all": _ENDS,
    "clean": _ENDS,
    "delete": _ENDS,
    "config": _COMMAND_LINE,
    "hub": _COMMAND_LINE,
    "isolated": _COMMAND_LINE,
}
# Words of a name that speak of the same, whatever options there will be.
_SECRET_WORDS = frozenset(
    {"address", "credential", "credentials", "endpoint", "key", "password", "proxy", "secret", "token", "url"}
)
# Options whose text is a file, and those whose text may be one.
_FILES = frozenset({"manifest"})
_MAYBE_FILES = frozenset({"base-config"})
_STANDARD_STREAM = "-"


@frozen
class Settable:
    """An option of a command, as a settings file has it.

    Attributes:
        key: its long name, without the dashes.
        parameter: the name of its parameter.
        kind: ``bool``, ``int``, ``float``, ``str``, ``Path``, ``list`` or an Enum's class.
        least: the least number that it takes, or None.
    """

    key: str
    parameter: str
    kind: type
    least: float | None = None

    @property
    def takes(self) -> str:
        """What it takes, in words."""
        if issubclass(self.kind, Enum):
            return " or ".join(f'"{item.value}"' for item in self.kind)
        least = "" if self.least is None else f" from {self.least} up"
        words = {bool: "true or false", int: f"a whole number{least}", float: f"a number{least}"}
        return words.get(self.kind, "a text or a list of texts" if self.kind is list else "a text")

    def fits(self, value: object) -> bool:
        """Whether a value of a TOML file is one that it takes."""
        if self.kind is bool:
            return isinstance(value, bool)
        if issubclass(self.kind, Enum):
            return value in [item.value for item in self.kind]
        if self.kind in (int, float):
            is_number = isinstance(value, int if self.kind is int else int | float) and not isinstance(value, bool)
            return is_number and (self.least is None or value >= self.least)  # type: ignore[operator]
        if self.kind is list and isinstance(value, list):
            return all(isinstance(item, str) for item in value)
        return isinstance(value, str)

    def taken(self, value: Any, folder: Path) -> Any:
        """Return the value as the command line would have it; a relative path begins at ``folder``."""
        if self.kind is list:
            return [value] if isinstance(value, str) else value
        if value == _STANDARD_STREAM or not isinstance(value, str):
            return value
        is_file = self.kind is Path or self.key in _FILES
        if not is_file and self.key in _MAYBE_FILES:  # else it is an id of the Hub
            is_file = value.startswith((".", "~")) or _lies(folder, value)
        return str(folder / Path(value).expanduser()) if is_file else value


def _lies(folder: Path, name: str) -> bool:
    try:
        return (folder / name).exists()
    except (OSError, ValueError):  # what cannot be a path
        return False


def refusal(key: str) -> str | None:
    """Return why a file does not set an option of this name, or None where it does."""
    if key in REFUSED:
        return REFUSED[key]
    return _SECRETS if _SECRET_WORDS & set(key.split("-")) else None


def shown(value: object) -> str:
    """Return a value of a TOML file for a sentence."""
    if isinstance(value, bool):
        return str(value).lower()
    return escape(f'"{value}"' if isinstance(value, str) else str(value), 60)


def settable(function: Callable[..., Any]) -> dict[str, Settable]:
    """Return the options of a command by their long names."""
    found = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if get_origin(parameter.annotation) is not Annotated:
            continue
        kind, *more = get_args(parameter.annotation)
        for option in (item for item in more if type(item) is type(typer.Option())):
            # In Annotated the first name stands where the default would.
            names = [name for name in (option.default, *(option.param_decls or ())) if isinstance(name, str)]
            for name in (item.partition("/")[0] for item in names if item.startswith(_LONG)):
                key = name.removeprefix(_LONG)
                found[key] = Settable(key, parameter.name, plain_type(kind), option.min)
    return found


def plain_type(kind: Any) -> type:
    """Return the type that a value has, without None and without what a list holds."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Union or type(kind).__name__ == "UnionType":
        kind = next(item for item in get_args(kind) if item is not type(None))
    plain = get_origin(kind) or kind
    assert isinstance(plain, type)
    return plain
