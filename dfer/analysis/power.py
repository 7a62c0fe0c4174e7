"""How many clips, folds and seeds does it take to see a difference between two arms? By simulation from what is there.

An experiment *sees* a difference if the interval of the paired bootstrap over clips (`dfer.analysis.statistics`) lies
on its side of 0; its power is the share of experiments that see a difference which is there. Simulated experiments draw
their clips, with replacement, from how the two arms differ on the clips at hand, moved so that the mean difference is
the one that is planted. With several seeds at hand, what differs from clip to clip is told apart from what differs from
training to training (`dfer.analysis.variance`); the clips' values are then shrunk to the variance that is theirs alone
(the reflated bootstrap of residuals of Carpenter, Goldstein and Rasbash, Applied Statistics 2003), and what trainings
add is drawn anew for each. With one seed nothing is known about other trainings: they count as alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfer.analysis import arm_table
from dfer.analysis.statistics import LEVEL
from dfer.analysis.variance import Fold, Metric, decompose_folds

Array = npt.NDArray[np.float64]

POWER = 0.8
MOST_CLIPS = 10_000_000  # more than that nobody will collect

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Stratum:
    """Clips that are drawn from one another: all of them for WAR, those of one class for UAR.

    `values`, float64[V], have the mean 0 under `shares`, float64[V], that add up to 1: how much more often than in the
    mean the second arm is right about a clip than the first. `clips`: the stratum's share of all clips.
    """

    values: Array
    shares: Array
    clips: float
    by_seed: float  # variance that one training adds to the value of a clip; 0 with one seed at hand


@dataclass(frozen=True)
class Pilot:
    """How two arms differ on the clips at hand: what experiments are drawn from. Shares, not points."""

    metric: Metric
    difference: float  # second minus first, the mean over folds and seeds
    strata: tuple[Stratum, ...]
    between_trainings: float  # variance between seeds of one fold's difference on all possible clips; 0 for one seed
    clips: int  # distinct clips with a single label
    folds: int
    seeds: int

    def variance(self, seeds: int) -> float:
        """Of the difference on one clip; of N clips it is that over N. WAR's is the mean over all clips, UAR's over
        classes, which are as frequent as at hand."""
        of_strata = [
            ((stratum.shares * stratum.values**2).sum() + stratum.by_seed / seeds) / stratum.clips
            for stratum in self.strata
        ]
        return float(sum(of_strata)) / len(of_strata) ** 2


def pilot(a: pd.DataFrame, b: pd.DataFrame, metric: Metric = "war") -> Pilot:
    """What the predictions of two arms say about an experiment that compares arm b with arm a.

    `a`, `b`: arm tables (`dfer.analysis.arm_table`); the clips count that both have. Seeds are paired in their order;
    those that only one arm has are left out. Where the models of several folds saw the same clips (a cross-dataset
    evaluation), each of them counts as a seed of one fold. Raises ValueError if the arms share no clip, are right about
    the same ones, or a class has only one clip in every fold, so that nothing is known about how clips differ.
    """
    folds, clips = _differences(a, b)
    components = decompose_folds(folds, metric)["variance"]
    if not np.isfinite(components["clips"]):
        raise ValueError(
            "a class has a single clip in every fold: expected two or more of each, to say how far its clips differ"
        )
    if all(not values.any() for _, values in folds):
        raise ValueError(f"the arms are right about the same {clips} clips: nothing is known about where they differ")
    seeds = folds[0][1].shape[1]
    known = seeds > 1
    scores = [np.mean([of.mean() for of in _of_strata(*fold, metric)]) for fold in folds]
    return Pilot(
        metric,
        float(np.mean(scores)),
        _strata(folds, metric),
        max(0.0, float(components["seed"])) if known else 0.0,
        clips,
        len(folds),
        seeds,
    )


def power(
    pilot: Pilot,
    difference: float,
    *,
    clips: int,
    folds: int | None = None,
    seeds: int | None = None,
    comparisons: int = 1,
    experiments: int = 4000,
    seed: int = 0,
) -> float:
    """The share of simulated experiments that see a difference.

    Args:
        difference: the one that is there, a share above 0.
        clips: test clips of all folds together, at least two for each class where the metric is UAR.
        folds, seeds: trainings of each arm are one for each pair of them; as many as at hand if left out.
        comparisons: how many the difference is one of; an interval is then one of 1 - 0.05 / comparisons, the first
            step of Holm's correction.
        experiments: how many are simulated. The share has a standard error of at most 0.5 / sqrt(experiments).
        seed: of what is drawn.

    Raises ValueError for numbers out of range, and for more seeds than one if there is one at hand.
    """
    folds, seeds = folds or pilot.folds, seeds or pilot.seeds
    _check(pilot, difference, clips, seeds)
    generator = np.random.default_rng([seed, clips, folds, seeds])
    estimate = np.full(experiments, difference)
    squared_error = np.zeros(experiments)
    for stratum in pilot.strata:
        number = max(2, round(stratum.clips * clips))
        drawn = generator.multinomial(number, stratum.shares, size=experiments) / number
        mean = drawn @ stratum.values
        of_clips = drawn @ stratum.values**2 - mean**2 + stratum.by_seed / seeds
        mean = mean + generator.normal(0, np.sqrt(stratum.by_seed / seeds / number), experiments)
        estimate += mean / len(pilot.strata)
        squared_error += of_clips / number / len(pilot.strata) ** 2
    estimate += generator.normal(0, np.sqrt(pilot.between_trainings / (folds * seeds)), experiments)
    return float((estimate > _reach(comparisons) * np.sqrt(squared_error)).mean())


def clips_needed(
    pilot: Pilot,
    difference: float,
    *,
    folds: int | None = None,
    seeds: int | None = None,
    comparisons: int = 1,
) -> int | None:
    """How many test clips of all folds together it takes to see a difference with a power of 80 %.

    For the arguments and errors see `power`, whose simulations it agrees with where clips are many; it takes the means
    over clips for normal. None if no number of clips would be enough: the difference between trainings stays, and only
    more seeds make it smaller.
    """
    folds, seeds = folds or pilot.folds, seeds or pilot.seeds
    _check(pilot, difference, 2 * len(pilot.strata), seeds)
    beyond, reach = _NORMAL.inv_cdf(POWER), _reach(comparisons)
    trainings = pilot.between_trainings / (folds * seeds)
    rest = difference**2 - beyond**2 * trainings
    if rest <= 0:
        return None
    # the standard error e over clips with which (difference - reach e) / sqrt(trainings + e^2) is `beyond`
    square = reach**2 - beyond**2
    error = rest / (difference * reach + np.sqrt(difference**2 * reach**2 - square * rest))
    clips = int(np.ceil(pilot.variance(seeds) / error**2))
    return max(2 * len(pilot.strata), clips)


def smallest_seen(pilot: Pilot, *, clips: int, seeds: int | None = None) -> float:
    """The smallest difference, a share, that so many clips show with a power of 80 %; see `clips_needed`."""
    seeds = seeds or pilot.seeds
    error = np.sqrt(pilot.variance(seeds) / clips)
    trainings = pilot.between_trainings / (pilot.folds * seeds)
    return float(_reach(1) * error + _NORMAL.inv_cdf(POWER) * np.sqrt(trainings + error**2))


def in_words(difference: float, clips: int | None) -> str:
    """'a difference of 2.0 points would need about 1,900 clips to be seen with 80 % power'.

    `difference`: a share; `clips`: what `clips_needed` says.
    """
    start = f"a difference of {points(difference)} points would need"
    end = f"to be seen with {100 * POWER:.0f} % power"
    if clips is None:
        return f"{start} other trainings than these, with more seeds, {end}: no number of clips is enough"
    number = f"about {rounded(clips):,}" if clips <= MOST_CLIPS else f"more than {MOST_CLIPS:,}"
    return f"{start} {number} clips {end}"


def points(difference: float) -> str:
    """A difference to be seen, a share, in points to three digits that count: '2.0', '0.01'."""
    return np.format_float_positional(100 * difference, precision=3, fractional=False, trim="0")


def would_need(a: pd.DataFrame, b: pd.DataFrame, metric: Metric, difference: float, *, comparisons: int = 1) -> str:
    """`in_words` for a difference between two arms that could be chance, or why that is not known.

    `difference`: as it was measured; as large as that, or a tenth of a point if it is less. For the others see `pilot`
    and `power`.
    """
    size = max(0.001, round(abs(difference), 3))
    try:
        return in_words(size, clips_needed(pilot(a, b, metric), size, comparisons=comparisons))
    except ValueError as error:
        return f"how many clips would be needed to see a difference is not known: {error}"


def rounded(clips: int) -> int:
    """To two digits that count: more would promise too much."""
    return int(float(f"{clips:.2g}"))


def _check(pilot: Pilot, difference: float, clips: int, seeds: int) -> None:
    if not 0 < difference < 1:
        raise ValueError(f"expected a difference above 0 and below 100 points, found {100 * difference:g}")
    if clips < 2 * len(pilot.strata):
        raise ValueError(f"expected at least {2 * len(pilot.strata)} clips, two of each class, found {clips}")
    if seeds > 1 and pilot.seeds == 1:
        raise ValueError(
            f"{seeds} seeds were asked for, but the predictions are of one training a fold, which says nothing about "
            "others: run the arms with two seeds or more first (seeds: [0, 1, 2] in the pipeline)"
        )


def _reach(comparisons: int) -> float:
    """How many standard errors the interval reaches on either side."""
    return _NORMAL.inv_cdf(1 - (1 - LEVEL) / comparisons / 2)


def _differences(a: pd.DataFrame, b: pd.DataFrame) -> tuple[list[Fold], int]:
    """Fold by fold the labels and the differences, float64[N, seeds], of the clips that both have; distinct clips."""
    one, other = _by_clip(a), _by_clip(b)
    folds = []
    shared: list[object] = []
    for fold in [fold for fold in one if fold in other]:
        ids = one[fold].index.intersection(other[fold].index)
        if ids.empty:
            continue
        seeds = min(one[fold].shape[1], other[fold].shape[1])
        first, second = (arm[fold].loc[ids].to_numpy("float64")[:, :seeds] for arm in (one, other))
        folds.append((ids.get_level_values("label").to_numpy("int64"), second - first))
        shared += ids.get_level_values("clip_id").tolist()
    if not folds:
        raise ValueError("the arms share no clip of the same fold with a single label: nothing can be drawn from them")
    distinct = len(set(shared))
    seeds = min(values.shape[1] for _, values in folds)
    folds = [(labels, values[:, :seeds]) for labels, values in folds]
    if distinct < len(shared):
        if distinct * len(folds) != len(shared):
            raise ValueError(
                f"{distinct} clips in {len(folds)} folds have {len(shared)} predictions: expected each clip in one "
                "fold (cross-validation) or each in all (cross-dataset evaluation)"
            )
        return [(folds[0][0], np.hstack([values for _, values in folds]))], distinct
    return folds, distinct


def _by_clip(table: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Fold (0 without) -> whether each seed (column) is right about each clip (index of clip and label, in order)."""
    rows = arm_table.labelled(table)
    runs = pd.DataFrame(
        {
            "fold": rows["fold"].fillna(0).to_numpy("int64"),
            "clip_id": rows["clip_id"].to_numpy(object),
            "label": arm_table.labels(rows),
            "seed": rows["seed"].to_numpy("int64"),
            "right": arm_table.right(rows).astype(np.float64),
        }
    )
    return {
        int(fold): of_fold.pivot(index=["clip_id", "label"], columns="seed", values="right").dropna().sort_index()
        for fold, of_fold in runs.groupby("fold")
    }


