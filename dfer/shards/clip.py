"""A clip of aligned faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The arrays of a clip besides its frames: dtype, and shape after the axis of frames.
FRAME_FIELDS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "frame_indices": (np.int64, ()),
    "keypoints": (np.float32, (5, 2)),
    "scores": (np.float32, ()),
    "interpolated": (np.bool_, ()),
    "matrices": (np.float32, (2, 3)),
    "close_up": (np.bool_, ()),
}


@dataclass(frozen=True, eq=False)
class Clip:
    """T aligned frames of one person. Raises ValueError for a wrong shape or dtype.

    Attributes:
        frames: uint8[T, H, W, 3] RGB.
        frame_indices: int64[T], increasing, in the source.
        keypoints: float32[T, 5, 2], pixels of the aligned crop: left eye, right eye, nose, left and right mouth corner
            (in the picture).
        scores: float32[T] of the detection, 0 for interpolated frames.
        interpolated: bool[T], whether the face was not detected but lies between two detections.
        matrices: float32[T, 2, 3], from pixels of the source to pixels of the crop.
        close_up: bool[T], whether only the detector's close-up fall-back detected the face.
    """

    clip_id: str
    frames: NDArray[np.uint8]
    frame_indices: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    interpolated: NDArray[np.bool_]
    matrices: NDArray[np.float32]
    close_up: NDArray[np.bool_]

    def __post_init__(self) -> None:
        length = len(self.frames)
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3 or length == 0:
            raise ValueError(
                f"clip {self.clip_id}: expected frames uint8[T, H, W, 3] with T >= 1, found "
                f"{self.frames.dtype}{list(self.frames.shape)}"
            )
        for name, (dtype, shape) in FRAME_FIELDS.items():
            value = getattr(self, name)
            if value.dtype != dtype or value.shape != (length, *shape):
                raise ValueError(
                    f"clip {self.clip_id}: expected {name} {np.dtype(dtype)}{[length, *shape]}, found "
                    f"{value.dtype}{list(value.shape)}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, rows: NDArray[np.int64] | slice) -> Clip:
        """The clip with the frames at `rows` int64[N] (repeats allowed), in that order; of a slice, views."""
        arrays = {name: getattr(self, name)[rows] for name in ("frames", *FRAME_FIELDS)}
        return Clip(clip_id=self.clip_id, **arrays)

    @staticmethod
    def joined(pieces: Sequence[Clip]) -> Clip:
        """The clip of one or more pieces, in their order. Raises ValueError if their frames differ in size."""
        if len(pieces) == 1:
            return pieces[0]
        names = ("frames", *FRAME_FIELDS)
        arrays = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names}
        return Clip(clip_id=pieces[0].clip_id, **arrays)


class ClipDropped(Exception):
    """Raised among the pieces of a clip for the writer: the clip failed, and the shard has nothing of it."""
