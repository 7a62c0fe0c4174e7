from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shard_clips import make_clip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", np.zeros((3, 8, 8), np.uint8)),
        ("frames", np.zeros((3, 8, 8, 3), np.float32)),
        ("frames", np.zeros((0, 8, 8, 3), np.uint8)),
        ("scores", np.zeros(2, np.float32)),
        ("keypoints", np.zeros((3, 5, 2), np.float64)),
        ("matrices", np.zeros((3, 3, 3), np.float32)),
    ],
)
def test_a_clip_of_other_shapes_or_types_is_refused(name: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"set/00001: expected {name}"):
        replace(make_clip(1, 3), **{name: value})
