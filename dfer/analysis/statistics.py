"""Is a difference between two arms real? Paired bootstrap over clips, McNemar's test, spread over folds and seeds.

The clips are the sample and the trained models are fixed: an interval covers what other clips of the same kind would
have given with these models. The spread over seeds (`spread`) shows what another training would have given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from dfer.analysis.arm_table import labelled, right
from dfer.labels import classes_of

LEVEL = 0.95

_CHUNK = 4_000_000  # resampled clips at a time: 32 MB of counts
_EXACT_BELOW = 25  # discordant clips; from there on the chi-squared distribution is close enough

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A score or a difference of scores with its interval, as shares (not percent); nan where there are no clips."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """The bootstrap of one arm."""

    # metric (`metrics_of`) -> its value on the clips as they are; nan for a class without clips
    estimate: Mapping[str, float]
    # metric -> float64[draws], its value on every resample; nan where a class had no clips in it
    values: Mapping[str, Array]

    def interval(self, metric: str) -> Interval:
        """The percentile interval of a metric, at `LEVEL`."""
        return percentile_interval(self.estimate[metric], self.values[metric])


@dataclass(frozen=True)
class McNemar:
    """Clips that only one of two arms predicted right."""

    # only_a, only_b: clips that the one arm was right about in more of its runs than the other. With one run each this
    # is McNemar's test, with several (seeds, or models of several folds on the same clips) a sign test.
    only_a: int
    only_b: int
    p_value: float  # two-sided; exact for fewer than 25 such clips, else chi-squared with continuity correction


@dataclass(frozen=True)
class Comparison:
    """Arm b against arm a, on the clips that both have."""

    differences: Mapping[str, Interval]  # metric (`metrics_of`) -> b minus a with its percentile interval at `LEVEL`
    # metric -> two-sided, from the same bootstrap; at least 2 / (draws + 1); nan without clips
    p_values: Mapping[str, float]
    mcnemar: McNemar
    clips: int  # clips with a single label that both have
    draws: int  # resamples

    def at_floor(self, metric: str) -> bool:
        """Whether no resample contradicts the difference: the true p-value may be smaller."""
        return self.p_values[metric] <= 2 / (self.draws + 1)


def bootstrap(table: pd.DataFrame, *, draws: int = 10_000, seed: int = 0) -> Draws:
    """Bootstrap over clips of what tables print: each fold's score, averaged over folds and seeds (section 4.3).

    Clips with a single label are resampled `draws` times with replacement within their fold, and all seeds of a fold
    see the same resample. Where the clips are the same for every fold (a cross-dataset evaluation), they are resampled
    once for all of them. The resample depends on the clips of each fold and on `seed` alone: two arms over the same
    clips are paired. A class without clips in a fold's resample is left out of its UAR. Where a class has only a
    handful of clips in a fold, the intervals of UAR are a little too short: with three, they held the truth in 93 % of
    simulations instead of 95 %. Raises ValueError if no clip has a label, a run has a clip twice, or the runs that
    should share their clips do not.
    """
    estimate, values = _resample(_samples(_clip_scores(table, "the arm")), classes_of(table), draws, seed)
    return Draws(
        {metric: float(scores[0]) for metric, scores in estimate.items()},
        {metric: np.ascontiguousarray(scores[:, 0]) for metric, scores in values.items()},
    )


def resamples(clips: int, draws: int, seed: int | Sequence[int]) -> Iterator[Array]:
    """The bootstrap over clips: how often each is drawn, float64[n, clips] at a time until `draws` rows are through.

    Each row adds up to `clips`, so what adds up over clips is a matrix product. How the rows are cut into parts does
    not change them.
    """
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // clips)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        chosen = generator.integers(0, clips, size=(count, clips)) + np.arange(count)[:, None] * clips
        yield np.bincount(chosen.ravel(), minlength=count * clips).reshape(count, clips).astype(np.float64)


def percentile_interval(estimate: float, values: Array) -> Interval:
    """An estimate with the percentile interval of its values on resamples, at `LEVEL`; nan among them are left out."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(low), float(high))


