"""Pages of contact sheets: where clips stand on them, and how they are drawn."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from dfer.plots import INK, strip
from dfer.shards import Shard, open_shard
from dfer.storage.remote import Location, below
from dfer.video import Video, VideoError

TILE, TILES = 64, 8  # side of a frame in pixels; frames of a clip
COLUMNS = 3  # of clips that were kept
TEXT_COLUMNS = 2  # of clips that were not
GAP, MARGIN = 20, 24
WIDTH = COLUMNS * TILE * TILES + (COLUMNS - 1) * GAP + 2 * MARGIN
HEIGHT = 1640  # of a page at most
LINE = 18  # height of a line of text
BELOW = 12  # a cell, between it and the next
PICTURE_WIDTH = 116  # of a frame of a clip that was not kept
DETAIL_LINES = 2  # of why it was not
HEADER, HEADING = 3 * LINE + 2 * MARGIN - 6, LINE + 22

SMALL, GREY = "#52606d", "#e4e7eb"
WARNING = "#a3352c"

_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_LONGEST = 1000  # characters of a text that are looked at
_FIRST_FRAMES = 25  # the frame of a clip that was not kept is one of these, so that no film is decoded for it
_OPEN_SHARDS = 8


@dataclass(frozen=True)
class KeptClip:
    """A strip of frames: its shard's folder and its row there; `warning` says what is odd about it."""

    name: str
    facts: str
    shard: str
    row: int
    warning: str = ""


@dataclass(frozen=True)
class OtherFile:
    """A clip that was not kept, or a file that was passed over.

    `detail` says why, and is empty where the section's title does; `source` is a video of which a frame is shown.
    """

    name: str
    detail: str
    source: Path | None = None


@dataclass(frozen=True)
class Section:
    """Clips of one kind below a heading."""

    title: str
    colour: str
    clips: Sequence[KeptClip | OtherFile]  # all of one class

    @functools.cached_property
    def columns(self) -> int:
        return TEXT_COLUMNS if any(isinstance(clip, OtherFile) and clip.detail for clip in self.clips) else COLUMNS

    @functools.cached_property
    def cell_height(self) -> int:
        """Of a clip, in pixels, as the tallest one of the section needs it."""
        return max(_height(clip) for clip in self.clips)


def _height(clip: KeptClip | OtherFile) -> int:
    if isinstance(clip, KeptClip):
        return (2 if clip.warning else 1) * LINE + TILE + BELOW
    text = (1 + DETAIL_LINES) * LINE + BELOW if clip.detail else LINE + 4
    return max(text, TILE + BELOW if clip.source else 0)


@dataclass
class Page:
    """Headings and rows of clips, each with its y in pixels; `height` is that of the page."""

    height: int = HEADER
    headings: list[tuple[int, str, str]] = field(default_factory=list)  # y, title, colour
    rows: list[tuple[int, Section, int]] = field(default_factory=list)  # y, section, number of the row's first clip


def paginate(sections: Sequence[Section]) -> list[Page]:
    """The sections on pages of at most `HEIGHT` pixels; at least one page. Sections have clips."""
    pages = [Page()]
    for section in sections:
        title = section.title
        for first in range(0, len(section.clips), section.columns):
            heading = HEADING if first == 0 else 0
            if pages[-1].height + heading + section.cell_height > HEIGHT - MARGIN:
                pages.append(Page())
                heading, title = HEADING, section.title if first == 0 else f"{section.title}, continued"
            page = pages[-1]
            if heading:
                page.headings.append((page.height, title, section.colour))
                page.height += heading
            page.rows.append((page.height, section, first))
            page.height += section.cell_height
    return pages


