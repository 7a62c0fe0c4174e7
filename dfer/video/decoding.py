"""Decodes a video file with PyAV (FFmpeg), one frame at a time, in one thread."""

from __future__ import annotations

import logging
import weakref
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dfer.system.paths import spelled
from dfer.video.conversion import Conversion
from dfer.video.errors import VideoError, check_file, not_opened

logger = logging.getLogger(__name__)

# FFmpeg goes by a file's content, and some formats list other files to open: allow only videos.
_OPTIONS = {
    "format_whitelist": "asf,av1,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mpeg,mpegts,mpegvideo,mxf,ogg,"
    "yuv4mpegpipe",
    "protocol_whitelist": "file",
}
# The bytes of a file for each frame that it may announce; a file that announces more is not believed but counted.
_FEWEST_BYTES_A_FRAME = 16
# A film is cut off if its pictures end so many seconds, and such a share, before the end that its header announces;
# sound is often a little longer.
_SHORTFALL, _SHORTFALL_SHARE = 0.5, 0.1
# A few bytes can announce any size: 8K is 33 million pixels.
_CODEC_OPTIONS = {"max_pixels": str(2**26)}


class VideoFile:
    """A video file; `announced` is the number of frames that it claims to have, or its number of packets.

    After `frames` has run to its end, `decoded` is the number of frames that decode undamaged, `times` float64[decoded]
    the seconds at which each is shown, `end` those at which the last one has been, and `remarks` says what is odd about
    the file.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        self.decoded = 0
        self.times: NDArray[np.float64] | None = None
        self.end = 0.0
        self.remarks: tuple[str, ...] = ()
        self._index = 0  # of the stream in the file
        self._opened: tuple[ExitStack, InputContainer] | None = None
        with ExitStack() as stack:
            container = self._open(stack)
            self.announced, untouched = self._choose(container)
            if self.announced == 0:
                raise VideoError("no_frames", f"{path} opens as a video but holds no frame")
            if untouched:  # for the first pass: opening costs as much as decoding some fifty frames
                self._opened = stack.pop_all(), container
                weakref.finalize(self, self._opened[0].close)

    def frames(self, chosen: set[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Decode the whole file and yield the chosen frames, as `Video.frames`."""
        with ExitStack() as stack:
            opened, self._opened = self._opened, None
            if opened is not None:
                stack.push(opened[0])
            container = opened[1] if opened is not None else self._open(stack)
            stream = container.streams[self._index]
            assert isinstance(stream, VideoStream)
            decoding = _Decoding(container, stream)
            conversion = Conversion(stream.sample_aspect_ratio)
            count = 0
            for frame in conversion.deinterlaced(decoding.frames()):
                if count in chosen:
                    yield count, conversion.to_bgr(frame)
                count += 1
        self.decoded = count
        self.times, self.end = np.array(decoding.times, np.float64), decoding.end
        self.remarks = (*decoding.remarks(self.announced, count), *conversion.remarks())
        if count == 0:
            raise VideoError("undecodable", f"{self.path}: {self.announced} frames announced, not one decodes")
        if self.remarks:
            logger.info("odd: %s: %s", spelled(self.path), "; ".join(self.remarks))

    def announced_times(self) -> NDArray[np.float64]:
        """The seconds at which the file's packets say that they are shown, increasing; decodes nothing.

        Of a file whose packets cannot be read, as many times as it announces frames.
        """
        times, step = array("d"), 0.04
        with ExitStack() as stack, suppress(av.error.FFmpegError, OSError):
            container = self._open(stack)
            stream = container.streams[self._index]
            assert isinstance(stream, VideoStream)
            step = _step(stream)
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    at = packet.pts if packet.pts is not None else packet.dts
                    times.append(_next(times, step) if at is None else float(at * packet.time_base))
        return np.sort(np.array(times or [number * step for number in range(self.announced)], np.float64))

    def _open(self, stack: ExitStack) -> InputContainer:
        """The file, opened through Python: FFmpeg never sees its name, which may be no UTF-8 or look like a pattern."""
        try:
            file = stack.enter_context(self.path.open("rb"))
            container = av.open(file, "r", container_options=_OPTIONS)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise not_opened(self.path) from error
        stack.callback(container.close)
        return container

    def _choose(self, container: InputContainer) -> tuple[int, bool]:
        """Choose the stream that moves; its announced number of frames, and whether nothing was read for that."""
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            kinds = Counter(stream.type for stream in container.streams)
            held = ", ".join(f"{number} of {kind}" for kind, number in kinds.items()) or "none"
            cover = " (a cover picture)" if container.streams.video else ""
            raise VideoError("not_a_video", f"{self.path} has no video stream{cover}; its streams: {held}")
        streams = [stream for stream in streams if stream.codec_context is not None]
        if not streams:
            raise VideoError(
                "undecodable", f"{self.path}: FFmpeg has no decoder for its video; is the file damaged? Else convert it"
            )
        if len(streams) == 1 and 0 < streams[0].frames <= self.path.stat().st_size // _FEWEST_BYTES_A_FRAME:
            self._index = streams[0].index
            return int(streams[0].frames), True
        packets: Counter[int] = Counter()
        with suppress(av.error.FFmpegError, OSError):
            for packet in container.demux(streams):
                packets[packet.stream.index] += packet.size > 0
        self._index = max(packets, key=lambda index: packets[index], default=streams[0].index)
        return packets[self._index], False


class _Decoding:
    """Decodes a stream and counts what is lost."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._packets = container.demux(stream)
        self._lost = self._left_out = 0
        self.times, self.step = array("d"), _step(stream)  # seconds: when each frame is shown, and for how long usually
        self.end = self._start = (container.start_time or 0) / av.time_base
        self._duration = (container.duration or 0) / av.time_base
        # FFmpeg writes one frame too many into an AVI's header
        self._miscounted = 1 if container.format.name == "avi" else 0
        self._broken_off = False
        stream.codec_context.thread_count = 1  # there is a process per shard of clips
        stream.codec_context.options = _CODEC_OPTIONS

    def frames(self) -> Iterator[VideoFrame]:
        """The undamaged frames, in order of presentation."""
        while True:
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError):
                self._broken_off = True
                return
            self._left_out += packet.is_discard  # by the file's edit list
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, OSError):
                self._lost += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._lost += 1
                else:
                    stays = float((frame.duration or 0) * (frame.time_base or 0)) or self.step
                    at = _next(self.times, self.step) if frame.time is None else frame.time
                    self.times.append(max(at, self.times[-1]) if self.times else at)  # damaged files go back in time
                    self.end = max(self.end, self.times[-1] + stays)
                    yield frame

    def remarks(self, announced: int, decoded: int) -> Iterator[str]:
        """What is missing, in words."""
        expected = announced - self._left_out
        if self._lost or self._broken_off or decoded < expected - self._miscounted:
            yield f"{decoded} of {max(expected, decoded)} frames decode undamaged"
        shown = self.end - self._start
        if decoded and shown < self._duration - max(_SHORTFALL, _SHORTFALL_SHARE * self._duration):
            yield f"the pictures end after {shown:.1f} of {self._duration:.1f} s"


def _step(stream: VideoStream) -> float:
    """The usual seconds from one frame of a stream to the next."""
    rate = stream.average_rate or stream.guessed_rate
    return float(1 / rate) if rate else 0.04


def _next(times: Sequence[float], step: float) -> float:
    """When a frame is shown that does not say so."""
    return times[-1] + step if times else 0.0
