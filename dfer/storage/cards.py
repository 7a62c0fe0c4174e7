"""The card of a trained model, `model.json`: how to use its weights. Reading it needs no network, and no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dfer.storage.file_names import CARD

_NEEDED = frozenset(
    ("model", "classes", "num_segments", "width", "dropout", "input_size", "normalization", "weights_sha256")
)


class SavedModelError(Exception):
    """A saved model is incomplete, damaged, or does not fit together."""


def load_card(folder: Path) -> dict[str, Any]:
    """The card alone. Raises SavedModelError when it is missing or unreadable."""
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path, folder, error) from error
    return read_card(text, path, folder)


def read_card(text: str, path: Path, source: Path) -> dict[str, Any]:
    """A card from its text, which `path` holds; `source` is what claims to be a model.

    Raises SavedModelError if it is no card.
    """
    try:
        card = json.loads(text)
    except ValueError as error:
        raise _unreadable(path, source, error) from error
    if not isinstance(card, dict) or _NEEDED - card.keys():
        raise SavedModelError(f"{path} lacks {', '.join(sorted(_NEEDED - set(card)))}: no card of a trained model")
    return card


def _unreadable(path: Path, source: Path, error: Exception) -> SavedModelError:
    return SavedModelError(f"{path} cannot be read: {error}; is {source} the folder of a finished training?")
