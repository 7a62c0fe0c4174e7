from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_factories import write_list

from dfer.datasets import IngestReport, inspect, load_clips, own_files, own_reading
from dfer.datasets.own_table import RULES
from dfer.datasets.protocol import part
from dfer.labels import EMOTIONS

BY_CLIP, BY_SUBJECT = {"folds_by_clip": 1}, {"folds_by_subject": 1}
LABELS = ("Happy", "bored", "Confused")
Row = Sequence[object]


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts."""
    table, report = inspect("table", root, dataset="own", **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    return table, report


def example(report: IngestReport, code: str) -> str:
    """The first place of a finding."""
    return next(finding.examples[0] for finding in report.findings if finding.code == code)


def videos(root: Path, number: int = 12) -> list[str]:
    """So many files of different content below `root`; their paths."""
    paths = [f"videos/{clip}.mp4" for clip in range(1, number + 1)]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return paths


def labelled(root: Path, number: int = 12) -> list[list[object]]:
    """Header and rows of a good table: clips, three labels in turn."""
    return [["path", "label"], *([path, LABELS[at % 3]] for at, path in enumerate(videos(root, number)))]


def write(root: Path, rows: Sequence[Row], name: str = "clips.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    if name.endswith(".parquet"):
        pd.DataFrame(rows[1:], columns=[str(title) for title in rows[0]]).to_parquet(path, index=False)
    elif name.endswith(".xlsx"):
        book = openpyxl.Workbook()
        sheet: Any = book.active
        for row in rows:
            sheet.append(list(row))
        book.save(path)
    elif name.endswith(".tsv"):
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    else:
        write_list(path, rows)
    return root


def with_column(rows: list[list[object]], name: str, values: Sequence[object]) -> list[list[object]]:
    return [[*row, value] for row, value in zip(rows, [name, *values], strict=True)]


def test_a_clean_table_says_only_how_folds_were_made(tmp_path: Path) -> None:
    table, report = check(write(tmp_path, labelled(tmp_path)), BY_CLIP)
    assert report.classes == ("happy", "bored", "confused")  # the seven emotions first, then the others
    row = table.set_index("clip_id").loc["own/videos/2.mp4"]
    assert (row["source"], row["label"], row["source_size"]) == ("videos/2.mp4", 1, 12)
    assert row["source_mtime_ns"] == (tmp_path / row["source"]).stat().st_mtime_ns
    assert table["clip_id"].tolist()[1::9] == ["own/videos/2.mp4", "own/videos/11.mp4"]
    assert table["votes"].isna().all()
    assert set(table["fold"]) == {1, 2, 3, 4, 5}
    assert report.counts == {
        "clips": 12,
        "clips_found": 12,
        "missing": 0,
        "clips_per_fold": {str(fold): int(number) for fold, number in table.groupby("fold").size().items()},
        "labels": {"happy": 4, "bored": 4, "confused": 4},
    }
    assert report.lists == {"clips.csv": hashlib.sha256((tmp_path / "clips.csv").read_bytes()).hexdigest()}
    pd.testing.assert_frame_equal(load_clips("table", tmp_path, dataset="own"), table)


@pytest.mark.parametrize("name", ["clips.tsv", "clips.parquet", "clips.xlsx"])
@pytest.mark.parametrize("form", ["labels", "votes"])
def test_all_kinds_of_tables_say_the_same(tmp_path: Path, name: str, form: str) -> None:
    rows = labelled(tmp_path)
    if form == "votes":
        rows = [["path", *LABELS], *([row[0], at % 3 + 1, 1, 0] for at, row in enumerate(rows[1:]))]
    expected, _ = inspect("table", write(tmp_path, rows), dataset="own")
    (tmp_path / "clips.csv").unlink()
    table, _ = inspect("table", write(tmp_path, rows, name), dataset="own")
    pd.testing.assert_frame_equal(table, expected)


def test_another_table_is_named_as_source(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    write(tmp_path / "lists", rows, "first-round.csv")
    table, report = check(tmp_path, BY_CLIP, source="lists/first-round.csv")
    assert len(table) == 12
    assert list(report.lists) == ["lists/first-round.csv"]
    check(tmp_path, {"table_missing": 1}, source="lists/second-round.csv")
    check(tmp_path, {"table_kind": 1}, source="lists/first-round.ods")
    check(tmp_path, {"outside_root": 1}, source="../clips.csv")
    write(tmp_path, rows)
    write(tmp_path, rows, "clips.tsv")
    check(tmp_path, {"two_tables": 1})


def test_folders_named_by_class(tmp_path: Path) -> None:
    for folder, names in {"Happiness": "abc", "joy": "d", "Bored": "efghi", "notes": ""}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.mp4").write_text(name)
    (tmp_path / "Bored" / "list.txt").touch()
    (tmp_path / "stray.mp4").touch()
    expected = {"folders_without_videos": 1, "spellings": 1, "other_files": 1, "unlabelled_videos": 1}
    table, report = check(tmp_path, expected | BY_CLIP)
    assert report.classes == ("happy", "bored")
    assert report.counts["labels"] == {"happy": 4, "bored": 5}
    assert table["clip_id"].iloc[0] == "own/Bored/e.mp4"
    assert example(report, "spellings") == "happy: happiness, joy"


def test_a_table_of_another_name_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    write(tmp_path, labelled(tmp_path), "Labels.CSV")
    _, report = check(tmp_path, {"other_tables": 1, "one_class": 1} | BY_CLIP)
    assert example(report, "other_tables") == "Labels.CSV"
    check(tmp_path, BY_CLIP, source="Labels.CSV")


def test_a_folder_that_is_neither(tmp_path: Path) -> None:
    check(tmp_path, {"wrong_root": 1})
    check(tmp_path / "absent", {"root_missing": 1})
    write(tmp_path / "data", labelled(tmp_path / "data"))
    _, report = check(tmp_path, {"wrong_root": 1})
    assert f"Did you mean {tmp_path / 'data'}?" in report.findings[0].message


def test_a_table_of_another_name_or_kind_is_what_a_folder_is_searched_for(tmp_path: Path) -> None:
    def hint(root: Path) -> str:
        return check(root, {"wrong_root": 1})[1].findings[0].message

    others = tmp_path / "cut"  # beside the root, a folder of videos, which is not meant
    videos(others)
    write(tmp_path / "own", labelled(tmp_path / "elsewhere"), "labels.tsv")
    message = "Rename the table labels.tsv to clips.tsv, or set datasets.own.source=labels.tsv."
    assert hint(tmp_path / "own").endswith(message)
    write(tmp_path / "own", labelled(tmp_path / "elsewhere"), "b.csv")
    assert hint(tmp_path / "own").endswith(
        "Rename the table b.csv to clips.csv, or set datasets.own.source=b.csv (or of labels.tsv)."
    )
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "labels.xls").touch()
    assert hint(tmp_path / "old").endswith("Save labels.xls as .xlsx, under the name clips.xlsx.")
    for person in ("anna", "ben"):
        for label in ("bored", "engaged"):
            folder = tmp_path / "people" / person / label
            folder.mkdir(parents=True)
            (folder / "1.mp4").write_text(person + label)
    message = (
        "are expected directly in the root; found one level deeper: anna/bored, anna/engaged, ben/bored, ben/engaged."
    )
    assert hint(tmp_path / "people").endswith(message)


def test_videos_below_a_folder_of_a_class_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    for label in ("bored", "engaged", "bored/sub", "bored/sub/more"):
        (tmp_path / label).mkdir()
        for clip in range(4):
            (tmp_path / label / f"{clip}.mp4").write_text(f"{label}{clip}")
    (tmp_path / "engaged" / "notes").mkdir()
    _, report = check(tmp_path, {"videos_deeper": 1, "other_files": 1} | BY_CLIP)
    assert example(report, "videos_deeper") == "bored/sub: 8 videos"
    assert RULES["videos_deeper"][0] == "warning"


def test_names_in_another_unicode_form_are_taken_and_in_other_capitals_proposed(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    rows = labelled(tmp_path)
    (tmp_path / decomposed).mkdir()
    (tmp_path / "videos" / "1.mp4").rename(tmp_path / decomposed / f"{decomposed}.mp4")
    rows[1][0] = f"{composed}/{composed}.mp4"
    rows[2][0] = "Videos/2.MP4"
    table, report = check(write(tmp_path, rows), {"missing_clips": 1} | BY_CLIP)
    assert f"{decomposed}/{decomposed}.mp4" in set(table["source"])
    assert example(report, "missing_clips") == "clips.csv row 3: Videos/2.MP4 (there is videos/2.mp4)"
    rows[2][0] = f"{decomposed}/{composed}.mp4"
    rows[2][1] = rows[1][1]
    check(write(tmp_path, rows), {"listed_twice": 1} | BY_CLIP)


def test_further_sheets_of_a_workbook_are_named(tmp_path: Path) -> None:
    write(tmp_path, labelled(tmp_path), "clips.xlsx")
    book = openpyxl.load_workbook(tmp_path / "clips.xlsx")
    book.create_sheet("second round")
    book.create_sheet("scratch").sheet_state = "hidden"
    book.save(tmp_path / "clips.xlsx")
    _, report = check(tmp_path, {"other_sheets": 1} | BY_CLIP)
    assert example(report, "other_sheets") == "second round"


def test_votes_in_columns(tmp_path: Path) -> None:
    rows = [
        ["video", "Surprise", "bored", "Anger"],
        *([path, 0, at % 2, 3 - at % 3] for at, path in enumerate(videos(tmp_path))),
    ]
    rows[1] = [rows[1][0], 2, 2, 0]
    rows[2] = [rows[2][0], 2, 5, 0]
    rows[3] = [rows[3][0], 2, 5.0, 0]
    table, report = check(write(tmp_path, rows), {"votes_total": 8, "never_first": 1} | BY_CLIP)
    assert report.classes == ("angry", "surprise", "bored")
    assert table["votes"].iloc[:3].tolist() == [(0, 2, 2), (0, 2, 5), (0, 2, 5)]
    assert table["label"].iloc[:4].tolist() == [pd.NA, 2, 2, 0]
    assert report.counts["without_single_label"] == 3
    assert example(report, "never_first") == "surprise: 6 votes"


def test_columns_that_begin_with_votes_are_the_votes(tmp_path: Path) -> None:
    rows = [
        ["path", "Votes_engaged", "length", "votes_bored", ""],
        *([path, at % 2, 2.5, 1 - at % 2, "x"] for at, path in enumerate(videos(tmp_path))),
    ]
    _, report = check(write(tmp_path, rows), {"unused_columns": 1} | BY_CLIP)
    assert example(report, "unused_columns") == "length"
    assert report.classes == ("bored", "engaged")


def test_a_row_for_each_annotators_label(tmp_path: Path) -> None:
    rows: list[list[object]] = [["clip", "Rater", "Emotion", "subject"]]
    for at, path in enumerate(videos(tmp_path)):
        rows += [[path, rater, LABELS[(at + (rater == "c")) % 3], f"s{at % 6}"] for rater in "abc"]
    rows[-1][2] = LABELS[2]
    table, report = check(write(tmp_path, rows), BY_SUBJECT)
    assert table["votes"].iloc[0] == (2, 1, 0)
    assert table["votes"].iloc[11] == (0, 0, 3)
    assert table["label"].iloc[0] == 0
    assert report.counts["without_single_label"] == 0

    rows += [["videos/1.mp4", "a", "happy", "s0"], ["videos/2.mp4", "a", "happy", "s1"]]
    rows += [["videos/3.mp4", "d", "happy", "s1"], ["videos/4.mp4", "", "happy", "s3"]]
    expected = {"rated_twice": 1, "rated_twice_differently": 1, "rows_disagree": 1, "empty_annotator": 1}
    _, report = check(write(tmp_path, rows), expected)
    assert example(report, "rated_twice_differently") == "clips.csv rows 5 and 39: videos/2.mp4, 'a'"
    assert example(report, "rows_disagree") == "clips.csv rows 8 and 40: videos/3.mp4, subject 's2' and 's1'"
    assert example(report, "empty_annotator") == "clips.csv row 41"


def test_splits_of_the_table(tmp_path: Path) -> None:
    rows = with_column(labelled(tmp_path), "Split", [["Train", "validation", "test"][at // 3 % 3] for at in range(12)])
    rows = with_column(rows, "subject", [f"s{at // 3 % 3}" for at in range(12)])
    table, report = check(write(tmp_path, rows), {})
    assert table["split"].tolist()[:9] == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    assert table["fold"].isna().all()
    assert report.counts["clips_per_split"] == {"train": 6, "val": 3, "test": 3}
    assert len(part(table, fold=None, part="train")) == 6


def test_folds_of_the_table(tmp_path: Path) -> None:
    table, report = check(write(tmp_path, with_column(labelled(tmp_path), "fold", [1, 2, 7.0, 4] * 3)), {})
    assert table["fold"].tolist() == [1, 2, 7, 4] * 3
    assert report.counts["clips_per_fold"] == {"1": 3, "2": 3, "4": 3, "7": 3}


@pytest.mark.parametrize(("by", "other"), [("subject", "source"), ("source", "")])
def test_folds_are_made_by_subject_else_by_source(tmp_path: Path, by: str, other: str) -> None:
    rows = with_column(labelled(tmp_path, 30), by, [f"g{at % 10}" for at in range(30)])
    rows = with_column(rows, other, list(range(30))) if other else rows
    table, report = check(write(tmp_path, rows), {f"folds_by_{by}": 1})
    assert example(report, f"folds_by_{by}") == f"10 {by}s in 5 folds"
    groups = [f"g{at % 10}" for at in range(30)]
    assert pd.Series(groups).groupby(groups).apply(lambda its: table["fold"].iloc[its.index].nunique()).eq(1).all()
    assert table["fold"].nunique() == 5
    assert table["subject"].tolist() == (groups if by == "subject" else [None] * 30) or by == "source"


def test_paths_as_people_write_them(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    rows[1][0] = " ./videos//1.mp4 "
    rows[2][0] = str(tmp_path / "videos" / "2.mp4")
    table, _ = check(write(tmp_path, rows), BY_CLIP)
    assert table["source"].iloc[:2].tolist() == ["videos/1.mp4", "videos/2.mp4"]
    assert (table["source_size"] > 0).all()


def test_folders_of_frames_and_files_of_any_name(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    for folder, frames in (("frames", ["1.jpg", "2.JPG", "note.txt"]), ("nothing", [])):
        (tmp_path / folder).mkdir()
        for frame in frames:
            (tmp_path / folder / frame).write_text("x")
    (tmp_path / "recording").write_text("no suffix")
    for row, path in zip(rows[1:], ["frames", "nothing", "recording"], strict=False):
        row[0] = path
    table, report = check(write(tmp_path, rows), {"clips_without_frames": 1} | BY_CLIP)
    clips = table.set_index("source")
    assert clips["num_frames"].dropna().to_dict() == {"frames": 2, "nothing": 0}
    assert clips.loc["recording", "source_size"] == 9
    assert example(report, "clips_without_frames") == "clips.csv row 3: nothing"


ROW_7 = {
    "empty_path": {0: ""},
    "bad_path": {0: "videos\\6.mp4"},
    "outside_root": {0: "../6.mp4"},
    "missing_clips": {0: "videos/six.mp4"},
    "empty_label": {1: ""},
    "bad_label": {1: "x" * 61},
    "misspelt": {1: "Confusd"},
    "bad_split": {2: "dev"},
    "bad_fold": {3: "0"},
}


@pytest.mark.parametrize("code", ROW_7)
def test_a_finding_says_the_row(tmp_path: Path, code: str) -> None:
    rows = labelled(tmp_path)
    if code in ("bad_split", "bad_fold"):
        rows = with_column(rows, "split", ["train", "test"] * 6)
        rows = with_column(rows, "fold", [1, 2] * 6)
    elif code in ("outside_root", "missing_clips", "misspelt"):
        rows = with_column(rows, "split", (["train"] * 3 + ["test"] * 3) * 2)
    for column, value in ROW_7[code].items():
        rows[6][column] = value
    for name in ("clips.csv", "clips.xlsx"):
        _, report = inspect("table", write(tmp_path, rows, name), dataset="own")
        (tmp_path / name).unlink()
        codes = {finding.code: finding.count for finding in report.findings}
        assert codes.pop(code) == 1, report.as_text()
        assert codes.keys() <= {"folds_by_clip", "one_clip", "fold_and_split", "one_part"}, report.as_text()
        assert example(report, code).startswith(f"{name} row 7")
        assert report.fatal == (RULES[code][0] == "error")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "videos/../../x.mp4", "a/../videos/1.mp4", "https://x/1.mp4", "\x1b[2J.mp4", "C:\\1.mp4",
             "x" * 300, "x/" * 3000, "/", "."]
)  # fmt: skip
def test_paths_that_are_never_opened(tmp_path: Path, path: str) -> None:
    rows = labelled(tmp_path)
    rows[1][0] = path
    _, report = inspect("table", write(tmp_path, rows), dataset="own")
    assert report.fatal
    assert {f.code for f in report.findings} in ({"outside_root"}, {"bad_path"})


def test_links_that_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    rows = labelled(root)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.mp4").write_text("x")
    (root / "videos" / "link.mp4").symlink_to(tmp_path / "secret" / "1.mp4")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "videos" / "nothing.mp4").symlink_to("nowhere")
    os.mkfifo(root / "pipe.mp4")
    for row, path in zip(rows[1:], ["videos/link.mp4", "out/1.mp4", "videos/nothing.mp4", "pipe.mp4"], strict=False):
        row[0] = path
    table, _ = check(write(root, rows), {"outside_root": 2, "missing_clips": 2})
    assert (table["source_size"] < 0).sum() == 4
    (root / "clips.csv").rename(tmp_path / "clips.csv")
    (root / "clips.csv").symlink_to(tmp_path / "clips.csv")
    check(root, {"outside_root": 1})


@pytest.mark.parametrize("label", ["nan", "N/A", "?", "#REF!", "#n/a", " "])
def test_labels_that_stand_for_none(tmp_path: Path, label: str) -> None:
    rows = labelled(tmp_path)
    rows[3][1] = label
    check(write(tmp_path, rows), {"empty_label": 1})


@pytest.mark.parametrize("vote", ["-1", "0.5", "", "x", "1e3", "\u0663", "1,5", "9" * 40, "nan", "=A1"])
def test_votes_that_are_no_whole_number_from_zero_up(tmp_path: Path, vote: str) -> None:
    rows = [["path", "bored", "engaged"], *([path, at % 2, 1 - at % 2] for at, path in enumerate(videos(tmp_path)))]
    rows[4][2] = vote
    rows[5] = [rows[5][0], 0, 0]
    _, report = check(write(tmp_path, rows), {"bad_votes": 1, "votes_all_zero": 1})
    assert example(report, "bad_votes").startswith("clips.csv row 5: ")
    assert example(report, "bad_votes").endswith(" for 'engaged'")
    assert example(report, "votes_all_zero") == "clips.csv row 6"


def test_a_class_that_nobody_voted_for(tmp_path: Path) -> None:
    rows = [["path", "bored", "sad", "engaged"], *([p, at % 2, 0, 1 - at % 2] for at, p in enumerate(videos(tmp_path)))]
    table, report = check(write(tmp_path, rows), {"no_votes": 1} | BY_CLIP)
    assert example(report, "no_votes") == "sad"
    assert len(table["votes"].iloc[0]) == 3


def test_a_column_with_the_sum_of_the_votes_is_no_class(tmp_path: Path) -> None:
    rows = [
        ["path", "bored", "engaged", "raters"],
        *([p, at % 4, 3, at % 4 + 3] for at, p in enumerate(videos(tmp_path))),
    ]
    _, report = check(write(tmp_path, rows), {"sum_column": 1})
    assert example(report, "sum_column") == "clips.csv: column 'raters'"


def test_classes_with_too_few_clips(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    rows[12][1] = "amazed"
    _, report = check(write(tmp_path, rows), {"one_clip": 1} | BY_CLIP)
    assert example(report, "one_clip") == "amazed: clips.csv row 13: videos/12.mp4"
    check(write(tmp_path, [rows[0], *([row[0], "bored"] for row in rows[1:])]), {"one_class": 1} | BY_CLIP)


def test_a_misspelt_label(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    rows[5][1] = "boerd"
    _, report = check(write(tmp_path, rows), {"misspelt": 1, "one_clip": 1} | BY_CLIP)
    assert example(report, "misspelt") == "clips.csv row 6: 'boerd', like 'bored' in 3 rows"


def test_labels_that_are_numbers_or_all_different(tmp_path: Path) -> None:
    paths = videos(tmp_path, 12)
    rows = [["path", "label"], *([path, at % 2] for at, path in enumerate(paths))]
    for name in ("clips.csv", "clips.xlsx", "clips.parquet"):
        _, report = check(write(tmp_path, rows, name), {"labels_are_numbers": 1} | BY_CLIP)
        assert report.classes == ("0", "1")
        (tmp_path / name).unlink()
    rows = [["path", "label"], *([f"{at}.mp4", at / 7] for at in range(1, 131))]
    table, _ = check(write(tmp_path, rows), {"too_many_classes": 1})
    assert table.empty


def test_a_video_in_two_rows(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    table, report = check(write(tmp_path, [*rows, rows[3]]), {"listed_twice": 1} | BY_CLIP)
    assert len(table) == 12
    _, report = check(write(tmp_path, [*rows, ["./videos/3.mp4", "happy"]]), {"listed_twice_differently": 1})
    message = "clips.csv rows 4 and 14: videos/3.mp4, label 'confused' and 'happy'"
    assert example(report, "listed_twice_differently") == message


def test_the_same_content_under_two_names(tmp_path: Path) -> None:
    rows = labelled(tmp_path, 15)
    (tmp_path / "videos" / "14.mp4").write_bytes((tmp_path / "videos" / "11.mp4").read_bytes())
    (tmp_path / "videos" / "4.mp4").write_bytes(b"")
    (tmp_path / "videos" / "7.mp4").write_bytes(b"")
    table, report = check(write(tmp_path, rows), {"same_video": 1} | BY_CLIP)
    assert "own/videos/14.mp4" not in set(table["clip_id"])
    assert example(report, "same_video") == "clips.csv row 12: videos/11.mp4, and clips.csv row 15: videos/14.mp4"
    rows[14][1] = "happy"
    _, report = check(write(tmp_path, rows), {"same_video_differently": 1})
    assert example(report, "same_video_differently").endswith("label 'bored' and 'happy'")
    rows = with_column(labelled(tmp_path / "new", 15), "split", ["train"] * 13 + ["test"] * 2)
    (tmp_path / "new" / "videos" / "14.mp4").write_bytes((tmp_path / "new" / "videos" / "11.mp4").read_bytes())
    check(write(tmp_path / "new", rows), {"same_video_differently": 1})


def test_contents_of_large_sets_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, labelled(tmp_path))
    (tmp_path / "videos" / "4.mp4").write_bytes((tmp_path / "videos" / "1.mp4").read_bytes())
    monkeypatch.setattr(own_files, "MOST_BYTES", 5)
    check(tmp_path, {"not_compared": 1} | BY_CLIP)
    monkeypatch.setattr(own_files, "MOST_COMPARED", 5)
    check(tmp_path, {"not_compared": 1} | BY_CLIP)


def test_folds_or_splits_that_cannot_be_used(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    check(write(tmp_path, with_column(rows, "fold", [3] * 12)), {"one_fold": 1})
    check(write(tmp_path, with_column(rows, "split", ["train"] * 12)), {"split_parts": 1})
    check(write(tmp_path, with_column(rows, "split", ["val", "test"] * 6)), {"split_parts": 1})
    both = with_column(with_column(rows, "split", ["train", "test"] * 6), "fold", [1, 2] * 6)
    check(write(tmp_path, both), {"fold_and_split": 1})
    missing = with_column(rows, "fold", [1, 2] * 5 + [1, ""])
    _, report = check(write(tmp_path, missing), {"bad_fold": 1})
    assert example(report, "bad_fold") == "clips.csv row 13: ''"


def test_people_on_both_sides_and_classes_on_one(tmp_path: Path) -> None:
    rows = with_column(labelled(tmp_path), "split", ["train", "train", "test"] * 4)
    rows = with_column(rows, "subject", [f"s{at // 3}" for at in range(11)] + [""])
    expected = {"one_part": 3, "shared_groups": 3, "empty_subject": 1}
    _, report = check(write(tmp_path, rows), expected)
    assert example(report, "shared_groups") == "subject s0: test, train"
    assert example(report, "one_part") == "happy: train"
    assert example(report, "empty_subject") == "clips.csv row 13: videos/12.mp4"


def test_a_person_is_one_in_either_unicode_form_and_named_if_capitals_differ(tmp_path: Path) -> None:
    composed, decomposed = "Bj\u00f6rn", "Bjo\u0308rn"
    rows = with_column(labelled(tmp_path), "subject", [composed, decomposed, "anna", "Carla"] * 3)
    table, report = check(write(tmp_path, rows), BY_SUBJECT)
    assert set(table["subject"]) == {composed, "anna", "Carla"}
    assert example(report, "folds_by_subject") == "3 subjects in 3 folds"
    rows[7][2] = "Anna"
    _, report = check(write(tmp_path, rows), BY_SUBJECT | {"names_differ_in_case": 1})
    assert example(report, "names_differ_in_case") == "subject 'anna', 'Anna'"


def test_groups_of_which_no_folds_can_be_made(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    check(write(tmp_path, with_column(rows, "subject", ["anna"] * 12)), {"one_group": 1})
    _, report = check(
        write(tmp_path, with_column(rows, "subject", ["anna", "ben"] * 5 + ["", "ben"])), {"empty_group": 1}
    )
    assert example(report, "empty_group") == "clips.csv row 12: videos/11.mp4"
    _, report = check(write(tmp_path, with_column(rows, "subject", [""] * 12)), BY_CLIP)


HEADERS = {
    "no_path_column": [["name", "label"], ["videos/1.mp4", "bored"]],
    "no_header": [["videos/1.mp4", "bored"], ["videos/2.MOV", "engaged"]],
    "no_label_column": [["path", "subject"], ["videos/1.mp4", "s1"]],
    "labels_and_votes": [["path", "label", "votes_bored", "votes_engaged"], ["videos/1.mp4", "bored", 1, 0]],
    "duplicate_columns": [["path", "File Name", "label"], ["videos/1.mp4", "videos/1.mp4", "bored"]],
    "no_rows": [["path", "label"]],
}


@pytest.mark.parametrize("name", ["clips.csv", "clips.tsv", "clips.xlsx", "clips.parquet"])
@pytest.mark.parametrize("code", HEADERS)
def test_headers_that_cannot_be_used(tmp_path: Path, code: str, name: str) -> None:
    videos(tmp_path)
    table, _ = check(write(tmp_path, HEADERS[code], name), {code: 1})
    assert table.empty


def test_columns_of_the_same_class_are_duplicates(tmp_path: Path) -> None:
    videos(tmp_path)
    check(write(tmp_path, [["path", "Happy", "joy", "sad"], ["videos/1.mp4", 1, 2, 0]]), {"duplicate_columns": 1})
    check(write(tmp_path, [["path", "annotator", "happy"], ["videos/1.mp4", 1, 2]]), {"no_label_column": 1})


@pytest.mark.parametrize(
    ("name", "content"),
    [("clips.csv", "path;label\nvideos/1.mp4;bored\n"), ("clips.csv", "path\tlabel\n"), ("clips.tsv", "path,label\n")],
)
def test_another_delimiter(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    check(tmp_path, {"wrong_delimiter": 1})


def test_formulas_without_values_and_merged_cells(tmp_path: Path) -> None:
    write(tmp_path, labelled(tmp_path), "clips.xlsx")
    book = openpyxl.load_workbook(tmp_path / "clips.xlsx")
    sheet: Any = book.active
    sheet["B3"] = "=B2"
    sheet.merge_cells("B5:B7")
    book.save(tmp_path / "clips.xlsx")
    expected = {"formulas_without_value": 1, "merged_cells": 1, "empty_label": 3}
    _, report = check(tmp_path, expected)
    assert example(report, "formulas_without_value") == "clips.xlsx B3: =B2"
    assert example(report, "merged_cells") == "clips.xlsx B5:B7"


def unreadable() -> dict[str, tuple[str, bytes | Sequence[Row], str]]:
    wide = [["path", "label", *range(9_998)]]
    return {
        "ten thousand columns": ("clips.csv", wide, "it has 10,000 columns, expected at most 256"),
        "ten thousand columns in a workbook": ("clips.xlsx", wide, "10,000 columns, expected at most 256"),
        "Latin-1": ("clips.csv", "path,label\n1.mp4,b\xf6se\n".encode("latin-1"), "line 2 is not UTF-8: save it as"),
        "UTF-16": ("clips.csv", "path,label\n".encode("utf-16"), "line 1 is not UTF-8"),
        "nothing": ("clips.csv", b"", "its first row is empty"),
        "an empty row": ("clips.csv", b"\n1.mp4,bored\n", "its first row is empty"),
        "an LFS pointer": ("clips.csv", b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        "a comma in a text": ("clips.csv", b"path,label\nvideos/1, 2.mp4,bored\n", "row 2 has 3 cells, the header 2"),
        "half a quotation": ("clips.csv", b'path,label\n1.mp4,"bored\n', "row 2: unexpected end of data"),
        "a long cell": ("clips.csv", b"path,label\n1.mp4," + b"x" * 200_000, "row 2: field larger than field limit"),
        "no workbook": ("clips.xlsx", b"PK nothing", "it is no workbook, or is damaged: open it in a spreadsheet"),
        "an old workbook": ("clips.xlsx", bytes.fromhex("d0cf11e0a1b11ae1") + b"x" * 99, "(.xls), or has a password"),
        "no Parquet": ("clips.parquet", b"PAR1 nothing PAR1", "no Parquet file or is damaged"),
        "lists": ("clips.parquet", [["path", "label"], [["a"], "bored"]], "holds list<"),
        "a long text, often": ("clips.parquet", [["path", "label"], *([["x" * 20_000, "b"]] * 2000)], "than 10,000"),
    }  # fmt: skip


@pytest.mark.parametrize("what", unreadable())
def test_tables_that_cannot_be_read(tmp_path: Path, what: str) -> None:
    name, content, message = unreadable()[what]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        write(tmp_path, content, name)
    began = time.perf_counter()
    _, report = check(tmp_path, {"table_unreadable": 1})
    assert time.perf_counter() - began < 5
    assert message in example(report, "table_unreadable")


def test_tables_beyond_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = labelled(tmp_path)
    monkeypatch.setattr("dfer.datasets.workbook.MOST_ROWS", 5)
    for name in ("clips.csv", "clips.parquet", "clips.xlsx"):
        _, report = check(write(tmp_path, rows, name), {"table_unreadable": 1})
        assert "5" in example(report, "table_unreadable")
        (tmp_path / name).unlink()
    write(tmp_path, rows)
    monkeypatch.setattr(own_reading, "MOST_BYTES", 100)
    _, report = check(tmp_path, {"table_unreadable": 1})
    assert "expected at most 100" in example(report, "table_unreadable")


def test_an_index_that_pandas_wrote_is_not_used(tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    frame = pd.DataFrame(rows[1:], columns=rows[0]).iloc[::-1]
    frame.to_csv(tmp_path / "clips.csv")
    check(tmp_path, {"unused_columns": 1} | BY_CLIP)
    (tmp_path / "clips.csv").unlink()
    frame.to_parquet(tmp_path / "clips.parquet")
    check(tmp_path, BY_CLIP)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)), form=st.sampled_from(["labels", "votes", "annotators"]))
def test_the_order_of_rows_plays_no_part(tmp_path_factory: pytest.TempPathFactory, order: list[int], form: str) -> None:
    root = tmp_path_factory.mktemp("own")
    header, *rows = labelled(root)
    if form == "votes":
        header, rows = ["path", *LABELS], [[row[0], at % 3, 1, at % 2] for at, row in enumerate(rows)]
    elif form == "annotators":
        header, rows = ["path", "label", "rater"], [[rows[at // 2][0], LABELS[at % 3], at % 2] for at in range(12)]
    expected, before = inspect("table", write(root, [header, *rows]), dataset="own")
    table, report = inspect("table", write(root, [header, *(rows[at] for at in order)]), dataset="own")
    pd.testing.assert_frame_equal(table, expected)
    assert report.counts == before.counts
    assert [finding.code for finding in report.findings] == [finding.code for finding in before.findings]


def test_twenty_thousand_clips_in_seconds(tmp_path: Path) -> None:
    rows = [
        ["path", "label", "subject"],
        *([f"{n % 50}/{n}.mp4", EMOTIONS[n % 7], f"s{n % 500}"] for n in range(20_000)),
    ]
    for folder in range(50):
        (tmp_path / str(folder)).mkdir()
    for row in rows[1:5001]:
        (tmp_path / str(row[0])).touch()
    write(tmp_path, rows)
    began = time.perf_counter()
    table, report = check(tmp_path, {"missing_clips": 15_000, "not_compared": 1} | BY_SUBJECT)
    assert time.perf_counter() - began < 10
    assert report.classes == EMOTIONS
    assert table.groupby("subject")["fold"].nunique().eq(1).all()
