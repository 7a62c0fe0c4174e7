"""Progress of long work: bars on a terminal, lines in the log, and artifacts in Prefect's page.

What works only counts. Prefect is told every few seconds by a thread of its own, so that a server that is slow or away
holds up nothing.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dfer.system import logs
from dfer.system.units import duration, rate

logger = logging.getLogger(logs.PROGRESS)

LINE_EVERY = 30.0
"""Seconds from one line of a bar in the log to the next."""

PAGE_EVERY = 5.0
"""Seconds from one look of Prefect's page at the bars to the next."""

_GIVE_UP = 10.0  # seconds that the end of a run waits for a Prefect server to hear of it


@dataclass
class _Count:
    """How far the pieces of work with one title are. `before` of `done` were done before this process began."""

    title: str
    what: str
    total: int = 0
    done: int = 0
    before: int = 0
    expected: bool = False
    began: float = 0.0
    said: float = 0.0
    context: Context | None = None
    told: tuple[int, int] | None = field(default=None, compare=False)
    artifact: UUID | None = field(default=None, compare=False)

    @property
    def per_second(self) -> float:
        return (self.done - self.before) / max(time.monotonic() - self.began, 1e-3)

    @property
    def left(self) -> str:
        """How long it goes on at the rate until now; empty while that is not known."""
        missing = self.total - self.done
        return f"{duration(missing / self.per_second)} left" if missing > 0 and self.per_second else ""

    @property
    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total) if self.total else 0.0

    def __str__(self) -> str:
        of = f" of {self.total}" if self.total else ""
        return ", ".join(filter(None, (f"{self.done}{of} {self.what}", rate(self.per_second), self.left)))


@dataclass
class _Link:
    """A page that comes to be while work goes on: `page` says its address, empty until then."""

    key: str
    text: str
    page: Callable[[], str]
    context: Context
    told: str = ""
    artifact: UUID | None = field(default=None, compare=False)


_lock = threading.Lock()
_display: Progress | None = None
_counts: dict[str, _Count] = {}  # by title, over all tasks that share a bar
_links: list[_Link] = []
_bars: dict[str, int] = {}


@contextmanager
def on_terminal() -> Iterator[None]:
    """Show bars while this lasts."""
    global _display
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns) as display:
        _display = display
        try:
            yield
        finally:
            _display = None
            _bars.clear()


@contextmanager
def in_lines() -> Iterator[None]:
    """Print the lines of the log that say how far things are, for output that is no terminal."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def on_page() -> Iterator[None]:
    """Show bars in Prefect's page while this lasts, as progress artifacts of the run that opens them."""
    page = _Page()
    page.start()
    try:
        yield
    finally:
        page.over.set()
        page.join(_GIVE_UP)
        with _lock:
            _counts.clear()
            _links.clear()


def link(key: str, text: str, page: Callable[[], str]) -> None:
    """Show a link in Prefect's page as soon as `page` says where it leads, and again when it leads elsewhere."""
    with _lock:
        _links.append(_Link(key, text, page, copy_context()))


def expect(title: str, what: str, total: int) -> None:
    """Say beforehand how much all the pieces of work with this title come to."""
    with _lock:
        _counts[title] = _Count(title, what, total=total, expected=True)


def was_there(title: str, number: int) -> None:
    """So much of what was expected need not be done."""
    with _lock:
        if title in _counts and _counts[title].expected:
            _counts[title].total -= number


@contextmanager
def bar(title: str, what: str, *, share_of: int | None = None) -> Iterator[Callable[..., None]]:
    """A piece of work; yields the function to call as it goes on: `advance()` by one, or `advance(done, total)`.

    Args:
        title: pieces of work with the same title share one bar.
        what: what is counted, for people.
        share_of: how much this piece adds to the bar's total, where it is known beforehand.
    """
    with _lock:
        count = _counts.setdefault(title, _Count(title, what))
        if not count.expected:
            count.total += share_of or 0
        if not count.began:
            count.began = count.said = time.monotonic()
            count.context = copy_context()
        _show(count)
    seen = before = 0

    def advance(done: int | None = None, total: int | None = None) -> None:
        nonlocal seen, before
        with _lock:
            if done is not None and seen == 0:
                before = done - 1  # it goes on from there
                count.before += before
            count.done += 1 if done is None else done - seen
            seen = seen + 1 if done is None else done
            if total is not None and share_of is None:
                count.total = total
            _show(count)
            due = time.monotonic() - count.said > LINE_EVERY
            if due:
                count.said = time.monotonic()
            text, fields = str(count), {"progress": title, "done": count.done, "total": count.total}
        if due:
            logger.info("%s: %s", title, text, extra=fields)

    try:
        yield advance
    except BaseException:
        with _lock:  # what failed may be tried again, from the start
            count.done -= seen
            count.before -= before
            count.total -= 0 if count.expected else share_of or 0
        raise


def _show(count: _Count) -> None:
    if _display is None:
        return
    if count.title not in _bars:
        _bars[count.title] = _display.add_task(count.title, total=None, rate="", left="")
    fields = {"rate": rate(count.per_second), "left": count.left}
    _display.update(_bars[count.title], completed=count.done, total=count.total or None, **fields)  # type: ignore[arg-type]


class _Page(threading.Thread):
    """Sends what has changed; that the server cannot be told is said once and stops nothing."""

    def __init__(self) -> None:
        super().__init__(name="progress", daemon=True)
        self.over = threading.Event()
        self._complained = False

    def run(self) -> None:
        while not self.over.wait(PAGE_EVERY):
            self._send()
        self._send()

    def _send(self) -> None:
        with _lock:
            begun = [count for count in _counts.values() if count.context is not None]
            links = list(_links)
        try:
            for count in begun:
                self._tell(count)
            for to in links:
                self._show(to)
        except Exception as error:  # the rest is tried when it is time again
            if not self._complained:
                logger.warning("Prefect's page cannot show how far things are: %s", error)
            self._complained = True

    @staticmethod
    def _show(to: _Link) -> None:
        from prefect.artifacts import create_markdown_artifact
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        page = to.page()
        if not page or page == to.told:
            return
        said = f"[{to.text}]({page})"  # also as the description, which is on the page one click earlier
        if to.artifact is None:
            to.artifact = cast(UUID, to.context.run(create_markdown_artifact, said, to.key, said))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(to.artifact, ArtifactUpdate(data=said, description=said))
        to.told = page

    @staticmethod
    def _tell(count: _Count) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        now = count.done, count.total
        if now == count.told:
            return
        said = f"{count.title}: {count}"
        if count.artifact is None:
            assert count.context is not None
            key = "progress-" + re.sub(r"[^a-z0-9]+", "-", count.title.lower()).strip("-")
            # in the context of the task that works, or the artifact would belong to no run
            count.artifact = cast(UUID, count.context.run(create_progress_artifact, count.percent, key, said))
        else:
            update_progress_artifact(count.artifact, count.percent, said)
        count.told = now
