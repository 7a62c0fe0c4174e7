"""The detections of all frames of a clip, in compact arrays: a film has a hundred thousand frames an hour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfer.faces.appearance import BYTES
from dfer.faces.detector import Detections

_FRAME = np.dtype([("first", np.int64), ("faces", np.int32), ("close_up", np.bool_), ("best_score", np.float64)])
_FACE = np.dtype(
    [
        ("box", np.float32, (4,)),
        ("score", np.float32),
        ("keypoints", np.float32, (5, 2)),
        ("followed", np.float32, (5, 2)),
        ("measured", np.bool_),
        ("look", np.uint8, (BYTES,)),
    ]
)


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """The `Detections` of T frames with F faces together: 21 bytes a frame and 117 a face.

    Attributes:
        frames: T records: `first`, the number of the frame's first face; `faces`, how many it has; `close_up` and
            `best_score`.
        faces: F records, frame by frame: `box`, `score`, `keypoints`, `followed` (nan if it was not), `measured`
            and `look` (zeros if nobody has looked).
    """

    frames: NDArray[Any]
    faces: NDArray[Any]

    @classmethod
    def of(cls, detections: Iterable[Detections]) -> DetectionTable:
        """The table of some frames' detections; a table is returned as it is."""
        if isinstance(detections, cls):
            return detections
        frames, faces = bytearray(), bytearray()  # they grow without a copy
        for found in detections:
            first = len(faces) // _FACE.itemsize
            frames += np.array((first, len(found), found.close_up, found.best_score), _FRAME).tobytes()
            rows = np.empty(len(found), _FACE)
            rows["box"], rows["score"], rows["keypoints"] = found.boxes, found.scores, found.keypoints
            rows["followed"] = np.nan if found.followed is None else found.followed
            rows["measured"] = True if found.measured is None else found.measured
            rows["look"] = 0 if found.looks is None else found.looks
            faces += rows.tobytes()
        return cls(np.frombuffer(frames, _FRAME), np.frombuffer(faces, _FACE))

    @classmethod
    def joined(cls, tables: Sequence[DetectionTable]) -> DetectionTable:
        """The table of the frames of several tables, in their order."""
        if len(tables) == 1:
            return tables[0]
        frames = np.concatenate([table.frames for table in tables] or [np.empty(0, _FRAME)])
        frames["first"] = frames["faces"].cumsum() - frames["faces"]
        return cls(frames, np.concatenate([table.faces for table in tables] or [np.empty(0, _FACE)]))

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Detections]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Detections:
        frame = self.frames[position]
        rows = self.faces[frame["first"] : frame["first"] + frame["faces"]]
        return Detections(
            boxes=rows["box"],
            scores=rows["score"],
            keypoints=rows["keypoints"],
            close_up=bool(frame["close_up"]),
            best_score=float(frame["best_score"]),
            followed=rows["followed"],
            measured=rows["measured"],
            looks=rows["look"],
        )

    def at(self, positions: NDArray[np.int64]) -> DetectionTable:
        """The table of the frames at `positions` int64[N], in that order."""
        if np.array_equal(positions, np.arange(len(self))):
            return self
        return DetectionTable.of(self[position] for position in positions.tolist())
