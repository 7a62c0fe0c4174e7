from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dfer.faces.detector import FaceDetector
from dfer.faces.flow import follow, pattern
from dfer.faces.geometry import transform_points


@pytest.fixture(scope="module")
def portrait(astronaut: NDArray[np.uint8], detector: FaceDetector) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A portrait in grey and its key points."""
    return cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY), detector.detect(astronaut).keypoints[0]


def moved(picture: NDArray[np.uint8], motion: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(cv2.warpAffine(picture, motion, picture.shape[::-1]), np.uint8)


def test_known_motions_are_recovered_or_refused(portrait) -> None:
    grey, keypoints = portrait
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(60):
        centre = tuple(float(value) for value in keypoints.mean(axis=0))
        motion = cv2.getRotationMatrix2D(centre, rng.uniform(-6, 6), rng.uniform(0.95, 1.05))
        motion[:, 2] += rng.uniform(-9, 9, 2)
        followed = follow(pattern(grey, keypoints), moved(grey, motion), keypoints)
        if followed is not None:
            errors.append(np.abs(followed - transform_points(keypoints, motion)).max())
    assert len(errors) >= 50
    assert max(errors) < 1.2
    assert np.median(errors) < 0.5


def test_another_picture_is_no_motion(portrait) -> None:
    grey, keypoints = portrait
    noise = np.random.default_rng(0).integers(0, 255, grey.shape, np.uint8)
    assert follow(pattern(grey, keypoints), noise, keypoints) is None
    assert follow(pattern(grey, keypoints), np.full_like(grey, 128), keypoints) is None


def test_a_jump_beyond_reach_is_no_motion(portrait) -> None:
    grey, keypoints = portrait
    jumped = np.roll(grey, 200, axis=1)
    assert follow(pattern(grey, keypoints), jumped, keypoints) is None
