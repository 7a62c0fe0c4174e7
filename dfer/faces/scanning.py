"""Detects the faces of a clip without searching the whole of every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.faces import flow
from dfer.faces.detector import Detections, FaceDetector
from dfer.faces.geometry import similarity, transform_points
from dfer.system.prefetch import prefetch

# Largest distance between a measured and a followed key point of one face, as a share of the key points' extent.
_SAME_FACE = 0.11
# Least change of the key points' shape, likewise, after which they are measured again: the flow keeps to the skin, the
# detector to eyes and mouth.
_CHANGE = 0.05

NumberedFrame = tuple[int, NDArray[np.uint8]]


def scan_frames(frames: Iterable[NumberedFrame], detector: FaceDetector) -> Iterator[tuple[NumberedFrame, Detections]]:
    """Detect the faces in each frame of a clip (its number in the source, uint8[H, W, 3] BGR), in order.

    The whole frame is searched every `detection.search_every` source frames and when a face is lost; the surroundings
    of known faces are measured at least every `detection.measure_every` source frames, and when they have changed. In
    between, key points are followed by optical flow. So a person who appears in between is detected at the next
    search. On a GPU all frames are searched, in batches, while the next are decoded.
    """
    if detector.batch > 1:
        for batch in prefetch(_batches(frames, detector.batch)):
            yield from zip(batch, detector.detect_batch([frame for _, frame in batch]), strict=True)
        return
    settings = detector.settings
    previous: _Faces | None = None
    last_search = last_measurement = 0
    for number, frame in frames:
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        followed = previous.followed_to(grey) if previous is not None else []
        detections = None
        if previous is not None and followed and number - last_search < settings.search_every:
            points = [points for points in followed if points is not None]
            due = len(points) < len(followed) or number - last_measurement >= settings.measure_every
            if not due and not previous.have_changed(points):
                detections = previous.moved_to(points)
            else:
                detections, last_measurement = detector.detect_near(frame, previous.detections.boxes), number
        if detections is None:
            detections = detector.detect(frame)
            last_search = last_measurement = number
        if detections.followed is None:
            detections = _with_flow(detections, followed)
            previous = _Faces.measured(detections, grey)
        elif previous is not None:
            previous = replace(previous, detections=detections)
        yield (number, frame), detections


@dataclass(frozen=True)
class _Faces:
    """The faces of the previous frame, and each as it was when it was last measured, with its key points then."""

    detections: Detections
    patterns: Sequence[flow.Pattern]
    keypoints: NDArray[np.float32]

    @classmethod
    def measured(cls, detections: Detections, grey: NDArray[np.uint8]) -> _Faces:
        """The faces of a frame in which they were measured."""
        assert detections.followed is not None
        patterns = [flow.pattern(grey, points) for points in detections.followed]
        return cls(detections, patterns, detections.keypoints)

    def followed_to(self, grey: NDArray[np.uint8]) -> list[NDArray[np.float32] | None]:
        """Of each face the key points in the next frame, None if it is lost."""
        assert self.detections.followed is not None
        faces = zip(self.patterns, self.detections.followed, strict=True)
        return [flow.follow(face, grey, points) for face, points in faces]

    def have_changed(self, followed: Sequence[NDArray[np.float32]]) -> bool:
        """Whether the head of one has turned, or its expression moved, since it was measured."""
        return any(
            np.linalg.norm(transform_points(before, similarity(before, after)) - after, axis=1).max()
            > _CHANGE * np.ptp(after, axis=0).max()
            for before, after in zip(self.keypoints, followed, strict=True)
        )

    def moved_to(self, followed: Sequence[NDArray[np.float32]]) -> Detections:
        """The faces where the flow takes them, with the scores of the last measurement."""
        points = np.stack(followed)
        assert self.detections.followed is not None
        faces = zip(self.detections.boxes, self.detections.followed, points, strict=True)
        boxes = np.stack([_moved(box, similarity(before, after)) for box, before, after in faces])
        return Detections(
            boxes=boxes,
            scores=self.detections.scores,
            keypoints=points,
            best_score=self.detections.best_score,
            followed=points,
            measured=np.zeros(len(points), bool),
        )


def _moved(box: NDArray[np.float32], moved: NDArray[np.float64]) -> NDArray[np.float32]:
    """A box float32[4] around the moved centre, scaled but not turned."""
    centre = transform_points((box[None, :2] + box[None, 2:]) / 2, moved)[0]
    half = (box[2:] - box[:2]) / 2 * np.sqrt(np.linalg.det(moved[:, :2]))
    return np.concatenate([centre - half, centre + half]).astype(np.float32)


def _with_flow(measured: Detections, followed: Sequence[NDArray[np.float32] | None]) -> Detections:
    """Measured faces beside where the flow took them; one that the flow did not take here begins anew."""
    points = measured.keypoints.copy()
    for face, keypoints in enumerate(measured.keypoints):
        size = float(np.ptp(keypoints, axis=0).max())
        near = [p for p in followed if p is not None and np.abs(p - keypoints).max() < _SAME_FACE * size]
        if near:
            points[face] = min(near, key=lambda p: float(np.abs(p - keypoints).max()))
    return replace(measured, followed=points, measured=np.ones(len(points), bool))


def _batches(frames: Iterable[NumberedFrame], size: int) -> Iterator[list[NumberedFrame]]:
    """Batches of at most `size` consecutive frames of one shape."""
    for _, same_shape in groupby(frames, key=lambda numbered: numbered[1].shape):
        while batch := list(islice(same_shape, size)):
            yield batch
