from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.demo.annotators import single_label
from dfer.demo.casting import CLASS_SHARES, ODDITIES, ClipPlan, class_counts, plan_clips
from dfer.labels import EMOTIONS


def of(plans: tuple[ClipPlan, ...], dataset: str) -> list[ClipPlan]:
    return [plan for plan in plans if plan.dataset == dataset and not plan.oddity]


@settings(deadline=None, max_examples=30)
@given(st.integers(7, 400), st.integers(0, 2**32))
def test_people_are_never_shared_and_counts_add_up(clips: int, seed: int) -> None:
    plans = plan_clips(clips, seed)
    assert len({plan.path for plan in plans}) == len({plan.number for plan in plans}) == len(plans)
    assert len(of(plans, "dfew")) == clips
    assert sorted(plan.oddity for plan in plans if plan.oddity) == sorted(ODDITIES)

    places: dict[str, set[object]] = {}
    for plan in plans:
        part = plan.fold if plan.dataset == "dfew" else plan.path.split("/")[1]
        for name in plan.people:
            if part is not None:
                places.setdefault(name, set()).add(part)
    assert all(len(where) == 1 for where in places.values())


@settings(deadline=None, max_examples=30)
@given(st.integers(7, 400), st.integers(0, 2**32))
def test_votes_labels_and_folds_agree(clips: int, seed: int) -> None:
    for plan in plan_clips(clips, seed):
        if plan.dataset == "afew":
            assert plan.votes is None
            assert plan.label == EMOTIONS.index(plan.emotion)
            assert f"/{plan.emotion.capitalize()}/" in plan.path
        elif plan.oddity == "unlisted":
            assert plan.votes is plan.label is plan.fold is None
        else:
            assert plan.votes is not None
            assert sum(plan.votes) == 10
            assert plan.label == single_label(plan.votes)
            assert (plan.fold is None) == (plan.label is None)


@pytest.mark.parametrize("clips", [7, 14, 35])
@pytest.mark.parametrize("seed", range(5))
def test_a_small_set_has_every_class_and_every_fold(clips: int, seed: int) -> None:
    plans = plan_clips(clips, seed)
    assert {plan.label for plan in of(plans, "dfew")} >= set(range(7))
    assert {plan.label for plan in of(plans, "afew")} == set(range(7))
    assert {plan.fold for plan in plans} >= {1, 2, 3, 4, 5}


def test_default_set_tests_every_class_on_people_who_show_every_class() -> None:
    plans = plan_clips(320, 0)
    fold_1 = Counter(plan.label for plan in of(plans, "dfew") if plan.fold == 1)
    assert min(fold_1[label] for label in range(7)) >= 9
    shown: dict[str, set[str]] = {}
    for plan in plans:
        if not plan.oddity:
            shown.setdefault(plan.people[0], set()).add(plan.emotion)
    assert len(shown) == 28
    assert all(len(emotions) == 7 for emotions in shown.values())


def test_main_emotion_is_the_strongest_and_a_third_of_the_clips_are_mixed() -> None:
    plans = of(plan_clips(400, 3), "dfew")
    assert all(max(plan.intensities) == plan.intensities[EMOTIONS.index(plan.emotion)] for plan in plans)
    ambiguous = sum(max(plan.votes or (0,)) < 7 for plan in plans) / len(plans)
    assert 0.2 < ambiguous < 0.5


@given(st.integers(7, 5000))
def test_class_counts_follow_the_shares(clips: int) -> None:
    counts = class_counts(clips)
    assert sum(counts.values()) == clips
    assert min(counts.values()) >= min(2, clips // 7)
    if clips >= 100:
        assert all(abs(counts[emotion] - share * clips) <= 1 for emotion, share in CLASS_SHARES.items())


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 7"):
        plan_clips(6, 0)
