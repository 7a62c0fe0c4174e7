from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dfer.system.prefetch import prefetch


def test_items_come_in_order_one_ahead() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            yield number

    assert list(prefetch([])) == []
    coming = prefetch(make())
    assert next(coming) == 0
    deadline = time.monotonic() + 5
    while made != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made == [0, 1]  # not more, or a whole film would be in memory
    assert list(coming) == [1, 2, 3]


def test_they_are_made_in_another_thread() -> None:
    assert set(prefetch(threading.current_thread().name for _ in range(2))) != {threading.current_thread().name}


def test_an_error_arrives_in_its_place() -> None:
    coming = prefetch(1 // number for number in (1, 0))
    assert next(coming) == 1
    with pytest.raises(ZeroDivisionError):
        next(coming)
