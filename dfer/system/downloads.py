"""Downloads: where they are kept, and which failures are worth another try."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.error import HTTPError, URLError

from dfer.system.paths import expanded

_BUSY = {408, 425, 429}


class NotFetchedError(Exception):
    """A download failed for now; it may succeed in a minute."""


def cache_folder() -> Path:
    """$DFER_CACHE, else $XDG_CACHE_HOME/dfer, else ~/.cache/dfer."""
    if folder := os.environ.get("DFER_CACHE"):
        return Path(expanded(folder))
    return Path(expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "dfer"


def is_temporary(error: BaseException) -> bool:
    """Whether a server was out of reach or busy or broke off, and did not refuse for good (other HTTP 4xx)."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in _BUSY
    return isinstance(error, URLError | ConnectionError | TimeoutError)
