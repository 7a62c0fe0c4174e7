from __future__ import annotations

import pytest
from report_factory import aligned, arm, content, facts

from dfer.report import names
from dfer.report.content import ExperimentResult
from dfer.report.numbers import compute


@pytest.fixture(scope="module")
def arms(toy):
    """hard with frames in order and shuffled, and midas of another network, its epoch chosen on the test fold."""
    clips = aligned(toy)
    rows = (
        arm(clips, "resnet18_tsm/hard", skill=1.0),
        arm(clips, "resnet18_tsm/hard", skill=1.0, frames="shuffled"),
        arm(clips, "r3d_18/midas", skill=1.0, protocol="paper"),
        arm(clips, "r3d_18/midas", skill=2.0, protocol="validation", part="val", trained_on="other"),
    )
    return compute(
        content(toy.root, ExperimentResult("t", "T", "", "scores", "toy-dfew", rows), datasets=(facts(toy),))
    ).experiments[0]


def test_full_names_have_network_frames_and_flag(arms):
    assert [names.full_name(arm) for arm in arms.arms] == [
        "resnet18_tsm/hard",
        "resnet18_tsm/hard, frames shuffled",
        "r3d_18/midas†",
        "r3d_18/midas",
    ]


def test_short_names_have_what_differs(arms):
    hard, shuffled, flagged, _ = arms.arms
    assert names.short_names([hard, shuffled]) == ["in order", "shuffled"]
    assert names.short_names([hard, flagged]) == ["resnet18_tsm hard", "r3d_18 midas†"]
    assert names.short_names([hard]) == ["resnet18_tsm hard"]
    assert names.short_names(arms.arms)[3] == "r3d_18 midas in order from other (val)"


def test_a_pair_is_named_by_its_second_arm_first(arms):
    pair = next(pair for pair in arms.pairs if (pair.first, pair.second) == arms.arms[:2])
    assert names.versus(pair, arms) == (
        "resnet18_tsm hard shuffled from toy-dfew (fold 1) against resnet18_tsm hard in order from toy-dfew (fold 1)"
    )


def test_where_an_arm_was_trained_and_tested(arms):
    assert names.where(arms.arms[0].result) == "toy-dfew → toy-dfew (fold 1)"
    assert names.where(arms.arms[3].result) == "other → toy-dfew (val, epoch by validation)"


def test_notes_are_of_the_protocols_that_the_arms_have(arms):
    assert names.protocol_notes(arms.arms[:2]) == []
    assert names.protocol_notes(arms.arms) == [
        names.CHOSEN_ON_TEST_NOTE,
        names.CHOSEN_BY_VALIDATION_NOTE,
        names.VALIDATION_PART_NOTE,
    ]


def test_file_names_are_plain():
    assert names.file_name("Table 2: “Hard” & soft!") == "table-2-hard-soft"
