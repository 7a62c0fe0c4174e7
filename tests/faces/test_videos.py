"""Videos without a data set: what is found, what is refused, and that nothing is done twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pytest

from dfer import shards
from dfer.config.problems import InputError
from dfer.config.settings import StageSettings
from dfer.faces.detector import FaceDetector
from dfer.faces.index import read_index
from dfer.faces.listing import find_videos
from dfer.faces.model_files import ModelFileError
from dfer.faces.videos import align_videos
from dfer.system import logs
from dfer.video import Video

SMALL = StageSettings.model_validate({"alignment": {"size": 64}, "shards": {"frames_per_segment": 1, "segments": 3}})


@pytest.fixture
def videos(moved_video: Any, tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.MP4").write_bytes(moved_video.path.read_bytes())
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").touch()
    return find_videos([folder]).videos


def test_what_is_kept_and_what_is_not(videos: dict[str, Path], detector: FaceDetector, tmp_path: Path) -> None:
    out = tmp_path / "faces"
    index = align_videos(videos, out, settings=SMALL, workers=2)
    assert dict(zip(index["clip_id"], index["reason"], strict=True)) == {"deep/a.MP4": "", "empty.mp4": "empty_file"}
    assert read_index(out / "index.parquet").equals(index)
    (clip,) = shards.read(out)
    assert clip.frames.shape == (3, 64, 64, 3)
    assert shards.open_shard(out / index["shard"][0]).clip_ids == ["deep/a.MP4"]


def test_the_same_call_does_nothing_and_another_one_is_refused(
    videos: dict[str, Path], detector: FaceDetector, tmp_path: Path
) -> None:
    out, seen = tmp_path / "faces", []
    for _ in range(2):
        align_videos(videos, out, settings=SMALL, workers=1, on_clip=lambda: seen.append(1))
    assert len(seen) == 2
    larger = StageSettings.model_validate({**SMALL.model_dump(), "alignment": {"size": 80}})
    with pytest.raises(InputError, match=r"other settings \(alignment\)"):
        align_videos(videos, out, settings=larger, workers=1)
    with pytest.raises(InputError, match="other videos"):
        align_videos({"x.mp4": videos["deep/a.MP4"]}, out, settings=SMALL, workers=1)


def test_a_folder_that_has_grown(videos: dict[str, Path], detector: FaceDetector, tmp_path: Path) -> None:
    """Only the new videos are aligned, and the index has all of them in their order."""
    out, seen = tmp_path / "faces", []
    first = align_videos(videos, out, settings=SMALL, workers=1)
    more = dict(sorted({**videos, "a_new_one.mp4": videos["deep/a.MP4"], "empty too.mp4": videos["empty.mp4"]}.items()))
    for _ in range(2):
        index = align_videos(more, out, settings=SMALL, workers=2, on_clip=lambda: seen.append(1))
    assert len(seen) == 2
    assert index["clip_id"].tolist() == list(more)
    old = index[index["clip_id"].isin(first["clip_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, first)
    assert {clip.clip_id for clip in shards.read(out)} == {"a_new_one.mp4", "deep/a.MP4"}
    with pytest.raises(InputError, match=r"other videos \(1 of them.*the first is a_new_one.mp4"):
        align_videos(
            {name: path for name, path in more.items() if name != "a_new_one.mp4"}, out, settings=SMALL, workers=1
        )


def test_videos_of_another_folder_that_change_the_names_of_all(
    videos: dict[str, Path], detector: FaceDetector, tmp_path: Path
) -> None:
    out, name = tmp_path / "faces", "deep/a.MP4"
    align_videos({"a.MP4": videos[name]}, out, settings=SMALL, workers=1)
    with pytest.raises(InputError, match=r"other names for its videos: .* a\.MP4 is named deep/a\.MP4, see"):
        align_videos(videos, out, settings=SMALL, workers=1)


def test_faces_of_another_version_are_not_mixed_with_these(
    videos: dict[str, Path], detector: FaceDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align_videos(videos, tmp_path / "faces", settings=SMALL, workers=1)
    monkeypatch.setattr("dfer.faces.videos.FACES_VERSION", 99)
    with pytest.raises(InputError, match=r"with another version of the alignment, see .*: choose another --out"):
        align_videos(videos, tmp_path / "faces", settings=SMALL, workers=1)


def test_what_cannot_be_started_leaves_nothing_behind(videos: dict[str, Path], tmp_path: Path) -> None:
    wrong = StageSettings.model_validate({"detection": {"model": "/nowhere/detector.onnx"}})
    with pytest.raises(ModelFileError, match="does not exist"):
        align_videos(videos, tmp_path / "faces", settings=wrong, workers=1)
    assert not (tmp_path / "faces").exists()


def test_folders_that_cannot_be_written_into(videos: dict[str, Path], detector: FaceDetector, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for out, message in (
        ("file", "is a file"),
        ("full", "is not empty"),
        ("file/below", "cannot be written to"),
        (os.fsdecode(b"f\xfc"), r"f\\xfc is not UTF-8"),
    ):
        with pytest.raises(InputError, match=message):
            align_videos(videos, tmp_path / out, settings=SMALL, workers=1)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_name_that_is_no_utf_8(detector: FaceDetector, moved_video: Any, tmp_path: Path) -> None:
    """It is opened by its bytes, and written with escapes: in ids, details, the call's record and the log."""
    folder, out = tmp_path / os.fsdecode(b"f\xfc"), tmp_path / "faces"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(moved_video.path.read_bytes())
    (folder / os.fsdecode(b"empty\xe9.mp4")).touch()
    with logs.writing(tmp_path / "logs", "align") as log:
        index = align_videos(find_videos([folder]).videos, out, settings=SMALL, workers=1)
    assert dict(zip(index["clip_id"], index["status"], strict=True)) == {
        r"caf\xe9.mp4": "ok",
        r"empty\xe9.mp4": "failed",
    }
    assert r"f\xfc/empty\xe9.mp4 has 0 bytes" in index["detail"][1]
    assert read_index(out / "index.parquet").equals(index)
    assert [clip.clip_id for clip in shards.read(out)] == [r"caf\xe9.mp4"]
    assert list(json.loads((out / "align.json").read_text())["videos"]) == list(index["clip_id"])
    assert r"empty\xe9.mp4" in {line.get("clip_id") for line in logs.read(log)}


def test_a_folder_of_pictures(detector: FaceDetector, moved_video: Any, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "faces"
    folder.mkdir()
    video = Video(moved_video.path)
    for number, frame in video.frames(range(3)):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    videos = find_videos([folder]).videos
    index = align_videos(videos, out, settings=SMALL, workers=1)
    assert index[["clip_id", "status", "frames_kept"]].to_numpy().tolist() == [["pictures", "ok", 3]]
    cv2.imwrite(str(folder / "1.png"), frame[:, ::-1])  # another picture of the same name
    with pytest.raises(InputError, match="other videos"):
        align_videos(videos, out, settings=SMALL, workers=1)