def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Spearman's rank correlation of two numbers of every clip, float[N] each, with its bootstrap over clips.

    Equal numbers have their mean rank, also those that a resample makes equal by drawing a clip twice. Numbers are
    compared to 12 digits after the point. nan where one of the two does not vary.
    """
    groups = [
        np.unique(np.round(np.asarray(values, dtype=np.float64), 12), return_inverse=True)[1] for values in (x, y)
    ]
    once = np.ones((1, len(groups[0])))
    values = [_spearman(times, *groups) for times in resamples(len(groups[0]), draws, seed)]
    return percentile_interval(float(_spearman(once, *groups)[0]), np.concatenate(values))


def recall_intervals(table: pd.DataFrame) -> dict[str, Interval]:
    """The recall of every class, as `bootstrap` estimates it (same errors), with Wilson's interval for a share.

    Where all clips of a class were right or all wrong, every resample is the same and the bootstrap has no width.
    Several seeds count as one clip each, by the share of them that is right. Over F folds with n_f clips of a class,
    the interval is around the mean of the folds' recalls, as of F^2 / sum(1 / n_f) clips: a share of so many has the
    variance of that mean. With folds of one size these are all clips of the class; with others they are fewer, since
    each clip of a small fold weighs more.
    """
    samples = _samples(_clip_scores(table, "the arm"))
    intervals = {}
    for label, name in enumerate(classes_of(table)):
        of_class = [sample.right[sample.labels == label, 0] for sample in samples]
        folds = [right_clips for right_clips in of_class if len(right_clips)]
        if not folds:
            intervals[name] = Interval(float("nan"), float("nan"), float("nan"))
            continue
        recall = float(np.mean([right_clips.mean() for right_clips in folds]))
        clips = len(folds) ** 2 / sum(1 / len(right_clips) for right_clips in folds)
        low, high = proportion_confint(recall * clips, clips, alpha=1 - LEVEL, method="wilson")
        # rounding must not put the recall itself outside
        intervals[name] = Interval(recall, min(float(low), recall), max(float(high), recall))
    return intervals


def compare(a: pd.DataFrame, b: pd.DataFrame, *, draws: int = 10_000, seed: int = 0) -> Comparison:
    """How much better arm b is than arm a on the clips of the folds that both have, by a paired `bootstrap`.

    Their seeds may differ in number. Raises ValueError if they share no clip, a clip's label differs between them,
    their classes differ, or one of them is not an arm's table.
    """
    classes = classes_of(a)
    if classes_of(b) != classes:
        raise ValueError(
            f"the first arm's classes are {', '.join(classes)}, the second's {', '.join(classes_of(b))}: arms are "
            "compared in the same classes"
        )
    one, other = _clip_scores(a, "the first arm"), _clip_scores(b, "the second arm")
    both = one.merge(other, left_index=True, right_index=True, suffixes=("_a", "_b"))
    if both.empty:
        raise ValueError(
            f"the arms share no clip of the same fold with a single label (the first has {len(one)}, for example "
            f"{one.index[0]}, the second {len(other)}, for example {other.index[0]}): they cannot be compared"
        )
    differ = both[both["label_a"] != both["label_b"]]
    if len(differ):
        label_a, label_b = (classes[int(label)] for label in differ[["label_a", "label_b"]].iloc[0])
        raise ValueError(
            f"{len(differ)} clips have different labels in the two arms, first {differ.index[0][1]!r} "
            f"({label_a} and {label_b}): ingest the data set once for both"
        )
    shared = both.rename(columns={"label_a": "label"})[["label", "right_a", "right_b"]]
    samples = _samples(shared)
    differences, p_values = _differences(samples, classes, draws, seed)
    return Comparison(differences, p_values, _mcnemar(samples), both.index.unique("clip_id").size, draws)


def compare_splits(a: pd.DataFrame, b: pd.DataFrame, *, draws: int = 10_000, seed: int = 0) -> dict[str, Interval]:
    """How much better an arm is on the folds of table b than on the other folds of table a; "war" and "uar".

    The scores are those of `bootstrap`. Clips are resampled together for both tables, whichever fold they are in there,
    so those that both test are paired. Raises ValueError if the classes differ or no clip of a table has a label.
    """
    classes = classes_of(a)
    if classes_of(b) != classes:
        raise ValueError(f"expected the same classes in both tables, found {', '.join(classes)} and others")
    sides = [_clip_scores(table, "the arm").reset_index() for table in (a, b)]
    ids = pd.Index(pd.unique(pd.concat([side["clip_id"] for side in sides])))
    values = [
        _of_folds(sides[1], ids, times) - _of_folds(sides[0], ids, times)
        for times in (np.ones((1, len(ids))), *resamples(len(ids), draws, seed))
    ]
    war, uar = np.concatenate(values, axis=1)
    return {name: percentile_interval(float(one[0]), one[1:]) for name, one in (("war", war), ("uar", uar))}


def _of_folds(side: pd.DataFrame, ids: pd.Index, times: Array) -> Array:
    """WAR and UAR, float64[2, n], the mean over folds, where the clips `ids` are drawn `times`, float64[n, N].

    A class that is not drawn in a fold is left out of its UAR; a fold that is not drawn at all makes both nan.
    """
    scores = []
    for _, fold in side.groupby("fold"):
        weights, right = times[:, ids.get_indexer(fold["clip_id"])], fold["right"].to_numpy("float64")
        parts = [np.full(len(fold), True), *((fold["label"] == label).to_numpy() for label in fold["label"].unique())]
        with np.errstate(invalid="ignore"):
            war, *recalls = [weights[:, part] @ right[part] / weights[:, part].sum(axis=1) for part in parts]
        drawn = ~np.isnan(recalls)
        uar = np.where(drawn, recalls, 0).sum(axis=0) / np.where(drawn.any(axis=0), drawn.sum(axis=0), np.nan)
        scores.append([war, uar])
    return np.asarray(np.mean(scores, axis=0))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being many (Holm 1979), in their order; nan stays nan and does not count."""
    corrected = np.array(p_values, dtype=np.float64)
    known = ~np.isnan(corrected)
    if known.any():
        corrected[known] = multipletests(corrected[known], method="holm")[1]
    return corrected.tolist()


