"""Which of an adapter's features a target refuses, ignores or misreads: those of which another form may help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lora_packer.targets.features import Use
from lora_packer.targets.target import Effect, Target

_NOT_TAKEN: frozenset[Effect] = frozenset({"rejected", "crash", "ignored", "wrong"})


def not_taken(targets: Iterable[Target], uses: Mapping[str, Use]) -> frozenset[str]:
    """Return the features in use that one of the targets does not take as they are.

    Of a union each engine counts, and of a service the engine inside it.
    """
    return frozenset(
        name
        for target in _every(targets)
        for name, use in uses.items()
        if (fact := target.fact(name)).effect in _NOT_TAKEN and use.counts(fact.by)
    )


def _every(targets: Iterable[Target]) -> Iterator[Target]:
    for target in targets:
        yield target
        yield from _every(target.engines)
        if target.engine is not None:
            yield from _every((target.engine,))
