"""Normalising, mixing and the temporal shift as in published code, with a new tensor at each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
from dfer.models.resnet import ResNet18Trunk


def normalized(frames: Tensor) -> Tensor:
    """Frames uint8[..., 3, H, W] -> float32, (x / 255 - mean) / std, a new tensor at each step."""
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return (frames.float() / 255 - mean) / std


def mixed(clips: Tensor, weight: Tensor, partner: Tensor) -> Tensor:
    """lambda * x + (1 - lambda) * x[partner] of float clips [B, T, C, H, W]; weight float[B], partner int64[B]."""
    weight = weight.view(-1, 1, 1, 1, 1).to(clips.dtype)
    return weight * clips + (1 - weight) * clips[partner]


def published_shift(x: Tensor, num_segments: int, fold_div: int = 8) -> Tensor:
    """The temporal shift of TSM (Lin et al. 2019) on [B * T, C, H, W] as zeros and three assignments."""
    clips = x.view(-1, num_segments, *x.shape[1:])
    fold = x.shape[1] // fold_div
    out = torch.zeros_like(clips)
    out[:, :-1, :fold] = clips[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
    return out.view_as(x)


class _PublishedBlock(BasicBlock):
    num_segments = 8

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(published_shift(x, self.num_segments))))
        return self.relu(self.bn2(self.conv2(out)) + identity)


class PublishedTSM(ResNet18Trunk):
    """The same network as `resnet18_tsm` with eight segments and the published shift; the same parameter names."""

    def __init__(self, num_classes: int, dropout: float) -> None:
        super().__init__(1.0, _PublishedBlock)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        features = self.frame_features(clips.flatten(0, 1))
        logits: Tensor = self.fc(self.dropout(features))
        return logits.unflatten(0, (-1, _PublishedBlock.num_segments)).mean(dim=1)
