"""How sure a model may be: measured on clips that it has not been trained on, for words and for abstaining.

Three questions are answered by thresholds on a model's probabilities, none of which is chosen by hand:

- Which classes would people name? The classes are taken by probability, the largest first, up to a sum (`named_mass`)
  that covers four in five of people's answers (adaptive prediction sets: Romano, Sesia & Candès, NeurIPS 2020).
- Would people disagree? From the probability that two draws from the distribution differ, where that tells clips on
  which two annotators rather differ than agree from the others (the largest sum of sensitivity and specificity:
  Youden, Cancer 1950).
- How often is the largest probability's class wrong? As a function of how large it is (risk and coverage: Geifman &
  El-Yaniv, NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, mannwhitneyu

COVERED = 0.8
"""The share of people's answers that the named classes cover."""

CONFIDENCE = 0.95
"""Of the upper bound of a risk."""

_FEWEST = 10  # clips of either kind, below which nothing can be said about disagreement
_BY_CHANCE = 0.05  # largest p-value with which the model's disagreement is taken to tell anything about people's
_POINTS = 50  # of the risk curve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Certainty:
    """Thresholds of one model.

    Attributes:
        measured_on: for people, for example 'the inner validation part of dfew'.
        clips: how many; `voted`: those of them with two votes or more.
        named_mass: the sum of probabilities up to which classes are named, in (0, 1].
        disagree_above: the value of `disagreement` above which people would disagree; None if the model's probabilities
            tell nothing about that, or there are too few clips with votes.
        hits, false_alarms: the shares of the clips on which people disagree, and of the others, that are above it.
        confidence, risk: of the curve's points, with falling confidence: the share of wrong ones among the clips whose
            largest probability is at least `confidence`; an upper bound that holds with a probability of 95 %
            (Clopper & Pearson, Biometrika 1934). Empty if no clip has a single label.
    """

    measured_on: str
    clips: int
    voted: int
    named_mass: float
    disagree_above: float | None
    hits: float | None
    false_alarms: float | None
    confidence: tuple[float, ...]
    risk: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON data, for a model's card."""
        return asdict(self)

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Certainty:
        """From what `as_dict` gave. Raises TypeError for anything else."""
        curve = {name: tuple(written[name]) for name in ("confidence", "risk") if name in written}
        return cls(**{**written, **curve})

    def needed_confidence(self, risk: float) -> float | None:
        """The smallest confidence from which on the risk is at most `risk`; None if it never is."""
        enough = [at for at, bound in zip(self.confidence, self.risk, strict=True) if bound <= risk]
        return min(enough, default=None)


def answers_of(votes: Iterable[Sequence[int] | None], shares: Iterable[Sequence[float] | None], classes: int) -> Array:
    """People's answers to each clip, float64[N, classes]: counts of votes, else published shares, else zeros."""
    rows = [
        counts if counts is not None else share if share is not None else [0.0] * classes
        for counts, share in zip(votes, shares, strict=True)
    ]
    return np.array(rows, np.float64).reshape(-1, classes)


def measure(probabilities: Array, labels: NDArray[np.int64], votes: Array, *, measured_on: str) -> Certainty | None:
    """Measure on clips that a model has not been trained on; None if none of them has an answer.

    Args:
        probabilities: float[N, K], as read out.
        labels: int[N], single labels; -1 for none.
        votes: float[N, K], see `answers_of`. Shares (rows that sum to 1) do not say how far people agree.
    """
    total = votes.sum(axis=1)
    answers = votes / np.where(total > 0, total, 1)[:, None]
    only_label = (total == 0) & (labels >= 0)
    answers[only_label] = np.eye(probabilities.shape[1])[labels[only_label]]
    answered = answers.sum(axis=1) > 0
    if not answered.any():
        return None
    voted = total > 1.5
    above, hits, false_alarms = _disagreement_threshold(probabilities[voted], votes[voted])
    confidence, risk = _risk_curve(probabilities[labels >= 0], labels[labels >= 0])
    return Certainty(
        measured_on=measured_on,
        clips=int(answered.sum()),
        voted=int(voted.sum()),
        named_mass=_named_mass(probabilities[answered], answers[answered]),
        disagree_above=above,
        hits=hits,
        false_alarms=false_alarms,
        confidence=confidence,
        risk=risk,
    )


def disagreement(probabilities: Array) -> Array:
    """The probability that two draws from a distribution float[..., K] differ: 1 - sum of squares, in [0, 1 - 1/K]."""
    return np.asarray(1 - np.square(probabilities).sum(axis=-1))


def named(probabilities: Array, mass: float) -> list[int]:
    """The classes that are named of one distribution float[K], the most probable first: one at least."""
    order = np.argsort(-probabilities, kind="stable")
    number = int((np.cumsum(probabilities[order]) <= mass + 1e-9).sum())
    return order[: max(1, number)].tolist()


def _named_mass(probabilities: Array, answers: Array) -> float:
    """The smallest mass with which the named classes cover `COVERED` of the answers."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    mass = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    mass[:, 0] = 0.0  # the first is always named
    weights = np.take_along_axis(answers, order, axis=1).ravel()
    by_mass = np.argsort(mass, axis=None, kind="stable")
    covered = weights[by_mass].cumsum() / weights.sum()
    place = int(np.searchsorted(covered, COVERED - 1e-12))
    return float(min(1.0, mass.ravel()[by_mass[place]]))


def _disagreement_threshold(probabilities: Array, votes: Array) -> tuple[float | None, float | None, float | None]:
    """The threshold, and the shares above it of the clips on which people disagree and of the others."""
    total = votes.sum(axis=1)
    agree = (votes * (votes - 1)).sum(axis=1) / np.maximum(total * (total - 1), 1)
    divided, score = agree < 0.5, disagreement(probabilities)
    if min(divided.sum(), (~divided).sum()) < _FEWEST:
        return None, None, None
    if mannwhitneyu(score[divided], score[~divided], alternative="greater").pvalue > _BY_CHANCE:
        return None, None, None
    values = np.unique(score)
    between = (values[1:] + values[:-1]) / 2
    hits = np.array([(score[divided] > value).mean() for value in between])
    false_alarms = np.array([(score[~divided] > value).mean() for value in between])
    best = int((hits - false_alarms).argmax())
    return float(between[best]), float(hits[best]), float(false_alarms[best])


def _risk_curve(probabilities: Array, labels: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not len(labels):
        return (), ()
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")
    confidence, errors = confidence[order], wrong[order].cumsum()
    # all clips that are as confident as the last one that counts
    kept = np.append(np.flatnonzero(np.diff(confidence)), len(confidence) - 1)
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, _POINTS).round().astype(int))]
    number, mistakes = kept + 1, errors[kept]
    bound = np.where(mistakes == number, 1.0, beta.ppf(CONFIDENCE, mistakes + 1, np.maximum(number - mistakes, 1)))
    return tuple(confidence[kept].tolist()), tuple(bound.tolist())
