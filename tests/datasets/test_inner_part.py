from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dfer.datasets.inner_part import validation_rows


def table(labels: list, subjects: list | None = None) -> pd.DataFrame:
    ids = [f"clip {number}" for number in range(len(labels))]
    clips = pd.DataFrame({"clip_id": ids, "label": pd.array(labels, "Int64")}, index=range(100, 100 + len(ids)))
    return clips.assign(subject=subjects if subjects is not None else pd.NA)


@given(st.lists(st.integers(0, 9), min_size=20, max_size=80), st.floats(0.05, 0.6), st.integers(0, 99))
@example([*[0] * 13, 1, 2, 3, 4, *[5] * 7, 6], 0.28, 48)  # a person of seven is 0.28 of 25, but for rounding
@settings(deadline=None)
def test_people_are_never_in_both_parts(people: list[int], share: float, seed: int) -> None:
    if len(set(people)) == 1:
        return
    clips = table([0] * len(people), [f"person {number}" for number in people])
    chosen = validation_rows(clips, share, seed)
    assert not set(clips["subject"][chosen]) & set(clips["subject"][~chosen])
    assert chosen.any()
    assert not chosen.all()
    largest = clips["subject"].value_counts().max()
    assert chosen.sum() < share * len(people) + largest


def test_without_people_every_class_gives_its_share() -> None:
    labels = [0] * 100 + [1] * 20 + [2] * 2 + [3] + [None] * 30
    chosen = validation_rows(table(labels), 0.1, 0)
    taken = table(labels)["label"][chosen]
    assert taken.value_counts().sort_index().tolist() == [10, 2, 1]
    assert not chosen[table(labels)["label"].isna()].any()


def test_the_seed_decides() -> None:
    clips = table(list(np.arange(70) % 7))
    assert validation_rows(clips, 0.2, 1).equals(validation_rows(clips, 0.2, 1))
    assert not validation_rows(clips, 0.2, 1).equals(validation_rows(clips, 0.2, 2))


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="too few for a validation part of 10%"):
        validation_rows(table([0, 1, 2]), 0.1, 0)
