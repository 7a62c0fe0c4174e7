"""A copy of a video with the people's boxes, and beside it what they express; its sound is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dfer.plots import INK, QUIET, RED
from dfer.prediction import table as tables
from dfer.prediction.colours import as_bgr, of_classes
from dfer.prediction.film import FilmResult, Person
from dfer.prediction.timeline import edges, runs
from dfer.prediction.words import ABSTAINED
from dfer.storage.files import replacing
from dfer.video import Video, VideoError

_CLOCK = Fraction(1, 90_000)  # seconds; what frames' times are written in
_SIDES = 480, 1920  # pixels: lower frames are enlarged, and those with a longer side shrunk
_LINES = 20  # of text in the height of a picture
_PANEL = 13  # width beside the picture, in heights of a line
_LONGEST_GAP = 0.5  # seconds between two frames in which a person was followed, over which a box is moved on
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

Picture = NDArray[np.uint8]


def write(
    result: FilmResult, path: Path, *, warning: str = "", on_frames: Callable[[int], None] = lambda _: None
) -> str:
    """Write the annotated copy of a video as MP4 (H.264), with the presentation times of the source.

    `warning` stands below the bars, and `on_frames` is called with the number of frames that are done, now and then.
    Returns what could not be done with the sound; empty if it is all there. Raises VideoError if the source cannot be
    decoded, OSError if the copy cannot be written.
    """
    video = Video(result.source)
    video.turn = result.turned // 90
    panel = _Panel(result, warning)
    frames = video.frames(range(len(result.times)))
    first = next(frames, None)
    if first is None:
        raise VideoError("undecodable", f"{result.source} decodes once, but not a second time")
    with replacing(path) as unfinished, ExitStack() as stack:
        output = stack.enter_context(av.open(str(unfinished), "w", format="mp4"))
        picture = panel.beside(first[1], result.times[first[0]])
        stream = output.add_stream("libx264", options={"crf": "23", "preset": "veryfast"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = "yuv420p", _CLOCK, _CLOCK
        sound = _Sound(result.source, output, stack)
        before = -1
        for number, frame in _chained(first, frames):
            at = float(result.times[number])
            encoded = av.VideoFrame.from_ndarray(panel.beside(frame, at), format="bgr24")
            before = max(before + 1, round(at / _CLOCK))  # no two frames at one time
            encoded.pts, encoded.time_base = before, _CLOCK
            sound.write_until(at)
            output.mux(stream.encode(encoded))
            if number % 25 == 24:
                on_frames(25)
        output.mux(stream.encode(None))
        sound.write_until(np.inf)
    return sound.problem


def _chained(first: tuple[int, Picture], frames: Iterator[tuple[int, Picture]]) -> Iterator[tuple[int, Picture]]:
    yield first
    yield from frames


class _Sound:
    """The packets of a source's sound, copied as they are where MP4 takes them, else encoded anew as AAC."""

    def __init__(self, source: Path, output: OutputContainer, stack: ExitStack) -> None:
        self.problem = ""
        self._packets: Iterator[Packet] = iter(())
        self._next: Packet | None = None
        if source.is_dir():
            return
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._packets = self._open(source, output, stack)
            self._next = next(self._packets, None)

    def write_until(self, seconds: float) -> None:
        """Write what is heard before a time, so that sound and picture lie side by side in the file."""
        while self._next is not None and _time(self._next) < seconds:
            self._output.mux(self._next)
            self._next = self._following()

    def _following(self) -> Packet | None:
        try:
            return next(self._packets, None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.problem = f"the sound breaks off: {error}"
            return None

    def _open(self, source: Path, output: OutputContainer, stack: ExitStack) -> Iterator[Packet]:
        self._output = output
        file = stack.enter_context(source.open("rb"))
        container = stack.enter_context(av.open(file, "r"))
        stream = next((one for one in container.streams.audio if one.codec_context is not None), None)
        if stream is None:
            return iter(())
        if stream.codec_context.name in _COPIED:
            copy = output.add_stream_from_template(stream)
            return _copied(container.demux(stream), copy)
        return _encoded(container.decode(stream), output.add_stream("aac", rate=stream.rate))


# codecs whose packets MP4 takes as they are, and that players know
_COPIED = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "alac", "flac"})


def _copied(packets: Iterator[Packet], stream: AudioStream) -> Iterator[Packet]:
    for packet in packets:
        if packet.dts is not None:
            packet.stream = stream
            yield packet


def _encoded(frames: Iterator[av.AudioFrame], stream: AudioStream) -> Iterator[Packet]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _time(packet: Packet) -> float:
    at = packet.pts if packet.pts is not None else packet.dts
    return float((at or 0) * (packet.time_base or 0))


