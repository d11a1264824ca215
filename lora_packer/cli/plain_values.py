"""Values of a command line that need no conversion: typer would load pydantic for each, which took a third of a start.

typer (0.27 and later) converts every value by a pydantic adapter, also one that is not given. Text that is wanted as
text, a word that is one of the words to choose from and a default stay as they are; whatever else is typer's, with its
sentences.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Final

from lora_packer.cli.settable import plain_type

_TYPERS: Final = object()  # not plain: for typer to convert


def take_plain_values(parameters: Iterable[Any], function: Callable[..., Any] | None) -> None:
    """Let the parameters of a command, whose function this is, take plain values as they are."""
    declared = inspect.signature(function, eval_str=True).parameters.values() if function else ()
    kinds = {one.name: plain_type(one.annotation) for one in declared}
    for parameter in parameters:
        parameter.process_value = _processing(parameter, kinds.get(parameter.name, object))


def _processing(parameter: Any, kind: type) -> Callable[[Any, Any], Any]:
    by_typer = parameter.process_value

    def process(context: Any, value: Any) -> Any:
        plain = _plain(parameter, kind, value)
        if plain is _TYPERS:
            return by_typer(context, value)
        return plain if parameter.callback is None else parameter.callback(context, parameter, plain)

    return process


def _plain(parameter: Any, kind: type, value: Any) -> Any:
    if value is None:
        return _TYPERS if parameter.required else () if kind is list else None
    if kind is list:
        is_texts = isinstance(value, tuple | list) and value and all(isinstance(item, str) for item in value)
        return list(value) if is_texts else _TYPERS
    if type(value) is type(parameter.default) and value == parameter.default:
        return value
    return _taken(kind, value)


def _taken(kind: type, value: Any) -> Any:
    if not isinstance(value, str):
        return _TYPERS
    if kind is str:
        return value
    if issubclass(kind, Enum):
        return next((item for item in kind if item.value == value), _TYPERS)
    if kind is Path and "\0" not in value and (os.access(value, os.R_OK) or not os.path.lexists(value)):
        return Path(value)
    return _TYPERS
