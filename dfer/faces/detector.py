"""Detects faces and their five key points in a frame, with InsightFace's SCRFD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dfer.config.settings import DetectionSettings
from dfer.faces.model_files import detector_file
from dfer.faces.scrfd import STRIDE, DetectorError, Scrfd
from dfer.storage.files import sha256

__all__ = ["Detections", "DetectorError", "FaceDetector"]

_CLOSE_UP_SCALES = (1 / 2, 1 / 3)
# Scale and black margin (share of the sides) for small pictures that a face fills, as those of FER2013. Of 172 such
# pictures, 48 pixels, grey, dim and cut tightly, 34 are missed without the two, 16 with the first, 6 with both.
_SMALL_PICTURES = ((2.0, 0.25), (4.0, 0.5))
_REPORTED_SCORE = 0.1  # weaker candidates matter only for `best_score`; below this they are noise
# Detection near a face sees the inner part of its box, where the key points are, and some of the network's pixels
# around it. With _CONTEXT pixels its key points equal those of the whole frame to a pixel of a 224-pixel crop.
_INNER = np.array([0.8, 0.6])  # of the box, across and down
_MIDDLE = np.array([0.5, 0.575])  # of the key points, in the box
_CONTEXT = 48
_CENTRED = 0.15  # a face that moved further than this share of its size is detected again, in the centre
_LARGEST_FACE = 448  # size of a face when measuring, in pixels of the network; much larger ones are missed
_LARGEST_SCALE = 2.0  # of a frame smaller than `input_size`: more only blurs it
_SAME_FACE = 0.4  # least intersection over union
# Frames with a smaller mean are brightened, for detection alone. Of 15 faces, darkened to a mean of 4 with noise, 13
# are detected as they are and 15 brightened (mean scores 0.51 and 0.61); of a mean of 3, 11 and 15 (0.40 and 0.62).
_DARK, _BRIGHTENED = 20.0, 90.0  # grey values


@dataclass(frozen=True)
class Detections:
    """The faces of one frame, best score first, in pixels of the frame.

    A face is measured by the detector, followed from an earlier frame (`dfer.faces.scanning`), or both. If `followed`
    and `measured` are None, all faces are measured and none is followed.

    Attributes:
        boxes: float32[N, 4], left, top, right, bottom.
        scores: float32[N], in [threshold, 1].
        keypoints: float32[N, 5, 2], left eye, right eye, nose, left and right mouth corner (in the picture).
        close_up: whether the fall-back for faces that fill the picture detected them.
        best_score: the best candidate's score, even below the threshold; 0 without a candidate.
        followed: float32[N, 5, 2], the key points where the flow takes them, nan for faces that were not followed.
        measured: bool[N], whether `keypoints` are from the detector.
        looks: uint8[N, 16], what the faces look like (`dfer.faces.appearance`); None or zeros if nobody has looked.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    close_up: bool = False
    best_score: float = 0.0
    followed: NDArray[np.float32] | None = None
    measured: NDArray[np.bool_] | None = None
    looks: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, row: int) -> Detections:
        """One of the faces, without `followed`, `measured` and `looks`."""
        part = slice(row, row + 1)
        return Detections(
            self.boxes[part], self.scores[part], self.keypoints[part], self.close_up, best_score=self.best_score
        )


