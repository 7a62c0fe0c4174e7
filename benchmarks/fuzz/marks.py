"""A mark in every picture: which input and which frame it belongs to, in squares that survive lossy compression.

A picture is a board of 8 x 8 squares. Two neighbours are one bit: the left one is light for a 1, the right one for a 0.
24 bits name the input, 8 its frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 128
"""Width and height of a picture, pixels."""

_BOARD = 8
_FRAME_BITS = 8
_LIGHT, _DARK = (0, 255, 255), (128, 0, 0)  # yellow and navy in BGR, so that exchanged channels are noticed
_CONTRAST = 50  # least difference of the two squares of a bit, of 255
_TURNS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))


def code_of(seed: int, number: int) -> int:
    """The 24 bits of an input; of ten thousand, hardly two are equal, and damage hardly makes one of another."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=3).digest())


def draw(code: int, frame: int, side: int = SIDE) -> NDArray[np.uint8]:
    """The picture of a frame, uint8[side, side, 3] BGR; `side` is a multiple of 8."""
    number = code << _FRAME_BITS | frame % 2**_FRAME_BITS
    bits = [number >> place & 1 for place in reversed(range(_BOARD * _BOARD // 2))]
    squares = np.array([(bit, 1 - bit) for bit in bits], np.uint8).reshape(_BOARD, _BOARD)
    light = squares.repeat(side // _BOARD, 0).repeat(side // _BOARD, 1)[..., None]
    return np.where(light, np.array(_LIGHT, np.uint8), np.array(_DARK, np.uint8))


def read(picture: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Code and frame of a picture; None unless every single bit is clear."""
    height, width = picture.shape[:2]
    if min(height, width) < 2 * _BOARD:
        return None
    # the middle of each square: its borders are smeared by compression
    rows, columns = ((np.arange(2 * _BOARD + 1) * length / (2 * _BOARD)).astype(int) for length in (height, width))
    quarters = np.add.reduceat(np.add.reduceat(picture.mean(axis=2), rows[:-1], 0), columns[:-1], 1)
    quarters /= np.outer(np.diff(rows), np.diff(columns))
    squares = quarters.reshape(_BOARD, 2, _BOARD, 2).mean(axis=(1, 3))
    difference = (squares[:, 0::2] - squares[:, 1::2]).ravel()
    if np.abs(difference).min() < _CONTRAST:
        return None
    number = int("".join("1" if bit else "0" for bit in difference > 0), 2)
    return number >> _FRAME_BITS, number % 2**_FRAME_BITS


def read_turned(picture: NDArray[np.uint8], codes: Sequence[int]) -> int | None:
    """The one of `codes` that a picture shows, upright, turned by a multiple of 90 degrees or mirrored; else None."""
    for turns, mirrored in _TURNS:
        turned = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
        if (mark := read(turned)) is not None and mark[0] in codes:
            return mark[0]
    return None


def channels_exchanged(picture: NDArray[np.uint8]) -> bool:
    """Whether red and blue are exchanged; only of a picture with a readable mark."""
    light = picture[picture[..., 1] > 128]
    return bool(light.size) and float(light[:, 2].mean()) < float(light[:, 0].mean())
