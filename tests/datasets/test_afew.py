from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from layout_factories import AFEW_EMOTIONS, fill, write_afew

from dfer.datasets import IngestError, IngestReport, inspect, load_clips
from dfer.datasets.table import validate
from dfer.labels import EMOTIONS


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts, and a table that is valid."""
    table, report = inspect("afew", root, **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    validate(table)
    return table, report


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    table, report = check(write_afew(tmp_path), {})
    assert len(table) == 21
    assert table["clip_id"].iloc[0] == "afew/train/000120000"
    assert table["clip_id"].iloc[-1] == "afew/val/000120020"
    assert table["source"].iloc[-1] == "Val_AFEW/Surprise/000120020.avi"
    assert table["split"].value_counts().to_dict() == {"train": 14, "val": 7}
    by_folder = table["source"].str.split("/").str[1].str.lower()
    assert [EMOTIONS[label] for label in table["label"]] == list(by_folder)
    assert table["votes"].isna().all()
    assert table["fold"].isna().all()
    assert (table["source_size"] == 1).all()
    assert report.counts == {
        "clips": 21,
        "missing": 0,
        "clips_per_split": {"train": 14, "val": 7},
        "labels": dict.fromkeys(EMOTIONS, 3),
    }
    pd.testing.assert_frame_equal(load_clips("afew", tmp_path), table)


def test_other_spellings_of_folders_and_suffixes(tmp_path: Path) -> None:
    fill(tmp_path / "Train" / "Happiness", ["1.AVI", "10.avi", "9.mp4"])
    fill(tmp_path / "val_afew" / "Anger", ["2.Avi"])
    table, _ = check(tmp_path, {}, dataset="other")
    assert list(table["clip_id"]) == ["other/train/1", "other/train/9", "other/train/10", "other/val/2"]
    assert list(table["label"]) == [0, 0, 0, 3]


def test_a_moving_picture_beside_a_clip_is_none_of_its_own(tmp_path: Path) -> None:
    fill(write_afew(tmp_path) / "Train_AFEW" / "Happy", ["000120000.gif"])
    check(tmp_path, {"other_files": 1})


def test_a_folder_that_is_no_emotion(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Train_AFEW" / "Contempt", ["7.avi", "8.avi"])
    table, report = check(tmp_path, {"unknown_folder": 1})
    assert report.findings[0].examples == ("Train_AFEW/Contempt: 2 videos",)
    assert len(table) == 21
    with pytest.raises(IngestError, match="Contempt"):
        load_clips("afew", tmp_path)


def test_folders_without_videos_are_nobodys_emotion(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Train_AFEW" / "docs", ["readme.txt"])
    check(tmp_path, {})


def test_videos_outside_the_emotions_folders(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Val_AFEW", ["5.avi"])
    _, report = check(tmp_path, {"unlabelled_videos": 1})
    assert report.findings[0].severity == "warning"


@pytest.mark.parametrize("twin", ["Happy/000120000.avi", "Angry/000120000.mp4"])
def test_a_name_twice_in_one_split(tmp_path: Path, twin: str) -> None:
    write_afew(tmp_path)
    (tmp_path / "Train_AFEW" / twin).write_bytes(b"x")
    table, report = check(tmp_path, {"duplicate_name": 1})
    assert report.fatal
    assert len(table) == 21
    assert "Train_AFEW/Angry/000120000.avi and Train_AFEW/" + twin in report.as_text()


def test_a_name_in_train_and_validation(tmp_path: Path) -> None:
    write_afew(tmp_path)
    (tmp_path / "Val_AFEW" / "Sad" / "000120000.avi").write_bytes(b"x")
    table, report = check(tmp_path, {"train_val_overlap": 1})
    assert not report.fatal
    assert len(table) == 22


def test_files_that_are_no_video(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Val_AFEW" / "Sad", ["Thumbs.db", "notes.txt", ".hidden", "._000120020.avi"])
    _, report = check(tmp_path, {"other_files": 2})
    assert report.findings[0].severity == "note"


@pytest.mark.parametrize(("gone", "left"), [("Train_AFEW", "val"), ("Val_AFEW", "train")])
def test_a_split_that_is_not_there(tmp_path: Path, gone: str, left: str) -> None:
    write_afew(tmp_path)
    (tmp_path / gone).rename(tmp_path / "away")
    table, report = check(tmp_path, {"split_missing": 1})
    assert not report.fatal
    assert set(table["split"]) == {left}


def test_a_split_under_two_names(tmp_path: Path) -> None:
    write_afew(tmp_path)
    (tmp_path / "Train").mkdir()
    _, report = check(tmp_path, {"split_twice": 1, "split_missing": 1})
    assert report.fatal


def test_a_test_part_without_labels_is_left_out(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Test_AFEW" / "Test_vid_Distribute", ["1.avi"])
    table, report = check(tmp_path, {"test_ignored": 1})
    assert report.findings[0].severity == "note"
    assert len(table) == 21


def test_a_test_part_with_labels_is_used(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Test_AFEW" / "Fear", ["1.avi"])
    table, _ = check(tmp_path, {})
    assert table.loc[table["split"] == "test", "label"].tolist() == [EMOTIONS.index("fear")]


def test_ready_made_faces_are_joined_by_name(tmp_path: Path) -> None:
    write_afew(tmp_path)
    for split, folder, numbers in (
        ("Train_AFEW", "AlignedFaces_LBPTOP_Points", range(120000, 120013)),
        ("Val_AFEW", "AlignedFaces_LBPTOP_Points_Val", range(120014, 120022)),
    ):
        for number in numbers:
            fill(tmp_path / split / folder / "Faces" / f"{number:09d}", ["000.jpg", "001.jpg"])
    check(tmp_path, {})
    table, report = check(tmp_path, {"missing_clips": 1, "faces_without_video": 1}, source="faces")
    assert not report.fatal
    row = table.set_index("clip_id").loc["afew/val/000120014"]
    assert row["source"] == "Val_AFEW/AlignedFaces_LBPTOP_Points_Val/Faces/000120014"
    assert (row["num_frames"], row["source_size"], row["label"]) == (2, 2, EMOTIONS.index("angry"))
    missing = table[table["source_size"] == -1]
    assert missing["clip_id"].tolist() == ["afew/train/000120013"]
    assert report.counts["missing"] == 1


def test_no_ready_made_faces_at_all(tmp_path: Path) -> None:
    table, _ = check(write_afew(tmp_path), {"missing_clips": 21}, source="faces")
    assert table["source"].iloc[0] == "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/000120000"


@pytest.mark.parametrize("train", [12, 13])
def test_other_counts_are_noted_only_for_a_full_set(tmp_path: Path, train: int) -> None:
    write_afew(tmp_path, train=train, val=2)
    _, report = check(tmp_path, {"official_counts": 2} if train == 13 else {})
    assert not report.fatal


def test_the_official_counts(tmp_path: Path) -> None:
    for split, size in (("Train_AFEW", 773), ("Val_AFEW", 383)):
        for place, emotion in enumerate(AFEW_EMOTIONS):
            fill(tmp_path / split / emotion, [f"{split}{n}.avi" for n in range(place, size, 7)])
    table, _ = check(tmp_path, {})
    assert len(table) == 1156


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = write_afew(tmp_path / "afew")
    fill(tmp_path / "elsewhere", ["1.avi"])
    (root / "Val_AFEW" / "Happy" / "1.avi").symlink_to(tmp_path / "elsewhere" / "1.avi")
    (root / "Test_AFEW").mkdir()
    (root / "Test_AFEW" / "Happy").symlink_to(tmp_path / "elsewhere")
    (root / "Train_AFEW" / "1.avi").symlink_to(tmp_path / "elsewhere" / "1.avi")
    table, report = check(root, {"outside_root": 3})
    assert report.fatal
    assert len(table) == 21


def test_faces_that_link_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = write_afew(tmp_path / "afew", train=1, val=0)
    faces = root / "Train_AFEW" / "AlignedFaces_LBPTOP_Points" / "Faces"
    for number in range(120000, 120006):
        fill(faces / f"{number:09d}", ["0.jpg"])
    fill(tmp_path / "elsewhere", ["0.jpg"])
    (faces / "000120006").symlink_to(tmp_path / "elsewhere")
    check(root, {"outside_root": 1, "split_missing": 1, "missing_clips": 1}, source="faces")


def test_names_that_cannot_be_stored(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Val_AFEW" / "Happy", ["a\nb.avi", "c\udcff.avi", "d\\e.avi"])
    table, report = check(tmp_path, {"unusable_name": 3})
    assert len(table) == 21
    report.as_text().encode()


@pytest.mark.parametrize(("given", "meant"), [("set/Val_AFEW", "set"), ("set/Val_AFEW/Happy", "set"), ("", "set")])
def test_a_root_on_the_wrong_level(tmp_path: Path, given: str, meant: str) -> None:
    write_afew(tmp_path / "set")
    _, report = check(tmp_path / given, {"wrong_root": 1})
    assert f"Did you mean {tmp_path / meant}?" in report.as_text()


def test_a_root_that_does_not_exist(tmp_path: Path) -> None:
    check(tmp_path / "nowhere", {"root_missing": 1})


def test_folders_without_clips(tmp_path: Path) -> None:
    (tmp_path / "Val_AFEW" / "Happy").mkdir(parents=True)
    _, report = check(tmp_path, {"split_missing": 2, "no_clips": 1})
    assert report.fatal


def test_an_unknown_source_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of videos, faces"):
        inspect("afew", tmp_path, source="original")
