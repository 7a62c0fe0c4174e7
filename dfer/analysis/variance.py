"""Where the spread of a score comes from: another seed, another fold, other clips.

The model of one run's score, for fold f and seed s on the N clips of its fold: mean + fold_f + seed_fs + the mean over
clips of (clip_i + clip by seed_is), where all effects are independent with mean 0. Each run is a training of its own,
so seeds are nested in folds. The variances are estimated by the method of moments: mean squares of the two-way layout
clips by seeds of each fold, set equal to their expectations (Searle, Casella and McCulloch 1992, chapter 4). That takes
no distribution for granted. Such estimates are right on average; one that is small may come out below 0.

What cannot be told: with one seed, what a training does from what its fold does; with one fold, what a fold does. And
folds share most of their training clips, so their spread says how folds of this data set differ; no estimate that is
always right tells from it how the mean would vary with other data (Bengio and Grandvalet, JMLR 2004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import chi2

from dfer.analysis import arm_table
from dfer.analysis.statistics import LEVEL

Array = npt.NDArray[np.float64]
Metric = Literal["war", "uar"]

COMPONENTS = ("seed", "fold", "clips", "clips by seed")
NAN = float("nan")

Fold = tuple[npt.NDArray[np.int64], Array]
"""A fold's clips: their labels, int64[N], and whether each seed is right about them, float64[N, seeds]."""


def decompose(table: pd.DataFrame, metric: Metric = "war") -> pd.DataFrame:
    """The variance of an arm's WAR or UAR by where it comes from, one row each of `COMPONENTS`.

    - `seed`: of the score on all possible clips, between trainings that differ in their seed alone.
    - `fold`: of that, between folds, the mean of all seeds.
    - `clips`: what other clips of the same number would change for all seeds alike.
    - `clips by seed`: what other clips would change for one seed alone: which clips a training happens to get right.

    Columns: `variance` of the score of one run (a share squared; free of bias, so it may be below 0); `low` and `high`,
    its 95 % interval, by the chi-squared distribution of the mean square (which takes it for normal) with `df` degrees
    of freedom, cut at 0; nan for clips, of which there are many; `of_mean`, what it adds to the variance of the mean
    over folds and seeds, the number that tables print; `note`, why it is nan, or what else it holds because that
    cannot be told from it, else empty.

    UAR's clips count as drawn class by class. Only clips with a single label count. Raises ValueError if no clip has
    one, a clip is in several folds (a cross-dataset evaluation has no folds of its own), or the seeds of a fold do not
    have the same clips.
    """
    return decompose_folds(_by_fold(table), metric)


def in_words(components: pd.DataFrame, name: str) -> str:
    """The result of `decompose` as one sentence, in points: standard deviations of a run's score, shares of the mean's.

    `name`: the score's, for people.
    """
    said = []
    for component, row in components.iterrows():
        if np.isnan(row["variance"]):
            said.append(f"{component} unknown ({row['note']})")
            continue
        words = f"{component} {100 * np.sqrt(max(row['variance'], 0)):.1f}"
        if not np.isnan(row["low"]):
            low, high = (100 * np.sqrt(row[end]) for end in ("low", "high"))
            words += f" [{low:.1f}, {high:.1f}]"
        if row["note"]:
            words += f" ({row['note']})"
        said.append(words)
    part = components["of_mean"].clip(lower=0).dropna()
    sentence = f"Standard deviation of one run's {name} in points, with 95 % intervals: {', '.join(said)}"
    if part.sum() > 0:
        shares = ", ".join(f"{component} {100 * value / part.sum():.0f} %" for component, value in part.items())
        sentence += f"; of the known variance of the mean over runs ({100 * np.sqrt(part.sum()):.1f} points): {shares}"
    return sentence + "."


def decompose_folds(folds: Sequence[Fold], metric: Metric = "war") -> pd.DataFrame:
    """`decompose` of folds that are given as labels, int64[N], and values, float64[N, seeds]: shares that are right, or
    differences of two arms in that. Raises ValueError if the folds differ in their number of seeds."""
    seeds = {right.shape[1] for _, right in folds}
    if len(seeds) > 1:
        raise ValueError(f"expected as many seeds in every fold, found from {min(seeds)} to {max(seeds)}")
    (s,), f = seeds, len(folds)
    pooled = _pooled(folds) if metric == "uar" else {}
    parts = [_moments(labels, right, metric, pooled) for labels, right in folds]
    scores = np.array([part.scores for part in parts])  # float64[folds, seeds]
    clips = float(np.mean([part.clips for part in parts]))
    by_seed = float(np.mean([part.by_seed for part in parts]))
    known = np.isfinite(clips)
    lone = "" if known else "a class with a single clip in every fold"
    rows: dict[str, dict[str, Any]] = {}
    if s > 1:
        between_seeds = float(scores.var(axis=1, ddof=1).mean())
        rows["seed"] = _component(between_seeds, by_seed, f * (s - 1), 1 / (f * s), lone)
        rows["clips by seed"] = {"variance": by_seed, "of_mean": by_seed / (f * s), "note": lone}
    else:
        between_seeds = 0.0
        rows["seed"] = {"note": "one seed"}
        rows["clips by seed"] = {"note": "one seed"}
    rows["clips"] = {"variance": clips, "of_mean": clips / f, "note": lone}
    if s == 1 and known:
        rows["clips"]["note"] = "with clips by seed"
    if f > 1:
        between_folds = float(scores.mean(axis=1).var(ddof=1))
        note = lone or ("" if s > 1 else "with seed")
        rows["fold"] = _component(between_folds, clips + between_seeds / s, f - 1, 1 / f, note)
    else:
        rows["fold"] = {"note": "one fold"}
    return pd.DataFrame(
        [{"variance": NAN, "low": NAN, "high": NAN, "df": 0, "of_mean": NAN, **rows[name]} for name in COMPONENTS],
        index=pd.Index(COMPONENTS, name="component"),
    )


