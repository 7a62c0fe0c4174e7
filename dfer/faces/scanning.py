"""Detects the faces of a clip without searching the whole of every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

from dfer.faces.detector import Detections, FaceDetector
from dfer.system.prefetch import prefetch

NumberedFrame = tuple[int, NDArray[np.uint8]]


def scan_frames(frames: Iterable[NumberedFrame], detector: FaceDetector) -> Iterator[tuple[NumberedFrame, Detections]]:
    """Detect the faces in each frame of a clip (its number in the source, uint8[H, W, 3] BGR), in order.

    The whole frame is searched every `detection.search_every` source frames and when a face is lost; in between only
    the surroundings of the previous frame's faces. So a person who appears in between is detected at the next search.
    Large faces are measured at the full scale every `detection.measure_every` source frames, and followed at a smaller
    scale in between (`dfer.faces.correction`). On a GPU all frames are searched, in batches, while the next are
    decoded.
    """
    if detector.batch > 1:
        for batch in prefetch(_batches(frames, detector.batch)):
            yield from zip(batch, detector.detect_batch([frame for _, frame in batch]), strict=True)
        return
    settings = detector.settings
    previous, last_search, last_measurement = None, 0, 0
    for number, frame in frames:
        detections = None
        if previous is not None and len(previous) and number - last_search < settings.search_every:
            # The correction of the frames in between needs a frame with both scales.
            measure = previous.followed is None or number - last_measurement >= settings.measure_every
            detections = detector.detect_near(frame, previous.boxes, measure=measure)
            last_measurement = number if measure else last_measurement
        if detections is None:
            detections = detector.detect(frame)
            last_search = last_measurement = number
        previous = detections
        yield (number, frame), detections


def _batches(frames: Iterable[NumberedFrame], size: int) -> Iterator[list[NumberedFrame]]:
    """Batches of at most `size` consecutive frames of one shape."""
    for _, same_shape in groupby(frames, key=lambda numbered: numbered[1].shape):
        while batch := list(islice(same_shape, size)):
            yield batch
