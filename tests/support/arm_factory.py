"""Arm tables with made-up clips, votes and models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax

CLASSES = 7


def arm_from(
    labels: Sequence[int | None],
    predictions: Sequence[int],
    *,
    folds: Sequence[int] | int | None = 1,
    seed: int = 0,
    votes: Sequence[Sequence[int] | None] | None = None,
    probabilities: np.ndarray | None = None,
    clip_ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One seed of an arm. Without probabilities, the prediction gets 0.4 and every other class 0.1."""
    number = len(labels)
    if probabilities is None:
        probabilities = 0.1 + 0.3 * np.eye(CLASSES)[np.asarray(predictions)]
    fold_of_clip = [folds] * number if folds is None or isinstance(folds, int) else list(folds)
    return pd.DataFrame(
        {
            "clip_id": list(clip_ids) if clip_ids is not None else [f"toy/{place:05d}" for place in range(number)],
            "dataset": "toy",
            "label": pd.array(list(labels), dtype="Int64"),
            "votes": pd.Series([None] * number if votes is None else [v and list(v) for v in votes], dtype=object),
            "logits": list(np.log(np.maximum(probabilities, 1e-12))),
            "probabilities": list(probabilities),
            "prediction": np.asarray(predictions, dtype=np.int64),
            "fold": pd.array(fold_of_clip, dtype="Int64"),
            "seed": np.full(number, seed, dtype=np.int64),
        }
    )


def toy_arm(
    number: int = 300,
    *,
    folds: int | None = 3,
    seeds: int = 1,
    strength: float = 1.5,
    model: int = 0,
    world: int = 0,
    across: bool = False,
) -> pd.DataFrame:
    """An arm over `number` clips with ten votes each; `world` makes the clips, `model` the predictions.

    `folds` None: a set with splits; `across`: every clip once for each fold, as in a cross-dataset evaluation.
    """
    clips, models = np.random.default_rng([0, world]), np.random.default_rng([1, model])
    seen = clips.dirichlet(np.full(CLASSES, 0.3), size=number)
    votes = np.array([clips.multinomial(10, share) for share in seen])
    top = votes.max(axis=1, keepdims=True)
    single = (votes == top).sum(axis=1) == 1
    labels = [int(vote.argmax()) if one else None for vote, one in zip(votes, single, strict=True)]
    fold_of_clip = np.arange(number) % (folds or 1) + 1
    tables = []
    for fold in range(1, (folds or 1) + 1):
        mine = np.arange(number) if across else np.flatnonzero(fold_of_clip == fold)
        for seed in range(seeds):
            noise = models.normal(size=(len(mine), CLASSES))
            probabilities = softmax(strength * 3 * seen[mine] + noise, axis=1)
            tables.append(
                arm_from(
                    [labels[place] for place in mine],
                    probabilities.argmax(axis=1),
                    folds=None if folds is None else fold,
                    seed=seed,
                    votes=votes[mine].tolist(),
                    probabilities=probabilities,
                    clip_ids=[f"toy/{place:05d}" for place in mine],
                )
            )
    return pd.concat(tables, ignore_index=True)
