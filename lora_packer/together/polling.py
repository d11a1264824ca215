"""Waiting for a job or an endpoint: look, sleep a little longer each time, never take "could not look" for an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from lora_packer.errors import ServiceError
from lora_packer.frozen import frozen
from lora_packer.together.refusal import is_transient

T = TypeVar("T")

_FIRST_INTERVAL, _LONGEST_INTERVAL, _GROWTH = 1.0, 20.0, 1.5  # seconds, seconds, times


@frozen
class Waiting:
    """How long to wait for something at the service, and who is told meanwhile.

    Attributes:
        timeout: how long.
        on_change: told what it is at, with the first look and after each change.
        on_trouble: told each error that is ridden out.
        sleep, clock: the time, in seconds.
    """

    timeout: timedelta
    on_change: Callable[[str], None] = lambda _: None
    on_trouble: Callable[[ServiceError], None] | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def until(self, look: Callable[[], T], is_end: Callable[[T], bool], told: Callable[[T], str]) -> T | None:
        """Look until it ends or the time is up, and return the last look; None where every look failed."""

        def on_change(now: T) -> None:
            self.on_change(told(now))

        ended = poll(
            look,
            is_end=is_end,
            told=told,
            timeout=self.timeout,
            on_change=on_change,
            on_trouble=self.on_trouble,
            sleep=self.sleep,
            clock=self.clock,
        )
        return ended[0]


def poll(
    look: Callable[[], T],
    *,
    is_end: Callable[[T], bool],
    told: Callable[[T], object],
    timeout: timedelta,
    on_change: Callable[[T], None],
    on_trouble: Callable[[ServiceError], None] | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    stale_after: timedelta | None = None,
    on_stale: Callable[[T, timedelta], None] | None = None,
) -> tuple[T | None, ServiceError | None]:
    """Look at something until it ends or the time is up; it is looked at once in any case.

    Args:
        look: returns it as it is now; a transient ServiceError is tolerated until the time is up.
        is_end: whether it is at its end.
        told: what of it counts as a change.
        timeout: how long to wait.
        on_change: called with the first look and after each change; last with the end.
        on_trouble: called with each error that is tolerated.
        sleep, clock: the time, in seconds.
        stale_after, on_stale: where it did not change for so long, ``on_stale`` is called, once for each state.

    Returns the last look (None where every look failed) and the error of the last attempt, if it failed. Raises
    ServiceError where looking cannot succeed later.
    """
    started = changed = clock()
    deadline = started + timeout.total_seconds()
    interval = _FIRST_INTERVAL
    seen: T | None = None
    trouble: ServiceError | None = None
    reported = False
    while True:
        try:
            now = look()
        except ServiceError as error:
            # An unreadable success in the middle of a wait is a gateway's hiccup; at its start it is a wrong address.
            if not (is_transient(error) or (seen is not None and error.status == 200)):
                raise
            trouble = error
            if on_trouble is not None:
                on_trouble(error)
        else:
            trouble = None
            if seen is None or told(now) != told(seen):
                changed, reported = clock(), False
                on_change(now)
            seen = now
            if is_end(now):
                return now, None
            still = timedelta(seconds=clock() - changed)
            if stale_after is not None and on_stale is not None and still >= stale_after and not reported:
                reported = True
                on_stale(now, still)
        left = deadline - clock()
        if left <= 0:
            return seen, trouble
        sleep(min(interval, left))
        interval = min(interval * _GROWTH, _LONGEST_INTERVAL)
