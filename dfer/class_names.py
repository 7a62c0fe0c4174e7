"""The names of classes: the usual seven emotions, their spellings, and which classes a table is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

EMOTIONS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""The classes of a pipeline that names no others, in DFEW's own order.

Labels are places in a pipeline's classes, votes and probabilities are in their order.
"""

CLASSES = "classes"
"""Key of a table's `attrs`, and of its file's metadata; a table without it has the usual classes."""

# Nouns, adjectives and three-letter codes as the data sets write them in folder, column and file names.
_SPELLINGS = {
    "happy": ("happiness", "joy", "hap"),
    "sad": ("sadness",),
    "neutral": ("neutrality", "neu"),
    "angry": ("anger", "ang"),
    "surprise": ("surprised", "sur"),
    "disgust": ("disgusted", "dis"),
    "fear": ("fearful", "fea"),
}
_INDEX = {spelling: index for index, name in enumerate(EMOTIONS) for spelling in (name, *_SPELLINGS[name])}


def emotion_index(name: str) -> int:
    """The index in `EMOTIONS` of an emotion in any of the data sets' spellings, whatever their case and outer blanks.

    Raises ValueError for an unknown spelling.
    """
    try:
        return _INDEX[name.strip().casefold()]
    except KeyError:
        raise ValueError(f"unknown emotion {name!r}; known are {', '.join(_INDEX)}") from None


def class_name(name: str) -> str:
    """The one spelling of a class: of an emotion in any of the data sets' spellings ("Happiness" -> "happy"), of any
    other name the name without outer blanks, in small letters."""
    plain = name.strip().casefold()
    return EMOTIONS[_INDEX[plain]] if plain in _INDEX else plain


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The classes whose order the labels, votes and probabilities of a clip or prediction table are in."""
    return tuple(table.attrs.get(CLASSES, EMOTIONS))
