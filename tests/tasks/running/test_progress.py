"""How far long work is: counted, said now and then, and never in its way."""

from __future__ import annotations

import io
import logging
import threading
import time

import pytest

from tasks.running import progress


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time that stands still unless it is moved on: `clock.now`."""

    class Clock:
        now = 1000.0

    progress._counts.clear()
    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    yield Clock
    progress._counts.clear()


def count(title: str) -> progress._Count:
    return progress._counts[title]


def test_pieces_of_one_title_share_a_bar(clock):
    with progress.bar("align a", "clips", share_of=4) as one, progress.bar("align a", "clips", share_of=6) as other:
        clock.now += 2
        one()
        other()
        other()
    assert str(count("align a")) == "3 of 10 clips, 1.5 a second, 5 s left"
    assert count("align a").percent == 30


def test_what_is_expected_is_the_total_and_what_was_there_is_not_waited_for(clock):
    progress.expect("align a", "clips", 100)
    progress.was_there("align a", 60)
    progress.was_there("align b", 60)
    with progress.bar("align a", "clips", share_of=10) as advance:
        clock.now += 10
        advance()
    assert str(count("align a")) == "1 of 40 clips, 10 s each, 6 min left"


def test_a_training_that_goes_on_is_not_faster_for_it(clock):
    with progress.bar("train", "epochs", share_of=50) as advance:
        clock.now += 10
        advance(41)
        clock.now += 10
        advance(42)
    assert str(count("train")) == "42 of 50 epochs, 10 s each, 80 s left"


def test_a_piece_that_fails_can_be_tried_again(clock):
    for attempt in range(2):
        try:
            with progress.bar("train", "epochs", share_of=5) as advance:
                clock.now += 1
                advance(3)
                if attempt == 0:
                    raise MemoryError
        except MemoryError:
            pass
    assert (count("train").done, count("train").before, count("train").total) == (3, 2, 5)


def test_a_line_every_half_minute_and_not_more(clock, caplog):
    with caplog.at_level(logging.INFO), progress.bar("align a", "clips", share_of=200) as advance:
        for _ in range(100):
            clock.now += 1
            advance()
    said = [record for record in caplog.records if record.name == "dfer.progress"]
    assert [record.getMessage() for record in said] == [
        "align a: 31 of 200 clips, 1 a second, 3 min left",
        "align a: 62 of 200 clips, 1 a second, 2 min left",
        "align a: 93 of 200 clips, 1 a second, 2 min left",
    ]
    assert said[0].done == 31


def test_lines_are_printed_where_there_is_no_terminal(clock, capsys):
    logging.getLogger("dfer").setLevel(logging.INFO)
    try:
        with progress.in_lines(), progress.bar("align a", "clips", share_of=2) as advance:
            clock.now += 31
            advance()
    finally:
        logging.getLogger("dfer").setLevel(logging.NOTSET)
    assert "align a: 1 of 2 clips, 31 s each, 31 s left" in capsys.readouterr().out


def test_bars_have_rates_and_time_left(clock):
    from rich.console import Console

    with progress.on_terminal(), progress.bar("align a", "clips", share_of=4) as advance:
        clock.now += 2
        advance()
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(progress._display)
        text = console.export_text()
    assert "1/4" in text
    assert "2 s each" in text
    assert "6 s left" in text


@pytest.mark.parametrize("failure", ["raises", "hangs"])
def test_a_page_that_cannot_be_told_stops_nothing(monkeypatch, caplog, failure):
    over = threading.Event()

    def tell(count):
        if failure == "raises":
            raise ConnectionError("no server")
        over.wait(30)

    monkeypatch.setattr(progress._Page, "_tell", staticmethod(tell))
    monkeypatch.setattr(progress, "_GIVE_UP", 0.2)
    monkeypatch.setattr(progress, "PAGE_EVERY", 0.01)
    began = time.perf_counter()
    with progress.on_page(), progress.bar("align a", "clips", share_of=1000) as advance:
        for _ in range(1000):
            advance()
        over.wait(0.1)
    assert time.perf_counter() - began < 5
    over.set()
    assert caplog.text.count("no server") == (1 if failure == "raises" else 0)


def test_the_page_is_told_now_and_then_and_in_the_end(monkeypatch):
    told = []
    monkeypatch.setattr(progress._Page, "_tell", staticmethod(lambda count: told.append(count.done)))
    monkeypatch.setattr(progress, "PAGE_EVERY", 0.05)
    with progress.on_page(), progress.bar("align a", "clips", share_of=1000) as advance:
        for _ in range(1000):
            advance()
            if threading.Event().wait(0.0002):
                raise AssertionError
    assert told[-1] == 1000
    assert len(told) < 100
