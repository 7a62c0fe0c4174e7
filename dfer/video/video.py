"""A video file, a folder of pictures or a picture, as numbered frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfer.video import pictures
from dfer.video.decoding import VideoFile
from dfer.video.errors import VideoError

PICTURES_A_SECOND = 25
"""Pictures of a folder have no times: so many of them are taken to be shown in a second."""


class Video:
    """A video file (decoded with PyAV), a folder of pictures (jpg, png, bmp, tiff, webp; in natural order), or one
    such picture, by its suffix, as a video of one frame.

    Attributes:
        num_frames: the number that the source announces until `frames` has run to its end, then the number of frames
            that really decode, which is often smaller.
        turn: quarter turns clockwise, 0 to 3, by which `frames` turns every frame; 0 until somebody sets it.
        measured: whether `frames` has run to its end.
        remarks: after `frames`: what a person should know about these pictures, such as damage or what was done
            to them, in a few words each.

    Raises:
        VideoError: the source is missing, empty, a Git LFS pointer, no video, undecodable or without frames.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.turn = 0
        self.measured = False
        self.remarks: tuple[str, ...] = ()
        self._announced_times: NDArray[np.float64] | None = None
        self._damaged: dict[int, VideoError] = {}
        self._sizes: set[tuple[int, ...]] = set()
        self._pictures = pictures.of(source)
        self._file = VideoFile(source) if self._pictures is None else None
        self.num_frames = self._file.announced if self._file else len(self._pictures or ())

    @property
    def times(self) -> NDArray[np.float64]:
        """The seconds at which each frame is shown, float64[N], never decreasing, as the file says (its presentation
        times); of pictures those of `PICTURES_A_SECOND`.

        N is `num_frames` after `frames` has run to its end. Before, these are the times of the file's packets, which
        are nearly always the same.
        """
        if self._file is None:
            return np.arange(self.num_frames) / PICTURES_A_SECOND
        if self._file.times is not None:
            return self._file.times
        if self._announced_times is None:
            self._announced_times = self._file.announced_times()
        return self._announced_times

    @property
    def end(self) -> float:
        """The seconds until which the last frame is shown; known after `frames` has run to its end."""
        return self._file.end if self._file is not None else self.num_frames / PICTURES_A_SECOND

    @property
    def readable(self) -> NDArray[np.int64]:
        """int64[N]: the numbers of all frames but those of which `frames` has seen that they cannot be read."""
        return np.setdiff1d(np.arange(self.num_frames), list(self._damaged))

    def frames(self, indices: Sequence[int] | NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield those frames at `indices` (increasing) that exist, as (index, uint8[H, W, 3] BGR).

        Frames are upright, not mirrored, deinterlaced, with square pixels and in the range of a normal screen, as far
        as the file says how; grey and transparent pictures become BGR. Damaged frames of a file do not count, and those
        of a folder are left out. Decodes to the end of the source, so that `num_frames` is the real number afterwards
        and `readable` has no frame that was left out; if they have changed, choose indices again.

        Raises:
            VideoError: undecodable, no_frames.
        """
        for index, picture in self._untouched({int(index) for index in indices}):
            yield index, np.ascontiguousarray(np.rot90(picture, -self.turn)) if self.turn else picture
        self.measured = True

    def _untouched(self, chosen: set[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        if self._file is not None:
            yield from self._file.frames(chosen)
            self.num_frames, self.remarks = self._file.decoded, self._file.remarks
        else:
            yield from self._readable(chosen)

    def _readable(self, chosen: set[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The chosen pictures, without those that cannot be read."""
        assert self._pictures is not None
        for index, path in enumerate(self._pictures):
            if index in chosen and index not in self._damaged:
                try:
                    picture = pictures.read(path)
                except VideoError as error:
                    self._damaged[index] = error
                    continue
                self._sizes.add(picture.shape)
                yield index, picture
        damaged, total = list(self._damaged.values()), len(self._pictures)
        if len(damaged) == total:
            raise damaged[0]
        left_out = [f"{len(damaged)} of {total} pictures are left out: {damaged[0].detail}"] if damaged else []
        sizes = [f"pictures of {len(self._sizes)} sizes"] if len(self._sizes) > 1 else []
        self.remarks = (*left_out, *sizes)
