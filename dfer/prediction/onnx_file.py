"""The file of a model in ONNX: what it takes and gives, and its card, which is among its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfer.storage.cards import SavedModelError, read_card

FRAMES = "frames"
"""The input, uint8[batch, T, S, S, 3] RGB: aligned faces as they are, T and S as in the card."""

LOGITS, PROBABILITIES = "logits", "probabilities"
"""The outputs, float32[batch, K]: of the network, and as read out. Classes are in the order of the card."""

METADATA = "dfer.card"
"""The key of the card (JSON) in the metadata."""


def card_of(path: Path) -> dict[str, Any]:
    """The card in a file. Raises SavedModelError if it has none, or cannot be read."""
    import onnx  # not needed for a model in a folder

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors differ between its implementations
        raise SavedModelError(f"{path} cannot be read as an ONNX model: {error}; export it again") from error
    cards = [entry.value for entry in model.metadata_props if entry.key == METADATA]
    if not cards:
        raise SavedModelError(
            f"{path} has no card ({METADATA}) in its metadata, so nobody knows how its faces are made: expected a file "
            "that dfer export wrote"
        )
    return read_card(cards[0], path, path)
