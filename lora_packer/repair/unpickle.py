"""A reader for the pickles of ``torch.save`` that can run nothing: it knows the steps that make tensors, and no other.

A pickle is a program (https://docs.python.org/3/library/pickle.html). Python's own reader imports and calls whatever
that names; this one calls nothing. It keeps a stack of plain values, takes four names for what they are known to be
(torch/_utils.py::_rebuild_tensor_v2 and _rebuild_parameter, collections.OrderedDict, and torch's storage types), and
refuses every other name and every step that it does not know. Steps, values and bytes are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.repair.pickled import STORAGES, Inert, Storage, UnpickleError, tensor_of

MAX_BYTES = 8 << 20  # of a pickle: the 10,000 tensors that one file may have take a third of that
_MAX_VALUES = 1_000_000  # pushed in all
_MAX_TEXT = 4096


@frozen
class _Name:
    """A name that the pickle has taken from a module."""

    module: str
    name: str


_MARK: Any = object()
_TENSOR, _PARAMETER = _Name("torch._utils", "_rebuild_tensor_v2"), _Name("torch._utils", "_rebuild_parameter")
_DICT = _Name("collections", "OrderedDict")


def unpickle(data: bytes, inert: frozenset[tuple[str, str]] = frozenset()) -> Any:
    """Return what a pickle holds. Raises UnpickleError.

    ``inert``: names (module, name) of which nothing is made either, and which are read as what they would be made of.
    """
    if len(data) > MAX_BYTES:
        raise UnpickleError(f"its pickle has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        return _Machine(data, inert).run()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise UnpickleError("its pickle is damaged") from None


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, data: bytes, inert: frozenset[tuple[str, str]]) -> None:
        self._data = data
        self._inert = inert
        self._at = 0
        self._pushed = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[int, Callable[[], None]] = {
            0x80: lambda: self._skip(1),  # PROTO
            0x95: lambda: self._skip(8),  # FRAME
            ord("}"): lambda: self._push({}),
            ord("]"): lambda: self._push([]),
            ord(")"): lambda: self._push(()),
            ord("N"): lambda: self._push(None),
            0x88: lambda: self._push(True),
            0x89: lambda: self._push(False),
            ord("("): lambda: self._push(_MARK),
            ord("K"): lambda: self._push(self._take(1)[0]),
            ord("M"): lambda: self._push(int.from_bytes(self._take(2), "little")),
            ord("J"): lambda: self._push(int.from_bytes(self._take(4), "little", signed=True)),
            0x8A: self._long,
            ord("G"): lambda: self._push(struct.unpack(">d", self._take(8))[0]),
            ord("X"): lambda: self._text(4),
            0x8C: lambda: self._text(1),
            ord("q"): lambda: self._remember(self._take(1)[0]),
            ord("r"): lambda: self._remember(int.from_bytes(self._take(4), "little")),
            0x94: lambda: self._remember(len(self._memo)),
            ord("h"): lambda: self._recall(self._take(1)[0]),
            ord("j"): lambda: self._recall(int.from_bytes(self._take(4), "little")),
            ord("t"): lambda: self._push(tuple(self._popped())),
            0x85: lambda: self._tuple(1),
            0x86: lambda: self._tuple(2),
            0x87: lambda: self._tuple(3),
            ord("c"): self._global,
            0x93: self._stack_global,
            ord("R"): self._call,
            0x81: self._call,  # NEWOBJ
            ord("Q"): self._storage,
            ord("s"): self._set_one,
            ord("u"): self._set_all,
            ord("a"): self._append,
            ord("e"): self._append_all,
            ord("b"): self._build,
            ord("0"): self._pop,
        }

    def run(self) -> Any:
        while True:
            step = self._data[self._at]
            self._at += 1
            if step == ord("."):
                return self._pop()
            known = self._steps.get(step)
            if known is None:
                raise UnpickleError(f"its pickle has a step (0x{step:02x}) that no tensor needs")
            known()

    # --- the stack -------------------------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise UnpickleError("its pickle ends early")
        self._at += count
        return found

    def _skip(self, count: int) -> None:
        self._take(count)

    def _push(self, value: Any) -> None:
        self._pushed += 1
        if self._pushed > _MAX_VALUES:
            raise UnpickleError("its pickle holds too many values")
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise UnpickleError("its pickle is damaged")
        return value

    def _popped(self) -> list[Any]:
        """Everything above the last mark."""
        for at in range(len(self._stack) - 1, -1, -1):
            if self._stack[at] is _MARK:
                found = self._stack[at + 1 :]
                del self._stack[at:]
                return found
        raise UnpickleError("its pickle is damaged")

    def _tuple(self, count: int) -> None:
        found = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(found)))

    def _remember(self, at: int) -> None:
        if self._stack[-1] is _MARK:
            raise UnpickleError("its pickle is damaged")
        self._memo[at] = self._stack[-1]

    def _recall(self, at: int) -> None:
        if at not in self._memo:
            raise UnpickleError("its pickle is damaged")
        self._push(self._memo[at])

    # --- the values ------------------------------------------------------------------------------------------------

    def _long(self) -> None:
        self._push(int.from_bytes(self._take(self._take(1)[0]), "little", signed=True))

    def _text(self, width: int) -> None:
        length = int.from_bytes(self._take(width), "little")
        if length > _MAX_TEXT:
            raise UnpickleError(f"its pickle has a text of {length:,} bytes; at most {_MAX_TEXT:,} are read")
        self._push(self._take(length).decode())

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _set_all(self) -> None:
        self._set(self._popped())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise UnpickleError("its pickle is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | Inert):
                raise UnpickleError("its pickle has a dictionary whose keys are no names")
            target[key] = value

    def _append(self) -> None:
        value = self._pop()
        self._extend([value])

    def _append_all(self) -> None:
        self._extend(self._popped())

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise UnpickleError("its pickle is damaged")
        self._stack[-1].extend(values)

    # --- what would be run -------------------------------------------------------------------------------------------

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + _MAX_TEXT)
        if end < 0:
            raise UnpickleError("its pickle is damaged")
        return self._take(end + 1 - self._at)[:-1].decode()

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push(self._known(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnpickleError("its pickle is damaged")
        self._push(self._known(module, name))

    def _known(self, module: str, name: str) -> _Name:
        found = _Name(module, name)
        is_of_a_tensor = found in (_TENSOR, _PARAMETER, _DICT) or (module == "torch" and name in STORAGES)
        if is_of_a_tensor or self._is_inert(found):
            return found
        raise UnpickleError(
            f"its pickle names {escape(module, 60)}.{escape(name, 60)}, which no tensor needs, and which is neither "
            "imported nor called"
        )

    def _is_inert(self, found: Any) -> bool:
        return isinstance(found, _Name) and (found.module, found.name) in self._inert

    def _call(self) -> None:
        arguments, called = self._pop(), self._pop()
        if called == _DICT and arguments == ():
            self._push({})
        elif called == _TENSOR and isinstance(arguments, tuple):
            self._push(tensor_of(arguments))
        elif called == _PARAMETER and isinstance(arguments, tuple) and arguments:
            self._push(arguments[0])
        elif self._is_inert(called) and isinstance(arguments, tuple):
            self._push(Inert(called.name, arguments))
        else:
            raise UnpickleError("its pickle calls something, which is not done")

    def _build(self) -> None:
        state = self._pop()  # of a dictionary, such as torch's _metadata, it is nothing that a tensor needs
        if isinstance(self._stack[-1], Inert):
            self._stack[-1].state = state

    def _storage(self) -> None:
        found = self._pop()
        match found:
            case ("storage", _Name("torch", name), str(key), _, int(elements)) if name in STORAGES and elements >= 0:
                self._push(Storage(STORAGES[name], key, elements))
            case _:
                raise UnpickleError("its pickle refers to something that is no storage")
