from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest
from layout_factories import fill, ravdess_names, write_ravdess

from dfer.config.settings import LabelSettings
from dfer.datasets import IngestReport, inspect, load_clips
from dfer.datasets.protocol import part
from dfer.datasets.ravdess import CLASSES, RULES, actor_fold
from dfer.datasets.table import validate
from dfer.datasets.vocabulary import in_classes
from dfer.labels import classes_of

CLIP = "Actor_01/02-01-01-01-01-01-01.mp4"


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts, and a table that is valid."""
    table, report = inspect("ravdess", root, **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    assert report.classes == CLASSES
    assert table.empty or classes_of(table) == CLASSES
    validate(table)
    return table, report


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All spoken clips of both kinds as empty files."""
    root = write_ravdess(tmp_path_factory.mktemp("ravdess"), content=b"")
    return write_ravdess(root, modality="01", content=b"")


@pytest.mark.parametrize(("source", "modality"), [("video-only", "02"), ("audio-video", "01")])
def test_the_whole_set_has_the_published_numbers(whole: Path, source: str, modality: str) -> None:
    began = time.perf_counter()
    table, report = check(whole, {"other_source": 1440}, source=source)
    assert time.perf_counter() - began < 10
    assert not report.fatal
    assert report.counts == {
        "clips": 1440,
        "missing": 0,
        "actors": 24,
        "other_source": 1440,
        "song": 0,
        "test_clips_per_fold": {str(fold): 240 for fold in range(1, 7)},
        "labels": dict.fromkeys(CLASSES, 192) | {"neutral": 96},
    }
    # no performance is there twice
    assert table["clip_id"].str.startswith(f"ravdess/{modality}-01-").all()
    assert table["votes"].isna().all()
    assert "shares" not in table.columns
    assert report.lists == {}


def test_the_emotion_is_the_one_of_the_name(whole: Path) -> None:
    table, _ = check(whole, {"other_source": 1440})
    row = table.set_index("clip_id").loc["ravdess/02-01-06-01-02-01-12"]
    assert row["source"] == "Actor_12/02-01-06-01-02-01-12.mp4"
    assert (CLASSES[row["label"]], row["subject"], row["fold"]) == ("fear", "12", 3)
    assert row["source_mtime_ns"] == (whole / row["source"]).stat().st_mtime_ns
    codes = table["clip_id"].str.split("-").str[2]
    numbers = {"01": "neutral", "02": "calm", "03": "happy", "04": "sad"}
    numbers |= {"05": "angry", "06": "fear", "07": "disgust", "08": "surprise"}
    assert [CLASSES[label] for label in table["label"]] == [numbers[code] for code in codes]


def test_folds_are_of_four_consecutive_actors(whole: Path) -> None:
    assert [actor_fold(actor) for actor in range(1, 25)] == [fold for fold in range(1, 7) for _ in range(4)]
    table = load_clips("ravdess", whole)
    for fold in range(1, 7):
        test, train = part(table, fold=fold, part="test"), part(table, fold=fold, part="train")
        assert sorted(test["subject"].unique()) == [f"{4 * fold - 3 + place:02d}" for place in range(4)]
        assert (len(test), len(train)) == (240, 1200)
        assert not set(test["subject"]) & set(train["subject"])


def test_calm_is_kept_left_out_or_merged(whole: Path) -> None:
    table, report = check(whole, {"other_source": 1440})
    without = tuple(name for name in CLASSES if name != "calm")
    assert len(in_classes(table, report, LabelSettings(classes=CLASSES))[0]) == 1440
    assert len(in_classes(table, report, LabelSettings(classes=without))[0]) == 1248
    merged, _ = in_classes(table, report, LabelSettings(classes=without, merge={"calm": "neutral"}))
    assert merged["label"].eq(without.index("neutral")).sum() == 96 + 192


@pytest.mark.parametrize("folder", ["Video_Speech_Actor_{:02d}/Actor_{:02d}", "Video_Speech_Actor_{:02d}"])
def test_archives_that_were_unpacked_into_folders_of_their_own(tmp_path: Path, folder: str) -> None:
    table, _ = check(write_ravdess(tmp_path, folder=folder.replace("{:02d}", "{0:02d}")), {})
    assert len(table) == 1440
    assert table["source"].iloc[0].startswith("Video_Speech_Actor_01/")


def test_song_is_left_out(tmp_path: Path) -> None:
    write_ravdess(tmp_path)
    fill(tmp_path / "Actor_03", ["02-02-05-02-01-01-03.mp4", "01-02-02-01-01-01-03.mp4"])
    fill(tmp_path / "Video_Song_Actor_04" / "Actor_04", ["02-02-01-01-01-01-04.mp4"])
    table, report = check(tmp_path, {"song": 3})
    assert len(table) == 1440
    assert report.counts["song"] == 3


