"""The faces in the frames of one clip, without looking at the whole of every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

from dfer.faces.detector import Detections, FaceDetector
from dfer.system.prefetch import prefetch

NumberedFrame = tuple[int, NDArray[np.uint8]]


def scan_frames(frames: Iterable[NumberedFrame], detector: FaceDetector) -> Iterator[tuple[NumberedFrame, Detections]]:
    """The faces in each of a clip's frames (number and uint8[H, W, 3] BGR), in order.

    The whole frame is searched when `detection.search_every` source frames have passed, in between only the places
    where faces were in the frame before, unless one of them is lost: a person who appears in between is found at the
    next search. Large faces are measured at the full scale when `detection.measure_every` source frames have passed,
    and followed at a smaller one in between, see `dfer.faces.correction`. On a GPU all frames are searched, many at a
    time, while the next are decoded.
    """
    if detector.batch > 1:
        for group in prefetch(_groups(frames, detector.batch)):
            yield from zip(group, detector.detect_batch([frame for _, frame in group]), strict=True)
        return
    settings = detector.settings
    last, searched, measured = None, 0, 0
    for number, frame in frames:
        found = None
        if last is not None and len(last) and number - searched < settings.search_every:
            # Without a look at both scales there is nothing to correct the frames in between by.
            measure = last.followed is None or number - measured >= settings.measure_every
            found = detector.detect_near(frame, last.boxes, measure=measure)
            measured = number if measure else measured
        if found is None:
            found = detector.detect(frame)
            searched = measured = number
        last = found
        yield (number, frame), found


def _groups(frames: Iterable[NumberedFrame], most: int) -> Iterator[list[NumberedFrame]]:
    """Runs of at most so many frames of one size."""
    for _, same_size in groupby(frames, key=lambda numbered: numbered[1].shape):
        while group := list(islice(same_size, most)):
            yield group
