"""Turns decoded frames into upright pictures with square pixels in the range of a normal screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from typing import cast

import av
import numpy as np
from av.buffer import Buffer
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

# ITU-T H.273, table 3: transfer characteristics of pictures that are brighter than a normal screen.
_HDR = {16: "PQ", 18: "HLG"}
_TO_NORMAL_RANGE = (
    ("scale", "out_transfer=bt709:out_primaries=bt709:intent=relative_colorimetric"),
    ("format", "bgr24"),
)
_DEINTERLACE = (("yadif", "deint=interlaced"),)
# Beyond it the aspect ratio of a pixel is nonsense, and the picture would be huge.
_LARGEST_ASPECT = 8


class Conversion:
    """Converts the frames of one stream, which `aspect` says how to read: a pixel's width by its height, or None."""

    def __init__(self, aspect: Fraction | None) -> None:
        known = aspect is not None and 1 / _LARGEST_ASPECT <= aspect <= _LARGEST_ASPECT
        self._aspect = float(aspect) if known and aspect else 1.0
        self._reformatter = VideoReformatter()
        self._deinterlacer, self._tone_mapper = _Filter(_DEINTERLACE), _Filter(_TO_NORMAL_RANGE)
        self._matrix: NDArray[np.int32] | None = None
        self._remarks: dict[str, None] = {}

    def deinterlaced(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """As many frames, with the two fields of each that is marked as interlaced made into one picture."""
        for frame in frames:
            if frame.key_frame:
                side_data = cast(Mapping[Type, Buffer], frame.side_data)
                if Type.DISPLAYMATRIX in side_data:
                    self._matrix = np.frombuffer(bytes(side_data[Type.DISPLAYMATRIX]), "<i4").reshape(3, 3)
            if not frame.interlaced_frame:
                yield frame
                continue
            self._remarks["deinterlaced"] = None
            yield from self._deinterlaced(chain([frame], frames))

    def _deinterlaced(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """From the first interlaced frame on, all: the filter compares neighbours."""
        first, second = next(frames), next(frames, None)
        if second is None:
            yield from self._deinterlacer.push_all([first])
            return
        # It takes the first frame for its own predecessor, and so for one without motion; the second one is as near.
        filtered = self._deinterlacer.push_all(chain([second, first, second], frames))
        next(filtered)
        yield from filtered

    def to_bgr(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """One frame as uint8[H, W, 3] BGR."""
        if (transfer := _HDR.get(int(frame.color_trc))) is not None:
            self._remarks[f"tone-mapped from {transfer}"] = None
            (frame,) = self._tone_mapper.push(frame)
        width, height = frame.width, frame.height
        if self._aspect != 1:
            self._remarks["pixels made square"] = None
            width, height = round(width * max(self._aspect, 1)), round(height / min(self._aspect, 1))
        picture = np.asarray(
            self._reformatter.reformat(frame, width, height, "bgr24", threads=1).to_ndarray(), np.uint8
        )
        return picture if self._matrix is None else self._upright(picture, self._matrix)

    def remarks(self) -> tuple[str, ...]:
        """What was done to the frames that is out of the ordinary, in words."""
        return tuple(self._remarks)

    def _upright(self, picture: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
        """The picture as its display matrix shows it: one of the eight ways to turn and mirror a rectangle.

        ISO/IEC 14496-12, 6.2.2: (x, y) is shown at (a x + c y, b x + d y).
        """
        (a, b), (c, d) = matrix[:2, :2].tolist()
        if abs(a * d) < abs(b * c):
            picture, a, d = picture.transpose(1, 0, 2), c, b
            self._remarks["turned by its display matrix"] = None
        if a < 0 or d < 0:
            picture = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
            self._remarks["turned by its display matrix"] = None
        return np.ascontiguousarray(picture)


class _Filter:
    """A chain of FFmpeg's filters that gives a frame for each frame, perhaps later; built for the frames that come."""

    def __init__(self, filters: tuple[tuple[str, str], ...]) -> None:
        self._filters = filters
        self._graph: Graph | None = None
        self._made_for: tuple[object, ...] = ()

    def push(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Put in a frame and yield those that are ready."""
        kind = frame.format.name, frame.width, frame.height
        if kind != self._made_for:
            yield from self.flush()
            self._graph, self._made_for = self._build(frame), kind
        assert self._graph is not None
        self._graph.push(frame)
        yield from self._ready()

    def push_all(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Put in all frames."""
        for frame in frames:
            yield from self.push(frame)
        yield from self.flush()

    def flush(self) -> Iterator[VideoFrame]:
        """Yield the frames that are still in the filters."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph, self._made_for = None, ()

    def _ready(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
        )
        graph.link_nodes(
            source, *(graph.add(name, options) for name, options in self._filters), graph.add("buffersink")
        )
        graph.configure()
        return graph
