"""What a network sees in the frames that overlapping windows share, computed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from dfer.models.clips import FrameByFrame

_TOGETHER = 4
"""Frames that the network is shown at a time: those which a window has and the one before has not, if it begins a
quarter of its length later and the network sees sixteen."""

_KEPT = 2048
"""Frames whose features are kept, at most: 16 MiB for features of 2048 numbers."""


class SharedFrames:
    """Logits of clips from a network that looks at each frame alone first.

    Frames are known by their pixels, so that it also counts where a clip has a frame twice. Windows share frames where
    the faces are whole pictures (`alignment.transform: none`); otherwise each window is aligned as a clip of its own.

    Results are those of the network itself but for rounding: a frame's last bits depend on how many others are in its
    batch. So frames are looked at by as many at a time always, and whatever was kept before, a clip's logits are the
    same: also in a prediction that goes on after a kill.
    """

    def __init__(self, network: FrameByFrame) -> None:
        self._network = network
        self._features: OrderedDict[bytes, Tensor] = OrderedDict()

    def logits(self, frames: Tensor, to_float: Callable[[Tensor], Tensor]) -> Tensor:
        """float32[B, K] of frames uint8[B, T, 3, S, S], of which `to_float` makes what the network is shown."""
        flat = frames.flatten(0, 1)
        keys = [hashlib.blake2b(frame.numpy(), digest_size=16).digest() for frame in flat]
        new = {key: place for place, key in enumerate(keys) if key not in self._features}
        missing = list(new.items())
        for first in range(0, len(missing), _TOGETHER):
            part = missing[first : first + _TOGETHER]
            places = [place for _, place in part]
            filled = [*places, *[places[-1]] * (_TOGETHER - len(places))]
            features = self._network.frame_features(to_float(flat[filled]))
            self._features.update((key, features[row]) for row, (key, _) in enumerate(part))
        for key in keys:
            self._features.move_to_end(key)
        clips = torch.stack([self._features[key] for key in keys]).unflatten(0, frames.shape[:2])
        while len(self._features) > _KEPT:
            self._features.popitem(last=False)
        return self._network.clip_logits(clips)
