"""GCA (Li et al. 2023): blocks with global convolution-attention, and what moves beside what stays."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

from dfer.models.clips import check_clips, check_side
from dfer.models.precision import without_autocast
from dfer.models.resnet import initialize_convolutions, stem_channels
from dfer.models.transformer import TransformerBlock

HEADS = 4
SIDE = 112
SIDES = (14, 7, 4)
"""Sides of the feature maps behind `layer2`, `layer3` and `layer4`."""


class GCABlock(nn.Module):
    """A ResNet's basic block whose channels are weighed by what they see of the whole frame and the whole clip.

    Halves the side of the map to `side`. With u the map in front of the sum, g = its global convolution (depthwise,
    as large as the map: one number a channel) and s = 2 sigmoid(W2 relu(W1 g)), a frame t weighs its channels by
    sqrt(s_t mean_t(s) + 1e-5).
    """

    def __init__(self, channels_in: int, channels: int, side: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels_in, channels, stride=2)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _halved(channels_in, channels)
        self.global_convolution = nn.Conv2d(channels, channels, kernel_size=side, groups=channels, bias=False)
        reduced = max(4, channels // 16)  # 8 and 16 at width 1; of a single unit a ReLU may leave nothing
        self.squeeze = conv1x1(channels, reduced)
        self.expand = conv1x1(reduced, channels)

    def forward(self, frames: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
        """Maps [B * T, channels_in, 2 * side, 2 * side] -> maps [B * T, channels, side, side] and the mean over time
        of their global convolutions, [B, channels], for an auxiliary classifier."""
        x = self.bn1(self.conv1(frames)).relu_()
        x = self.bn2(self.conv2(x))
        # The kernel is as large as the map, so this is the convolution, without its slow paths for large kernels.
        seen = (x * self.global_convolution.weight.squeeze(1)).sum(dim=(2, 3), keepdim=True)
        weights = 2 * self.expand(self.squeeze(seen).relu()).sigmoid()
        by_clip = weights.unflatten(0, (-1, num_segments))
        weights = (by_clip * by_clip.mean(dim=1, keepdim=True) + 1e-5).sqrt().flatten(0, 1)
        maps = (x * weights + self.downsample(frames)).relu_()
        return maps, seen.flatten(1).unflatten(0, (-1, num_segments)).mean(dim=1)


class GCA(nn.Module):
    """float[B, T, 3, 112, 112], pixels in [0, 1] -> logits float[B, K]; in training (logits, auxiliary logits).

    Li, Niu, Zhu and Zhao, "Intensity-Aware Loss for Dynamic Facial Expression Recognition in the Wild", AAAI 2023; the
    loss itself is `dfer.losses.ial`. What the paper leaves open is as in the authors' code:

    - a stem of two convolutions and a basic block; two GCA blocks (`GCABlock`) to 7 x 7;
    - dynamic-static fusion: differences of neighbouring frames' maps through three basic blocks, plus the earlier
      frame's map, halved, through two transformer blocks over its 16 places, with learned positions;
    - the T - 1 sums, flattened, with learned positions, through two transformer blocks; their mean is classified.

    Their code's parameters that nothing reads are not here. The paper has no dropout: give `dropout` 0 to train as it
    did. Positions start from N(0, 1); the last of the T in time is never used, but published weights have it. Width
    scales all channels; transformers keep four heads.

    Attributes:
        auxiliary_weights: of the losses of the auxiliary logits, which are linear in the global convolutions of the two
            GCA blocks. The authors' code gives the second one no weight.

    Raises ValueError for fewer than two frames, clips of another number of frames, or frames that are not 112 x 112.
    """

    auxiliary_weights: tuple[float, ...] = (0.05, 0.0)

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__()
        if num_segments < 2:
            raise ValueError(
                f"gca looks at differences between frames and needs two or more, found {num_segments}: set "
                "sampling.num_segments to 2 or more, or to 0 for its own 16"
            )
        self.num_segments = num_segments
        stem = stem_channels(width)
        channels, features, head_dim = 4 * stem, 4 * stem * SIDES[2] ** 2, max(1, stem // 2)
        self.stem = nn.Sequential(
            conv3x3(3, stem, stride=2),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            conv3x3(stem, stem),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.layer1 = BasicBlock(stem, stem)
        self.layer2 = GCABlock(stem, 2 * stem, SIDES[0])
        self.layer3 = GCABlock(2 * stem, channels, SIDES[1])
        self.layer4 = nn.Sequential(
            BasicBlock(channels, channels, stride=2, downsample=_halved(channels, channels)),
            BasicBlock(channels, channels),
            BasicBlock(channels, channels),
        )
        self.places = nn.Sequential(
            conv3x3(channels, channels, stride=2), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.static_positions = nn.Parameter(torch.randn(1, SIDES[2] ** 2, channels))
        self.static = nn.Sequential(*(TransformerBlock(channels, HEADS, head_dim, channels) for _ in range(2)))
        self.temporal_positions = nn.Parameter(torch.randn(1, num_segments, features))
        self.temporal = nn.Sequential(*(TransformerBlock(features, HEADS, head_dim, 8 * stem) for _ in range(2)))
        self.auxiliary2 = _auxiliary(2 * stem, num_classes)
        self.auxiliary3 = _auxiliary(channels, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Logits of the mean over time, in float32; in training mode with the auxiliary logits [B, K] of `layer2` and
        `layer3`."""
        check_clips(clips, self.num_segments)
        check_side(clips, SIDE)
        x = self.layer1(self.stem(clips.flatten(0, 1)))
        x, seen2 = self.layer2(x, self.num_segments)
        x, seen3 = self.layer3(x, self.num_segments)
        maps = x.unflatten(0, (-1, self.num_segments))
        states = self.temporal(self._fused(maps).flatten(2) + self.temporal_positions[:, :-1])
        with without_autocast(clips.device):
            dtype = self.fc.weight.dtype
            logits: Tensor = self.fc(self.dropout(states.mean(dim=1).to(dtype)))
            if not self.training:
                return logits
            return logits, (self.auxiliary2(seen2.to(dtype)), self.auxiliary3(seen3.to(dtype)))

    def _fused(self, maps: Tensor) -> Tensor:
        """Dynamic-static fusion, [B, T, C, 7, 7] -> [B, T - 1, C, 4, 4]."""
        moving = self.layer4((maps[:, 1:] - maps[:, :-1]).flatten(0, 1))
        # clone keeps the layout of the channels, which flattening a part of the frames does not
        staying = self.places(maps[:, :-1].clone().flatten(0, 1))
        tokens = self.static(staying.flatten(2).transpose(1, 2) + self.static_positions)
        fused: Tensor = tokens.transpose(1, 2).unflatten(2, (SIDES[2], SIDES[2])) + moving
        return fused.unflatten(0, (-1, self.num_segments - 1))


def _halved(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(conv1x1(channels_in, channels, stride=2), nn.BatchNorm2d(channels))


def _auxiliary(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, 2 * channels, bias=False), nn.Linear(2 * channels, num_classes, bias=False)
    )
