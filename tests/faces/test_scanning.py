from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.config.settings import DetectionSettings
from dfer.faces.detector import Detections, FaceDetector
from dfer.faces.scanning import scan_frames
from dfer.faces.tracking import track_person

BLURRED = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (144, 256, 3)), (0, 0), 4)
FRAME = np.asarray(cv2.normalize(BLURRED, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


class Told:
    """A detector that notes how it is asked; near looks fail at the frames in `lost`."""

    def __init__(
        self, make: Callable[..., Detections], *, batch: int = 1, lost: Sequence[int] = (), **settings: Any
    ) -> None:
        self.settings, self.batch = DetectionSettings(**settings), batch
        self.make, self.lost, self.asked = make, set(lost), []

    def found(self) -> Detections:
        return self.make((120, 72, 80))

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        self.asked.append("search")
        return self.found()

    def detect_near(self, frame: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Detections | None:
        assert len(boxes) == 1
        if len(self.asked) in self.lost:
            return None
        self.asked.append("measure")
        return self.found()

    def detect_batch(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.asked.append(len(frames))
        return [self.found() for _ in frames]


def looks(detector: Any, frames: int) -> list[Any]:
    seen = []
    for (number, _), faces in scan_frames(((7 * k, FRAME) for k in range(frames)), detector):
        if detector.batch == 1 and len(faces) and faces.measured is not None and not faces.measured.any():
            detector.asked.append("follow")
        seen.append(number)
    assert seen == [7 * k for k in range(frames)]
    return detector.asked


def test_the_whole_frame_is_searched_now_and_then(make_detections: Callable[..., Detections]) -> None:
    # The frames are 7 source frames apart.
    told = Told(make_detections, search_every=28, measure_every=14)
    assert looks(told, 10) == [
        *("search", "follow", "measure", "follow"),
        *("search", "follow", "measure", "follow"),
        *("search", "follow"),
    ]
    assert looks(Told(make_detections, search_every=7), 4) == ["search"] * 4
    assert looks(Told(make_detections, search_every=15, measure_every=6), 5) == [
        *("search", "measure", "measure"),
        *("search", "measure"),
    ]


def test_a_lost_face_is_searched_for_at_once(make_detections: Callable[..., Detections]) -> None:
    told = Told(make_detections, search_every=28, measure_every=14, lost=[2])
    assert looks(told, 6) == ["search", "follow", "search", "follow", "measure", "follow"]


def test_a_face_that_the_flow_loses_is_measured(make_detections: Callable[..., Detections]) -> None:
    told: Any = Told(make_detections, search_every=70, measure_every=70)
    other = np.ascontiguousarray(FRAME[::-1, ::-1])
    seen = [faces for _, faces in scan_frames(enumerate([FRAME, FRAME, other, other]), told)]
    assert told.asked == ["search", "measure"]
    assert [bool(faces.measured.all()) for faces in seen if faces.measured is not None] == [True, False, True, False]


def test_a_face_whose_shape_changes_is_measured_before_its_time(make_detections: Callable[..., Detections]) -> None:
    told: Any = Told(make_detections, search_every=70, measure_every=70)
    stretched = [cv2.warpAffine(FRAME, np.array([[1, 0, 0], [0, 1 + k / 50, 0]]), (256, 144)) for k in range(12)]
    list(scan_frames(enumerate(stretched), told))
    assert told.asked[0] == "search"
    assert 1 <= told.asked.count("measure") <= 6
    told.asked.clear()
    grown = [cv2.warpAffine(FRAME, np.array([[1 + k / 50, 0, 0], [0, 1 + k / 50, 0]]), (256, 144)) for k in range(12)]
    list(scan_frames(enumerate(grown), told))
    assert told.asked == ["search"]


def test_nobody_is_not_followed(make_detections: Callable[..., Detections]) -> None:
    told = Told(lambda face: make_detections(), search_every=70)
    told.found = lambda: make_detections()  # type: ignore[method-assign]
    assert looks(told, 3) == ["search"] * 3


def test_on_a_gpu_frames_of_one_size_are_looked_at_together(make_detections: Callable[..., Detections]) -> None:
    told: Any = Told(make_detections, batch=4)
    assert looks(told, 10) == [4, 4, 2]
    told.asked.clear()
    sizes = [FRAME, FRAME, FRAME[:20], FRAME]
    assert len(list(scan_frames(enumerate(sizes), told))) == 4
    assert told.asked == [2, 1, 1]


def test_a_moving_face_is_followed_as_if_every_frame_was_searched(moved_video: Any) -> None:
    def keypoints(**settings: Any) -> NDArray[np.float32]:
        detector = FaceDetector(DetectionSettings(**settings))
        detections = [faces for _, faces in scan_frames(enumerate(moved_video.frames), detector)]
        track = track_person(detections, np.arange(len(detections)), max_gap=0)
        assert track is not None
        return track.keypoints

    every_frame = keypoints(search_every=1, search_size=640)
    eyes = np.linalg.norm(every_frame[:, 1] - every_frame[:, 0], axis=1).mean()
    apart = np.linalg.norm(keypoints(measure_every=6) - every_frame, axis=2).mean(axis=1)
    assert np.median(apart) < 0.02 * eyes
    assert apart.max() < 0.05 * eyes
