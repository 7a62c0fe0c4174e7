"""Classes and their names, and the way from annotators' votes to training targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

EMOTIONS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""The classes of a pipeline that names no others, in DFEW's own order.

Labels are places in a pipeline's classes, votes and probabilities are in their order.
"""

# Nouns, adjectives and three-letter codes as the data sets write them in folder, column and file names.
_SPELLINGS = {
    "happy": ("happiness", "joy", "hap"),
    "sad": ("sadness",),
    "neutral": ("neutrality", "neu"),
    "angry": ("anger", "ang"),
    "surprise": ("surprised", "sur"),
    "disgust": ("disgusted", "dis"),
    "fear": ("fearful", "fea"),
}
_INDEX = {spelling: index for index, name in enumerate(EMOTIONS) for spelling in (name, *_SPELLINGS[name])}


def emotion_index(name: str) -> int:
    """The index in `EMOTIONS` of an emotion in any of the data sets' spellings, whatever their case and outer blanks.

    Raises ValueError for an unknown spelling.
    """
    try:
        return _INDEX[name.strip().casefold()]
    except KeyError:
        raise ValueError(f"unknown emotion {name!r}; known are {', '.join(_INDEX)}") from None


def class_name(name: str) -> str:
    """The one spelling of a class: of an emotion in any of the data sets' spellings ("Happiness" -> "happy"), of any
    other name the name without outer blanks, in small letters."""
    plain = name.strip().casefold()
    return EMOTIONS[_INDEX[plain]] if plain in _INDEX else plain


def soft_labels(votes: ArrayLike) -> NDArray[np.float64]:
    """Soft labels q_i = (1/S) sum_s v_i^(s) of the paper's section 3.2: each clip's votes over its number of votes.

    Counts [N, K] -> float64[N, K], values in [0, 1], rows that sum to 1.
    Raises ValueError for another shape, a clip without votes, negative or non-finite counts.
    """
    try:
        counts = np.asarray(votes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"votes must be as many numbers for every clip: {error}") from error
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise ValueError(f"votes must have shape [N, K] with K classes, two or more; got {list(counts.shape)}")
    bad = ~(np.isfinite(counts) & (counts >= 0)).all(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"votes must be finite and not negative; {bad.sum()} clips are not, first row {first}: {counts[first]}"
        )
    totals = counts.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        empty = np.flatnonzero(totals == 0)
        raise ValueError(f"{len(empty)} clips have no votes (first row {empty[0]}): no soft label can be made of them")
    return counts / totals


def hard_labels(labels: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """One-hot rows float64[N, num_classes] of single labels, integers [N] in 0..num_classes-1.

    Raises ValueError for another shape, missing or non-integer labels, labels out of range.
    """
    indices = np.asarray(labels)
    if indices.ndim != 1 or (indices.size and not np.issubdtype(indices.dtype, np.integer)):
        raise ValueError(
            f"labels must be integers of shape [N] without gaps, got {indices.dtype} of shape {list(indices.shape)}"
        )
    if indices.size and not (indices.min() >= 0 and indices.max() < num_classes):
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}, found values from {indices.min()} to {indices.max()}"
        )
    return np.eye(num_classes, dtype=np.float64)[indices.astype(np.int64)]


def majority(votes: Sequence[int]) -> int | None:
    """The index of the emotion with most of a clip's votes; None if several have as many."""
    top = max(votes)
    return votes.index(top) if votes.count(top) == 1 else None
