"""Downloads that fail: which failures are worth another try."""

from __future__ import annotations

from urllib.error import HTTPError, URLError

_BUSY = {408, 425, 429}


class NotFetchedError(Exception):
    """Something could not be had over the network now; the same may succeed in a minute."""


def out_of_reach(error: BaseException) -> bool:
    """Whether a server could not be reached, was busy or broke off, rather than said no for good (HTTP status 4xx)."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in _BUSY
    return isinstance(error, URLError | ConnectionError | TimeoutError)
