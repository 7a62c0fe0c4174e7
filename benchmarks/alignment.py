"""`python -m benchmarks.alignment VIDEO...`: what each `alignment.transform` keeps of a face's motion, as a table.

Faces are detected and tracked once a video, in every frame. Against a similarity per frame: the spread (5th to 95th
percentile over the clip) of the distance of eyes and mouth and of the mouth's width. Then the farthest of the eyes'
and the mouth's median positions from the template, in shares of the crop's side; the smallest determinant; and the
jitter of eyes and nose, measured in the pixels: patches around them are followed from crop to crop by optical flow, in
the half of the frames in which the face moves least, and the root mean square of their change of speed is taken.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.config.settings import DetectionSettings
from dfer.faces.clip_affine import clip_matrices
from dfer.faces.detector import FaceDetector
from dfer.faces.geometry import crop_matrix, template, transform_points, warp
from dfer.faces.scanning import scan_frames
from dfer.faces.tracking import smooth_keypoints, track_person
from dfer.video import Video

SIZE = 224
TARGET = template(SIZE, 0.3)
TRANSFORMS = ("similarity", "affine", "clip-affine")
_EYES_AND_MOUTH = [0, 1, 3, 4]
_PATCH = 12  # pixels from its middle to its border


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment", description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument("--frames", type=int, default=300, help="the first ones of each video (default: 300)")
    values = parser.parse_args(arguments)
    detector = FaceDetector(DetectionSettings(), threads=os.cpu_count() or 1)
    sys.stdout.write(
        "| video | transform | eyes to mouth kept | mouth's width kept | off the template | least det | jitter, px |\n"
    )
    sys.stdout.write("|---|---|---:|---:|---:|---:|---:|\n")
    for path in values.videos:
        for row in _rows(path, values.frames, detector):
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()


def _rows(path: Path, number: int, detector: FaceDetector) -> Iterator[str]:
    video = Video(path)
    scanned = list(scan_frames(video.frames(video.readable[:number]), detector))
    indices = np.array([index for (index, _), _ in scanned], np.int64)
    track = track_person([faces for _, faces in scanned], indices, max_gap=12)
    if track is None:
        yield f"| {path.name} | no face | | | | | |"
        return
    pictures = [scanned[position][0][1] for position in track.positions]
    frames, points = indices[track.positions], smooth_keypoints(track.keypoints, indices[track.positions])
    alike = _spreads(points, _matrices("similarity", track.keypoints, frames))
    for transform in TRANSFORMS:
        matrices = _matrices(transform, track.keypoints, frames)
        kept = _spreads(points, matrices) / alike
        median = np.median(transform_points(points, matrices), axis=0)
        off = float(np.linalg.norm(median - TARGET, axis=1)[_EYES_AND_MOUTH].max()) / SIZE
        least = float(np.linalg.det(matrices[:, :, :2]).min())
        shaking = _jitter(pictures, matrices, points)
        yield (
            f"| {path.name} | {transform} | {kept[0]:.0%} | {kept[1]:.0%} | {off:.1%} | {least:.2f} | {shaking:.2f} |"
        )


def _matrices(transform: str, keypoints: NDArray[np.float32], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    if transform == "clip-affine":
        return clip_matrices(keypoints, frames, TARGET)
    smoothed = smooth_keypoints(keypoints, frames)
    return np.stack([crop_matrix(p, TARGET, "affine" if transform == "affine" else "similarity") for p in smoothed])


def _spreads(points: NDArray[np.float32], matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the distance of eyes and mouth and of the mouth's width in the crops, pixels: [2]."""
    seen = transform_points(points, matrices)
    between = np.linalg.norm(seen[:, :2].mean(axis=1) - seen[:, 3:].mean(axis=1), axis=1)
    low, high = np.percentile([between, np.linalg.norm(seen[:, 3] - seen[:, 4], axis=1)], [5, 95], axis=1)
    return np.asarray(high - low, np.float64)


def _jitter(pictures: Sequence[NDArray[np.uint8]], matrices: NDArray[np.float64], points: NDArray[np.float32]) -> float:
    crops = [
        cv2.cvtColor(warp(picture, matrix, SIZE), cv2.COLOR_BGR2GRAY)
        for picture, matrix in zip(pictures, matrices, strict=True)
    ]
    middles = np.median(transform_points(points, matrices), axis=0)[:3]  # eyes and nose
    across = np.arange(-_PATCH, _PATCH + 1, 6, dtype=np.float32)
    grid = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
    start = (middles[:, None] + grid).reshape(-1, 1, 2).astype(np.float32)
    steps = []
    for before, after in pairwise(crops):
        moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None, winSize=(15, 15), maxLevel=2)  # type: ignore[call-overload]
        step = np.where(status[:, :1] > 0, (moved - start)[:, 0], np.nan).reshape(3, -1, 2)
        steps.append(np.nanmedian(step, axis=1))
    changes = np.linalg.norm(np.diff(np.stack(steps), axis=0), axis=2)  # [K - 2, 3]
    speed = np.linalg.norm(np.diff(points[:, :3].mean(axis=1), axis=0), axis=1)
    speed = np.maximum(speed[1:], speed[:-1])
    return float(np.sqrt(np.nanmean(np.square(changes[speed <= np.median(speed)]))))


if __name__ == "__main__":
    main()
