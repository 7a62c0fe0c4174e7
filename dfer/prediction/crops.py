"""Cuts the faces that a model is shown out of a video, frame by frame, for all people and windows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dfer.config.experiments import Faces
from dfer.faces.geometry import fit_into_square, warp
from dfer.faces.searching import Pictures, pictures_again
from dfer.prediction.people import View
from dfer.storage.jpeg import encode_jpeg
from dfer.video import Video


def cut_out(
    video: Video, views: Sequence[View], faces: Faces, pictures: Pictures
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The number of each view and its faces uint8[T, S, S, 3] RGB, as they would be read from a shard in training.

    In the order of the views' last frames. Each frame is decoded once, and only the views that are under way are in
    memory. `pictures` are decoded frames that are used instead, and taken out. Raises VideoError.
    """
    needed: dict[int, list[int]] = {}  # frame -> the views that begin with it
    for number, view in enumerate(views):
        needed.setdefault(int(view.frames[0]), []).append(number)
    frames = np.unique(np.concatenate([view.frames for view in views]))
    under_way: dict[int, list[NDArray[np.uint8]]] = {}
    for frame, picture in zip(frames.tolist(), pictures_again(video, frames, pictures), strict=True):
        under_way |= {number: [] for number in needed.pop(frame, ())}
        for number, crops in list(under_way.items()):
            view = views[number]
            times = int((view.frames == frame).sum())
            if times:
                matrix = view.matrices[len(crops)] if view.matrices is not None else None
                crops += [crop(picture, matrix, faces)] * times
            if frame == view.frames[-1]:
                yield number, np.stack(under_way.pop(number))


def crop(picture: NDArray[np.uint8], matrix: NDArray[np.float64] | None, faces: Faces) -> NDArray[np.uint8]:
    """One face uint8[S, S, 3] RGB, with what JPEG makes of it where the training's faces were stored as JPEG."""
    size = faces.alignment.size
    crop = warp(picture, fit_into_square(picture.shape[:2], size) if matrix is None else matrix, size)
    if faces.shards.format == "parquet":
        return simplejpeg.decode_jpeg(encode_jpeg(crop, faces.shards.jpeg_quality), "RGB")
    return crop[..., ::-1]
