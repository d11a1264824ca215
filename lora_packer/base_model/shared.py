"""Base models that are built once for all adapters that share one, while many are checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar, cast

from lora_packer.errors import LoraPackerError

Made = TypeVar("Made")

# What is kept: base models of a few hundred modules by the hundred, or a few of the largest.
_MOST_MODULES = 600_000  # counted for each key
_MOST_ENTRIES = 1_000


class Bases:
    """What was found under each key, or why it could not be; the ones asked for last are kept."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._making: dict[Hashable, Lock] = {}
        self._kept: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, make: Callable[[], Made], size: Callable[[Made], int]) -> Made:
        """Return what is kept under the key, else what ``make`` makes; an error on purpose is kept, too."""
        with self._lock:
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                found = self._kept.get(key)
                if found is not None:
                    self._kept.move_to_end(key)
            if found is None:
                found = self._made(make, size)
                self._keep(key, *found)
        value = found[0]
        if isinstance(value, LoraPackerError):
            raise value.with_traceback(None)
        return cast(Made, value)

    def _made(self, make: Callable[[], Made], size: Callable[[Made], int]) -> tuple[object, int]:
        try:
            value = make()
        except LoraPackerError as error:
            return error, 0
        return value, size(value)

    def _keep(self, key: Hashable, value: object, size: int) -> None:
        with self._lock:
            self._kept[key] = value, size
            self._size += size
            while self._size > _MOST_MODULES or len(self._kept) > _MOST_ENTRIES:
                oldest, (_, less) = self._kept.popitem(last=False)
                self._making.pop(oldest, None)
                self._size -= less


_active: ContextVar[Bases | None] = ContextVar("bases", default=None)


@contextmanager
def sharing(bases: Bases) -> Iterator[None]:
    """Have every base model that is asked for while the block runs taken from ``bases``."""
    token = _active.set(bases)
    try:
        yield
    finally:
        _active.reset(token)


def shared(key: Hashable, make: Callable[[], Made], size: Callable[[Made], int]) -> Made:
    """Return what ``make`` makes: the same for the same key, where base models are shared."""
    bases = _active.get()
    return make() if bases is None else bases.get(key, make, size)
