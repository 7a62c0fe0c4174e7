"""The colours of classes in timelines and on annotated videos."""

from __future__ import annotations

from collections.abc import Sequence

# one for each of the usual classes, whatever their order; others take what is left, and then again from the first
_KNOWN = {
    "happy": "#e3a008",
    "sad": "#2f6db3",
    "neutral": "#b4bcc6",
    "angry": "#c2544d",
    "surprise": "#2aa198",
    "disgust": "#3a8f6b",
    "fear": "#7c5cbf",
}
_OTHERS = ("#d9730d", "#8a5a44", "#c06c9e", "#5b8c2a", "#4b5563", "#0e7c86", "#9c8b1e")


def of_classes(classes: Sequence[str]) -> list[str]:
    """A colour as #rrggbb for each class."""
    colours = [_KNOWN.get(name) for name in classes]
    free = [colour for colour in (*_OTHERS, *_KNOWN.values()) if colour not in colours] or list(_OTHERS)
    unknown = iter(range(len(classes)))
    return [colour or free[next(unknown) % len(free)] for colour in colours]


def as_bgr(colour: str) -> tuple[int, int, int]:
    """#rrggbb as OpenCV takes it."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return blue, green, red
