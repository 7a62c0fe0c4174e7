from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dfer.faces.correction import correct_keypoints
from dfer.faces.geometry import transform_points

FACE = np.array([[-20, -15], [20, -15], [0, 5], [-15, 25], [15, 25]], np.float32)


def poses(seed: int, count: int) -> list[NDArray[np.float64]]:
    """Maps [2, 3] that turn, scale and shift a face."""
    rng = np.random.default_rng(seed)
    turns = rng.uniform(0.5, 3, count) * np.exp(1j * rng.uniform(-0.6, 0.6, count))
    return [
        np.array([[a.real, -a.imag, x], [a.imag, a.real, y]])
        for a, (x, y) in zip(turns, rng.uniform(50, 400, (count, 2)), strict=True)
    ]


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(2, 12))
def test_a_shift_that_stays_with_the_face_is_recovered_exactly(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    maps, shift = poses(seed, count), rng.normal(0, 1, (5, 2))
    truth = np.stack([transform_points(FACE + shift, m) for m in maps])
    followed = np.stack([transform_points(FACE, m) for m in maps])
    measured = rng.random(count) < 0.4
    measured[rng.integers(count)] = True
    seen = np.where(measured[:, None, None], truth, followed)
    # Similarity of the points to the template is exact up to one map that all frames share.
    result = correct_keypoints(seen, followed, measured, np.arange(count) * 3)
    np.testing.assert_allclose(result, truth, atol=1e-2)
    np.testing.assert_array_equal(result[measured], truth[measured])


def test_a_shift_that_changes_steadily_is_interpolated_over_time() -> None:
    frames = np.array([0, 2, 10])
    followed = np.stack([FACE] * 3) + 100
    shifts = np.array([0.0, 0.0, 10.0])[:, None, None] * np.array([1.0, 0.5])
    seen = (followed + shifts).astype(np.float32)
    result = correct_keypoints(seen, followed, np.array([True, False, True]), frames)
    np.testing.assert_allclose(result[1], followed[1] + np.array([2.0, 1.0]), atol=1e-3)


def test_without_anything_to_compare_points_stay_as_they_are() -> None:
    seen = np.stack([FACE] * 3)
    unknown = np.full_like(seen, np.nan)
    for measured in (np.array([True, True, True]), np.array([False, False, False])):
        np.testing.assert_array_equal(correct_keypoints(seen, seen, measured, np.arange(3)), seen)
    mixed = np.array([True, False, False])
    followed = np.stack([unknown[0], FACE, FACE])
    np.testing.assert_array_equal(correct_keypoints(seen, followed, mixed, np.arange(3)), seen)
