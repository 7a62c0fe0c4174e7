"""Contact sheets: pictures of what was made of many clips, with what a person should look at first on top.

First the clips that were not kept, by reason, and files that were passed over, then kept clips that look odd, then all
others. One page is in memory at a time, and of its clips one strip of frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfer.plots import ACCENT
from dfer.report.content import DatasetFacts, ReportContent
from dfer.report.names import file_name
from dfer.report.oddities import KINDS, count, measured, noted, text
from dfer.report.sheet_pages import WARNING, KeptClip, OtherFile, Painter, Section, paginate
from dfer.shards import open_shard
from dfer.storage.file_names import CONTACT_SHEETS
from dfer.storage.jpeg import write_jpeg
from dfer.storage.remote import Location, below

MOST = 1000  # clips of a kind that a report shows
MOST_PASSED_OVER = 90  # files of a kind
QUALITY = 88
AMBER = "#8a5a00"  # darker than that of the charts: it is text
LEGEND = (
    "Frames of a clip, evenly over its time; a yellow edge: the face was not detected there, but lies between two "
    "detections. Beside the name: frames kept of those searched, and the mean score of the detections."
)

_ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class ContactSheets:
    """The pages in their order, and the numbers of clips that were not kept, and that were kept but look odd."""

    pages: tuple[Path, ...]
    not_kept: int
    odd: int


def write_contact_sheets(
    index: pd.DataFrame,
    root: Location,
    folder: Path,
    *,
    title: str,
    name: str = "contact-sheet",
    passed_over: Mapping[str, Sequence[str]] | None = None,
    sources: Mapping[str, Path] | None = None,
    most: int | None = None,
    on_page: Callable[[int, int], None] = lambda done, pages: None,
) -> ContactSheets:
    """Write `folder`/`name`-01.jpg, -02.jpg, ... and remove such pages of an earlier call.

    Args:
        index: the align index; only `clip_id`, `status`, `reason`, `detail`, `shard` and `row` have to be there.
        root: the folder that its shard folders are relative to.
        folder: is made if it does not exist.
        title: what the pages are about, for example the data set.
        passed_over: why nothing was tried with some files -> the files; of many, an even sample is shown.
        sources: clip -> video, for a picture of each clip that was not kept although it has frames.
        most: how many clips of each reason, of those that the index notes as odd, and of all others are shown, drawn
            evenly from them; None: all.
        on_page: called after each page with its number and the number of pages.

    Raises dfer.shards.ShardError if a shard cannot be read, OSError if a page cannot be written.
    """
    kept, failed = index[index["status"] == "ok"], index[index["status"] != "ok"]
    passed = passed_over or {}
    odd, others = _looked_at(kept, root, most)
    number_odd = sum(map(len, odd.values()))
    sections = [
        *_not_kept(failed, sources or {}, most),
        *(_passed_over(why, files) for why, files in passed.items()),
        *(_section(f"Kept, but odd: {kind}", AMBER, clips, len(clips)) for kind, clips in odd.items()),
        _section("Kept", ACCENT, others, len(kept) - number_odd),
    ]
    sections = [section for section in sections if section.clips]
    looked_at = number_odd + len(others)
    of_some = "" if looked_at == len(kept) else f" of {looked_at:,} looked at"
    number_passed = sum(map(len, passed.values()))
    files = f"; files passed over: {number_passed:,}" if passed else ""
    header = [
        title,
        f"{len(index):,} clips: {len(kept):,} kept ({number_odd:,} odd{of_some}), {len(failed):,} not kept{files}",
        LEGEND,
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.iterdir():
        if re.fullmatch(rf"{re.escape(name)}-\d+\.jpg", earlier.name):
            earlier.unlink()
    pages, painter, paths = paginate(sections), Painter(root), []
    digits = max(2, len(str(len(pages))))
    for number, page in enumerate(pages, 1):
        picture = painter.drawn(page, header, f"page {number} of {len(pages)}")
        paths.append(folder / f"{name}-{number:0{digits}d}.jpg")
        write_jpeg(paths[-1], picture[..., ::-1], QUALITY)
        on_page(number, len(pages))
    return ContactSheets(tuple(paths), len(failed), number_odd)


def of_datasets(content: ReportContent, folder: Path) -> dict[str, list[str]]:
    """Write the sheets of a report's data sets into `folder`/contact-sheets.

    Returns the addresses of the pages, relative to `folder`, by the data set's name. Raises as `write_contact_sheets`.
    """
    addresses = {}
    for place, facts in enumerate(content.datasets, 1):
        if facts.index is None:
            continue
        sheets = write_contact_sheets(
            facts.index,
            content.stages,
            folder / CONTACT_SHEETS,
            title=facts.name,
            name=f"{place}-{file_name(facts.name)}",  # the number, since two names may give one file name
            sources=_videos(facts),
            most=MOST,
        )
        addresses[facts.name] = [path.relative_to(folder).as_posix() for path in sheets.pages]
    return addresses


def _videos(facts: DatasetFacts) -> dict[str, Path]:
    """Clip -> video, of those that were not kept, as far as the data set is here."""
    if facts.root is None or facts.index is None or "source" not in facts.clips:
        return {}
    failed = set(facts.index.loc[facts.index["status"] != "ok", "clip_id"])
    clips = facts.clips[facts.clips["clip_id"].isin(failed)]
    return {name: facts.root / source for name, source in zip(clips["clip_id"], clips["source"], strict=True)}


def _not_kept(failed: pd.DataFrame, sources: Mapping[str, Path], most: int | None) -> Iterator[Section]:
    """A section a reason, the most frequent first."""
    for reason, number in failed["reason"].value_counts().items():
        clips = []
        with_reason = failed[failed["reason"] == reason]
        for row in _records(with_reason.iloc[_evenly(number, most)]):
            source = sources.get(row["clip_id"])
            detail = row["detail"] if source is None else row["detail"].replace(str(source), source.name)
            if remarks := text(row, "remarks"):
                detail = f"{detail}; {remarks}"
            # a picture only of what has been decoded before: another file may crash the process
            clips.append(OtherFile(row["clip_id"], detail, source if count(row, "frames_seen") else None))
        yield _section(f"Not kept: {reason.replace('_', ' ')}", WARNING, clips, number)


def _passed_over(why: str, files: Sequence[str]) -> Section:
    clips = [OtherFile(files[place], "") for place in _evenly(len(files), MOST_PASSED_OVER)]
    return _section(f"Passed over: {why}", WARNING, clips, len(files))


def _looked_at(
    kept: pd.DataFrame, root: Location, most: int | None
) -> tuple[dict[str, list[KeptClip]], list[KeptClip]]:
    """The clips to show: odd ones by kind, and the others, both in the order of the index."""
    is_noted = np.fromiter((bool(noted(row)) for row in _records(kept)), bool, len(kept))
    of_both = [np.flatnonzero(mask) for mask in (is_noted, ~is_noted)]
    chosen = np.sort(np.concatenate([places[_evenly(len(places), most)] for places in of_both]))
    odd: dict[str, list[KeptClip]] = {kind: [] for kind in KINDS}
    others: list[KeptClip] = []
    shard, folder = None, None
    for row in _records(kept.iloc[chosen]):
        if shard is None or row["shard"] != folder:
            shard, folder = open_shard(below(root, row["shard"])), row["shard"]
        score, oddities = measured(shard.arrays(row["row"]))
        oddities = noted(row) | oddities
        frames = shard.num_frames(row["row"])
        facts = f"{frames} of {max(count(row, 'frames_seen'), frames)} frames, score {score:.2f}"
        clip = KeptClip(row["clip_id"], facts, row["shard"], row["row"], "; ".join(oddities.values()))
        (odd[min(oddities, key=KINDS.index)] if oddities else others).append(clip)
    return odd, others


def _section(title: str, colour: str, clips: Sequence[KeptClip | OtherFile], of: int) -> Section:
    """`of` is the number of clips that `clips` were drawn from."""
    number = f"{of:,}" if len(clips) == of else f"an even sample of {len(clips):,} of {of:,}"
    return Section(f"{title} ({number})", colour, clips)


def _evenly(number: int, most: int | None) -> npt.NDArray[np.int64]:
    """Places, int64[N], evenly over a sequence of `number` things: all, or at most `most`."""
    if most is None or number <= most:
        return np.arange(number)
    return np.linspace(0, number - 1, most).round().astype(np.int64)


def _records(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows one after another, some of them in memory at a time."""
    for first in range(0, len(rows), _ROWS_AT_A_TIME):
        yield from rows.iloc[first : first + _ROWS_AT_A_TIME].to_dict("records")
