"""Structured logs: one JSON object per line, and one file for all processes of a run.

A record has fields (`clip_id`, `stage`, ...): from `extra` of its call, or from `about` for all records inside a block.
Processes send their records to the process that started them (`forward`, `emit`), which writes them.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import functools
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from dfer.system.locks import is_locked

KEPT = 50
"""The number of logs that a folder keeps: the newest."""

PROGRESS = "dfer.progress"
"""The logger for the progress of long work."""

DOWNLOADS = "dfer.downloads"
"""The logger that says what is fetched and how far that is; the command line shows its messages."""

_OURS = ("dfer", "tasks", "flows")
_SUFFIX = ".jsonl"
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Add fields to all records of the block, in this thread and those that inherit its context."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


class JsonLines(logging.Formatter):
    """Formats a record as a line of JSON: time (UTC), level, logger, message, pid, its fields, and its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        traceback = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else None)
        if traceback:
            line["traceback"] = traceback
        return json.dumps(line, default=str)


@contextmanager
def writing(folder: Path, name: str, **fields: Any) -> Iterator[Path]:
    """Write the records of the block, with these fields, to `folder/NAME.jsonl`; yields that path.

    Appends to an existing file of this name, and removes the oldest others. A full disk stops the log, not the work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, name)
    for old in newest(folder)[KEPT - 1 :]:
        if old != path:
            old.unlink(missing_ok=True)
    handler = _File(path, "a+", encoding="utf-8")  # both ways, see `dfer.storage.in_use`
    assert handler.stream is not None
    fcntl.flock(handler.stream, fcntl.LOCK_SH)  # for `is_written`; released however this process ends
    handler.setFormatter(JsonLines())
    handler.addFilter(_with_fields)
    root, before = logging.getLogger(), {name: logging.getLogger(name).level for name in _OURS}
    root.addHandler(handler)
    _details_of_ours()
    try:
        with about(**fields):
            yield path
    finally:
        root.removeHandler(handler)
        handler.close()
        for ours, level in before.items():
            logging.getLogger(ours).setLevel(level)


def outlive_readers() -> None:
    """Keep running when nobody reads the output any more, as in flow runs whose worker was killed.

    Rich's consoles, to which Prefect logs, would end the next thread that prints.
    """
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    for handler in (handler for logger in loggers for handler in logger.handlers):
        if isinstance(console := getattr(handler, "console", None), Console):
            console.on_broken_pipe = functools.partial(setattr, console, "quiet", True)  # type: ignore[method-assign]


def path_of(folder: Path, name: str) -> Path:
    """The path of the log with a name."""
    return folder / (re.sub(r"[^\w.-]+", "-", name) + _SUFFIX)


def read(path: Path, *, last: int | None = None) -> list[dict[str, Any]]:
    """The lines of a log, or of its `last` bytes. Incomplete lines, as after a kill, are left out."""
    with path.open("rb") as file:
        if last is not None:
            file.seek(max(0, path.stat().st_size - last))
        text = file.read().decode(errors="replace")
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]


def is_written(path: Path) -> bool:
    """Whether a process on this machine has the log open for writing."""
    return is_locked(path)


def newest(folder: Path, number: int | None = None) -> list[Path]:
    """The logs of a folder, those written last first; at most `number`."""
    logs = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another run has just removed it
            logs.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(logs, reverse=True)[:number]]


def forward(send: Callable[[dict[str, Any]], None]) -> None:
    """Send the records of this process to the process that started it, as plain data for `emit`."""
    handler = Forwarder(send)
    handler.addFilter(_with_fields)
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    _details_of_ours()


def emit(record: Mapping[str, Any]) -> None:
    """Log a record of another process here."""
    log_record = logging.makeLogRecord(record)
    logger = logging.getLogger(log_record.name)
    if logger.isEnabledFor(log_record.levelno):
        logger.handle(log_record)


def _details_of_ours() -> None:
    for name in _OURS:
        logging.getLogger(name).setLevel(min(logging.INFO, logging.getLogger(name).level or logging.INFO))


def _with_fields(record: logging.LogRecord) -> bool:
    for name, value in _about.get().items():
        if name not in vars(record):
            setattr(record, name, value)
    return True


class _File(logging.FileHandler):
    """A log file that reports once that it cannot be written, instead of a traceback for every record."""

    _reported = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._reported:
            self._reported = True
            sys.stderr.write(f"{self.baseFilename} cannot be written to: {sys.exc_info()[1]}\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written before cannot be now
            super().close()


class Forwarder(logging.Handler):
    """Sends records, but not from a forked process, which would write into the same pipe."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        # When a process imports Prefect, it replaces the root logger's handlers by its console handler, except those
        # that have a formatter (and a public name).
        self.setFormatter(logging.Formatter())
        self._send = send
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            return
        plain = copy.copy(record)
        plain.msg, plain.args = record.getMessage(), None
        if record.exc_info and not record.exc_text:
            plain.exc_text = logging.Formatter().formatException(record.exc_info)
        plain.exc_info = None
        try:
            self._send(vars(plain))
        except OSError:
            pass  # the other process has ended, and this one will at once
        except Exception:
            self.handleError(record)
