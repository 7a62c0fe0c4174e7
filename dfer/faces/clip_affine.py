"""Alignment that keeps a face's expression: one stretch and shear for a clip, and in each frame a similarity.

An affine map that is fitted to the key points of each frame has the mouth's corners at the template whatever they do,
so most of a smile is gone. Here people's proportions are evened out once a clip, by a map of the clip's median face
towards the template; a frame's own map only follows the head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfer.faces.geometry import POINT_WEIGHTS, affine, similarity, template, transform_points

# A nose is so many eye distances in front of the eyes: when a head turns, the eyes come nearer to each other by the
# cosine of the angle, and the nose moves sideways by the sine.
_NOSE_DEPTH = 0.6
# Roll follows from the line between the eyes and that from the eyes to the mouth. The second one keeps its length when
# the head turns to profile, but a crooked smile moves it.
_MOUTH_SHARE = 0.3
_NOSE_WEIGHT = 1.0  # in the position, beside 1 for each eye
# Scale follows from the eyes, and a little from all five points, which are steadier but shrink a face whose jaw drops.
_SCALE_SHARE = 0.1
# A clip's median face has the proportions of a person, but also of the expression that is worn most of the time: the
# clip's linear part goes half of the way from a similarity to the map that brings this face to the template. Where that
# leaves the eyes or the mouth's corners farther from the template than this (in its eye distances; 2.7 % of the side of
# a crop with a margin of 0.3), as in clips of turned heads, it goes on until they are not.
_EVENED_OUT = 0.5
_FARTHEST = 0.11
# How much more one direction is stretched than the other, at most; drawn people take up to 1.39.
_MOST_STRETCHED = 1.4
# Standard deviations of the smoothing, source frames. Heads come nearer and tilt more slowly than they move.
_SCALE_SMOOTHING, _ROLL_SMOOTHING, _SHIFT_SMOOTHING = 2.0, 2.0, 0.7
_SPIKE_FRAMES = 4  # source frames from one neighbour to the other
_SPIKE = 3.0  # times the spread of the neighbours
_LEAST_SCALE = 0.2  # of the clip's median: what is smaller is no face, but points that coincide


def clip_matrices(
    keypoints: NDArray[np.floating], frame_indices: NDArray[np.integer], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The map from frame to crop of each frame of a clip, float64[K, 2, 3].

    Each is one linear part for the whole clip after a similarity of the frame (rotation, scale and shift), so motion of
    the mouth and the brows is kept, and no map mirrors (its determinant is positive).

    Args:
        keypoints: [K, 5, 2], of one person, pixels of the frames.
        frame_indices: int[K], the increasing numbers of the frames in the source.
        target: [5, 2], the key points' positions in the crop.

    Raises ValueError if points are not finite, or those of most frames coincide.
    """
    points = keypoints[..., 0].astype(np.float64) + 1j * keypoints[..., 1]
    if not np.isfinite(points).all():
        raise ValueError("the points to align must be finite numbers")
    scale, roll, centre = _poses(points)
    seen_width = float(np.median(np.abs(points[:, 1] - points[:, 0]) / np.maximum(scale, 1e-12)))
    least = _LEAST_SCALE * float(np.median(scale))
    if least <= 1e-6:
        raise ValueError("the points to align coincide in most frames")
    scale = np.exp(smooth(np.log(np.maximum(scale, least)), frame_indices, _SCALE_SMOOTHING))
    roll = smooth(np.unwrap(roll), frame_indices, _ROLL_SMOOTHING)
    centre = smooth(centre, frame_indices, _SHIFT_SMOOTHING)
    to_face = np.exp(-1j * roll) / scale  # a frame's point p is at to_face * (p - centre)
    faces = (points - centre[:, None]) * to_face[:, None]
    median = np.column_stack([np.median(faces.real, axis=0), np.median(faces.imag, axis=0)])
    proportions = _proportions(median, target, min(seen_width, 1.0))
    turn = np.stack([[to_face.real, -to_face.imag], [to_face.imag, to_face.real]]).transpose(2, 0, 1)
    shift = -to_face * centre
    linear = proportions[:, :2] @ turn
    offset = np.column_stack([shift.real, shift.imag]) @ proportions[:, :2].T + proportions[:, 2]
    return np.concatenate([linear, offset[..., None]], axis=2)


def _proportions(median: NDArray[np.float64], target: NDArray[np.floating], seen_width: float) -> NDArray[np.float64]:
    """The map [2, 3] from the median face to the crop, by the eyes, the nose and the middle of the mouth.

    The mouth's width is an expression's, so it is fitted only where the face would be far from the template without. A
    median face that is turned to the side is stretched no more than people differ, and one in profile, which an affine
    map would mirror or tear, is only scaled. `seen_width` is the share of the eyes' distance that is seen, 1 from the
    front.
    """
    middle = target.mean(axis=0)
    alike = similarity(median, (target - middle) * [seen_width, 1.0] + middle, POINT_WEIGHTS)
    four = [np.vstack([points[:3], points[3:].mean(axis=0)]) for points in (median, target)]
    try:
        by_four = affine(four[0], four[1], np.array([*POINT_WEIGHTS[:3], POINT_WEIGHTS[3:].sum()]))
        by_all = affine(median, target, POINT_WEIGHTS)
    except ValueError:  # the points are on one line
        return alike
    evened_out = (1 - _EVENED_OUT) * alike + _EVENED_OUT * by_four
    farthest = _FARTHEST * float(np.linalg.norm(target[1] - target[0]))
    matrix = alike
    for share in np.linspace(0, 1, 11):
        further = (1 - share) * evened_out + share * by_all
        if not _is_gentle(further):
            break
        matrix = further
        off = np.linalg.norm(transform_points(median, matrix) - target, axis=1)[[0, 1, 3, 4]]
        if off.max() <= farthest:
            return matrix
    if matrix is not alike or _is_gentle(evened_out):
        return matrix
    shares = (share for share in np.linspace(0.95, 0, 20) if _is_gentle((1 - share) * alike + share * evened_out))
    share = next(shares, 0.0)
    return (1 - share) * alike + share * evened_out


