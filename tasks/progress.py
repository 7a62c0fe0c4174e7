"""Progress of long work: bars on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

logger = logging.getLogger("dfer.progress")

_lock = threading.Lock()
_display: Progress | None = None
_totals: dict[str, list[int]] = {}  # title -> [done, total] over all tasks that share a bar
_bars: dict[str, int] = {}


@contextmanager
def on_terminal() -> Iterator[None]:
    """Show bars while this lasts."""
    global _display
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as display:
        _display = display
        try:
            yield
        finally:
            _display = None
            _bars.clear()


@contextmanager
def bar(title: str, what: str, *, share_of: int | None = None) -> Iterator[Callable[..., None]]:
    """A piece of work; yields the function to call as it goes on: `advance()` by one, or `advance(done, total)`.

    Args:
        title: pieces of work with the same title share one bar.
        what: what is counted, for the log.
        share_of: how much this piece adds to the bar's total, where it is known beforehand.
    """
    with _lock:
        _totals.setdefault(title, [0, 0])[1] += share_of or 0
    last_line = time.monotonic()
    seen = 0

    def advance(done: int | None = None, total: int | None = None) -> None:
        nonlocal last_line, seen
        with _lock:
            counter = _totals[title]
            counter[0] += 1 if done is None else done - seen
            seen = seen + 1 if done is None else done
            if total is not None and share_of is None:
                counter[1] = total
            _show(title, *counter)
            if _display is None and time.monotonic() - last_line > 30:
                last_line = time.monotonic()
                logger.info("%s: %d of %d %s", title, *counter, what)

    with _lock:
        _show(title, *_totals[title])
    yield advance


def _show(title: str, done: int, total: int) -> None:
    if _display is None:
        return
    if title not in _bars:
        _bars[title] = _display.add_task(title, total=total or None)
    _display.update(_bars[title], completed=done, total=total or None)  # type: ignore[arg-type]
