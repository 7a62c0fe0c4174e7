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


def test_a_dissolve_is_found_with_the_frames_in_between(people: list[Picture], detector: FaceDetector) -> None:
    first, _, third = people
    mixed = [cv2.addWeighted(first, 1 - share, third, share, 0) for share in np.linspace(0, 1, 10)[1:-1]]
    (cut,) = cuts_of([first] * 20 + mixed + [third] * 20, detector)
    assert 20 <= cut.first <= 26
    assert cut.first - 1 <= cut.last <= 29


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
    assert counts.remarks == "cut to another person at frame 9"
