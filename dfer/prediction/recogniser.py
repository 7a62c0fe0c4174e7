"""A trained network with its weights: from aligned faces to probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfer import read_out
from dfer.prediction.models import TrainedModel

if TYPE_CHECKING:
    from dfer.prediction.onnx_network import OnnxNetwork
    from dfer.prediction.torch_network import TorchNetwork

BATCH = 16
"""Views that the network is shown at a time, at most."""

_PIXELS = 2**19
"""Of a batch on a CPU: what a network makes of more leaves the caches, which takes longer than one view at a time."""


class Recogniser:
    """The network of a model on a device. Raises SavedModelError if its weights cannot be used."""

    def __init__(self, model: TrainedModel, *, device: str = "auto", threads: int = 0) -> None:
        """`threads` of the CPU; 0 leaves the number to the library that runs the network."""
        self.model = model
        self._network = _network(model, device, threads)

    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        """As read out, float64[B, K], of aligned faces uint8[B, T, H, W, 3] RGB: whole, resized and normalised as the
        evaluations of the training do."""
        return read_out.probabilities(self._network.logits(faces), self.model.card)

    @property
    def _batch(self) -> int:
        if self._network.on_gpu:
            return BATCH
        card = self.model.card
        pixels = card["num_segments"] * card.get("consecutive", 1) * card["input_size"] ** 2
        return min(BATCH, max(1, _PIXELS // pixels))

    def of_all(
        self, cut_out: Iterable[tuple[int, NDArray[np.uint8]]]
    ) -> Iterator[list[tuple[int, NDArray[np.uint8], NDArray[np.float64]]]]:
        """Of each view its number, its faces uint8[T, S, S, 3] and its probabilities float64[K], a batch at a time."""
        views = iter(cut_out)
        while batch := list(islice(views, self._batch)):
            numbers, faces = zip(*batch, strict=True)
            yield list(zip(numbers, faces, self.probabilities(np.stack(faces)), strict=True))


def _network(model: TrainedModel, device: str, threads: int) -> TorchNetwork | OnnxNetwork:
    """Only the library that the network needs is loaded."""
    if model.onnx is None:
        from dfer.prediction.torch_network import TorchNetwork

        # aligned faces are not the same in two windows
        as_it_is = model.faces.alignment.transform == "none"
        return TorchNetwork(model.folder, model.card, device=device, threads=threads, frames_are_shared=as_it_is)
    from dfer.prediction.onnx_network import OnnxNetwork

    return OnnxNetwork(model.onnx, model.card, device=device, threads=threads)
