from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.faces.appearance import BYTES
from dfer.faces.detector import Detections
from dfer.faces.tracking import Track, smooth_keypoints, track_people, track_person

Faces = Callable[..., Detections]


def centres(track: Track) -> np.ndarray:
    """Where the faces are: the middle of the eyes, moved to the face's centre by its eye distance."""
    eyes = track.keypoints[:, :2].mean(axis=1)
    distance = np.linalg.norm(track.keypoints[:, 1] - track.keypoints[:, 0], axis=1)
    return eyes + np.stack([0 * distance, distance * 0.15 / 0.4], axis=1)


def test_a_single_person_is_followed_through_every_frame(make_detections: Faces) -> None:
    detections = [make_detections((100 + 3 * k, 80, 50)) for k in range(20)]
    track = track_person(detections, np.arange(20), max_gap=12)
    assert track is not None
    assert track.positions.tolist() == list(range(20))
    assert not track.interpolated.any()
    assert (track.scores == np.float32(0.8)).all()
    np.testing.assert_allclose(centres(track)[:, 0], 100 + 3 * np.arange(20), atol=0.01)


def test_two_people_who_cross_are_not_exchanged(make_detections: Faces) -> None:
    # The one from the left is a little larger, and in front while they overlap.
    detections = []
    for k in range(41):
        left, right = (60 + 6 * k, 100, 60), (300 - 6 * k, 104, 50)
        hidden = abs(left[0] - right[0]) < 30
        detections.append(make_detections(left) if hidden else make_detections(left, right))
    track = track_person(detections, np.arange(41), max_gap=12)
    assert track is not None
    assert track.positions.tolist() == list(range(41))
    np.testing.assert_allclose(centres(track)[:, 0], 60 + 6 * np.arange(41), atol=0.01)


def test_people_who_pass_quickly_keep_their_direction(make_detections: Faces) -> None:
    # At the fifth look each is nearer to where the other was than to where it was itself.
    detections = [make_detections((100 + 14 * k, 80, 55), (219 - 14 * k, 80, 50)) for k in range(10)]
    track = track_person(detections, np.arange(10), max_gap=12)
    assert track is not None
    np.testing.assert_allclose(centres(track)[:, 0], 100 + 14 * np.arange(10), atol=0.01)


def known(detections: Detections, *people: int) -> Detections:
    """The same, and what the faces look like: a pattern of each person's own."""
    looks = [np.random.default_rng(person).integers(0, 256, BYTES, dtype=np.uint8) for person in people]
    return replace(detections, looks=np.array(looks, np.uint8).reshape(-1, BYTES))


def test_two_who_meet_and_turn_back_are_told_apart(make_detections: Faces) -> None:
    # By their motion alone the one behind would have come out on the other side.
    way = [*range(60, 150, 8), *range(148, 170, 2), *range(160, 60, -8)]
    detections = []
    for frame, left in enumerate(way):
        faces = ((left, 100, 60), 1), ((340 - left, 104, 56), 2)
        seen = faces[:1] if 12 <= frame < 23 else faces
        detections.append(known(make_detections(*(face for face, _ in seen)), *(who for _, who in seen)))
    track = track_person(detections, np.arange(len(way)), max_gap=12)
    assert track is not None
    np.testing.assert_allclose(centres(track)[:, 0], way, atol=0.01)


