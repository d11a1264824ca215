"""Values of a command line that need no validator.

typer 0.29 builds one of pydantic's for every option, given or not, which takes a quarter of the time that a command
needs to start. Text, paths, the names of a choice and what was left out are what they are without one; all else is left
to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

_KEPT = "_runtime_param"  # where typer keeps what converts an option's values, once it has built it
_NO_VALUE = object()


def spare_validators(parameters: Iterable[Any]) -> None:
    """Let typer build the validators of those options alone whose values need one; another typer is left as it is."""
    for parameter in parameters:
        if getattr(parameter, _KEPT, _NO_VALUE) is None and hasattr(parameter, "type_descriptor"):
            setattr(parameter, _KEPT, _Plain(parameter.type_descriptor, partial(_built, parameter)))


def _built(parameter: Any) -> Any:
    setattr(parameter, _KEPT, None)
    return parameter.get_runtime_param()


@dataclass(frozen=True, slots=True)
class _Plain:
    """What converts an option's values, for typer."""

    described: Any
    built: Callable[[], Any]

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value that the command gets."""
        plain = _plain(value, self.described, is_many=param.multiple or param.nargs == -1)
        return self.built().coerce(value, param=param, ctx=ctx) if plain is _NO_VALUE else plain


def _plain(value: Any, described: Any, *, is_many: bool) -> Any:
    annotation = described.annotation
    if value is None:
        return () if is_many else None
    if is_many:
        each = annotation == list[str] and isinstance(value, list | tuple) and all(map(_is_text, value))
        return list(value) if each else _NO_VALUE
    if annotation is str and _is_text(value):
        return value
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation(value) if value in {item.value for item in annotation} else _NO_VALUE
    if annotation is Path and isinstance(value, str) and _is_text(value) and _is_usual(described.parameter_info):
        return Path(value) if _is_readable(value) else _NO_VALUE
    return _NO_VALUE


def _is_text(value: Any) -> bool:
    """Whether it is text that can be written as UTF-8, as a validator demands."""
    if type(value) is not str:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_usual(info: Any) -> bool:
    asked = (info.exists, info.resolve_path, info.writable, info.allow_dash, info.path_type, info.parser)
    return not any(asked) and info.file_okay and info.dir_okay


def _is_readable(path: str) -> bool:
    """Whether typer would say nothing: it refuses what is there and may not be read."""
    try:
        os.stat(path)  # noqa: PTH116 - a name that cannot be one raises another error by way of Path
    except OSError:
        return True
    except ValueError:
        return False
    return os.access(path, os.R_OK)
