"""What makes a kept clip odd: each kind is noticed, and a good clip has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dfer.report.oddities import KINDS, measured, noted

EYES = np.array([[80, 90], [140, 90], [110, 120], [90, 150], [130, 150]], np.float32)

AWAY = EYES + np.array([120, 0], np.float32)


def arrays(length: int = 4, **changed: Any) -> dict[str, np.ndarray]:
    """A face that stands still and is twice as large in its crop, with some arrays changed."""
    return {
        "scores": np.full(length, 0.8, np.float32),
        "interpolated": np.zeros(length, bool),
        "keypoints": np.repeat(EYES[None], length, axis=0),
        "matrices": np.repeat(np.array([[[2, 0, -50], [0, 2, -70]]], np.float32), length, axis=0),
        **changed,
    }


def maps(*linear: list[list[float]]) -> np.ndarray:
    return np.stack([np.column_stack([part, [-50, -70]]) for part in linear]).astype(np.float32)


PLAIN = [[2.0, 0.0], [0.0, 2.0]]


def test_a_good_clip() -> None:
    score, words = measured(arrays())
    assert (score, words) == (pytest.approx(0.8), {})
    assert (
        noted(
            {
                "frames_seen": 50,
                "frames_kept": 48,
                "interpolated_frames": 3,
                "remarks": "",
                "turned": 0,
                "outside_share": 0.1,
            }
        )
        == {}
    )


def test_columns_that_an_index_does_not_have_say_nothing() -> None:
    assert noted({"clip_id": "a", "frames_seen": float("nan")}) == {}


def test_a_picture_is_whole() -> None:
    assert noted({"frames_seen": 1, "frames_kept": 1}) == {}


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        ({"frames_seen": 50, "frames_kept": 20}, "few frames kept", "20 of 50 frames kept"),
        ({"frames_seen": 9, "frames_kept": 1}, "few frames kept", "a single frame"),
        ({"frames_seen": 9, "frames_kept": 9, "interpolated_frames": 4}, "many frames interpolated", "4 interpolated"),
        ({"frames_seen": 9, "frames_kept": 9, "turned": 180}, "turned far from upright", "was turned upright, by 180°"),
        ({"outside_share": 0.45}, "beyond the picture", "45% of the crops beyond the picture"),
        ({"frames_seen": 9, "frames_kept": 9, "remarks": "a cut"}, "remarked when it was aligned", "a cut"),
    ],
)
def test_what_the_index_says(row: dict[str, Any], kind: str, words: str) -> None:
    assert noted(row) == {kind: words}
    assert kind in KINDS


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"scores": np.array([0.5, 0.5, 0.6, 0.6], np.float32)}, "low score", "low score"),
        ({"matrices": maps(PLAIN, PLAIN, [[0, 2], [-2, 0]], PLAIN)}, "turned far from upright", "turned by 90°"),
        ({"matrices": maps(*[[[4, 0], [0, 2]]] * 4)}, "stretched", "stretched by 2.0"),
        ({"matrices": maps(PLAIN, PLAIN, PLAIN, [[3.2, 0], [0, 3.2]])}, "size changes", "size changes by 1.6"),
        # by 120 pixels of a crop in which the eyes are 60 apart
        ({"keypoints": np.stack([EYES, EYES, AWAY, AWAY])}, "jumps", "jumps by 2.0 eye dist"),
    ],
)
def test_what_is_measured(changed: dict[str, np.ndarray], kind: str, words: str) -> None:
    _, found = measured(arrays(**changed))
    assert kind in KINDS
    assert found[kind].startswith(words)
    assert set(found) <= {kind, "jumps"}  # a crop that turns or grows all at once is a jump, too


def test_interpolated_frames_have_no_score() -> None:
    between = np.array([False, True, True, False])
    score, _ = measured(arrays(scores=np.where(between, 0, 0.7).astype(np.float32), interpolated=between))
    assert score == pytest.approx(0.7)


def test_maps_that_are_none_are_not_measured() -> None:
    assert measured(arrays(matrices=np.zeros((4, 2, 3), np.float32)))[1] == {}
