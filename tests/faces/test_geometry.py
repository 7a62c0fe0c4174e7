from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dfer.faces.geometry import affine, crop_matrix, similarity, template, transform_points, warp

angles = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 20)
shifts = st.floats(-2000, 2000)


def similar(angle: float, scale: float, x: float, y: float) -> NDArray[np.float64]:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


def apply(points: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    return points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]


@settings(deadline=None)
@given(angles, scales, shifts, shifts)
def test_a_known_similarity_is_recovered(angle: float, scale: float, x: float, y: float) -> None:
    points, known = template(224, 0.25), similar(angle, scale, x, y)
    np.testing.assert_allclose(similarity(points, apply(points, known)), known, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(angles, scales, st.floats(0.3, 3), st.floats(-1, 1), shifts, shifts)
def test_a_known_affine_map_is_recovered(
    angle: float, scale: float, stretch: float, shear: float, x: float, y: float
) -> None:
    points = template(224, 0.25)
    known = similar(angle, scale, x, y)
    known[:, :2] = known[:, :2] @ np.array([[stretch, shear], [0, 1]])
    np.testing.assert_allclose(affine(points, apply(points, known)), known, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_similarity_nearby_is_a_better_fit(seed: int) -> None:
    generator = np.random.default_rng(seed)
    source, target = generator.normal(0, 50, (2, 5, 2))
    weights = generator.uniform(0.1, 1, 5)
    best = similarity(source, target, weights)

    def error(matrix: NDArray[np.float64]) -> float:
        return float(weights @ np.square(apply(source, matrix) - target).sum(axis=1))

    for step in (similar(1e-3, 1, 0, 0), similar(0, 1.001, 0, 0), similar(0, 1, 0.1, 0), similar(0, 1, 0, 0.1)):
        nearby = step @ np.vstack([best, [0, 0, 1]])
        assert error(best) <= error(nearby)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    points = template(224, 0.25)
    matrix = similarity(points * [-1, 1], points)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_degenerate_points_are_refused() -> None:
    target = template(224, 0.25)
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.full((5, 2), 7.0), target)
    with pytest.raises(ValueError, match="one line"):
        affine(np.outer(np.arange(5.0), [1, 2]), target)
    with pytest.raises(ValueError, match="finite"):
        similarity(np.full((5, 2), np.nan), target)
    with pytest.raises(ValueError, match="shapes"):
        affine(np.zeros((4, 2)), target)


def test_points_follow_the_maps_of_their_frames() -> None:
    points = np.stack([template(112, 0.0)] * 3)
    matrices = np.stack([similar(0.1 * k, 1 + k, 5 * k, -k) for k in range(3)])
    moved = transform_points(points, matrices)
    assert moved.dtype == np.float32
    for k in range(3):
        np.testing.assert_allclose(moved[k], apply(points[k], matrices[k]), rtol=1e-5)


def test_without_margin_the_template_is_arcfaces() -> None:
    expected = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    np.testing.assert_allclose(template(112, 0.0), expected, rtol=1e-6)
    np.testing.assert_allclose(template(224, 0.0), 2 * np.array(expected), rtol=1e-6)


def test_the_margin_makes_room_mostly_below() -> None:
    tight, roomy = template(100, 0.0), template(100, 0.25)
    widths = [points[1, 0] - points[0, 0] for points in (tight, roomy)]
    assert widths[1] == pytest.approx(widths[0] / 1.25, rel=1e-5)
    # The edges of the tight crop, seen in the roomy one: 10 pixels free at the sides, 6 above, 14 below.
    corners = transform_points(np.array([[0.0, 0.0], [100.0, 100.0]]), similarity(tight, roomy))
    np.testing.assert_allclose(corners, [[10, 6], [90, 86]], atol=0.01)


def test_the_nose_counts_less_than_eyes_and_mouth() -> None:
    target = template(224, 0.25)
    turned = target.copy()
    turned[2, 0] += 20
    moved = transform_points(turned, crop_matrix(turned, target, "similarity"))
    plain = transform_points(turned, similarity(turned, target))
    others = [0, 1, 3, 4]
    assert abs(moved - target)[others].max() < 0.5 * abs(plain - target)[others].max()


def test_an_affine_crop_is_not_stretched_without_bound() -> None:
    target = template(224, 0.25)
    profile = target * [0.1, 1.0]
    stretches = np.linalg.svd(crop_matrix(profile, target, "affine")[:, :2], compute_uv=False)
    assert stretches == pytest.approx([2.0, 1.0], rel=1e-4)
    moved = transform_points(profile, crop_matrix(profile, target, "affine"))
    assert abs(moved - target)[:, 1].max() < 0.01
    mild = target * [0.7, 1.0]
    np.testing.assert_allclose(transform_points(mild, crop_matrix(mild, target, "affine")), target, atol=0.01)


@pytest.mark.parametrize("scale", [0.13, 0.37, 0.8, 1.0, 2.5])
def test_a_warped_spot_lands_where_the_matrix_says(scale: float) -> None:
    frame = np.zeros((600, 800, 3), np.uint8)
    x, y = 430.0, 310.0
    cv2.circle(frame, (int(x), int(y)), round(6 / min(scale, 1)), (255, 255, 255), -1)
    matrix = similar(0.3, scale, 0, 0)
    matrix[:, 2] = [60, 45] - apply(np.array([x, y]), matrix)
    crop = warp(frame, matrix, 112)[..., 0].astype(float)
    rows, columns = np.mgrid[:112, :112]
    centre = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    np.testing.assert_allclose(centre, [60, 45], atol=0.15)


def test_shrinking_averages_what_a_plain_look_up_would_skip() -> None:
    rows, columns = np.mgrid[:600, :600]
    board = np.repeat(((rows // 2 + columns // 2) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    matrix = similar(0.2, 0.17, 30, 0)
    crop, plain = warp(board, matrix, 80), cv2.warpAffine(board, matrix, (80, 80))
    inside = (slice(30, 60), slice(30, 60))
    assert plain[inside].std() > 40
    assert crop[inside].std() < 6
    assert crop[inside].mean() == pytest.approx(127.5, abs=3)


def test_a_crop_beyond_the_frame_is_black_there() -> None:
    frame = np.full((200, 200, 3), 255, np.uint8)
    crop = warp(frame, similar(0, 0.5, -50, 0), 100)
    assert (crop[5:95, 5:45] == 255).all()
    assert (crop[:, 55:] == 0).all()
    assert (warp(frame, similar(0, 0.5, 500, 500), 100) == 0).all()
