from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dfer.config.settings import AlignmentSettings, DetectionSettings, ShardSettings, TrackingSettings
from dfer.demo import acting, render
from dfer.demo.camera import CAMERAS, Look, draw_look
from dfer.demo.people import person
from dfer.demo.warp import STEP, WINDOW
from dfer.faces.clip_affine import clip_matrices, smooth
from dfer.faces.clips import align_clip
from dfer.faces.detector import FaceDetector
from dfer.faces.geometry import crop_matrix, similarity, template, transform_points
from dfer.labels import EMOTIONS
from tests.faces.conftest import write_video

SIZE = 96
TARGET = template(SIZE, 0.3)
# the shape of a head in eye distances: x to the right, y down, z away from the camera
HEAD = np.array([[-0.5, -0.58, 0.0], [0.5, -0.58, 0.0], [0.0, 0.0, -0.6], [-0.42, 0.58, -0.05], [0.42, 0.58, -0.05]])
MESH = {"eyes": (33, 133, 362, 263), "left eye": (33, 133), "right eye": (362, 263), "nose": (168,)}
MESH |= {"left mouth": (61,), "right mouth": (291,)}


def turned(yaw: NDArray[np.float64], shape: NDArray[np.float64] = HEAD) -> NDArray[np.float64]:
    """The key points [K, 5, 2] of a head that is turned to the side by each angle (degrees), 60 pixels large."""
    angle = np.radians(yaw)[:, None]
    x = shape[:, 0] * np.cos(angle) - shape[:, 2] * np.sin(angle)
    return np.stack([x, np.broadcast_to(shape[:, 1], x.shape)], axis=2) * 60 + 200


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-95.0, -80.0, 80.0, 95.0]))
def test_no_map_mirrors_a_head_that_turns_to_profile(seed: int, farthest: float) -> None:
    points = turned(np.linspace(0, farthest, 60))
    points += np.random.default_rng(seed).normal(0, 1.2, points.shape)
    linear = clip_matrices(points, np.arange(60), TARGET)[:, :, :2]
    assert (np.linalg.det(linear) > 0).all()
    largest, smallest = np.linalg.svd(linear, compute_uv=False).T
    assert (largest <= 2 * smallest).all()
    assert (np.abs(np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))) < 25).all()


@pytest.mark.parametrize("yaw", [80.0, 90.0, 95.0])
def test_a_clip_that_is_all_in_profile_is_only_scaled(yaw: float) -> None:
    points = turned(np.full(20, yaw)) + np.random.default_rng(0).normal(0, 0.5, (20, 5, 2))
    matrices = clip_matrices(points, np.arange(20), TARGET)
    largest, smallest = np.linalg.svd(matrices[:, :, :2], compute_uv=False).T
    assert (np.linalg.det(matrices[:, :, :2]) > 0).all()
    assert (largest < 1.55 * smallest).all()
    seen = transform_points(points, matrices)
    height = np.linalg.norm(seen[:, 3:].mean(axis=1) - seen[:, :2].mean(axis=1), axis=1)
    assert np.abs(height / (TARGET[3:].mean(axis=0) - TARGET[:2].mean(axis=0))[1] - 1).max() < 0.3


def test_a_head_that_turns_keeps_its_size() -> None:
    points = turned(40 * np.sin(np.linspace(0, 6, 80)))
    scale = np.sqrt(np.linalg.det(clip_matrices(points, np.arange(80), TARGET)[:, :, :2]))
    with_all_points = [np.sqrt(np.linalg.det(crop_matrix(p, TARGET, "similarity")[:, :2])) for p in points]
    assert scale.max() / scale.min() < 1.02
    assert max(with_all_points) / min(with_all_points) > 1.05


