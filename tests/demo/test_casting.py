from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.demo.annotators import single_label
from dfer.demo.casting import CLASS_SHARES, ODDITIES, SCENES, ClipPlan, class_counts, plan_clips
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
    for plan in (plan for plan in plans if plan.dataset != "ferv39k"):
        part = plan.fold if plan.dataset == "dfew" else plan.path.split("/")[1]
        for name in plan.people:
            if part is not None:
                places.setdefault(name, set()).add(part)
    assert all(len(where) == 1 for where in places.values())


@settings(deadline=None, max_examples=30)
@given(st.integers(7, 400), st.integers(0, 2**32))
def test_votes_labels_and_folds_agree(clips: int, seed: int) -> None:
    for plan in plan_clips(clips, seed):
        if plan.dataset != "dfew":
            assert plan.votes is plan.fold is None
            assert plan.label == EMOTIONS.index(plan.emotion)
            assert f"/{plan.emotion.capitalize()}/" in plan.path
        elif plan.oddity == "unlisted":
            assert plan.votes is plan.label is plan.fold is None
        else:
            assert plan.votes is not None
            assert sum(plan.votes) == 10
            assert plan.label == single_label(plan.votes)
            assert (plan.fold is None) == (plan.label is None)


@settings(deadline=None, max_examples=30)
@given(st.integers(7, 400), st.integers(0, 2**32))
def test_ferv39k_trains_on_dfews_people_and_tests_on_afews(clips: int, seed: int) -> None:
    plans = plan_clips(clips, seed)
    people = {dataset: {name for plan in of(plans, dataset) for name in plan.people} for dataset in ("dfew", "afew")}
    for split, share, others in (("train", 3, "afew"), ("test", 9, "dfew")):
        part = [plan for plan in of(plans, "ferv39k") if plan.split == split]
        assert len(part) == max(7, round(clips / share))
        assert {plan.label for plan in part} == set(range(7))
        assert not {name for plan in part for name in plan.people} & people[others]
    for plan in of(plans, "ferv39k"):
        *_, folder, scene, emotion, name = plan.path.split("/")
        assert (folder, emotion.lower()) == ("2_ClipsforFaceCrop", plan.emotion)
        assert scene in SCENES
        assert len(name) == 4


def test_what_is_asked_of_ferv39k_changes_no_other_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [plan for plan in plan_clips(20, 5) if plan.dataset != "ferv39k"]
    monkeypatch.setattr("dfer.demo.casting.FERV39K_SHARES", {"train": 2.0, "test": 1.0})
    assert [plan for plan in plan_clips(20, 5) if plan.dataset != "ferv39k"] == before


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
