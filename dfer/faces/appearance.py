"""What a face looks like, in 32 bytes: enough to tell people of one film apart, not to recognise anybody elsewhere."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.faces.geometry import similarity, template, warp

BYTES = 32
"""Bytes of a description."""

_SIDE, _CELL, _DIRECTIONS = 32, 8, 8  # pixels, pixels, of the gradient
# The face alone, which expressions and light change least, and the face with hair, collar and some of the background.
_TEMPLATES = template(_SIDE, 0.0), template(_SIDE, 1.2)
_FLAT = 0.3  # keeps the noise of flat cells small
# The average face, a byte for each number of a description: the medians of 1,008 pictures of the demo data's 28 people
# in six films each. What all faces share tells nobody apart.
_AVERAGE = np.frombuffer(
    bytes.fromhex(
        "7958230a1a121f2a425040070e0d292c100f4d433b2b2d0d19072659722c26136e402c212c2d293e353a362821487b4d1a2a"
        "3b3c334c7f412f252d3e713c343156313328161a435f20485f362d4e50372e335c441c335c50152c372e515e451b51241f23"
        "382e3f4848264b3d394f3c3c393f5b2743303c4b341f20245a523e27544d811b0b04060e2e60b01f0a00010a0b2ab3502908"
        "03020f1e8951520e0a07722d221c14191e336a3e30271b304a5b1a25333c6659552f231a212e8535241d622a1a0e0c212e36"
        "5842323b323d435d313b373a585e4741181323395135372c27000000001f9c591c0000000a35b057080000001e59b12f0000"
        "00001a52aa28"
    ),
    np.uint8,
)


def describe(frame: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Descriptions uint8[N, 32] of the faces with key points [N, 5, 2] in a frame uint8[H, W, 3] BGR.

    Each bit says whether edges of one of eight directions are stronger in one of 16 cells than in the average face,
    for two crops around the face (Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005).
    """
    numbers = np.array([_edges(frame, points) for points in keypoints], np.float32).reshape(-1, 8 * BYTES)
    return np.packbits(numbers * 255 > _AVERAGE, axis=1)


def as_vectors(descriptions: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Descriptions uint8[..., 32] as vectors float32[..., 256] of length 1, whose products are their likeness."""
    bits = np.unpackbits(descriptions, axis=-1).astype(np.float32)
    return (2 * bits - 1) / np.float32(np.sqrt(8 * BYTES))


def _edges(frame: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The histograms of both crops, float32[256] in [0, 1]."""
    return np.concatenate([_histograms(warp(frame, similarity(points, target), _SIDE)) for target in _TEMPLATES])


def _histograms(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The strength of the edges by cell and direction, float32[128]: each cell is a vector of a length below 1."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY).astype(np.float32)
    bright = np.asarray(cv2.GaussianBlur(np.log(grey + 10), (0, 0), 0.8), np.float32)  # so that light does not count
    across, down = (cv2.Sobel(bright, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength, angle = cv2.cartToPolar(across, down)
    place = np.asarray(angle, np.float64) * (_DIRECTIONS / (2 * np.pi))
    lower = np.floor(place).astype(np.int64)
    share, strength = place - lower, np.asarray(strength, np.float64)
    rows, columns = np.mgrid[:_SIDE, :_SIDE] // _CELL
    cells = (rows * (_SIDE // _CELL) + columns) * _DIRECTIONS
    number = _DIRECTIONS * (_SIDE // _CELL) ** 2
    histogram = np.zeros(number)
    for direction, weight in ((lower, 1 - share), (lower + 1, share)):
        histogram += np.bincount((cells + direction % _DIRECTIONS).ravel(), (strength * weight).ravel(), number)
    by_cell = np.sqrt(histogram.reshape(-1, _DIRECTIONS) / _CELL**2)
    by_cell /= np.linalg.norm(by_cell, axis=1, keepdims=True) + _FLAT
    return by_cell.ravel().astype(np.float32)
