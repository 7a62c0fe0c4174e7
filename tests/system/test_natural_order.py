from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.system.natural_order import natural_key


def test_unpadded_frames_are_in_time_order() -> None:
    names = [f"{frame}.jpg" for frame in range(1, 121)]
    assert sorted(names, key=natural_key) == names
    assert sorted(names) != names


def test_case_and_padding_do_not_matter_but_decide_ties() -> None:
    names = ["A2.png", "a10.png", "a2.png", "a02.png", "B1.png"]
    assert sorted(names, key=natural_key) == ["A2.png", "a02.png", "a2.png", "a10.png", "B1.png"]


def test_only_ascii_digits_are_numbers() -> None:
    assert sorted(["x²", "x١", "x3"], key=natural_key)[0] == "x3"


@settings(deadline=None)
@given(st.lists(st.text(alphabet="aB_.-0123456789é²", max_size=8), unique=True), st.randoms())
def test_the_order_does_not_depend_on_the_input_order(names: list[str], chance: random.Random) -> None:
    shuffled = list(names)
    chance.shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)


@settings(deadline=None)
@given(st.text(), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 4), st.integers(0, 4))
def test_numbers_are_compared_as_numbers(prefix: str, one: int, two: int, pad_one: int, pad_two: int) -> None:
    left, right = f"{prefix}_{'0' * pad_one}{one}.jpg", f"{prefix}_{'0' * pad_two}{two}.jpg"
    if one != two:
        assert (natural_key(left) < natural_key(right)) == (one < two)
