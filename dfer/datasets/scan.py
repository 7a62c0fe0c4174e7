"""Lists the content of a data set's folders: videos, pictures, folders of frames, and other files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dfer.datasets.report import Finding, Problems, Severity
from dfer.system.file_types import DATASET_SUFFIXES, FRAME_SUFFIXES
from dfer.system.natural_order import natural_key

_Key = TypeVar("_Key", int, str)

OUTSIDE_ROOT: tuple[Severity, str] = (
    "error",
    "links that lead out of the data set's root, which are not followed; mount or move the files into the root",
)
"""The rule for `Scan.outside`."""


@dataclass(frozen=True)
class Source:
    """One clip on disk: a video, a picture, or a folder of frames.

    Attributes:
        name: of the folder, or of the file without its suffix.
        path: relative to the root.
        size: of the file, or the sum of the frames, in bytes.
        mtime_ns: of the file, or of the newest frame.
        num_frames: of a folder, 1 for a picture; None for a video.
    """

    name: str
    path: str
    size: int
    mtime_ns: int
    num_frames: int | None = None


@dataclass(frozen=True)
class Scan:
    """One folder's clips, files that are no clip, and links that lead out of the root; all in natural order."""

    sources: tuple[Source, ...] = ()
    others: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


def is_inside(path: Path, root: Path) -> bool:
    """Whether `path` is in `root` after every symbolic link is resolved."""
    # not Path.resolve: it raises RuntimeError for a link to itself
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def scan_videos(folder: Path, root: Path) -> Scan:
    """The video files directly in `folder`, by their suffix in any case, without hidden ones."""
    return _scan(folder, root, _video)


def scan_pictures(folder: Path, root: Path) -> Scan:
    """The pictures directly in `folder`, each a clip of one frame, by their suffix in any case, without hidden ones."""
    return _scan(folder, root, _picture)


def scan_frame_folders(folder: Path, root: Path) -> Scan:
    """The folders directly in `folder`, each a clip of frames, without hidden ones."""
    return _scan(folder, root, _frame_folder)


def scan_listed(folder: Path, root: Path, names: Container[str]) -> Scan:
    """What is directly in `folder` under these names: files of any kind, and folders, each a clip of frames.

    Links to nothing and what is neither a file nor a folder are in `others`.
    """
    return _scan(folder, root, _listed, names)


def by_key(scan: Scan, key: Callable[[str], _Key | None], problems: Problems) -> dict[_Key, Source]:
    """The clips by the key of their name; duplicates, other files and links out of the root are added to `problems`."""
    sources: dict[_Key, Source] = {}
    problems["outside_root"] += scan.outside
    problems["other_files"] += scan.others
    for source in scan.sources:
        name = key(source.name)
        if name is None:
            problems["other_files"].append(source.path)
        elif name in sources:
            problems["duplicate_source"].append(f"{sources[name].path} and {source.path}")
        else:
            sources[name] = source
    return sources


def subfolders(folder: Path) -> list[str]:
    """Names of the folders directly in `folder` without hidden ones, in natural order; [] if it is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return _ordered(entry.name for entry in entries if _true(entry.is_dir) and not entry.name.startswith("."))


def listing(folder: Path, limit: int = 8) -> str:
    """The content of `folder` for a message: its first names in natural order and the number of others."""
    names = _ordered(f"{entry.name}/" if _true(entry.is_dir) else entry.name for entry in os.scandir(folder))
    if not names:
        return "nothing"
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def root_finding(
    root: Path, expected: str, fits: Callable[[Path], bool], hint_on: Callable[[Path], str] = lambda root: ""
) -> Finding | None:
    """An error finding, with the `expected` content in its message, if `root` is not a data set's root folder.

    `fits` says whether a folder has the layout; it also suggests a folder up to two levels above or one below, unless
    `hint_on` says what to do with the root itself.
    """
    if not root.exists():
        parent = next(folder for folder in root.absolute().parents if folder.is_dir())
        return Finding(
            "root_missing",
            "error",
            f"the folder {root} does not exist; {parent} holds {listing(parent)}. Give the folder with {expected}",
        )
    if not root.is_dir():
        return Finding("wrong_root", "error", f"{root} is a file; give the folder that holds {expected}")
    if fits(root):
        return None
    if hint := hint_on(root):
        return Finding(
            "wrong_root", "error", f"expected {expected} in {root}, but found there: {listing(root)}. {hint}"
        )
    above = list(root.absolute().parents)[:2]
    below = [root / name for name in subfolders(root)]
    better = next((folder for folder in [*below, *above] if fits(folder)), None)
    hint = f"Did you mean {better}?" if better else f"Give the folder that holds {expected}."
    return Finding("wrong_root", "error", f"expected {expected} in {root}, but found there: {listing(root)}. {hint}")


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=natural_key)


def _true(test: Callable[[], bool]) -> bool:
    """The answer of `is_file` or `is_dir`; False for a link to itself, as for one to nothing."""
    try:
        return test()
    except OSError as error:
        if not _is_broken_link(error):
            raise
        return False


def _is_broken_link(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ELOOP)


class _LinkOutError(Exception):
    """A symbolic link leads out of the data set's root; the message is its path."""


