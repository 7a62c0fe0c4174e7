"""Searching a video for faces, in one go or in chapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfer.faces import searching
from dfer.faces.chapters import Chapters
from dfer.faces.detector import FaceDetector
from dfer.faces.searching import SearchedFrames, pictures_again, search_video
from dfer.video import Video, VideoError


def search(path: Path, detector: FaceDetector, chapters: Chapters | None = None) -> SearchedFrames:
    return search_video(Video(path), detector, lambda readable: readable, kept_bytes=2**20, chapters=chapters)


def same(one: SearchedFrames, other: SearchedFrames) -> None:
    np.testing.assert_array_equal(one.indices, other.indices)
    for name in ("box", "keypoints", "followed", "look"):
        np.testing.assert_array_equal(one.detections.faces[name], other.detections.faces[name])
    np.testing.assert_array_equal(one.detections.frames, other.detections.frames)
    assert one.cuts == other.cuts


def test_a_video_that_is_shorter_than_a_chapter_is_searched_as_without(
    moved_video: Any, detector: FaceDetector, tmp_path: Path
) -> None:
    same(search(moved_video.path, detector), search(moved_video.path, detector, Chapters(tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == {"turn.json"}


def test_saved_chapters_are_not_searched_again(
    moved_video: Any, detector: FaceDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve frames in chapters of five, of four (all of them saved), and with a damaged file."""
    searched: list[int] = []
    scan = searching.scan_frames

    def noting(frames, detector):
        for (number, frame), faces in scan(frames, detector):
            searched.append(number)
            yield (number, frame), faces

    monkeypatch.setattr(searching, "scan_frames", noting)
    for size, again in ((5, [10, 11]), (4, [])):
        folder = tmp_path / str(size)
        folder.mkdir()
        unsaved = search(moved_video.path, detector, Chapters(None, size))
        first = search(moved_video.path, detector, Chapters(folder, size))
        searched.clear()
        same(unsaved, first)
        same(first, search(moved_video.path, detector, Chapters(folder, size)))
        assert searched == again
    (tmp_path / "4" / "faces-0-00001.npz").write_bytes(b"PK")
    searched.clear()
    same(first, search(moved_video.path, detector, Chapters(tmp_path / "4", 4)))
    assert searched == list(range(4, 12))


def test_a_turned_video_is_not_examined_again(
    moved_video: Any, detector: FaceDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video_writer: Any
) -> None:
    lying = video_writer(
        tmp_path / "lying.mp4", [np.ascontiguousarray(np.rot90(frame)) for frame in moved_video.frames]
    )
    state = tmp_path / "state"
    state.mkdir()
    video = Video(lying)
    first = search_video(video, detector, lambda readable: readable, kept_bytes=0, chapters=Chapters(state, 5))
    assert video.turn == 1
    monkeypatch.setattr(searching, "turn_to_upright", lambda *_: pytest.fail("it is known"))
    again = Video(lying)
    same(first, search_video(again, detector, lambda readable: readable, kept_bytes=0, chapters=Chapters(state, 5)))
    assert again.turn == 1


def test_a_frame_that_does_not_come_a_second_time(moved_video: Any) -> None:
    with pytest.raises(VideoError, match="frame 40 decodes once, but not a second time"):
        list(pictures_again(Video(moved_video.path), np.array([3, 40]), {}))
    kept = {3: moved_video.frames[0]}
    (first, _) = pictures_again(Video(moved_video.path), np.array([3, 4]), kept)
    assert first is moved_video.frames[0] and not kept
