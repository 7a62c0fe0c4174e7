from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


@settings(deadline=None, max_examples=25)
@given(st.floats(-5, 5), st.floats(0.96, 1.04), st.floats(-9, 9), st.floats(-9, 9))
def test_a_known_motion_is_recovered(portrait, degrees: float, scale: float, x: float, y: float) -> None:
    grey, keypoints = portrait
    centre = tuple(float(value) for value in keypoints.mean(axis=0))
    motion = cv2.getRotationMatrix2D(centre, degrees, scale) + np.array([[0, 0, x], [0, 0, y]])
    followed = follow(pattern(grey, keypoints), moved(grey, motion), keypoints)
    assert followed is not None
    assert np.abs(followed - transform_points(keypoints, motion)).max() < 1


def test_another_picture_is_no_motion(portrait) -> None:
    grey, keypoints = portrait
    noise = np.random.default_rng(0).integers(0, 255, grey.shape, np.uint8)
    assert follow(pattern(grey, keypoints), noise, keypoints) is None
    assert follow(pattern(grey, keypoints), np.full_like(grey, 128), keypoints) is None


def test_a_jump_beyond_reach_is_no_motion(portrait) -> None:
    grey, keypoints = portrait
    jumped = np.roll(grey, 200, axis=1)
    assert follow(pattern(grey, keypoints), jumped, keypoints) is None
