"""Sets of classes instead of a single one, that hold the truth as often as promised: conformal prediction.

Split conformal prediction (Papadopoulos et al. 2002; Vovk et al. 2005): on clips that the model was not fitted to, each
with what is true of it, a score says how odd that is for the model. A new clip's set has all classes that are no odder
than the (n + 1)(1 - miscoverage)-th smallest of the n scores. If calibration and new clips are exchangeable, sets hold
the truth with at least the promised probability, whatever the model. Class by class (Mondrian; Vovk, ACML 2012), each
class has scores and a promise of its own.

What is "true" is either the single label or what a random one of the clip's annotators says. Sets for labels hold fewer
of the annotators' opinions than they promise (Stutz et al., TMLR 2023); for these, each calibration clip has one of its
votes, drawn by chance, as its truth. That is their Monte Carlo conformal prediction with one draw, which is plain split
conformal prediction.

Calibrated on other clips than tested on: those of the arm's other folds. Their scores come from the models of these
folds, which differ from the tested one in what they were trained on, so that the promise is approximate; `coverage`
says whether it was kept. Where there is one fold, or all models saw the same clips, each model's clips are divided by
chance into five parts instead, and the promise is exact. Either way all clips calibrate for each other, so that the
coverage of all, or with class-conditional sets of each class, is near the promise almost by construction. What tells
models apart is how large their sets have to be, and the coverage of each class where one threshold serves all.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfer.analysis import arm_table
from dfer.analysis.statistics import percentile_interval, resamples
from dfer.labels import classes_of, soft_labels

Array = npt.NDArray[np.float64]
Score = Literal["lac", "aps"]
Truth = Literal["label", "vote"]

PARTS = 5  # of clips that no fold divides


def predict_sets(
    table: pd.DataFrame,
    *,
    miscoverage: float = 0.1,
    truth: Truth = "vote",
    score: Score = "lac",
    class_conditional: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """The prediction set of every clip of an arm table that has a label (or votes), one row a prediction.

    Scores: `lac`, 1 - p of the class (Sadinle et al., JASA 2019), has the smallest sets, and empty ones where nothing
    fits; `aps` (Romano et al., NeurIPS 2020), the sum of the probabilities from the largest down to the class, of which
    a random part is taken, has sets that grow with how unsure the model is. With class-conditional sets, a class with
    fewer than 1 / miscoverage - 1 calibration clips is in every set, since nothing else could be promised; one that is
    true of no clip at all is in none, since nothing could be checked.

    Columns: `clip_id`, `fold` and `seed` as in the table; `part`, which clips it was tested with; `set`, bool[K], and
    `size`, how many classes it has; `truth`, float64[K], the share of each class in what is true: one 1 for a label,
    the shares of the votes for votes; `named`, bool[K], the classes that have votes, None for a clip without. The rows
    are sorted by seed, fold and clip, and do not depend on the order of the table's. Raises ValueError if no clip has a
    label (votes), or there are not two clips, or `miscoverage` is not between 0 and 1.
    """
    if not 0 < miscoverage < 1:
        raise ValueError(f"miscoverage: expected a share between 0 and 1, found {miscoverage}")
    rows = arm_table.labelled(table) if truth == "label" else arm_table.voted(table)
    rows = rows.sort_values(["seed", "fold", "clip_id"], kind="stable").reset_index(drop=True)
    generator = np.random.default_rng(seed)
    true, drawn = _truth(rows, truth, len(classes_of(table)), generator)
    scores = _scores(arm_table.probabilities(rows), score, generator)
    part, group = _parts(rows, generator)
    sets = np.zeros(scores.shape, dtype=bool)
    for run in np.unique(group):
        mine = group == run
        for place in np.unique(part[mine]):
            test, calibration = mine & (part == place), mine & (part != place)
            sets[test] = scores[test] <= _thresholds(
                scores[calibration], drawn[calibration], miscoverage, class_conditional
            )
    if class_conditional:
        sets &= true.any(axis=0)
    return pd.DataFrame(
        {
            "clip_id": rows["clip_id"],
            "fold": rows["fold"],
            "seed": rows["seed"],
            "part": part,
            "set": list(sets),
            "size": sets.sum(axis=1),
            "truth": list(true),
            "named": pd.Series(
                [None if votes is None else np.asarray(votes) > 0 for votes in rows["votes"]], dtype=object
            ),
        }
    )


def coverage(sets: pd.DataFrame, classes: tuple[str, ...], *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How often the sets hold the truth: rows "all" and each class; of a class, those clips (votes) whose truth it is.

    Columns: `covered` in [0, 1] with the 95 % percentile interval `low` to `high` of a bootstrap over clips, for the
    thresholds that were found (other votes drawn for the calibration would have given slightly others); `clips`, how
    many distinct clips have the class (a vote for it). nan for a class without any. Where all of a class's clips are
    held, the interval has no width: the truth is not that sure.
    """
    true, held = np.stack(sets["truth"].to_list()), np.stack(sets["set"].to_list())
    clip, names = pd.factorize(sets["clip_id"].to_numpy(object), sort=True)
    design = np.zeros((len(names), 2 * (len(classes) + 1)))
    weights = np.column_stack([np.ones(len(true)), true])
    np.add.at(design, clip, np.hstack([weights, np.column_stack([(true * held).sum(axis=1), true * held])]))
    resampled = np.concatenate([times @ design for times in resamples(len(design), draws, seed)])
    totals = np.vstack([design.sum(axis=0), resampled])
    there, inside = np.hsplit(totals, 2)
    share = np.divide(inside, there, out=np.full(there.shape, np.nan), where=there > 0)
    result = pd.DataFrame(index=pd.Index(["all", *classes], name="class"))
    intervals = [percentile_interval(float(column[0]), column[1:]) for column in share.T]
    result["covered"] = [interval.estimate for interval in intervals]
    result["low"] = [interval.low for interval in intervals]
    result["high"] = [interval.high for interval in intervals]
    result["clips"] = (design[:, : len(classes) + 1] > 0).sum(axis=0)
    return result


