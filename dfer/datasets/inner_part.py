"""The inner part of a training's clips that chooses its epoch, without the test fold."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dfer.system.randomness import stream


def validation_rows(clips: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Which clips, about `share` of them, form the part that chooses an epoch without the test fold: bool[N].

    By person if every clip's `subject` is known: whole subjects in random order until the share is reached. Otherwise
    stratified: the share of each class's clips, at least one where a class has two or more; clips without a single
    label stay in training.

    Raises ValueError when either part would be without clips.
    """
    generator = stream(seed, "split")
    if "subject" in clips and clips["subject"].notna().all() and clips["subject"].nunique() > 1:
        chosen = _by_subject(clips["subject"], share, generator)
    else:
        chosen = _by_label(clips["label"], share, generator)
    if not chosen.any() or chosen.all():
        raise ValueError(f"{len(clips)} training clips are too few for a validation part of {share:.0%}")
    return pd.Series(chosen, index=clips.index)


def _by_subject(subjects: pd.Series, share: float, generator: np.random.Generator) -> np.ndarray:
    sizes = subjects.value_counts().sort_index()
    order = sizes.iloc[generator.permutation(len(sizes))]
    # The subject that reaches the share still belongs to it, but the last one always stays in training.
    before = order.cumsum() - order
    # rounded, since 0.28 * 25 is above 7
    return subjects.isin(order.index[:-1][before.iloc[:-1] < round(share * len(subjects), 6)]).to_numpy()


def _by_label(labels: pd.Series, share: float, generator: np.random.Generator) -> np.ndarray:
    chosen = np.zeros(len(labels), dtype=bool)
    known = labels.astype("Int64")
    for label in sorted(known.dropna().unique()):
        rows = np.flatnonzero((known == label).fillna(False))
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen[generator.permutation(rows)[:count]] = True
    return chosen