def in_words(interval: Interval, name: str, *, corrected_p: float | None = None) -> str:
    """A difference from `compare` as a sentence: "+1.9 WAR [0.7, 3.1]: real at 95 %", in percent points.

    If `corrected_p`, the p-value after correction for many comparisons, is above 0.05, the difference could be chance.
    """
    if np.isnan([interval.estimate, interval.low, interval.high]).any():
        return f"{name}: no clips to compare"
    # adding 0.0 turns the -0.0 of rounding into 0.0
    estimate, low, high = (round(100 * value, 1) + 0.0 for value in (interval.estimate, interval.low, interval.high))
    numbers = f"{estimate:+.1f} {name} [{low:.1f}, {high:.1f}]"
    if interval.low <= 0 <= interval.high:
        return f"{numbers}: could be chance"
    if corrected_p is not None and corrected_p > 1 - LEVEL:
        return f"{numbers}: could be chance after correction (corrected p = {corrected_p:.2g})"
    return f"{numbers}: real at {100 * LEVEL:.0f} %"


def spread(per_run: pd.DataFrame) -> pd.DataFrame:
    """How much WAR and UAR vary between folds and between seeds.

    `per_run` has the columns `fold` (may be missing values), `seed`, `war`, `uar`, one row a run. The result has the
    rows "war" and "uar"; `mean` over folds of the means over seeds, `sd_folds` the standard deviation (n - 1) over
    folds of those means, `sd_seeds` over seeds of the means over folds (nan for only one), and `folds` and `seeds`,
    their numbers. With seeds that were not run on every fold, `sd_seeds` holds differences between folds as well.
    """
    scores = ["war", "uar"]
    by_fold = per_run.groupby("fold", dropna=False)[scores].mean().astype("float64")
    by_seed = per_run.groupby("seed")[scores].mean().astype("float64")
    return pd.DataFrame(
        {
            "mean": by_fold.mean(),
            "sd_folds": by_fold.std(ddof=1),
            "sd_seeds": by_seed.std(ddof=1),
            "folds": len(by_fold),
            "seeds": len(by_seed),
        }
    )


