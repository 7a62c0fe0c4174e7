"""Finds the clips in folders that people have: videos, folders of pictures, and what is neither."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfer.config.problems import InputError
from dfer.system.file_types import FRAME_SUFFIXES, VIDEO_SUFFIXES
from dfer.system.natural_order import natural_key
from dfer.system.paths import spelled

CALL = "align.json"
"""The file by which a folder is known that `dfer align` has written."""

WRITTEN_BY = {CALL: "dfer align", "predict.json": "dfer predict"}
"""The files by which folders are known that commands have written, in which no clips are looked for."""

_PICTURE = "pictures beside videos, or in a hidden folder"


@dataclass(frozen=True)
class Listing:
    """The clips below some paths, and what else lies there.

    Attributes:
        videos: clip id -> a video file, a folder that directly holds pictures, or a picture that was named; in natural
            order. The id is the path relative to the folder that all clips share, as `dfer.system.paths.spelled`.
        passed_over: why -> paths, spelled in the same way.
    """

    videos: dict[str, Path]
    passed_over: dict[str, list[str]]


def find_videos(paths: Sequence[Path]) -> Listing:
    """The clips at some paths (files, and all below folders), independent of the paths' order.

    Folders of pictures beside which videos lie are no clips, and what `dfer align` and `dfer predict` have written is
    not searched.
    Raises InputError if a path does not exist, a folder has no clip, or two clips would have the same id.
    """
    clips: set[Path] = set()
    passed_over: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            entries = dict(_entries(path.absolute()))
            inside = {entry for entry, why in entries.items() if not why}
            if not inside:
                raise InputError(_nothing(path, entries))
            clips |= inside
            passed_over |= {entry: why for entry, why in entries.items() if why}
        elif path.exists():
            clips.add(path.absolute())
        else:
            kind = " (a link that leads nowhere)" if path.is_symlink() else ""
            raise InputError(f"{spelled(path)} does not exist{kind}")
    shared = Path(os.path.commonpath([path.parent for path in clips]))
    videos: dict[str, Path] = {}
    for path in sorted(clips, key=os.fsencode):
        name = spelled(path.relative_to(shared))
        if name in videos:
            raise InputError(f"two files in {spelled(shared)} have names that are both written {name}: rename one")
        videos[name] = path
    grouped: dict[str, list[str]] = {}
    for path, why in passed_over.items():
        is_taken = path in clips or (why == _PICTURE and path.parent in clips)
        if not is_taken:
            name = spelled(path.relative_to(shared) if path.is_relative_to(shared) else path)
            grouped.setdefault(why, []).append(name)
    return Listing(
        {name: videos[name] for name in sorted(videos, key=natural_key)},
        {why: sorted(grouped[why], key=natural_key) for why in sorted(grouped)},
    )


def named_anew(earlier: Mapping[str, Sequence[Any]], files: Mapping[str, Sequence[Any]]) -> str:
    """Why a clip of an earlier call has another id of `find_videos` now; empty if none has.

    Args:
        earlier, files: clip id -> what is known of its file, of which the first is its path, `spelled`.
    """
    names = {seen[0]: name for name, seen in files.items()}
    for before, (path, *_) in earlier.items():
        now = names.get(path, "")
        if now and files.get(before, [""])[0] != path and path.endswith(f"/{before}") and path.endswith(f"/{now}"):
            return (
                "other names for its videos: names are relative to the folder that all videos share, which was "
                f"{path.removesuffix(before)} and is {path.removesuffix(now)} now, so that {before} is named {now}"
            )
    return ""


def _entries(top: Path) -> Iterator[tuple[Path, str]]:
    """What lies below a folder, and why it is no clip; empty for clips."""
    unreadable: list[OSError] = []
    for name, folders, files in os.walk(top, onerror=unreadable.append):
        folder = Path(name)
        if commands := [command for file, command in WRITTEN_BY.items() if file in files]:
            folders.clear()
            yield folder, f"written by {commands[0]}"
            continue
        of_files = {folder / file: _why_no_video(folder / file) for file in files}
        has_video = "" in of_files.values()
        pictures = [file for file, why in of_files.items() if why == _PICTURE]
        if pictures and not has_video and (folder == top or not folder.name.startswith(".")):
            yield folder, ""
            of_files = {file: why for file, why in of_files.items() if why != _PICTURE}
        yield from of_files.items()
        yield from ((folder / below, "links to folders") for below in folders if (folder / below).is_symlink())
    yield from ((Path(os.fsdecode(error.filename)), f"{error.strerror}") for error in unreadable)


def _why_no_video(file: Path) -> str:
    """Why a file is passed over; empty if it is a video by its name."""
    suffix = file.suffix.lower()
    if file.name.startswith("._"):
        return "macOS's notes on another file (._*)"
    if suffix in FRAME_SUFFIXES and not file.name.startswith("."):
        return _PICTURE
    if suffix not in VIDEO_SUFFIXES:
        return f"{spelled(suffix)} files" if suffix else "files without a suffix"
    if not file.exists():
        return "links that lead nowhere"
    return "" if file.is_file() else "no files to read, though named like videos"


def _nothing(path: Path, entries: Mapping[Path, str]) -> str:
    whys = list(entries.values())
    others = ", ".join(f"{whys.count(why)} {why}" for why in sorted(set(whys)))
    holds = f"; it holds {others}" if others else ""
    suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
    return f"no videos below {spelled(path)}: looked for {suffixes}, and for folders of pictures{holds}"