def sizes(sets: pd.DataFrame) -> pd.DataFrame:
    """The sets' size by how many classes the clip's annotators named, of predictions of clips with votes.

    One row a number of `named` classes: `size`, the mean number of classes in the sets, `empty`, the share of sets
    without any, `all_named`, the share of sets that hold every class that was named, and `predictions`. A class that
    nobody named may still be one that somebody would: with more votes, more classes are named. Raises ValueError if no
    clip has votes.
    """
    rows = sets[sets["named"].notna()]
    if rows.empty:
        raise ValueError(f"none of the {len(sets)} clips has votes: nobody named a class")
    named, held = np.stack(rows["named"].to_list()), np.stack(rows["set"].to_list())
    values = pd.DataFrame(
        {
            "size": rows["size"].to_numpy("float64"),
            "empty": rows["size"].to_numpy() == 0,
            "all_named": ~(named & ~held).any(axis=1),
        }
    ).groupby(named.sum(axis=1))
    result = values.mean().assign(predictions=values.size())
    result.index.name = "named"
    return result


def threshold(scores: npt.ArrayLike, miscoverage: float) -> float:
    """The finite-sample quantile of n scores: the ceil((n + 1)(1 - miscoverage))-th smallest, inf if there is none."""
    values = np.sort(np.asarray(scores, dtype=np.float64))
    # rounded: 100 * (1 - 0.07) is 92.99999999999999
    rank = math.ceil(round((len(values) + 1) * (1 - miscoverage), 9))
    return float(values[rank - 1]) if rank <= len(values) else float("inf")


def _thresholds(scores: Array, true: npt.NDArray[np.int64], miscoverage: float, class_conditional: bool) -> Array:
    """The greatest score that is still in the set, float64[K]."""
    of_truth = scores[np.arange(len(true)), true]
    if not class_conditional:
        return np.full(scores.shape[1], threshold(of_truth, miscoverage))
    return np.array([threshold(of_truth[true == k], miscoverage) for k in range(scores.shape[1])])


def _scores(probabilities: Array, score: Score, generator: np.random.Generator) -> Array:
    """How odd each class is, float64[N, K]."""
    if score == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    part = generator.random((len(probabilities), 1))
    odd = np.empty_like(probabilities)
    np.put_along_axis(odd, order, ordered.cumsum(axis=1) - part * ordered, axis=1)
    return odd


def _truth(
    rows: pd.DataFrame, truth: Truth, classes: int, generator: np.random.Generator
) -> tuple[Array, npt.NDArray[np.int64]]:
    """What the sets are to hold, as shares float64[N, K], and the class that calibrates, int64[N]: a label or a vote.

    A clip has the same vote in all runs.
    """
    if truth == "label":
        labels = arm_table.labels(rows)
        return np.eye(classes)[labels], labels
    shares = soft_labels(arm_table.vote_counts(rows))
    clip, names = pd.factorize(rows["clip_id"].to_numpy(object), sort=True)
    voter = generator.random(len(names))[clip]
    # 1 - voter is above 0, so that no class without votes is drawn; the last edge may be below 1 by rounding
    edges = np.minimum(shares.cumsum(axis=1), 1)
    edges[:, -1] = 1
    return shares, (edges < (1 - voter)[:, None]).sum(axis=1)


def _parts(rows: pd.DataFrame, generator: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The part that each row is tested in and the group that calibrates for each other, int64[N] both."""
    clips = rows["clip_id"].nunique()
    if clips < 2:
        raise ValueError(f"prediction sets: expected clips to calibrate on and others to test on, found {clips} clip")
    fold = rows["fold"].fillna(0).to_numpy("int64")
    seed = rows["seed"].to_numpy("int64")
    folds_of_clip = rows.groupby("clip_id")["fold"].nunique(dropna=False)
    folds_of_seed = rows.groupby("seed")["fold"].nunique(dropna=False)
    if (folds_of_seed > 1).all() and (folds_of_clip == 1).all():
        return fold, seed
    clip, names = pd.factorize(rows["clip_id"].to_numpy(object), sort=True)
    part_of_clip = generator.permutation(np.arange(len(names)) % PARTS)
    return part_of_clip[clip], pd.factorize(pd.MultiIndex.from_arrays([fold, seed]), sort=True)[0].astype(np.int64)
