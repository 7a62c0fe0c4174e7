"""Does the model know where people disagree? The entropy that it predicts against that of the votes.

Few votes have too little entropy (Miller 1955), and no function of the votes is free of this bias for every
distribution (Paninski 2003). So the model's side is brought to the voters' here: from its probabilities follows exactly
what the entropy of as many votes as the clip has would be on average. What that corrects and what not:

- corrected: the bias of the level, also where clips have different numbers of votes;
- not corrected: the scatter. The votes of one clip are a sample, and so even the true distribution of every clip would
  not correlate with their entropy to 1. `Agreement.ceiling` estimates how far it would get.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import entr
from scipy.stats import binom

from dfer.analysis import arm_table
from dfer.analysis.ambiguity import vote_entropy
from dfer.analysis.statistics import Interval, percentile_interval, rank_correlation, resamples

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """The predicted entropy of a clip's votes against that of its votes, over the clips with several votes."""

    correlation: Interval  # Spearman's, with its bootstrap over clips; nan where one of the two does not vary
    uncorrected: float  # the same for the entropy of the probabilities, which is of infinitely many votes
    # About the greatest rank correlation that anything which knows the clips, but not who votes, can have with these
    # votes. nan if halves of the votes do not tell.
    ceiling: float
    excess: Interval  # nats: how much more disagreement the model predicts than there is, on average; < 0 for too sure
    few_votes: float  # nats: how much too large `excess` would be if few votes were not accounted for
    clips: int
    clips_with_one_vote: int  # left out: a single vote always has the entropy 0


def agreement(table: pd.DataFrame, *, draws: int = 2000, splits: int = 20, seed: int = 0) -> Agreement:
    """How well an arm predicts the disagreement about each clip. One pair a clip: the mean over the runs that saw it.

    The intervals are 95 % percentile intervals over `draws` resamples of the clips, for the models and votes that are
    there. `ceiling` has none. Raises ValueError if no clip has votes, or none has more than one.
    """
    rows = arm_table.voted(table)
    votes = arm_table.vote_counts(rows)
    number = votes.sum(axis=1)
    if number.max() < 2:
        raise ValueError(
            f"all {rows['clip_id'].nunique()} clips have a single vote: they say nothing about disagreement"
        )
    probabilities = arm_table.probabilities(rows)
    entropies = pd.DataFrame(
        {
            "clip_id": rows["clip_id"].to_numpy(object),
            "row": np.arange(len(rows)),
            "number": number,
            "voters": vote_entropy(votes),
            "predicted": expected_entropy(probabilities, number),
            "of_infinitely_many": entr(probabilities).sum(axis=1),
        }
    )
    by_clip = entropies.groupby("clip_id").agg(
        row=("row", "first"),
        number=("number", "first"),
        voters=("voters", "first"),
        predicted=("predicted", "mean"),
        of_infinitely_many=("of_infinitely_many", "mean"),
    )
    clips = by_clip[by_clip["number"] > 1]
    excess = (clips["predicted"] - clips["voters"]).to_numpy()
    means = [times @ excess / len(excess) for times in resamples(len(excess), draws, seed)]
    return Agreement(
        correlation=rank_correlation(clips["predicted"], clips["voters"], draws=draws, seed=seed),
        uncorrected=rank_correlation(clips["of_infinitely_many"], clips["voters"], draws=1).estimate,
        ceiling=_ceiling(votes[clips["row"]], splits, seed),
        excess=percentile_interval(float(excess.mean()), np.concatenate(means)),
        few_votes=float((clips["of_infinitely_many"] - clips["predicted"]).mean()),
        clips=len(clips),
        clips_with_one_vote=len(by_clip) - len(clips),
    )


def expected_entropy(probabilities: npt.ArrayLike, votes: npt.ArrayLike) -> Array:
    """Mean entropy of the shares of n votes drawn from a distribution, float64[N] in nats; at most that of it.

    `probabilities`: float[N, K]; `votes`: int[N], each row's n, at least 1. Exact: entropy adds up over classes, and a
    class's votes are binomial.
    """
    p, number = np.clip(np.asarray(probabilities, dtype=np.float64), 0, 1), np.asarray(votes, dtype=np.int64)
    if len(number) and number.min() < 1:
        raise ValueError(f"votes: expected at least one a clip, found {number.min()}")
    expected = np.zeros(len(p))
    for n in np.unique(number):
        rows = number == n
        count = np.arange(1, n)  # neither none of the votes nor all of them add anything
        expected[rows] = binom.pmf(count, n, p[rows][:, :, None]).sum(axis=1) @ entr(count / n)
    return expected


def _ceiling(votes: Counts, splits: int, seed: int) -> float:
    """The root of the reliability of the votes' entropies; nan if halves of the votes are not positively correlated.

    The reliability is that of halves, corrected for their length (Spearman 1910, Brown 1910). This takes ranks for
    numbers and the scatter for independent of the entropy. So it is an estimate: in simulations with ten votes it was
    at most 0.05 off, with four to six up to 0.1, mostly too small.
    """
    generator = np.random.default_rng(seed)
    correlations, several = [], votes[votes.sum(axis=1) > 3]  # halves of a single vote have no entropy
    if len(several) < 2:
        return float("nan")
    half = several.sum(axis=1) // 2
    for _ in range(splits):
        one = draw_votes(several, half, generator)
        other = draw_votes(several - one, half, generator)
        correlations.append(rank_correlation(vote_entropy(one), vote_entropy(other), draws=1).estimate)
    mean, longer = float(np.mean(correlations)), several.sum() / half.sum()
    return float(np.sqrt(longer * mean / (1 + (longer - 1) * mean))) if mean > 0 else float("nan")


def draw_votes(votes: Counts, number: Counts, generator: np.random.Generator) -> Counts:
    """So many of each clip's votes, drawn without replacement: int64[N, K] of counts [N, K] and numbers [N]."""
    drawn = np.zeros_like(votes)
    left, missing = votes.sum(axis=1), number.copy()
    for k in range(votes.shape[1]):
        left = left - votes[:, k]
        drawn[:, k] = generator.hypergeometric(votes[:, k], left, missing)
        missing = missing - drawn[:, k]
    return drawn
