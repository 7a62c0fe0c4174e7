from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from layout_factories import (
    FERV39K_CLIPS,
    FERV39K_LISTS,
    ferv39k_lines,
    fill,
    write_ferv39k,
    write_ferv39k_list,
)

from dfer.datasets import IngestReport, inspect, load_clips
from dfer.datasets.ferv39k import OFFICIAL_SIZES, OFFICIAL_TRAIN_LABELS, RULES
from dfer.datasets.protocol import part
from dfer.datasets.table import validate
from dfer.labels import EMOTIONS


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts, and a table that is valid."""
    table, report = inspect("ferv39k", root, **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    validate(table)
    return table, report


def with_line(root: Path, line: str, split: str = "train") -> Path:
    """The set in `root`, with one more line in a list."""
    lines = ferv39k_lines()
    write_ferv39k(root, lines)
    write_ferv39k_list(root, split, [*lines[split], line])
    return root


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    table, report = check(write_ferv39k(tmp_path), {})
    assert len(table) == 42
    row = table.iloc[0]
    assert row["clip_id"] == "ferv39k/Action/Angry/0001"
    assert row["source"] == "2_ClipsforFaceCrop/Action/Angry/0001"
    assert (row["split"], row["label"], row["num_frames"], row["source_size"]) == ("train", 3, 2, 2)
    newest = max(frame.stat().st_mtime_ns for frame in (tmp_path / row["source"]).iterdir())
    assert row["source_mtime_ns"] == newest
    assert [EMOTIONS[label] for label in table["label"]] == list(table["clip_id"].str.split("/").str[2].str.lower())
    for column in ("votes", "fold", "subject"):
        assert table[column].isna().all()
    assert report.counts == {
        "clips": 42,
        "clips_found": 42,
        "missing": 0,
        "clips_per_split": {"train": 28, "test": 14},
        "labels": dict.fromkeys(EMOTIONS, 6),
    }
    assert report.lists == {
        f"{FERV39K_LISTS}/{name}": hashlib.sha256((tmp_path / FERV39K_LISTS / name).read_bytes()).hexdigest()
        for name in ("train_All.csv", "test_All.csv")
    }
    pd.testing.assert_frame_equal(load_clips("ferv39k", tmp_path), table)
    assert len(part(table, fold=None, part="train")) == 28
    assert set(part(table, fold=None, part="test")["split"]) == {"test"}


@pytest.mark.parametrize(
    ("base", "clips", "lists"),
    [
        ("FERV39k", "2_ClipsforFaceCrop", "4_setups/All_scenes"),
        (".", "2_ClipsforFaceCrop-002", "4_setups-001/All_scenes"),
        (".", "2_ClipsforFaceCrop-002/2_ClipsforFaceCrop", "4_setups/4_setups/All_scenes"),
        ("FERV39K-001", "2_clipsforfacecrop", "4_setups/All_scenes"),
        (".", "2_ClipsforFaceCrop-20230101T120000Z-002", "4_setups/All_scenes"),
    ],
)
def test_downloads_that_are_nested(tmp_path: Path, base: str, clips: str, lists: str) -> None:
    write_ferv39k(tmp_path / base, clips=clips, lists=lists)
    table, report = check(tmp_path, {}, dataset="other")
    assert len(table) == 42
    assert table["clip_id"].iloc[-1] == "other/School/Surprise/0003"
    assert (tmp_path / table["source"].iloc[-1] / "2.jpg").is_file()
    assert all((tmp_path / name).is_file() for name in report.lists)


@pytest.mark.parametrize("end", ["\r\n", "\n\n", "  \n", " \r\n\r\n"])
def test_line_ends_blank_lines_and_trailing_blanks_are_harmless(tmp_path: Path, end: str) -> None:
    lines = ferv39k_lines()
    write_ferv39k(tmp_path, lines)
    expected, _ = check(tmp_path, {})
    for split, listed in lines.items():
        write_ferv39k_list(tmp_path, split, ["\ufeff" + listed[0], *listed[1:]], end=end)
    table, _ = check(tmp_path, {})
    pd.testing.assert_frame_equal(table, expected)


def test_labels_and_folders_in_other_spellings_and_scenes_with_blanks(tmp_path: Path) -> None:
    lines = {"train": ["Talk Show/Happiness/1 happy", "Talk Show/Happiness/10 Happy"], "test": ["War/fear/2 FEAR"]}
    for name in ("Talk Show/Happiness/1", "Talk Show/Happiness/10", "War/fear/2"):
        fill(tmp_path / FERV39K_CLIPS / name, ["1.JPG", "2.png"])
    for split, listed in lines.items():
        write_ferv39k_list(tmp_path, split, listed)
    table, _ = check(tmp_path, {})
    assert list(table["clip_id"].str.removeprefix("ferv39k/")) == [
        "Talk Show/Happiness/1",
        "Talk Show/Happiness/10",
        "War/fear/2",
    ]
    assert list(table["label"]) == [0, 0, 6]
    assert list(table["num_frames"]) == [2, 2, 2]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_list_that_is_missing(tmp_path: Path, split: str) -> None:
    write_ferv39k(tmp_path)
    (tmp_path / FERV39K_LISTS / f"{split}_All.csv").unlink()
    _, report = check(tmp_path, {"list_missing": 1, "unlisted_clips": 28 if split == "train" else 14})
    assert report.fatal
    assert f"{split}_All.csv" in report.as_text()


def test_no_lists_at_all(tmp_path: Path) -> None:
    fill(tmp_path / FERV39K_CLIPS / "Action" / "Sad" / "0001", ["1.jpg"])
    _, report = check(tmp_path, {"list_missing": 2})
    assert report.fatal


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    write_ferv39k(tmp_path)
    fill(tmp_path / FERV39K_LISTS, ["test_All.csv"], b"PK\x03\x04\xff\xfe")
    _, report = check(tmp_path, {"list_unreadable": 1, "unlisted_clips": 14})
    assert report.fatal


@pytest.mark.parametrize("line", ["Action/Sad/0001,Sad", "Sad", "path label", "0001 Sad"])
def test_lines_of_another_shape(tmp_path: Path, line: str) -> None:
    _, report = check(with_line(tmp_path, line), {"bad_line": 1})
    assert report.fatal
    assert "train_All.csv line 29" in report.as_text()


@pytest.mark.parametrize(
    "name",
    [
        "../Sad/0001",
        "Action/../0001",
        "Action/Sad/..",
        "Action/Sad/.",
        "/Action/Sad/0001",
        "Action//0001",
        "Action/Sad/0001/x",
        "Action/Sad",
        "C:\\Action/Sad/0001",
        "Action/Sad/00\x0001",
    ],
)
def test_names_that_are_no_clip_are_never_used_as_a_path(tmp_path: Path, name: str) -> None:
    table, report = check(with_line(tmp_path, f"{name} Sad"), {"bad_path": 1})
    assert report.fatal
    assert len(table) == 42
    report.as_text().encode()


@pytest.mark.parametrize("line", ["Action/Sad/0009 Contempt", "Action/Contempt/0009 Sad", "Action/Sad/0009 1"])
def test_emotions_that_are_none(tmp_path: Path, line: str) -> None:
    _, report = check(with_line(tmp_path, line), {"unknown_emotion": 1})
    assert report.fatal


def test_a_label_that_contradicts_the_folder(tmp_path: Path) -> None:
    table, report = check(with_line(tmp_path, "Action/Sad/0009 Fear", "test"), {"label_contradicts_folder": 1})
    assert report.fatal
    assert "test_All.csv line 15: Action/Sad/0009 is listed as Fear" in report.as_text()
    assert len(table) == 42


def test_a_clip_twice_in_one_list_is_used_once(tmp_path: Path) -> None:
    table, report = check(with_line(tmp_path, "Action/Sad/0001 Sad"), {"listed_twice": 1})
    assert not report.fatal
    assert len(table) == 42


def test_a_clip_in_both_lists(tmp_path: Path) -> None:
    _, report = check(with_line(tmp_path, "Action/Sad/0001 Sad", "test"), {"in_both_lists": 1})
    assert report.fatal
    assert "Action/Sad/0001" in report.as_text()


def test_clips_that_are_missing_stay_in_the_table(tmp_path: Path) -> None:
    table, report = check(with_line(tmp_path, "Crime/Sad/0001 Sad"), {"missing_clips": 1})
    assert not report.fatal
    row = table.set_index("clip_id").loc["ferv39k/Crime/Sad/0001"]
    assert (row["source"], row["source_size"], row["source_mtime_ns"]) == (f"{FERV39K_CLIPS}/Crime/Sad/0001", -1, -1)
    assert report.counts["missing"] == 1


def test_a_clip_without_a_picture(tmp_path: Path) -> None:
    write_ferv39k(tmp_path)
    folder = tmp_path / FERV39K_CLIPS / "School" / "Fear" / "0003"
    for frame in folder.iterdir():
        frame.unlink()
    fill(folder, ["readme.txt"])
    table, report = check(tmp_path, {"clips_without_frames": 1})
    assert not report.fatal
    assert (table["num_frames"] == 0).sum() == 1


def test_clips_in_no_list_and_files_that_are_no_clip(tmp_path: Path) -> None:
    write_ferv39k(tmp_path)
    fill(tmp_path / FERV39K_CLIPS / "Action" / "Sad" / "0077", ["1.jpg"])
    fill(tmp_path / FERV39K_CLIPS / "Action" / "Sad", ["notes.txt", ".hidden"])
    table, report = check(tmp_path, {"unlisted_clips": 1, "other_files": 1})
    assert {finding.severity for finding in report.findings} == {"note"}
    assert len(table) == 42


def test_no_clips(tmp_path: Path) -> None:
    for split, listed in ferv39k_lines().items():
        write_ferv39k_list(tmp_path, split, listed)
    _, report = check(tmp_path, {"clips_missing": 1, "missing_clips": 42})
    assert report.fatal


def test_the_same_part_of_the_download_side_by_side(tmp_path: Path) -> None:
    write_ferv39k(tmp_path, clips="2_ClipsforFaceCrop-001")
    (tmp_path / "2_ClipsforFaceCrop-002").mkdir()
    _, report = check(tmp_path, {"folder_twice": 1})
    assert report.fatal
    assert "2_ClipsforFaceCrop-001 and 2_ClipsforFaceCrop-002" in report.as_text()


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    lines = ferv39k_lines()
    lines["train"] += ["Away/Sad/0001 Sad", "Action/Sad/0008 Sad"]
    write_ferv39k(root, lines)
    away = tmp_path / "elsewhere"
    (root / FERV39K_CLIPS / "Away").rename(away)
    (root / FERV39K_CLIPS / "Away").symlink_to(away)
    for frame in (root / FERV39K_CLIPS / "Action" / "Sad" / "0008").iterdir():
        frame.unlink()
    (root / FERV39K_CLIPS / "Action" / "Sad" / "0008" / "1.jpg").symlink_to(away / "Sad" / "0001" / "1.jpg")
    (root / FERV39K_CLIPS / "Action" / "Fearful").symlink_to(away / "Sad")
    table, report = check(root, {"outside_root": 3, "missing_clips": 2})
    assert report.fatal
    assert set(table.loc[table["source_size"] < 0, "clip_id"]) == {
        "ferv39k/Away/Sad/0001",
        "ferv39k/Action/Sad/0008",
    }


def test_frames_that_are_links_to_themselves_are_none(tmp_path: Path) -> None:
    write_ferv39k(tmp_path)
    clip = tmp_path / FERV39K_CLIPS / "Action" / "Sad" / "0001"
    (clip / "3.jpg").symlink_to("3.jpg")
    (clip.parent / "loop").symlink_to("loop")
    table, _ = check(tmp_path, {"other_files": 1})
    assert set(table["num_frames"]) == {2}


def test_a_whole_set_that_is_linked_into_the_root(tmp_path: Path) -> None:
    write_ferv39k(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "FERV39k").symlink_to(tmp_path / "elsewhere")
    table, report = check(tmp_path / "set", {"outside_root": 2 + 14})
    assert report.fatal
    assert table.empty


def test_lists_that_link_out_of_the_root(tmp_path: Path) -> None:
    root = write_ferv39k(tmp_path / "set")
    (root / FERV39K_LISTS / "test_All.csv").rename(tmp_path / "test_All.csv")
    (root / FERV39K_LISTS / "test_All.csv").symlink_to(tmp_path / "test_All.csv")
    _, report = check(root, {"outside_root": 1, "unlisted_clips": 14})
    assert report.fatal


@pytest.mark.parametrize("given", ["set/4_setups", "set/4_setups/All_scenes", ""])
def test_a_root_on_the_wrong_level(tmp_path: Path, given: str) -> None:
    write_ferv39k(tmp_path / "set")
    _, report = check(tmp_path / given, {"wrong_root": 1})
    assert f"Did you mean {tmp_path / 'set'}?" in report.as_text()


def test_a_root_that_does_not_exist(tmp_path: Path) -> None:
    check(tmp_path / "nowhere", {"root_missing": 1})


def test_an_unknown_source_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of faces"):
        inspect("ferv39k", tmp_path, source="videos")


def official_lines() -> dict[str, list[str]]:
    """As many clips as the real lists hold, of each emotion, in 22 scenes."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    emotions = [name for name, size in OFFICIAL_TRAIN_LABELS.items() for _ in range(size)]
    emotions += [EMOTIONS[number % 7] for number in range(OFFICIAL_SIZES["test"])]
    for number, emotion in enumerate(emotions):
        name = emotion.capitalize()
        split = "train" if number < OFFICIAL_SIZES["train"] else "test"
        lines[split].append(f"Scene{number % 22}/{name}/{number:05d} {name}")
    return lines