def test_who_looks_like_two_others_is_joined_to_neither(make_detections: Faces) -> None:
    # Two are seen together; later somebody comes who is like both by 0.625, while they are like each other by 0.25.
    alike = np.random.default_rng(0).integers(0, 256, BYTES, dtype=np.uint8)
    first, second = (alike ^ np.uint8(255) * np.isin(np.arange(BYTES) // 3, k).astype(np.uint8) for k in (0, 1))
    both = replace(make_detections((100, 80, 60), (300, 80, 40)), looks=np.stack([first, second]))
    for look, expected in ((alike, 20), (first, 30), (second, 20)):
        later = replace(make_detections((500, 300, 30)), looks=look[None])
        track = track_person([both] * 20 + [later] * 10, np.arange(30), max_gap=12)
        assert track is not None
        assert len(track) == expected


def test_pieces_of_a_track_are_far_apart_in_time(make_detections: Faces) -> None:
    here, there = (known(make_detections((x, 80, 60)), 1) for x in (100, 400))
    track = track_person([here] * 5 + [there] * 5 + [here] * 5, np.arange(15), max_gap=12)
    assert track is not None
    assert track.positions.tolist() == list(range(15))
    assert not track.interpolated.any()
    gaps = np.diff(track.times(np.arange(15)))
    assert np.flatnonzero(gaps > 100).tolist() == [4, 9]
    assert (smooth_keypoints(track.keypoints, track.times(np.arange(15))) == track.keypoints).all()


def test_how_prominent_the_next_person_is_is_told(make_detections: Faces) -> None:
    for faces, expected in ((((60, 80, 45), (200, 80, 90)), 0.5), (((60, 80, 45),), 0.0)):
        track = track_person([make_detections(*faces)] * 10, np.arange(10), max_gap=12)
        assert track is not None
        assert track.rival == pytest.approx(expected)


@pytest.mark.parametrize("second", [(300, 80, 50), (100, 80, 130)])
def test_a_face_elsewhere_or_of_another_size_is_another_person(
    make_detections: Faces, second: tuple[float, float, float]
) -> None:
    detections = [make_detections((100, 80, 50))] * 20 + [make_detections(second)] * 5
    track = track_person(detections, np.arange(25), max_gap=12)
    assert track is not None
    assert track.positions.tolist() == list(range(20))


@pytest.mark.parametrize("order", [1, -1])
def test_neighbours_are_kept_apart_whatever_the_order_of_the_detections(make_detections: Faces, order: int) -> None:
    generator = np.random.default_rng(0)
    detections = []
    for _ in range(30):
        faces = [(100 + generator.normal(0, 3), 80, 60), (165 + generator.normal(0, 3), 80, 58)]
        detections.append(make_detections(*faces[:: order if generator.random() < 0.5 else 1]))
    track = track_person(detections, np.arange(30), max_gap=0)
    assert track is not None
    assert len(track) == 30
    assert abs(centres(track)[:, 0] - 100).max() < 15


def test_a_large_face_that_passes_by_is_not_followed(make_detections: Faces) -> None:
    detections = [
        make_detections((100, 80, 50), *([(250 + 20 * (k - 12), 120, 150)] if 12 <= k < 17 else [])) for k in range(40)
    ]
    track = track_person(detections, np.arange(40), max_gap=12)
    assert track is not None
    assert len(track) == 40
    assert abs(centres(track) - (100, 80)).max() < 0.01


def test_of_two_who_stay_the_larger_is_followed(make_detections: Faces) -> None:
    track = track_person([make_detections((60, 80, 40), (200, 80, 90))] * 10, np.arange(10), max_gap=12)
    assert track is not None
    assert abs(centres(track) - (200, 80)).max() < 0.01


def test_a_gap_is_bridged_on_a_straight_line(make_detections: Faces) -> None:
    seen = [0, 1, 2, 7, 8]
    detections = [make_detections((100 + 2 * k, 80 + k, 50)) if k in seen else make_detections() for k in range(9)]
    track = track_person(detections, np.arange(9), max_gap=4)
    assert track is not None
    assert track.positions.tolist() == list(range(9))
    assert np.flatnonzero(track.interpolated).tolist() == [3, 4, 5, 6]
    assert (track.scores[track.interpolated] == 0).all()
    k = np.arange(9)
    np.testing.assert_allclose(centres(track), np.stack([100 + 2 * k, 80 + k], axis=1), atol=0.01)


def test_a_longer_gap_drops_its_frames_but_not_the_person(make_detections: Faces) -> None:
    detections = [make_detections() if 3 <= k < 8 else make_detections((100, 80, 50)) for k in range(11)]
    track = track_person(detections, np.arange(11), max_gap=4)
    assert track is not None
    assert track.positions.tolist() == [0, 1, 2, 8, 9, 10]
    assert not track.interpolated.any()


def test_gaps_are_counted_in_frames_of_the_source(make_detections: Faces) -> None:
    detections = [make_detections((100, 80, 50)), make_detections(), make_detections((110, 80, 50))]
    assert len(track_person(detections, np.array([0, 5, 10]), max_gap=9) or []) == 3
    assert len(track_person(detections, np.array([0, 5, 10]), max_gap=8) or []) == 2
    uneven = track_person(detections, np.array([0, 8, 10]), max_gap=9)
    assert uneven is not None
    assert centres(uneven)[1, 0] == pytest.approx(108, abs=0.01)


def test_nothing_is_made_up_before_the_first_and_after_the_last_detection(make_detections: Faces) -> None:
    detections = [make_detections(), make_detections(), make_detections((100, 80, 50)), make_detections()]
    track = track_person(detections, np.arange(4), max_gap=12)
    assert track is not None
    assert track.positions.tolist() == [2]


def test_close_ups_stay_marked(make_detections: Faces) -> None:
    detections = [make_detections((100, 80, 50), close_up=k == 1) for k in range(3)]
    track = track_person(detections, np.arange(3), max_gap=12)
    assert track is not None
    assert track.close_up.tolist() == [False, True, False]


def test_no_face_is_no_track(make_detections: Faces) -> None:
    assert track_person([make_detections()] * 3, np.arange(3), max_gap=12) is None


def test_detections_and_frames_must_match(make_detections: Faces) -> None:
    with pytest.raises(ValueError, match="3 for 4 frames"):
        track_person([make_detections()] * 3, np.arange(4), max_gap=12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_whatever_is_detected_a_track_is_consistent(
    make_detections: Faces, numbers: list[int], max_gap: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    indices = np.cumsum(generator.integers(1, 4, len(numbers)))
    detections = [make_detections(*generator.uniform([0, 0, 20], [400, 300, 120], (n, 3))) for n in numbers]
    track = track_person(detections, indices, max_gap=max_gap)
    if track is None:
        assert sum(numbers) == 0
        return
    assert (np.diff(track.positions) > 0).all()
    assert not track.interpolated[[0, -1]].any()
    assert (track.interpolated == (track.scores == 0)).all()
    for position, points, made_up in zip(track.positions, track.keypoints, track.interpolated, strict=True):
        if not made_up:
            assert any((points == other).all() for other in detections[position].keypoints)


def test_everybody_is_followed_the_most_prominent_first(make_detections: Faces) -> None:
    detections = []
    for k in range(30):
        large, small = (60 + 2 * k, 80, 50), (300, 80 + k, 30)
        shown = [large] if k < 5 else [large, small] if k < 25 else [small]
        detections.append(make_detections(*shown))
    frames = np.arange(30)
    large, small = track_people(detections, frames, max_gap=12)
    assert large.positions.tolist() == list(range(25))
    assert small.positions.tolist() == list(range(5, 30))
    np.testing.assert_allclose(centres(small)[:, 1], 80 + np.arange(5, 30), atol=0.01)
    assert small.rival > 1 > large.rival
    main = track_person(detections, frames, max_gap=12)
    assert main is not None
    for name in ("positions", "keypoints", "boxes", "scores", "paths"):
        np.testing.assert_array_equal(getattr(main, name), getattr(large, name))


def test_boxes_are_followed_as_key_points_are(make_detections: Faces) -> None:
    detections = [make_detections((100 + 4 * k, 80, 50)) for k in range(10)]
    detections[4] = detections[5] = make_detections()
    (track,) = track_people(detections, np.arange(10), max_gap=12)
    middle = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
    np.testing.assert_allclose(middle[:, 0], 100 + 4 * np.arange(10), atol=1e-4)
    assert track.interpolated.tolist() == [k in (4, 5) for k in range(10)]
    part = track.take(np.array([2, 4, 9]))
    assert part.positions.tolist() == [2, 4, 9] and part.interpolated.tolist() == [False, True, False]
    np.testing.assert_array_equal(part.boxes, track.boxes[[2, 4, 9]])


def test_smoothing_keeps_steady_motion_and_removes_jitter() -> None:
    time = np.arange(30)
    truth = np.zeros((30, 5, 2), np.float32)
    truth[..., 0] = 7.0 * time[:, None]
    np.testing.assert_allclose(smooth_keypoints(truth, time), truth, atol=1e-3)
    noisy = (truth + np.random.default_rng(0).normal(0, 1, truth.shape)).astype(np.float32)
    smoothed = smooth_keypoints(noisy, time)
    assert smoothed.dtype == np.float32
    assert np.abs(np.diff(smoothed, 2, axis=0)).mean() < 0.4 * np.abs(np.diff(noisy, 2, axis=0)).mean()
    assert np.abs(smoothed - truth).mean() < 0.7 * np.abs(noisy - truth).mean()


def test_frames_that_are_not_neighbours_do_not_touch_each_other() -> None:
    points = np.random.default_rng(0).normal(0, 1, (12, 5, 2)).astype(np.float32)
    assert (smooth_keypoints(points, np.arange(12) * 2) == points).all()
    indices = np.array([0, 1, 2, 3, 4, 5, 60, 61, 62, 63, 64, 65])
    np.testing.assert_array_equal(smooth_keypoints(points, indices)[:6], smooth_keypoints(points[:6], indices[:6]))
    np.testing.assert_array_equal(smooth_keypoints(points, indices)[6:], smooth_keypoints(points[6:], indices[6:]))
    assert (smooth_keypoints(points[:2], indices[:2]) == points[:2]).all()
