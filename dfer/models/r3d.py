"""ResNet-18 with 3D convolutions (R3D, Tran et al. 2018), the 3D Resnet18 of Table 1."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast
from dfer.models.resnet import initialize_convolutions, stem_channels


class R3D18Trunk(nn.Module):
    """Clips -> features: torchvision's `r3d_18` up to its classifier, with the same parameter names.

    At width 1 the shapes are torchvision's too. Time is halved by each of the last three stages.

    Attributes:
        num_features: D, 512 at width 1.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        stem = stem_channels(width)
        self.num_features = 8 * stem
        self.stem = nn.Sequential(
            nn.Conv3d(3, stem, kernel_size=(3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _stage(stem, stem, stride=1)
        self.layer2 = _stage(stem, 2 * stem, stride=2)
        self.layer3 = _stage(2 * stem, 4 * stem, stride=2)
        self.layer4 = _stage(4 * stem, 8 * stem, stride=2)
        self.avgpool = nn.AdaptiveAvgPool3d(1)

    def clip_features(self, clips: Tensor) -> Tensor:
        """float[N, T, 3, H, W] -> float[N, D], the mean over space and time."""
        x = self.stem(clips.transpose(1, 2))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)


class R3D18(R3D18Trunk):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K].

    torchvision's `r3d_18` with a dropout in front of the classifier: the parameters have its names and (at width 1) its
    shapes, so that its weight files fit. 8 frames or more are of use.
    """

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__(width)
        self.num_segments = num_segments
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.num_features, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the features' mean over space and time, in float32."""
        check_clips(clips, self.num_segments)
        features = self.dropout(self.clip_features(clips))
        with without_autocast(clips.device):
            logits: Tensor = self.fc(features.to(self.fc.weight.dtype))
        return logits


def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1:
        downsample = nn.Sequential(
            nn.Conv3d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm3d(channels_out),
        )
    return nn.Sequential(
        BasicBlock(channels_in, channels_out, Conv3DSimple, stride, downsample),
        BasicBlock(channels_out, channels_out, Conv3DSimple),
    )
