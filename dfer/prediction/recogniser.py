"""A trained network with its weights: from aligned faces to probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from dfer import read_out
from dfer.models.saved import SavedModelError, load_model
from dfer.prediction.models import TrainedModel
from dfer.training.inference import predict_logits
from dfer.training.optimization import choose_device, torch_state
from dfer.training.transforms import full_view

BATCH = 16
"""Views that the network is shown at a time."""


class Recogniser:
    """The network of a model on a device. Raises SavedModelError if its weights cannot be used."""

    def __init__(self, model: TrainedModel, *, device: str = "auto", threads: int = 0) -> None:
        """`threads` of the CPU; 0 leaves torch's number."""
        network, card = load_model(model.folder)
        if card["weights_sha256"] != model.card["weights_sha256"]:
            raise SavedModelError(f"{model.folder} was written anew meanwhile: start again")
        self.model, self._device, self._threads = model, choose_device(device), threads
        self._network = network.to(self._device)

    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        """As read out, float64[B, K], of aligned faces uint8[B, T, H, W, 3] RGB: whole, resized and normalised as the
        evaluations of the training do."""
        card, size = self.model.card, self.model.card["input_size"]
        clips = torch.from_numpy(faces).permute(0, 1, 4, 2, 3)
        frames = full_view(clips.flatten(0, 1), size).unflatten(0, clips.shape[:2]).contiguous()
        deterministic = card.get("settings", {}).get("train", {}).get("deterministic", False)
        with torch_state(self._threads, self._device, tf32=card.get("tf32", False), deterministic=deterministic):
            logits = predict_logits(
                self._network,
                [(frames, torch.arange(len(frames)))],
                mean=card["normalization"]["mean"],
                std=card["normalization"]["std"],
                device=self._device,
            )
        return read_out.probabilities(logits, card)

    def of_all(
        self, cut_out: Iterable[tuple[int, NDArray[np.uint8]]]
    ) -> Iterator[list[tuple[int, NDArray[np.uint8], NDArray[np.float64]]]]:
        """Of each view its number, its faces uint8[T, S, S, 3] and its probabilities float64[K], a batch at a time."""
        views = iter(cut_out)
        while batch := list(islice(views, BATCH)):
            numbers, faces = zip(*batch, strict=True)
            yield list(zip(numbers, faces, self.probabilities(np.stack(faces)), strict=True))
