"""How well a model does where people disagree, and how it compares with them.

Votes of one clip are a sample of what annotators see in it. Everything here uses the rows of an arm table that have
votes; all runs are taken together, every prediction counting once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import entr, rel_entr
from scipy.stats import spearmanr

from dfer import metrics
from dfer.analysis import arm_table
from dfer.labels import classes_of, soft_labels

Array = npt.NDArray[np.float64]


def vote_entropy(votes: npt.ArrayLike) -> Array:
    """Entropy of each clip's votes (counts [N, 7]), float64[N] in [0, ln 7] nats; 0 = all annotators agree.

    Raises ValueError if a clip has no votes.
    """
    # rounded, so that equal entropies are equal numbers: 2+8 and 8+2 votes, but also 4+3+3 and 6+2+1+1.
    return np.round(entr(soft_labels(votes)).sum(axis=1), 12)


def by_ambiguity(table: pd.DataFrame, bins: int = 4) -> pd.DataFrame:
    """WAR and UAR of an arm table by how much the annotators disagree: one row a bin, the least ambiguous first.

    Its columns: `low`, `high`, `entropy` (the least, greatest and mean vote entropy, nats), `clips` (distinct ones),
    `war` and `uar` over the predictions of its clips. Clips without a single label are left out. The bins are quantiles
    of the vote entropy, so that each has about as many clips. Clips with the same entropy stay together, so many clips
    that all agree on make a separate bin, and there may be fewer than `bins`. Raises ValueError if no clip has both
    votes and a single label, or `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"bins: expected at least one, found {bins}")
    rows = arm_table.labelled(arm_table.voted(table))
    entropy, classes = vote_entropy(arm_table.vote_counts(rows)), len(classes_of(table))
    inner = np.unique(np.quantile(entropy, np.arange(1, bins) / bins, method="inverted_cdf"))
    bin_of_row = np.searchsorted(inner, entropy, side="left")
    clip_ids = rows["clip_id"].to_numpy(object)
    predicted, labels = rows["prediction"].to_numpy("int64"), arm_table.labels(rows)
    scores = []
    for number in np.unique(bin_of_row):
        in_bin = bin_of_row == number
        scores.append(
            {
                "low": entropy[in_bin].min(),
                "high": entropy[in_bin].max(),
                "entropy": entropy[in_bin].mean(),
                "clips": len(set(clip_ids[in_bin])),
                "war": metrics.war(labels[in_bin], predicted[in_bin]),
                "uar": metrics.uar(labels[in_bin], predicted[in_bin], classes),
            }
        )
    return pd.DataFrame(scores)


def entropy_correlation(table: pd.DataFrame) -> tuple[float, float]:
    """Spearman's rank correlation between the model's predictive entropy and the voters', and its p-value.

    One pair a clip: its model entropy is the mean over the runs that predicted it. (nan, nan) when one of the two is
    the same for all clips. Raises ValueError if no clip has votes.
    """
    rows = arm_table.voted(table)
    entropies = pd.DataFrame(
        {
            "clip_id": rows["clip_id"].to_numpy(object),
            "model": entr(arm_table.probabilities(rows)).sum(axis=1),
            "voters": vote_entropy(arm_table.vote_counts(rows)),
        }
    )
    # the voters' entropies are the same in all runs; their mean could break ties in the last digit
    pairs = entropies.groupby("clip_id").agg(model=("model", "mean"), voters=("voters", "first"))
    if (pairs.nunique() < 2).any():
        return float("nan"), float("nan")
    result = spearmanr(pairs["model"], pairs["voters"])
    return float(result.statistic), float(result.pvalue)


def risk_coverage(table: pd.DataFrame) -> pd.DataFrame:
    """The share of wrong predictions among the most confident ones, as a function of how many are kept.

    One row a prediction of a clip with a single label: `coverage` = 1/N, 2/N, ... 1 and `risk` in [0, 1]. A clip's
    confidence is its largest probability. Among equally confident clips every order counts the same (the expected risk
    over all of them), so the curve does not depend on the order of the rows. Raises ValueError if no clip has a single
    label.
    """
    rows = arm_table.labelled(table)
    confidence, wrong = arm_table.probabilities(rows).max(axis=1), ~arm_table.right(rows)
    coverage = np.arange(1, len(rows) + 1) / len(rows)
    return pd.DataFrame({"coverage": coverage, "risk": _risk(confidence, wrong, np.ones(len(rows)), coverage)})


def risk_against_voters(table: pd.DataFrame, points: int = 100) -> pd.DataFrame:
    """Risk and coverage of the model beside the voters' own: how often does a random annotator say something else?

    `points` rows: `coverage` = 1/points, ... 1, `model` and `voters`, risks in [0, 1]; by the clips with several votes.

    `model`: predictions in the order of their largest probability; the risk is the share of the clip's votes for
    another class. `voters`: for each annotator, what the majority of the clip's others says, in the order of how large
    that majority is; the risk is that the annotator says something else. Where the others are tied, each tied class
    counts in part. Each clip counts once, however many annotators it has. An annotator is never part of the majority
    that is held against it, so that the voters' curve is what so many people less one reach; at coverage 1 it is 1 -
    `human_accuracy` of `against_voters`. Raises ValueError if no clip has several votes, or `points` is below 1.
    """
    if points < 1:
        raise ValueError(f"points: expected at least one, found {points}")
    rows = arm_table.voted(table)
    votes = arm_table.vote_counts(rows)
    several = votes.sum(axis=1) > 1
    if not several.any():
        raise ValueError(
            f"all {rows['clip_id'].nunique()} clips have a single vote: they say nothing about disagreement"
        )
    rows, votes = rows[several], votes[several]
    share = soft_labels(votes)
    coverage = np.arange(1, points + 1) / points
    disagree = 1 - share[np.arange(len(share)), rows["prediction"].to_numpy("int64")]
    model = _risk(arm_table.probabilities(rows).max(axis=1), disagree, np.ones(len(rows)), coverage)
    one_per_clip = ~rows["clip_id"].duplicated().to_numpy()
    panels, weight = votes[one_per_clip], share[one_per_clip]
    others = panels[:, None, :] - np.eye(panels.shape[1], dtype=np.int64)
    agreed = (others.max(axis=2) / (panels.sum(axis=1, keepdims=True) - 1)).round(12)
    wrong = 1 - np.einsum("nkk->nk", _majority_without_one(panels))
    left_out = panels > 0
    voters = _risk(agreed[left_out], wrong[left_out], weight[left_out], coverage)
    return pd.DataFrame({"coverage": coverage, "model": model, "voters": voters})


def _risk(confidence: Array, wrong: npt.NDArray[Any], weight: Array, coverage: Array) -> Array:
    """Mean of `wrong` over the most confident share of the weight, for each `coverage` in (0, 1], float64.

    Of equally confident ones every order counts the same: a part of them is as often wrong as all of them.
    """
    _, group = np.unique(-confidence, return_inverse=True)
    size, errors = np.bincount(group, weights=weight), np.bincount(group, weights=weight * wrong)
    kept, lost = np.cumsum(size, dtype=np.float64), np.cumsum(errors)
    at = coverage * kept[-1]
    return np.asarray(np.interp(at, np.append(0.0, kept), np.append(0.0, lost)) / at)


def aurc(table: pd.DataFrame) -> float:
    """Mean risk of the `risk_coverage` curve (the area under it), in [0, 1]; less is better (Geifman et al. 2019)."""
    return float(risk_coverage(table)["risk"].mean())


def against_voters(table: pd.DataFrame, splits: int = 200, seed: int = 0) -> dict[str, float | int]:
    """The model beside the annotators: an estimate of the human ceiling from the votes alone.

    Halves of a panel have fewer votes than the panel that the model is compared with. Fewer votes scatter more, so
    `human_js` and `human_exceeds_model` are larger than two full panels would give: both flatter the model, the more so
    the fewer the votes. `human_accuracy` is a little too small for the same reason (the panel lacks one annotator).
    There are `splits` random halvings for each kind of votes; a clip's value depends on `seed` and the clip's votes
    alone. Raises ValueError if no clip has votes, or none has more than one.

    Returns:
        `model_js`: mean Jensen-Shannon divergence (nats) between prediction and voters, over all predictions.
        `human_js`: the mean over clips of the expected divergence between two random halves of a clip's votes (with an
        odd number of votes, one is left out).
        `human_exceeds_model`: share of predictions whose clip's annotators disagree among themselves (expected
        divergence of halves) more than the model disagrees with them.
        `human_accuracy`: probability that a random annotator agrees with the majority of the others; where the others
        are tied, each tied class counts in part.
        `model_accuracy`: the same for the model's prediction, compared with the same panels (all annotators but a
        random one), so that the two can be compared.
        `clips`: with votes; `clips_with_one_vote`: those of them that say nothing about disagreement and count only in
        `model_js`.
    """
    rows = arm_table.voted(table)
    votes = arm_table.vote_counts(rows)
    first_of_clip = ~rows["clip_id"].duplicated().to_numpy()
    model = metrics.js_divergence(arm_table.probabilities(rows), soft_labels(votes))
    # divergence does not depend on which class is which, so there are few kinds of votes: 38 with ten votes a clip
    kinds, kind_of_row = np.unique(np.sort(votes, axis=1)[:, ::-1], axis=0, return_inverse=True)
    human = np.array([_halves_divergence(kind, splits, seed) for kind in kinds])[kind_of_row.ravel()]
    several = ~np.isnan(human)
    if not several.any():
        raise ValueError(f"all {first_of_clip.sum()} clips have a single vote: they say nothing about disagreement")
    panels = votes[several]
    majority = _majority_without_one(panels)
    share = soft_labels(panels)
    # the part of the others' majority that agrees with the annotator who is left out, and with the model
    human_credit = np.einsum("nk,nkk->n", share, majority)
    predicted = rows["prediction"].to_numpy("int64")[several]
    model_credit = np.einsum("nk,nk->n", share, majority[np.arange(len(panels)), :, predicted])
    one_per_clip = first_of_clip[several]
    return {
        "model_js": float(model.mean()),
        "human_js": float(human[several & first_of_clip].mean()),
        "human_exceeds_model": float((human[several] > model[several]).mean()),
        "human_accuracy": float(human_credit[one_per_clip].mean()),
        "model_accuracy": float(model_credit.mean()),
        "clips": int(first_of_clip.sum()),
        "clips_with_one_vote": int((first_of_clip & ~several).sum()),
    }


def _halves_divergence(votes: npt.NDArray[np.int64], splits: int, seed: int) -> float:
    """Mean divergence in nats between two halves of one clip's votes; nan for a single vote."""
    half = int(votes.sum()) // 2
    if half == 0:
        return float("nan")
    generator = np.random.default_rng([seed, *votes.tolist()])
    one = generator.multivariate_hypergeometric(votes, half, size=splits)
    rest = votes - one
    if votes.sum() % 2:
        # one vote of the rest is left out; the probability that it is of class k is the class's share of the rest
        cumulative = rest.cumsum(axis=1)
        left_out = generator.integers(1, cumulative[:, -1:] + 1) <= cumulative
        rest[np.arange(splits), left_out.argmax(axis=1)] -= 1
    first, second = one / half, rest / half
    middle = (first + second) / 2
    return float((rel_entr(first, middle) + rel_entr(second, middle)).sum(axis=1).mean() / 2)


def _majority_without_one(votes: npt.NDArray[np.int64]) -> Array:
    """float64[N, K, K]: with a vote for the second axis' class left out, each class' part in the others' majority.

    Parts add up to 1. Classes that nobody voted for cannot be left out; their rows mean nothing.
    """
    others = votes[:, None, :] - np.eye(votes.shape[1], dtype=np.int64)
    top = others == others.max(axis=2, keepdims=True)
    return top / top.sum(axis=2, keepdims=True)
