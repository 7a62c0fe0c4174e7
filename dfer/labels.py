"""The way from annotators' votes to training targets, and the classes they are in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfer.class_names import CLASSES, EMOTIONS, class_name, classes_of, emotion_index

__all__ = [
    "CLASSES",
    "EMOTIONS",
    "class_name",
    "classes_of",
    "emotion_index",
    "hard_labels",
    "majority",
    "read_out",
    "soft_labels",
]


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


def read_out(logits: ArrayLike, *, normalize: str, temperature: float = 1.0) -> NDArray[np.float64]:
    """The label distributions q that a network has learnt, float64[N, K], from its logits float[N, K].

    Trained against q itself (`normalize` other than "softmax") it is the softmax of the logits. Trained against
    softmax(q / tau) (`normalize` "softmax", tau = `temperature`) its logits are z = q / tau + constant, and q is the
    projection on the simplex of tau z + (1 - sum tau z) / K, which is what it was before the softmax wherever that was
    a distribution. The largest logit's class stays that of the largest probability.

    Raises ValueError for another shape, logits that are not finite, or a temperature that is not above 0.
    """
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != 2 or z.shape[1] < 2 or not np.isfinite(z).all():
        raise ValueError(f"expected finite logits [N, K] with K classes, two or more; got {list(z.shape)}")
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature {temperature}: expected a finite number above 0")
    return _on_simplex(temperature * z) if normalize == "softmax" else _softmax(z)


def _softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """SciPy's; the configuration needs this module, and does without SciPy."""
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _on_simplex(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest distribution to each row (Duchi et al., ICML 2008, figure 1), whatever is added to all of a row."""
    rows = rows - rows.max(axis=1, keepdims=True)  # large numbers would lose the small differences in the sum
    ordered = -np.sort(-rows, axis=1)
    surplus = (ordered.cumsum(axis=1) - 1) / np.arange(1, rows.shape[1] + 1)
    last = (ordered > surplus).sum(axis=1, keepdims=True) - 1
    return np.maximum(rows - np.take_along_axis(surplus, last, axis=1), 0.0)
