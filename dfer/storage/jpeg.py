"""Pictures as JPEG. (`cv2.imwrite` says only that it failed, not that the disk is full.)"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dfer.storage.files import naming


def encode_jpeg(picture: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A picture, uint8[H, W, 3] BGR or grey uint8[H, W], as JPEG of a quality from 0 to 100.
    Raises ValueError if it is too large for JPEG."""
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {list(picture.shape)} cannot be encoded as JPEG")
    return encoded.tobytes()


def write_jpeg(path: Path, picture: npt.NDArray[np.uint8], quality: int) -> None:
    """Write a picture as `encode_jpeg` encodes it. Raises OSError, with the cause, if the file cannot be written."""
    with naming(path):
        path.write_bytes(encode_jpeg(picture, quality))