class _Panel:
    """Draws a frame with its boxes, and the bars of the people in it beside it."""

    def __init__(self, result: FilmResult, warning: str) -> None:
        self._classes = tables.classes_of(result.table)
        self._colours = [as_bgr(colour) for colour in of_classes(self._classes)]
        self._people = [_Shown(person, result) for person in result.people]
        self._warning = warning
        self._shape: tuple[int, int] | None = None

    def beside(self, frame: Picture, at: float) -> Picture:
        """The frame uint8[H, W, 3] BGR of a time, scaled and with the panel: of the same size for all of a video."""
        height, width = frame.shape[:2]
        if self._shape is None:
            scale = min(max(1.0, _SIDES[0] / height), _SIDES[1] / max(height, width))
            self._shape = 2 * round(height * scale / 2), 2 * round(width * scale / 2)
        out_height, out_width = self._shape
        line = out_height / _LINES
        method = cv2.INTER_AREA if out_height < height else cv2.INTER_LINEAR
        canvas = np.full((out_height, 2 * round((out_width + _PANEL * line) / 2), 3), 255, np.uint8)
        canvas[:, :out_width] = cv2.resize(frame, (out_width, out_height), interpolation=method)
        picture, panel = canvas[:, :out_width], canvas[:, out_width:]
        ratio = np.array([out_width / width, out_height / height] * 2)
        top, room = 0.5 * line, out_height - (2.6 if self._warning else 0.5) * line
        for person in self._people:
            row, box = person.row(at), person.box(at)
            if box is None:
                continue
            seen = self._classes.index(row.prediction) if row is not None and row.answered else None
            colour = as_bgr(QUIET) if seen is None else self._colours[seen]
            _box(picture, box * ratio, person.number, colour, line)
            needed = (1.6 + 0.95 * len(self._classes)) * line
            if row is not None and top + needed <= room:
                self._bars(panel, top, row, person.number, colour, line)
                top += needed + 0.4 * line
        for number, text in enumerate(_in_lines(self._warning, round(2.5 * _PANEL))):
            _text(panel, text, (0.5 * line, room + (0.2 + 0.8 * number) * line), 0.62 * line, as_bgr(RED))
        return canvas

    def _bars(
        self, panel: Picture, top: float, row: tables.Row, number: int, colour: tuple[int, int, int], line: float
    ) -> None:
        heading = f"person {number}" + ("" if row.answered else f": {ABSTAINED}")
        cv2.rectangle(panel, (0, round(top + 0.15 * line)), (round(0.25 * line), round(top + line)), colour, -1)
        _text(panel, heading, (0.5 * line, top), 0.85 * line, as_bgr(INK))
        left, width = 5.2 * line, panel.shape[1] - 8.2 * line
        for place, (name, probability, own) in enumerate(
            zip(self._classes, row.probabilities, self._colours, strict=True)
        ):
            y = top + (1.4 + 0.95 * place) * line
            _text(panel, name, (0.5 * line, y), 0.72 * line, as_bgr(INK), widest=4.6 * line)
            corner = (round(left + width * probability), round(y + 0.75 * line))
            cv2.rectangle(panel, (round(left), round(y + 0.1 * line)), corner, own, -1)
            _text(panel, f"{probability:.2f}", (left + width * probability + 0.25 * line, y), 0.72 * line, as_bgr(INK))


class _Shown:
    """Where a person is at a time, and what is said about them."""

    def __init__(self, person: Person, result: FilmResult) -> None:
        self.number = person.number
        self._times, self._boxes = result.times[person.frames], person.boxes
        rows = result.table[result.table["person"] == person.number]
        self._runs = [(edges(run), tables.rows(run)) for run in runs(rows)]

    def row(self, at: float) -> tables.Row | None:
        for bounds, rows in self._runs:
            if bounds[0] <= at < bounds[-1]:
                return rows[int(np.searchsorted(bounds, at, side="right")) - 1]
        return None

    def box(self, at: float) -> NDArray[np.float64] | None:
        """float64[4], between the frames in which the person was followed where it was not searched."""
        after = int(np.searchsorted(self._times, at))
        if after < len(self._times) and self._times[after] == at:
            return self._boxes[after].astype(np.float64)
        if after in (0, len(self._times)):
            edge = 0 if after == 0 else -1
            return self._boxes[edge].astype(np.float64) if abs(self._times[edge] - at) <= _LONGEST_GAP / 4 else None
        begin, end = self._times[after - 1], self._times[after]
        if end - begin > _LONGEST_GAP:
            return None
        share = (at - begin) / (end - begin)
        return np.asarray((1 - share) * self._boxes[after - 1] + share * self._boxes[after], np.float64)


def _box(picture: Picture, box: NDArray[np.float64], number: int, colour: tuple[int, int, int], line: float) -> None:
    left, top, right, bottom = box.round().astype(int).tolist()
    thick = max(2, round(line / 8))
    cv2.rectangle(picture, (left, top), (right, bottom), colour, thick, cv2.LINE_AA)
    side = round(1.1 * line)
    top = max(0, top - side)
    cv2.rectangle(picture, (left - thick // 2, top), (left + side, top + side), colour, -1)
    _text(picture, str(number), (left + 0.28 * line, top + 0.05 * line), 0.85 * line, (255, 255, 255))


def _text(
    picture: Picture,
    text: str,
    at: tuple[float, float],
    size: float,
    colour: tuple[int, int, int],
    widest: float = np.inf,
) -> None:
    """Write text with its upper left corner at a place (x, y); what is outside the picture is cut off."""
    mask = _mask(text, max(8, round(size)))
    left, top = (max(0, round(place)) for place in at)
    part = picture[top : top + mask.shape[0], left : left + min(mask.shape[1], int(min(widest, 1e6)))]
    share = mask[: part.shape[0], : part.shape[1], None]
    part[:] = (part * (1 - share) + np.array(colour) * share).astype(np.uint8)


@lru_cache(maxsize=1024)
def _mask(text: str, size: int) -> NDArray[np.float32]:
    """How much of each pixel a text covers, float32[H, W] in [0, 1]."""
    font = _font(size)
    _, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    image = Image.new("L", (max(1, int(right) + 1), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    return np.asarray(image, np.float32) / np.float32(255)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONT), size)


def _in_lines(text: str, most: int) -> list[str]:
    """The first three lines of a text in lines of at most so many signs."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines[:3]
