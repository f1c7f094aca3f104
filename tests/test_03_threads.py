"""Threads whose results come in order: the order holds, memory stays bounded, an error ends the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from floemap.threads import in_order, usable_cores


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_calls(threads: int) -> None:
    def work(i: int) -> int:
        time.sleep(0.002 * (i % 3 == 0))  # some calls take longer than those after them
        return i

    assert list(in_order((partial(work, i) for i in range(20)), threads)) == list(range(20))
    assert list(in_order([], threads)) == []


def test_calls_are_taken_only_a_little_ahead_and_in_the_callers_thread() -> None:
    taken: list[int] = []

    def calls() -> Iterator[Callable[[], int]]:
        for i in range(50):
            assert threading.current_thread() is threading.main_thread()
            taken.append(i)
            yield lambda i=i: i  # type: ignore[misc]

    for i in in_order(calls(), 2):
        assert len(taken) <= i + 3


def test_an_error_is_raised_in_its_place_and_ends_the_work() -> None:
    done: list[int] = []

    def work(i: int) -> int:
        if i == 3:
            raise ValueError("the third")
        done.append(i)
        return i

    results = in_order((partial(work, i) for i in range(1000)), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(done) < 10


def test_there_is_a_core() -> None:
    assert usable_cores() >= 1
