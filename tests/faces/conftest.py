from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from dfer.config.settings import DetectionSettings
from dfer.faces.detector import Detections, FaceDetector


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector(DetectionSettings())


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """A portrait, 512x512 BGR, with one face about 90 pixels wide."""
    return np.ascontiguousarray(data.astronaut()[..., ::-1])


@dataclass(frozen=True)
class Moved:
    """A video of the portrait, the map [2, 3] by which each frame moved it, and the frames themselves."""

    path: Path
    matrices: list[NDArray[np.float64]]
    frames: list[NDArray[np.uint8]]


def motion(angle: float, scale: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """Turn (degrees) and scale about the astronaut's face, then shift."""
    matrix = cv2.getRotationMatrix2D((226.0, 117.0), angle, scale)
    matrix[:, 2] += shift
    return matrix


@pytest.fixture(scope="session")
def moved_video(astronaut: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """Twelve frames of 480x360 in which the face drifts, turns and grows."""
    path = tmp_path_factory.mktemp("moved") / "moved.mp4"
    matrices = [motion(2.0 * k - 10, 0.9 + 0.03 * k, (-20 + 4.0 * k, 40 + 2.0 * k)) for k in range(12)]
    frames = [cv2.warpAffine(astronaut, matrix, (480, 360)) for matrix in matrices]
    return Moved(write_video(path, frames), matrices, frames)


@pytest.fixture(scope="session")
def video_writer() -> Callable[[Path, list[NDArray[np.uint8]]], Path]:
    return write_video


def write_video(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def face_at(x: float, y: float, size: float) -> NDArray[np.float32]:
    """Five key points of an upright face `size` pixels wide, centred at (x, y)."""
    points = np.array([[-0.2, -0.15], [0.2, -0.15], [0.0, 0.05], [-0.15, 0.25], [0.15, 0.25]])
    return (points * size + (x, y)).astype(np.float32)


def found(*faces: tuple[float, float, float], score: float = 0.8, close_up: bool = False) -> Detections:
    """Detections of faces given as (x, y, size)."""
    boxes = np.array([[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for x, y, s in faces], np.float32).reshape(-1, 4)
    points = np.array([face_at(*face) for face in faces], np.float32).reshape(-1, 5, 2)
    scores = np.full(len(faces), score, np.float32)
    return Detections(boxes, scores, points, close_up=close_up, best_score=score if faces else 0.2)


@pytest.fixture(scope="session")
def make_detections() -> Callable[..., Detections]:
    return found
