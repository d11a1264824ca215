"""How long trouble is ridden out: botocore's own retries give up within a second, an outage lasts longer.

``standard`` mode waits 0.05 s x 2^i between its few tries (botocore/retries/standard.py). Here each request is repeated
with pauses that double up to 30 s, until nothing at all has succeeded for the length of the budget.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from lora_packer.duration import format_duration
from lora_packer.errors import PublishError

BUDGET = timedelta(minutes=15)
"""How long nothing may succeed before it is given up."""

FIRST_BUDGET = timedelta(seconds=10)
"""The same before the first answer: more likely the address is wrong than that the store is out."""

_FIRST_PAUSE = 0.5  # seconds
_LONGEST_PAUSE = 30.0  # seconds


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def _tell_nobody(_text: str) -> None:
    pass


class Patience:
    """The time left for trouble, shared by all requests (and threads) of an upload; any success renews it.

    Args:
        budget: how long nothing may succeed.
        first_budget: the same, as long as the store has not answered at all.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
        jitter: a number between 0 and 1: what part of a pause is left to chance, so that threads do not come in step.
        tell: told once for each time of trouble, as a sentence.
    """

    def __init__(
        self,
        budget: timedelta = BUDGET,
        *,
        first_budget: timedelta = FIRST_BUDGET,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        tell: Callable[[str], None] = _tell_nobody,
    ) -> None:
        self._budget = budget
        self._first_budget = min(first_budget, budget)
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._tell = tell
        self._lock = threading.Lock()
        self._answered = False
        self._trouble_since: float | None = None

    def answered(self) -> None:
        """Take note that the store is where it was looked for, whatever it says."""
        with self._lock:
            self._answered = True

    def progress(self) -> None:
        """Take note that something succeeded: the budget is whole again."""
        with self._lock:
            self._answered = True
            self._trouble_since = None

    def wait(self, attempt: int, error: PublishError) -> None:
        """Pause before the next try, or raise ``error`` where the budget would be over by then.

        Args:
            attempt: how many tries of this request failed, from 1.
            error: the last one's.
        """
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 16)) * (0.5 + self._jitter() / 2)
        with self._lock:
            now = self._clock()
            begins = self._trouble_since is None
            since = self._trouble_since = now if self._trouble_since is None else self._trouble_since
            budget = self._budget if self._answered else self._first_budget
        if now + pause - since > budget.total_seconds():
            tried = f"It was tried for {format_duration(timedelta(seconds=now - since))}."
            error.hint = f"{tried} {error.hint}" if error.hint else tried
            raise error
        if begins:
            self._tell(f"{error.message} Trying again, for up to {format_duration(budget)}.")
        self._sleep(pause)
