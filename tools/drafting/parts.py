"""Which of our blocks yields what a model has: each is run on the config, and what it yields is compared.

A block is any public function below ``base_model/blocks`` whose parameters are a config, a path and sizes. Sizes are
read from the model: a block is run with primes first, and where a prime comes out, that size stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from drafting.scope import Key, Missing, Scope
from lora_packer.base_model.module import Module, Modules
from lora_packer.base_model.settings import Settings
from lora_packer.errors import LoraPackerError

BLOCKS = Path(__file__).resolve().parents[2] / "lora_packer" / "base_model" / "blocks"
_PACKAGE = "lora_packer.base_model.blocks"
# Single layers are what everything is written with in any case.
_SINGLE = ("layers",)
_PRIMES = (9973, 9967, 9949, 9941, 9931)
_PATH = "P"
_MOST_FLAGS = 2

Parameter = Literal["settings", "path", "size"]
_KINDS: Mapping[str, Parameter] = {"Settings": "settings", "str": "path", "int": "size"}


@dataclass(frozen=True, slots=True)
class Part:
    """A block of ours.

    Attributes:
        name: what the source calls it.
        module: the file that has it.
        parameters: what it is called with, in order.
        flags: its options that are true or false.
    """

    name: str
    module: str
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    flags: tuple[str, ...]

    def arguments(self, s: Any, path: Any, sizes: Iterable[Any]) -> list[Any]:
        """Return what it is called with, in the order of its parameters."""
        rest = iter(sizes)
        return [s if kind == "settings" else path if kind == "path" else next(rest) for kind in self.parameters]

    def run(self, s: Settings, sizes: Sequence[int], flags: Mapping[str, bool]) -> Modules | None:
        """Return what it yields below its path, or None where it is not for such a config."""
        try:
            named = dict(self.function(*self.arguments(s, _PATH, sizes), **flags))
        except (LoraPackerError, ArithmeticError, TypeError, ValueError, AttributeError, KeyError):
            return None
        if "path" not in self.parameters:
            return named
        return {path.removeprefix(f"{_PATH}."): module for path, module in named.items()}


class Seen(NamedTuple):
    """A part of one model: where it was seen, and its modules by their paths below it."""

    key: Key
    modules: Modules


class Found(NamedTuple):
    """A block that yields some of what was seen everywhere.

    Attributes:
        sizes: for each of its sizes, what it is at each place.
        flags: option -> whether it is set at each place, for those that are set somewhere.
        covered: what it yields, at each place.
    """

    part: Part
    sizes: tuple[tuple[int, ...], ...]
    flags: Mapping[str, tuple[bool, ...]]
    covered: tuple[frozenset[str], ...]
    missing: frozenset[str]


@cache
def parts() -> tuple[Part, ...]:
    """Return every block, in the order of their files."""
    return tuple(part for path in sorted(BLOCKS.glob("[a-z]*.py")) for part in _parts_of(path.stem))


def _parts_of(stem: str) -> Iterator[Part]:
    if stem in _SINGLE:
        return
    module = import_module(f"{_PACKAGE}.{stem}")
    for name, value in vars(module).items():
        if name.startswith("_") or not callable(value) or inspect.isclass(value):
            continue
        defined = getattr(value, "__module__", None) or getattr(getattr(value, "func", None), "__module__", "")
        if inspect.isfunction(value) and defined != module.__name__:
            continue  # imported from another file
        part = _part(name, module.__name__, value)
        if part is not None:
            yield part


def _part(name: str, module: str, function: Callable[..., Any]) -> Part | None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    if signature.return_annotation not in ("Named", "'Named'"):
        return None
    needed = [item for item in signature.parameters.values() if item.default is item.empty]
    if any(item.kind not in (item.POSITIONAL_OR_KEYWORD, item.POSITIONAL_ONLY) for item in needed):
        return None
    kinds = [_KINDS.get(str(item.annotation)) for item in needed]
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds) or known.count("path") > 1 or known.count("size") > len(_PRIMES) or not known:
        return None
    flags = [
        item.name
        for item in signature.parameters.values()
        if item.kind == item.KEYWORD_ONLY and item.annotation == "bool" and item.default is False
    ]
    return Part(name, module, function, tuple(known), tuple(flags[:_MOST_FLAGS]))


def candidates(scope: Scope, seen: Sequence[Seen], *, whole: bool = False) -> list[Found]:
    """Return the blocks that explain some of what was seen, the one that explains most first.

    ``whole`` is for those without a path, which have to explain all of it; the others explain two modules at least.
    """
    of_this_kind = (part for part in parts() if ("path" in part.parameters) != whole)
    found = (match(part, scope, seen, whole=whole) for part in of_this_kind)
    return sorted((one for one in found if one is not None), key=_rank, reverse=True)


def _rank(found: Found) -> tuple[int, int, int, int]:
    """More modules first; then fields that the config has, fewer options and fewer sizes."""
    return len(found.covered[0]), -len(found.missing), -len(found.flags), -len(found.sizes)


def match(part: Part, scope: Scope, seen: Sequence[Seen], *, whole: bool = False) -> Found | None:
    """Return how a block yields some of what was seen, the same at every place, or None."""
    at_each, missing = [], Missing()
    for one in seen:
        s = Settings(scope.configs["s"][one.key.model], missing) if "s" in scope.configs else Settings({}, missing)
        answer = _match_one(part, s, one.modules, whole=whole)
        if answer is None:
            return None
        at_each.append(answer)
    if not at_each or (len(at_each[0][2]) < 2 and not whole):
        return None
    sizes = tuple(zip(*(sizes for sizes, _, _ in at_each), strict=True))
    flags = {name: tuple(set_[name] for _, set_, _ in at_each) for name in part.flags}
    set_somewhere = {name: values for name, values in flags.items() if any(values)}
    covered = tuple(names for _, _, names in at_each)
    return Found(part, sizes, set_somewhere, covered, frozenset(missing.asked))


def _match_one(
    part: Part, s: Settings, modules: Modules, *, whole: bool
) -> tuple[tuple[int, ...], dict[str, bool], frozenset[str]] | None:
    sizes = _sizes(part, s, modules)
    if sizes is None:
        return None
    for choice in product((False, True), repeat=len(part.flags)):
        flags = dict(zip(part.flags, choice, strict=True))
        named = part.run(s, sizes, flags)
        if not named or (whole and len(named) != len(modules)):
            continue
        if all(modules.get(path) == module for path, module in named.items()):
            return sizes, flags, frozenset(named)
    return None


def _sizes(part: Part, s: Settings, modules: Mapping[str, Module]) -> tuple[int, ...] | None:
    """Read a block's sizes from where its primes come out, or None where one comes out nowhere."""
    count = part.parameters.count("size")
    if not count:
        return ()
    primed = part.run(s, _PRIMES[:count], {})
    if not primed:
        return None
    found: dict[int, int] = {}
    for path, module in primed.items():
        shape = modules[path].weight_shape if path in modules else ()
        if len(shape) != len(module.weight_shape):
            return None
        for prime, size in zip(module.weight_shape, shape, strict=True):
            found.setdefault(prime, size)
    sizes = [found.get(prime) for prime in _PRIMES[:count]]
    return None if None in sizes else tuple(sizes)  # type: ignore[arg-type]
