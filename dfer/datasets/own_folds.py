"""Folds for clips that come without any: groups of clips are kept together, classes spread evenly."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfer.datasets.table import NUM_FOLDS

SEED = 0

_MOST_ATTEMPTS, _MOST_NAMES = 200, 200_000
_UNEVEN = (0.2, 0.4, 0.8, 1.6)


def made_folds(groups: Sequence[str], labels: Sequence[str | None], *, seed: int = SEED) -> list[int]:
    """The fold of each clip, from 1 to 5 (or to the number of groups, if there are fewer).

    A group is never split. Groups whose clips all have the same class are ordered class by class, all others among
    themselves, by a hash of their name, and each order is cut into parts of equal length (that differ by at most one
    group). The order of the clips plays no part, a clip more in a group usually moves none, and a group more at most
    one at each cut: with a clip a group four of its class, and none of another class. Where classes are uneven because
    groups have several, the seed is changed until they are not: the first of up to 200 orders counts that leaves the
    classes about as even as the best, which again is nearly always the same with a clip more.

    Args:
        groups: a name for each clip, such as that of its person; equal names are kept together.
        labels: the class of each clip, None without a single one.

    Raises ValueError for fewer than two groups.
    """
    names, of_clip = np.unique(np.array(groups, dtype=object), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"expected two groups or more, found {len(names)}")
    classes = sorted({label or "" for label in labels})
    place = {name: column for column, name in enumerate(classes)}
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (of_clip, np.array([place[label or ""] for label in labels])), 1)
    strata: dict[str | None, list[int]] = defaultdict(list)
    for group, row in enumerate(counts):
        shown = np.flatnonzero(row)
        strata[classes[shown[0]] if len(shown) == 1 else None].append(group)
    number = min(NUM_FOLDS, len(names))
    attempts = max(1, min(_MOST_ATTEMPTS, _MOST_NAMES // len(names)))
    tried: list[tuple[float, npt.NDArray[np.int64]]] = []
    for attempt in range(attempts):
        folds = _dealt(names.tolist(), strata, number, f"{seed}:{attempt}")
        tried.append((_unevenness(folds, counts, number), folds))
        if tried[-1][0] <= _UNEVEN[0]:
            break
    best = min(uneven for uneven, _ in tried)
    enough = next((limit for limit in _UNEVEN if best <= limit), best)
    chosen = next(folds for uneven, folds in tried if uneven <= enough)
    return (chosen[of_clip] + 1).tolist()


def _dealt(names: Sequence[str], strata: dict[str | None, list[int]], number: int, salt: str) -> npt.NDArray[np.int64]:
    """Group -> fold from 0, by the groups' names and strata alone."""
    folds = np.zeros(len(names), dtype=np.int64)
    for stratum, members in strata.items():
        ordered = sorted(members, key=lambda group: _hash(f"{salt}:{names[group]}"))
        # so that the longer parts of all strata, and strata of a group or two, are not all in the first fold
        first = _hash(f"{salt}:{'mixed' if stratum is None else 'class'}:{stratum}") % number
        folds[ordered] = (np.arange(len(ordered)) * number // len(ordered) + first) % number
    return folds


def _unevenness(folds: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], number: int) -> float:
    """By what share of itself a class has more or fewer clips in a fold than in the mean, but for a clip."""
    in_folds = np.zeros((number, counts.shape[1]), dtype=np.int64)
    np.add.at(in_folds, folds, counts)
    if (in_folds.sum(axis=1) == 0).any():
        return float("inf")
    mean = counts.sum(axis=0) / number
    return float(np.max(np.maximum(np.abs(in_folds - mean) - 1, 0) / np.maximum(mean, 1)))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