class FaceDetector:
    """InsightFace's SCRFD at the input size, threshold and execution provider of the settings.

    Key points depend on the scale at which the network sees a face, so all are measured at the full scale: the longer
    side of the frame becomes `input_size`. At this scale the network sees only the part with the face. Faces are
    searched in a small picture (longer side `search_size`; never enlarged, since a face that fills the input is
    missed). Without a face in it, the frame is searched at `input_size`, and then by the close-up fall-back: with a
    black margin, shrunk to a half and a third, and a small frame enlarged as well. Raises ModelFileError if the model
    file is missing or wrong, and DetectorError as `Scrfd` does.
    """

    def __init__(self, settings: DetectionSettings, *, threads: int = 1) -> None:
        self.settings = settings
        self._file = detector_file(settings.model)
        self._network = Scrfd(self._file, input_size=settings.input_size, provider=settings.provider, threads=threads)

    @property
    def batch(self) -> int:
        """How many frames to pass to `detect_batch`: the time depends on the calls on a GPU, on the pixels on a CPU."""
        return 16 if self.settings.provider == "cuda" else 1

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Search a frame uint8[H, W, 3] BGR for faces, and measure them.

        A face that is missed at the full scale (it may fill the frame) keeps the key points of the search.
        """
        view = _View(frame)
        faces, scale = self._search(view)
        if self._network.fixed_size or not len(faces) or scale == self._scale(frame):
            return faces
        if self._crowded(view, faces.boxes):
            whole = self._whole(view, self._scale(frame))
            return whole if len(whole) else faces
        measured = [self._measure(view, box) or faces.take(row) for row, box in enumerate(faces.boxes)]
        return replace(_merged(measured), close_up=faces.close_up)

    def detect_near(self, frame: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Detections | None:
        """Measure one face around each box float32[N, 4] of an earlier frame, at a fraction of the cost of `detect`.

        Returns the faces, without any new one; None if a face is lost, or two boxes lead to the same face.
        """
        if self._network.fixed_size:
            return None
        view = _View(frame)
        if self._crowded(view, boxes):
            whole = self._whole(view, self._scale(frame))
            return whole if len(whole) >= len(boxes) else None
        faces = []
        for box in boxes:
            face = self._measure(view, box)
            if face is None:
                return None
            faces.append(face)
        merged = _merged(faces)
        return merged if len(merged) == len(boxes) else None

    def detect_batch(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """`detect` for frames of one size: all together, whole and at the full scale, as suits a GPU."""
        scale = self._scale(frames[0])
        views = [_View(frame) for frame in frames]
        pictures = np.stack([view.canvas(scale, self._network) for view in views])
        results = self._network.find(pictures, self._reported)
        faces = [
            self._detections(*result, (0, 0), view.ratio(scale)) for view, result in zip(views, results, strict=True)
        ]
        return [whole if len(whole) else self.detect(frame) for whole, frame in zip(faces, frames, strict=True)]

    def describe(self) -> dict[str, str | int | float | bool]:
        """The settings, the model's file name and SHA-256, the provider and library versions."""
        return {
            **self.settings.model_dump(mode="json"),
            "model_file": self._file.name,
            "model_sha256": sha256(self._file),
            "provider": self._network.provider,
            "insightface": version("insightface"),
            "onnxruntime": onnxruntime.__version__,
            "opencv": cv2.__version__,
        }

    @property
    def _reported(self) -> float:
        return min(self.settings.threshold, _REPORTED_SCORE)

    def _scale(self, frame: NDArray[np.uint8]) -> float:
        """The full scale, at which faces are measured."""
        return min(_LARGEST_SCALE, self.settings.input_size / max(frame.shape[:2]))

    def _search(self, view: _View) -> tuple[Detections, float]:
        """The faces of the whole frame, and the scale at which they were detected."""
        longest, large = max(view.frame.shape[:2]), self.settings.input_size
        sizes = {large} if self._network.fixed_size else {min(large, self.settings.search_size), large}
        attempts = [(scale, 0.0) for scale in sorted({min(1.0, size / longest) for size in sizes})]
        if self.settings.close_up_fallback:
            attempts += [(attempts[-1][0] * part, 0.25) for part in _CLOSE_UP_SCALES]
            attempts += [(scale, at) for scale, at in _SMALL_PICTURES if scale * longest * (1 + 2 * at) <= large]
        best = 0.0
        for scale, margin in attempts:
            faces = self._whole(view, scale, margin)
            best = max(best, faces.best_score)
            if len(faces):
                break
        return replace(faces, close_up=len(faces) > 0 and margin > 0, best_score=best), scale

    def _whole(self, view: _View, scale: float, margin: float = 0.0) -> Detections:
        """Detect on the whole frame times `scale`, with a black margin around it (share of the scaled sides)."""
        picture = view.at(scale)
        top, left = (round(side * margin) for side in picture.shape[:2])
        if margin:
            picture = np.asarray(cv2.copyMakeBorder(picture, top, top, left, left, cv2.BORDER_CONSTANT), np.uint8)
        canvas = _canvas(picture, self._network)
        return self._detections(*self._network.find(canvas[None], self._reported)[0], (left, top), view.ratio(scale))

    def _crowded(self, view: _View, boxes: NDArray[np.float32]) -> bool:
        """Whether several faces one by one cost more than the whole frame at the full scale."""
        scale = self._scale(view.frame)
        height, width = view.at(scale).shape[:2]
        ratio = np.tile(view.ratio(scale), 2)
        regions = np.array([_region(box * ratio, (height, width)) for box in boxes])
        return len(boxes) > 1 and int(np.prod(regions[:, 2:] - regions[:, :2], axis=1).sum()) > height * width

    def _measure(self, view: _View, box: NDArray[np.float32]) -> Detections | None:
        """The face that overlaps a box most, at the full scale."""
        size = max(1.0, float(np.sqrt(np.prod(box[2:] - box[:2]))))
        return self._near(view, box, min(self._scale(view.frame), _LARGEST_FACE / size))

    def _near(self, view: _View, box: NDArray[np.float32], scale: float) -> Detections | None:
        """The face that overlaps a box most, detected at a scale."""
        ratio, canvas = view.ratio(scale), view.canvas(scale, self._network)
        for _ in range(2):
            left, top, right, bottom = _region(box * np.tile(ratio, 2), canvas.shape[:2])
            part = np.ascontiguousarray(canvas[top:bottom, left:right])
            faces = self._detections(*self._network.find(part[None], self._reported)[0], (-left, -top), ratio)
            overlaps = _overlaps(box, faces.boxes)
            if overlaps.max(initial=0.0) < _SAME_FACE:
                return None
            face = faces.take(int(overlaps.argmax()))
            moved = np.abs(face.boxes[0] - box).reshape(2, 2).mean(axis=0) / (box[2:] - box[:2])
            if moved.max() <= _CENTRED:
                break
            box = face.boxes[0]
        return face

    def _detections(
        self,
        boxes: NDArray[np.float32],
        keypoints: NDArray[np.float32],
        offset: tuple[int, int],
        ratio: NDArray[np.float32],
    ) -> Detections:
        """The network's result for a picture, in pixels of the frame, which is at `offset` in it, times `ratio`."""
        accepted = boxes[:, 4] >= self.settings.threshold
        points = np.concatenate([boxes[accepted, :4].reshape(-1, 2, 2), keypoints[accepted]], axis=1)
        points = ((points - np.array(offset, np.float32)) / ratio).astype(np.float32)
        return Detections(
            boxes=points[:, :2].reshape(-1, 4),
            scores=boxes[accepted, 4],
            keypoints=points[:, 2:],
            best_score=float(boxes[:, 4].max(initial=0.0)),
        )


