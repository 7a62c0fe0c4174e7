"""ResNet-18 (He et al. 2016), which looks at one frame at a time, and its trunk."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast


def stem_channels(width: float) -> int:
    """Channels of the first convolution: torchvision's 64 times `width`, at least 8, or TSM could shift none."""
    return max(8, round(64 * width))


class ResNet18Trunk(nn.Module):
    """Frames -> features: torchvision's `resnet18` up to its classifier, with the same parameter names.

    A network for clips derives from it and adds layers, so that the trunk's parameters keep the names of weight files.
    At width 1 the shapes are torchvision's too.

    Attributes:
        num_features: D, 512 at width 1.
    """

    def __init__(self, width: float, block: type[BasicBlock]) -> None:
        super().__init__()
        stem = stem_channels(width)
        self.num_features = 8 * stem
        self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(block, stem, stem, stride=1)
        self.layer2 = _stage(block, stem, 2 * stem, stride=2)
        self.layer3 = _stage(block, 2 * stem, 4 * stem, stride=2)
        self.layer4 = _stage(block, 4 * stem, 8 * stem, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def frame_features(self, frames: Tensor) -> Tensor:
        """float[N, 3, H, W] -> float[N, D]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(frames))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)


class ResNet18(ResNet18Trunk):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K]: for pictures, or as a network that sees no time.

    Names and (at width 1) shapes of the parameters are those of torchvision's `resnet18`, so that its weight files fit.
    """

    block: type[BasicBlock] = BasicBlock
    frame_by_frame = True

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__(width, self.block)
        self.num_segments = num_segments
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.num_features, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of each frame, averaged over the segments (TSN's average consensus), in float32."""
        check_clips(clips, self.num_segments)
        return self.clip_logits(self.frame_features(clips.flatten(0, 1)).unflatten(0, (-1, self.num_segments)))

    def clip_logits(self, features: Tensor) -> Tensor:
        """Of the features of a clip's frames, float[B, T, D]."""
        flat = self.dropout(features.flatten(0, 1))
        with without_autocast(flat.device):
            logits: Tensor = self.fc(flat.to(self.fc.weight.dtype))
            return logits.unflatten(0, features.shape[:2]).mean(dim=1)


def initialize_convolutions(network: nn.Module) -> None:
    """He et al.'s normal weights (fan-out) for every 2D and 3D convolution, as torchvision draws them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage(block: type[BasicBlock], channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1:
        downsample = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(channels_out),
        )
    return nn.Sequential(block(channels_in, channels_out, stride, downsample), block(channels_out, channels_out))
