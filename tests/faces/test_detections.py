from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np

from dfer.faces.detections import DetectionTable
from dfer.faces.detector import Detections

Faces = Callable[..., Detections]


def test_each_frame_comes_back(make_detections: Faces) -> None:
    followed = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    frames = [
        make_detections((100, 80, 50)),
        make_detections(),
        make_detections((30, 40, 20), (200, 90, 60), close_up=True),
    ]
    frames[2] = Detections(
        frames[2].boxes, frames[2].scores, frames[2].keypoints, True, 0.9, followed, np.array([True, False])
    )
    table = DetectionTable.of(frames)
    assert DetectionTable.of(table) is table
    assert len(table) == 3
    for found, expected in zip(table, frames, strict=True):
        for name in ("boxes", "scores", "keypoints"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
            assert getattr(found, name).dtype == np.float32
        assert (found.close_up, found.best_score) == (expected.close_up, expected.best_score)
    assert np.isnan(table[0].followed).all()
    assert table[0].measured is not None
    assert table[0].measured.all()
    np.testing.assert_array_equal(table[2].followed, followed)
    assert table[2].measured is not None
    assert table[2].measured.tolist() == [True, False]


def test_frames_can_be_put_in_another_order(make_detections: Faces) -> None:
    table = DetectionTable.of(make_detections(*[(100, 80, 10 + n)] * n) for n in range(4))
    assert table.at(np.arange(4)) is table
    again = table.at(np.array([2, 0, 3]))
    assert [len(faces) for faces in again] == [2, 0, 3]
    assert [faces.boxes[0, 2] for faces in again if len(faces)] == [106, 106.5]
    assert again.frames["first"].tolist() == [0, 2, 2]


def test_tables_are_joined_in_order(make_detections: Faces) -> None:
    frames = [make_detections(*[(100, 80, 10 + n)] * n) for n in range(5)]
    joined = DetectionTable.joined([DetectionTable.of(frames[:2]), DetectionTable.of(frames[2:])])
    whole = DetectionTable.of(frames)
    np.testing.assert_array_equal(joined.frames, whole.frames)
    np.testing.assert_array_equal(joined.faces["box"], whole.faces["box"])
    assert [len(faces) for faces in joined] == [0, 1, 2, 3, 4]
    assert len(DetectionTable.joined([])) == 0


def test_an_hour_of_two_faces_takes_300_bytes_a_frame(make_detections: Faces) -> None:
    frames = 20_000
    found = make_detections((100, 80, 50), (200, 80, 50))
    tracemalloc.start()
    table = DetectionTable.of(found for _ in range(frames))
    current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == frames
    assert current < 300 * frames
    assert peak < 400 * frames
