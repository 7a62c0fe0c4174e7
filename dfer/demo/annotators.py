"""Ten annotators who see mixed emotions and confuse what people confuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dfer.labels import EMOTIONS

ANNOTATORS: Final = 10

MAJORITY: Final = 5
"""Votes that make a single label.

DFEW asks for more than six. At that bar the demo would lose most of its ambiguous clips from the folds, and with them
what soft labels are about; at half of the annotators, some clips still have none.
"""

# Rows: what is shown; columns: what is seen. After the paper's section 5.4: neutral coexists with everything, happy
# with little else, angry with disgust, and sad, surprise and fear with one another.
_CONFUSION: Final = np.array(
    [
        # happy  sad  neutral angry surprise disgust fear
        [0.900, 0.005, 0.070, 0.000, 0.020, 0.005, 0.000],
        [0.005, 0.780, 0.120, 0.020, 0.025, 0.010, 0.040],
        [0.025, 0.060, 0.840, 0.035, 0.020, 0.010, 0.010],
        [0.000, 0.020, 0.080, 0.790, 0.015, 0.080, 0.015],
        [0.025, 0.015, 0.075, 0.010, 0.770, 0.005, 0.100],
        [0.005, 0.040, 0.090, 0.130, 0.010, 0.720, 0.005],
        [0.000, 0.080, 0.050, 0.015, 0.125, 0.010, 0.720],
    ]
)


def draw_votes(intensities: Sequence[float], generator: np.random.Generator) -> tuple[int, ...]:
    """Votes of ten annotators for a clip of the given intensities (seven, order of EMOTIONS): seven counts, sum 10."""
    seen = np.asarray(intensities, np.float64) @ _CONFUSION
    return tuple(int(count) for count in generator.multinomial(ANNOTATORS, seen / seen.sum()))


def single_label(votes: Sequence[int]) -> int | None:
    """Index (0..6) of the emotion with at least MAJORITY votes and more than any other, or None."""
    top = max(votes)
    return votes.index(top) if top >= MAJORITY and votes.count(top) == 1 else None


assert _CONFUSION.shape == (len(EMOTIONS), len(EMOTIONS))
