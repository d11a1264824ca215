"""Frozen dataclasses with slots, made in a quarter of the time that ``dataclass(frozen=True, slots=True)`` takes.

A command makes 70 to 120 such classes before it does anything. The standard decorator compiles six functions for each
of them, which was a quarter of the time of a ``check``. Here ``__init__`` alone is compiled, and the others are shared.
``dataclasses`` knows what comes out as its own: fields, replace, asdict, pickle, match.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")

_BY_FACTORY = object()  # the default of an argument whose value is made anew for each instance


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def frozen(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass with slots: each annotation is a field.

    As with ``dataclass(frozen=True, slots=True)`` what the class itself defines stays. A class below another dataclass
    takes the standard way. Raises TypeError for what it does not know: ``kw_only``, ``hash`` and ``InitVar``.
    """
    if any("__dataclass_fields__" in vars(base) for base in cls.__mro__[1:]):
        return dataclass(frozen=True, slots=True)(cls)
    own = vars(cls)
    cls.__doc__ = cls.__doc__ or f"{cls.__name__}."  # else one is written from the signature, slowly
    is_given = {name for name in own if name != "__hash__" or own[name] is not None}  # None: there is an __eq__
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    params = made.__dataclass_params__
    params.init = params.repr = params.eq = params.frozen = True
    made_fields = fields(made)
    _require_plain(made)
    for name, function in {"__init__": _init(made, made_fields), **_comparing(made_fields), **_SHARED}.items():
        if name not in is_given:
            setattr(made, name, function)
    return made  # type: ignore[no-any-return]


def _require_plain(made: Any) -> None:
    for one in made.__dataclass_fields__.values():  # with those that are none afterwards
        if one.kw_only is True or one.hash is not None or "InitVar" in str(one.type):
            raise TypeError(f"{made.__name__}.{one.name} is no plain field: take the standard dataclass")


def _init(cls: Any, of: tuple[Field[Any], ...]) -> Callable[..., None]:
    """Compile ``__init__``: it sets each slot by its descriptor, which the frozen class has no say in."""
    held: dict[str, Any] = {"_by_factory": _BY_FACTORY}
    arguments, body = ["self"], []
    for one in of:
        name, value, default = one.name, one.name, ""
        held[f"_set_{name}"] = _slot(cls, name).__set__
        if one.default_factory is not MISSING:
            held[f"_make_{name}"] = one.default_factory
            value = f"_make_{name}()" + (f" if {name} is _by_factory else {name}" if one.init else "")
            default = "=_by_factory"
        elif one.default is not MISSING:
            held[f"_default_{name}"] = one.default
            value = name if one.init else f"_default_{name}"
            default = f"=_default_{name}"
        if one.init:
            arguments.append(f"{name}{default}")
        if one.init or default:
            body.append(f"  _set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("  self.__post_init__()")
    # A function around it holds what it uses: its globals are the module's, where type hints are looked up.
    lines = [f"def create({', '.join(held)}):", f" def __init__({', '.join(arguments)}):", *(body or ["  pass"])]
    made: dict[str, Any] = {}
    exec("\n".join([*lines, " return __init__"]), vars(sys.modules[cls.__module__]), made)  # noqa: S102
    init: Any = made["create"](**held)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {one.name: one.type for one in of if one.init} | {"return": None}
    return init  # type: ignore[no-any-return]


def _slot(cls: type, name: str) -> Any:
    return next(vars(base)[name] for base in cls.__mro__ if name in vars(base))


def _comparing(of: tuple[Field[Any], ...]) -> dict[str, Callable[..., Any]]:
    """Return ``__eq__`` and ``__hash__``, which compare what is to be compared as one tuple."""
    compared = [one.name for one in of if one.compare]
    # With the class, of which both are by then: so a tuple comes of one field, and of none.
    values = attrgetter(*compared, "__class__") if compared else attrgetter("__class__", "__class__")

    def __eq__(self: object, other: object) -> bool:  # noqa: N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(values(self) == values(other))

    def __hash__(self: object) -> int:  # noqa: N807
        return hash(values(self))

    return {"__eq__": __eq__, "__hash__": __hash__}


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_to_set(_self: object, name: str, _value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for one, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


_SHARED: dict[str, Callable[..., Any]] = {
    "__repr__": _repr,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _state,
    "__setstate__": _set_state,
}