def test_one_linear_part_for_the_clip_and_a_similarity_for_each_frame() -> None:
    generator = np.random.default_rng(1)
    wide = HEAD * [1.15, 1, 1]
    face = turned(np.zeros(1), wide)[0]
    maps = [cv2.getRotationMatrix2D((200, 200), 8 * np.sin(k / 9), 1 + 0.2 * np.sin(k / 11)) for k in range(50)]
    points = np.stack([transform_points(face, m) for m in maps])
    matrices = clip_matrices(points, np.arange(50), TARGET)
    together = np.stack([m @ np.vstack([moved, [0, 0, 1]]) for m, moved in zip(matrices, maps, strict=True)])
    assert np.abs(transform_points(np.broadcast_to(face, points.shape), together).std(axis=0)).max() < 0.25  # pixels
    seen = np.median(transform_points(points, matrices), axis=0)
    alike = transform_points(face, similarity(face, TARGET))
    assert np.abs(seen - TARGET)[[0, 1, 3, 4]].max() < np.abs(alike - TARGET)[[0, 1, 3, 4]].max()
    assert np.linalg.norm(seen - TARGET, axis=1).max() < 0.03 * SIZE
    noisy = points + generator.normal(0, 1, points.shape)
    assert np.abs(clip_matrices(noisy, np.arange(50), TARGET) - matrices)[:, :, :2].max() < 0.03


def test_a_head_that_is_turned_a_little_further_is_stretched_a_little_differently() -> None:
    """From the front to profile, no clip is torn wide."""
    stretches = []
    for yaw in range(91):
        matrices = clip_matrices(turned(np.full(12, float(yaw))), np.arange(12), TARGET)
        largest, smallest = np.linalg.svd(matrices[0, :, :2], compute_uv=False)
        assert np.linalg.det(matrices[0, :, :2]) > 0
        stretches.append(largest / smallest)
    assert max(stretches) <= 1.4
    assert np.abs(np.diff(stretches)).max() < 0.3


@settings(deadline=None, max_examples=60)
@given(st.floats(0.87, 1.2), st.floats(0.8, 1.3), st.floats(0.9, 1.12), st.floats(-25, 25), st.integers(0, 2**32 - 1))
def test_a_face_of_other_proportions_is_near_the_template(
    width: float, mouth: float, height: float, yaw: float, seed: int
) -> None:
    shape = HEAD * [width, height, 1]
    shape[3:, 0] *= mouth
    points = turned(np.full(24, yaw), shape) + np.random.default_rng(seed).normal(0, 0.3, (24, 5, 2))
    median = np.median(transform_points(points, clip_matrices(points, np.arange(24), TARGET)), axis=0)
    assert np.linalg.norm(median - TARGET, axis=1)[[0, 1, 3, 4]].max() < 0.03 * SIZE


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.floats(-3, 3), st.floats(-50, 50))
def test_steady_motion_is_kept_exactly_whatever_frames_are_missing(
    steps: list[int], slope: float, start: float
) -> None:
    frames = np.cumsum(steps)
    values = start + slope * frames
    np.testing.assert_allclose(smooth(values, frames, 2.0), values, atol=1e-6)
    np.testing.assert_allclose(smooth(values * 1j, frames, 2.0), values * 1j, atol=1e-6)


def test_one_wrong_frame_moves_no_other() -> None:
    values = np.zeros(30)
    values[12] = 40
    assert np.abs(smooth(values, np.arange(30), 2.0)).max() == 0
    apart = np.arange(30) * 20
    assert smooth(values, apart, 2.0)[12] == 40  # nothing is known of what is between


