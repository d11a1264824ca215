"""Options that stand in a file: ``[tool.lora-packer]`` of pyproject.toml, or ``lora-packer.toml``.

The nearest file that has settings counts, upwards from the working folder, and the command line goes before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.cli.settable import Settable, refusal, shown
from lora_packer.errors import InputError, UsageError
from lora_packer.files import exists
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.toml_file import parse_toml, toml_bytes

if TYPE_CHECKING:
    from lora_packer.inspector.suppression import Suppression

OWN_FILE, PROJECT_FILE = "lora-packer.toml", "pyproject.toml"
_TABLE = "lora-packer"
_SUPPRESS = "suppress"
_WHAT = "the settings file"
_HINT = "--isolated reads no settings."
Options = Mapping[str, Settable]


@frozen
class Settings:
    """What a file sets.

    Attributes:
        path: the file.
        values: its table: options, commands' own tables, suppressions.
        is_project: whether it is a pyproject.toml, where the table is one of many.
    """

    path: Path
    values: Mapping[str, Any]
    is_project: bool

    def where(self, *keys: str) -> str:
        """Return how a sentence names the file and a table in it."""
        table = ".".join((*(("tool", _TABLE) if self.is_project else ()), *keys))
        return f"'{escape(str(self.path))}'" + (f" [{escape(table, 80)}]" if table else "")

    @property
    def folder(self) -> Path:
        """Where relative paths begin."""
        return self.path.absolute().parent


_in_force: ContextVar[Settings | None] = ContextVar("settings", default=None)


_format: ContextVar[str] = ContextVar("format", default="text")


def in_force() -> Settings | None:
    """Return the settings of the command that runs, or None where no file has any."""
    return _in_force.get()


def forget() -> None:
    """Forget what an earlier command of this process read."""
    _in_force.set(None)
    _format.set("text")


def default_format() -> str:
    """Return the output format that the settings ask for, or text where they do not."""
    return _format.get()


def defaults_for(
    command: str, own: Options, every: Callable[[], Mapping[str, Options]], *, named: str | None, isolated: bool
) -> dict[str, Any]:
    """Read the settings, and return what they give to a command's parameters.

    ``own`` are its options, and ``every`` gives those of all commands, which takes a while. ``named`` is a file to read
    instead, and ``isolated`` reads none. Raises InputError, UsageError.
    """
    forget()
    if named is not None and isolated:
        raise UsageError("--config names a file, and --isolated reads none.", hint="Leave one of them out.")
    settings = None if isolated else _named(Path(named)) if named is not None else _nearest(Path.cwd())
    if settings is None:
        return {}
    _in_force.set(settings)
    found = _defaults(settings, command, own, every)
    _format.set(found.get("format", "text"))
    return found


def suppressions() -> tuple[Suppression, ...]:
    """Return the suppressions of the settings in force. Raises InputError where one makes no sense."""
    settings = in_force()
    entries = settings.values.get(_SUPPRESS, []) if settings is not None else []
    if settings is None or not entries:
        return ()
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(
            f"{settings.where()}: {_SUPPRESS} is {shown(entries)}, which is no list of tables.",
            hint=f"Write [[{'tool.lora-packer.' if settings.is_project else ''}{_SUPPRESS}]] above each.",
        )
    return tuple(_suppression(settings, at, entry) for at, entry in enumerate(entries, 1))


def _suppression(settings: Settings, at: int, entry: Mapping[str, Any]) -> Suppression:
    from lora_packer.inspector.suppression import Suppression

    where = f"{settings.where(_SUPPRESS)} number {at}"
    needed = ("rule", "adapter", "reason")
    for key in entry:
        if key not in needed:
            raise InputError(f"{where} has a key that is not known: '{escape(key, 60)}'.", hint=_meant(key, needed))
    for key in needed:
        value = entry.get(key)
        if not isinstance(value, str) or not value.strip():
            told = (
                f" has no {key}" if value is None else f": {key} is {shown(value)}; expected a text that says something"
            )
            raise InputError(f"{where}{told}.", hint=f"Each needs {', '.join(needed)}: why the finding is taken.")
    try:
        return Suppression(entry["rule"], entry["adapter"], entry["reason"], settings.folder)
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from None


# --- the file --------------------------------------------------------------------------------------------------------


def _named(path: Path) -> Settings:
    """Read a file that --config names; one that says nothing to us is a mistake."""
    settings = _settings(path, toml_bytes(path, _WHAT))
    if settings is None:
        raise InputError(f"{_WHAT} '{escape(str(path))}' has no [tool.{_TABLE}].", hint="Name another file.")
    return settings


def _nearest(folder: Path) -> Settings | None:
    for place in (folder, *folder.parents):
        for name in (OWN_FILE, PROJECT_FILE):
            path = place / name
            if exists(path) and (settings := _settings(path, toml_bytes(path, _WHAT, hint=_HINT))) is not None:
                return settings
    return None


def _settings(path: Path, data: bytes) -> Settings | None:
    """What a file says; None where it is another tool's."""
    is_project = path.name == PROJECT_FILE
    if is_project and _TABLE.encode() not in data:  # none of ours, whatever is wrong with it
        return None
    values = parse_toml(data, path, _WHAT, hint=_HINT)
    tool = values.get("tool", {})
    table = tool.get(_TABLE) if isinstance(tool, dict) else None
    if not is_project and table is None:
        return Settings(path, values, is_project=False)
    if table is not None and not isinstance(table, dict):
        raise InputError(f"'{escape(str(path))}': tool.{_TABLE} is {shown(table)}, which is no table.")
    return None if table is None else Settings(path, table, is_project=True)


