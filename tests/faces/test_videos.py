"""Videos without a data set: what is found, what is refused, and that nothing is done twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfer import shards
from dfer.config.problems import InputError
from dfer.config.settings import StageSettings
from dfer.faces.detector import FaceDetector
from dfer.faces.index import read_index
from dfer.faces.model_files import ModelFileError
from dfer.faces.videos import align_videos, find_videos

SMALL = StageSettings.model_validate({"alignment": {"size": 64}, "shards": {"frames_per_segment": 1, "segments": 3}})


@pytest.fixture
def videos(moved_video: Any, tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.MP4").write_bytes(moved_video.path.read_bytes())
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").touch()
    return find_videos([folder])


def test_folders_are_searched_and_names_are_relative_to_what_is_shared(videos: dict[str, Path]) -> None:
    assert list(videos) == ["deep/a.MP4", "empty.mp4"]
    assert find_videos(list(videos.values()) * 2) == videos


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


def test_what_cannot_be_started_leaves_nothing_behind(videos: dict[str, Path], tmp_path: Path) -> None:
    wrong = StageSettings.model_validate({"detection": {"model": "/nowhere/detector.onnx"}})
    with pytest.raises(ModelFileError, match="does not exist"):
        align_videos(videos, tmp_path / "faces", settings=wrong, workers=1)
    assert not (tmp_path / "faces").exists()


def test_folders_that_cannot_be_written_into(videos: dict[str, Path], detector: FaceDetector, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for out, message in (("file", "is a file"), ("full", "is not empty"), ("file/below", "cannot be written to")):
        with pytest.raises(InputError, match=message):
            align_videos(videos, tmp_path / out, settings=SMALL, workers=1)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_nothing_to_align(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos below"):
        find_videos([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        find_videos([tmp_path / "nowhere.mp4"])
