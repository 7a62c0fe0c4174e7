"""The clear and the mixed expression group of section 5.5: selections of clips to train an arm on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfer.labels import classes_of, soft_labels
from dfer.system.natural_order import natural_key


def expression_group(
    clips: pd.DataFrame,
    group: Literal["clear", "mixed"],
    *,
    clear_above: float = 0.9,
    size: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Select one of the two groups. Both have the same size, and the class distribution of the labels of `clips`.

    Candidates are the clips with a single label and votes: for "mixed" all of them, for "clear" those whose largest
    soft label is above `clear_above`. A class with too many candidates is sampled without replacement; one with too few
    has every candidate equally often, and some of them, drawn without replacement, once more.

    Returns rows of `clips` in natural order of their ids; some may occur several times. They depend on the clips and
    the seed, not on the order of the clips.

    Args:
        clips: rows of a clip table, such as the training part of a fold.
        clear_above: a share of the votes; the paper's is 0.9, so with ten votes all must agree.
        size: number of clips of the group, with repetitions; by default the number of clear candidates.

    Raises ValueError if a class has labelled clips but no clear candidate (for either group, as they are compared), or
    `size` is below one.
    """
    if size is not None and size < 1:
        raise ValueError(f"size: expected at least one clip, found {size}")
    labels = clips.loc[clips["label"].notna(), "label"].to_numpy("int64")
    usable = clips[clips["label"].notna() & clips["votes"].notna()]
    if usable.empty:
        raise ValueError("no clip has both a single label and votes, so no expression group can be chosen")
    usable = usable.sort_values("clip_id", key=lambda ids: ids.map(natural_key))
    classes = usable["label"].to_numpy("int64")
    clear = _are_clear(usable, clear_above)
    class_sizes = np.bincount(labels, minlength=len(classes_of(clips)))
    if lacking := without_clear_clips(clips, clear_above):
        raise ValueError(
            f"no clip of {', '.join(lacking)} has a share of its votes above {clear_above:g}: the groups of clear and "
            "mixed clips cannot have the class distribution of all clips; lower groups.clear_above, or add clips"
        )
    numbers = shares_of(int(clear.sum()) if size is None else size, class_sizes)
    candidates = clear if group == "clear" else np.ones(len(usable), dtype=bool)
    times = np.zeros(len(usable), dtype=np.int64)
    for emotion, number in enumerate(numbers):
        rows = np.flatnonzero(candidates & (classes == emotion))
        if number:
            times[rows] = number // len(rows)
            generator = np.random.default_rng([seed, emotion])
            times[generator.choice(rows, size=number % len(rows), replace=False)] += 1
    return usable.iloc[np.repeat(np.arange(len(usable)), times)].reset_index(drop=True)


def without_clear_clips(clips: pd.DataFrame, clear_above: float) -> list[str]:
    """The classes that have clips with a single label, but none of them with votes and clear; in the table's order."""
    labelled = clips[clips["label"].notna()]
    voted = labelled[labelled["votes"].notna()]
    clear = set(voted["label"][_are_clear(voted, clear_above)]) if len(voted) else set()
    return [classes_of(clips)[label] for label in sorted(set(labelled["label"]) - clear)]


def _are_clear(clips: pd.DataFrame, clear_above: float) -> npt.NDArray[np.bool_]:
    """Whether the largest soft label of clips with votes is above `clear_above`, bool[N]."""
    clear: npt.NDArray[np.bool_] = soft_labels(clips["votes"].tolist()).max(axis=1) > clear_above
    return clear


def shares_of(total: int, weights: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Divide `total` in the proportions of `weights` (not negative, not all zero) by the largest remainder.

    Returns whole numbers that sum to `total`. Of equal remainders the first wins; a weight of 0 gets nothing.
    """
    parts = np.asarray(weights, dtype=np.int64)
    quotient, remainder = np.divmod(parts * total, parts.sum())
    left = total - int(quotient.sum())
    quotient[np.argsort(-remainder, kind="stable")[:left]] += 1
    return quotient
