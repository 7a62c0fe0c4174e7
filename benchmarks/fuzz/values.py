"""Odd values, drawn by hypothesis from a seed."""

from __future__ import annotations

import datetime
import random
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

T = TypeVar("T")

_ODD_TEXTS = ("", " ", "0", "-1", "+3", "1e3", "1_0", "0x1f", "007", "3.0", "nan", "inf", "None", "true", "null", "~",
              "../../etc/passwd", "/dev/zero", "a/b:c", "https://u:p@host/x", "s3://", "[b]x[/b]", "{{7*7}}", "%s%n",
              "\u0663", "\u00b2", "\uff13", "\U0001f600", "a\u202eb", "x" * 5000, "9" * 400, "=1+1", "1,2", "1;2",
              "#N/A", "a\nb", "a\tb", "\x85", "\u2028")  # fmt: skip
_ODD_NUMBERS = (0, -1, 1, 7, 8, 2**31, 2**63, 2**64, 10**30, 1e308, 1e-320, 0.5, float("inf"), float("nan"))

texts = st.one_of(st.sampled_from(_ODD_TEXTS), st.text(max_size=20))
scalars = st.one_of(st.sampled_from(_ODD_NUMBERS), texts, st.booleans(), st.none(), st.integers(), st.floats())
cells = st.one_of(scalars, st.dates(), st.datetimes(min_value=datetime.datetime(1900, 1, 1)), st.times())
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def draw(strategy: st.SearchStrategy[T], chance: random.Random) -> T:
    """One value of a strategy that is not the simplest one; equal states of `chance` give equal values."""
    _at_home()
    drawn: list[T] = []

    @seed(chance.getrandbits(32))
    @settings(max_examples=3, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(value: T) -> None:
        drawn.append(value)

    collect()
    return drawn[-1]


def like(value: Any, chance: random.Random) -> Any:
    """A value that may be of the same type, so that it is not refused for its type alone."""
    kinds: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.one_of(st.integers(0, 1000), st.sampled_from(_ODD_NUMBERS), st.integers()),
        float: st.one_of(st.floats(0, 2), st.sampled_from(_ODD_NUMBERS), st.floats()),
        str: texts,
    }
    return draw(kinds.get(type(value), trees) if chance.random() < 0.5 else trees, chance)


def scalar(chance: random.Random) -> Any:
    return draw(scalars, chance)


@cache
def _at_home() -> None:
    """Hypothesis keeps notes in a folder, which is not to appear where the command is typed."""
    set_hypothesis_home_dir(Path(__file__).parents[2] / ".hypothesis")
