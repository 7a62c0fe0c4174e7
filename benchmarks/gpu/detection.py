"""Face detection on a GPU against a processor, in the portraits of the demo data."""

from __future__ import annotations

import time
from importlib.resources import as_file, files

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.conditions import Conditions, Values
from dfer.config.settings import DetectionSettings
from dfer.faces.detector import FaceDetector


def detect(conditions: Conditions) -> Values:
    """Batches on the GPU against frame by frame in one thread of the processor, and how far apart key points are."""
    processor = FaceDetector(DetectionSettings(provider="cpu"))
    other = FaceDetector(DetectionSettings(provider="cuda" if conditions.device == "cuda" else "cpu"))
    frames = pictures(conditions.pictures)
    batches = [frames[start : start + 16] for start in range(0, len(frames), 16)]
    distances, missed = [], 0
    for some in batches:  # the same algorithm on both
        for one, two in zip(processor.detect_batch(some), other.detect_batch(some), strict=True):
            if len(one) and len(two):
                distances += np.linalg.norm(one.keypoints[0] - two.keypoints[0], axis=1).tolist()
            else:
                missed += len(one) != len(two)
    if not distances:
        raise ValueError(f"no face was found on both sides in {len(frames)} portraits")
    seconds: list[float] = []
    ends, started = time.perf_counter() + conditions.seconds, time.perf_counter()
    while not seconds or started < ends:
        for some in batches:
            other.detect_batch(some)
        seconds.append((time.perf_counter() - started) / len(frames))
        started = time.perf_counter()
    for frame in frames:
        processor.detect(frame)
    on_processor = (time.perf_counter() - started) / len(frames)
    median = float(np.median(seconds))
    remark = (
        f"on the processor {1000 * on_processor:.3g} ms a frame; key points {np.median(distances):.3f} px apart "
        f"(median), {max(distances):.3f} at most, of faces in {frames[0].shape[1]}x{frames[0].shape[0]} px; "
        f"{missed} faces found by one side alone"
    )
    return {"ms": 1000 * median, "rate": 1 / median, "ratio": on_processor / median, "remark": remark}


def pictures(number: int) -> list[NDArray[np.uint8]]:
    """So many pictures of one face each, uint8[H, W, 3], all of one size."""
    # read by their path: importing the package that draws with them needs much more
    with as_file(files("dfer") / "demo" / "assets") as folder:
        portraits = [np.asarray(cv2.imread(str(path)), np.uint8) for path in sorted(folder.glob("sol*.jpg"))]
    return [np.roll(portraits[row % len(portraits)], 8 * (row // len(portraits)), axis=1) for row in range(number)]
