from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import dfer.demo
from dfer.config.settings import AlignmentSettings, ShardSettings, TrackingSettings
from dfer.faces.clips import align_clip
from dfer.faces.cuts import Cut, CutFinder
from dfer.faces.detector import FaceDetector
from dfer.faces.geometry import similarity, template, warp

Picture = NDArray[np.uint8]
ASSETS = Path(dfer.demo.__file__).parent / "assets"


@pytest.fixture(scope="module")
def people(detector: FaceDetector, astronaut: Picture) -> list[Picture]:
    """Portraits of three people, 200 x 200 pixels, with the face in the same place."""
    place = template(200, 1.2)
    pictures = [astronaut, *(cv2.imread(str(ASSETS / f"sol0{number}.jpg")) for number in (1, 4))]
    return [warp(picture, similarity(detector.detect(picture).keypoints[0], place), 200) for picture in pictures]


def cuts_of(frames: list[Picture], detector: FaceDetector, step: int = 1) -> list[Cut]:
    finder = CutFinder()
    for number, frame in enumerate(frames):
        finder.add(step * number, frame, detector.detect(frame))
    return finder.cuts


def shaken(picture: Picture, number: int) -> list[Picture]:
    """A film of one picture, in which the camera moves, comes nearer and gets darker."""
    frames = []
    for k in range(number):
        motion = cv2.getRotationMatrix2D((100, 100), k / 2, 1 + k / 80)
        motion[:, 2] += (k, -k / 2)
        moved = cv2.warpAffine(picture, motion, (200, 200), borderMode=cv2.BORDER_REFLECT)
        frames.append(np.asarray(moved * (1 - k / 80), np.uint8))
    return frames


def test_a_hard_cut_is_found_to_the_frame(people: list[Picture], detector: FaceDetector) -> None:
    first, second, third = people
    assert cuts_of([first] * 20 + [second] * 20, detector) == [Cut(20, 19)]
    assert cuts_of([second] * 5 + [third] * 30 + [first] * 5, detector) == [Cut(5, 4), Cut(35, 34)]
    assert cuts_of([first] * 3 + [third] * 4, detector, step=20) == [Cut(60, 59)]


@pytest.mark.parametrize("before", [11, 13, 16, 40])
@pytest.mark.parametrize("after", [3, 8, 20, 45])
def test_a_cut_is_found_once(people: list[Picture], detector: FaceDetector, before: int, after: int) -> None:
    first, second, _ = people
    assert cuts_of([first] * before + [second] * after, detector) == [Cut(before, before - 1)]
    insert = [first] * before + [second] * after + [first] * 20
    assert cuts_of(insert, detector) == [Cut(before, before - 1), Cut(before + after, before + after - 1)]


@pytest.mark.parametrize("stopped", [1, 12, 20, 21, 35])
def test_a_search_that_goes_on_finds_the_same_cuts(people: list[Picture], detector: FaceDetector, stopped: int) -> None:
    first, second, _ = people
    frames = [*shaken(first, 20), *shaken(second, 20)]
    faces = [detector.detect(frame) for frame in frames]
    finder = CutFinder()
    for number in range(stopped):
        finder.add(number, frames[number], faces[number])
    finder = CutFinder.restored(finder.state())
    for number in range(stopped, len(frames)):
        finder.add(number, frames[number], faces[number])
    assert finder.cuts == cuts_of(frames, detector) == [Cut(20, 19)]
    assert CutFinder.restored(CutFinder().state()).cuts == []


def test_somebody_who_leaves_is_no_cut(people: list[Picture], detector: FaceDetector) -> None:
    first, second, _ = people
    smaller = np.full((200, 160, 3), 90, np.uint8)
    smaller[20:180] = cv2.resize(second, (160, 160))
    both = np.hstack([first, smaller])
    alone = both.copy()
    alone[:, :200] = 90
    assert cuts_of([both] * 15 + [alone] * 20, detector) == []


@pytest.mark.parametrize("frames", [8, 25])
def test_a_dissolve_is_found_with_the_frames_in_between(
    people: list[Picture], detector: FaceDetector, frames: int
) -> None:
    first, _, third = people
    shares = np.linspace(0, 1, frames + 2)[1:-1]
    mixed = [cv2.addWeighted(first, 1 - share, third, share, 0) for share in shares]
    (cut,) = cuts_of([first] * 30 + mixed + [third] * 30, detector)
    assert 30 <= cut.first <= 30 + frames / 2
    assert cut.first - 1 <= cut.last <= 30 + frames


def test_one_person_before_a_moving_camera_is_no_cut(people: list[Picture], detector: FaceDetector) -> None:
    for picture in people:
        assert cuts_of(shaken(picture, 24), detector) == []


def test_nobody_is_followed_across_a_cut(
    people: list[Picture], detector: FaceDetector, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    first, second, _ = people
    path = video_writer(tmp_path / "a.mp4", [first] * 9 + [second] * 15)
    settings = {"tracking": TrackingSettings(), "alignment": AlignmentSettings(), "shards": ShardSettings()}
    pieces = align_clip("a", path, detector=detector, num_segments=8, **settings)
    frames = []
    try:
        while True:
            frames.extend(next(pieces).frame_indices.tolist())
    except StopIteration as end:
        counts = end.value
    assert frames == list(range(9, 24))
    assert counts.frames_kept == 15
    assert counts.remarks == "cut at frame 9"
