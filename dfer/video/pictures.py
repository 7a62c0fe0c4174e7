"""Reads the frames of a folder of pictures, and pictures on their own."""

from __future__ import annotations

import os
from pathlib import Path

# OpenCV reads it once; a picture's header may announce any size.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.system.file_types import FRAME_SUFFIXES
from dfer.system.natural_order import natural_key
from dfer.video.errors import VideoError, check_file

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def of(source: Path) -> list[Path] | None:
    """The pictures of a folder in natural order, or the one that `source` is by its suffix; None for other files.

    Raises VideoError (no_frames, and for a single picture what `check_file` does).
    """
    if source.is_dir():
        return _in_folder(source)
    if not _is_picture(source):
        return None
    check_file(source, kind="picture")
    return [source]


def _in_folder(folder: Path) -> list[Path]:
    paths = [path for path in folder.iterdir() if _is_picture(path) and not path.name.startswith(".")]
    if not paths:
        raise VideoError("no_frames", f"folder {folder} holds no picture ({', '.join(sorted(FRAME_SUFFIXES))})")
    return sorted(paths, key=lambda path: natural_key(path.name))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in FRAME_SUFFIXES


def read(path: Path) -> NDArray[np.uint8]:
    """One picture, turned as its Exif data say: uint8[H, W, 3] BGR. Raises VideoError."""
    check_file(path, kind="picture")
    try:
        content = path.read_bytes()
        if content.startswith(_JPEG_START) and _JPEG_END not in content[len(content) // 2 :]:
            raise VideoError("undecodable", f"{path} is cut off; copy it again")  # OpenCV would fill the rest with grey
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):  # OpenCV refuses pictures of absurd size
        image = None
    if image is None:
        raise VideoError("undecodable", f"{path} cannot be decoded as a picture")
    return np.asarray(image, np.uint8)
