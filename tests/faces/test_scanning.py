from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfer.config.settings import DetectionSettings
from dfer.faces.detector import Detections, FaceDetector
from dfer.faces.scanning import scan_frames

FRAME = np.zeros((36, 64, 3), np.uint8)


class Told:
    """A detector that notes how it is asked; near looks fail at the frames in `lost`."""

    def __init__(
        self, make: Callable[..., Detections], *, batch: int = 1, lost: Sequence[int] = (), **settings: Any
    ) -> None:
        self.settings, self.batch = DetectionSettings(**settings), batch
        self.make, self.lost, self.asked = make, set(lost), []

    def found(self) -> Detections:
        face = self.make((20, 20, 10))
        return replace(face, followed=face.keypoints)

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        self.asked.append("search")
        return self.found()

    def detect_near(self, frame: NDArray[np.uint8], boxes: NDArray[np.float32], *, measure: bool) -> Detections | None:
        assert len(boxes) == 1
        if len(self.asked) in self.lost:
            return None
        self.asked.append("measure" if measure else "follow")
        return self.found()

    def detect_batch(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.asked.append(len(frames))
        return [self.found() for _ in frames]


def looks(detector: Any, frames: int) -> list[Any]:
    seen = list(scan_frames(((7 * k, FRAME) for k in range(frames)), detector))
    assert [number for (number, _), _ in seen] == [7 * k for k in range(frames)]
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


def test_a_face_that_was_seen_at_one_scale_alone_is_measured_next(make_detections: Callable[..., Detections]) -> None:
    told = Told(make_detections, search_every=70, measure_every=70)
    told.detect = lambda frame: told.asked.append("search") or make_detections((20, 20, 10))  # type: ignore[method-assign]
    assert looks(told, 4) == ["search", "measure", "follow", "follow"]


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
        seen = scan_frames(enumerate(moved_video.frames), detector)
        return np.stack([found.keypoints[0] for _, found in seen])

    every_frame = keypoints(search_every=1, search_size=640)
    eyes = np.linalg.norm(every_frame[:, 1] - every_frame[:, 0], axis=1).mean()
    apart = np.linalg.norm(keypoints() - every_frame, axis=2).mean(axis=1)
    assert np.median(apart) < 0.015 * eyes
    assert apart.max() < 0.05 * eyes
