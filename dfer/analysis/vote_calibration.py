"""Calibration of the whole predicted distribution against the votes, not only of its largest probability.

- Classwise ECE (Kull et al., NeurIPS 2019), with shares of votes for the label: of the clips to which the model gives
  30 % fear, do 30 % of the voters say fear?
- Total variation distance of each clip's prediction from its votes: DistCE of Baan et al. (EMNLP 2022), who show why
  the ECE of the majority's class misleads where people disagree.

Both are above 0 by chance, since few votes scatter around even the true distribution. So what a model that is right
would show is given beside them: votes are drawn from its own probabilities (consistency resampling, Bröcker and Smith
2007), for the distance exactly. All runs are taken together, every prediction counting once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import entr
from scipy.stats import binom

from dfer import metrics
from dfer.analysis import arm_table
from dfer.analysis.ambiguity import vote_entropy
from dfer.analysis.statistics import Interval, percentile_interval, resamples
from dfer.analysis.vote_entropy import expected_entropy
from dfer.labels import classes_of, soft_labels

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def by_class(table: pd.DataFrame, *, bins: int = 15, draws: int = 100, seed: int = 0) -> pd.DataFrame:
    """Classwise ECE of an arm table against its votes; one row a class, by name.

    Columns: `predicted`, its mean probability, and `voted`, its mean share of the votes; `ece`, and `ece_by_chance`,
    the mean ECE of a model that is right, over `draws` drawings of all votes. The mean of a column over classes is the
    number of the paper. Raises ValueError if no clip has votes.
    """
    rows = arm_table.voted(table)
    probabilities, votes = arm_table.probabilities(rows), arm_table.vote_counts(rows)
    shares, number = soft_labels(votes), votes.sum(axis=1)
    clip = pd.factorize(rows["clip_id"].to_numpy(object), sort=True)[0]
    generator = np.random.default_rng(seed)
    by_chance = [
        metrics.classwise_ece(probabilities, _votes_by_chance(probabilities, number, clip, generator), bins=bins)
        for _ in range(draws)
    ]
    return pd.DataFrame(
        {
            "predicted": probabilities.mean(axis=0),
            "voted": shares.mean(axis=0),
            "ece": metrics.classwise_ece(probabilities, shares, bins=bins),
            "ece_by_chance": np.mean(by_chance, axis=0),
        },
        index=pd.Index(classes_of(table), name="class"),
    )


def distance(table: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """How far predictions are from the votes, means over all predictions, with bootstraps over clips (95 %).

    `total_variation`: in [0, 1], to the votes that are there. `by_chance`: the same if the model were right, in
    closed form. `excess`: the difference of both, 0 on average for a model that is right, but not for it alone.
    `squared`: the sum over classes of squared differences from what *all* possible voters say, without the share of few
    votes; unbiased, so it may be below 0, and smallest (0) for the truth alone. Of clips with several votes; nan if
    there are none. Raises ValueError if no clip has votes.
    """
    rows = arm_table.voted(table)
    probabilities, votes = arm_table.probabilities(rows), arm_table.vote_counts(rows)
    shares, number = soft_labels(votes), votes.sum(axis=1)
    seen, chance = metrics.total_variation(probabilities, shares), expected_distance(probabilities, number)
    # a share of n votes has the variance q (1 - q) / n, of which shares (1 - shares) / (n - 1) is free of bias
    few = np.divide(1 - (shares**2).sum(axis=1), number - 1, out=np.full(len(number), np.nan), where=number > 1)
    values = pd.DataFrame(
        {
            "total_variation": seen,
            "by_chance": chance,
            "excess": seen - chance,
            "squared": ((probabilities - shares) ** 2).sum(axis=1) - few,
        }
    )
    sums = values.groupby(rows["clip_id"].to_numpy(object)).agg(["sum", "count"])
    estimates = values.mean()
    means = [times @ sums.to_numpy("float64") for times in resamples(len(sums), draws, seed)]
    total = np.concatenate(means)
    with np.errstate(invalid="ignore"):  # resamples without a clip of several votes
        ratios = total[:, ::2] / total[:, 1::2]
    return {
        str(name): percentile_interval(float(estimates[name]), ratios[:, column])
        for column, name in enumerate(values.columns)
    }


def by_predicted_entropy(table: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """A reliability diagram of disagreement: predictions in bins of their entropy, one row a bin, the surest first.

    The bins hold about as many predictions each (there are fewer where many entropies are equal). Columns: `predicted`
    and `voted`, the mean entropy (nats) that as many votes as there are would have and have; `total_variation` and
    `by_chance`, as `distance` has them; `clips`, how many predictions. Raises ValueError if no clip has votes, or
    `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"bins: expected at least one, found {bins}")
    rows = arm_table.voted(table)
    probabilities, votes = arm_table.probabilities(rows), arm_table.vote_counts(rows)
    number = votes.sum(axis=1)
    entropy = entr(probabilities).sum(axis=1)
    inner = np.unique(np.quantile(entropy, np.arange(1, bins) / bins, method="inverted_cdf"))
    values = pd.DataFrame(
        {
            "predicted": expected_entropy(probabilities, number),
            "voted": vote_entropy(votes),
            "total_variation": metrics.total_variation(probabilities, soft_labels(votes)),
            "by_chance": expected_distance(probabilities, number),
        }
    ).groupby(np.searchsorted(inner, entropy, side="left"))
    return values.mean().assign(clips=values.size()).reset_index(drop=True)


def expected_distance(probabilities: npt.ArrayLike, votes: npt.ArrayLike) -> Array:
    """Mean total variation distance between a distribution and the shares of n votes drawn from it, float64[N].

    `probabilities`: float[N, K]; `votes`: int[N], each row's n. Exact: half the sum of the mean absolute deviations of
    binomial shares, by De Moivre's formula (Diaconis and Zabell, Statistical Science 1991).
    """
    p, n = np.clip(np.asarray(probabilities, dtype=np.float64), 0, 1), np.asarray(votes, dtype=np.int64)[:, None]
    above = np.floor(n * p) + 1
    return (above * (1 - p) * binom.pmf(above, n, p) / n).sum(axis=1)


def _votes_by_chance(probabilities: Array, number: Counts, clip: Counts, generator: np.random.Generator) -> Array:
    """Shares of votes drawn from each prediction, float64[N, K].

    In all runs that saw a clip the same voters judge it: what chance makes of a clip is counted once.
    """
    voter = generator.random((int(clip.max()) + 1, int(number.max())))[clip]
    votes = np.arange(number.max()) < number[:, None]
    up_to = np.stack([((voter < edge[:, None]) & votes).sum(axis=1) for edge in probabilities.cumsum(axis=1).T[:-1]])
    counts = np.diff(np.vstack([np.zeros_like(number), up_to, number]), axis=0).T
    return counts / number[:, None]
