"""The files that a table of one's own names: which are there, and which are the same video twice."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from dfer.datasets.scan import Source, is_inside, scan_listed

MOST_COMPARED = 10_000
"""Clips; in larger sets the same video is found by its path alone."""

MOST_BYTES = 2**30
"""Of files as long as another one and with its beginning, which are read to their end to compare them."""

_BEGINNING = 64 * 2**10
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes that file systems take


def plain_path(text: str, root: Path) -> str:
    """A path as a person writes it, as a path relative to `root` with single slashes.

    Raises ValueError, whose message is a code of `dfer.datasets.own_table.RULES`, if it is none inside the root.
    """
    if not text.isprintable() or "\\" in text or "://" in text or len(text.encode()) > _LONGEST_PATH:
        raise ValueError("bad_path")
    if text.startswith("/"):
        absolute = f"{root.absolute().as_posix().rstrip('/')}/"
        if not text.startswith(absolute):
            raise ValueError("outside_root")
        text = text.removeprefix(absolute)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("outside_root")
    if not parts or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise ValueError("bad_path")
    return "/".join(parts)


class Names:
    """Looks for files whose names on disk differ in form from those of a table.

    An accented letter can be one character or two (Unicode's forms NFC and NFD), which nobody sees and some systems
    change: such names are the same. Capital letters are not: a name that differs in them is only proposed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[str, tuple[set[str], dict[str, str], dict[str, str]]] = {}

    def on_disk(self, path: str) -> str:
        """The path as it is on disk, if it is there in another form; else as it is written."""
        return path if path.isascii() else (self._walk(path, any_case=False) or path)

    def proposed(self, path: str) -> str | None:
        """Of a path that is not there, one that is and differs in capital letters alone."""
        return self._walk(path, any_case=True)

    def _walk(self, path: str, *, any_case: bool) -> str | None:
        folder = ""
        for name in path.split("/"):
            exact, composed, folded = self._listing(folder)
            there = name if name in exact else composed.get(_composed(name))
            if there is None and any_case:
                there = folded.get(_composed(name).casefold())
            if there is None:
                return None
            folder = f"{folder}/{there}" if folder else there
        return folder

    def _listing(self, folder: str) -> tuple[set[str], dict[str, str], dict[str, str]]:
        """The names in a folder; by their composed form; by that in small letters. Nothing of one outside the root."""
        if folder not in self._listings:
            names: set[str] = set()
            with suppress(OSError):
                if is_inside(self._root / folder, self._root):
                    with os.scandir(self._root / folder) as entries:
                        names = {entry.name for entry in entries}
            composed = {_composed(name): name for name in sorted(names)}
            self._listings[folder] = names, composed, {text.casefold(): name for text, name in composed.items()}
        return self._listings[folder]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def find(paths: Iterable[str], root: Path) -> tuple[dict[str, Source], set[str]]:
    """Path -> what is there, with size and time -1 if nothing is; and the paths that links lead out of the root."""
    names: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        folder, _, name = path.rpartition("/")
        names[folder].add(name)
    found: dict[str, Source] = {}
    outside: set[str] = set()
    for folder, wanted in names.items():
        scan = scan_listed(root / folder, root, wanted) if (root / folder).is_dir() else None
        existing = {source.path: source for source in scan.sources} if scan else {}
        for path in (f"{folder}/{name}" if folder else name for name in wanted):
            # a folder that leads out is the one entry of its scan
            if scan and (path in scan.outside or folder in scan.outside):
                outside.add(path)
            found[path] = existing.get(path, Source(path.rpartition("/")[2], path, -1, -1))
    return found, outside


def same_content(sources: Sequence[Source], root: Path) -> tuple[list[list[str]], bool]:
    """Paths of files with the same bytes, together; and whether all could be compared (see the limits above).

    Files that are missing, empty or cannot be read are the same as no other, and folders of frames are not looked into.
    """
    if len(sources) > MOST_COMPARED:
        return [], False
    files = [source for source in sources if source.size > 0 and source.num_frames is None]
    left = MOST_BYTES
    twice: list[list[str]] = []
    for equally_long in _alike(files, lambda source: source.size):
        for candidates in _alike(equally_long, lambda source: _digest(root / source.path, _BEGINNING)):
            left -= sum(source.size for source in candidates)
            if left < 0:
                return twice, False
            same = _alike(candidates, lambda source: _digest(root / source.path))
            twice += [[source.path for source in group] for group in same]
    return twice, True


def _alike(sources: Iterable[Source], key: Callable[[Source], Hashable | None]) -> list[list[Source]]:
    """Groups of two or more with the same key; those whose key is None are in no group."""
    groups: dict[Hashable, list[Source]] = defaultdict(list)
    for source in sources:
        if (its := key(source)) is not None:
            groups[its].append(source)
    return [group for group in groups.values() if len(group) > 1]


def _digest(path: Path, size: int = -1) -> bytes | None:
    """SHA-256 of a file or its beginning; None if it cannot be read, which the alignment will say of the clip."""
    with suppress(OSError), path.open("rb") as file:
        if size >= 0:
            return hashlib.sha256(file.read(size)).digest()
        return hashlib.file_digest(file, "sha256").digest()
    return None
