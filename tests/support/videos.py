"""Small videos as people have them, made with PyAV."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
NONE: Mapping[str, str] = {}


def write_video(
    path: Path,
    pictures: Sequence[Picture | av.VideoFrame],
    codec: str = "libx264",
    *,
    pixels: str = "yuv420p",
    options: Mapping[str, str] = NONE,
    aspect: Fraction | None = None,
    container: str | None = None,
    container_options: Mapping[str, str] = NONE,
) -> Path:
    """Write BGR pictures uint8[H, W, 3], or frames, as a video, 25 frames a second."""
    frames = [p if isinstance(p, av.VideoFrame) else av.VideoFrame.from_ndarray(p, format="bgr24") for p in pictures]
    with av.open(str(path), "w", format=container, options=dict(container_options)) as file:
        add_stream(file, frames, codec, pixels, options, aspect)
    return path


def add_stream(
    file: av.container.OutputContainer,
    frames: Sequence[av.VideoFrame],
    codec: str,
    pixels: str = "yuv420p",
    options: Mapping[str, str] = NONE,
    aspect: Fraction | None = None,
) -> None:
    """Add one video stream to a file that is being written."""
    stream = file.add_stream(codec, rate=25, options=dict(options))
    stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pixels
    if aspect is not None:
        stream.codec_context.sample_aspect_ratio = aspect
    for name in ("color_trc", "color_primaries", "colorspace", "color_range"):
        setattr(stream.codec_context, name, int(getattr(frames[0], name)))
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, 25)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def repeat(source: Path, path: Path, times: int) -> Path:
    """Write a video of so many repetitions of another one, without decoding it; its sound is left out."""
    with av.open(str(path), "w") as file:
        stream, shift = None, 0
        for _ in range(times):
            with av.open(str(source)) as original:
                video = original.streams.video[0]
                stream = stream or file.add_stream_from_template(video)
                end = 0
                for packet in original.demux(video):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    file.mux(packet)
                shift += end
    return path


def plain(colour: tuple[int, int, int], width: int = 64, height: int = 48) -> Picture:
    """A picture of one BGR colour."""
    return np.full((height, width, 3), colour, np.uint8)


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Let the track header of an mp4 show pixel (x, y) at (a x + c y, b x + d y), shifted back into the picture."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4
    matrix = start + (52 if content[start] == 1 else 40)
    numbers = [value << 16 for value in (a, b, 0, c, d, 0, 0, 0)]
    struct.pack_into(">8i", content, matrix, *numbers)
    path.write_bytes(content)