# --- what it sets ----------------------------------------------------------------------------------------------------


def _defaults(
    settings: Settings, command: str, own: Options, every: Callable[[], Mapping[str, Options]]
) -> dict[str, Any]:
    common = {key: value for key, value in settings.values.items() if key != _SUPPRESS and not isinstance(value, dict)}
    tables = {key: value for key, value in settings.values.items() if isinstance(value, dict)}
    found: dict[str, Any] = {}
    for key, value in common.items():
        if (why := refusal(key)) is not None:
            raise _refused(settings.where(), escape(key, 60), why)
        if key in own and own[key].fits(value):
            found[own[key].parameter] = own[key].taken(value, settings.folder)
        else:
            _require_elsewhere(settings, key, value, every())
    for name, table in tables.items():
        options = own if name == command else every().get(name)
        if options is None:
            raise _unknown(settings.where(), "a table", name, list(every()))
        for option, value in _of_command(settings, name, table, options):
            if name == command:
                found[option.parameter] = option.taken(value, settings.folder)
    return found


def _of_command(
    settings: Settings, name: str, table: Mapping[str, Any], options: Options
) -> Iterator[tuple[Settable, Any]]:
    where = settings.where(name)
    for key, value in table.items():
        if (why := refusal(key)) is not None:
            raise _refused(where, escape(key, 60), why)
        if key not in options:
            raise _unknown(where, "an option", key, _names(options))
        if not options[key].fits(value):
            raise _wrong(where, key, value, [options[key]])
        yield options[key], value


def _require_elsewhere(settings: Settings, key: str, value: object, every: Mapping[str, Options]) -> None:
    """Raise InputError where no command has this option, or none takes this value."""
    having = [options[key] for options in every.values() if key in options]
    if not having:
        known = [name for options in every.values() for name in _names(options)]
        raise _unknown(settings.where(), "an option", key, [*known, _SUPPRESS])
    if not any(option.fits(value) for option in having):
        raise _wrong(settings.where(), key, value, having)


def _names(options: Options) -> list[str]:
    return [name for name in options if refusal(name) is None]


def _refused(where: str, key: str, why: str) -> InputError:
    return InputError(f"{where}: '{escape(key, 60)}' is not taken from a file: {why}.", hint="Take it out of the file.")


def _unknown(where: str, what: str, key: str, known: Sequence[str]) -> InputError:
    return InputError(f"{where} has {what} that is not known: '{escape(key, 60)}'.", hint=_meant(key, known))


def _wrong(where: str, key: str, value: object, having: Sequence[Settable]) -> InputError:
    expected = " or ".join(dict.fromkeys(option.takes for option in having))
    return InputError(f"{where}: {key} is {shown(value)}; expected {expected}.")


def _meant(key: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key.replace("_", "-"), sorted(set(known)), 1, 0.5)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(set(known)))}."
