"""M3DFEL (Wang et al. 2023): a clip as a bag of short instances, of which some show the expression."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast
from dfer.models.r3d import R3D18Trunk
from dfer.models.resnet import initialize_convolutions

INSTANCES = 4
"""Instances of a bag, M: neighbouring frames, as many in each."""
HEADS = 8


class DynamicNormalization(nn.Module):
    """Dynamic multi-instance normalisation (DMIN): float[B, M, D] -> float[B, M, D], for M of 2 or more.

    Each feature is normalised by a mean and a variance that are blends of two: of this feature over the instances, and
    of all features of the bag. The blends are learned, two numbers each that pass a softmax; both start even. The
    variance over the instances is the unbiased one, and the bag's is computed from it, as in the authors' public code.
    A learned scale and shift of each feature follow.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.mean_blend = nn.Parameter(torch.ones(2))
        self.variance_blend = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True)
        bag_mean = mean.mean(dim=2, keepdim=True)
        bag_variance = (variance + mean.square()).mean(dim=2, keepdim=True) - bag_mean.square()
        of_feature, of_bag = self.mean_blend.softmax(dim=0)
        mean = of_feature * mean + of_bag * bag_mean
        of_feature, of_bag = self.variance_blend.softmax(dim=0)
        variance = of_feature * variance + of_bag * bag_variance
        return (x - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias


class M3DFEL(nn.Module):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K].

    Wang et al., Rethinking the Learning Paradigm for Dynamic Facial Expression Recognition, CVPR 2023. The clip is cut
    into four instances of T/4 frames. torchvision's `r3d_18` makes a feature of each, a bidirectional LSTM of two
    layers looks along them, and self-attention over them (8 heads, without projection or shortcut), normalised by
    `DynamicNormalization`, gives each state of the LSTM a weight between 0 and 1. A convolution, for which instances
    are channels and a bag's features a row, makes one feature of the four.

    The trunk's parameters are torchvision's with `trunk.` in front, so that weight files of `r3d_18` fit.
    """

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        """ValueError if `num_segments` is no multiple of 4."""
        super().__init__()
        if num_segments % INSTANCES:
            raise ValueError(
                f"m3dfel cuts a clip into {INSTANCES} parts of as many frames, found {num_segments} frames: set "
                f"sampling.num_segments to a multiple of {INSTANCES}, or to 0 for its own 16"
            )
        self.num_segments = num_segments
        self.trunk = R3D18Trunk(width)
        hidden = self.trunk.num_features
        self.lstm = nn.LSTM(hidden, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.qkv = nn.Linear(2 * hidden, 3 * 2 * hidden, bias=False)
        self.normalization = DynamicNormalization(2 * hidden)
        self.bag = nn.Conv1d(INSTANCES, 1, kernel_size=3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the bag; in float32 from the LSTM on."""
        check_clips(clips, self.num_segments)
        features = self.trunk.clip_features(clips.unflatten(1, (INSTANCES, -1)).flatten(0, 1))
        with without_autocast(clips.device):
            states, _ = self.lstm(features.unflatten(0, (-1, INSTANCES)).to(self.fc.weight.dtype))
            gates = self.normalization(self._attention(states)).sigmoid()
            logits: Tensor = self.fc(self.dropout(self.bag(states * gates).squeeze(1)))
        return logits

    def _attention(self, states: Tensor) -> Tensor:
        queries, keys, values = self.qkv(states).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