def test_the_real_sizes(tmp_path: Path) -> None:
    lines = official_lines()
    write_ferv39k(tmp_path, {})
    for split, listed in lines.items():
        write_ferv39k_list(tmp_path, split, listed)
        for line in listed:
            folder = f"{tmp_path}/{FERV39K_CLIPS}/{line.split()[0]}"
            os.makedirs(folder)  # noqa: PTH103 - pathlib would take twice the time
            os.close(os.open(f"{folder}/1.jpg", os.O_CREAT))
    began = time.perf_counter()
    table, report = check(tmp_path, {})
    assert time.perf_counter() - began < 20
    assert len(table) == 38935
    assert report.counts["clips_per_split"] == {"train": 31088, "test": 7847}
    train = Counter(part(table, fold=None, part="train")["label"])
    assert [train[place] for place in range(7)] == [5854, 5523, 7790, 5906, 2502, 1833, 1680]
    shutil.rmtree(tmp_path / FERV39K_CLIPS)  # sooner than pytest would, three runs later


@pytest.mark.parametrize(("train", "differ"), [(49, 0), (50, 9)])
def test_other_counts_are_noted_only_for_a_full_set(tmp_path: Path, train: int, differ: int) -> None:
    (tmp_path / FERV39K_CLIPS).mkdir()
    for split, listed in ferv39k_lines(train, 22).items():
        write_ferv39k_list(tmp_path, split, listed)
    expected = {"missing_clips": 14 * (train + 22)} | ({"official_counts": differ} if differ else {})
    _, report = check(tmp_path, expected)
    assert not report.fatal
    assert ("train: 700 instead of 31088; test: 308 instead of 7847" in report.as_text()) == bool(differ)


def test_every_rule_says_what_it_means() -> None:
    assert all(message and severity in ("error", "warning", "note") for severity, message in RULES.values())
