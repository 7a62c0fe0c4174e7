"""The clear and the mixed expression group of section 5.5: selections of clips that any arm can be trained on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfer.labels import EMOTIONS, soft_labels
from dfer.system.natural_order import natural_key


def expression_group(
    clips: pd.DataFrame,
    group: Literal["clear", "mixed"],
    *,
    clear_above: float = 0.9,
    size: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One of the two groups: equally large, and each with the class distribution of the single labels of `clips`.

    Candidates are the clips with a single label and votes: for "mixed" all of them, for "clear" those whose largest
    soft label is above `clear_above`. A class that has too many candidates is sampled down without replacement; one
    that has too few is sampled up, every candidate being there equally often, and some of them, drawn without
    replacement, once more.

    Args:
        clips: rows of a clip table, such as the training part of a fold.
        group: which one.
        clear_above: a share of the votes; the paper's is 0.9, so that with ten votes all must agree.
        size: clips of the group, repeated ones counted; None takes the number of clear candidates, for both groups.
        seed: of the sampling. The result depends on it and on the clips, not on their order.

    Returns:
        Rows of `clips` in natural order of their ids; a clip that was sampled up is there several times.

    Raises:
        ValueError: a class has labelled clips but no clear candidate (for either group: they are to be compared), or
            `size` is below one.
    """
    if size is not None and size < 1:
        raise ValueError(f"size: expected at least one clip, found {size}")
    labels = clips.loc[clips["label"].notna(), "label"].to_numpy("int64")
    usable = clips[clips["label"].notna() & clips["votes"].notna()]
    if usable.empty:
        raise ValueError("no clip has both a single label and votes: there are no expression groups to choose")
    usable = usable.sort_values("clip_id", key=lambda ids: ids.map(natural_key))
    classes = usable["label"].to_numpy("int64")
    clear = soft_labels(usable["votes"].tolist()).max(axis=1) > clear_above
    wanted = np.bincount(labels, minlength=len(EMOTIONS))
    lacking = (wanted > 0) & (np.bincount(classes[clear], minlength=len(EMOTIONS)) == 0)
    if lacking.any():
        names = ", ".join(EMOTIONS[place] for place in np.flatnonzero(lacking))
        raise ValueError(
            f"no clip of {names} has a largest soft label above {clear_above}: the clear group cannot have the class "
            "distribution of all clips; lower the threshold"
        )
    numbers = shares_of(int(clear.sum()) if size is None else size, wanted)
    candidates = clear if group == "clear" else np.ones(len(usable), dtype=bool)
    times = np.zeros(len(usable), dtype=np.int64)
    for emotion, number in enumerate(numbers):
        places = np.flatnonzero(candidates & (classes == emotion))
        if number:
            times[places] = number // len(places)
            generator = np.random.default_rng([seed, emotion])
            times[generator.choice(places, size=number % len(places), replace=False)] += 1
    return usable.iloc[np.repeat(np.arange(len(usable)), times)].reset_index(drop=True)


def shares_of(total: int, weights: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """`total` divided in the proportions of `weights` by the largest remainder; whole numbers with exactly that sum.

    `weights`: not negative, not all zero. Of equal remainders the first is served first; a weight of 0 gets nothing.
    """
    parts = np.asarray(weights, dtype=np.int64)
    quotient, remainder = np.divmod(parts * total, parts.sum())
    left = total - int(quotient.sum())
    quotient[np.argsort(-remainder, kind="stable")[:left]] += 1
    return quotient
