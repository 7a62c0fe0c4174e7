"""ResNet-18 with 3D convolutions as Hara et al. (2018) built it, the 3D ResNet-18 of most papers on these data sets."""

from __future__ import annotations

from torch import Tensor, nn

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast
from dfer.models.resnet import initialize_convolutions, stem_channels


class BasicBlock3D(nn.Module):
    """float[N, C, T, H, W] -> float[N, C', T/s, H/s, W/s]: two 3x3x3 convolutions beside a shortcut, for stride s.

    Where the stride is 2 the shortcut is a 1x1x1 convolution with BatchNorm (the paper's type B).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv3d(channels_out, channels_out, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(channels_out)
        self.downsample: nn.Module | None = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm3d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        activated: Tensor = self.relu(out + identity)
        return activated


class ResNet3D18(nn.Module):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K].

    Hara, Kataoka and Satoh, CVPR 2018, ResNet-18 with shortcuts of type B. Unlike torchvision's `r3d_18` the first
    convolution is 7x7x7 and a max-pooling follows, which also halves the time, so that the stages see an eighth as
    much: about a fifth of the operations for as many parameters. Time is halved four times, so that 16 frames or more
    are of use. Names of the parameters and (at width 1) their shapes are those of the authors' weight files.
    """

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__()
        self.num_segments = num_segments
        stem = stem_channels(width)
        self.conv1 = nn.Conv3d(3, stem, kernel_size=7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(stem, stem, stride=1)
        self.layer2 = _stage(stem, 2 * stem, stride=2)
        self.layer3 = _stage(2 * stem, 4 * stem, stride=2)
        self.layer4 = _stage(4 * stem, 8 * stem, stride=2)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8 * stem, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the features' mean over space and time, in float32."""
        check_clips(clips, self.num_segments)
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips.transpose(1, 2)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        features = self.dropout(self.avgpool(x).flatten(1))
        with without_autocast(clips.device):
            logits: Tensor = self.fc(features.to(self.fc.weight.dtype))
        return logits


def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock3D(channels_in, channels_out, stride), BasicBlock3D(channels_out, channels_out, stride=1)
    )
