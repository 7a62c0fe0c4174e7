"""A distribution over classes in words: what people would see, and whether they would agree on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfer.certainty import COVERED, Certainty, disagreement, named

ABSTAINED = "no answer: too uncertain"
_MOST_NAMED = 3
_LISTED = 2  # without thresholds


def in_words(probabilities: NDArray[np.float64], classes: Sequence[str], certainty: Certainty | None) -> str:
    """A sentence about one distribution float[K]: 'probably sad (0.46) or fear (0.31): people would disagree'.

    The named classes are those that cover four in five of people's answers, and the second part is there where the
    model's probabilities were found to tell who disagrees (`dfer.certainty`). Without thresholds the two largest
    probabilities are listed, and nothing is said about people.
    """
    if certainty is None:
        order = np.argsort(-probabilities, kind="stable")[:_LISTED]
        return ", ".join(_with_number(probabilities, classes, int(k)) for k in order)
    chosen = named(probabilities, certainty.named_mass)
    if len(chosen) > _MOST_NAMED and probabilities[chosen[0]] >= 0.5:
        what = f"probably {_with_number(probabilities, classes, chosen[0])}, or one of several others"
    elif len(chosen) > _MOST_NAMED:
        some = ", ".join(_with_number(probabilities, classes, k) for k in chosen[:_MOST_NAMED])
        what = f"no expression stands out: {some} and {len(chosen) - _MOST_NAMED} more"
    else:
        sure = "" if len(chosen) == 1 else "probably "
        *others, last = (_with_number(probabilities, classes, k) for k in chosen)
        what = sure + (f"{', '.join(others)} or {last}" if others else last)
    if certainty.disagree_above is None:
        return what
    return f"{what}: people would {'disagree' if disagreement(probabilities) > certainty.disagree_above else 'agree'}"


def about(certainty: Certainty | None) -> str:
    """Where the words' thresholds come from, in a sentence for every output."""
    if certainty is None:
        return (
            "No thresholds for words: neither an inner validation part nor out-of-fold predictions of this model were "
            "found, so the two largest probabilities are listed, and nothing is said about people."
        )
    measured = f"measured on {certainty.clips} clips ({certainty.measured_on})"
    covers = f"The classes named cover {COVERED:.0%} of people's answers, as {measured}"
    if certainty.disagree_above is None:
        silent = "The model's probabilities do not show when people would disagree, so nothing is said about that."
        return f"{covers}. {silent}"
    return (
        f"{covers}. Where people would disagree was found by a threshold that marks {certainty.hits:.0%} of the clips "
        f"on which annotators rather differ than agree, and {certainty.false_alarms:.0%} of the others."
    )


def _with_number(probabilities: NDArray[np.float64], classes: Sequence[str], k: int) -> str:
    return f"{classes[k]} ({probabilities[k]:.2f})"
