"""The label distribution of every clip under an arm, before mixing and normalisation."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from dfer.config.settings import ArmSettings
from dfer.datasets.subsample_votes import subsample_votes
from dfer.labels import EMOTIONS, hard_labels, soft_labels


def has_target(clips: pd.DataFrame, arm: ArmSettings) -> pd.Series:
    """Whether each clip can be trained on in this arm, bool[N]: hard labels need a single label, soft ones votes."""
    return clips["label" if arm.labels == "hard" else "votes"].notna()


def label_distributions(clips: pd.DataFrame, arm: ArmSettings, seed: int = 0) -> Tensor:
    """Rows float32[N, 7] that sum to 1, in our class order: one-hot of `label`, or votes by their number (section 3.2).

    With `arm.votes`, only so many of each clip's votes count; which ones is drawn from the seed and the clip's id.
    Raises ValueError, naming the data set, if a clip has no label or no votes.
    """
    without = clips[~has_target(clips, arm)]
    if len(without):
        sets = ", ".join(sorted(set(without["dataset"]))) if "dataset" in without else "the clip table"
        needed, advice = (
            ("single label", "leave such clips out, or train on soft labels")
            if arm.labels == "hard"
            else ("votes", "this data set needs an arm with hard labels")
        )
        raise ValueError(
            f"{len(without)} of {len(clips)} clips of {sets} have no {needed} (the first is "
            f"{without['clip_id'].iloc[0]}): {advice}"
        )
    if arm.labels == "soft":
        votes = clips["votes"].tolist()
        if arm.votes is not None:
            votes = subsample_votes(votes, arm.votes, clip_ids=clips["clip_id"].tolist(), seed=seed)
        rows = soft_labels(votes)
    else:
        rows = hard_labels(clips["label"].to_numpy("int64"), len(EMOTIONS))
    return torch.from_numpy(rows).to(torch.float32)


def single_labels(clips: pd.DataFrame) -> Tensor:
    """Each clip's single label, int64[N]; -1 for none."""
    return torch.from_numpy(clips["label"].astype("Int64").fillna(-1).to_numpy("int64"))