@dataclass(frozen=True)
class _Moments:
    """Of one fold: each seed's score, float64[seeds], and what clips add to the variance of a run's score."""

    scores: Array
    clips: float  # nan where a class has a single clip, and no more in other folds
    by_seed: float  # nan there, and for one seed


def _component(mean_square: float, rest: float, df: int, share: float, note: str) -> dict[str, Any]:
    """A variance that is a mean square less what else is in it, with its interval."""
    ends = [mean_square * df / chi2.ppf(quantile, df) - rest for quantile in ((1 + LEVEL) / 2, (1 - LEVEL) / 2)]
    low, high = np.maximum(ends, 0)  # nan stays
    variance = mean_square - rest
    return {"variance": variance, "low": low, "high": high, "df": df, "of_mean": share * variance, "note": note}


def _pooled(folds: Sequence[Fold]) -> dict[int, tuple[float, float]]:
    """Class -> the variances of its clips, the mean over the folds that have two or more; without the others."""
    variances: dict[int, list[tuple[float, float]]] = {}
    for labels, right in folds:
        for label in np.unique(labels).tolist():
            if (labels == label).sum() > 1:
                variances.setdefault(label, []).append(_two_way(right[labels == label]))
    means = {label: np.mean(of, axis=0).tolist() for label, of in variances.items()}
    return {label: (of_clip, of_both) for label, (of_clip, of_both) in means.items()}


def _moments(
    labels: npt.NDArray[np.int64], right: Array, metric: Metric, pooled: Mapping[int, tuple[float, float]]
) -> _Moments:
    """Of one fold's clips: `labels` int64[N], `right` float64[N, seeds]. WAR is the mean of one stratum, UAR of K; one
    of a single clip has the variances that its class has in other folds (`pooled`)."""
    names = [-1] if metric == "war" else np.unique(labels).tolist()
    strata = {name: np.full(len(labels), True) if name < 0 else labels == name for name in names}
    scores, clips, by_seed = np.zeros(right.shape[1]), 0.0, 0.0
    for name, stratum in strata.items():
        mine = right[stratum]
        scores = scores + mine.mean(axis=0) / len(strata)
        of_clip, of_both = _two_way(mine) if len(mine) > 1 else pooled.get(name, (NAN, NAN))
        clips += of_clip / len(mine) / len(strata) ** 2
        by_seed += of_both / len(mine) / len(strata) ** 2
    return _Moments(scores, clips, by_seed)


def _two_way(right: Array) -> tuple[float, float]:
    """Variances of clips and of clips by seed, of float64[N, S]; one seed: all is in the first; one clip: nan."""
    clips, seeds = right.shape
    if clips < 2:
        return NAN, NAN
    if seeds < 2:
        return float(right.var(ddof=1)), NAN
    of_clip, of_seed = right.mean(axis=1, keepdims=True), right.mean(axis=0, keepdims=True)
    residual = float(((right - of_clip - of_seed + right.mean()) ** 2).sum() / ((clips - 1) * (seeds - 1)))
    between = float(seeds * of_clip.var(ddof=1))
    return (between - residual) / seeds, residual


def _by_fold(table: pd.DataFrame) -> list[Fold]:
    rows = arm_table.labelled(table)
    runs = pd.DataFrame(
        {
            "fold": rows["fold"].fillna(0).to_numpy("int64"),
            "seed": rows["seed"].to_numpy("int64"),
            "clip_id": rows["clip_id"].to_numpy(object),
            "label": arm_table.labels(rows),
            "right": arm_table.right(rows).astype(np.float64),
        }
    )
    across = runs.groupby("clip_id")["fold"].nunique() > 1
    if across.any():
        raise ValueError(
            f"{int(across.sum())} clips are in several folds, first {across.idxmax()!r}: expected those of "
            "cross-validation, each in one; a cross-dataset evaluation has no folds of its own"
        )
    twice = runs.duplicated(["seed", "clip_id"])
    if twice.any():
        raise ValueError(f"{runs['clip_id'][twice].iloc[0]!r} is listed twice for the same seed")
    folds = []
    for number, fold in runs.groupby("fold"):
        right = fold.pivot(index="clip_id", columns="seed", values="right")
        lacking = right.isna().any(axis=1)
        if lacking.any():
            raise ValueError(
                f"{int(lacking.sum())} clips of fold {number} lack some seed, first {lacking.idxmax()!r}: "
                "expected every seed on the same clips"
            )
        folds.append((fold.groupby("clip_id")["label"].first().to_numpy("int64"), right.to_numpy("float64")))
    return folds
