from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.datasets.own_folds import made_folds

CLASSES = ("bored", "engaged", "confused", None)
# name of the group -> classes of its clips
GROUPS = st.dictionaries(
    st.text(min_size=1, max_size=4), st.lists(st.sampled_from(CLASSES), min_size=1, max_size=6), min_size=2, max_size=40
)
BY_CLIP = st.dictionaries(st.text(min_size=1, max_size=6), st.sampled_from(CLASSES), min_size=2, max_size=80)


def folds_of(groups: dict[str, list[str | None]]) -> list[tuple[str, int]]:
    clips = [(name, label) for name, labels in groups.items() for label in labels]
    names = [name for name, _ in clips]
    return list(zip(names, made_folds(names, [label for _, label in clips]), strict=True))


@settings(deadline=None, max_examples=40)
@given(groups=GROUPS, chance=st.randoms(use_true_random=False))
def test_groups_stay_together_and_the_order_plays_no_part(groups: dict[str, list[str | None]], chance) -> None:
    folds = folds_of(groups)
    assert len(folds) == sum(map(len, groups.values()))
    assert {fold for _, fold in folds} <= set(range(1, 6))
    of_group = dict(folds)
    assert all(of_group[name] == fold for name, fold in folds)
    names = list(groups)
    chance.shuffle(names)
    assert dict(folds_of({name: groups[name][::-1] for name in names})) == of_group


@settings(deadline=None)
@given(clips=BY_CLIP)
def test_clips_of_a_class_are_spread_evenly(clips: dict[str, str | None]) -> None:
    folds = made_folds(list(clips), list(clips.values()))
    for label in set(clips.values()):
        numbers = Counter(fold for fold, its in zip(folds, clips.values(), strict=True) if its == label)
        in_all = [numbers[fold] for fold in range(1, min(5, len(clips)) + 1)]
        assert max(in_all) - min(in_all) <= 1


@settings(deadline=None)
@given(clips=BY_CLIP, name=st.text(min_size=7, max_size=7), label=st.sampled_from(CLASSES))
def test_one_clip_more_moves_at_most_four_of_its_class(clips: dict[str, str | None], name: str, label) -> None:
    clips |= {f"{at}-{its}": its for its in CLASSES for at in range(5)}  # so that no fold is empty
    before = dict(zip(clips, made_folds(list(clips), list(clips.values())), strict=True))
    more = {**clips, name: label}
    after = dict(zip(more, made_folds(list(more), list(more.values())), strict=True))
    moved = [clip for clip in clips if before[clip] != after[clip]]
    assert len(moved) <= 4
    assert all(clips[clip] == label for clip in moved)


def test_one_clip_more_of_a_person_moves_nobody_as_a_rule() -> None:
    groups = {f"person {n}": [CLASSES[(n + at) % 3] for at in range(5 + n % 4)] for n in range(20)}
    before = dict(folds_of(groups))
    assert set(before.values()) == {1, 2, 3, 4, 5}
    moved = 0
    for name in groups:
        after = dict(folds_of({**groups, name: [*groups[name], "bored"]}))
        moved += any(before[one] != after[one] for one in groups)
    assert moved <= 2


def test_people_with_several_classes_are_spread_so_that_every_fold_has_all() -> None:
    groups = {f"p{n}": ["bored"] * (n % 5 + 1) + ["engaged"] * (5 - n % 5) for n in range(25)}
    numbers = {label: Counter() for label in CLASSES[:2]}
    for (_, fold), label in zip(folds_of(groups), [label for its in groups.values() for label in its], strict=True):
        numbers[label][fold] += 1
    for counts in numbers.values():
        assert all(12 <= counts[fold] <= 18 for fold in range(1, 6))


def test_fewer_groups_than_folds_are_a_fold_each() -> None:
    assert sorted(dict(folds_of({"a": ["bored", "engaged"], "b": ["bored"], "c": ["engaged"]})).values()) == [1, 2, 3]
    with pytest.raises(ValueError, match="two groups or more, found 1"):
        made_folds(["a", "a"], ["bored", "engaged"])


def test_folds_stay_what_they_are() -> None:
    clips = [f"{n}.mp4" for n in range(12)]
    assert made_folds(clips, [CLASSES[n % 3] for n in range(12)]) == [3, 3, 4, 5, 2, 1, 1, 1, 2, 4, 4, 3]
