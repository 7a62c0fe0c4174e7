"""A trained network in torch, with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfer.models import channels_last
from dfer.models.clips import is_frame_by_frame
from dfer.models.saved import load_model
from dfer.prediction.frame_features import SharedFrames
from dfer.storage.cards import SavedModelError
from dfer.training.inference import predict_logits
from dfer.training.optimization import choose_device, torch_state
from dfer.training.transforms import full_view, to_float


class TorchNetwork:
    """The network of a model's folder on a device. Raises SavedModelError if its weights cannot be used."""

    def __init__(
        self, folder: Path, card: dict[str, Any], *, device: str, threads: int, frames_are_shared: bool = False
    ) -> None:
        """`threads` of the CPU; 0 leaves torch's number. `frames_are_shared`: whether the same frame comes in several
        clips, so that a network which looks at each frame alone had better keep what it saw."""
        network, its_card = load_model(folder)
        if its_card["weights_sha256"] != card["weights_sha256"]:
            raise SavedModelError(f"{folder} was written anew meanwhile: start again")
        self._card, self._device, self._threads = card, choose_device(device), threads
        self._network = channels_last(network).to(self._device)
        self._shared = SharedFrames(network) if frames_are_shared and is_frame_by_frame(network) else None

    @property
    def on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def logits(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        """float64[B, K], of aligned faces uint8[B, T, H, W, 3] RGB: whole, resized and normalised as the evaluations of
        the training do."""
        card, size = self._card, self._card["input_size"]
        clips = torch.from_numpy(faces).permute(0, 1, 4, 2, 3)
        frames = full_view(clips.flatten(0, 1), size).unflatten(0, clips.shape[:2]).contiguous()
        deterministic = card.get("settings", {}).get("train", {}).get("deterministic", False)
        mean, std = card["normalization"]["mean"], card["normalization"]["std"]
        with torch_state(self._threads, self._device, tf32=card.get("tf32", False), deterministic=deterministic):
            if self._shared is not None:
                with torch.inference_mode():
                    logits = self._shared.logits(frames, lambda new: to_float(new.to(self._device), mean, std))
                return logits.cpu().numpy().astype(np.float64)
            batch = [(frames, torch.arange(len(frames)))]
            return predict_logits(self._network, batch, mean=mean, std=std, device=self._device)
