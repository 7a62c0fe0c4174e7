"""What the page keeps on disk, and for how long: uploads and results of a session until it ends, nothing longer."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

UPLOADS, RESULTS = "uploads", "results"

_ABANDONED = 600.0
"""Seconds after which what belongs to no session goes: an upload that broke off, or whose page was closed meanwhile."""

_LONGEST = 12 * 3600.0
"""Seconds after which a session is over that was not used: its page may have gone without a word."""

# Waits until this process has ended, however it does, and then removes the folder.
_REMOVE_AFTERWARDS = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


@dataclass
class _Session:
    uploads: set[Path] = field(default_factory=set)  # their folders
    results: Path | None = None
    used: float = 0.0  # by the clock of `time.monotonic`


class Sessions:
    """A temporary folder of the page's own, which only this user can read. Safe to use from several threads.

    Attributes:
        root: the folder; it goes with `close`, or as soon as this process has ended, killed or not.
        uploads: what the browsers send is put here, each file in a folder named by its content.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="dfer-app-")).resolve()
        self.uploads = self.root / UPLOADS
        self.uploads.mkdir()
        (self.root / RESULTS).mkdir()
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._remover = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REMOVE_AFTERWARDS, str(self.root)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the page alone
        )

    def use(self, session: str, upload: Path | None) -> Path | None:
        """Note which upload a session uses now; what it used before goes. None: it uses none.

        Returns the file, or None if it is not there, or is no upload.
        """
        file = None if upload is None else upload.resolve()
        if file is not None and not (file.is_relative_to(self.uploads) and file.is_file()):
            file = None
        with self._lock:
            mine = self._of(session)
            before, mine.uploads = mine.uploads, {file.parent} if file is not None else set()
            self._remove_unused(before)
        return file

    def new_results(self, session: str) -> Path:
        """An empty folder for the results of a session, under a name that cannot be guessed; earlier ones go."""
        folder = self.root / RESULTS / secrets.token_urlsafe(16)
        folder.mkdir()
        with self._lock:
            mine = self._of(session)
            before, mine.results = mine.results, folder
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        return folder

    def end(self, session: str) -> None:
        """Remove everything of a session."""
        with self._lock:
            ended = self._sessions.pop(session, _Session())
            self._remove_unused(ended.uploads)
        if ended.results is not None:
            shutil.rmtree(ended.results, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what belongs to no session and was not written to for a while, and sessions that are long unused."""
        with self._lock:
            long_unused = [name for name, one in self._sessions.items() if time.monotonic() - one.used > _LONGEST]
        for session in long_unused:
            self.end(session)
        with self._lock:
            kept: set[Path] = set().union(*(mine.uploads for mine in self._sessions.values()))
            kept |= {mine.results for mine in self._sessions.values() if mine.results is not None}
            for path in (*self.uploads.iterdir(), *(self.root / RESULTS).iterdir()):
                if path not in kept and time.time() - path.stat().st_mtime > _ABANDONED:
                    _remove(path)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._remover.communicate()

    def _of(self, session: str) -> _Session:
        mine = self._sessions.setdefault(session, _Session())
        mine.used = time.monotonic()
        return mine

    def _remove_unused(self, folders: set[Path]) -> None:
        """The same file from two sessions lies in one folder, which goes with the last of them."""
        used: set[Path] = set().union(*(mine.uploads for mine in self._sessions.values()))
        for folder in folders - used:
            _remove(folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
