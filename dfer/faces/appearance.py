"""What a face looks like, in 16 bytes: enough to tell people of one film apart, not to recognise anybody elsewhere."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.faces.geometry import similarity, template, warp

BYTES = 16
"""Bytes of a description."""

_SIDE, _CELL, _DIRECTIONS = 32, 8, 8  # pixels, pixels, of the gradient
# The face alone. Hair and collar come with the background, which stays when somebody else takes the place.
_TEMPLATE = template(_SIDE, 0.0)
_FLAT = 0.3  # keeps the noise of flat cells small
# The average face, a byte for each number of a description: the medians of 1,008 pictures of the demo data's 28 people
# in six films each. What all faces share tells nobody apart.
_AVERAGE = np.frombuffer(
    bytes.fromhex(
        "7958230a1a121f2a425040070e0d292c100f4d433b2b2d0d19072659722c26136e402c212c2d293e353a362821487b4d"
        "1a2a3b3c334c7f412f252d3e713c343156313328161a435f20485f362d4e50372e335c441c335c50152c372e515e451b"
        "51241f23382e3f4848264b3d394f3c3c393f5b2743303c4b341f20245a523e27"
    ),
    np.uint8,
)


def describe(frame: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Descriptions uint8[N, 16] of the faces with key points [N, 5, 2] in a frame uint8[H, W, 3] BGR.

    Each bit says whether edges of one of eight directions are stronger in one of 16 cells than in the average face
    (the cells of Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005).
    """
    crops = [warp(frame, similarity(points, _TEMPLATE), _SIDE) for points in keypoints]
    numbers = np.array([_histograms(crop) for crop in crops], np.float32).reshape(-1, 8 * BYTES)
    return np.packbits(numbers * 255 > _AVERAGE, axis=1)


def as_vectors(descriptions: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Descriptions uint8[..., 16] as vectors float32[..., 128] of length 1, whose products are their likeness."""
    bits = np.unpackbits(descriptions, axis=-1).astype(np.float32)
    return (2 * bits - 1) / np.float32(np.sqrt(8 * BYTES))


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
