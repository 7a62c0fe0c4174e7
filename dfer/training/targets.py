"""The label distribution of every clip under an arm, before mixing and normalisation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from dfer.config.settings import ArmSettings
from dfer.datasets.subsample_votes import subsample_votes
from dfer.datasets.table import SHARES
from dfer.labels import classes_of, hard_labels, soft_labels
from dfer.system.randomness import stream


def has_target(clips: pd.DataFrame, arm: ArmSettings) -> pd.Series:
    """Whether each clip can be trained on in this arm, bool[N]: hard labels need a single label, soft ones votes, or
    published shares of the classes."""
    if arm.labels == "hard":
        return clips["label"].notna()
    return clips["votes"].notna() | shares_of(clips).notna()


def shares_of(clips: pd.DataFrame) -> pd.Series:
    """Each clip's published soft label without counts, a tuple or None."""
    return clips[SHARES.name] if SHARES.name in clips else pd.Series(None, index=clips.index, dtype=object)


def label_distributions(clips: pd.DataFrame, arm: ArmSettings, seed: int = 0) -> Tensor:
    """Rows float32[N, K] that sum to 1, in the table's classes: one-hot of `label`, or votes by their number (section
    3.2), or where there are none the published shares.

    With `arm.votes`, only so many of each clip's votes count; which ones is drawn from the seed and the clip's id.
    Raises ValueError, naming the data set, if a clip has no label or no votes, or shares where votes are to be drawn.
    """
    classes = len(classes_of(clips))
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
    if arm.labels != "hard":
        counted = clips["votes"].notna().to_numpy()
        votes = clips["votes"][counted].tolist()
        if arm.votes is not None:
            if not counted.all():
                raise ValueError(
                    f"{int((~counted).sum())} clips have shares of the classes and no counts of votes (the first is "
                    f"{clips['clip_id'].iloc[int(np.flatnonzero(~counted)[0])]}), so {arm.votes} of their votes cannot "
                    "be drawn: use an arm without `votes`"
                )
            votes = subsample_votes(votes, arm.votes, clip_ids=clips["clip_id"].tolist(), seed=seed)
        rows = np.empty((len(clips), classes))
        if counted.any():
            rows[counted] = soft_labels(votes)
        if not counted.all():
            rows[~counted] = shares_of(clips)[~counted].tolist()
    else:
        rows = hard_labels(clips["label"].to_numpy("int64"), classes)
    return torch.from_numpy(rows).to(torch.float32)


def single_labels(clips: pd.DataFrame) -> Tensor:
    """Each clip's single label, int64[N]; -1 for none."""
    return torch.from_numpy(clips["label"].astype("Int64").fillna(-1).to_numpy("int64"))


def vote_counts(clips: pd.DataFrame) -> Tensor:
    """Each clip's votes, float32[N, K]. Raises ValueError, saying how many clips have none."""
    without = clips[clips["votes"].isna()]
    if len(without):
        raise ValueError(
            f"{len(without)} of {len(clips)} clips have no counts of votes (the first is "
            f"{without['clip_id'].iloc[0]}), which the loss of this arm is of: use another loss"
        )
    return torch.from_numpy(np.stack(clips["votes"].to_list()).astype(np.float32))


def draw_votes(distributions: Tensor, seed: int, epoch: int) -> Tensor:
    """One vote of each clip as a hard label, one-hot float32[N, K], of distributions float32[N, K]: drawn by the seed,
    the epoch and the clip's row."""
    at = torch.from_numpy(stream(seed, "votes", epoch).random((len(distributions), 1)))
    # the last class takes what rounding leaves over
    above = distributions.double().cumsum(dim=1)[:, :-1] <= at
    return functional.one_hot(above.sum(dim=1), distributions.shape[1]).to(distributions.dtype)


def balancing_chances(distributions: Tensor) -> np.ndarray:
    """How likely each clip is to be drawn so that every class that has clips is as likely as the others, float64[N].

    A clip is of the class with its largest share, the first of several.
    """
    classes = distributions.argmax(dim=1).numpy()
    chances = 1 / np.bincount(classes)[classes]
    return chances / chances.sum()
