"""Decodes the frames of a video file or of a folder of images, in order."""

from __future__ import annotations

import codecs
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Silences FFmpeg's messages about broken files; read when the first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# FFmpeg goes by a file's content, and some formats list other files to open: allow only videos.
os.environ.setdefault(
    "OPENCV_FFMPEG_CAPTURE_OPTIONS",
    "protocol_whitelist;file|format_whitelist;asf,avi,flv,h264,hevc,m4v,matroska,mov,mpeg,mpegts,mpegvideo,ogg",
)

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.system.file_types import FRAME_SUFFIXES, LFS_POINTER
from dfer.system.natural_order import natural_key

logger = logging.getLogger(__name__)

_HEAD_BYTES = 4096


class VideoError(Exception):
    """The frames of a source cannot be read.

    `reason` is one of missing_file, empty_file, lfs_pointer, not_a_video, undecodable, no_frames. `detail` says what
    is wrong and what to do.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Video:
    """A video file (read with OpenCV's FFmpeg) or a folder of images (jpg, png, bmp; in natural order).

    `num_frames` is the number that the source announces until `frames` has run to its end, then the number of frames
    that really decode, which is often smaller.
    Raises VideoError if the source is missing, empty, a Git LFS pointer, no video, undecodable or without frames.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._images: list[Path] | None = None
        self._opened: cv2.VideoCapture | None = None
        if source.is_dir():
            self._images = _images(source)
            self.num_frames = len(self._images)
        else:
            _check_file(source)
            capture = _open(source)
            announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            self._opened = capture  # for the first pass: opening costs as much as decoding several frames
            # Streams and damaged indices announce nothing, or nonsense.
            self.num_frames = announced if announced > 0 else self._count()

    def frames(self, indices: Sequence[int] | NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield those frames at `indices` (increasing) that exist, as (index, uint8[H, W, 3] BGR).

        Applies rotation flags; converts grey and transparent pictures to BGR. Decodes to the end of the source, so that
        `num_frames` is the real number afterwards; if it has changed, choose indices again. Raises VideoError
        (undecodable, no_frames).
        """
        chosen = {int(index) for index in indices}
        if self._images is not None:
            for index, path in enumerate(self._images):
                if index in chosen:
                    yield index, _read_image(path)
            return
        capture, self._opened = self._opened or _open(self.source), None
        count = 0
        try:
            while capture.grab():
                if count in chosen:
                    ok, frame = capture.retrieve()
                    if not ok:
                        raise VideoError("undecodable", f"{self.source}: frame {count} cannot be decoded")
                    yield count, _bgr(frame)
                count += 1
        finally:
            capture.release()
        if count == 0:
            raise VideoError("undecodable", f"{self.source}: {self.num_frames} frames announced, not one decodes")
        if count != self.num_frames:
            logger.info("odd: %s: %d frames announced, %d decode", self.source, self.num_frames, count)
        self.num_frames = count

    def _count(self) -> int:
        capture = _open(self.source)
        count = 0
        while capture.grab():
            count += 1
        capture.release()
        if count == 0:
            raise VideoError("no_frames", f"{self.source} opens as a video but holds no frame")
        return count


def _images(folder: Path) -> list[Path]:
    images = [
        path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES and not path.name.startswith(".")
    ]
    if not images:
        raise VideoError("no_frames", f"folder {folder} holds no picture ({', '.join(sorted(FRAME_SUFFIXES))})")
    return sorted(images, key=lambda path: natural_key(path.name))


def _read_image(path: Path) -> NDArray[np.uint8]:
    _check_file(path, kind="picture")
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise VideoError("undecodable", f"{path} cannot be decoded as a picture")
    return _bgr(image)


def _check_file(path: Path, *, kind: str = "video") -> None:
    if not path.is_file():
        raise VideoError("missing_file", f"{path} does not exist; check the data set's root")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise VideoError("empty_file", f"{path} has 0 bytes; copy or download it again")
    if head.startswith(LFS_POINTER):
        raise VideoError("lfs_pointer", f"{path} is a Git LFS pointer, not the {kind} itself; run `git lfs pull` there")
    if _is_text(head):
        raise VideoError(
            "not_a_video", f"{path} is text, not a {kind}; it starts with {head.decode(errors='ignore')[:40]!r}"
        )


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end inside a character
    except UnicodeDecodeError:
        return False
    return True


def _open(source: Path) -> cv2.VideoCapture:
    # One decoding thread: there is one process per shard of clips, and detection takes most of the time.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        capture.release()
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if _has_video_signature(head):
            raise VideoError("undecodable", f"{source} looks like a video but cannot be opened; is it complete?")
        raise VideoError(
            "not_a_video", f"{source} is no video that FFmpeg knows; it starts with bytes {head[:12].hex(' ')}"
        )
    return capture


def _has_video_signature(head: bytes) -> bool:
    boxes = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
    starts = (
        b"\x1a\x45\xdf\xa3",
        b"FLV",
        b"\x00\x00\x01\xba",
        b"\x00\x00\x01\xb3",
        b"\x30\x26\xb2\x75",
        b"OggS",
        b"G@",
    )
    return head[4:8] in boxes or head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def _bgr(frame: NDArray[Any]) -> NDArray[np.uint8]:
    if frame.ndim == 2 or frame.shape[2] == 1:
        frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    elif frame.shape[2] == 4:
        frame = cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)
    return np.asarray(frame, np.uint8)
