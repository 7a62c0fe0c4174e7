"""Progress of long work: counted once, shown as bars on a terminal, lines in the log and artifacts in Prefect's page.

The screen is never silent for long: it also names the tasks that work, since not all of them count something.

Tasks only count. Prefect's server is told every few seconds by a thread, so that a server that is slow or away holds
up nothing.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Protocol, TextIO, cast
from uuid import UUID

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.spinner import Spinner
from rich.text import Text

from dfer.system import logs
from dfer.system.units import duration, rate

logger = logging.getLogger(logs.PROGRESS)

LINE_EVERY = 30.0
"""Seconds from one line of a bar in the log to the next."""

SILENCE = 15.0
"""Seconds without a line after which output that is no terminal gets one that names the tasks that work."""

PAGE_EVERY = 5.0
"""Seconds from one update of Prefect's page to the next."""

GIVE_UP_AFTER = 10.0
"""Seconds that the end of a run waits until a Prefect server has the last update."""


@dataclass
class Count:
    """How far the work with one title is.

    Its rate is that since the first piece was finished: what comes before that, such as the start of processes, takes
    long and comes once. Of `done`, `unmeasured` do not count for it.
    """

    title: str
    what: str
    total: int = 0
    done: int = 0
    unmeasured: int = 0
    total_is_known: bool = False
    began: float = 0.0
    measured_since: float | None = None
    context: Context | None = None  # of the task that works

    @property
    def per_second(self) -> float:
        if self.measured_since is None:
            return 0.0
        return max(0, self.done - self.unmeasured) / max(time.monotonic() - self.measured_since, 1e-3)

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


class _UnderWay:
    """The titles of the tasks of this process that work now. Safe to use from several threads."""

    def __init__(self) -> None:
        self._titles: list[str] = []
        self._lock = threading.Lock()

    @contextmanager
    def doing(self, title: str) -> Iterator[None]:
        with self._lock:
            self._titles.append(title)
        try:
            yield
        finally:
            with self._lock:
                self._titles.remove(title)

    def __str__(self) -> str:
        with self._lock:
            return ", ".join(self._titles) or "Prefect and MLflow"


under_way = _UnderWay()
"""What works in this process. Where nothing does, Prefect starts, decides what is next, or ends."""


class Sink(Protocol):
    """Shows counts. `update` is called at every change, one call at a time, and must not wait for anything."""

    def update(self, count: Count) -> None: ...


class _Display(RichProgress):
    """Bars, and below them what works now."""

    _spinner = Spinner("dots")
    _over = False

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if not self._over:
            self._spinner.update(text=Text(str(under_way), style="dim", overflow="ellipsis", no_wrap=True))
            yield self._spinner

    def stop(self) -> None:
        self._over = True
        super().stop()


class Terminal:
    """Bars on a terminal; a context manager around the run."""

    def __init__(self) -> None:
        self.display = _Display(
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


class _Lines(logging.StreamHandler[TextIO]):
    """Prints the lines of `LogLines`, and after a while without any, what works now."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        self._last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self._last = time.monotonic()
        super().emit(record)

    def break_silence(self) -> None:
        if time.monotonic() - self._last > SILENCE:
            self.handle(logging.makeLogRecord({"msg": "%s ...", "args": (str(under_way),)}))


@contextmanager
def lines_on_stdout() -> Iterator[None]:
    """Say how far the work is where output is no terminal."""
    lines, over = _Lines(), threading.Event()

    def break_silence() -> None:
        while not over.wait(min(1.0, SILENCE)):
            lines.break_silence()

    thread = threading.Thread(target=break_silence, name="lines", daemon=True)
    thread.start()
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        over.set()
        thread.join()


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
        done_here = 0

        def advance(done: int | None = None, total: int | None = None) -> None:
            nonlocal done_here
            with self._lock:
                if done is not None and done_here == 0:
                    count.unmeasured += done - 1  # an earlier process came so far
                count.done += 1 if done is None else done - done_here
                done_here = done_here + 1 if done is None else done
                if total is not None and share is None:
                    count.total = total
                if count.measured_since is None:
                    count.measured_since, count.unmeasured = time.monotonic(), count.done
                self._show(count)

        try:
            yield advance
        except BaseException:
            with self._lock:  # the work may be tried again, from the start
                count.done -= done_here
                count.measured_since = None
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
