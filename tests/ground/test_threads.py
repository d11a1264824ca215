"""Work in threads: bounded, in order where it matters, ended when the block is left; the first error stops it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lora_packer import threads
from lora_packer.threads import aside, in_order, unordered


def no_stop() -> None:
    raise AssertionError("nothing failed")


def test_every_job_is_done_and_told_in_the_calling_thread() -> None:
    here, done = threading.current_thread(), []

    def finish(result: int) -> None:
        assert threading.current_thread() is here
        done.append(result)

    unordered(range(100), lambda job: job * 2, finish, threads=4)
    assert sorted(done) == [2 * job for job in range(100)]


def test_no_more_jobs_are_made_than_threads_can_take() -> None:
    made, done = 0, 0

    def jobs() -> Iterator[int]:
        nonlocal made
        for job in range(20):
            assert made - done <= 3
            made += 1
            yield job

    def finish(_: int) -> None:
        nonlocal done
        done += 1

    unordered(jobs(), lambda job: job, finish, threads=3)
    assert (made, done) == (20, 20)


def test_the_first_error_stops_the_rest_after_the_running_ones_ended() -> None:
    made: list[int] = []
    ended: list[int] = []
    others_run = threading.Barrier(2)

    def jobs() -> Iterator[int]:
        for job in range(1000):
            made.append(job)
            yield job

    def work(job: int) -> int:
        if job in (0, 1):
            others_run.wait(30)
        if job == 0:
            raise ValueError("job 0")
        ended.append(job)
        return job

    with pytest.raises(ValueError, match="job 0"):
        unordered(jobs(), work, lambda _: None, threads=2)
    started = sorted([0, *ended])
    assert started == made[: len(started)]
    assert len(made) <= len(started) + 1  # one is made ahead
    assert len(made) < 1000


def test_an_error_while_a_job_is_made_is_raised() -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        unordered(jobs(), lambda job: job, lambda _: None, threads=2)


def test_no_more_is_held_than_the_threads_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "processors", lambda: 3)
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    with in_order(lambda item: item + 1, items()) as results:
        for given_back, result in enumerate(results):
            assert result == given_back + 1
            assert taken - given_back <= 12


def test_an_error_comes_in_its_turn_and_ends_it() -> None:
    with in_order(lambda item: 1 // item, [4, 1, 0, 1]) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []


def test_the_threads_have_ended_however_the_block_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "processors", lambda: 3)
    before = threading.active_count()
    with suppress(KeyError), in_order(str, range(100)) as results:
        next(results)
        raise KeyError
    assert threading.active_count() == before


def test_work_aside_is_stopped_when_the_block_fails_and_has_ended_then() -> None:
    entered, stopped = threading.Event(), threading.Event()

    def work() -> str:
        entered.set()
        assert stopped.wait(60)
        return "ended"

    def fail() -> None:
        assert entered.wait(60)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), aside(stopped.set, work) as future:
        fail()
    assert future.result(timeout=0) == "ended"


def test_work_aside_gives_its_result_or_its_error() -> None:
    with aside(no_stop, len, "four") as future:
        assert future.result() == 4
    with aside(no_stop, int, "four") as future, pytest.raises(ValueError, match="four"):
        future.result()
