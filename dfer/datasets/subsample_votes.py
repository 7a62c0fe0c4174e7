"""Simulates fewer annotators: draws some of each clip's votes at random."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def subsample_votes(votes: Sequence[Sequence[int]], k: int, *, clip_ids: Sequence[str], seed: int) -> list[list[int]]:
    """Draw `k` of each clip's votes (seven counts) without replacement.

    Returns seven counts per clip that add up to `k`, none above the count of the clip. They depend on the clip's id,
    its votes, `k` and `seed`, not on the other clips.
    Raises ValueError if `k` is below one, a clip has fewer than `k` votes, or the numbers of clips and ids differ.
    """
    if k < 1:
        raise ValueError(f"k: expected at least one vote per clip, found {k}")
    short = [(clip_id, sum(counts)) for clip_id, counts in zip(clip_ids, votes, strict=True) if sum(counts) < k]
    if short:
        raise ValueError(f"{len(short)} clips have fewer than {k} votes, first {short[0][0]!r} with {short[0][1]}")
    return [
        _generator(clip_id, seed).multivariate_hypergeometric(list(counts), k).tolist()
        for clip_id, counts in zip(clip_ids, votes, strict=True)
    ]


def _generator(clip_id: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(clip_id.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16])])
