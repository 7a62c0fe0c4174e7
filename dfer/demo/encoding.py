"""Writes videos and numbered pictures whose bytes depend only on their content."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
import cv2
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray

from dfer.storage.jpeg import write_jpeg

FRAME_RATE: Final = 25

_BITEXACT: Final = {"fflags": "+bitexact"}
_BOX_VERSION_0: Final = 40
_BOX_VERSION_1: Final = 52


def write_h264(path: Path, frames: Iterable[NDArray[np.uint8]], *, crf: int, grey: bool = False) -> None:
    """Write frames as H.264 in mp4, 25 frames a second.

    `frames`: planar YUV 4:2:0 uint8[1.5*H,W], or luma uint8[H,W] where `grey`. `crf`: 0 (lossless) to 51.
    """
    # With B-frames, x264's macroblock tree reads uninitialised memory, which would change the bytes at random.
    options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
    _write(path, frames, "mp4", "libx264", "gray" if grey else "yuv420p", options)


def write_mpeg4(path: Path, frames: Iterable[NDArray[np.uint8]], *, qscale: int) -> None:
    """Write frames, planar YUV 4:2:0 uint8[1.5*H,W], as MPEG-4 part 2 in avi; `qscale`: 1 (best) to 31."""
    options = {"qmin": str(qscale), "qmax": str(qscale), "threads": "1"}
    _write(path, frames, "avi", "mpeg4", "yuv420p", options)


def write_jpegs(folder: Path, frames: Iterable[NDArray[np.uint8]], *, quality: int) -> None:
    """Write frames, planar YUV 4:2:0 uint8[1.5*H,W], as `1.jpg`, `2.jpg`, ... into a new folder; `quality`: 0 to 100.

    Raises FileExistsError if the folder exists, OSError if a picture cannot be written.
    """
    folder.mkdir()
    for number, picture in enumerate(frames, start=1):
        colour = np.asarray(cv2.cvtColor(picture, cv2.COLOR_YUV2BGR_I420), np.uint8)
        write_jpeg(folder / f"{number}.jpg", colour, quality)


def rotate_clockwise(path: Path, coded_height: int) -> None:
    """Set the flag in an mp4's track header (ValueError without one) that turns the picture a quarter clockwise."""
    content = bytearray(path.read_bytes())
    start = content.find(b"tkhd")
    if start < 0:
        raise ValueError(f"{path} has no track header (tkhd); is it an mp4?")
    # ISO/IEC 14496-12, 8.3.2: after type, version and flags come times, track, duration, layer, group and volume.
    matrix = start + 4 + (_BOX_VERSION_1 if content[start + 4] == 1 else _BOX_VERSION_0)
    struct.pack_into(">9i", content, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, coded_height << 16, 0, 1 << 30)
    path.write_bytes(content)


def _write(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    container_format: str,
    codec: Literal["libx264", "mpeg4"],
    pixels: str,
    options: dict[str, str],
) -> None:
    with av.open(str(path), "w", format=container_format, options=_BITEXACT) as container:
        stream = None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format=pixels)
            if stream is None:
                stream = container.add_stream(codec, rate=FRAME_RATE, options=options)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixels
                stream.codec_context.flags |= Flags.bitexact
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError(f"no frames to write to {path}")
        container.mux(stream.encode())
