from __future__ import annotations

import os
import re
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from layout_factories import HEADER, Dfew, fill, fold_list, votes_for, write_annotation, write_list

from dfer.datasets import IngestError, IngestReport, inspect, load_clips
from dfer.datasets.dfew import OFFICIAL_TEST_SIZES, RULES
from dfer.datasets.dfew_lists import clip_number
from dfer.datasets.table import validate
from dfer.labels import EMOTIONS


def severities(report: IngestReport) -> dict[str, str]:
    return {finding.code: finding.severity for finding in report.findings}


def count(report: IngestReport, code: str) -> int:
    return sum(finding.count for finding in report.findings if finding.code == code)


def text_of(report: IngestReport, code: str) -> str:
    return next(f"{f.message} {' '.join(f.examples)}" for f in report.findings if f.code == code)


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts, and a table that is valid."""
    table, report = inspect("dfew", root, **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    validate(table)
    return table, report


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    table, report = check(Dfew().write(tmp_path), {})
    assert len(table) == 38
    assert list(table["clip_id"][:2]) == ["dfew/00001", "dfew/00002"]
    row = table.set_index("clip_id").loc["dfew/00009"]
    assert row["source"] == "Clip/original/9.mp4"
    assert row["label"] == 1
    assert row["votes"] == (0, 7, 3, 0, 0, 0, 0)
    assert row["fold"] == 4
    assert row["source_size"] == 1
    assert row["source_mtime_ns"] == (tmp_path / row["source"]).stat().st_mtime_ns
    assert table["label"].isna().sum() == 3
    assert table.loc[table["label"].isna(), "fold"].isna().all()
    assert table["split"].isna().all()
    assert report.counts == {
        "clips": 38,
        "clips_found": 38,
        "missing": 0,
        "unlisted": 0,
        "with_votes": 38,
        "without_single_label": 3,
        "single_label_but_no_fold": 0,
        "test_clips_per_fold": {str(fold): 7 for fold in range(1, 6)},
        "labels": dict.fromkeys(EMOTIONS, 5),
    }
    assert len(report.lists) == 11
    assert all(len(digest) == 64 for digest in report.lists.values())
    pd.testing.assert_frame_equal(load_clips("dfew", tmp_path), table)


@pytest.mark.parametrize("fold_folder", ["{}(single_labeled)", "{} (single-labeled)", "{}(single-labeled)"])
def test_the_fold_folders_spellings(tmp_path: Path, fold_folder: str) -> None:
    check(Dfew().write(tmp_path, fold_folder=fold_folder), {})


def test_two_spellings_at_once(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    Dfew().write(tmp_path, fold_folder="{}(single_labeled)")
    check(tmp_path, {"fold_folder_twice": 2})


def test_padded_names_and_upper_case_suffixes(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.clips = [f"{number:05d}.MP4" for number in dfew.labels]
    table, _ = check(dfew.write(tmp_path), {})
    assert table["source"].iloc[0] == "Clip/original/00001.MP4"


def test_another_name_for_the_set(tmp_path: Path) -> None:
    table, report = check(Dfew().write(tmp_path), {}, dataset="demo-dfew")
    assert set(table["dataset"]) == {"demo-dfew"}
    assert table["clip_id"].iloc[0] == "demo-dfew/00001"
    assert report.dataset == "demo-dfew"


def test_blank_lines_and_a_byte_order_mark_are_harmless(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    path = fold_list(tmp_path, "test", 1)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n\r\n")
    write_annotation(tmp_path, [HEADER, *Dfew().rows, [None] * 9])
    check(tmp_path, {})


@pytest.mark.parametrize(
    "header",
    [
        ["Happy", "Sadness", "neutral", "Anger", "Surprised", "Disgust", "Fear", "video_name", "annotation"],
        ["1 happy", "2 sad", "3 neutral", "4 angry", "5 surprise", "6 disgust", "7 fear", "clip name", "Label"],
    ],
)
def test_the_annotations_column_names_are_matched_loosely(tmp_path: Path, header: list[str]) -> None:
    check(Dfew(header=header).write(tmp_path), {})


def test_a_wrong_extent_in_the_workbook_hides_no_row(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    path = tmp_path / "Annotation" / "annotation.xlsx"
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    assert b"<sheetData>" in sheet
    sheet = re.sub(rb"<dimension[^>]*>", b"", sheet)
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b"<sheetData>", b'<dimension ref="A1:C3"/><sheetData>')
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content)
    check(tmp_path, {})


def test_columns_are_found_by_name_not_by_place(tmp_path: Path) -> None:
    dfew = Dfew()
    expected, _ = check(dfew.write(tmp_path / "a"), {})
    dfew.header = HEADER[::-1]
    dfew.rows = [row[::-1] for row in dfew.rows]
    table, _ = check(dfew.write(tmp_path / "b"), {})
    pd.testing.assert_frame_equal(table.drop(columns="source_mtime_ns"), expected.drop(columns="source_mtime_ns"))


@pytest.mark.parametrize("source", ["clip_224x224", "clip_224x224_16f"])
def test_frame_folders(tmp_path: Path, source: str) -> None:
    Dfew().write(tmp_path)
    for number in range(1, 39):
        fill(tmp_path / "Clip" / source / f"{number:05d}", ["1.jpg", "2.JPG", "10.png"], b"1234")
    fill(tmp_path / "Clip" / source / "00007", ["notes.txt", "._1.jpg"])
    os.utime(tmp_path / "Clip" / source / "00003" / "2.JPG", ns=(1, 4 * 10**18))
    table, _ = check(tmp_path, {}, source=source)
    assert table["source"].iloc[6] == f"Clip/{source}/00007"
    assert (table["num_frames"] == 3).all()
    assert (table["source_size"] == 12).all()
    assert table["source_mtime_ns"].iloc[2] == 4 * 10**18


def test_aligned_videos(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    fill(tmp_path / "Clip" / "clip_224x224_avi", [f"{number:05d}.avi" for number in range(1, 38)])
    table, _ = check(tmp_path, {"missing_clips": 1}, source="clip_224x224_avi")
    assert table["source"].iloc[-1] == "Clip/clip_224x224_avi/00038.avi"
    assert table["num_frames"].isna().all()


def test_clips_that_are_missing_stay_in_the_table(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.clips.remove("12.mp4")
    table, report = check(dfew.write(tmp_path), {"missing_clips": 1})
    assert severities(report) == {"missing_clips": "warning"}
    row = table.set_index("clip_id").loc["dfew/00012"]
    assert (row["source"], row["source_size"], row["source_mtime_ns"]) == ("Clip/original/12.mp4", -1, -1)
    assert len(load_clips("dfew", tmp_path)) == 38


def test_clips_in_no_list_and_files_that_are_no_clip(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.clips += ["40.mp4", "41.mp4", "notes.txt", "trailer.mp4", ".DS_Store", "._1.mp4"]
    table, report = check(dfew.write(tmp_path), {"unlisted_clips": 2, "other_files": 2})
    assert set(severities(report).values()) == {"note"}
    assert len(table) == 38
    assert report.counts["unlisted"] == 2
    assert report.counts["clips_found"] == 40


def test_a_clip_that_is_there_twice(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.clips.append("00005.mp4")
    _, report = check(dfew.write(tmp_path), {"duplicate_source": 1})
    assert report.fatal
    with pytest.raises(IngestError, match=r"00005\.mp4 and Clip/original/5\.mp4") as raised:
        load_clips("dfew", tmp_path)
    assert raised.value.report == report


def test_without_annotation_there_are_hard_labels_only(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    (tmp_path / "Annotation" / "annotation.xlsx").unlink()
    table, report = check(tmp_path, {"annotation_missing": 1, "unlisted_clips": 3})
    assert severities(report)["annotation_missing"] == "warning"
    assert len(table) == 35
    assert table["votes"].isna().all()
    assert list(table["label"][:7]) == list(range(7))


@pytest.mark.parametrize("content", [b"", b"no workbook", b"PK\x03\x04 cut off"])
def test_an_annotation_that_is_no_workbook(tmp_path: Path, content: bytes) -> None:
    Dfew().write(tmp_path)
    (tmp_path / "Annotation" / "annotation.xlsx").write_bytes(content)
    _, report = check(tmp_path, {"list_unreadable": 1, "unlisted_clips": 3})
    assert report.fatal


def test_an_encrypted_annotation(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    path = tmp_path / "Annotation" / "annotation.xlsx"
    content = bytearray(path.read_bytes())
    for start in (found.start() for found in re.finditer(rb"PK\x01\x02", content)):
        content[start + 8] |= 1
    path.write_bytes(content)
    _, report = check(tmp_path, {"list_unreadable": 1, "unlisted_clips": 3})
    assert "encrypted" in text_of(report, "list_unreadable")


@pytest.mark.parametrize("column", [2, 7, 8])
def test_an_annotation_without_a_column(tmp_path: Path, column: int) -> None:
    header = [title if place != column else "x" for place, title in enumerate(HEADER)]
    _, report = check(Dfew(header=header).write(tmp_path), {"list_columns": 1, "unlisted_clips": 3})
    assert f"0 for {['neutral', 'clip', 'label'][[2, 7, 8].index(column)]}" in text_of(report, "list_columns")


def test_an_annotation_with_a_vote_column_twice(tmp_path: Path) -> None:
    header = ["happy", "happiness", *HEADER[2:]]
    _, report = check(Dfew(header=header).write(tmp_path), {"list_columns": 1, "unlisted_clips": 3})
    assert "0 for sad" in text_of(report, "list_columns") or "2 for happy" in text_of(report, "list_columns")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/1", "1/2", "clip", "-3", "1.5", None, "12 34", "١٢", "9" * 5000]
)
def test_names_that_are_no_number_are_refused(tmp_path: Path, name: str | None) -> None:
    dfew = Dfew()
    dfew.rows.append([*votes_for(1), name, 1])
    table, report = check(dfew.write(tmp_path), {"bad_clip_name": 1})
    assert report.fatal
    assert len(table) == 38
    if name is not None:
        path = fold_list(tmp_path, "test", 2)
        path.write_text(f"{path.read_text(encoding='utf-8')}{name},1\n", encoding="utf-8")
        table, _ = check(tmp_path, {"bad_clip_name": 2})
        assert len(table) == 38


@pytest.mark.parametrize(
    ("name", "number"), [(17, 17), ("17", 17), (" 00017 ", 17), (17.0, 17), (17.5, None), (True, None), ("", None)]
)
def test_clip_numbers(name: object, number: int | None) -> None:
    assert clip_number(name) == number


@pytest.mark.parametrize(
    ("votes", "findings"),
    [
        ([7, 2, 0, 0, 0, 0, 0], {"votes_total": 1}),
        ([0, 0, 0, 0, 0, 0, 0], {"votes_all_zero": 1}),
        ([11, -1, 0, 0, 0, 0, 0], {"bad_votes": 1}),
        ([9.5, 0.5, 0, 0, 0, 0, 0], {"bad_votes": 1}),
        ([None, 10, 0, 0, 0, 0, 0], {"bad_votes": 1}),
        (["ten", 0, 0, 0, 0, 0, 0], {"bad_votes": 1}),
        ([4, 6, 0, 0, 0, 0, 0], {"label_not_top_vote": 1}),
        ([5, 5, 0, 0, 0, 0, 0], {}),
        (["10", 0.0, 0, 0, 0, 0, 0], {}),
    ],
)
def test_votes(tmp_path: Path, votes: list[object], findings: dict[str, int]) -> None:
    dfew = Dfew()
    dfew.rows[0][:7] = votes
    _, report = check(dfew.write(tmp_path), findings)
    assert report.fatal == bool(set(findings) & {"votes_all_zero", "bad_votes"})


def test_labels_that_contradict_most_votes_are_an_error(tmp_path: Path) -> None:
    dfew = Dfew(header=[*HEADER[3:7], *HEADER[:3], *HEADER[7:]])
    _, report = check(dfew.write(tmp_path), {"labels_contradict_votes": 35})
    assert report.fatal


@pytest.mark.parametrize("label", [8, -1, "happy", None, 1.5])
def test_annotation_labels_that_are_none(tmp_path: Path, label: object) -> None:
    dfew = Dfew()
    dfew.rows[0][8] = label
    _, report = check(dfew.write(tmp_path), {"bad_label": 1, "fold_label_differs": 1})
    assert report.fatal


@pytest.mark.parametrize("label", ["8", "", "happy", "-1"])
def test_fold_labels_that_are_none(tmp_path: Path, label: str) -> None:
    Dfew().write(tmp_path)
    path = fold_list(tmp_path, "train", 1)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:-1], f"{lines[-1].split(',')[0]},{label}"]), encoding="utf-8")
    check(tmp_path, {"bad_label": 1, "train_list_differs": 1})


def test_fold_lists_that_count_from_zero_are_refused(tmp_path: Path) -> None:
    table, report = check(Dfew().write(tmp_path, base=0), {"label_base": 10})
    assert report.fatal
    assert table["fold"].isna().all()


def test_an_annotation_that_counts_from_zero_is_refused(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.rows = [[*votes_for(label), number, label - 1] for number, label in dfew.labels.items() if label]
    dfew.clips = dfew.clips[:35]
    table, report = check(dfew.write(tmp_path), {"label_base": 1})
    assert report.fatal
    assert list(table["label"]) == [(number - 1) % 7 for number in range(1, 36)]


def test_labels_that_are_words_are_named_so(tmp_path: Path) -> None:
    dfew = Dfew()
    for row in dfew.rows:
        row[8] = EMOTIONS[row[8] - 1] if row[8] else "Neutral"
    _, report = check(dfew.write(tmp_path), {"labels_are_words": 1, "bad_label": 38, "fold_label_differs": 35})
    assert "1 happy, 2 sad" in text_of(report, "labels_are_words")
    for path in tmp_path.glob("EmoLabel_DataSplit/test*/*.csv"):
        lines = path.read_text(encoding="utf-8").splitlines()
        words = (f"{line.split(',')[0]},{EMOTIONS[int(line.split(',')[1]) - 1]}" for line in lines[1:])
        path.write_text("\n".join([lines[0], *words]), encoding="utf-8")
    _, report = inspect("dfew", tmp_path)
    assert next(finding.count for finding in report.findings if finding.code == "labels_are_words") == 6


def test_formulas_whose_value_is_not_stored_are_named_so(tmp_path: Path) -> None:
    """As openpyxl and pandas write them: only a program that computes stores what they come to."""
    dfew = Dfew()
    for line, row in enumerate(dfew.rows, start=2):
        row[8] = f"=MATCH(MAX(A{line}:G{line}),A{line}:G{line},0)"
    _, report = check(dfew.write(tmp_path), {"formulas_without_value": 38, "bad_label": 38, "fold_label_differs": 35})
    assert "annotation.xlsx I2: =MATCH(" in text_of(report, "formulas_without_value")


@pytest.mark.parametrize(
    ("title", "values", "findings"),
    [
        ("8contempt", range(4), {"more_votes": 1}),
        ("other", ["0", "1"], {"more_votes": 1}),
        ("sum", [10], {}),  # of the seven votes
        ("seconds", [2.5], {}),
        ("frames", range(38), {}),
        ("comment", ["none"], {}),
        (None, range(4), {}),
    ],
)
def test_a_column_of_votes_for_an_eighth_class_is_not_dropped_without_a_word(
    tmp_path: Path, title: str | None, values: Sequence[object], findings: dict[str, int]
) -> None:
    dfew = Dfew(header=[*HEADER, title])
    for place, row in enumerate(dfew.rows):
        row.append(values[place % len(values)])
    _, report = check(dfew.write(tmp_path), findings)
    assert not report.fatal
    assert not findings or title in text_of(report, "more_votes")


def test_the_sheet_that_people_see_is_read(tmp_path: Path) -> None:
    expected, _ = check(Dfew().write(tmp_path), {})
    path = tmp_path / "Annotation" / "annotation.xlsx"
    book = openpyxl.load_workbook(path)
    book.create_sheet("old", 0).append(["not", "these"])
    book.worksheets[0].sheet_state = "hidden"
    book.save(path)
    pd.testing.assert_frame_equal(check(tmp_path, {})[0], expected)


def test_a_sample_without_a_fear_clip_is_not_ambiguous_as_its_votes_tell(tmp_path: Path) -> None:
    labels = {number: (number - 1) % 6 + 1 for number in range(1, 31)} | {31: 0}
    table, _ = check(Dfew(labels=labels).write(tmp_path), {})
    assert table["label"].dropna().value_counts().to_dict() == dict.fromkeys(range(6), 5)


def test_rows_that_are_listed_twice(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.rows.append(list(dfew.rows[3]))
    dfew.write(tmp_path)
    path = fold_list(tmp_path, "test", 1)
    path.write_text(f"{path.read_text(encoding='utf-8')}1,1\n", encoding="utf-8")
    table, report = check(tmp_path, {"listed_twice": 2})
    assert len(table) == 38
    assert not report.fatal
    path.write_text(f"{path.read_text(encoding='utf-8')}1,2\n", encoding="utf-8")
    _, report = check(tmp_path, {"listed_twice": 2, "listed_twice_differently": 1})
    assert report.fatal
    dfew.rows.append([*votes_for(6), *dfew.rows[3][7:]])
    check(dfew.write(tmp_path), {"listed_twice": 1, "listed_twice_differently": 1})


def test_a_clip_that_two_folds_test_on(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.tests[2].append(dfew.tests[1][0])
    _, report = check(dfew.write(tmp_path), {"two_test_folds": 1, "train_list_differs": 1})
    assert "clip 1: folds 1 and 2" in text_of(report, "two_test_folds")
    assert report.fatal


def test_a_train_list_that_is_not_the_other_folds(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.trains[3] = [*dfew.trains[3][2:], dfew.tests[3][0]]
    _, report = check(dfew.write(tmp_path), {"train_list_differs": 1})
    assert "set_3: 2 clips missing, 1 too many, 1 of them in its own test list" in text_of(report, "train_list_differs")
    assert report.fatal


def test_fold_lists_that_disagree_on_a_label(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.write(tmp_path)
    rows = [(number, dfew.labels[number]) for number in dfew.trains[5]]
    write_list(fold_list(tmp_path, "train", 5), [("video_name", "label"), (rows[0][0], 7), *rows[1:]])
    _, report = check(tmp_path, {"fold_labels_differ": 1})
    assert "clip 1: happy and fear" in text_of(report, "fold_labels_differ")


def test_fold_labels_that_differ_from_the_annotations(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.rows[0] = [*votes_for(2), 1, 2]
    dfew.rows[1] = [*votes_for(0), 2, 0]
    _, report = check(dfew.write(tmp_path), {"fold_label_differs": 2})
    text = text_of(report, "fold_label_differs")
    assert "clip 1: happy in the folds, sad in the annotation" in text
    assert "clip 2: sad in the folds, none in the annotation" in text


def test_clips_of_the_folds_that_the_annotation_lacks(tmp_path: Path) -> None:
    dfew = Dfew()
    del dfew.rows[4]
    table, report = check(dfew.write(tmp_path), {"not_in_annotation": 1})
    assert severities(report) == {"not_in_annotation": "warning"}
    row = table.set_index("clip_id").loc["dfew/00005"]
    assert row["votes"] is None
    assert row["label"] == 4


def test_a_single_label_without_a_fold_is_counted(tmp_path: Path) -> None:
    dfew = Dfew()
    dfew.rows[-1] = [*votes_for(7), 38, 7]
    _, report = check(dfew.write(tmp_path), {})
    assert report.counts["single_label_but_no_fold"] == 1
    assert report.counts["without_single_label"] == 2


def test_missing_folds_are_named(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    fold_list(tmp_path, "test", 4).unlink()
    _, report = check(tmp_path, {"folds_missing": 1})
    assert "EmoLabel_DataSplit/test(single-labeled)/set_4.csv" in text_of(report, "folds_missing")
    assert report.fatal


def test_no_folds_at_all(tmp_path: Path) -> None:
    fill(tmp_path / "Clip" / "original", Dfew().clips)
    write_annotation(tmp_path, [HEADER, *Dfew().rows])
    _, report = check(tmp_path, {"folds_missing": 10})
    assert "and 5 more" in report.as_text()


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "list_columns"), (b"1,2\n", "list_columns"), (b"video_name,label\n\xff\xfe,1\n", "list_unreadable")],
)
def test_fold_lists_that_are_none(tmp_path: Path, content: bytes, code: str) -> None:
    Dfew().write(tmp_path)
    fold_list(tmp_path, "train", 2).write_bytes(content)
    check(tmp_path, {code: 1})


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = Dfew().write(tmp_path / "dfew")
    fill(tmp_path / "elsewhere", ["1.mp4"])
    clip = root / "Clip" / "original" / "1.mp4"
    clip.unlink()
    clip.symlink_to(tmp_path / "elsewhere" / "1.mp4")
    table, report = check(root, {"outside_root": 1, "missing_clips": 1})
    assert report.fatal
    assert table["source_size"].iloc[0] == -1


def test_links_inside_the_root_are_followed_and_broken_ones_are_missing(tmp_path: Path) -> None:
    root = Dfew().write(tmp_path / "real")
    fill(root / "store", ["one"], b"12345")
    for number, target in ((1, "one"), (2, "nothing")):
        clip = root / "Clip" / "original" / f"{number}.mp4"
        clip.unlink()
        clip.symlink_to(root / "store" / target)
    link = tmp_path / "link"
    link.symlink_to(root)
    table, _ = check(link, {"missing_clips": 1, "other_files": 1})
    assert list(table["source_size"][:3]) == [5, -1, 1]


def test_a_link_to_itself_is_as_broken_as_one_to_nothing(tmp_path: Path) -> None:
    root = Dfew().write(tmp_path)
    for path in (root / "Clip" / "original" / "1.mp4", root / "Clip" / "other", root / "loop"):
        path.unlink(missing_ok=True)
        path.symlink_to(path.name)
    check(root, {"missing_clips": 1, "other_files": 1})


@pytest.mark.parametrize("linked", ["Annotation/annotation.xlsx", "EmoLabel_DataSplit/test(single-labeled)/set_1.csv"])
def test_lists_that_link_out_of_the_root(tmp_path: Path, linked: str) -> None:
    root = Dfew().write(tmp_path / "dfew")
    (root / linked).rename(tmp_path / "away")
    (root / linked).symlink_to(tmp_path / "away")
    _, report = inspect("dfew", root)
    assert severities(report)["outside_root"] == "error"
    assert linked in text_of(report, "outside_root")


def test_frame_folders_and_frames_that_link_out_of_the_root(tmp_path: Path) -> None:
    root = Dfew().write(tmp_path / "dfew")
    for number in range(1, 39):
        fill(root / "Clip" / "clip_224x224" / f"{number:05d}", ["1.jpg"])
    fill(tmp_path / "elsewhere", ["1.jpg"])
    (root / "Clip" / "clip_224x224" / "00002" / "2.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    (root / "Clip" / "clip_224x224" / "00040").symlink_to(tmp_path / "elsewhere")
    _, report = check(root, {"outside_root": 2, "missing_clips": 1}, source="clip_224x224")
    assert "Clip/clip_224x224/00002/2.jpg Clip/clip_224x224/00040" in text_of(report, "outside_root")


def test_a_root_that_does_not_exist(tmp_path: Path) -> None:
    fill(tmp_path / "DFEW-part1", ["x"])
    _, report = check(tmp_path / "dfew" / "deeper", {"root_missing": 1})
    assert "DFEW-part1/" in text_of(report, "root_missing")
    assert report.fatal


@pytest.mark.parametrize(("given", "meant"), [("set/Clip", "set"), ("set/Clip/original", "set"), ("", "set")])
def test_a_root_on_the_wrong_level(tmp_path: Path, given: str, meant: str) -> None:
    Dfew().write(tmp_path / "set")
    _, report = check(tmp_path / given, {"wrong_root": 1})
    assert f"Did you mean {tmp_path / meant}?" in text_of(report, "wrong_root")


def test_a_root_that_is_something_else(tmp_path: Path) -> None:
    fill(tmp_path, ["a.txt"])
    _, report = check(tmp_path, {"wrong_root": 1})
    assert "found there: a.txt" in text_of(report, "wrong_root")
    _, report = check(tmp_path / "a.txt", {"wrong_root": 1})
    assert "is a file" in text_of(report, "wrong_root")


def test_the_chosen_source_is_not_there(tmp_path: Path) -> None:
    Dfew().write(tmp_path)
    _, report = check(tmp_path, {"clips_missing": 1}, source="clip_224x224")
    assert "Usable as source: original" in text_of(report, "clips_missing")


def test_no_clips_folder(tmp_path: Path) -> None:
    write_annotation(tmp_path, [HEADER, *Dfew().rows])
    _, report = check(tmp_path, {"clips_missing": 1})
    assert "there is no Clip" in text_of(report, "clips_missing")


def test_an_unknown_source_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of original, clip_224x224"):
        inspect("dfew", tmp_path, source="clips")


def test_the_real_protocols_counts(tmp_path: Path) -> None:
    sizes = dict(enumerate(OFFICIAL_TEST_SIZES, start=1))
    numbers = iter(range(1, 16373))
    tests = {fold: [next(numbers) for _ in range(size)] for fold, size in sizes.items()}
    labels = {number: number % 7 + 1 for listed in tests.values() for number in listed}
    labels |= dict.fromkeys(range(11698, 12060), 1)
    labels |= dict.fromkeys(range(12060, 16373), 0)
    root = Dfew(labels=labels, tests=tests).write(tmp_path)
    began = time.perf_counter()
    table, report = check(root, {})
    assert time.perf_counter() - began < 20
    assert report.counts["clips"] == len(table) == 16372
    assert report.counts["test_clips_per_fold"] == {str(fold): size for fold, size in sizes.items()}
    assert report.counts["single_label_but_no_fold"] == 362
    assert report.counts["without_single_label"] == 4313
    assert table["fold"].notna().sum() == 11697


def test_other_counts_are_noted_only_for_a_full_set(tmp_path: Path) -> None:
    labels = {number: number % 7 + 1 for number in range(1, 1001)}
    _, report = check(Dfew(labels=labels).write(tmp_path), {"official_counts": 5})
    assert severities(report) == {"official_counts": "note"}
    assert "fold 1: 200 instead of 2341" in text_of(report, "official_counts")


def test_every_rule_says_what_it_means() -> None:
    assert all(message and severity in ("error", "warning", "note") for severity, message in RULES.values())
