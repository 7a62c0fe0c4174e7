"""Windows of time over the frames of a video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfer.config.settings import ShardSettings
from dfer.prediction.windows import Sliding, Window, all_kept, kept_positions
from dfer.sampling import kept_indices


def test_a_video_that_is_not_longer_than_a_window_is_one() -> None:
    for count in (1, 2, 49, 50):
        assert Sliding(2.0, 0.5).over(np.arange(count) / 25) == [Window(0, count)]


def test_windows_begin_every_so_many_seconds_and_the_last_one_ends_with_the_video() -> None:
    windows = Sliding(2.0, 0.5).over(np.arange(80) / 25)  # 3.2 s
    assert windows == [(0, 50), (13, 63), (25, 75), (30, 80)]


def test_a_rate_that_is_no_whole_number_loses_no_frame_to_rounding() -> None:
    times = np.arange(300) * 1001 / 30000
    windows = Sliding(1.001, 1.001).over(times)
    assert windows == [(first, first + 30) for first in range(0, 300, 30)]


@pytest.mark.parametrize("seconds", [0, 0.039, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["window", "every"])
def test_seconds_that_make_no_windows(name: str, seconds: float) -> None:
    message = f"expected {name} to be finite and at least 0.04 seconds, found {seconds:g}"
    with pytest.raises(ValueError, match=message):
        Sliding(**{name: seconds})
    Sliding(0.04, 0.04)


def test_windows_without_frames_are_left_out() -> None:
    times = np.concatenate([np.arange(25) / 25, 10 + np.arange(25) / 25])
    assert Sliding(1.0, 1.0).over(times) == [(0, 25), (25, 50)]


@given(
    st.lists(st.floats(0.005, 0.5), max_size=60),
    st.floats(0.1, 3.0),
    st.floats(0.05, 3.0),
    st.floats(0, 1e5),
)
def test_every_video_is_gone_through_from_its_first_frame_to_its_last(
    gaps: list[float], window: float, every: float, begin: float
) -> None:
    times = begin + np.cumsum([0.0, *gaps])
    windows = Sliding(window, every).over(times)
    assert windows[0].first == 0
    assert windows[-1].stop == len(times)
    assert len(set(windows)) == len(windows)
    for one in windows:
        assert one.first < one.stop
    firsts = [one.first for one in windows]
    assert firsts == sorted(firsts)
    if every <= window:  # then no frame is left out, whatever the gaps
        assert np.unique(np.concatenate([np.arange(*one) for one in windows])).tolist() == list(range(len(times)))
    if len(windows) > 1:
        assert max(times[one.stop - 1] - times[one.first] for one in windows) <= window + 1e-3


@pytest.mark.parametrize("per_segment", [1, 2, 3, "all"])
def test_the_frames_that_are_looked_at_are_those_that_training_keeps(per_segment: int | str) -> None:
    shards = ShardSettings.model_validate({"segments": 4, "frames_per_segment": per_segment})
    windows = [Window(0, 50), Window(13, 63)]
    assert kept_positions(windows[0], shards).tolist() == kept_indices(50, 4, shards.frames_per_segment).tolist()
    assert (kept_positions(windows[1], shards) - 13).tolist() == kept_positions(windows[0], shards).tolist()
    together = all_kept(windows, shards)
    assert together.tolist() == sorted({*kept_positions(windows[0], shards), *kept_positions(windows[1], shards)})
