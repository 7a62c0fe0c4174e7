from __future__ import annotations

from http.client import HTTPMessage
from urllib.error import HTTPError, URLError

import pytest

from dfer.system.downloads import is_temporary


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
