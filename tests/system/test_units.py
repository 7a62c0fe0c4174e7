from __future__ import annotations

import pytest

from dfer.system.units import duration, rate, size


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (duration(42.4), "42 s"),
        (duration(90), "2 min"),
        (duration(3 * 3600 + 7 * 60), "3 h 07 min"),
        (rate(12.34), "12.3 a second"),
        (rate(0.25), "4 s each"),
        (rate(0), ""),
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(1500), "1.5 kB"),
        (size(999_700), "1 MB"),
        (size(2.5e12), "2.5 TB"),
    ],
)
def test_as_people_read_them(shown, expected):
    assert shown == expected
