"""The upload's threads: bounded, in order where it matters, and the first error stops them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from lora_packer.publisher.workers import work_off


def test_every_job_is_done_and_told_in_the_calling_thread() -> None:
    here, done = threading.current_thread(), []

    def finish(result: int) -> None:
        assert threading.current_thread() is here
        done.append(result)

    work_off(range(100), lambda job: job * 2, finish, threads=4)
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

    work_off(jobs(), lambda job: job, finish, threads=3)
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
        work_off(jobs(), work, lambda _: None, threads=2)
    started = sorted([0, *ended])
    assert started == made[: len(started)]
    assert len(made) <= len(started) + 1  # one is made ahead
    assert len(made) < 1000


def test_an_error_while_a_job_is_made_is_raised() -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        work_off(jobs(), lambda job: job, lambda _: None, threads=2)


def test_the_room_imports_nothing_heavy() -> None:
    program = "import sys, lora_packer.publisher; print(*{'boto3', 'botocore', 'httpx2', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
