"""Resizes frames to the very pixels that torch makes of them, without torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_LARGEST = 1 << 15  # of a weight as a whole number
_BITS = 22  # at most


def resized(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Frames uint8[..., H, W, 3], linearly and with antialiasing, as uint8[..., size, size, 3].

    What `dfer.training.transforms.full_view` computes on a CPU: first along rows, then along columns, each rounded to a
    byte, with weights that are whole numbers of 16 bits, as in torch's kernel for bytes.
    """
    *leading, height, width, colours = frames.shape
    lines = np.ascontiguousarray(frames.swapaxes(-1, -2)).reshape(-1, height, colours, width)
    if width != size:
        weights, bits = _weights(width, size)
        lines = _rounded(lines.reshape(-1, width) @ weights.T, bits).reshape(-1, height, colours, size)
    if height != size:
        weights, bits = _weights(height, size)
        columns = lines.reshape(-1, height, colours * size)
        lines = _rounded(np.matmul(weights, columns), bits).reshape(-1, size, colours, size)
    return np.ascontiguousarray(lines.swapaxes(-1, -2)).reshape(*leading, size, size, colours)


def _rounded(sums: NDArray[np.float64], bits: int) -> NDArray[np.uint8]:
    """Sums of whole numbers, exact in 64 bits, as bytes."""
    return np.floor(sums * 2.0**-bits + 0.5).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _weights(length: int, size: int) -> tuple[NDArray[np.float64], int]:
    """What each pixel of a line counts in each of the result, float64[size, length] of whole numbers, times 2^bits."""
    step = length / size
    reach = max(1.0, step)
    middles = step * (np.arange(size) + 0.5)
    first = np.maximum((middles - reach + 0.5).astype(int), 0)
    stop = np.minimum((middles + reach + 0.5).astype(int), length)
    pixels = np.arange(length)
    weights = np.maximum(1 - np.abs(pixels - middles[:, None] + 0.5) / reach, 0.0)
    weights *= (pixels >= first[:, None]) & (pixels < stop[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    largest = weights.max()
    bits = next((bits for bits in range(_BITS) if int(0.5 + largest * (1 << (bits + 1))) >= _LARGEST), _BITS)
    return np.floor(weights * (1 << bits) + 0.5), bits