class _View:
    """A frame at several scales, each computed once."""

    def __init__(self, frame: NDArray[np.uint8]) -> None:
        self.frame = frame = _brightened(frame)
        self._scaled: dict[float, NDArray[np.uint8]] = {1.0: frame}
        self._canvases: dict[float, NDArray[np.uint8]] = {}

    def at(self, scale: float) -> NDArray[np.uint8]:
        if scale not in self._scaled:
            height, width = (max(1, round(side * scale)) for side in self.frame.shape[:2])
            # Down to a half, bilinear interpolation skips no pixel, and it is several times faster.
            method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
            self._scaled[scale] = np.asarray(cv2.resize(self.frame, (width, height), interpolation=method), np.uint8)
        return self._scaled[scale]

    def canvas(self, scale: float, network: Scrfd) -> NDArray[np.uint8]:
        """The frame at a scale, padded with black to a size that the network accepts."""
        if scale not in self._canvases:
            self._canvases[scale] = _canvas(self.at(scale), network)
        return self._canvases[scale]

    def ratio(self, scale: float) -> NDArray[np.float32]:
        """Pixels at `scale` per pixel of the frame, across and down (sides are whole numbers)."""
        (height, width), (full_height, full_width) = self.at(scale).shape[:2], self.frame.shape[:2]
        return np.array([width / full_width, height / full_height], np.float32)


def _brightened(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A dark frame by a gamma that lifts its mean; any other as it is."""
    mean = float(frame[::4, ::4].mean())
    if mean >= _DARK:
        return frame
    gamma = np.clip(np.log(_BRIGHTENED / 255) / np.log(max(mean, 1.0) / 255), 0.25, 1.0)
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return np.asarray(cv2.LUT(frame, table), np.uint8)


def _canvas(picture: NDArray[np.uint8], network: Scrfd) -> NDArray[np.uint8]:
    """The picture, padded with black below and on the right to a size that the network accepts."""
    height, width = picture.shape[:2]
    side = network.fixed_size
    full = (side, side) if side else (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE)
    canvas = np.zeros((*full, 3), np.uint8)
    canvas[:height, :width] = picture
    return canvas


def _region(box: NDArray[np.floating], size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The part (left, top, right, bottom) of a picture [height, width] around a face, on the network's coarsest grid.

    On this grid the network computes the same as for the whole picture, except near the border.
    """
    sides = box[2:] - box[:2]
    centre = box[:2] + sides * _MIDDLE
    half = sides * _INNER / 2 + _CONTEXT
    limit = -(-np.array(size[1::-1]) // STRIDE) * STRIDE
    low = np.clip(np.floor((centre - half) / STRIDE) * STRIDE, 0, limit - STRIDE).astype(int)
    high = np.clip(np.ceil((centre + half) / STRIDE) * STRIDE, low + STRIDE, limit).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of a box with each of others [N, 4]: [N]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=1)
    return np.asarray(shared / (np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared))


def _merged(faces: Sequence[Detections]) -> Detections:
    """Faces that were detected one by one, best first, without duplicates."""
    kept: list[Detections] = []
    for face in sorted(faces, key=lambda face: -float(face.scores[0])):
        if all(_overlaps(face.boxes[0], other.boxes)[0] < _SAME_FACE for other in kept):
            kept.append(face)
    return Detections(
        boxes=np.concatenate([face.boxes for face in kept]),
        scores=np.concatenate([face.scores for face in kept]),
        keypoints=np.concatenate([face.keypoints for face in kept]),
        best_score=max(face.best_score for face in kept),
    )
