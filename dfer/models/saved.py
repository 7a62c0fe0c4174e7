"""A trained network on disk: `model.safetensors` (weights) and `model.json` (the card, which says how to use them)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dfer.config.experiments import Weights
from dfer.models import build
from dfer.storage.cards import SavedModelError, load_card
from dfer.storage.file_names import CARD, WEIGHTS
from dfer.storage.files import write_atomically

__all__ = ["BEST_ON_TEST_FOLD", "SavedModelError", "load_card", "load_model", "load_state", "save_model"]

BEST_ON_TEST_FOLD = "best_on_test_fold.safetensors"


def save_model(
    folder: Path,
    state: Mapping[str, Tensor],
    card: Mapping[str, Any],
    best_on_test_fold: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights and card into an existing folder; each file is complete or missing.

    Args:
        card: holds at least `model` (name for `build`), `classes` (names in the order of the logits), `num_segments`,
            `width`, `dropout`, `input_size` and `normalization` (`mean`, `std`); the weights' checksum is added to it.
        best_on_test_fold: other weights of the same network, written beside them; none if empty.
    """
    sums = {"weights_sha256": _write_weights(folder / WEIGHTS, state)}
    if best_on_test_fold:
        sums["best_on_test_fold_sha256"] = _write_weights(folder / BEST_ON_TEST_FOLD, best_on_test_fold)
    write_atomically(folder / CARD, json.dumps({**card, **sums}, indent=2, allow_nan=False).encode())


def _write_weights(path: Path, state: Mapping[str, Tensor]) -> str:
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
    write_atomically(path, weights)
    return hashlib.sha256(weights).hexdigest()


def load_model(folder: Path, weights: Weights = "chosen") -> tuple[nn.Module, dict[str, Any]]:
    """The network (on the CPU, in evaluation mode) and its card, from the folder of a finished training.

    `weights` are those of the epoch that the training chose, or of the best one on the test fold.
    Raises SavedModelError if a file is missing or damaged, or the two do not belong together.
    """
    state, card = load_state(folder, weights)
    try:
        model = build(
            card["model"],
            num_classes=len(card["classes"]),
            num_segments=card["num_segments"],
            width=card["width"],
            dropout=card["dropout"],
            method=card.get("method", "none"),
        )
        model.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise SavedModelError(f"{folder}: the weights do not fit the network of {CARD}: {error}") from error
    return model.eval(), card


def load_state(folder: Path, weights: Weights = "chosen") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights alone, by their names in the network, and the card; arguments and errors as for `load_model`."""
    card = load_card(folder)
    file, checksum = {
        "chosen": (WEIGHTS, "weights_sha256"),
        "best on the test fold": (BEST_ON_TEST_FOLD, "best_on_test_fold_sha256"),
    }[weights]
    if checksum not in card:
        raise SavedModelError(f"{folder}: the training did not look at its test fold; set train.monitor_every to 1")
    path = folder / file
    try:
        stored = path.read_bytes()
        state = load(stored)
    except (OSError, SafetensorError) as error:
        raise SavedModelError(f"{path} cannot be read: {error}; train again or copy the folder anew") from error
    if hashlib.sha256(stored).hexdigest() != card[checksum]:
        raise SavedModelError(f"{path} is not the file that {CARD} was written with; copy both anew, or train again")
    return state, card
