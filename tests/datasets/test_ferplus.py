from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pandas as pd
import pytest
from layout_factories import FERPLUS_PARTS, ferplus_rows, fill, write_ferplus, write_list

from dfer.datasets import IngestReport, inspect, load_clips
from dfer.datasets.ferplus import OFFICIAL_SIZES, RULES
from dfer.datasets.ferplus_votes import CLASSES
from dfer.datasets.protocol import part
from dfer.datasets.table import read, validate, write
from dfer.labels import classes_of

TRAIN, VAL, TEST = FERPLUS_PARTS.values()
Rows = dict[str, list[list[object]]]


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts, and a table that is valid."""
    table, report = inspect("ferplus", root, **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    validate(table)
    assert classes_of(table) == CLASSES
    return table, report


def with_votes(root: Path, *votes: int, **choices: str) -> tuple[pd.Series, list[str]]:
    """The row of a picture with these votes, and the codes of the findings."""
    rows = ferplus_rows()
    rows["train"][0][1:] = votes
    table, report = inspect("ferplus", write_ferplus(root, rows), **choices)
    validate(table)
    assert classes_of(table) == CLASSES
    return table.set_index("clip_id").loc["ferplus/fer0000000"], [finding.code for finding in report.findings]


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    table, report = check(write_ferplus(tmp_path), {})
    assert CLASSES == ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
    assert report.classes == CLASSES
    row = table.set_index("clip_id").loc["ferplus/fer0000003"]
    assert row["source"] == f"{TRAIN}/fer0000003.png"
    assert row["votes"] == (0, 0, 0, 8, 2, 0, 0, 0)
    assert (row["label"], row["split"], row["num_frames"]) == (CLASSES.index("sad"), "train", 1)
    status = (tmp_path / row["source"]).stat()
    assert (row["source_size"], row["source_mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert table["fold"].isna().all()
    assert report.counts == {
        "listed": 32,
        "missing": 0,
        "left_out": 0,
        "clips": 32,
        "without_single_label": 0,
        "clips_per_split": {"train": 16, "val": 8, "test": 8},
        "labels": dict.fromkeys(CLASSES, 4),
    }
    lists = [f"{folder}/label.csv" for folder in FERPLUS_PARTS.values()]
    assert report.lists == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in lists}
    assert [len(part(table, fold=None, part=name)) for name in ("train", "test")] == [16, 8]
    pd.testing.assert_frame_equal(load_clips("ferplus", tmp_path), table)
    write(table, tmp_path / "clips.parquet")
    pd.testing.assert_frame_equal(read(tmp_path / "clips.parquet"), table)


@pytest.mark.parametrize(
    ("votes", "label", "seen", "codes"),
    [
        ((4, 2, 0, 0, 0, 0, 0, 0, 3, 1), "neutral", (4, 2, 0, 0, 0, 0, 0, 0), ["unknown_votes"]),
        ((5, 5, 0, 0, 0, 0, 0, 0, 0, 0), None, (5, 5, 0, 0, 0, 0, 0, 0), []),
        ((0, 4, 1, 0, 0, 0, 0, 0, 4, 1), None, (0, 4, 1, 0, 0, 0, 0, 0), ["unknown_votes"]),
        ((0, 3, 2, 0, 0, 0, 0, 0, 4, 1), None, None, ["no_emotion", "unknown_votes"]),
        ((0, 3, 2, 0, 0, 0, 0, 0, 1, 4), None, None, ["no_emotion", "unknown_votes"]),
        ((0, 0, 0, 0, 0, 0, 0, 0, 5, 5), None, None, ["no_emotion", "unknown_votes"]),
        ((0, 0, 0, 0, 0, 0, 0, 9, 0, 0), "contempt", (0, 0, 0, 0, 0, 0, 0, 9), ["votes_total"]),
    ],
)
def test_unknown_and_not_a_face_may_win_but_are_no_class(
    tmp_path: Path, votes: tuple[int, ...], label: str | None, seen: tuple[int, ...] | None, codes: list[str]
) -> None:
    row, found = with_votes(tmp_path, *votes)
    assert (None if pd.isna(row["label"]) else CLASSES[row["label"]]) == label
    assert row["votes"] == seen
    assert sorted(found) == codes


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ((4, 2, 0, 0, 0, 0, 0, 0, 1, 1), "neutral"),  # 4 of 6
        ((4, 1, 1, 1, 1, 1, 1, 0, 0, 0), "neutral"),  # 4 of 4
        ((4, 4, 1, 1, 0, 0, 0, 0, 0, 0), None),
        ((4, 2, 2, 0, 0, 0, 0, 0, 1, 1), None),  # 4 of 8
        ((4, 2, 0, 0, 0, 0, 0, 0, 3, 1), None),  # 4 of 9
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), None),
        ((0, 0, 2, 1, 1, 1, 0, 0, 3, 2), None),
    ],
)
def test_a_majority_is_what_the_authors_call_one(tmp_path: Path, votes: tuple[int, ...], label: str | None) -> None:
    row, _ = with_votes(tmp_path, *votes, source="majority")
    assert (None if pd.isna(row["label"]) else CLASSES[row["label"]]) == label
    if label:
        assert row["votes"] == votes[:8]


def test_the_first_lists_have_a_face_box_and_other_votes(tmp_path: Path) -> None:
    expected, _ = check(write_ferplus(tmp_path), {})
    for split, rows in ferplus_rows().items():
        write_list(
            tmp_path / FERPLUS_PARTS[split] / "label.csv", [[row[0], "(0, 0, 48, 48)", *row[1:]] for row in rows]
        )
    table, report = check(tmp_path, {"older_votes": 3})
    pd.testing.assert_frame_equal(table, expected)
    assert "dfer ferplus-pictures" in report.as_text()


def change(**cells: object) -> Callable[[Path, Rows], None]:
    """Some cells of the first row for training."""

    def make(root: Path, rows: Rows) -> None:
        for column, value in cells.items():
            rows["train"][0][0 if column == "name" else int(column[1:])] = value

    return make


def again(split: str, **cells: object) -> Callable[[Path, Rows], None]:
    """The first row for training a second time, in a list, with changed votes."""

    def make(root: Path, rows: Rows) -> None:
        row = list(rows["train"][0])
        for column, value in cells.items():
            row[int(column[1:])] = value
        rows[split].append(row)

    return make


@pytest.mark.parametrize(
    ("make", "expected", "clips"),
    [
        (change(name="../fer0000000.png"), {"bad_name": 1, "unlisted_pictures": 1}, 31),
        (change(name="fer١٢٣٤٥٦٧.png"), {"bad_name": 1, "unlisted_pictures": 1}, 31),
        (change(v3=-1), {"bad_votes": 1, "unlisted_pictures": 1}, 31),
        (change(v3="0.5"), {"bad_votes": 1, "unlisted_pictures": 1}, 31),
        (change(v1=0, v2=0), {"votes_all_zero": 1, "unlisted_pictures": 1}, 31),
        (lambda root, rows: rows["train"][0].pop(), {"bad_row": 1, "unlisted_pictures": 1}, 31),
        (lambda root, rows: rows["train"].append([]), {}, 32),
        (again("train"), {"listed_twice": 1}, 32),
        (again("train", v1=2, v2=8), {"listed_twice_differently": 1}, 32),
        (again("test"), {"in_two_lists": 1, "missing_pictures": 1}, 32),
        (lambda root, rows: rows["val"].pop(), {"unlisted_pictures": 1}, 31),
    ],
)
def test_what_is_wrong_with_a_list(
    tmp_path: Path, make: Callable[[Path, Rows], None], expected: dict[str, int], clips: int
) -> None:
    write_ferplus(tmp_path)
    rows = ferplus_rows()
    make(tmp_path, rows)
    for split, listed in rows.items():
        write_list(tmp_path / FERPLUS_PARTS[split] / "label.csv", listed)
    table, report = check(tmp_path, expected)
    assert len(table) == clips
    assert report.fatal == any(RULES[code][0] == "error" for code in expected)
    if "listed_twice_differently" in expected:
        row = table.set_index("clip_id").loc["ferplus/fer0000000"]
        assert row["votes"] is None
        assert pd.isna(row["label"])


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (write_ferplus(tmp_path) / TRAIN / "label.csv").write_bytes(b"fer0000000.png,\xff\xfe\n")
    _, report = check(tmp_path, {"list_unreadable": 1, "unlisted_pictures": 16})
    assert report.fatal


def test_what_is_wrong_with_the_folders(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path / "set")
    (root / TRAIN / "fer0000000.png").unlink()
    (root / TRAIN / "notes.txt").touch()
    (root / TRAIN / "fer0000001.jpg").write_bytes(b"x")
    (root / VAL / "extra.png").write_bytes(b"x")
    expected = {"missing_pictures": 1, "duplicate_source": 1, "other_files": 1, "unlisted_pictures": 1}
    table, report = check(root, expected | {"undecodable_pictures": 1})
    assert report.fatal
    assert table.set_index("clip_id").loc["ferplus/fer0000000", "source_size"] == -1
    (root / TRAIN / "fer0000001.jpg").unlink()
    (root / VAL / "label.csv").unlink()
    (root / TEST).rename(tmp_path / "test")
    _, report = check(root, {"missing_pictures": 1, "other_files": 1, "list_missing": 1, "part_missing": 1})
    assert report.fatal


def test_pictures_in_two_parts_are_found_by_their_pixels(tmp_path: Path) -> None:
    """fer0000000 to 15 are for training, 16 to 23 for validation, 24 to 31 for the test."""

    def copy(source: str, target: str, **options: int) -> None:
        picture = cv2.imread(str(tmp_path / source), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tmp_path / target), picture, *([[cv2.IMWRITE_PNG_COMPRESSION, 0]] if options else []))

    write_ferplus(tmp_path)
    copy(f"{TEST}/fer0000030.png", f"{TRAIN}/fer0000002.png", compressed=0)  # other bytes, the same pixels
    copy(f"{TEST}/fer0000031.png", f"{TRAIN}/fer0000003.png")
    copy(f"{TEST}/fer0000031.png", f"{VAL}/fer0000016.png")
    copy(f"{VAL}/fer0000017.png", f"{TRAIN}/fer0000004.png")
    copy(f"{TRAIN}/fer0000005.png", f"{TRAIN}/fer0000006.png")
    for name in ("fer0000007", "fer0000008"):
        (tmp_path / TRAIN / f"{name}.png").write_bytes(b"")
    for name in ("fer0000025", "fer0000026"):
        (tmp_path / TEST / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    table, report = check(tmp_path, {"in_two_parts": 4, "pixels_twice": 1, "undecodable_pictures": 4})
    assert not report.fatal
    left_out = {"fer0000002", "fer0000003", "fer0000016", "fer0000004"}
    everything = {f"fer{number:07d}" for number in range(32)}
    assert set(table["clip_id"].str.removeprefix("ferplus/")) == everything - left_out
    assert (report.counts["listed"], report.counts["left_out"], report.counts["clips"]) == (32, 4, 28)
    assert report.counts["clips_per_split"] == {"train": 13, "val": 7, "test": 8}
    examples = next(finding.examples for finding in report.findings if finding.code == "in_two_parts")
    assert f"{TRAIN}/fer0000002.png and {TEST}/fer0000030.png" in examples


def test_pictures_as_text_have_to_be_written_first(tmp_path: Path) -> None:
    root = tmp_path / "FER 2013"
    fill(root, ["fer2013.csv", "fer2013new.csv"])
    _, report = check(root, {"pictures_as_text": 1})
    assert report.fatal
    assert f"run: dfer ferplus-pictures '{root}'" in report.as_text()


def test_the_whole_set_is_read_in_seconds(tmp_path: Path) -> None:
    """As many rows as the official lists have, and an empty file in place of every picture."""
    for split, rows in ferplus_rows(**OFFICIAL_SIZES).items():
        folder = tmp_path / FERPLUS_PARTS[split]
        write_list(folder / "label.csv", rows)
        fill(folder, [str(row[0]) for row in rows], b"")
    began = time.perf_counter()
    table, report = check(tmp_path, {"undecodable_pictures": 35710})
    assert time.perf_counter() - began < 20
    assert len(table) == report.counts["clips"] == 35710
    assert report.counts["clips_per_split"] == OFFICIAL_SIZES


def test_numbers_that_are_not_the_official_ones_are_noted(tmp_path: Path) -> None:
    for split, rows in ferplus_rows(**OFFICIAL_SIZES | {"train": 1, "test": 3572}).items():
        write_list(tmp_path / FERPLUS_PARTS[split] / "label.csv", rows)
    _, report = check(tmp_path, {"missing_pictures": 7152, "official_counts": 2})
    assert "train: 1 instead of 28558; test: 3572 instead of 3573" in report.as_text()


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path / "set")
    for name in ("fer0000000.png", "label.csv"):
        (root / TRAIN / name).rename(tmp_path / name)
        (root / TRAIN / name).symlink_to(tmp_path / name)
    table, report = check(root, {"outside_root": 2})
    assert report.fatal
    assert not table["split"].eq("train").any()


@pytest.mark.parametrize("given", [f"set/{TRAIN}", ""])
def test_a_root_on_the_wrong_level(tmp_path: Path, given: str) -> None:
    write_ferplus(tmp_path / "set")
    _, report = check(tmp_path / given, {"wrong_root": 1})
    assert f"Did you mean {tmp_path / 'set'}?" in report.as_text()


def test_an_unknown_source_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of most-votes, majority"):
        inspect("ferplus", tmp_path, source="votes")


def test_every_rule_says_what_it_means() -> None:
    assert all(message and severity in ("error", "warning", "note") for severity, message in RULES.values())
