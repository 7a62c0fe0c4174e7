"""Downloads: where they are kept, how far they are, and which failures are worth another try."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError

from dfer.system import logs
from dfer.system.paths import expanded
from dfer.system.units import size

logger = logging.getLogger(logs.DOWNLOADS)

SAY_EVERY = 5.0
"""Seconds from one message about a download to the next."""

_BUSY = {408, 425, 429}


class NotFetchedError(Exception):
    """A download failed for now; it may succeed in a minute."""


def cache_folder() -> Path:
    """$DFER_CACHE, else $XDG_CACHE_HOME/dfer, else ~/.cache/dfer."""
    if folder := os.environ.get("DFER_CACHE"):
        return Path(expanded(folder))
    return Path(expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "dfer"


def announce(what: str) -> Callable[[int, int | None], None]:
    """Say that something is fetched. Returns what to call with the bytes that have come, and all if they are known."""
    logger.info("fetching %s", what)
    last = time.monotonic()

    def on_bytes(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last > SAY_EVERY:
            last = time.monotonic()
            logger.info("fetching %s: %s%s", what, size(done), f" of {size(total)}" if total else "")

    return on_bytes


def is_temporary(error: BaseException) -> bool:
    """Whether a server was out of reach or busy or broke off, and did not refuse for good (other HTTP 4xx)."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in _BUSY
    return isinstance(error, URLError | ConnectionError | TimeoutError)
