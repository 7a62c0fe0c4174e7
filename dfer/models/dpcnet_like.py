"""A dual-path network in the manner of DPCNet (Wang et al. 2022), whose paper leaves much of it open."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast
from dfer.models.resnet import initialize_convolutions, stem_channels

VIEWS = 2


class DPCNetLike(nn.Module):
    """float[B, T, C, H, W] with C = 3 and T even -> logits float[B, K], in training mode (logits, auxiliary).

    A reconstruction after Wang et al., DPCNet: Dual Path Multi-Excitation Collaborative Network, ACM MM 2022. Known:
    ResNet-50 on four frames in two views; a spatial-frame excitation and then a channel-temporal aggregation, each the
    source of one path; losses that draw the views and the two paths towards each other. Chosen here:

    - the views are every second frame, from the first and from the second on;
    - excitation: the last map times a weight of each place (a 1x1 convolution) and one of each frame (a linear layer
      over its view's means), both through a sigmoid; its mean over places is the first path;
    - aggregation: the first path's features times a weight of each channel (squeeze-and-excitation, a sixteenth),
      then a convolution over three neighbouring frames; this is the second path;
    - one classifier sees the mean of each view in each path; the logits are the mean of the four.

    In training the four are the auxiliary logits, ordered by path, then view: learning the same targets keeps views and
    paths together, in place of the paper's two losses. Names and (at width 1) shapes of the trunk's parameters are
    those of torchvision's `resnet50`, so that its weight files fit.
    """

    auxiliary_weights: ClassVar[tuple[float, ...]] = (0.25, 0.25, 0.25, 0.25)

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        """ValueError if `num_segments` is odd."""
        super().__init__()
        if num_segments % VIEWS:
            raise ValueError(
                f"dpcnet_like shares a clip's frames between {VIEWS} views, found {num_segments}: set "
                "sampling.num_segments to an even number, or to 0 for its own 4"
            )
        self.num_segments = num_segments
        stem = stem_channels(width)
        features = 8 * stem * Bottleneck.expansion
        self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(stem, stem, blocks=3, stride=1)
        self.layer2 = _stage(4 * stem, 2 * stem, blocks=4, stride=2)
        self.layer3 = _stage(8 * stem, 4 * stem, blocks=6, stride=2)
        self.layer4 = _stage(16 * stem, 8 * stem, blocks=3, stride=2)
        self.places = nn.Conv2d(features, 1, kernel_size=1)
        self.frames = nn.Linear(num_segments // VIEWS, num_segments // VIEWS)
        self.channels = nn.Sequential(
            nn.Linear(features, features // 16), nn.ReLU(inplace=True), nn.Linear(features // 16, features)
        )
        self.temporal = nn.Conv1d(features, features, kernel_size=3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Logits of the four, averaged, and in training mode each; in float32."""
        check_clips(clips, self.num_segments)
        excited = self._excitation(clips)
        paths = torch.stack((excited, self._aggregation(excited))).to(self.fc.weight.dtype)
        views = torch.stack(
            [paths[:, :, view::VIEWS].mean(dim=2) for view in range(VIEWS)], dim=1
        )  # [path, view, B, D]
        with without_autocast(clips.device):
            logits = self.fc(self.dropout(views)).flatten(0, 1)
        mean: Tensor = logits.mean(dim=0)
        return (mean, tuple(logits)) if self.training else mean

    def _excitation(self, clips: Tensor) -> Tensor:
        """Spatial-frame excitation, [B, T, 3, H, W] -> the first path's features [B, T, D]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips.flatten(0, 1)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = x * self.places(x).sigmoid()
        features = x.mean(dim=(2, 3)).unflatten(0, (-1, self.num_segments))
        by_view = features.mean(dim=2).unflatten(1, (-1, VIEWS)).transpose(1, 2)
        gates = self.frames(by_view).sigmoid().transpose(1, 2).flatten(1)
        return features * gates[:, :, None]

    def _aggregation(self, features: Tensor) -> Tensor:
        """Channel-temporal aggregation, [B, T, D] -> the second path's features [B, T, D]."""
        gates = self.channels(features.mean(dim=1)).sigmoid()
        aggregated: Tensor = self.relu(self.temporal((features * gates[:, None]).transpose(1, 2)).transpose(1, 2))
        return aggregated


def _stage(channels_in: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    channels_out = planes * Bottleneck.expansion
    downsample = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
    )
    return nn.Sequential(
        Bottleneck(channels_in, planes, stride, downsample),
        *(Bottleneck(channels_out, planes) for _ in range(blocks - 1)),
    )