def _scan(
    folder: Path,
    root: Path,
    read: Callable[[os.DirEntry[str], str, Path], Source | None],
    names: Container[str] | None = None,
) -> Scan:
    prefix = folder.relative_to(root).as_posix()
    if not is_inside(folder, root):
        return Scan(outside=(prefix,))
    prefix = "" if prefix == "." else f"{prefix}/"
    sources: list[Source] = []
    others: list[str] = []
    outside: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") if names is None else entry.name not in names:
                continue
            path = f"{prefix}{entry.name}"
            try:
                source = read(entry, path, root)
            except _LinkOutError as error:
                outside.append(str(error))
                continue
            if source is None:
                others.append(path)
            else:
                sources.append(source)
    sources.sort(key=lambda source: natural_key(source.path))
    return Scan(tuple(sources), tuple(_ordered(others)), tuple(_ordered(outside)))


def _stat(entry: os.DirEntry[str], path: str, root: Path) -> os.stat_result:
    if entry.is_symlink() and not is_inside(Path(entry.path), root):
        raise _LinkOutError(path)
    return entry.stat()


def _video(entry: os.DirEntry[str], path: str, root: Path) -> Source | None:
    return _file(entry, path, root, DATASET_SUFFIXES)


def _picture(entry: os.DirEntry[str], path: str, root: Path) -> Source | None:
    return _file(entry, path, root, FRAME_SUFFIXES, num_frames=1)


def _file(
    entry: os.DirEntry[str], path: str, root: Path, suffixes: frozenset[str], num_frames: int | None = None
) -> Source | None:
    stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a Path for every one of 16,000 files takes its time
    if suffix.lower() not in suffixes or not (_true(entry.is_file) or entry.is_symlink()):
        return None
    try:
        stat = _stat(entry, path, root)
    except OSError as error:
        if not _is_broken_link(error):
            raise
        return None
    return Source(stem, path, stat.st_size, stat.st_mtime_ns, num_frames)


def _listed(entry: os.DirEntry[str], path: str, root: Path) -> Source | None:
    if _true(entry.is_dir):
        return _frame_folder(entry, path, root)
    if entry.is_symlink() and not is_inside(Path(entry.path), root):
        raise _LinkOutError(path)
    if not _true(entry.is_file):
        return None
    stat = entry.stat()
    return Source(os.path.splitext(entry.name)[0], path, stat.st_size, stat.st_mtime_ns)  # noqa: PTH122 - as above


def _frame_folder(entry: os.DirEntry[str], path: str, root: Path) -> Source | None:
    if not _true(entry.is_dir):
        return None
    _stat(entry, path, root)
    size, mtime_ns, num_frames = 0, -1, 0
    with os.scandir(entry.path) as frames:
        for frame in frames:
            suffix = os.path.splitext(frame.name)[1].lower()  # noqa: PTH122 - as above, for a million frames
            if suffix in FRAME_SUFFIXES and not frame.name.startswith(".") and _true(frame.is_file):
                stat = _stat(frame, f"{path}/{frame.name}", root)
                size += stat.st_size
                mtime_ns = max(mtime_ns, stat.st_mtime_ns)
                num_frames += 1
    return Source(entry.name, path, size, mtime_ns, num_frames)
