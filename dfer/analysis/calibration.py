"""How well a model's probabilities agree with how often it is right.

All runs of an arm are taken together, every prediction counting once: the numbers are those of the diagram. The ECE of
few clips is too large by chance, so that of all folds together is smaller than the mean of the folds' ECEs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dfer import metrics
from dfer.analysis import arm_table
from dfer.labels import soft_labels

MEASURES = ("nll", "brier", "ece", "js_divergence")
"""Those that `summary` has of every clip's probabilities."""


def reliability(table: pd.DataFrame, bins: int = 15) -> pd.DataFrame:
    """The reliability diagram of an arm table's clips with a single label: one row a bin, in the order of confidence.

    Its columns: `low` and `high`, its edges, `clips`, the number of predictions with low < confidence <= high,
    `confidence`, their mean largest probability, and `accuracy`, the share that is right; both nan for a bin without
    predictions. The bins are those of `dfer.metrics.ece`. Raises ValueError if no clip has a single label, or `bins` is
    below 1.
    """
    if bins < 1:
        raise ValueError(f"bins: expected at least one, found {bins}")
    rows = arm_table.labelled(table)
    confidence = arm_table.probabilities(rows).max(axis=1)
    bin_of_clip = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    clips = np.bincount(bin_of_clip, minlength=bins)
    edges = np.arange(bins + 1) / bins
    diagram = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "clips": clips})
    for name, values in (("confidence", confidence), ("accuracy", arm_table.right(rows))):
        total = np.bincount(bin_of_clip, weights=values, minlength=bins)
        diagram[name] = np.divide(total, clips, out=np.full(bins, np.nan), where=clips > 0)
    return diagram


def summary(table: pd.DataFrame) -> dict[str, float | int | None]:
    """Calibration of an arm table in numbers, as plain data.

    `ece` (15 bins), `brier` and `nll` (nats) over the `clips` predictions of clips with a single label, and
    `js_divergence` (nats), the mean distance to the voters over the `voted_clips` predictions of clips with votes,
    None if there are none. Raises ValueError if no clip has a single label.
    """
    rows = arm_table.labelled(table)
    probabilities, labels = arm_table.probabilities(rows), arm_table.labels(rows)
    voted = table[table["votes"].notna()]
    divergence = None
    if len(voted):
        voters = soft_labels(arm_table.vote_counts(voted))
        divergence = float(metrics.js_divergence(arm_table.probabilities(voted), voters).mean())
    return {
        "ece": metrics.ece(probabilities, labels),
        "brier": metrics.brier(probabilities, labels),
        "nll": metrics.nll(probabilities, labels),
        "js_divergence": divergence,
        "clips": len(rows),
        "voted_clips": len(voted),
    }
