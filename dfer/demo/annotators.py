"""Simulates ten annotators, who see mixed emotions and confuse them as people do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dfer.labels import EMOTIONS

ANNOTATORS: Final = 10

MAJORITY: Final = 5
"""Votes needed for a single label.

DFEW requires more than six, which would remove most ambiguous clips, the use case of soft labels, from the demo's
folds. With half of the annotators, some clips still have no single label.
"""

# Rows: acted emotion; columns: perceived emotion. After section 5.4: neutral coexists with everything, happy
# with little else, angry with disgust, and sad, surprise and fear with one another.
_CONFUSION: Final = np.array(
    [
        # happy  sad  neutral angry surprise disgust fear
        [0.905, 0.005, 0.065, 0.000, 0.020, 0.005, 0.000],
        [0.005, 0.800, 0.110, 0.015, 0.020, 0.010, 0.040],
        [0.025, 0.055, 0.855, 0.030, 0.015, 0.010, 0.010],
        [0.000, 0.015, 0.075, 0.810, 0.010, 0.075, 0.015],
        [0.020, 0.015, 0.070, 0.005, 0.795, 0.005, 0.090],
        [0.000, 0.030, 0.080, 0.115, 0.005, 0.765, 0.005],
        [0.000, 0.070, 0.050, 0.010, 0.105, 0.005, 0.760],
    ]
)


def draw_votes(intensities: Sequence[float], generator: np.random.Generator) -> tuple[int, ...]:
    """Draw the votes on a clip, seven counts with sum 10, from its seven intensities in the order of EMOTIONS."""
    perceived = np.asarray(intensities, np.float64) @ _CONFUSION
    return tuple(int(count) for count in generator.multinomial(ANNOTATORS, perceived / perceived.sum()))


def single_label(votes: Sequence[int]) -> int | None:
    """Index (0..6) of the emotion with at least MAJORITY votes and more than any other, or None."""
    top = max(votes)
    return votes.index(top) if top >= MAJORITY and votes.count(top) == 1 else None


assert _CONFUSION.shape == (len(EMOTIONS), len(EMOTIONS))