def test_only_the_other_kind_is_there(tmp_path: Path) -> None:
    write_ravdess(tmp_path, modality="01")
    table, report = check(tmp_path, {"source_missing": 1, "other_source": 1440})
    assert report.fatal
    assert table.empty
    assert "1440 clips of audio-video" in report.as_text()
    assert len(check(tmp_path, {}, source="audio-video")[0]) == 1440


def test_a_clip_that_is_missing(tmp_path: Path) -> None:
    write_ravdess(tmp_path)
    (tmp_path / CLIP).unlink()
    table, report = check(tmp_path, {"missing_clips": 1})
    assert not report.fatal
    assert CLIP in report.as_text()
    assert (len(table), report.counts["missing"]) == (1439, 1)


def test_actors_that_are_missing(tmp_path: Path) -> None:
    for actor in (1, 5):
        fill(tmp_path / f"Actor_{actor:02d}", [f"{name}.mp4" for name in ravdess_names(actor)])
    (tmp_path / "Actor_02").mkdir()
    table, report = check(tmp_path, {"actors_missing": 22})
    assert not report.fatal
    assert "Actor_02; Actor_03" in report.as_text()
    assert table.groupby("fold").size().to_dict() == {1: 60, 2: 60}


@pytest.mark.parametrize(
    "name", ["02-01-09-01-01-01-01", "02-01-01-02-01-01-01", "02-01-03-03-01-01-01", "03-01-03-01-01-01-01"]
)
def test_names_with_numbers_that_there_are_not(tmp_path: Path, name: str) -> None:
    write_ravdess(tmp_path)
    fill(tmp_path / "Actor_01", [f"{name}.mp4"])
    table, report = check(tmp_path, {"bad_name": 1})
    assert report.fatal
    assert len(table) == 1440


def test_an_actor_that_there_is_not(tmp_path: Path) -> None:
    write_ravdess(tmp_path)
    fill(tmp_path / "Actor_25", ["02-01-03-01-01-01-25.mp4"])
    assert check(tmp_path, {"bad_name": 1})[1].fatal


def test_a_clip_in_the_folder_of_another_actor(tmp_path: Path) -> None:
    write_ravdess(tmp_path)
    (tmp_path / CLIP).rename(tmp_path / "Actor_02" / Path(CLIP).name)
    _, report = check(tmp_path, {"actor_contradicts_folder": 1, "missing_clips": 1})
    assert report.fatal


@pytest.mark.parametrize("other", ["Actor_01/02-01-01-01-01-01-01.avi", f"Video_Speech_Actor_01/{CLIP}"])
def test_a_clip_that_is_there_twice(tmp_path: Path, other: str) -> None:
    write_ravdess(tmp_path)
    fill((tmp_path / other).parent, [Path(other).name])
    table, report = check(tmp_path, {"duplicate_source": 1})
    assert report.fatal
    assert len(table) == 1440


def test_files_that_are_no_clip(tmp_path: Path) -> None:
    write_ravdess(tmp_path)
    fill(tmp_path / "Actor_01", ["03-01-01-01-01-01-01.wav", "01-01-01-01-01-01-01_faces.avi", "Thumbs.db", ".hidden"])
    table, report = check(tmp_path, {"other_files": 3})
    assert not report.fatal
    assert len(table) == 1440


def test_folders_without_clips(tmp_path: Path) -> None:
    (tmp_path / "Actor_01").mkdir()
    _, report = check(tmp_path, {"no_clips": 1})
    assert report.fatal


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = write_ravdess(tmp_path / "set")
    (root / CLIP).rename(tmp_path / "1.mp4")
    (root / CLIP).symlink_to(tmp_path / "1.mp4")
    (root / "Actor_24").rename(tmp_path / "Actor_24")
    (root / "Actor_24").symlink_to(tmp_path / "Actor_24")
    table, report = check(root, {"outside_root": 2, "missing_clips": 1, "actors_missing": 1})
    assert report.fatal
    assert len(table) == 1439 - 60


@pytest.mark.parametrize("given", ["set/Actor_01", ""])
def test_a_root_on_the_wrong_level(tmp_path: Path, given: str) -> None:
    write_ravdess(tmp_path / "set")
    table, report = inspect("ravdess", tmp_path / given)
    assert table.empty
    assert [finding.code for finding in report.findings] == ["wrong_root"]
    assert f"Did you mean {tmp_path / 'set'}?" in report.as_text()


def test_a_root_that_does_not_exist(tmp_path: Path) -> None:
    check(tmp_path / "nowhere", {"root_missing": 1})


def test_an_unknown_source_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of video-only, audio-video"):
        inspect("ravdess", tmp_path, source="both")


def test_every_rule_says_what_it_means() -> None:
    assert all(message and severity in ("error", "warning", "note") for severity, message in RULES.values())
