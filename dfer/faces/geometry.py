"""Geometry of alignment: maps a face to a fixed position and size by its five key points (section 4.2)."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

# Left eye, right eye, nose, left and right mouth corner (in the picture), in a crop of 112x112: the positions that
# ArcFace (Deng et al., CVPR 2019, https://arxiv.org/abs/1801.07698) and InsightFace align to.
_TIGHT = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
_TIGHT_SIDE = 112.0
# The tight template contains the forehead and cuts the chin, which an open mouth lowers further: most of the margin
# is added below.
_SHARE_ABOVE = 0.3
# The nose is in front of the plane of the other points and moves against them when the head turns.
POINT_WEIGHTS = np.array([1.0, 1.0, 0.25, 1.0, 1.0])
# In profile the points come close to a line, and an affine map that spreads them to the template tears the picture.
STRETCH_LIMIT = 2.0


def template(size: int, margin: float) -> NDArray[np.float32]:
    """The positions of the five key points in an aligned crop of `size` x `size` pixels: float32[5, 2], (x, y).

    The crop is 1 + margin times as wide and high as ArcFace's; left and right get half of the margin each, above gets
    30 % and below 70 %. A margin of 0 is ArcFace's template, scaled to `size`.
    """
    shift = margin * np.array([0.5, _SHARE_ABOVE])
    return ((_TIGHT / _TIGHT_SIDE + shift) * (size / (1.0 + margin))).astype(np.float32)


def crop_matrix(
    keypoints: NDArray[np.floating], target: NDArray[np.floating], transform: Literal["similarity", "affine"]
) -> NDArray[np.float64]:
    """The map float64[2, 3] from frame to crop that brings five key points [5, 2] closest to the template `target`.

    Weighted least squares: the nose counts a quarter of each other point. An affine map stretches one direction at most
    twice as much as the other. Raises ValueError for degenerate points.
    """
    if transform == "similarity":
        return similarity(keypoints, target, POINT_WEIGHTS)
    matrix = affine(keypoints, target, POINT_WEIGHTS)
    u, stretches, v = np.linalg.svd(matrix[:, :2])
    if stretches[0] > STRETCH_LIMIT * stretches[1]:
        centre = POINT_WEIGHTS @ keypoints / POINT_WEIGHTS.sum()
        linear = u @ np.diag([STRETCH_LIMIT * stretches[1], stretches[1]]) @ v
        matrix = np.column_stack([linear, transform_points(centre[None], matrix)[0] - linear @ centre])
    return matrix


def similarity(
    source: NDArray[np.floating], target: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """The rotation, uniform scale and shift that brings `source` closest to `target` (least squares, no reflection).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, in closed
    form for the plane: with centred points as complex numbers, target = a * source has one least-squares solution.
    Points are [N, 2] with N >= 2, weights [N] positive, all 1 by default; the map is float64[2, 3].
    Raises ValueError if the points are not finite, or all source points coincide.
    """
    source, target, weights = _as_float64(source, target, weights)
    source_centre, target_centre = weights @ source, weights @ target
    s = _complex(source - source_centre)
    spread = weights @ np.abs(s) ** 2
    if spread <= 1e-12 * max(1.0, np.square(source).max()):
        raise ValueError(f"the {len(source)} points to align coincide at {source_centre.round(2).tolist()}")
    a = (weights * s.conj()) @ _complex(target - target_centre) / spread
    linear = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([linear, target_centre - linear @ source_centre])


def affine(
    source: NDArray[np.floating], target: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """The affine map that brings `source` closest to `target` (least squares, six parameters).

    Arguments and result as for `similarity`, with N >= 3.
    Raises ValueError if the points are not finite, or the source points lie on one line.
    """
    source, target, weights = _as_float64(source, target, weights)
    source_centre, target_centre = weights @ source, weights @ target
    roots = np.sqrt(weights)[:, None]
    solution, _, rank, _ = np.linalg.lstsq(
        roots * (source - source_centre), roots * (target - target_centre), rcond=1e-6
    )
    if rank < 2:
        raise ValueError(f"the {len(source)} points to align lie on one line; an affine map needs three that do not")
    linear = solution.T
    return np.column_stack([linear, target_centre - linear @ source_centre])


def misfit(keypoints: NDArray[np.floating]) -> tuple[float, float]:
    """How far five key points [5, 2] are from a face's shape, and how far from upright.

    The first is the root mean square, in widths of ArcFace's crop, when they are turned, scaled and shifted as well as
    possible: of 8,905 drawn and detected faces, half are below 0.02 and all below 0.07.
    The second is that turn, 0 to 180 degrees.
    """
    shape = template(1, 0.0)
    upright = similarity(keypoints, shape)
    away = transform_points(keypoints, upright) - shape
    turn = abs(float(np.degrees(np.arctan2(upright[1, 0], upright[0, 0]))))
    return float(np.sqrt(np.square(away).sum(axis=1).mean())), turn


def transform_points(points: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    """Apply a map [2, 3] to points [..., 2], or maps [..., 2, 3] to sets of points [..., N, 2]. Returns float32."""
    linear, shift = matrix[..., :2], matrix[..., 2]
    moved = np.asarray(points, np.float64) @ np.swapaxes(linear, -1, -2) + shift[..., None, :]
    return moved.astype(np.float32)


def warp(frame: NDArray[np.uint8], matrix: NDArray[np.floating], size: int) -> NDArray[np.uint8]:
    """Cut a crop uint8[size, size, C] out of a frame uint8[H, W, C]; black beyond the frame.

    `matrix` [2, 3] maps pixels of the frame to pixels of the crop. A map that shrinks is preceded by area averaging,
    since bilinear interpolation alone would skip pixels.
    """
    exact = matrix.astype(np.float64)
    scale = float(np.sqrt(abs(np.linalg.det(exact[:, :2]))))
    if scale < 1.0:
        frame, exact = _shrink(frame, exact, size, scale)
    return np.asarray(cv2.warpAffine(frame, exact, (size, size), flags=cv2.INTER_LINEAR), np.uint8)


def fit_into_square(shape: tuple[int, ...], size: int) -> NDArray[np.float64]:
    """The map [2, 3] that scales a frame of `shape` (height, width) into the middle of `size` x `size` pixels."""
    height, width = shape
    scale = size / max(height, width)
    return np.array([[scale, 0.0, (size - scale * width) / 2], [0.0, scale, (size - scale * height) / 2]]) + (
        (scale - 1) / 2 * np.array([0.0, 0.0, 1.0])  # pixel centres are at whole numbers
    )


def outside_share(shape: tuple[int, ...], matrix: NDArray[np.floating], size: int) -> float:
    """The share, 0 to 1, of a crop's area that is beyond a frame of `shape` (height, width); `matrix` as for `warp`."""
    height, width = shape
    frame = transform_points(np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) - 0.5, matrix)
    crop = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32) - np.float32(0.5)
    inside, _ = cv2.intersectConvexConvex(frame, crop)
    return 1.0 - min(inside / size**2, 1.0)