def _is_gentle(matrix: NDArray[np.float64]) -> bool:
    """Whether a map neither mirrors nor stretches one direction much more than the other."""
    largest, smallest = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(np.linalg.det(matrix[:, :2]) > 0 and largest <= _MOST_STRETCHED * smallest)


def _poses(points: NDArray[np.complex128]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.complex128]]:
    """Of each frame's points complex[K, 5]: the distance of the eyes as if the head were not turned, the angle by which
    it is rolled, and where it is, from points that do not move with an expression."""
    left, right, nose, left_mouth, right_mouth = points.T
    eyes = (left + right) / 2
    upright = template(1, 0.0) @ np.array([1, 1j])
    down = (upright[3] + upright[4] - upright[0] - upright[1]) / 2 / (upright[1] - upright[0])
    across = right - left
    mouth = (left_mouth + right_mouth) / 2 - eyes
    direction = across + _MOUTH_SHARE * mouth * np.conj(down)
    turned = np.conj(direction) / np.maximum(np.abs(direction), 1e-12)
    sideways = ((nose - eyes) * turned).real
    of_eyes = np.hypot((across * turned).real, sideways / _NOSE_DEPTH)
    weights = POINT_WEIGHTS / POINT_WEIGHTS.sum()
    shape = (upright - upright @ weights) / abs(upright[1] - upright[0])
    spread = weights @ np.abs(shape) ** 2
    of_all = np.abs((points - (points @ weights)[:, None]) @ (weights * np.conj(shape))) / spread
    scale = of_eyes ** (1 - _SCALE_SHARE) * of_all**_SCALE_SHARE
    centre = (left + right + _NOSE_WEIGHT * nose) / (2 + _NOSE_WEIGHT)
    return scale, np.angle(direction), centre


def smooth(values: NDArray[Any], frame_indices: NDArray[np.integer], deviation: float) -> NDArray[Any]:
    """Values [K], real or complex, as a smooth motion over the source's frames.

    A single frame that is far from two neighbours who agree is not believed. Then a straight line is fitted around each
    frame, with weights of a Gaussian of a standard deviation in source frames: steady motion is kept exactly, and
    frames that are far apart do not influence each other.
    """
    values = _without_spikes(values, frame_indices)
    reach = min(int(np.ceil(3 * deviation)), len(values) - 1)
    sums = np.zeros((3, len(values)))  # of the weights, times the distance, times its square
    products = np.zeros((2, len(values)), values.dtype)  # of the values, times the distance
    for step in range(-reach, reach + 1):
        here = slice(max(-step, 0), len(values) - max(step, 0))
        near = slice(max(step, 0), len(values) + min(step, 0))
        distance = (frame_indices[near] - frame_indices[here]).astype(np.float64)
        weight = np.exp(-((distance / deviation) ** 2) / 2) * (np.abs(distance) <= 3 * deviation)
        sums[:, here] += weight * distance ** np.arange(3)[:, None]
        products[:, here] += weight * values[near] * distance ** np.arange(2)[:, None]
    determinant = sums[0] * sums[2] - sums[1] ** 2
    alone = determinant <= 1e-6 * sums[0] ** 2
    line = (sums[2] * products[0] - sums[1] * products[1]) / np.where(alone, 1.0, determinant)
    return np.where(alone, values, line)


def _without_spikes(values: NDArray[Any], frame_indices: NDArray[np.integer]) -> NDArray[Any]:
    """The middle of two neighbours in place of a value that is far from both, where two on each side agree.

    Where they do not agree, they are of a motion: in a picture that shakes, one frame may well lie off the next.
    """
    result = values.copy()
    if len(values) > 2:
        around = np.pad(values, 2, mode="edge")
        around[[1, -2]] = values[[1, -2]]  # at the ends, the other neighbour twice
        neighbours = np.stack([around[shift : shift + len(values)] for shift in (0, 1, 3, 4)])[:, 1:-1]
        spread = np.hypot(np.ptp(neighbours.real, axis=0), np.ptp(neighbours.imag, axis=0))
        middle = (values[:-2] + values[2:]) / 2
        near = frame_indices[2:] - frame_indices[:-2] <= _SPIKE_FRAMES
        result[1:-1] = np.where(near & (np.abs(values[1:-1] - middle) > _SPIKE * spread), middle, values[1:-1])
    return result