@dataclass(frozen=True)
class _Sample:
    """Clips that are resampled together: those of a fold, or all of a cross-dataset evaluation.

    `right`: float64[N, arms], the share of each arm's runs that are right about a clip. Every metric here is linear in
    it, so the runs need not be kept apart: the mean of the runs' scores is the score of their mean.
    """

    labels: npt.NDArray[np.int64]
    right: Array


def _clip_scores(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """By clip and fold (0 for a set with splits): its `label`, and `right`, the share of the seeds that are right."""
    rows = labelled(table)
    runs = pd.DataFrame(
        {
            "fold": rows["fold"].fillna(0).to_numpy("int64"),
            "clip_id": rows["clip_id"].to_numpy(object),
            "seed": rows["seed"].to_numpy("int64"),
            "label": rows["label"].to_numpy("int64"),
            "right": right(rows).astype(np.float64),
        }
    )
    twice = runs.duplicated(["fold", "seed", "clip_id"])
    if twice.any():
        first = runs[twice].iloc[0]
        raise ValueError(f"{arm}: {first['clip_id']!r} is listed twice in fold {first['fold']}, seed {first['seed']}")
    clips = runs.groupby(["fold", "clip_id"]).agg(
        label=("label", "min"), highest=("label", "max"), right=("right", "mean"), seeds=("seed", "size")
    )
    seeds = runs.groupby("fold")["seed"].nunique().reindex(clips.index, level="fold")
    for fault, what in (
        (clips["label"] != clips["highest"], "have several labels"),
        (clips["seeds"] != seeds, "lack some seed of their fold"),
    ):
        if fault.any():
            raise ValueError(f"{arm}: {int(fault.sum())} clips {what}, first {clips.index[fault][0][1]!r}")
    return clips[["label", "right"]]


def _samples(clips: pd.DataFrame) -> list[_Sample]:
    """The clips that are resampled together, of a table by fold and clip with `label` and a column of shares an arm."""
    columns = [name for name in clips.columns if name != "label"]
    folds = clips.index.get_level_values("fold")
    num_folds, distinct = folds.nunique(), clips.index.unique("clip_id").size
    if distinct == len(clips):
        return [
            _Sample(fold["label"].to_numpy("int64"), fold[columns].to_numpy("float64"))
            for _, fold in clips.groupby(level="fold")
        ]
    if distinct * num_folds != len(clips):
        raise ValueError(
            f"{distinct} clips in {num_folds} folds: expected each clip in one fold (cross-validation) or each in all "
            f"(cross-dataset evaluation), found {len(clips)} predictions"
        )
    mean = clips.groupby(level="clip_id").mean()
    return [_Sample(mean["label"].to_numpy("int64"), mean[columns].to_numpy("float64"))]


def metrics_of(classes: Sequence[str]) -> tuple[str, ...]:
    """What is compared: WAR, UAR, and the recall of each class."""
    return ("war", "uar", *classes)


def _resample(
    samples: Sequence[_Sample], names: Sequence[str], draws: int, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Every metric on the clips as they are, float64[arms], and on every resample, float64[draws, arms]."""
    arms = samples[0].right.shape[1]
    metrics = metrics_of(names)
    sums = np.zeros((draws + 1, len(metrics), arms))  # the first row is of the clips as they are
    present = np.zeros((draws + 1, len(metrics), 1))
    for place, sample in enumerate(samples):
        classes = np.eye(len(names))[sample.labels]
        right_in_class = (classes[:, :, None] * sample.right[:, None, :]).reshape(len(classes), -1)
        design = np.hstack([classes, right_in_class])
        _add(sums[:1], present[:1], design.sum(axis=0, keepdims=True))
        start = 1
        for times in resamples(len(classes), draws, [seed, place]):
            part = slice(start, start + len(times))
            _add(sums[part], present[part], times @ design)
            start = part.stop
    mean = np.divide(sums, present, out=np.full(sums.shape, np.nan), where=present > 0)
    by_metric = {metric: mean[:, row] for row, metric in enumerate(metrics)}
    return {name: rows[0] for name, rows in by_metric.items()}, {name: rows[1:] for name, rows in by_metric.items()}


def _add(sums: Array, present: Array, totals: Array) -> None:
    """Add one fold's metrics of n resamples; `totals` [n, K + KA]: clips a class, then right ones a class and arm."""
    classes = present.shape[1] - 2
    clips = totals[:, :classes, None]
    hits = totals[:, classes:].reshape(len(totals), classes, -1)
    has_clips = clips > 0
    recall = np.divide(hits, clips, out=np.zeros(hits.shape), where=has_clips)
    sums[:, 0] += hits.sum(axis=1) / clips.sum(axis=1)
    sums[:, 1] += recall.sum(axis=1) / has_clips.sum(axis=1)
    sums[:, 2:] += recall
    present[:, :2] += 1
    present[:, 2:] += has_clips


def _differences(
    samples: Sequence[_Sample], classes: Sequence[str], draws: int, seed: int
) -> tuple[dict[str, Interval], dict[str, float]]:
    """Second arm minus first, and its p-value, of every metric."""
    estimate, values = _resample(samples, classes, draws, seed)
    differences, p_values = {}, {}
    for metric in metrics_of(classes):
        change = values[metric][:, 1] - values[metric][:, 0]
        differences[metric] = percentile_interval(float(estimate[metric][1] - estimate[metric][0]), change)
        p_values[metric] = _p_value(change)
    return differences, p_values


def _spearman(times: Array, x: npt.NDArray[np.intp], y: npt.NDArray[np.intp]) -> Array:
    """Rank correlation float64[n] of the clips drawn so many `times`, float64[n, N]; `x`, `y`: the values' order."""
    drawn = times.sum(axis=1, keepdims=True)
    ranks = (_mean_ranks(times, x), _mean_ranks(times, y))
    # the mean of ranks 1..N is (N + 1) / 2 whatever is tied
    one, other = (rank - (drawn + 1) / 2 for rank in ranks)
    spread = np.sqrt((times * one**2).sum(axis=1) * (times * other**2).sum(axis=1))
    return np.divide((times * one * other).sum(axis=1), spread, out=np.full(len(times), np.nan), where=spread > 0)


def _mean_ranks(times: Array, group: npt.NDArray[np.intp]) -> Array:
    """Each clip's rank in each resample; clips of a group, numbered by their value, share the mean of their ranks."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    size = np.add.reduceat(times[:, order], starts, axis=1)
    return (size.cumsum(axis=1) - (size - 1) / 2)[:, group]


def _p_value(change: Array) -> float:
    """Twice the share of resamples on the rarer side of zero, where one more resample is counted: never 0."""
    known = change[~np.isnan(change)]
    if len(known) == 0:
        return float("nan")
    smaller = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (1 + smaller) / (len(known) + 1))


def _mcnemar(samples: Sequence[_Sample]) -> McNemar:
    # rounded, because a third and a third add up to two thirds only nearly
    change = np.round(np.concatenate([sample.right[:, 1] - sample.right[:, 0] for sample in samples]), 9)
    only_a, only_b = int((change < 0).sum()), int((change > 0).sum())
    if only_a + only_b == 0:
        return McNemar(0, 0, 1.0)
    exact = only_a + only_b < _EXACT_BELOW
    result = mcnemar([[0, only_a], [only_b, 0]], exact=exact, correction=True)
    return McNemar(only_a, only_b, float(result.pvalue))
