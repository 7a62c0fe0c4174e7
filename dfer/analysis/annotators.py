"""How many annotators does a clip need, and how many is a model worth? What n votes tell about another one.

From n of a clip's votes another annotator's vote is predicted with the probabilities (c + strength * prior) / (n +
strength): c, the n votes' counts; prior, the share of each class in all votes. That is the prediction of a
Dirichlet-multinomial model (Minka 2000), whose strength is fitted. Its mean cross-entropy to the vote that is left out,
in nats, falls with n; each vote's part of the fall is what it tells about the clip.

The cross-entropy against a left-out vote is linear in what the other voters say, so that it is free of bias however few
they are; a divergence between the shares of few votes and of the rest is not. It depends on how often the left-out
vote's class is among the n alone, which is hypergeometric: the mean over all ways to choose them is exact, and nothing
is drawn by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.stats import hypergeom

from dfer.analysis import arm_table
from dfer.analysis.statistics import Interval, percentile_interval, resamples
from dfer.labels import soft_labels

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Information:
    """What votes tell about another vote, on the clips with enough of them."""

    # One row a number of votes n, 0 to the most: `votes`, `cross_entropy` (nats; with 0 votes that of the classes'
    # shares) with its interval `low` to `high`, and `gain`, what the n-th vote took from it, with `gain_low` and
    # `gain_high`; nan for n = 0.
    curve: pd.DataFrame
    strength: float  # how many votes the prior counts as
    clips: int
    clips_with_fewer_votes: int  # left out: they have no vote to leave out beside the most that are used

    def needed(self, share: float = 0.9) -> int:
        """The least number of votes that tells this share of what the most votes here tell."""
        fall = self.curve["cross_entropy"].iloc[0] - self.curve["cross_entropy"].to_numpy()
        return int(self.curve["votes"].to_numpy()[fall >= share * fall[-1]][0])


def information(table: pd.DataFrame, *, most: int | None = None, draws: int = 2000, seed: int = 0) -> Information:
    """What each further vote of a clip tells, from an arm table or a clip table with votes.

    `most`: how many votes at most; None for as many as three quarters of the clips have beside one to leave out. All
    numbers are of the same clips, those with more than `most` votes. Intervals: 95 % percentile intervals of a
    bootstrap over clips; the prior and its strength are held fixed. Raises ValueError if no clip has votes, or none has
    more than `most`, or `most` is below 1.
    """
    votes, _, fewer, most = _used(table, most)
    strength, values = _values(votes, most)
    at_n = np.concatenate([times @ values / len(values) for times in resamples(len(values), draws, seed)])
    mean = values.mean(axis=0)
    levels = [percentile_interval(float(mean[n]), at_n[:, n]) for n in range(most + 1)]
    gains = [percentile_interval(float(mean[n - 1] - mean[n]), at_n[:, n - 1] - at_n[:, n]) for n in range(1, most + 1)]
    gains.insert(0, Interval(float("nan"), float("nan"), float("nan")))
    curve = pd.DataFrame(
        {
            "votes": np.arange(most + 1),
            "cross_entropy": [level.estimate for level in levels],
            "low": [level.low for level in levels],
            "high": [level.high for level in levels],
            "gain": [gain.estimate for gain in gains],
            "gain_low": [gain.low for gain in gains],
            "gain_high": [gain.high for gain in gains],
        }
    )
    return Information(curve, strength, len(votes), fewer)


def worth(table: pd.DataFrame, *, most: int | None = None, draws: int = 2000, seed: int = 0) -> Interval:
    """How many votes of a clip tell as much about another annotator's vote as an arm's prediction does.

    The place on the curve of `information` (same clips, same errors) where the cross-entropy is that of the arm's
    probabilities to all votes, the mean over its runs. Between two numbers of votes it is interpolated. 0: not more
    than the classes' shares tell; the most votes of the curve: at least as much as these. The bootstrap over clips is
    paired.
    """
    votes, clip_ids, _, most = _used(table, most)
    _, values = _values(votes, most)
    rows = table[table["clip_id"].isin(clip_ids)]
    tiny = np.finfo(np.float64).tiny
    log = np.log(np.maximum(arm_table.probabilities(rows), tiny))
    per_row = -(soft_labels(arm_table.vote_counts(rows)) * log).sum(axis=1)
    model = pd.Series(per_row).groupby(rows["clip_id"].to_numpy(object)).mean().loc[clip_ids].to_numpy()
    both = np.column_stack([values, model])
    drawn = np.concatenate([times @ both / len(both) for times in resamples(len(both), draws, seed)])
    places = np.array([_place(row[:-1], row[-1]) for row in drawn])
    mean = both.mean(axis=0)
    return percentile_interval(_place(mean[:-1], mean[-1]), places)


def _used(table: pd.DataFrame, most: int | None) -> tuple[Counts, list[str], int, int]:
    """The votes of the clips that are used and their ids, how many clips are not, and the most votes."""
    clips = arm_table.voted(table).drop_duplicates("clip_id").sort_values("clip_id")
    votes = arm_table.vote_counts(clips)
    number = votes.sum(axis=1)
    if most is None:
        most = max(1, int(np.quantile(number, 0.25, method="inverted_cdf")) - 1)
    if most < 1:
        raise ValueError(f"most: expected at least one vote, found {most}")
    enough = number > most
    if not enough.any():
        raise ValueError(
            f"no clip has more than {most} votes ({number.max()} at most): one is left out to be predicted from {most}"
        )
    return votes[enough], clips["clip_id"][enough].to_list(), int((~enough).sum()), most


def _values(votes: Counts, most: int) -> tuple[float, Array]:
    """The fitted strength and each clip's cross-entropy with 0 to `most` votes, float64[N, most + 1].

    The strength is the one with the least mean over 1 to `most` votes, between 0.01 and 1000 votes.
    """
    prior = soft_labels(votes).mean(axis=0)
    # how a clip's class adds to its cross-entropy depends on the number of all votes and of its own alone
    kinds, kind = np.unique(
        np.stack([np.broadcast_to(votes.sum(axis=1)[:, None], votes.shape), votes], axis=-1).reshape(-1, 2),
        axis=0,
        return_inverse=True,
    )
    kind = kind.reshape(votes.shape)
    among = _among(kinds, most)

    def per_clip(log_strength: float) -> Array:
        strength = np.exp(log_strength)
        seen = np.arange(most + 1)
        total = np.zeros((len(votes), most + 1))
        for k in np.flatnonzero(prior > 0):
            # of c among n votes, [n, c]
            log = np.log((seen[None, :] + strength * prior[k]) / (seen[:, None] + strength))
            total -= np.einsum("xnc,nc->xn", among, log)[kind[:, k]]
        return total

    found = minimize_scalar(
        lambda log_strength: float(per_clip(log_strength)[:, 1:].mean()),
        bounds=(np.log(0.01), np.log(1000)),
        method="bounded",
    )
    return float(np.exp(found.x)), per_clip(float(found.x))


def _among(kinds: Counts, most: int) -> Array:
    """A class's share of a clip's votes times the probability that c of n other votes are of it, float64[kinds, n, c].

    `kinds`: all votes of the clip and those for the class, int64[kinds, 2].
    """
    everyone, own = kinds[:, 0, None, None], kinds[:, 1, None, None]
    n, c = np.arange(most + 1)[None, :, None], np.arange(most + 1)[None, None, :]
    probability = hypergeom.pmf(c, everyone - 1, np.maximum(own - 1, 0), n)
    return np.asarray(own / everyone * probability)


def _place(curve: Array, level: float) -> float:
    """Where a falling curve at 0, 1, 2, ... has a level; its ends for a level beyond them."""
    falling = np.minimum.accumulate(curve)
    return float(np.interp(-level, -falling, np.arange(len(curve))))
