"""Pictures of pairs of clips: the strips of both side by side."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pandas as pd

from dfer.plots import ACCENT
from dfer.report.contact_sheet import QUALITY
from dfer.report.sheet_pages import KeptClip, Painter, Section, paginate
from dfer.storage.jpeg import write_jpeg
from dfer.storage.remote import Location

MOST = 200  # pairs of a kind that are shown
_LEGEND = "Each row is a pair of clips: frames of both, evenly over their time."


class _Pairs(Section):
    """Pairs of clips below a heading, the two of each one after the other."""

    @functools.cached_property
    def columns(self) -> int:
        return 2


def write_pairs(pairs: pd.DataFrame, index: pd.DataFrame, root: Location, folder: Path, *, title: str) -> list[Path]:
    """Write `folder`/pairs-01.jpg, -02.jpg, ... and remove such pages of an earlier call; nothing for no pair.

    `pairs`: as `dfer.analysis.leakage.pairs` returns them; `index`, `root`: the align index of their clips, and the
    folder that its shards are below. Raises dfer.shards.ShardError if a shard cannot be read, OSError if a page cannot
    be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.iterdir():
        if re.fullmatch(r"pairs-\d+\.jpg", earlier.name):
            earlier.unlink()
    place = index.set_index("clip_id")[["shard", "row"]]
    sections = []
    for across in (True, False):
        for kind, of_kind in pairs[pairs["across"] == across].groupby("kind", sort=False):
            clips: list[KeptClip] = []
            for pair in of_kind.head(MOST).itertuples():
                mirrored = ", mirrored" if pair.mirrored else ""
                how = f"{pair.bits} of 256 bits differ, likeness {pair.likeness:.2f}{mirrored}"
                for name, facts in ((pair.first, how), (pair.second, "")):
                    clips.append(KeptClip(name, facts, str(place["shard"][name]), int(place["row"][name])))
            shown = f"{len(of_kind):,}" if len(of_kind) <= MOST else f"the first {MOST} of {len(of_kind):,}"
            where = "across a border" if across else "across none"
            sections.append(_Pairs(f"{str(kind).capitalize()}, {where} ({shown})", ACCENT, clips))
    if not sections:
        return []
    pages, painter, paths = paginate(sections), Painter(root), []
    counts = f"{int(pairs['across'].sum()):,} pairs across a border, {int((~pairs['across']).sum()):,} across none"
    for number, page in enumerate(pages, 1):
        picture = painter.drawn(page, [title, counts, _LEGEND], f"page {number} of {len(pages)}")
        paths.append(folder / f"pairs-{number:02d}.jpg")
        write_jpeg(paths[-1], picture[..., ::-1], QUALITY)
    return paths
