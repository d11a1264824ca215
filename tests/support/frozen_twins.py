"""Make every frozen class of the package twice, by ours and by the standard decorator; print their number, and what differs.

usage: python tests/support/frozen_twins.py
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from lora_packer import frozen as module

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_ours = module.frozen
_twins: list[tuple[Any, Any]] = []


def both(cls: Any) -> Any:
    """Stand in for our decorator: make the class, and a twin of it by the standard one."""
    body = {
        name: copy.copy(value) if isinstance(value, dataclasses.Field) else value
        for name, value in vars(cls).items()
        if name not in ("__dict__", "__weakref__")
    }
    bases = getattr(cls, "__orig_bases__", cls.__bases__)
    twin: Any = types.new_class(cls.__name__, bases, {}, lambda space: space.update(body))
    twin.__qualname__ = cls.__qualname__
    _twins.append((_ours(cls), dataclasses.dataclass(frozen=True, slots=True)(twin)))
    return _twins[-1][0]


def facts(cls: Any) -> Iterator[tuple[str, object]]:
    """Yield what the class is, and what its instances do."""
    for one in dataclasses.fields(cls):
        missing = one.default is dataclasses.MISSING, one.default_factory is dataclasses.MISSING
        yield one.name, (str(one.type), one.init, one.repr, one.compare, missing)
    yield "names", sorted(vars(cls).keys() - {"__annotate_func__"})
    yield "params", repr(cls.__dataclass_params__)
    yield (
        "signature",
        [
            (one.name, one.kind, str(one.annotation), one.default is one.empty)
            for one in inspect.signature(cls).parameters.values()
        ],
    )
    for of in (cls, cls.__init__):
        try:
            yield "hints", sorted(get_type_hints(of))
        except Exception as error:  # noqa: BLE001 - a name that is imported for types alone
            yield "hints", type(error)
    given = {one.name: f"its {one.name}" for one in dataclasses.fields(cls) if one.init}
    needed = [name for name, one in inspect.signature(cls).parameters.items() if one.default is one.empty]
    for named in (given, {name: given[name] for name in needed}):
        yield "instance", _instance(cls, named)


def _instance(cls: Any, named: dict[str, Any]) -> list[object]:
    try:
        first, second = cls(**named), cls(**named)
    except Exception as error:  # noqa: BLE001 - what its own check makes of text everywhere
        return [type(error), str(error)]
    found: list[object] = [first == second, first != 1]
    for act in (
        lambda: repr(first),
        lambda: hash(first) == hash(second),
        lambda: setattr(first, dataclasses.fields(cls)[0].name, 1),
        lambda: delattr(first, dataclasses.fields(cls)[0].name),
        lambda: copy.copy(first) == first,
        lambda: dataclasses.replace(first, **dict.fromkeys(list(named)[:1], "another")) == first,
        lambda: repr(dataclasses.asdict(first)),
    ):
        try:
            found.append(_ADDRESS.sub("", str(act())))
        except Exception as error:  # noqa: BLE001 - it is to be the same error
            found += [type(error), str(error)]
    return found


def main() -> None:
    """Import the package with the stand-in, and compare."""
    module.frozen = both
    for one in pkgutil.walk_packages([str(Path(module.__file__).parent)], "lora_packer."):
        if not one.name.endswith("__main__"):
            try:
                importlib.import_module(one.name)
            except ModuleNotFoundError:  # what an extra of the package brings
                continue
    print(len(_twins))
    for ours, standard in _twins:
        for (what, own), (_, other) in zip(facts(ours), facts(standard), strict=True):
            if own != other:
                print(f"{ours.__module__}.{ours.__qualname__}: {what}: {own!r:.300} and {other!r:.300}")


if __name__ == "__main__":
    main()
