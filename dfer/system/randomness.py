"""Independent random streams, each derived from the seed and from what it is for.

Nothing depends on how many numbers were drawn before: a training that goes on from a checkpoint, or that reads its
clips in other processes, draws the same numbers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal["weights", "order", "clip", "network", "mixing", "split", "shuffle", "votes"]
_KEYS: dict[Purpose, int] = {
    "weights": 0,
    "order": 1,
    "clip": 2,
    "network": 3,
    "mixing": 4,
    "split": 5,
    "shuffle": 6,
    "votes": 7,
}


def stream(seed: int, purpose: Purpose, epoch: int = 0, clip: int = 0) -> np.random.Generator:
    """A separate NumPy generator for every (seed, purpose, epoch, clip)."""
    return np.random.default_rng(_sequence(seed, purpose, epoch, clip))


def torch_seed(seed: int, purpose: Purpose, epoch: int = 0, rank: int = 0) -> int:
    """The same for every (seed, purpose, epoch, rank) as one int in [0, 2^63), for torch's generators."""
    return int(_sequence(seed, purpose, epoch, rank).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _sequence(seed: int, purpose: Purpose, epoch: int, number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(_KEYS[purpose], epoch, number))
