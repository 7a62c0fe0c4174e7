"""How far long work is: counted, shown now and then, and never in its way."""

from __future__ import annotations

import io
import logging
import threading
import time

import pytest

from tasks.running import progress
from tasks.running.progress import LogLines, PrefectPage, Progress, Terminal, progress_of_run, under_way


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still unless it is moved on: `clock.now`."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_pieces_of_one_title_share_a_bar(clock):
    work = Progress()
    with work.bar("align a", "clips", share=4) as one, work.bar("align a", "clips", share=6) as other:
        one()
        clock.now += 2
        other()
        other()
        other()
    assert str(work.counts["align a"]) == "4 of 10 clips, 1.5 a second, 4 s left"
    assert work.counts["align a"].percent == 40


def test_what_is_expected_is_the_total_and_what_is_cached_is_not_waited_for(clock):
    work = Progress()
    work.expect("align a", "clips", 100)
    work.cached("align a", 60)
    work.cached("align b", 60)
    with work.bar("align a", "clips", share=10) as advance:
        advance()
        clock.now += 10
        advance()
    assert str(work.counts["align a"]) == "2 of 40 clips, 10 s each, 6 min left"


def test_the_start_of_a_training_does_not_count_for_how_long_it_takes(clock):
    work = Progress()
    with work.bar("train", "epochs", share=30) as advance:
        clock.now += 40
        assert str(work.counts["train"]) == "0 of 30 epochs"
        advance(1)
        assert str(work.counts["train"]) == "1 of 30 epochs"
        clock.now += 6
        advance(2)
    assert str(work.counts["train"]) == "2 of 30 epochs, 6 s each, 3 min left"


def test_a_training_that_goes_on_is_not_faster_for_it(clock):
    work = Progress()
    with work.bar("train", "epochs", share=50) as advance:
        clock.now += 10
        advance(41)
        clock.now += 10
        advance(42)
    assert str(work.counts["train"]) == "42 of 50 epochs, 10 s each, 80 s left"


def test_a_piece_that_fails_can_be_tried_again(clock):
    work = Progress()
    for attempt in range(2):
        try:
            with work.bar("train", "epochs", share=5) as advance:
                clock.now += 1
                advance(3)
                if attempt == 0:
                    raise MemoryError
        except MemoryError:
            pass
    count = work.counts["train"]
    assert (count.done, count.total, count.per_second) == (3, 5, 0)
    clock.now += 2
    with work.bar("train", "epochs", share=0) as advance:
        advance(4)
        clock.now += 2
        advance(5)
    assert count.per_second == 0.5


def test_a_line_every_half_minute_and_not_more(clock, caplog):
    with caplog.at_level(logging.INFO), Progress(LogLines()).bar("align a", "clips", share=200) as advance:
        for _ in range(100):
            clock.now += 1
            advance()
    lines = [record for record in caplog.records if record.name == "dfer.progress"]
    assert [record.getMessage() for record in lines] == [
        "align a: 31 of 200 clips, 1 a second, 3 min left",
        "align a: 62 of 200 clips, 1 a second, 2 min left",
        "align a: 93 of 200 clips, 1 a second, 2 min left",
    ]
    assert (lines[0].progress, lines[0].done, lines[0].total) == ("align a", 31, 200)


def test_lines_are_printed_where_output_is_no_terminal(clock, capsys):
    logging.getLogger("dfer").setLevel(logging.INFO)
    try:
        with progress.lines_on_stdout(), Progress(LogLines()).bar("align a", "clips", share=2) as advance:
            advance()
            clock.now += 31
            advance()
    finally:
        logging.getLogger("dfer").setLevel(logging.NOTSET)
    assert "align a: 2 of 2 clips, 31 s each" in capsys.readouterr().out


def test_bars_have_rates_and_time_left(clock):
    from rich.console import Console

    with Terminal() as terminal, Progress(terminal).bar("align a", "clips", share=4) as advance:
        advance()
        clock.now += 2
        advance()
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(terminal.display)
        text = console.export_text()
    assert "2/4" in text
    assert "2 s each" in text
    assert "4 s left" in text


def test_the_terminal_names_what_works_now():
    from rich.console import Console

    with Terminal() as terminal, under_way.doing("ingest [a]"), under_way.doing("ingest b"):
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(terminal.display)
    assert "ingest [a], ingest b" in console.export_text()
    console.print(terminal.display)
    assert "Prefect" not in console.export_text()  # what stays on the screen are the bars
    assert str(under_way) == "Prefect and MLflow"


def test_output_that_is_no_terminal_is_never_silent_for_long(clock, capsys, monkeypatch):
    lines = progress._Lines()
    with under_way.doing("report"):
        for _ in range(33):
            clock.now += 1
            lines.break_silence()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[1] for line in printed] == ["report ...", "report ..."]

    monkeypatch.setattr(progress, "SILENCE", 0.01)
    clock.now += 1
    with progress.lines_on_stdout():
        until = time.perf_counter() + 5
        text = ""
        while "Prefect and MLflow ..." not in text and time.perf_counter() < until:
            clock.now += 1
            text += capsys.readouterr().out
    assert "Prefect and MLflow ..." in text


def test_a_run_shows_its_progress_on_the_terminal_that_the_command_line_has_opened(monkeypatch):
    monkeypatch.setattr(PrefectPage, "_send", lambda self: None)
    with Terminal() as terminal:
        with progress_of_run() as (work, _), work.bar("align a", "clips", share=4) as advance:
            advance()
        assert [bar.completed for bar in terminal.display.tasks] == [1]
    with progress_of_run() as (work, _), work.bar("align b", "clips", share=4) as advance:
        advance()
    assert len(terminal.display.tasks) == 1


@pytest.mark.parametrize("failure", ["raises", "hangs"])
def test_a_page_that_cannot_be_told_stops_nothing(monkeypatch, caplog, failure):
    over = threading.Event()

    def show(self, count):
        if failure == "raises":
            raise ConnectionError("no server")
        over.wait(30)

    monkeypatch.setattr(progress._ProgressArtifact, "show", show)
    monkeypatch.setattr(progress, "GIVE_UP_AFTER", 0.2)
    monkeypatch.setattr(progress, "PAGE_EVERY", 0.01)
    began = time.perf_counter()
    with PrefectPage() as page, Progress(page).bar("align a", "clips", share=1000) as advance:
        for _ in range(1000):
            advance()
        over.wait(0.1)
    assert time.perf_counter() - began < 5
    over.set()
    assert caplog.text.count("no server") == (1 if failure == "raises" else 0)


def test_the_page_is_told_now_and_then_and_in_the_end(monkeypatch):
    shown = []
    monkeypatch.setattr(progress._ProgressArtifact, "show", lambda self, count: shown.append(count.done))
    monkeypatch.setattr(progress, "PAGE_EVERY", 0.05)
    with PrefectPage() as page, Progress(page).bar("align a", "clips", share=1000) as advance:
        for _ in range(1000):
            advance()
            if threading.Event().wait(0.0002):
                raise AssertionError
    assert shown[-1] == 1000
    assert len(shown) < 100
