from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.sampling import kept_indices, segment_indices

counts = st.integers(1, 400)
segments = st.integers(1, 20)


@pytest.mark.parametrize(
    ("num_frames", "num_segments", "expected"),
    [
        (1, 1, [0]),
        (1, 4, [0, 0, 0, 0]),
        (2, 4, [0, 0, 1, 1]),
        (3, 8, [0, 0, 0, 1, 1, 2, 2, 2]),
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (16, 8, [1, 3, 5, 7, 9, 11, 13, 15]),
        (40, 8, [2, 7, 12, 17, 22, 27, 32, 37]),
        (41, 4, [5, 15, 25, 35]),
        (9, 3, [1, 4, 7]),
    ],
)
def test_the_evaluation_takes_the_centre_of_each_segment(
    num_frames: int, num_segments: int, expected: list[int]
) -> None:
    indices = segment_indices(num_frames, num_segments, train=False)
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


@settings(deadline=None)
@given(counts, segments, st.integers(0, 2**32 - 1))
def test_a_training_sample_has_one_frame_of_each_segment_in_order(
    num_frames: int, num_segments: int, seed: int
) -> None:
    indices = segment_indices(num_frames, num_segments, train=True, generator=np.random.default_rng(seed))
    assert indices.dtype == np.int64
    assert indices.shape == (num_segments,)
    edges = np.arange(num_segments + 1) * num_frames / num_segments
    assert (indices >= np.floor(edges[:-1])).all()
    assert (indices <= np.ceil(edges[1:]) - 1).all()
    assert (np.diff(indices) >= 0).all()


def test_training_draws_every_frame_of_a_segment_equally_often() -> None:
    generator = np.random.default_rng(0)
    drawn = np.array([segment_indices(12, 3, train=True, generator=generator) for _ in range(6000)])
    for segment in range(3):
        frames, times = np.unique(drawn[:, segment], return_counts=True)
        assert frames.tolist() == [4 * segment + k for k in range(4)]
        assert (abs(times - 1500) < 200).all()


def test_the_same_generator_gives_the_same_sample() -> None:
    first, second = (segment_indices(99, 8, train=True, generator=np.random.default_rng(5)) for _ in range(2))
    assert (first == second).all()


@settings(deadline=None)
@given(counts, segments, st.integers(1, 6))
def test_kept_frames_increase_and_stay_in_range(num_frames: int, num_segments: int, per_segment: int) -> None:
    kept = kept_indices(num_frames, num_segments, per_segment)
    assert (np.diff(kept) > 0).all()
    assert kept[0] >= 0
    assert kept[-1] < num_frames
    assert len(kept) == min(num_frames, num_segments * per_segment)


@settings(deadline=None)
@given(counts, segments)
def test_one_kept_frame_a_segment_is_the_evaluations_frame(num_frames: int, num_segments: int) -> None:
    expected = segment_indices(num_frames, num_segments, train=False)
    assert set(kept_indices(num_frames, num_segments, 1)) == set(expected)
    if num_frames >= num_segments:
        assert (kept_indices(num_frames, num_segments, 1) == expected).all()


@settings(deadline=None)
@given(counts, segments, st.integers(1, 9))
def test_the_evaluation_sees_the_centres_of_the_clips_segments_however_many_frames_are_kept(
    num_frames: int, num_segments: int, per_segment: int
) -> None:
    kept = kept_indices(num_frames, num_segments, per_segment)
    seen = kept[segment_indices(len(kept), num_segments, train=False)]
    assert seen.tolist() == segment_indices(num_frames, num_segments, train=False).tolist()


@settings(deadline=None)
@given(counts, st.integers(1, 4))
def test_networks_of_8_and_of_16_frames_see_their_centres_in_the_same_kept_frames(num_frames: int, half: int) -> None:
    kept = kept_indices(num_frames, 16, 2 * half)
    for frames in (8, 16):
        seen = kept[segment_indices(len(kept), frames, train=False)]
        assert seen.tolist() == segment_indices(num_frames, frames, train=False).tolist()


def test_kept_frames_lie_evenly_in_their_segment() -> None:
    assert kept_indices(24, 2, 3).tolist() == [2, 6, 10, 14, 18, 22]
    assert kept_indices(24, 2, 4).tolist() == [0, 3, 6, 9, 12, 15, 18, 21]


def test_all_frames_are_kept_if_asked_for() -> None:
    assert kept_indices(5, 8, "all").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("num_frames", "num_segments"), [(0, 8), (-1, 8), (5, 0)])
def test_nothing_to_sample_is_an_error(num_frames: int, num_segments: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        segment_indices(num_frames, num_segments, train=False)


def test_nothing_to_keep_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        kept_indices(0, 8, "all")
    with pytest.raises(ValueError, match="at least 1"):
        kept_indices(10, 8, 0)


def test_training_without_a_generator_is_an_error() -> None:
    with pytest.raises(ValueError, match="generator"):
        segment_indices(10, 2, train=True)


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        # places of two frames among those that have another behind them (8 segments of them)
        (17, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        (33, [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31]),
        (2, [0, 1] * 8),
        (1, [0] * 16),
    ],
)
def test_neighbouring_frames_are_taken_at_the_centre_of_each_segment(num_frames: int, expected: list[int]) -> None:
    assert segment_indices(num_frames, 16, train=False, consecutive=2).tolist() == expected


@settings(deadline=None)
@given(counts, st.integers(1, 8), st.integers(1, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_frames_of_a_place_follow_one_another(
    num_frames: int, places: int, consecutive: int, train: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    indices = segment_indices(
        num_frames, places * consecutive, train=train, generator=generator, consecutive=consecutive
    ).reshape(places, consecutive)
    assert (indices >= 0).all()
    assert (indices < num_frames).all()
    # the last frame is repeated where a clip has fewer
    assert (np.diff(indices, axis=1) == (indices[:, :-1] < num_frames - 1)).all()
    starts = segment_indices(
        max(1, num_frames - consecutive + 1), places, train=train, generator=np.random.default_rng(seed)
    )
    assert indices[:, 0].tolist() == starts.tolist()


def test_a_number_of_frames_that_makes_no_whole_places_is_an_error() -> None:
    with pytest.raises(ValueError, match="15 frames cannot be taken in places of 2: expected a multiple of it"):
        segment_indices(40, 15, train=False, consecutive=2)
