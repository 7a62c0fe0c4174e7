"""Metrics of clip-level emotion recognition.

Conventions, the same for every function here:

- `y_true`, `y_pred`: int[N], classes `0..num_classes-1`, one entry per clip, of clips with a label only.
- `probabilities`: float[N, K], rows summing to 1. `targets`: float[N, K] the same, or int[N] class numbers.
- Nothing is weighted by class unless the name says so. Logarithms are natural (nats).
- A metric of no clips at all is an error, never 0 or nan.

WAR (weighted average recall) is the share of clips predicted right, UAR (unweighted average recall) the mean of the
per-class recalls (section 4.3).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

Array = npt.NDArray[np.float64]


def war(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Weighted average recall: the accuracy over all clips, in [0, 1]. ValueError for arrays that differ in length."""
    true, predicted = _class_pair(y_true, y_pred)
    return float(np.mean(true == predicted))


def uar(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, num_classes: int) -> float:
    """Unweighted average recall: the mean of the recalls of all classes that have clips, in [0, 1].

    A class without a single clip in `y_true` has no recall; it is left out of the mean (see `per_class_recall`).
    """
    return float(np.nanmean(per_class_recall(y_true, y_pred, num_classes)))


def per_class_recall(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, num_classes: int) -> Array:
    """Share of each class's clips that were predicted as that class, float64[K]; nan for a class without clips."""
    confusion = confusion_matrix(y_true, y_pred, num_classes)
    clips = confusion.sum(axis=1)
    recall = np.full(num_classes, np.nan)
    return np.divide(confusion.diagonal(), clips, out=recall, where=clips > 0)


def confusion_matrix(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.int64]:
    """Counts int64[K, K]: row = true class, column = predicted class.

    Raises ValueError for arrays that are empty or differ in length, or a class outside `0..num_classes-1`.
    """
    true, predicted = _class_pair(y_true, y_pred)
    for name, classes in (("y_true", true), ("y_pred", predicted)):
        if classes.min() < 0 or classes.max() >= num_classes:
            raise ValueError(
                f"{name} has classes from {classes.min()} to {classes.max()}, expected 0..{num_classes - 1}"
            )
    return np.bincount(true * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def nll(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Mean negative log-likelihood `-sum_k t_k ln p_k` in nats; a probability of 0 counts as the smallest float64.

    For soft targets this is the cross-entropy against them, whose least value is their mean entropy, not 0.
    """
    predicted, wanted = _probability_pair(probabilities, targets)
    return float(-np.mean(np.sum(wanted * np.log(np.maximum(predicted, np.finfo(np.float64).tiny)), axis=1)))


def brier(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Brier score: the mean of `sum_k (p_k - t_k)^2`, in [0, 2]."""
    predicted, wanted = _probability_pair(probabilities, targets)
    return float(np.mean(np.sum((predicted - wanted) ** 2, axis=1)))


def ece(probabilities: npt.ArrayLike, y_true: npt.ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error, in [0, 1].

    The confidence of a clip is its largest probability. Confidences fall into `bins` equally wide bins, open on the
    left and closed on the right; the error is the mean over bins, weighted by clips, of |accuracy - mean confidence|.
    """
    predicted, _ = _probability_pair(probabilities, y_true)
    confidence = predicted.max(axis=1)
    correct = predicted.argmax(axis=1) == np.asarray(y_true)
    bin_of_clip = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(bin_of_clip, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def classwise_ece(probabilities: npt.ArrayLike, targets: npt.ArrayLike, *, bins: int = 15) -> Array:
    """Classwise expected calibration error (Kull et al., NeurIPS 2019), float64[K] in [0, 1]; its mean is their number.

    Of each class: its probabilities fall into `bins` equally wide bins, open on the left and closed on the right (0 is
    in the first); the error is the mean over bins, weighted by clips, of |mean target - mean probability|. Targets may
    be soft: shares of votes.
    """
    predicted, wanted = _probability_pair(probabilities, targets)
    classes = predicted.shape[1]
    bin_of_clip = np.clip(np.ceil(predicted * bins).astype(np.int64) - 1, 0, bins - 1) + np.arange(classes) * bins
    gap = np.bincount(bin_of_clip.ravel(), weights=(wanted - predicted).ravel(), minlength=classes * bins)
    return np.abs(gap.reshape(classes, bins)).sum(axis=1) / len(predicted)


def total_variation(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    """Total variation distance of each clip's prediction from its voters, float64[N] in [0, 1].

    It is the share of the votes that would have to be others. Against voters it is the DistCE of Baan et al. (EMNLP
    2022).
    """
    predicted, wanted = _probability_pair(probabilities, targets)
    return np.abs(predicted - wanted).sum(axis=1) / 2


def js_divergence(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    """Jensen-Shannon divergence between each clip's prediction and its voters, float64[N] in [0, ln 2] nats."""
    predicted, wanted = _probability_pair(probabilities, targets)
    middle = (predicted + wanted) / 2
    divergence = (rel_entr(predicted, middle) + rel_entr(wanted, middle)).sum(axis=1) / 2
    return np.clip(divergence, 0.0, np.log(2.0))


def _class_pair(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return _classes("y_true", y_true), _classes("y_pred", y_pred, like=y_true)


def _classes(name: str, values: npt.ArrayLike, like: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
    classes = np.asarray(values)
    if classes.ndim != 1 or len(classes) == 0 or not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"{name}: expected a non-empty int[N] of classes, found {classes.dtype}{list(classes.shape)}")
    if like is not None and len(classes) != len(np.asarray(like)):
        raise ValueError(f"{name} has {len(classes)} clips, y_true has {len(np.asarray(like))}")
    return classes.astype(np.int64)


def _probability_pair(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Array, Array]:
    predicted, wanted = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    if predicted.ndim != 2 or predicted.size == 0:
        raise ValueError(f"probabilities: expected a non-empty float[N, K], found shape {list(predicted.shape)}")
    if wanted.ndim == 1:
        classes = _classes("targets", wanted)
        if classes.min() < 0 or classes.max() >= predicted.shape[1]:
            raise ValueError(f"targets has classes outside 0..{predicted.shape[1] - 1}")
        wanted = np.eye(predicted.shape[1])[classes]
    wanted = wanted.astype(np.float64)
    if wanted.shape != predicted.shape:
        raise ValueError(f"probabilities {list(predicted.shape)} and targets {list(wanted.shape)} differ in shape")
    for name, rows in (("probabilities", predicted), ("targets", wanted)):
        # written so that nan fails too
        if not (rows.min() >= 0 and np.abs(rows.sum(axis=1) - 1).max() < 1e-3):
            raise ValueError(f"{name}: expected rows of non-negative numbers that sum to 1")
    return predicted, wanted
