"""What is wrong with a file that should be a video or a picture."""

from __future__ import annotations

import codecs
from pathlib import Path

from dfer.system.file_types import LFS_POINTER
from dfer.system.paths import storable

_HEAD_BYTES = 4096


class VideoError(Exception):
    """The frames of a source cannot be read.

    `reason` is one of missing_file, empty_file, lfs_pointer, not_a_video, undecodable, no_frames. `detail` says what
    is wrong and what to do.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, storable(detail)
        super().__init__(f"{reason}: {self.detail}")


def check_file(path: Path, *, kind: str = "video") -> None:
    """Check what needs no decoder. Raises VideoError (missing_file, empty_file, lfs_pointer, not_a_video)."""
    if not path.is_file():
        raise VideoError("missing_file", f"{path} does not exist; check the data set's root")
    head = read_head(path)
    if not head:
        raise VideoError("empty_file", f"{path} has 0 bytes; copy or download it again")
    if head.startswith(LFS_POINTER):
        raise VideoError("lfs_pointer", f"{path} is a Git LFS pointer, not the {kind} itself; run `git lfs pull` there")
    if _is_text(head):
        start = repr(head.decode(errors="ignore")[:40])
        raise VideoError("not_a_video", f"{path} is text, not a {kind}; it starts with {start}")


def not_opened(path: Path) -> VideoError:
    """The error for a file that FFmpeg cannot open."""
    head = read_head(path)
    if _has_video_signature(head):
        return VideoError("undecodable", f"{path} looks like a video but cannot be opened; is it complete?")
    return VideoError(
        "not_a_video", f"{path} is no video of a format that is read; it starts with bytes {head[:12].hex(' ')}"
    )


def read_head(path: Path) -> bytes:
    """The first bytes of a file. Raises VideoError (undecodable) if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise VideoError("undecodable", f"{path} cannot be read: {error.strerror}") from error


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end inside a character
    except UnicodeDecodeError:
        return False
    return True


def _has_video_signature(head: bytes) -> bool:
    boxes = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
    starts = (
        b"\x1a\x45\xdf\xa3",
        b"FLV",
        b"\x00\x00\x01\xba",
        b"\x00\x00\x01\xb3",
        b"\x30\x26\xb2\x75",
        b"OggS",
        b"GIF8",
        b"G@",
    )
    return head[4:8] in boxes or head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
