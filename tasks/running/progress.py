"""Progress of long work: counted once, shown as bars on a terminal, lines in the log and artifacts in Prefect's page.

Tasks only count. Prefect's server is told every few seconds by a thread, so that a server that is slow or away holds
up nothing.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Protocol, cast
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from dfer.system import logs
from dfer.system.units import duration, rate

logger = logging.getLogger(logs.PROGRESS)

LINE_EVERY = 30.0
"""Seconds from one line of a bar in the log to the next."""

PAGE_EVERY = 5.0
"""Seconds from one update of Prefect's page to the next."""

GIVE_UP_AFTER = 10.0
"""Seconds that the end of a run waits until a Prefect server has the last update."""


@dataclass
class Count:
    """How far the work with one title is. `before` of `done` were done before this process began."""

    title: str
    what: str
    total: int = 0
    done: int = 0
    before: int = 0
    total_is_known: bool = False
    began: float = 0.0
    context: Context | None = None  # of the task that works

    @property
    def per_second(self) -> float:
        return (self.done - self.before) / max(time.monotonic() - self.began, 1e-3)

    @property
    def left(self) -> str:
        """How long the rest takes at the rate until now; empty while that is not known."""
        missing = self.total - self.done
        return f"{duration(missing / self.per_second)} left" if missing > 0 and self.per_second else ""

    @property
    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total) if self.total else 0.0

    def __str__(self) -> str:
        of = f" of {self.total}" if self.total else ""
        return ", ".join(filter(None, (f"{self.done}{of} {self.what}", rate(self.per_second), self.left)))


class Sink(Protocol):
    """Shows counts. `update` is called at every change, one call at a time, and must not wait for anything."""

    def update(self, count: Count) -> None: ...


class Terminal:
    """Bars on a terminal; a context manager around the run."""

    def __init__(self) -> None:
        self.display = RichProgress(
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=Console(markup=False, emoji=False),
        )
        self._bars: dict[str, int] = {}

    def update(self, count: Count) -> None:
        if count.title not in self._bars:
            self._bars[count.title] = self.display.add_task(count.title, total=None, rate="", left="")
        bar, fields = self._bars[count.title], {"rate": rate(count.per_second), "left": count.left}
        self.display.update(bar, completed=count.done, total=count.total or None, **fields)  # type: ignore[arg-type]

    def __enter__(self) -> Terminal:
        self.display.start()
        self._token = terminal.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        terminal.reset(self._token)
        self.display.stop()


terminal: ContextVar[Terminal | None] = ContextVar("terminal", default=None)
"""Where the command line shows bars. It opens the terminal; the flow that it calls makes the `Progress`."""


