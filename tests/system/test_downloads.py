from __future__ import annotations

import logging
from http.client import HTTPMessage
from urllib.error import HTTPError, URLError

import pytest

from dfer.system import downloads, logs
from dfer.system.downloads import announce, is_temporary


def answer(code: int) -> HTTPError:
    return HTTPError("http://weights", code, "", HTTPMessage(), None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (URLError("dns"), True),
        (ConnectionResetError(), True),
        (answer(503), True),
        (answer(429), True),
        (answer(408), True),
        (answer(404), False),
        (answer(403), False),
        (PermissionError(), False),
        (ValueError(), False),
    ],
    ids=str,
)
def test_a_server_that_refuses_is_not_out_of_reach(error: Exception, expected: bool) -> None:
    assert is_temporary(error) is expected


def test_a_download_is_announced_at_once_and_then_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [100.0]
    monkeypatch.setattr(downloads.time, "monotonic", lambda: clock[0])
    caplog.set_level(logging.INFO, logs.DOWNLOADS)
    on_bytes = announce("the weights")
    for second in range(8):
        clock[0] = 100.5 + 2 * second
        on_bytes(1_000_000 * second, 8_700_000 if second < 5 else None)
    assert [record.getMessage() for record in caplog.records] == [
        "fetching the weights",
        "fetching the weights: 3 MB of 8.7 MB",
        "fetching the weights: 6 MB",
    ]