def _shrink(
    frame: NDArray[np.uint8], matrix: NDArray[np.float64], size: int, scale: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of the frame under the crop, scaled by `scale`, and the map from it to the crop."""
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64)
    under = transform_points(corners, np.asarray(cv2.invertAffineTransform(matrix), np.float64))
    border = 2.0 / scale  # two pixels of the shrunk picture, for interpolation at its border
    height, width = frame.shape[:2]
    left, top = np.clip(np.floor(under.min(axis=0) - border), 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(under.max(axis=0) + border), 0, [width, height]).astype(int)
    part = frame[top:bottom, left:right]
    if part.size == 0:
        return frame, matrix
    small_size = [max(1, round(side * scale)) for side in (part.shape[1], part.shape[0])]
    small = cv2.resize(part, small_size, interpolation=cv2.INTER_AREA)
    # Pixel centres are at whole numbers: pixel u of the small picture covers x = (u + 0.5) * ratio - 0.5 of the part.
    ratio = np.array([part.shape[1] / small.shape[1], part.shape[0] / small.shape[0]])
    remaining = matrix.copy()
    remaining[:, :2] = matrix[:, :2] * ratio
    remaining[:, 2] = matrix[:, 2] + matrix[:, :2] @ (0.5 * ratio - 0.5 + np.array([left, top]))
    return np.asarray(small, np.uint8), remaining


def _as_float64(
    source: NDArray[np.floating], target: NDArray[np.floating], weights: NDArray[np.floating] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(f"expected two sets of N points, [N, 2], found shapes {source.shape} and {target.shape}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("the points to align must be finite numbers")
    weights = np.ones(len(source)) if weights is None else weights
    return source.astype(np.float64), target.astype(np.float64), (weights / weights.sum()).astype(np.float64)


def _complex(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    return points[:, 0] + 1j * points[:, 1]
