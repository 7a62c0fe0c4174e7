from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.datasets.groups import expression_group, shares_of
from dfer.datasets.table import ClipRow, from_rows

GROUPS = ("clear", "mixed")


def clip_table(clear: list[int], other: list[int], *, without_votes: int = 0, without_label: int = 0) -> pd.DataFrame:
    """Clips of each class: so many that all ten annotators agree on, so many with seven votes."""
    kinds = [(emotion, True) for emotion, number in enumerate(clear) for _ in range(number)]
    kinds += [(emotion, False) for emotion, number in enumerate(other) for _ in range(number)]
    rows = []
    for place, (emotion, agreed) in enumerate(kinds):
        votes = [0] * 7
        votes[emotion] = 10 if agreed else 7
        votes[(emotion + 1) % 7] += 10 - sum(votes)
        rows.append(ClipRow(f"toy/{place}", "toy", f"{place}.mp4", votes=tuple(votes), label=emotion))
    rows += [ClipRow(f"toy/v{place}", "toy", f"v{place}.mp4", label=0) for place in range(without_votes)]
    undecided = (5, 5, 0, 0, 0, 0, 0)
    rows += [ClipRow(f"toy/l{place}", "toy", f"l{place}.mp4", votes=undecided) for place in range(without_label)]
    return from_rows(rows)


def per_class(clips: pd.DataFrame) -> list[int]:
    return np.bincount(clips["label"].to_numpy("int64"), minlength=7).tolist()


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    clear = draw(st.lists(st.integers(0, 6), min_size=7, max_size=7).filter(any))
    other = [draw(st.integers(0, 9)) if number else 0 for number in clear]
    return clip_table(clear, other, without_label=draw(st.integers(0, 2)))


@given(tables(), st.integers(1, 60), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_both_groups_have_the_size_asked_for_and_the_distribution_of_the_original(
    clips: pd.DataFrame, size: int, seed: int
) -> None:
    original = np.array(per_class(clips[clips["label"].notna()]))
    clear, mixed = (expression_group(clips, group, size=size, seed=seed) for group in GROUPS)
    assert len(clear) == len(mixed) == size
    assert per_class(clear) == per_class(mixed)
    assert np.abs(np.array(per_class(clear)) - size * original / original.sum()).max() < 1
    assert clear["votes"].map(max).eq(10).all()


@given(tables(), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_clips_of_a_class_are_there_equally_often_give_or_take_one(clips: pd.DataFrame, size: int) -> None:
    for group in GROUPS:
        chosen = expression_group(clips, group, size=size)
        labelled = clips[clips["label"].notna()]
        candidates = labelled[labelled["votes"].map(max) == 10] if group == "clear" else labelled
        times = chosen["clip_id"].value_counts().reindex(candidates["clip_id"], fill_value=0)
        spans = times.groupby(candidates["label"].to_numpy("int64")).agg(lambda counts: counts.max() - counts.min())
        assert spans.max() <= 1
        assert set(chosen["clip_id"]) <= set(candidates["clip_id"])


def test_without_a_size_both_groups_are_as_large_as_there_are_clear_clips() -> None:
    clips = clip_table([6, 2, 0, 1, 0, 0, 3], [2, 10, 0, 5, 0, 0, 7])
    for group in GROUPS:
        chosen = expression_group(clips, group)
        # 12 of 36 clips: a third of 8, 12, 6 and 10
        assert per_class(chosen) == [3, 4, 0, 2, 0, 0, 3]
    # Sad: four of two clear clips, so each twice.
    clear = expression_group(clips, "clear")
    assert clear.loc[clear["label"] == 1, "clip_id"].value_counts().tolist() == [2, 2]
    mixed = expression_group(clips, "mixed")
    assert not mixed["clip_id"].duplicated().any()
    assert mixed["votes"].map(max).lt(10).any()


def test_only_clips_with_a_label_and_votes_are_chosen_and_all_labels_make_the_distribution() -> None:
    clips = clip_table([4, 4, 0, 0, 0, 0, 0], [0] * 7, without_votes=8, without_label=5)
    chosen = expression_group(clips, "mixed", size=12)
    assert per_class(chosen) == [9, 3, 0, 0, 0, 0, 0]
    assert chosen["votes"].notna().all()


def test_nine_of_ten_votes_are_not_more_than_nine_tenths() -> None:
    nine = ClipRow("toy/9", "toy", "9.mp4", votes=(9, 1, 0, 0, 0, 0, 0), label=0)
    ten = ClipRow("toy/10", "toy", "10.mp4", votes=(10, 0, 0, 0, 0, 0, 0), label=0)
    assert set(expression_group(from_rows([nine, ten]), "clear", size=4)["clip_id"]) == {"toy/10"}
    assert set(expression_group(from_rows([nine, ten]), "clear", clear_above=0.8)["clip_id"]) == {"toy/9", "toy/10"}


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    clips = clip_table([9] * 7, [20] * 7)
    chosen = expression_group(clips, "mixed")
    assert chosen.equals(expression_group(clips.sample(frac=1, random_state=0), "mixed"))
    assert not chosen.equals(expression_group(clips, "mixed", seed=1))
    assert chosen.columns.equals(clips.columns)
    assert (chosen.dtypes == clips.dtypes).all()


@pytest.mark.parametrize("group", GROUPS)
def test_a_class_without_clear_clips_is_refused_for_both_groups(group) -> None:
    with pytest.raises(ValueError, match=r"no clip of sad, fear .* above 0\.9"):
        expression_group(clip_table([5, 0, 0, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0, 1]), group)


def test_tables_and_sizes_that_make_no_group_are_refused() -> None:
    with pytest.raises(ValueError, match="both a single label and votes"):
        expression_group(clip_table([0] * 7, [0] * 7, without_votes=2, without_label=2), "clear")
    with pytest.raises(ValueError, match="at least one clip"):
        expression_group(clip_table([5, 0, 0, 0, 0, 0, 0], [0] * 7), "clear", size=0)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3000), min_size=1, max_size=7).filter(any))
@settings(deadline=None)
def test_shares_add_up_and_are_within_one_of_the_proportion(total: int, weights: list[int]) -> None:
    shares = shares_of(total, weights)
    assert shares.sum() == total
    assert np.abs(shares - total * np.array(weights) / sum(weights)).max() < 1
    assert (shares[np.array(weights) == 0] == 0).all()


def test_the_largest_remainders_are_served_first() -> None:
    assert shares_of(10, [1, 1, 1]).tolist() == [4, 3, 3]
    assert shares_of(5, [2, 7, 1]).tolist() == [1, 4, 0]
    assert shares_of(5, [1, 12, 7]).tolist() == [0, 3, 2]