class Painter:
    """Draws pages; `root` is the folder that shard folders are relative to."""

    def __init__(self, root: Location) -> None:
        # a few, since the clips of a section come shard by shard
        self._shard = functools.lru_cache(_OPEN_SHARDS)(lambda name: open_shard(below(root, name)))

    def drawn(self, page: Page, header: Sequence[str], number: str) -> npt.NDArray[np.uint8]:
        """The page as uint8[H, W, 3] RGB, below three lines of a header: a title, and two more.

        Raises dfer.shards.ShardError if a clip cannot be read.
        """
        image = Image.new("RGB", (WIDTH, page.height + MARGIN - BELOW), "white")
        draw = ImageDraw.Draw(image)
        right = WIDTH - MARGIN
        number_width = round(_font(13).getlength(number))
        _write(draw, (MARGIN, MARGIN - 4), header[0], right - MARGIN - number_width - GAP, size=18, bold=True)
        _write(draw, (right - number_width, MARGIN), number, number_width, colour=SMALL)
        for place, line in enumerate(header[1:3], 1):
            _write(draw, (MARGIN, MARGIN + 4 + place * LINE), line, right - MARGIN, colour=SMALL if place > 1 else INK)
        for y, title, colour in page.headings:
            _write(draw, (MARGIN, y + 10), title, right - MARGIN, size=14, bold=True, colour=colour)
            draw.line([(MARGIN, y + 10 + LINE), (right, y + 10 + LINE)], fill=colour)
        for y, section, first in page.rows:
            width = (WIDTH - 2 * MARGIN - (section.columns - 1) * GAP) // section.columns
            for column, clip in enumerate(section.clips[first : first + section.columns]):
                at = (MARGIN + column * (width + GAP), y)
                if isinstance(clip, KeptClip):
                    self._kept(image, draw, clip, at, width)
                else:
                    _other(image, draw, clip, at, width)
        return np.asarray(image)

    def _kept(
        self, image: Image.Image, draw: ImageDraw.ImageDraw, clip: KeptClip, at: tuple[int, int], width: int
    ) -> None:
        x, y = at
        facts_width = round(_font(12).getlength(clip.facts))
        _write(draw, at, clip.name, width - facts_width - GAP // 2)
        _write(draw, (x + width - facts_width, y), clip.facts, facts_width, size=12, colour=SMALL)
        if clip.warning:
            _write(draw, (x, y + LINE), clip.warning, width, colour=WARNING)
            y += LINE
        shard: Shard = self._shard(clip.shard)
        length = shard.num_frames(clip.row)
        positions = np.unique(np.linspace(0, length - 1, min(TILES, length)).round().astype(np.int64))
        frames = shard.read(clip.row, positions)
        image.paste(Image.fromarray(strip(frames.frames, frames.interpolated, TILE)), (x, y + LINE))


def _other(image: Image.Image, draw: ImageDraw.ImageDraw, clip: OtherFile, at: tuple[int, int], width: int) -> None:
    x, y = at
    if clip.source is not None:
        draw.rectangle((x, y, x + PICTURE_WIDTH - 1, y + TILE - 1), fill=GREY)
        frame = _frame_of(clip.source)
        if frame is not None:
            image.paste(
                Image.fromarray(frame), (x + (PICTURE_WIDTH - frame.shape[1]) // 2, y + (TILE - frame.shape[0]) // 2)
            )
        x, width = x + PICTURE_WIDTH + GAP // 2, width - PICTURE_WIDTH - GAP // 2
    _write(draw, (x, y), clip.name, width)
    for place, line in enumerate(wrapped(clip.detail, width, DETAIL_LINES, _font(12)), 1):
        _write(draw, (x, y + place * LINE), line, width, size=12, colour=SMALL)


def _frame_of(source: Path) -> npt.NDArray[np.uint8] | None:
    """One of the first frames, small, uint8[H, W, 3] RGB; None if it cannot be decoded any more."""
    try:
        video = Video(source)
        _, frame = next(video.frames([min(video.num_frames // 2, _FIRST_FRAMES - 1)]), (0, None))
    except (VideoError, OSError):
        return None
    if frame is None:
        return None
    height, width = frame.shape[:2]
    scale = min(PICTURE_WIDTH / width, TILE / height)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)[..., ::-1], np.uint8)


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    width: int,
    *,
    size: int = 13,
    bold: bool = False,
    colour: str = INK,
) -> None:
    font = _font(size, bold)
    draw.text(at, fitted(drawable(text), width, font), font=font, fill=colour)


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # the basic layout draws the characters as they come, and is the same on every machine
    return ImageFont.truetype(_FONTS / _font_name(bold), size, layout_engine=ImageFont.Layout.BASIC)


def _font_name(bold: bool) -> str:
    return "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"


@functools.cache
def _characters() -> frozenset[int]:
    """What both fonts have."""
    regular, bold = (frozenset(FT2Font(_FONTS / _font_name(bold)).get_charmap()) for bold in (False, True))
    return regular & bold


def drawable(text: str) -> str:
    """`text` in one line, with what the font does not have as Python writes it: "\\n", "\\u65e5", "\\U0001f600"."""
    known = _characters()
    return "".join(
        char if char.isprintable() and ord(char) in known else char.encode("unicode_escape").decode()
        for char in text[:_LONGEST]
    )


def fitted(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """`text` where it is no wider than `width` pixels, otherwise with … instead of its middle."""
    if font.getlength(text) <= width:
        return text

    def shortened(kept: int) -> str:
        return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"

    most = bisect.bisect_right(range(len(text)), width, key=lambda kept: font.getlength(shortened(kept))) - 1
    return shortened(max(most, 0))


def wrapped(text: str, width: float, most: int, font: ImageFont.FreeTypeFont) -> Iterator[str]:
    """`text` in lines no wider than `width` pixels, of which the last one (of `most`) may be shortened."""
    rest = drawable(text)
    for _ in range(most - 1):
        fit = bisect.bisect_right(range(1, len(rest) + 1), width, key=lambda end: font.getlength(rest[:end]))
        if fit == len(rest):
            break
        space = rest.rfind(" ", 0, fit + 1)
        end = space if space > fit // 2 else max(fit, 1)
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()
    yield fitted(rest, width, font)