def test_points_that_no_map_exists_for_are_refused() -> None:
    points = np.ones((4, 5, 2))
    with pytest.raises(ValueError, match="coincide"):
        clip_matrices(points, np.arange(4), TARGET)
    points[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        clip_matrices(points, np.arange(4), TARGET)


class Rendered(NamedTuple):
    path: Path
    points: NDArray[np.float64]  # true, [T, 5, 2]


def rendered(folder: Path, name: str, emotion: str, seed: int, *, still: bool = False) -> Rendered:
    """A clip of the demo's renderer, and where its five points really are in the pictures."""
    generator = np.random.default_rng(seed)
    who, frames = person(name), 30
    performance = acting.perform([float(each == emotion) for each in EMOTIONS], frames, generator)
    look = draw_look(CAMERAS["dfew"], frames, generator)
    if still:
        performance.head[:] = 0
        look.views[:] = look.views[0]
    path = write_video(
        folder / f"{name}-{emotion}.mp4",
        [cv2.cvtColor(p, cv2.COLOR_GRAY2BGR) for p in pictures(who, performance, look)],
    )
    puppet = render._Puppet.of(who, performance)
    portrait = np.stack([who.at(*MESH[key]) for key in list(MESH)[1:]])
    at = np.rint((portrait - np.array(WINDOW[:2])) / STEP).astype(int)
    true = []
    for frame in range(frames):
        moved = portrait + puppet.field(frame)[at[:, 1], at[:, 0]]
        view = np.vstack([look.views[frame], [0, 0, 1]]).astype(float)
        seen = transform_points(moved, np.linalg.inv(view)[:2])
        if np.linalg.det(view) < 0:
            seen = seen[[1, 0, 2, 4, 3]]  # the mirrored face's left is the other one
        true.append(seen)
    return Rendered(path, np.stack(true).astype(float))


def pictures(who: render.Person, performance: acting.Performance, look: Look) -> list[NDArray[np.uint8]]:
    return [frame.copy() for frame in render.pictures(who, performance, look)]


def spans(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The distance of eyes and mouth, and the mouth's width: [T, 2]."""
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    both = [np.linalg.norm(eyes - mouth, axis=1), np.linalg.norm(points[:, 3] - points[:, 4], axis=1)]
    return np.stack(both, axis=1).astype(float)


def motion(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The range of both (5th to 95th percentile), as a share of their usual size: [2]."""
    values = spans(points)
    low, high = np.percentile(values, [5, 95], axis=0)
    return np.asarray((high - low) / np.median(values, axis=0), np.float64)


def maps_of(path: Path, detector: FaceDetector, transform: str) -> NDArray[np.float64]:
    clip = next(
        align_clip(
            "clip",
            path,
            detector=detector,
            tracking=TrackingSettings(),
            alignment=AlignmentSettings(size=SIZE, transform=transform),  # type: ignore[arg-type]
            shards=ShardSettings(frames_per_segment="all"),
            num_segments=8,
        )
    )
    return clip.matrices.astype(float)


@pytest.fixture(scope="module")
def demo_detector() -> FaceDetector:
    return FaceDetector(DetectionSettings(input_size=320))


PEOPLE = ("sol03", "sol10", "sol20")


@pytest.mark.parametrize(("emotion", "span", "most"), [("happy", 1, 0.9), ("happy", 0, 0.7), ("sad", 0, 0.75)])
def test_motion_of_the_mouth_stays_in_the_crops(
    tmp_path: Path, demo_detector: FaceDetector, emotion: str, span: int, most: float
) -> None:
    kept: dict[str, list[float]] = {"clip-affine": [], "affine": []}
    for name in PEOPLE:
        clip = rendered(tmp_path, name, emotion, seed=3)
        for transform, shares in kept.items():
            seen = transform_points(clip.points, maps_of(clip.path, demo_detector, transform))
            shares.append(float((motion(seen) / motion(clip.points))[span]))
    assert np.mean(kept["clip-affine"]) > 0.9
    assert np.mean(kept["affine"]) < most


def test_eyes_and_nose_are_stiller_where_the_head_does_not_move(tmp_path: Path, demo_detector: FaceDetector) -> None:
    shaking: dict[str, list[float]] = {"clip-affine": [], "affine": []}
    for name in (*PEOPLE, "sol05", "sol15"):
        clip = rendered(tmp_path, name, "surprise", seed=3, still=True)
        for transform, shakes in shaking.items():
            maps = maps_of(clip.path, demo_detector, transform)
            rigid = np.broadcast_to(clip.points[0][:3], (len(maps), 3, 2))  # the same points of the skull in each frame
            steps = np.diff(transform_points(rigid, maps), axis=0)
            shakes.append(float(np.sqrt(np.square(steps).sum(axis=2).mean())))
    assert np.mean(shaking["clip-affine"]) < 0.95 * np.mean(shaking["affine"])
