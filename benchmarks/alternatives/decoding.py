"""Decoding with OpenCV's reader, one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # silences FFmpeg; read when the first video is opened

import cv2
import numpy as np
from numpy.typing import NDArray


def frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """All frames, uint8[H, W, 3] BGR."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while capture.grab():
        ok, frame = capture.retrieve()
        if not ok:
            return
        yield np.asarray(frame, np.uint8)
    capture.release()
