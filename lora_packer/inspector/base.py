"""Which base model an adapter is checked against: the one that the service hosts, wherever its config can be had."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lora_packer.adapter import LoraConfig
from lora_packer.arguments import BaseSource
from lora_packer.base_model import BaseModel, find_base, find_published
from lora_packer.base_model.catalogue import hosted_id, lookalike
from lora_packer.base_model.names import cached_repo, hosted_as
from lora_packer.base_model.shared import shared
from lora_packer.errors import InconclusiveError, InputError, LoraPackerError, UnknownArchitecture
from lora_packer.frozen import frozen
from lora_packer.redact import escape


@frozen
class Against:
    """What an adapter is checked against.

    Attributes:
        base: the base model that decides.
        is_hosted: whether it is the one that the service hosts.
        also: what was given as the base config, where its modules are not those of the hosted one.
        stands_in: why the hosted base's own config could not be had, where a given one stands in for it; else "".
    """

    base: BaseModel
    is_hosted: bool = False
    also: BaseModel | None = None
    stands_in: str = ""


def base_for(given: BaseSource | None, hosted: str | None, config: LoraConfig | None) -> Against:
    """Return what ``_base_for`` does; once for all adapters that share one, where many are checked."""
    if isinstance(given, Mapping):
        return _base_for(given, hosted, config)
    named = config.base_model_name_or_path if config is not None and (given is None or hosted is not None) else None
    key = ("for", None if given is None else str(given), hosted, named)
    return shared(key, lambda: _base_for(given, hosted, config), lambda made: len(made.base.modules))


def _base_for(given: BaseSource | None, hosted: str | None, config: LoraConfig | None) -> Against:
    """Return the base model, and whose word it is.

    Args:
        given: its config: a path, a folder, a Hub id or a parsed dict.
        hosted: the id under which the service hosts it; it is looked up in the catalogue and on the Hub.
        config: the adapter's, which may name it.

    Raises:
        InputError: what is given is no base config.
        InconclusiveError: there is none to be had, or not that of the hosted one and nothing in its place.
    """
    named = config.base_model_name_or_path if config is not None else None
    if hosted is None:
        return Against(find_base(given) if given is not None else _named(named))
    places = [str(place) for place in (given, named) if isinstance(place, str | Path)]
    known = _hosted(hosted, places, quick=given is not None)
    if given is None:
        if isinstance(known, str):
            message = f"the base model '{escape(hosted, 80)}' is hosted, and its config could not be had: {known}"
            raise InconclusiveError(message, hint=_what_next(hosted))
        return Against(known, is_hosted=True)
    stated = find_base(given)
    if isinstance(known, str):
        return Against(stated, stands_in=known)
    return Against(known, is_hosted=True, also=None if _is_alike(stated, known) else stated)


def _named(named: str | None) -> BaseModel:
    """The base model that adapter_config.json names."""
    hint = _what_next(named)
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


def _hosted(hosted: str, places: list[str], *, quick: bool) -> BaseModel | str:
    """The base model that the service hosts under this id, or why its config is not to be had.

    ``places`` may be where the Hub's cache has it. ``quick`` is whether another config is at hand, so that a Hub which
    does not answer is not waited for.
    """
    known, own = hosted_id(hosted), hosted_as(hosted)
    if known is not None:
        return find_published(known)
    names = [hosted, *([own] if own else [])]
    reason = ""
    for name in names:
        try:
            return find_published(name, quick=quick)
        except (InputError, InconclusiveError) as error:
            reason = reason or _why(error)
            if quick and isinstance(error.__cause__, InconclusiveError):
                break  # it was the Hub that gave no answer, and would give none to the other name
    for place in places:
        if cached_repo(place) in names and Path(place).exists():
            try:
                return find_base(place)
            except (InputError, InconclusiveError):
                continue
    return reason


def _why(error: LoraPackerError) -> str:
    """Why a config is not to be had: of the Hub's answer the sentence alone."""
    cause = error.__cause__
    return cause.message if isinstance(cause, LoraPackerError) else error.message


def _is_alike(one: BaseModel, other: BaseModel) -> bool:
    """Whether no adapter could tell the two apart."""
    return (
        one.head == other.head
        and one.dialects.keys() == other.dialects.keys()
        and all(dict(one.dialects[name]) == dict(other.dialects[name]) for name in one.dialects)
    )


def _what_next(name: str | None) -> str:
    """What to do without a base config; a known model that the name looks like is proposed, never taken."""
    known = lookalike(name) if name else None
    if known is not None:
        return f"'{escape(name or '', 80)}' looks like {known}: give --base-config {known} if it is."
    return "Give the base model's config.json with --base-config."
