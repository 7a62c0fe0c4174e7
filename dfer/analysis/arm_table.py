"""The arm table: the prediction tables of all folds and seeds of one arm, one below the other.

Its columns are those of `dfer.evaluation.SCHEMA` and two more: `fold` (Int64; missing for a data set with splits; for a
cross-dataset evaluation the fold that the model was trained on, so that every clip has a row for each fold) and `seed`
(int64). One pair of fold and seed is a run.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of clips with a single label; ValueError if there are none."""
    rows = table[table["label"].notna()]
    if rows.empty:
        raise ValueError(f"none of the {len(table)} predictions is of a clip with a single label: nothing to score")
    return rows


def voted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of clips with votes; ValueError if there are none."""
    rows = table[table["votes"].notna()]
    if rows.empty:
        raise ValueError(f"none of the {len(table)} clips has votes: nothing is known about their ambiguity")
    return rows


def vote_counts(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Votes of rows that all have some, int64[N, K]."""
    return np.stack(rows["votes"].to_list()).astype(np.int64)


def probabilities(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The model's probability of each class, float64[N, K]."""
    return np.stack(rows["probabilities"].to_list()).astype(np.float64)


def by_softmax(table: pd.DataFrame) -> pd.DataFrame | None:
    """The same table with the softmax of the logits as probabilities; None if that is what they are already."""
    raw = softmax(np.stack(table["logits"].to_list()), axis=1)
    return None if np.allclose(raw, probabilities(table), atol=1e-9) else table.assign(probabilities=list(raw))


def labels(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Single labels of rows that all have one, int64[N]."""
    return rows["label"].to_numpy("int64")


def right(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether each row's prediction is its single label, bool[N]."""
    return rows["prediction"].to_numpy("int64") == labels(rows)
