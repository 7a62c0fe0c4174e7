"""The page: one file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dfer.report import figures
from dfer.report.names import flag_note, full_name
from dfer.report.numbers import HardClip
from dfer.report.page import Chart, Page
from dfer.report.results import NOT_COMPLETE, SYNTHETIC

_MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


def render(page: Page, sheets: Mapping[str, Sequence[str]] | None = None) -> str:
    """The page as HTML; `sheets` are the addresses of each data set's contact sheets, relative to the page.

    Raises ValueError if a sheet of faces is neither JPEG nor PNG; OSError, dfer.shards.ShardError if a picture or a
    clip cannot be read.
    """
    content, numbers = page.content, page.numbers
    environment = Environment(
        loader=PackageLoader("dfer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": svg, "breakable": breakable}

    def strip(clip: HardClip) -> str:
        frames = figures.frames_of_clip(content.stages, clip.shard, clip.row, content.num_segments)
        return figures.data_uri(frames, "image/jpeg")

    return environment.get_template("report.html.j2").render(
        page=page,
        content=content,
        numbers=numbers,
        emotions=content.classes,
        synthetic=SYNTHETIC,
        not_complete=NOT_COMPLETE,
        flag_note=flag_note(numbers.arms),
        strip=strip,
        picture=picture,
        full_name=full_name,
        sheets=sheets or {},
    )


def svg(chart: Chart) -> str:
    """The chart as the address of an image."""
    return figures.data_uri(figures.as_svg(chart.figure), "image/svg+xml")


def breakable(text: str) -> Markup:
    """Escaped text that may be broken after a slash."""
    return Markup(str(escape(text)).replace("/", "/<wbr>"))


def picture(path: Path) -> str:
    """A picture file as the address of an image."""
    kind = _MEDIA_TYPES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: expected a JPEG or PNG picture")
    return figures.data_uri(path.read_bytes(), kind)