class LogLines:
    """A line in the log for every count, now and then."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def update(self, count: Count) -> None:
        now = time.monotonic()
        if now - self._last.setdefault(count.title, count.began) > LINE_EVERY:
            self._last[count.title] = now
            fields = {"progress": count.title, "done": count.done, "total": count.total}
            logger.info("%s: %s", count.title, str(count), extra=fields)


@contextmanager
def lines_on_stdout() -> Iterator[None]:
    """Print the lines of `LogLines`, for output that is no terminal."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Progress:
    """How far the work of one run is. Safe to use from several threads."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self._lock = threading.Lock()
        self.counts: dict[str, Count] = {}  # by title, over all tasks that share a bar

    def expect(self, title: str, what: str, total: int) -> None:
        """Say beforehand how much all the work with this title comes to."""
        with self._lock:
            self.counts[title] = Count(title, what, total=total, total_is_known=True)

    def cached(self, title: str, number: int) -> None:
        """So much of what was expected exists already and is not done again."""
        with self._lock:
            if title in self.counts and self.counts[title].total_is_known:
                self.counts[title].total -= number

    @contextmanager
    def bar(self, title: str, what: str, *, share: int | None = None) -> Iterator[Callable[..., None]]:
        """A piece of work. Yields the function to call as it goes on: `advance()` by one, or `advance(done, total)`.

        Args:
            title: pieces of work with the same title share one bar.
            what: what is counted, for people.
            share: how much this piece adds to the bar's total, where that is not known beforehand.
        """
        with self._lock:
            count = self.counts.setdefault(title, Count(title, what))
            if not count.total_is_known:
                count.total += share or 0
            if not count.began:
                count.began, count.context = time.monotonic(), copy_context()
            self._show(count)
        done_here = before = 0

        def advance(done: int | None = None, total: int | None = None) -> None:
            nonlocal done_here, before
            with self._lock:
                if done is not None and done_here == 0:
                    before = done - 1  # an earlier process came so far
                    count.before += before
                count.done += 1 if done is None else done - done_here
                done_here = done_here + 1 if done is None else done
                if total is not None and share is None:
                    count.total = total
                self._show(count)

        try:
            yield advance
        except BaseException:
            with self._lock:  # the work may be tried again, from the start
                count.done -= done_here
                count.before -= before
                count.total -= 0 if count.total_is_known else share or 0
            raise

    def _show(self, count: Count) -> None:
        for sink in self._sinks:
            sink.update(count)


@dataclass
class _Link:
    """A page that does not exist yet when the link is asked for: `page` returns its address, empty until then."""

    key: str
    text: str
    page: Callable[[], str]
    context: Context = field(default_factory=copy_context)  # of the flow, so that the artifact belongs to its run
    shown: str = ""
    artifact: UUID | None = None

    def show(self) -> None:
        from prefect.artifacts import create_markdown_artifact
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        if not (page := self.page()) or page == self.shown:
            return
        text = f"[{self.text}]({page})"  # also as the description, which is on the page one click earlier
        if self.artifact is None:
            self.artifact = cast(UUID, self.context.run(create_markdown_artifact, text, self.key, text))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self.artifact, ArtifactUpdate(data=text, description=text))
        self.shown = page


@dataclass
class _ProgressArtifact:
    """A bar in Prefect's page."""

    shown: tuple[int, int] | None = None
    artifact: UUID | None = None

    def show(self, count: Count) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if (now := (count.done, count.total)) == self.shown or count.context is None:
            return
        text = f"{count.title}: {count}"
        if self.artifact is None:
            key = "progress-" + re.sub(r"[^a-z0-9]+", "-", count.title.lower()).strip("-")
            # in the context of the task that works, or the artifact would belong to no run
            self.artifact = cast(UUID, count.context.run(create_progress_artifact, count.percent, key, text))
        else:
            update_progress_artifact(self.artifact, count.percent, text)
        self.shown = now


class PrefectPage:
    """Progress artifacts and links in the page of a flow run; a context manager around the run.

    A thread sends what has changed. A server that cannot be told is reported once and stops nothing.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}
        self._artifacts: dict[str, _ProgressArtifact] = {}
        self._links: list[_Link] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send_now_and_then, name="progress", daemon=True)

    def update(self, count: Count) -> None:
        self._counts[count.title] = count

    def link(self, key: str, text: str, page: Callable[[], str]) -> None:
        """Show a link as soon as `page` returns its address, and again when the address changes."""
        self._links.append(_Link(key, text, page))

    def __enter__(self) -> PrefectPage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(GIVE_UP_AFTER)

    def _send_now_and_then(self) -> None:
        reported = False
        while not self._over.is_set():
            self._over.wait(PAGE_EVERY)
            try:
                self._send()
            except Exception as error:  # the rest is tried next time
                if not reported:
                    logger.warning("Prefect's page cannot show progress: %s", error)
                reported = True

    def _send(self) -> None:
        for title, count in list(self._counts.items()):
            self._artifacts.setdefault(title, _ProgressArtifact()).show(count)
        for link in list(self._links):
            link.show()


@contextmanager
def progress_of_run() -> Iterator[tuple[Progress, PrefectPage]]:
    """The progress of a flow run, shown on the terminal if the command line has opened one, in the log and in Prefect.

    To be opened in the flow's own run, whose page it is.
    """
    with PrefectPage() as page:
        shown_on = terminal.get()
        yield Progress(LogLines(), page, *([shown_on] if shown_on is not None else [])), page