def _of_strata(labels: npt.NDArray[np.int64], values: Array, metric: Metric) -> list[Array]:
    return [values] if metric == "war" else [values[labels == label] for label in np.unique(labels)]


def _strata(folds: Sequence[Fold], metric: Metric) -> tuple[Stratum, ...]:
    total = sum(len(labels) for labels, _ in folds)
    names = [-1] if metric == "war" else sorted({int(label) for labels, _ in folds for label in labels})
    made = []
    for name in names:
        parts = [values if name < 0 else values[labels == name] for labels, values in folds]
        made.append(_stratum([part for part in parts if len(part)], total))
    return tuple(made)


def _stratum(parts: Sequence[Array], total: int) -> Stratum:
    """`parts`: of each fold the differences of the stratum's clips, float64[N, seeds]."""
    clips, folds, seeds = sum(map(len, parts)), len(parts), parts[0].shape[1]
    of_clip = np.concatenate([part.mean(axis=1) - part.mean() for part in parts])
    variance = float((of_clip**2).sum() / (clips - folds))
    by_seed = 0.0
    if seeds > 1:
        residuals = [part - part.mean(axis=1, keepdims=True) - part.mean(axis=0) + part.mean() for part in parts]
        by_seed = float(sum((rest**2).sum() for rest in residuals) / ((clips - folds) * (seeds - 1)))
    own = max(0.0, variance - by_seed / seeds)
    spread = float((of_clip**2).mean())
    scaled = of_clip * np.sqrt(own / spread) if spread > 0 else of_clip
    values, counts = np.unique(np.round(scaled, 9), return_counts=True)
    return Stratum(values, counts / clips, clips / total, by_seed)
