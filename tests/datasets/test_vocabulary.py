"""From a data set's classes to a pipeline's."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dfer.config.settings import LabelSettings
from dfer.datasets.report import IngestReport
from dfer.datasets.table import ClipRow, from_rows, validate
from dfer.datasets.vocabulary import in_classes, in_order, known_classes, unknown_merges
from dfer.labels import EMOTIONS, classes_of, majority

EIGHT = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")


def report_on(own: tuple[str, ...], **facts: Any) -> IngestReport:
    return IngestReport("set", "/set", (), classes=own, **facts)


def converted(rows: list[dict[str, Any]], own: tuple[str, ...], **labels: Any) -> tuple[pd.DataFrame, IngestReport]:
    named = [ClipRow(f"set/{number}", "set", f"{number}.mp4", **row) for number, row in enumerate(rows)]
    return in_classes(from_rows(named, own), IngestReport("set", "/set", (), classes=own), LabelSettings(**labels))


def examples(report: IngestReport, code: str) -> tuple[str, ...]:
    return next((finding.examples for finding in report.findings if finding.code == code), ())


def test_classes_are_matched_by_name_and_the_rest_is_left_out_with_counts() -> None:
    table, report = converted(
        [
            {"label": 1, "votes": (0, 8, 0, 0, 0, 0, 0, 2)},
            {"label": 7, "votes": (3, 0, 0, 0, 0, 0, 0, 7)},
            {"votes": (5, 0, 0, 0, 0, 0, 0, 5)},
            {"votes": (0, 0, 0, 0, 0, 0, 0, 9)},
        ],
        EIGHT,
    )
    assert table["clip_id"].tolist() == ["set/0", "set/2"]
    assert table["label"].tolist() == [EMOTIONS.index("happy"), pd.NA]
    assert table["votes"].tolist() == [(8, 0, 0, 0, 0, 0, 0), (0, 0, 5, 0, 0, 0, 0)]
    assert classes_of(table) == EMOTIONS
    assert examples(report, "left_out_classes") == ("contempt: 1 clips",)
    assert examples(report, "left_out_votes") == ("set/3",)
    assert (report.classes, report.known) == (EMOTIONS, ())


def test_a_set_of_which_no_label_is_left_is_an_error() -> None:
    rows = [{"label": 0}, {"label": 1}, {"votes": (0, 3)}]
    table, report = converted(rows, ("bored", "engaged"))
    assert table.empty
    assert report.fatal
    assert examples(report, "no_label_left") == ("bored", "engaged")
    assert not converted(rows, ("bored", "engaged"), merge={"bored": "sad"})[1].fatal


def test_merged_classes_count_together_and_may_win() -> None:
    table, report = converted(
        [
            {"label": 3, "votes": (0, 0, 0, 4, 3, 0, 0, 3)},
            {"label": 7, "votes": (0, 0, 0, 0, 3, 0, 0, 4)},
            {"label": 7},
        ],
        EIGHT,
        merge={"Contempt": "Anger"},
    )
    angry = EMOTIONS.index("angry")
    assert table["label"].tolist() == [angry, angry, angry]
    assert table["votes"][0][angry] == 6
    assert examples(report, "merged_classes") == ("contempt counts as angry",)
    assert not examples(report, "left_out_classes")


def test_labels_that_merged_votes_take_away_or_change_are_counted() -> None:
    rows = [
        {"label": 0, "votes": (4, 0, 0, 2, 0, 2, 2)},  # angry has 4 then, too
        {"label": 0, "votes": (4, 0, 0, 3, 0, 3, 0)},
        {"label": 1, "votes": (0, 4, 0, 3, 0, 3, 0)},
        {"label": 0, "votes": (7, 0, 0, 2, 0, 2, 0)},
        {"label": 5, "votes": (0, 0, 0, 2, 0, 4, 0)},
        {"label": 1, "votes": (0, 1, 0, 3, 0, 3, 0)},  # not the winner before either: stays by its name
        {"votes": (3, 3, 0, 0, 0, 0, 0)},
    ]
    classes = [name for name in EMOTIONS if name != "disgust"]
    table, report = converted(rows, EMOTIONS, classes=classes, merge={"disgust": "angry"})
    labels = [None if pd.isna(label) else classes[label] for label in table["label"]]
    assert labels == [None, "angry", "angry", "happy", "angry", "sad", None]
    found = {finding.code: (finding.severity, finding.count, finding.examples) for finding in report.findings}
    assert found["lost_labels"] == ("warning", 1, ("set/0: happy",))
    assert found["changed_labels"] == ("warning", 2, ("set/1: happy to angry", "set/2: sad to angry"))
    _, report = converted(rows, EMOTIONS, classes=classes)
    assert {finding.code for finding in report.findings} == {"left_out_classes"}


def test_a_label_that_was_not_the_winner_of_its_votes_stays_by_name() -> None:
    table, _ = converted([{"label": 3, "votes": (0, 9, 0, 1, 0, 0, 0, 0)}], EIGHT)
    assert table["label"].tolist() == [EMOTIONS.index("sad")]


def test_published_shares_are_scaled_and_merged() -> None:
    table, _ = converted(
        [{"shares": (0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25)}, {"shares": (0.0,) * 7 + (1.0,), "label": 1}], EIGHT
    )
    assert table["shares"][0] == pytest.approx((1 / 3, 0, 2 / 3, 0, 0, 0, 0))
    assert table["shares"][1] is None


def test_a_pipeline_with_more_classes_knows_which_a_data_set_has() -> None:
    eight = {"classes": [*EMOTIONS, "contempt"]}
    table, report = converted([{"label": 6, "votes": (0, 0, 0, 0, 0, 0, 3)}], EMOTIONS, **eight)
    assert (table["label"][0], table["votes"][0]) == (6, (0, 0, 0, 0, 0, 0, 3, 0))
    assert report.known == EMOTIONS
    assert report.to_dict()["known"] == EMOTIONS
    assert examples(report, "absent_classes") == ("contempt",)
    assert known_classes(("bored", "Happiness", "fear"), LabelSettings(**eight)) == ("happy", "fear")


def test_the_usual_classes_change_nothing() -> None:
    rows = [ClipRow("set/a", "set", "a.mp4", label=2, votes=(0, 0, 3, 0, 0, 0, 0))]
    table, report = from_rows(rows), IngestReport("set", "/set", ())
    assert in_classes(table, report, LabelSettings())[0] is table
    assert in_classes(table, report, LabelSettings())[1] is report


def test_names_of_ones_own_that_do_not_fit_are_warnings() -> None:
    own = ("bored", "duration", "engaged")
    rows = [
        ClipRow("set/a", "set", "a.mp4", label=1, votes=(3, 12, 1)),
        ClipRow("set/b", "set", "b.mp4", label=0, votes=(9, 7, 1)),
    ]
    labels = LabelSettings(classes=("bored", "engagd"))
    _, report = in_classes(from_rows(rows, own), report_on(own, classes_are_columns=True), labels, own_names=True)
    found = {finding.code: finding for finding in report.findings}
    assert {code: finding.severity for code, finding in found.items()} == {
        "left_out_classes": "warning",
        "absent_classes": "warning",
    }
    assert found["left_out_classes"].examples == ("duration: 1 clips, such as set/a", "engaged: 0 clips")
    assert found["left_out_classes"].message.endswith("call those with votes votes_ and the class")
    assert found["absent_classes"].examples == ("engagd; did you mean engaged?",)
    _, report = in_classes(from_rows(rows, own), report_on(own), labels)
    assert {finding.severity for finding in report.findings} == {"note"}
    assert "votes_" not in report.as_text()


def test_a_table_in_the_order_of_a_pipeline_with_the_same_classes() -> None:
    table = from_rows([ClipRow("set/a", "set", "a.mp4", label=1, votes=(0, 3))], ("bored", "engaged"))
    orders = [LabelSettings(), LabelSettings(classes=("engaged", "bored"))]
    assert in_order(table, orders)["votes"][0] == (3, 0)
    assert classes_of(in_order(table, orders)) == ("engaged", "bored")
    assert in_order(table, orders[:1]) is table


def test_merges_of_classes_that_no_data_set_has() -> None:
    labels = LabelSettings(classes=("bored", "engaged"), merge={"confusd": "bored", "Calm": "bored"})
    (finding,) = unknown_merges([("bored", "confused"), ("calm",)], labels)
    assert (finding.severity, finding.examples) == ("warning", ("confusd; did you mean confused?",))
    assert not unknown_merges([("confusd", "calm")], labels)


@given(st.permutations(EIGHT), st.lists(st.lists(st.integers(0, 5), min_size=8, max_size=8).filter(any), min_size=1))
@settings(deadline=None, max_examples=50)
def test_another_order_keeps_every_vote(order: list[str], votes: list[list[int]]) -> None:
    rows = [{"votes": tuple(row), "label": majority(row)} for row in votes]
    table, report = converted(rows, EIGHT, classes=order)
    validate(table)
    assert len(table) == len(rows)
    for row, counts, label in zip(rows, table["votes"], table["label"], strict=True):
        assert dict(zip(order, counts, strict=True)) == dict(zip(EIGHT, row["votes"], strict=True))
        assert (None if pd.isna(label) else order[label]) == (None if row["label"] is None else EIGHT[row["label"]])
    assert report.findings == ()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"classes": ["happy"]}, "two classes or more, found 1"),
        ({"classes": ["happy", "Happiness"]}, r"listed twice: happy \(happy and Happiness count as one\)"),
        ({"classes": ["bored", "sad", "bored"]}, "listed twice: bored$|listed twice: bored "),
        ({"classes": "engaged, bored"}, r"expected a list of names: \[engaged, bored\]"),
        ({"classes": [True, False]}, "yes, no, on, off, true and false are no text in YAML: quote"),
        ({"classes": [1, 2]}, r"1 is no text in YAML: quote such names, as in \['1'\]"),
        ({"merge": {True: "happy"}}, "no text in YAML: quote"),
        ({"classes": ["happy", "uar"]}, "uar: is the name of a score"),
        ({"classes": ["happy", " "]}, "expected the name of a class"),
        ({"merge": {"contempt": "bored"}}, "merge: bored: expected one of the classes"),
        ({"merge": {"sad": "angry"}}, "merge: sad: is a class of its own"),
    ],
)
def test_settings_that_make_no_vocabulary(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelSettings(**labels)


def test_settings_survive_json() -> None:
    one = LabelSettings(classes=["engaged", "bored"], merge={"confused": "bored"})
    assert one.model_dump(mode="json") == {"classes": ["engaged", "bored"], "merge": {"confused": "bored"}}
    assert LabelSettings(**one.model_dump(mode="json")) == one
    assert hash(one) == hash(LabelSettings(**one.model_dump(mode="json")))
